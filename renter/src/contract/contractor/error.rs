//! Why the contractor could not look, plan or act.

use samara_protocol::contract::ContractId;
use samara_protocol::encoding::DecodeError;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, Epoch, Height};

use crate::contract::allowance::AllowanceError;
use crate::contract::book::BookError;
use crate::contract::error::ContractError;
use crate::world::{ChainError, StoreError};

/// Why the contractor could not look, plan or act.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContractorError {
    /// There is no allowance yet.
    #[error("no allowance is set: set how many hosts and how much money may be used")]
    NoAllowance,
    /// The allowance makes no sense.
    #[error(transparent)]
    Allowance(#[from] AllowanceError),
    /// The account has too little.
    #[error("the plan needs {needed}, the account has {balance}")]
    Balance {
        /// What the plan needs.
        needed: Amount,
        /// What the account has.
        balance: Amount,
    },
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The host.
    #[error(transparent)]
    Host(#[from] ContractError),
    /// The host does not form contracts now.
    #[error("host {host} forms no contracts at present", host = .host.short())]
    NotAccepting {
        /// The host.
        host: PublicKey,
    },
    /// The transaction is in a block, and the contract is not on the chain.
    #[error("contract {contract} with host {host} is not on the chain after its block",
        contract = .contract.short(), host = .host.short())]
    NotOnChain {
        /// The host.
        host: PublicKey,
        /// The contract.
        contract: ContractId,
    },
    /// Another node writes for these words now.
    #[error("another node has taken over with epoch {promised}; no contract is changed from here")]
    Fenced {
        /// The other node's epoch.
        promised: Epoch,
    },
    /// Another node has put these words to use first.
    #[error("another node has put these words to use before: its contract {first}, in block {height}, \
        is none of this node's. Nothing is written from here; recover to take over its files",
        first = .first.short())]
    NotFirst {
        /// The first contract of these words.
        first: ContractId,
        /// Its block.
        height: Height,
    },
    /// What these words own could not be read from the chain.
    #[error("the contracts of these words on the chain are not known yet: {0}")]
    Unscanned(String),
    /// There is no such contract to renew.
    #[error("there is no live contract with host {host}", host = .host.short())]
    NoContract {
        /// The host.
        host: PublicKey,
    },
    /// The table.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of the store does not decode.
    #[error("the contractor's store is damaged: {0}")]
    Damaged(#[from] DecodeError),
}
