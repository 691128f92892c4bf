//! Why a recovery stopped. Every one of them can be tried again, and goes on where it stopped.

use samara_protocol::units::{Amount, Epoch};

use crate::checkpoint::CheckpointError;
use crate::error::error_codes;
use crate::journal::JournalError;
use crate::world::{ChainError, StoreError};

/// Why a recovery stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecoveryError {
    /// It was asked to.
    #[error("the recovery was stopped; it goes on where it was when it is started again")]
    Stopped,
    /// One runs already.
    #[error("a recovery is running already")]
    Running,
    /// This node writes for its words: there is nothing to recover.
    #[error("this node writes for these words already")]
    Active,
    /// The chain could not be read.
    #[error("reading the chain: {0}")]
    Chain(#[from] ChainError),
    /// Chain peers gave answers that do not verify.
    #[error("chain peers gave false answers: {0}")]
    FalseChain(String),
    /// No host with a live contract answered.
    #[error("none of the {asked} hosts answered: {}", .failures.join("; "))]
    NoHostAnswers {
        /// Hosts asked.
        asked: usize,
        /// What failed, host by host.
        failures: Vec<String>,
    },
    /// Hosts answered, and none showed a head that opens.
    #[error("no host has a head of these words: {}", .0.join("; "))]
    NoHead(Vec<String>),
    /// Another node claimed a higher epoch at the same time.
    #[error(
        "another node has claimed epoch {by} at the same time; start again if this one is to win"
    )]
    Outrun {
        /// Its epoch.
        by: Epoch,
    },
    /// A node of these words has claimed the last epoch there can be.
    #[error("a node of these words has claimed epoch {highest}: there is none above it")]
    NoEpochLeft {
        /// The epoch.
        highest: Epoch,
    },
    /// No account of these words can pay for giving a host up.
    #[error("giving a host up costs {needed}: no account of these words has that much")]
    NoMoney {
        /// What one account must have.
        needed: Amount,
    },
    /// A part of the journal could not be fetched.
    #[error("part {number} of the journal cannot be read: {reason}")]
    Segment {
        /// Its number, from 0.
        number: usize,
        /// What failed, host by host.
        reason: String,
    },
    /// The checkpoint that the head names could not be fetched, or does not fit together.
    #[error("the checkpoint that the newest head names cannot be read: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The journal that came does not follow.
    #[error("the journal does not follow: {0}")]
    Broken(String),
    /// The head could not be written under the new epoch.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The contract table.
    #[error(transparent)]
    Book(#[from] crate::contract::BookError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

error_codes!(RecoveryError {
    Self::Stopped => "stopped",
    Self::Running => "running",
    Self::Active => "active",
    Self::Chain(error) => error.code(),
    Self::FalseChain(_) => "chain_false",
    Self::NoHostAnswers { .. } => "no_host_answers",
    Self::NoHead(_) => "no_head",
    Self::Outrun { .. } => "fenced",
    Self::NoEpochLeft { .. } => "no_epoch_left",
    Self::NoMoney { .. } => "no_money",
    Self::Segment { .. } => "segment_missing",
    Self::Checkpoint(_) => "checkpoint_unreadable",
    Self::Broken(_) => "journal_broken",
    Self::Journal(error) => error.code(),
    Self::Book(_) => "contract_table",
    Self::Store(error) => error.code(),
});
