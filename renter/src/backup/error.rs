//! Why an operation on backups failed.

use samara_protocol::units::Amount;
use serde_json::json;

use super::types::{BackupKind, JobProblem};
use crate::archive::{ArchiveError, ExportError};
use crate::error::{Details, details, error_codes};
use crate::journal::JournalError;
use crate::vault::{GetError, VaultError};
use crate::world::{FileError, StoreError};

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
    /// Tags that are too many or too long.
    #[error("a backup has at most 16 tags of 1 to 64 bytes, without control characters")]
    Tags,
    /// A name that is taken.
    #[error("a backup '{0}' exists already")]
    Exists(String),
    /// An archive of more than one vault.
    #[error("an archive is of one vault: say which")]
    NoScope,
    /// This node keeps no archives.
    #[error("this node has no folder for archives")]
    NoPlace,
    /// A passphrase for what is sealed anyway.
    #[error("a network backup is sealed under the words' keys: a passphrase is for archives")]
    Sealed,
    /// The archive could not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The archive could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The vault has as many as it may.
    #[error(
        "{what} may have {limit} backups of this kind, and has {limit}: delete one, or raise the limit"
    )]
    Limit {
        /// Whose limit.
        what: String,
        /// Most backups.
        limit: u32,
        /// Of what kind.
        kind: BackupKind,
    },
    /// A quote that does not exist, or is too old.
    #[error("the quote {0} is not known any more: ask for another")]
    NoQuote(String),
    /// A quote of something else.
    #[error("the quote {0} is of another kind or vault")]
    OtherQuote(String),
    /// What was quoted has changed since.
    #[error("it costs up to {now} by now, and {quoted} were agreed to: ask for another quote")]
    StaleQuote {
        /// The price that was agreed to.
        quoted: Amount,
        /// The price now.
        now: Amount,
    },
    /// It would cost more than was agreed to.
    #[error(
        "it would cost more than the {quoted} that were agreed to, and was given up: ask for another quote"
    )]
    QuoteExceeded {
        /// The price that was agreed to.
        quoted: Amount,
    },
    /// It would cost more than may be paid, and nothing was begun.
    #[error("it costs up to {price}, more than the {most} that may be paid")]
    TooMuch {
        /// The price now.
        price: Amount,
        /// The most that may be paid.
        most: Amount,
    },
    /// It would cost more than its policy pays.
    #[error("it costs up to {price}, more than the {most} that its policy pays")]
    TooExpensive {
        /// The price now.
        price: Amount,
        /// The most that is paid.
        most: Amount,
    },
    /// Somebody cancelled it.
    #[error("the backup was cancelled")]
    Cancelled,
    /// It is not in a state in which this can be done.
    #[error("backup '{name}' {is}")]
    Unfit {
        /// Its name.
        name: String,
        /// What it is, in plain words.
        is: &'static str,
    },
    /// A policy that makes no sense.
    #[error("{0}")]
    Policy(&'static str),
    /// A policy that does not exist.
    #[error("there is no policy '{0}'")]
    NoPolicy(String),
    /// A policy's name that is taken.
    #[error("a policy '{0}' exists already")]
    PolicyExists(String),
    /// There are as many policies as there may be.
    #[error("there are {0} policies already, which is the most: delete one")]
    Policies(usize),
    /// Neither a folder nor the vaults were named as the destination.
    #[error("say where to restore to: a folder, the vaults, or both")]
    NoDestination,
    /// What was named does not exist, or the change was not acknowledged.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Files could not be restored.
    #[error(transparent)]
    Get(#[from] GetError),
    /// A file of this machine could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<JournalError> for BackupError {
    fn from(error: JournalError) -> Self {
        Self::Vault(VaultError::Journal(error))
    }
}

impl BackupError {
    /// Prices and limits, for programs.
    #[must_use]
    pub fn details(&self) -> Details {
        match self {
            Self::Limit { limit, kind, .. } => {
                details([("limit", json!(limit)), ("kind", json!(kind))])
            }
            Self::StaleQuote { quoted, now } => {
                details([("quoted", json!(quoted)), ("price", json!(now))])
            }
            Self::QuoteExceeded { quoted } => details([("quoted", json!(quoted))]),
            Self::TooExpensive { price, most } => {
                details([("price", json!(price)), ("max_price", json!(most))])
            }
            Self::Policies(limit) => details([("limit", json!(limit))]),
            _ => Details::new(),
        }
    }

    /// As a job keeps it.
    pub(super) fn problem(&self) -> JobProblem {
        let lasting = matches!(
            self,
            Self::Cancelled
                | Self::Name(_)
                | Self::Exists(_)
                | Self::NoScope
                | Self::TooExpensive { .. }
                | Self::Vault(VaultError::NoVault(_))
        );
        JobProblem { code: self.code().to_owned(), message: self.to_string(), retryable: !lasting }
    }
}

error_codes!(details BackupError {
    Self::Name(_) => "bad_name",
    Self::Description(_) => "bad_description",
    Self::Tags => "bad_tags",
    Self::Exists(_) => "exists",
    Self::NoScope => "no_scope",
    Self::NoPlace => "refused",
    Self::Sealed => "invalid",
    Self::Export(error) => error.code(),
    Self::Archive(error) => error.code(),
    Self::Limit { .. } => "limit_reached",
    Self::NoQuote(_) | Self::OtherQuote(_) | Self::StaleQuote { .. } => "stale_quote",
    Self::QuoteExceeded { .. } | Self::TooMuch { .. } => "quote_exceeded",
    Self::TooExpensive { .. } => "too_expensive",
    Self::Cancelled => "cancelled",
    Self::Unfit { .. } => "unfit",
    Self::Policy(_) => "bad_policy",
    Self::NoPolicy(_) => "no_policy",
    Self::PolicyExists(_) => "exists",
    Self::Policies(_) => "too_many_policies",
    Self::NoDestination => "no_destination",
    Self::Vault(error) => error.code(),
    Self::Get(error) => error.code(),
    Self::File(_) => "file_failed",
    Self::Store(error) => error.code(),
});
