//! Why a drill was not begun, or did not come to its end.

use std::path::PathBuf;

use samara_protocol::units::Amount;
use samara_renter::error::{Coded, Details, details};
use samara_renter::journal::JournalError;
use samara_renter::recovery::RecoveryError;
use samara_renter::vault::VaultError;
use samara_renter::{OpenError, RenterError};
use serde_json::json;

use crate::world::OpenStoreError;

/// Why a drill was not begun, or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// One at a time.
    #[error("a drill is under way")]
    Running,
    /// This node does not know what its words own.
    #[error(transparent)]
    Unknown(#[from] RenterError),
    /// It would cost too much.
    #[error("it costs up to {price}, more than the {most} that it may")]
    Price {
        /// What it costs.
        price: Amount,
        /// What it may.
        most: Amount,
    },
    /// There is too little room for what it brings back.
    #[error("{folder} has {free} bytes left, the drill needs {needed}", folder = .folder.display())]
    Disk {
        /// Where it works.
        folder: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// A file or folder could not be made or removed.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A report is none.
    #[error("the report {path} is not one that this program reads: {reason}", path = .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The schedule that is kept is none.
    #[error("the drill's schedule is not one that this program reads: {0}")]
    Schedule(String),
    /// Drills would come too often.
    #[error("`every` is {every}: it has {shortest} seconds or more, or 0 for no drills")]
    Often {
        /// Seconds that were asked for.
        every: u64,
        /// The least that there can be.
        shortest: u64,
    },
    /// The database of the drill could not be made.
    #[error("the drill's database: {0}")]
    Store(#[from] OpenStoreError),
    /// The second renter could not be opened.
    #[error("the drill's renter: {0}")]
    Open(#[from] OpenError),
    /// The words did not bring it back.
    #[error("the recovery failed: {0}")]
    Recovery(#[from] RecoveryError),
    /// The words own nothing on the chain, as far as the recovery saw.
    #[error("the recovery found nothing: {0}")]
    NothingFound(String),
    /// Names could not be listed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The schedule was not kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no such report.
    #[error("there is no drill '{0}'")]
    NoDrill(String),
}

impl DrillError {
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

impl Coded for DrillError {
    fn code(&self) -> &'static str {
        match self {
            Self::Running => "drill_running",
            Self::Unknown(error) => error.code(),
            Self::Price { .. } => "quote_exceeded",
            Self::Disk { .. } => "no_room",
            Self::File { .. } | Self::Store(_) | Self::Malformed { .. } => "file_failed",
            Self::Schedule(_) => "drill_schedule_unreadable",
            Self::Often { .. } => "invalid",
            Self::Open(_) => "drill_failed",
            Self::Recovery(error) => error.code(),
            Self::NothingFound(_) => "nothing_found",
            Self::Vault(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::NoDrill(_) => "no_drill",
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Price { price, most } => {
                details([("price", json!(price)), ("max_price", json!(most))])
            }
            Self::Disk { needed, free, .. } => {
                details([("needed", json!(needed)), ("free", json!(free))])
            }
            _ => Details::new(),
        }
    }
}
