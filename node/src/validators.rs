//! Changes of the validator set: proposed by one node, signed by the present validators one after the
//! other or side by side, and submitted when more than two thirds of their power have signed.
//!
//! A change travels as a small JSON document ([`SignedChange`]). Who signs one sees what it changes: the
//! present set is in the document and must have the hash that the transaction names, so a document
//! cannot show another present set than the one that is replaced.

use std::collections::BTreeMap;

use samara_protocol::chain::{
    Action, Transaction, TransactionBody, Validator, ValidatorSet, ValidatorSetError,
};
use samara_protocol::encoding;
use samara_protocol::hash::BlockHash;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::Amount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// [`Validator`], as the API's document describes it.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "read by the document only")]
pub(crate) struct ValidatorText {
    /// Key that signs its votes, hex.
    key: String,
    /// Weight of its vote, at least 1.
    power: u64,
}

/// A change as it travels between operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedChange {
    /// The set that is replaced.
    #[schemars(with = "Vec<ValidatorText>")]
    pub present: Vec<Validator>,
    /// The set that replaces it.
    #[schemars(with = "Vec<ValidatorText>")]
    pub next: Vec<Validator>,
    /// The encoded transaction with the signatures so far, hex.
    pub transaction: String,
}

/// Why a change cannot be made, read or signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It is no document of a change.
    #[error("this is no change of validators: {0}")]
    Unreadable(String),
    /// The new list is no set.
    #[error("the new list of validators is no set: {0}")]
    Set(#[from] ValidatorSetError),
    /// A validator to be changed or removed that is none.
    #[error("{0} is no validator")]
    Unknown(PublicKey),
    /// A validator to be added that is one already.
    #[error("{0} is a validator already")]
    Known(PublicKey),
    /// Nothing would change.
    #[error("the set would stay as it is")]
    Same,
    /// The document shows another set than the transaction replaces or makes.
    #[error("the document does not show what its transaction changes; do not sign it")]
    Contradiction,
    /// A signature does not verify, or is nobody's who may sign.
    #[error("the signature of {0} is false or of no use")]
    Signature(PublicKey),
    /// The key that is to sign is no validator's.
    #[error("{0} is no present validator, so its signature is of no use")]
    NotPresent(PublicKey),
    /// Two documents that are to be joined change different things.
    #[error("the documents hold different changes")]
    Different,
    /// Another chain's.
    #[error("the change is for the chain with genesis {0}")]
    OtherChain(BlockHash),
}

/// One wish of whoever proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A new validator.
    Add(Validator),
    /// One that goes.
    Remove(PublicKey),
    /// Another weight for one that stays.
    Weigh(Validator),
}

/// The set that wishes make of the present one.
///
/// # Errors
/// [`ChangeError`] for a wish that does not fit, or a result that is no set.
pub fn wished(present: &ValidatorSet, wishes: &[Wish]) -> Result<ValidatorSet, ChangeError> {
    let all = present.as_slice().iter().map(|validator| (validator.key, validator.power));
    let mut next: BTreeMap<PublicKey, u64> = all.collect();
    for wish in wishes {
        match *wish {
            Wish::Add(Validator { key, power }) => {
                if next.insert(key, power).is_some() {
                    return Err(ChangeError::Known(key));
                }
            }
            Wish::Remove(key) => {
                next.remove(&key).ok_or(ChangeError::Unknown(key))?;
            }
            Wish::Weigh(Validator { key, power }) => {
                next.insert(key, power).ok_or(ChangeError::Unknown(key))?;
            }
        }
    }
    let next = next.into_iter().map(|(key, power)| Validator { key, power }).collect();
    let next = ValidatorSet::new(next)?;
    if next == *present { Err(ChangeError::Same) } else { Ok(next) }
}

/// A change, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    present: ValidatorSet,
    next: ValidatorSet,
    transaction: Transaction,
}

impl SetChange {
    /// A change without signatures. `account` pays the fee and submits it.
    #[must_use]
    pub fn propose(
        genesis: BlockHash,
        (account, nonce): (PublicKey, u64),
        fee: Amount,
        present: ValidatorSet,
        next: ValidatorSet,
    ) -> Self {
        let current = present.hash();
        let action = Action::ChangeValidators { current, validators: next.clone().into() };
        // Signatures may take days to gather; account number and present set keep it from being used twice.
        let valid_until = TransactionBody::ALWAYS;
        let body = TransactionBody { genesis, account, nonce, fee, valid_until, action };
        Self { present, next, transaction: Transaction { body, signatures: Vec::new() } }
    }

