//! Transactions: the only way to change the ledger.
//!
//! A body names the account that pays the fee and orders it by a nonce; its hash is the transaction's
//! id and what all signers sign, so signatures never change an id. Which keys must sign follows from
//! the action, see [`Action`].
//!
//! A body also names the last moment at which a block may include it ([`TransactionBody::valid_until`]).
//! What two sides have signed could otherwise be handed in at any later time by either: a renewal
//! would start its successor from data that both have moved on from, a formation would lock money that
//! the renter has planned for something else. Who sees a block of that time or later without the
//! transaction knows that it is dead.

use serde::{Deserialize, Serialize};

use super::validators::Validator;
use crate::contract::announcement::HostAnnouncement;
use crate::contract::{ContractId, ContractTerms, SignedRevision, SignedVoucher};
use crate::hash::{BlockHash, TransactionId, digest};
use crate::sector::StorageProof;
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::{Amount, ChainTime};

/// What a transaction does. Besides the paying account:
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Moves money to another account.
    Transfer {
        /// The receiver.
        to: PublicKey,
        /// How much.
        amount: Amount,
    },
    /// Publishes or replaces a host's announcement. Signed by the host.
    AnnounceHost(HostAnnouncement),
    /// Locks the renter's funds and the host's collateral. Signed by contract key and host.
    FormContract(Box<ContractTerms>),
    /// Puts a newer revision or voucher of a contract on the chain. They carry their own signatures.
    UpdateContract {
        /// The contract.
        contract: ContractId,
        /// A revision with a higher number than the chain's.
        revision: Option<SignedRevision>,
        /// A voucher with a higher total than the chain's.
        voucher: Option<SignedVoucher>,
    },
    /// Closes `old` and forms its successor with the same data in one step. Signed by the new contract
    /// key, the old contract key and the host.
    RenewContract {
        /// The contract that ends.
        old: ContractId,
        /// The old contract's last revision; its data goes over to the successor.
        last: SignedRevision,
        /// The old contract's last voucher, paid out before the rest moves.
        voucher: Option<SignedVoucher>,
        /// Pay for the part of the current period that has passed, agreed by both.
        settlement: Amount,
        /// The successor. Its funds and collateral are taken from what the old contract leaves first,
        /// then from the accounts; what is left over is paid back.
        terms: Box<ContractTerms>,
    },
    /// Proves that the data of a period's frozen revision is held. Sent by the host.
    ProveStorage {
        /// The contract.
        contract: ContractId,
        /// Which period, from 0.
        period: u32,
        /// A newer voucher to redeem, if any.
        voucher: Option<SignedVoucher>,
        /// Chunks and paths for the period's challenge.
        proof: StorageProof,
    },
    /// Ends a contract by agreement. Signed by contract key and host.
    CloseContract {
        /// The contract.
        contract: ContractId,
        /// The last voucher to pay out, if it is newer than the chain's.
        voucher: Option<SignedVoucher>,
        /// Pay to the host for storage so far, from the contract's funds, agreed by both.
        settlement: Amount,
    },
    /// Replaces the validator set from the next block on. Signed by more than two thirds of the
    /// present set's power.
    ChangeValidators {
        /// The present set's hash, so that an approval cannot be used twice.
        current: crate::hash::Digest,
        /// The new set.
        validators: Vec<Validator>,
    },
}

/// A transaction without its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionBody {
    /// The chain it is for.
    pub genesis: BlockHash,
    /// Account that pays the fee and whose nonce it uses.
    pub account: PublicKey,
    /// Number of transactions that this account has sent before.
    pub nonce: u64,
    /// Burned when the transaction is included.
    pub fee: Amount,
    /// Time of the last block that may include it.
    pub valid_until: ChainTime,
    /// What it does.
    pub action: Action,
}

impl TransactionBody {
    /// For what one account signs alone and may happen at any time: its nonce keeps the order, and it
    /// can be replaced by another transaction of that nonce.
    pub const ALWAYS: ChainTime = ChainTime(u64::MAX);

    /// Whether no block can include it any more, once the chain's tip has the time `tip`: block times
    /// only grow.
    #[must_use]
    pub fn is_dead(&self, tip: ChainTime) -> bool {
        tip >= self.valid_until
    }

    /// The transaction's id, and what its signers sign.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        TransactionId(digest("samara v1 transaction", self).0)
    }

    /// Signs the body with one key.
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> (PublicKey, Signature) {
        (key.public(), key.sign(self.id().as_bytes()))
    }
}

/// A transaction as it travels and is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// What was signed.
    pub body: TransactionBody,
    /// Signatures of the body's id, one for each signer.
    pub signatures: Vec<(PublicKey, Signature)>,
}

impl Transaction {
    /// Most bytes of an encoded transaction; a storage proof of 16 samples fits well.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// A body signed by all these keys.
    #[must_use]
    pub fn signed(body: TransactionBody, keys: &[&SecretKey]) -> Self {
        let signatures = keys.iter().map(|key| body.sign(key)).collect();
        Self { body, signatures }
    }

    /// The body's id.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        self.body.id()
    }

    /// Whether `key` signed the body, and did so truly.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let id = self.id();
        self.signatures
            .iter()
            .any(|(signer, signature)| signer == key && key.verify(id.as_bytes(), signature))
    }
}
