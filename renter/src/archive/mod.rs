//! Archives: one vault with its whole history in one ZIP file that stands alone.
//!
//! | file | what it does |
//! | --- | --- |
//! | `format` | entries' names and documents |
//! | `write`, `output` | parts in, bytes out, without waiting |
//! | `seal` | encryption of the whole file under a passphrase |
//! | `read` | bytes from anywhere: the directory, then everything against the manifest |
//! | `limits` | how much is looked at |
//! | `shelf` | an archive that is read off the runtime's threads |
//! | `export` | a vault of this renter as an archive |
//! | `import` | an archive as a new vault of this renter |
//!
//! Invariants: an archive is complete or it is refused; what [`VerifiedArchive`] gives has the hash that a
//! signed manifest has for it; no name from an archive becomes a path; memory is bounded by the number of
//! entries, whatever their size.

mod error;
mod export;
mod format;
pub mod hostile;
mod import;
mod limits;
mod output;
mod read;
mod seal;
mod shelf;
mod write;

#[cfg(test)]
mod tests;

pub use error::{ArchiveError, WriteError};
pub use export::{ExportError, ExportReport, ExportRequest};
pub use format::{
    ArchivedChange, ArchivedEvent, ArchivedUser, ArchivedVersion, FolderOrFile, ManifestCounts,
    MovedFile, NamedVault, Note, ObjectUid, PutFile, SettingsDocument, UsersDocument, VaultHead,
    VaultSetting, VersionAt,
};
pub use import::{Admission, ImportError, ImportLog, ImportReport, ImportRequest};
pub use limits::ArchiveLimits;
pub use read::{Archive, Events, FileCursor, Outline, Signer, VerifiedArchive, Versions};
pub use seal::{Passphrase, Seal};
pub(crate) use shelf::Shelf;
pub use write::{ArchiveWriter, NewEvent, Written};
