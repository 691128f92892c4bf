//! Why a restore was not entered, changed or carried out.

use samara_renter::archive::ImportError;
use samara_renter::backup::BackupError;
use samara_renter::error::Details;

use super::state::RestoreState;
use crate::fetch::FetchError;

/// Why a restore was not entered, changed or carried out.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is none with this id.
    #[error("there is no restore {0}")]
    Unknown(String),
    /// It is not where this can be done.
    #[error("restore {id} is {state:?}: that cannot be done now")]
    Unfit {
        /// Its id.
        id: String,
        /// How far it is.
        state: RestoreState,
    },
    /// There are too many, or too many that wait.
    #[error("there are too many restores: delete old ones first, with `samara restore delete`")]
    Full,
    /// What was sent for it is not here any more.
    #[error("the archive that was sent for restore {0} is gone: send it again")]
    Gone(String),
    /// Somebody cancelled it.
    #[error("the restore was cancelled")]
    Cancelled,
    /// A restart came between.
    #[error("the node was stopped before it was done: resume it")]
    Interrupted,
    /// The archive could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The archive could not be brought in.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The backup could not be brought back.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A file of the data folder cannot be written.
    #[error("in the folder of restores: {0}")]
    Disk(#[from] std::io::Error),
}

impl RestoreError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "no_restore",
            Self::Unfit { .. } | Self::Gone(_) => "unfit",
            Self::Full => "too_many",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Fetch(error) => error.code(),
            Self::Import(error) => error.code(),
            Self::Backup(error) => error.code(),
            Self::Random(_) => "internal",
            Self::Disk(_) => "store_failed",
        }
    }

    /// What a program can use of it.
    #[must_use]
    pub fn details(&self) -> Details {
        match self {
            Self::Import(error) => error.details(),
            Self::Backup(error) => error.details(),
            _ => Details::new(),
        }
    }
}
