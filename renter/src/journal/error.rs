//! Why a change was not acknowledged.

use samara_protocol::journal::FoldError;
use samara_protocol::units::Epoch;

use crate::checkpoint::CheckpointError;
use crate::error::error_codes;
use crate::world::StoreError;

/// Why a change was not acknowledged. Unless said otherwise it may still come to be: entries that a
/// host may hold are never taken back, and are completed with the next change.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Neither started fresh nor recovered.
    #[error(
        "this node has neither started fresh nor recovered: it is not known what the words own"
    )]
    NotStarted,
    /// Recovered without a quorum.
    #[error("this node only reads: it was recovered for reading, or without a quorum of hosts")]
    ReadOnly,
    /// Another node writes for these words now. Nothing was changed.
    #[error(
        "another node or another copy of this folder writes for these words (epoch {by}); this one has \
         stopped writing. Stop the other one, and recover here, to write here again"
    )]
    Fenced {
        /// The other node's epoch.
        by: Epoch,
    },
    /// No live contract. Nothing was changed.
    #[error("there is no live contract: set an allowance, and wait for contracts")]
    NoHosts,
    /// Too few hosts answered.
    #[error("the change is on {written} of {members} hosts of the head set, {needed} are needed: {}",
        .failures.join("; "))]
    NoQuorum {
        /// Hosts that hold it.
        written: usize,
        /// Hosts of the set.
        members: usize,
        /// Hosts needed.
        needed: usize,
        /// What failed, host by host.
        failures: Vec<String>,
    },
    /// The change does not follow from what there is. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] FoldError),
    /// More than one round takes. Nothing was changed.
    #[error("a change of {bytes} bytes is more than the {limit} that one round takes")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The heads are full, and nothing makes room for the change. Nothing was changed.
    #[error("the heads at the hosts are full, and nothing was changed: {0}")]
    HeadsFull(String),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The renter's store holds a journal that does not decode or does not follow.
    #[error("the local journal is damaged: {0}")]
    Damaged(String),
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A backup whose checkpoint is not stored yet.
    #[error(
        "the checkpoint of backup '{0}' is not at the hosts yet; it is written when they answer"
    )]
    NoCheckpoint(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

error_codes!(JournalError {
    Self::NotStarted => "not_started",
    Self::ReadOnly => "read_only",
    Self::Fenced { .. } => "fenced",
    Self::NoHosts => "no_hosts",
    Self::NoQuorum { .. } => "no_quorum",
    Self::Refused(FoldError::Exists { .. }) => "exists",
    Self::Refused(FoldError::Missing { .. }) => "not_found",
    Self::Refused(_) => "conflict",
    Self::TooLarge { .. } => "too_large",
    Self::HeadsFull(_) => "heads_full",
    Self::Store(_) => "store_failed",
    Self::Damaged(_) => "journal_damaged",
    Self::Checkpoint(_) => "checkpoint_unreadable",
    Self::NoCheckpoint(_) => "no_checkpoint",
    Self::Stopped => "stopped",
});
