//! Why a link was not made or ended.

use samara_renter::backup::BackupError;
use samara_renter::error::{Coded, Details};

use super::record::LinkId;
use super::{LONGEST, MOST, SHORTEST};

/// Why a link was not made or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is none with this id, or it has ended.
    #[error("there is no link {0}, or it has ended")]
    Unknown(LinkId),
    /// No link can lead to this backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// It would live too short or too long.
    #[error(
        "a link lives for {} seconds to {} days",
        SHORTEST.0 / 1_000,
        LONGEST.0 / 86_400_000
    )]
    Lifetime,
    /// There are too many.
    #[error("there are {MOST} download links already, which is the most: revoke one")]
    Full,
    /// It is not known yet where the API is.
    #[error("the HTTP API does not listen yet")]
    NotServed,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// A file of the data folder cannot be written or removed.
    #[error("in the folder of links")]
    Disk(#[from] std::io::Error),
}

impl Coded for LinkError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "no_link",
            Self::Backup(error) => error.code(),
            Self::Lifetime => "invalid",
            Self::Full => "too_many",
            Self::NotServed => "stopped",
            Self::Random(_) => "internal",
            Self::Disk(_) => "store_failed",
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Backup(error) => error.details(),
            _ => Details::new(),
        }
    }
}
