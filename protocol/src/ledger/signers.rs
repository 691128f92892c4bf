//! Who must sign a transaction, and whether they have: one rule for the ledger and for a host that is
//! asked to sign as well.

use std::collections::BTreeSet;

use super::error::TransactionError;
use crate::chain::{Action, Transaction, TransactionBody, ValidatorSet};
use crate::contract::ContractId;
use crate::signature::PublicKey;

/// Keys that must sign a body. `host_of` tells with which host a contract is that is to be closed: the
/// only thing that the body does not say itself.
pub(crate) fn required_signers<E>(
    body: &TransactionBody,
    host_of: impl FnOnce(&ContractId) -> Result<PublicKey, E>,
) -> Result<BTreeSet<PublicKey>, E> {
    let mut required = BTreeSet::from([body.account]);
    match &body.action {
        Action::FormContract(terms) => required.extend([terms.contract, terms.host]),
        Action::RenewContract { old, terms, .. } => {
            required.extend([*old, terms.contract, terms.host]);
        }
        Action::CloseContract { contract, .. } => required.extend([*contract, host_of(contract)?]),
        Action::ChangeValidators { .. }
        | Action::Transfer { .. }
        | Action::AnnounceHost(_)
        | Action::UpdateContract { .. }
        | Action::ProveStorage { .. } => {}
    }
    Ok(required)
}

/// Each required signer has signed once, and nobody else has. Validators that approve a change of their
/// set may be any part of it; whether they are enough is checked here as well.
pub(crate) fn check_signatures(
    transaction: &Transaction,
    required: &BTreeSet<PublicKey>,
    validators: Option<&ValidatorSet>,
) -> Result<(), TransactionError> {
    let mut signers = BTreeSet::new();
    let mut power = 0u64;
    for (signer, _) in &transaction.signatures {
        let validator = validators.and_then(|set| set.find(signer));
        let wanted = required.contains(signer) || validator.is_some();
        if !wanted || !signers.insert(*signer) {
            return Err(TransactionError::UnwantedSignature(*signer));
        }
        // The powers of a set sum to at most 2^32 - 1.
        power = power.saturating_add(validator.map_or(0, |validator| validator.power));
    }
    if let Some(missing) = required.difference(&signers).next() {
        return Err(TransactionError::MissingSignature(*missing));
    }
    if let Some(set) = validators.filter(|set| !set.is_quorum(power)) {
        return Err(TransactionError::NoQuorum { power, total: set.total_power() });
    }
    let id = transaction.body.id();
    for (signer, signature) in &transaction.signatures {
        if !signer.verify(id.as_bytes(), signature) {
            return Err(TransactionError::FalseSignature(*signer));
        }
    }
    Ok(())
}
