//! Why an archive was refused, and why none was written.

use crate::error::error_codes;

/// Why bytes are not taken for an archive. Nothing of an archive that was refused counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes cannot be read.
    #[error("the archive cannot be read: {0}")]
    Read(String),
    /// No ZIP file at all.
    #[error("this is no ZIP file")]
    NotZip,
    /// The end is missing.
    #[error("the archive is cut off: {0}")]
    Truncated(&'static str),
    /// It is sealed, and no passphrase came with it.
    #[error("the archive is encrypted: give its passphrase")]
    Sealed,
    /// It is sealed under another passphrase.
    #[error("the passphrase is not that of the archive")]
    Passphrase,
    /// A passphrase came with an archive that has none.
    #[error("the archive is not encrypted, but a passphrase was given: it may be another one")]
    NotSealed,
    /// It is sealed in a way that no passphrase opens.
    #[error("the archive is encrypted, but not with a passphrase as it is expected: {0}")]
    Seal(&'static str),
    /// A cap is passed.
    #[error("the archive has {what} of {found}, at most {limit} are taken")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: u64,
        /// The cap.
        limit: u64,
    },
    /// Unpacked it would be much more than it is.
    #[error("'{name}' has {packed} bytes and would become {unpacked}: that is no archive of files")]
    Ratio {
        /// The entry.
        name: String,
        /// Bytes in the archive.
        packed: u64,
        /// Bytes that it claims to become.
        unpacked: u64,
    },
    /// The structure of the ZIP file is not one that is read here.
    #[error("the archive's ZIP structure is not accepted: {0}")]
    Structure(&'static str),
    /// An entry is stored in a way that is not read here.
    #[error("'{name}' is not accepted: {reason}")]
    Entry {
        /// The entry.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// An entry's name could lead somewhere.
    #[error("an entry is named '{name}': {reason}")]
    Name {
        /// The name, escaped and cut.
        name: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The first entry is missing.
    #[error("there is no format.json: this is no archive of a vault")]
    NoFormat,
    /// The first entry is not first.
    #[error("format.json is not the first entry")]
    FormatNotFirst,
    /// It is of another kind.
    #[error("this is a '{0}', no archive of a vault")]
    Kind(String),
    /// It is of a newer version.
    #[error(
        "the archive has version {version}, which only readers of version {oldest_reader} read; this one reads {known}: use a newer program"
    )]
    Newer {
        /// Its version.
        version: u32,
        /// The oldest that reads it.
        oldest_reader: u32,
        /// This one.
        known: u32,
    },
    /// Entries are not in their order.
    #[error("'{0}' is not at its place in the archive")]
    Misplaced(String),
    /// An entry is there twice.
    #[error("'{0}' is in the archive twice")]
    Twice(String),
    /// An entry differs from another or from what it should be in case alone.
    #[error("'{0}' differs from the name that it should have in upper and lower case")]
    Case(String),
    /// An event is missing.
    #[error("event {missing} is missing: event {found} comes in its place")]
    Gap {
        /// The event that should come.
        missing: u64,
        /// The one that comes.
        found: u64,
    },
    /// An event says that it has another number.
    #[error("event {expected} calls itself event {found}")]
    Number {
        /// By its place.
        expected: u64,
        /// By its document.
        found: u64,
    },
    /// An event does not follow the one before.
    #[error("event {0} does not follow the event before it: the chain of hashes is broken")]
    Chain(u64),
    /// An event cannot have happened after those before it.
    #[error("event {seq} cannot have happened: {reason}")]
    Event {
        /// The event.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// An entry that the format or the manifest has is missing.
    #[error("'{0}' is missing from the archive")]
    Missing(String),
    /// An entry that the manifest does not have.
    #[error("'{0}' is in the archive, but not in its manifest")]
    Additional(String),
    /// A version whose bytes are missing.
    #[error("version {version} has no file in the archive")]
    NoFile {
        /// The version.
        version: u64,
    },
    /// An entry has other bytes than the manifest says.
    #[error("'{0}' is damaged: it does not have the hash that the manifest has for it")]
    Hash(String),
    /// An entry has another size than is said somewhere.
    #[error("'{name}' is said to have {said} bytes and has {found}")]
    Size {
        /// The entry.
        name: String,
        /// What is said.
        said: u64,
        /// What is there.
        found: u64,
    },
    /// A document does not read.
    #[error("'{name}' does not read: {reason}")]
    Document {
        /// The entry.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A document does not fit to others.
    #[error("'{name}' does not fit to the rest of the archive: {reason}")]
    Contradiction {
        /// The entry.
        name: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The manifest is not what was signed.
    #[error("the signature of the archive does not hold: it was changed after it was made")]
    Signature,
    /// A version that was asked for is not there.
    #[error("the archive has no bytes of version {0}")]
    NoVersion(u64),
}

error_codes!(ArchiveError {
    Self::Read(_) => "archive_unreadable",
    Self::NotZip => "archive_not_zip",
    Self::Truncated(_) => "archive_truncated",
    Self::Sealed => "archive_encrypted",
    Self::Passphrase => "wrong_passphrase",
    Self::NotSealed => "archive_not_encrypted",
    Self::Seal(_) => "archive_bad_encryption",
    Self::Limit { .. } => "archive_too_large",
    Self::Ratio { .. } => "archive_bomb",
    Self::Structure(_) | Self::Entry { .. } => "archive_bad_zip",
    Self::Name { .. } | Self::Case(_) => "archive_bad_name",
    Self::NoFormat | Self::FormatNotFirst | Self::Kind(_) => "archive_no_format",
    Self::Newer { .. } => "archive_newer",
    Self::Misplaced(_) | Self::Twice(_) => "archive_bad_order",
    Self::Gap { .. } | Self::Number { .. } => "archive_event_missing",
    Self::Chain(_) | Self::Event { .. } => "archive_bad_history",
    Self::Missing(_) | Self::NoFile { .. } => "archive_incomplete",
    Self::Additional(_) => "archive_additional",
    Self::Hash(_) | Self::Size { .. } => "archive_damaged",
    Self::Document { .. } | Self::Contradiction { .. } => "archive_bad_document",
    Self::Signature => "archive_bad_signature",
    Self::NoVersion(_) => "no_version",
});

/// A name from an archive as it may be shown: without control characters, and cut.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).take(120).collect()
}

/// Why an archive was not written to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The parts came in another order than the format has them.
    #[error("the parts of an archive were given in a wrong order: {0}")]
    Order(&'static str),
    /// The bytes of a version are not those that were put.
    #[error(
        "version {version} of '{path}' does not have its hash: the stored bytes are not what was put"
    )]
    Hash {
        /// The file.
        path: String,
        /// The version.
        version: u64,
    },
    /// The ZIP file cannot be written.
    #[error("the archive cannot be packed: {0}")]
    Zip(String),
    /// The passphrase cannot be used.
    #[error("the archive cannot be encrypted: {0}")]
    Seal(String),
}

error_codes!(WriteError {
    Self::Order(_) | Self::Zip(_) => "archive_failed",
    Self::Hash { .. } => "hash_mismatch",
    Self::Seal(_) => "archive_failed",
});

impl From<zip::result::ZipError> for WriteError {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Zip(error.to_string())
    }
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Zip(error.to_string())
    }
}
