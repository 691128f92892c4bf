//! Why no archive was written.

use std::path::PathBuf;

use super::super::error::WriteError;
use crate::checkpoint::CheckpointError;
use crate::error::error_codes;
use crate::journal::JournalError;
use crate::vault::{GetError, VaultError};
use crate::world::FileError;

/// Why no archive was written. Nothing remains of one that was begun.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// What was asked for does not exist.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Something is where the archive was to be.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A version's bytes cannot be had.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The history cannot be read.
    #[error("the history of the vault: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The local journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An event cannot be had.
    #[error("event {number} of vault '{vault}' {reason}")]
    History {
        /// The vault.
        vault: String,
        /// The event.
        number: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The archive cannot be made; also for a version whose bytes are not those that were put.
    #[error(transparent)]
    Write(#[from] WriteError),
}

error_codes!(ExportError {
    Self::Vault(error) => error.code(),
    Self::Exists(_) => "exists",
    Self::File(_) => "file_failed",
    Self::Get(error) => error.code(),
    Self::Checkpoint(_) | Self::History { .. } => "no_history",
    Self::Journal(error) => error.code(),
    Self::Write(error) => error.code(),
});
