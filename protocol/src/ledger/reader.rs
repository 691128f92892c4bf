//! How the rules read the state, and what they hand back to be written.
//!
//! The rules never write: they read through [`StateReader`] and return [`StateChanges`], which the
//! store applies in one durable transaction together with the block. Tree nodes are opaque bytes to
//! the store; their format belongs to [`super::tree`].

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use super::state::StateKey;
use crate::contract::ContractId;
use crate::encoding::DecodeError;
use crate::hash::Digest;
use crate::units::{ChainTime, Height};

/// When the ledger has to look at a contract again. Ordered by time, then contract.
///
/// The set of deadlines is an index over the contracts in the state: each contract has exactly one,
/// at its [`super::state::Contract::due`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The first block at or after this time processes it.
    pub at: ChainTime,
    /// The contract.
    pub contract: ContractId,
}

/// The state after one block, as the rules read it.
pub trait StateReader {
    /// The encoded value of a key, or nothing.
    ///
    /// # Errors
    /// [`StateError`] when the store fails.
    fn value(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StateError>;

    /// The first deadlines, in order, whose time is `until` or earlier; at most `limit`.
    ///
    /// # Errors
    /// [`StateError`] when the store fails.
    fn deadlines(&self, until: ChainTime, limit: usize) -> Result<Vec<Deadline>, StateError>;

    /// A node of the state tree, by the key and with the bytes under which [`StateChanges::nodes`]
    /// handed it out.
    ///
    /// # Errors
    /// [`StateError`] when the store fails.
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
}

/// Why the state cannot be read. Never the fault of a transaction.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed.
    #[error("the state store failed to read {what}")]
    Store {
        /// What was being read.
        what: String,
        /// The store's own error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A value does not decode.
    #[error("the stored value of {key:?} is damaged")]
    Damaged {
        /// The value's key.
        key: StateKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A value that every state has, or that the deadlines point at, is not there.
    #[error("the state has no value of {0:?}")]
    Missing(StateKey),
    /// The deadline index does not follow from the contracts.
    #[error("the deadline of contract {contract} is recorded at {recorded:?}, but is at {due:?}")]
    Deadline {
        /// The contract.
        contract: ContractId,
        /// Time in the index.
        recorded: ChainTime,
        /// Time in the contract.
        due: ChainTime,
    },
    /// The authenticated tree cannot be read.
    #[error("the state tree of height {height} cannot be read")]
    Tree {
        /// Version of the tree.
        height: Height,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Sums over all money do not add up (invariant I3).
    #[error("money is not conserved: {0}")]
    Money(&'static str),
}

/// Everything that a block changes in the state. Applied as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChanges {
    /// Height of the block, and version of the tree.
    pub height: Height,
    /// Changed values by key; nothing means removed.
    pub values: BTreeMap<StateKey, Option<Vec<u8>>>,
    /// Deadlines that are no more.
    pub deadlines_removed: BTreeSet<Deadline>,
    /// New deadlines; apply after the removals.
    pub deadlines_added: BTreeSet<Deadline>,
    /// New tree nodes by key. A key starts with the height, big-endian, so nodes sort by height.
    pub nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Keys of nodes that the tree of this height no longer reaches. They are still needed to prove
    /// state of earlier heights; delete them when no proof of those heights is wanted any more.
    pub stale_nodes: BTreeSet<Vec<u8>>,
    /// Root of the state after the block.
    pub root: Digest,
}
