//! Why a transaction or a block is refused.

use super::reader::StateError;
use crate::chain::ValidatorSetError;
use crate::contract::announcement::AnnouncementError;
use crate::contract::{ContractId, TermsError};
use crate::hash::{BlockHash, Digest, TransactionId};
use crate::sector::ProofError as StorageProofError;
use crate::signature::PublicKey;
use crate::units::{Amount, ChainTime, Height};

/// Why a transaction cannot be in the next block. The transaction's id is named by the caller.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// It is for another chain.
    #[error("the transaction is for chain {0}")]
    WrongChain(BlockHash),
    /// Its encoding is longer than [`crate::chain::Transaction::MAX_BYTES`].
    #[error("the transaction has {0} bytes")]
    TooLarge(usize),
    /// Its time is over.
    #[error("the transaction was valid until chain time {until:?}, the block has {now:?}")]
    Expired {
        /// Time of the last block that might have included it.
        until: ChainTime,
        /// The block's time.
        now: ChainTime,
    },
    /// It pays too little.
    #[error("the fee of {fee} is below the least of {minimum}")]
    FeeTooLow {
        /// What it pays.
        fee: Amount,
        /// What the chain asks for.
        minimum: Amount,
    },
    /// It is not the account's next transaction.
    #[error("the next nonce of account {account} is {expected}, not {given}")]
    Nonce {
        /// The account.
        account: PublicKey,
        /// The account's next.
        expected: u64,
        /// The transaction's.
        given: u64,
    },
    /// The account has sent 2^64 - 1 transactions.
    #[error("account {0} cannot send any more transactions")]
    NonceExhausted(PublicKey),
    /// A signature is missing.
    #[error("{0} has not signed")]
    MissingSignature(PublicKey),
    /// A signature is there that none of the rules asks for, or is there twice.
    #[error("the signature of {0} does not belong here")]
    UnwantedSignature(PublicKey),
    /// A signature is false.
    #[error("the signature of {0} is false")]
    FalseSignature(PublicKey),
    /// An account has too little money.
    #[error("account {account} has {balance}, and {needed} is needed")]
    Balance {
        /// The account.
        account: PublicKey,
        /// What it has.
        balance: Amount,
        /// What it should pay.
        needed: Amount,
    },
    /// A contract's terms break a rule.
    #[error("contract {contract} has bad terms")]
    Terms {
        /// The contract.
        contract: ContractId,
        /// The rule.
        source: TermsError,
    },
    /// The contract exists already.
    #[error("contract {0} exists already")]
    ContractExists(ContractId),
    /// The contract's key was a contract before, or has sent transactions.
    #[error("the key {0} was used before and cannot be a contract's id")]
    ContractIdUsed(ContractId),
    /// There is no such contract (any more).
    #[error("there is no contract {0}")]
    UnknownContract(ContractId),
    /// An update without a revision and without a voucher.
    #[error("the update of contract {0} holds nothing")]
    EmptyUpdate(ContractId),
    /// The period is being proven with the revision that the chain knew when it ended.
    #[error("the revision of contract {contract} is frozen until period {period} is settled")]
    RevisionFrozen {
        /// The contract.
        contract: ContractId,
        /// The period.
        period: u32,
    },
    /// The revision is not above the chain's.
    #[error("revision {given} of contract {contract} is not above {latest}")]
    RevisionNotNewer {
        /// The contract.
        contract: ContractId,
        /// The chain's number.
        latest: u64,
        /// The number given.
        given: u64,
    },
    /// The revision is of another contract or not signed by both sides.
    #[error("the revision of contract {0} is false")]
    FalseRevision(ContractId),
    /// The voucher pays nothing that was not paid already.
    #[error("the voucher over {given} of contract {contract} is not above {redeemed}")]
    VoucherNotHigher {
        /// The contract.
        contract: ContractId,
        /// Paid out already.
        redeemed: Amount,
        /// The voucher's total.
        given: Amount,
    },
    /// The voucher is of another contract or not signed by its key.
    #[error("the voucher of contract {0} is false")]
    FalseVoucher(ContractId),
    /// Only the contract's host may send this.
    #[error("account {account} is not the host of contract {contract}")]
    NotTheHost {
        /// The contract.
        contract: ContractId,
        /// The sender.
        account: PublicKey,
    },
    /// The period is not the one being proven.
    #[error("contract {contract} does not wait for a proof of period {given}")]
    WrongPeriod {
        /// The contract.
        contract: ContractId,
        /// The period given.
        given: u32,
    },
    /// The period's challenge is not known yet; a few blocks later it is.
    #[error("the challenge of period {period} of contract {contract} is not fixed yet")]
    ChallengePending {
        /// The contract.
        contract: ContractId,
        /// The period.
        period: u32,
    },
    /// The storage proof does not hold.
    #[error("the storage proof of period {period} of contract {contract} is false")]
    FalseProof {
        /// The contract.
        contract: ContractId,
        /// The period.
        period: u32,
        /// What is wrong with it.
        source: StorageProofError,
    },
    /// The contract's funds do not cover the settlement that was agreed.
    #[error("contract {contract} has {funds} left and cannot settle {settlement}")]
    Settlement {
        /// The contract.
        contract: ContractId,
        /// What is left after the voucher.
        funds: Amount,
        /// What was agreed.
        settlement: Amount,
    },
    /// A renewal with another host.
    #[error("contract {old} cannot be renewed with another host")]
    OtherHost {
        /// The contract that would end.
        old: ContractId,
    },
    /// A host's announcement breaks a bound.
    #[error("the announcement of host {host} breaks a bound")]
    Announcement {
        /// The host.
        host: PublicKey,
        /// The bound.
        source: AnnouncementError,
    },
    /// The change was approved for another validator set.
    #[error("the change is for validator set {given}, the present one is {present}")]
    StaleValidators {
        /// The present set.
        present: Digest,
        /// The one that was approved to be replaced.
        given: Digest,
    },
    /// The new validators are no set.
    #[error("the new validator set is no set")]
    Validators(#[source] ValidatorSetError),
    /// Two thirds of the present power are not reached.
    #[error("power {power} of {total} is no quorum for a change of validators")]
    NoQuorum {
        /// Power that signed.
        power: u64,
        /// Power of the whole set.
        total: u64,
    },
    /// The state could not be read: says nothing about the transaction.
    #[error("the state failed")]
    State(#[from] StateError),
}

impl TransactionError {
    /// Whether the same transaction may be good in a later block without anybody changing it: its
    /// nonce is ahead, or its challenge is still being gathered.
    #[must_use]
    pub const fn may_pass_later(&self) -> bool {
        match self {
            Self::Nonce { expected, given, .. } => *given > *expected,
            Self::ChallengePending { .. } => true,
            _ => false,
        }
    }
}

/// Why a block is not the next block of the chain.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// An unknown format.
    #[error("block {height} has version {version}")]
    Version {
        /// The block's height.
        height: Height,
        /// Its version.
        version: u8,
    },
    /// It belongs to another chain.
    #[error("block {height} belongs to chain {genesis}")]
    WrongChain {
        /// The block's height.
        height: Height,
        /// Its genesis hash.
        genesis: BlockHash,
    },
    /// Its height does not follow.
    #[error("block {given} cannot follow block {parent}")]
    Height {
        /// The parent's height.
        parent: Height,
        /// The block's height.
        given: Height,
    },
    /// Its parent is another block.
    #[error("the parent of block {height} is {given}, not {expected}")]
    Parent {
        /// The block's height.
        height: Height,
        /// The parent's hash.
        expected: BlockHash,
        /// The hash in the header.
        given: BlockHash,
    },
    /// It is not later than its parent.
    #[error("block {height} at {given:?} is not later than its parent at {parent:?}")]
    Time {
        /// The block's height.
        height: Height,
        /// The parent's time.
        parent: ChainTime,
        /// The block's time.
        given: ChainTime,
    },
    /// Too many transactions.
    #[error("block {height} has {count} transactions, over the limit of {limit}")]
    TooMany {
        /// The block's height.
        height: Height,
        /// Its transactions.
        count: usize,
        /// Allowed.
        limit: u32,
    },
    /// Too many bytes of transactions.
    #[error("block {height} has {bytes} bytes of transactions, over the limit of {limit}")]
    TooLarge {
        /// The block's height.
        height: Height,
        /// Its bytes.
        bytes: usize,
        /// Allowed.
        limit: u32,
    },
    /// A transaction is invalid.
    #[error("transaction {id} (number {index} of block {height}) is invalid")]
    Transaction {
        /// The block's height.
        height: Height,
        /// Position in the block.
        index: usize,
        /// The transaction.
        id: TransactionId,
        /// Why.
        source: Box<TransactionError>,
    },
    /// A commitment in the header is not what the rules give.
    #[error("the {field} of block {height} is {given}, the rules give {expected}")]
    Commitment {
        /// The block's height.
        height: Height,
        /// Name of the header's field.
        field: &'static str,
        /// What the rules give.
        expected: Digest,
        /// What the header says.
        given: Digest,
    },
    /// The state could not be read: says nothing about the block.
    #[error("the state failed at block {height}")]
    State {
        /// The block's height.
        height: Height,
        /// Why.
        source: StateError,
    },
}