    /// Reads a document and checks that it says what its transaction does, and that every signature
    /// verifies.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn read(document: &SignedChange) -> Result<Self, ChangeError> {
        let unreadable = |error: &dyn std::fmt::Display| ChangeError::Unreadable(error.to_string());
        let bytes = hex::decode(&document.transaction).map_err(|error| unreadable(&error))?;
        let transaction: Transaction = encoding::decode_limited(&bytes, Transaction::MAX_BYTES)
            .map_err(|error| unreadable(&error))?;
        let Action::ChangeValidators { current, validators } = &transaction.body.action else {
            return Err(unreadable(&"its transaction does something else"));
        };
        let present = ValidatorSet::new(document.present.clone())?;
        let next = ValidatorSet::new(validators.clone())?;
        if present.hash() != *current || next.as_slice() != document.next {
            return Err(ChangeError::Contradiction);
        }
        let change = Self { present, next, transaction };
        let id = change.transaction.id();
        for (signer, signature) in &change.transaction.signatures {
            let may = *signer == change.account() || change.present.find(signer).is_some();
            if !may || !signer.verify(id.as_bytes(), signature) {
                return Err(ChangeError::Signature(*signer));
            }
        }
        Ok(change)
    }

    /// The document of this change.
    #[must_use]
    pub fn document(&self) -> SignedChange {
        SignedChange {
            present: self.present.clone().into(),
            next: self.next.clone().into(),
            transaction: hex::encode(encoding::encode(&self.transaction)),
        }
    }

    /// Adds a present validator's signature; a second one of the same key changes nothing.
    ///
    /// # Errors
    /// [`ChangeError::NotPresent`].
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), ChangeError> {
        if self.present.find(&key.public()).is_none() {
            return Err(ChangeError::NotPresent(key.public()));
        }
        self.add(key);
        Ok(())
    }

    /// Adds the signature of the account that pays.
    ///
    /// # Errors
    /// [`ChangeError::Signature`] when the key is another account's.
    pub fn pay(&mut self, key: &SecretKey) -> Result<(), ChangeError> {
        if key.public() != self.account() {
            return Err(ChangeError::Signature(key.public()));
        }
        self.add(key);
        Ok(())
    }

    fn add(&mut self, key: &SecretKey) {
        let signatures = &mut self.transaction.signatures;
        if !signatures.iter().any(|(signer, _)| *signer == key.public()) {
            signatures.push(self.transaction.body.sign(key));
        }
    }

    /// Takes the signatures of a copy that others have signed.
    ///
    /// # Errors
    /// [`ChangeError::Different`].
    pub fn join(&mut self, other: &Self) -> Result<(), ChangeError> {
        if other.transaction.body != self.transaction.body {
            return Err(ChangeError::Different);
        }
        for (signer, signature) in &other.transaction.signatures {
            if !self.transaction.signatures.iter().any(|(known, _)| known == signer) {
                self.transaction.signatures.push((*signer, *signature));
            }
        }
        Ok(())
    }

    /// The account that pays.
    #[must_use]
    pub const fn account(&self) -> PublicKey {
        self.transaction.body.account
    }

    /// The chain that it is for.
    #[must_use]
    pub const fn genesis(&self) -> BlockHash {
        self.transaction.body.genesis
    }

    /// The set that is replaced.
    #[must_use]
    pub const fn present(&self) -> &ValidatorSet {
        &self.present
    }

    /// The set that replaces it.
    #[must_use]
    pub const fn next(&self) -> &ValidatorSet {
        &self.next
    }

    /// The transaction with its signatures.
    #[must_use]
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Whether a validator has signed.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.transaction.signatures.iter().any(|(signer, _)| signer == key)
    }

    /// Power of the present validators that have signed.
    #[must_use]
    pub fn signed_power(&self) -> u64 {
        let signed = self.present.as_slice().iter().filter(|v| self.is_signed_by(&v.key));
        signed.map(|validator| validator.power).sum()
    }

    /// Whether more than two thirds of the present power have signed.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.present.is_quorum(self.signed_power())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_bytes(&zeroize::Zeroizing::new([number; 32]))
    }

    fn validator(number: u8, power: u64) -> Validator {
        Validator { key: key(number).public(), power }
    }

    fn set(numbers: &[u8]) -> ValidatorSet {
        ValidatorSet::new(numbers.iter().map(|n| validator(*n, 1)).collect()).unwrap()
    }

    fn change() -> SetChange {
        let present = set(&[1, 2, 3, 4]);
        let wishes = [Wish::Add(validator(5, 2)), Wish::Remove(key(1).public())];
        let next = wished(&present, &wishes).unwrap();
        let account = (key(9).public(), 7);
        SetChange::propose(BlockHash([3; 32]), account, Amount(1), present, next)
    }

    #[test]
    fn wishes_make_a_set_or_say_why_not() {
        let present = set(&[1, 2]);
        let made = wished(
            &present,
            &[
                Wish::Add(validator(3, 5)),
                Wish::Weigh(validator(1, 9)),
                Wish::Remove(key(2).public()),
            ],
        );
        assert_eq!(
            made.unwrap(),
            ValidatorSet::new(vec![validator(1, 9), validator(3, 5)]).unwrap()
        );
        let refused = |wishes: &[Wish]| wished(&present, wishes).unwrap_err();
        assert_eq!(refused(&[]), ChangeError::Same);
        assert_eq!(refused(&[Wish::Weigh(validator(1, 1))]), ChangeError::Same);
        assert_eq!(refused(&[Wish::Add(validator(1, 1))]), ChangeError::Known(key(1).public()));
        assert_eq!(
            refused(&[Wish::Remove(key(3).public())]),
            ChangeError::Unknown(key(3).public())
        );
        assert_eq!(refused(&[Wish::Weigh(validator(3, 1))]), ChangeError::Unknown(key(3).public()));
        let none = [1, 2].map(|n| Wish::Remove(key(n).public()));
        assert_eq!(refused(&none), ChangeError::Set(ValidatorSetError::Empty));
    }

    #[test]
    fn signatures_gather_one_after_the_other_and_side_by_side() {
        let proposed = change();
        assert!(!proposed.is_approved());
        let mut first = SetChange::read(&proposed.document()).unwrap();
        first.sign(&key(1)).unwrap();
        first.sign(&key(1)).unwrap();
        let mut first = SetChange::read(&first.document()).unwrap();
        first.sign(&key(2)).unwrap();
        assert_eq!((first.signed_power(), first.is_approved()), (2, false));
        let mut second = proposed;
        second.sign(&key(3)).unwrap();
        first.join(&second).unwrap();
        assert_eq!((first.signed_power(), first.is_approved()), (3, true));
        first.pay(&key(9)).unwrap();
        let read = SetChange::read(&first.document()).unwrap();
        assert_eq!(read, first);
        assert_eq!(read.transaction().signatures.len(), 4);
        assert_eq!(read.signed_power(), 3);
    }

    #[test]
    fn what_a_document_hides_is_found() {
        let mut signed = change();
        signed.sign(&key(1)).unwrap();
        let document = signed.document();
        let mut other = document.clone();
        other.present[0].power = 9;
        assert_eq!(SetChange::read(&other), Err(ChangeError::Contradiction));
        let mut other = document.clone();
        other.next.pop();
        assert_eq!(SetChange::read(&other), Err(ChangeError::Contradiction));
        let mut other = document.clone();
        other.transaction.truncate(40);
        assert!(matches!(SetChange::read(&other), Err(ChangeError::Unreadable(_))));

        let mut false_one = signed.clone();
        false_one.transaction.signatures[0].0 = key(2).public();
        let expected = Err(ChangeError::Signature(key(2).public()));
        assert_eq!(SetChange::read(&false_one.document()), expected);
        assert_eq!(signed.sign(&key(8)), Err(ChangeError::NotPresent(key(8).public())));
        assert_eq!(signed.pay(&key(8)), Err(ChangeError::Signature(key(8).public())));

        let mut moved = change();
        moved.transaction.body.nonce += 1;
        assert_eq!(signed.join(&moved), Err(ChangeError::Different));
    }
}
