//! What an archive is made of: its entries' names, and the documents in them.
//!
//! Documents are JSON in UTF-8, compact, with the fields in the order of the structures here; so the same
//! vault gives the same bytes. Numbers of the tables and an example are in `docs/formats.md`.

mod documents;
mod event;
mod names;
mod table;

pub use documents::{
    ArchivedUser, ArchivedVersion, FormatDocument, KIND, ManifestCounts, ManifestEntry,
    SettingsDocument, SignatureDocument, UsersDocument, VERSION, VaultHead, sign_bytes,
};
pub use event::{
    ArchivedChange, ArchivedEvent, FolderOrFile, MovedFile, NamedVault, Note, PutFile,
    VaultSetting, VersionAt,
};
pub use names::{Names, ObjectUid, is_safe_tail};
pub use table::{HEADER, row};
