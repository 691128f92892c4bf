//! Backups.
mod error;
mod types;

pub use error::BackupError;
pub use types::{
    BackupDetail, BackupRequest, BackupRow, BackupState, BackupVault, RestoreReport, RestoreRequest,
};
