//! Why an operation on backups failed.

use crate::error::error_codes;
use crate::journal::JournalError;
use crate::vault::{GetError, VaultError};
use crate::world::StoreError;

/// Why an operation on backups failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackupError {
    /// A name that no backup may have.
    #[error(
        "a backup's name has 1 to 96 bytes, no control character, and is not '.' or '..'; this one has {0} bytes"
    )]
    Name(usize),
    /// A description that is too long.
    #[error("a backup's description has at most 4,096 bytes; this one has {0}")]
    Description(usize),
    /// A name that is taken.
    #[error("a backup '{0}' exists already")]
    Exists(String),
    /// Neither a folder nor the vaults were named as the destination.
    #[error("say where to restore to: a folder, the vaults, or both")]
    NoDestination,
    /// What was named does not exist, or the change was not acknowledged.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Files could not be restored.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<JournalError> for BackupError {
    fn from(error: JournalError) -> Self {
        Self::Vault(VaultError::Journal(error))
    }
}

error_codes!(BackupError {
    Self::Name(_) => "bad_name",
    Self::Description(_) => "bad_description",
    Self::Exists(_) => "exists",
    Self::NoDestination => "no_destination",
    Self::Vault(error) => error.code(),
    Self::Get(error) => error.code(),
    Self::Store(error) => error.code(),
});
