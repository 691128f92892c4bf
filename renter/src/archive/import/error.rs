//! Why an archive was not brought in.

use std::path::PathBuf;

use samara_protocol::units::Amount;
use serde_json::json;

use super::super::error::ArchiveError;
use crate::error::{Details, details, error_codes};
use crate::journal::JournalError;
use crate::transfer::UploadError;
use crate::vault::VaultError;
use crate::world::FileError;

/// Why an archive was not brought in. Nothing of it is left then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such file.
    #[error("there is no file {}", .0.display())]
    NoFile(PathBuf),
    /// It is not an archive that is taken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A new name of another form.
    #[error(
        "'{0}' cannot be the restored vault's name: small letters, digits and single hyphens between them"
    )]
    Name(String),
    /// The name is taken, or no vault can have it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It holds something else than was announced.
    #[error("the archive has {found} {what}, {expected} were announced")]
    Announced {
        /// What.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many were announced.
        expected: u64,
    },
    /// What was brought in is not what the archive tells.
    #[error(
        "after its events the vault has {found} {what}, and the archive {expected}: this is a defect"
    )]
    Counts {
        /// What.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// Storing it would cost more than may be spent.
    #[error("storing it costs up to {price}, more than the {most} that were agreed to")]
    Price {
        /// The price.
        price: Amount,
        /// The most that may be spent.
        most: Amount,
    },
    /// It came to cost more while it was stored.
    #[error(
        "storing it would have cost more than the {most} that were agreed to, and was given up"
    )]
    Exceeded {
        /// The most that may be spent.
        most: Amount,
    },
    /// It was given up before the vault was opened.
    #[error("the restore was cancelled")]
    Cancelled,
    /// Its bytes could not be stored.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A change was not acknowledged.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl ImportError {
    /// Prices and counts, for programs.
    #[must_use]
    pub fn details(&self) -> Details {
        match self {
            Self::Price { price, most } => {
                details([("price", json!(price)), ("max_price", json!(most))])
            }
            Self::Announced { what, found, expected } => details([
                ("what", json!(what)),
                ("found", json!(found)),
                ("announced", json!(expected)),
            ]),
            _ => Details::new(),
        }
    }
}

error_codes!(details ImportError {
    Self::File(_) => "file_failed",
    Self::NoFile(_) => "no_source",
    Self::Archive(error) => error.code(),
    Self::Name(_) => "bad_name",
    Self::Vault(error) => error.code(),
    Self::Announced { .. } => "not_announced",
    Self::Counts { .. } => "internal",
    Self::Price { .. } | Self::Exceeded { .. } => "quote_exceeded",
    Self::Cancelled => "cancelled",
    Self::Upload(_) => "upload_failed",
    Self::Journal(error) => error.code(),
});
