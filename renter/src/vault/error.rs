//! Why an operation on vaults failed.

use std::path::PathBuf;

use samara_protocol::journal::PathError;

use crate::error::error_codes;
use crate::journal::JournalError;
use crate::world::FileError;

/// Why a listing or a change of names failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// No vault of this name.
    #[error("there is no vault '{0}'")]
    NoVault(String),
    /// No file or folder at this path.
    #[error("vault '{vault}' has no '{path}'")]
    NoFile {
        /// The vault.
        vault: String,
        /// The path.
        path: String,
    },
    /// No such version.
    #[error("'{path}' in vault '{vault}' has no version {version}")]
    NoVersion {
        /// The vault.
        vault: String,
        /// The file.
        path: String,
        /// The version.
        version: u64,
    },
    /// A version of something that has none.
    #[error("'{path}' in vault '{vault}' is no file: a version is only of a file")]
    VersionOfFolder {
        /// The vault.
        vault: String,
        /// The folder; empty for the vault itself.
        path: String,
    },
    /// No such backup.
    #[error("there is no backup '{0}'")]
    NoBackup(String),
    /// What a backup holds can be told by nobody any more.
    #[error(
        "the checkpoint of backup '{0}' is not stored, and the local journal does not reach back to it"
    )]
    NoHistory(String),
    /// A name that no vault may have.
    #[error(
        "'{0}' cannot name a vault: a name has 1 to 64 bytes, no '/', '\\', ':' or control character, \
         and is not '.' or '..'"
    )]
    Name(String),
    /// A name or path that is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// A folder where a file was meant.
    #[error("'{path}' in vault '{vault}' is a folder")]
    Folder {
        /// The vault.
        vault: String,
        /// The folder.
        path: String,
    },
    /// A path that would be a file and a folder at the same time.
    #[error("'{path}' cannot be in vault '{vault}': '{taken}' is a {kind} there")]
    Clash {
        /// The vault.
        vault: String,
        /// The path that was wanted.
        path: String,
        /// What stands in its way.
        taken: String,
        /// `file` or `folder`.
        kind: &'static str,
    },
    /// A move to a place inside of what moves.
    #[error("'{from}' in vault '{vault}' cannot move into itself, to '{to}'")]
    IntoItself {
        /// The vault.
        vault: String,
        /// What was to move.
        from: String,
        /// Where to.
        to: String,
    },
    /// A move to where it is already.
    #[error("'{path}' in vault '{vault}' is there already: the move names the same path twice")]
    Unmoved {
        /// The vault.
        vault: String,
        /// Where it is.
        path: String,
    },
    /// A text that is no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The change was not acknowledged.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

error_codes!(VaultError {
    Self::NoVault(_) => "no_vault",
    Self::NoFile { .. } => "not_found",
    Self::NoVersion { .. } => "no_version",
    Self::VersionOfFolder { .. } => "bad_path",
    Self::NoBackup(_) => "no_backup",
    Self::NoHistory(_) => "no_history",
    Self::Name(_) => "bad_name",
    Self::Exists(_) => "exists",
    Self::Folder { .. } => "is_folder",
    Self::Clash { .. } => "name_clash",
    Self::IntoItself { .. } | Self::Unmoved { .. } | Self::Path(_) => "bad_path",
    Self::Journal(error) => error.code(),
});

/// Why files were not put. What was acknowledged before stays; putting again goes on from there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// There is nothing at the source.
    #[error("there is no file or folder {}", .0.display())]
    NoSource(PathBuf),
    /// An exclusion is no glob.
    #[error("'{glob}' is no pattern: {reason}")]
    Glob {
        /// As given.
        glob: String,
        /// What is wrong.
        reason: String,
    },
    /// The source could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Slabs could not be stored.
    #[error("storing: {0}")]
    Upload(#[from] crate::transfer::UploadError),
    /// Names, or the acknowledgement.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What is done of a large file could not be written down.
    #[error(transparent)]
    Store(#[from] crate::world::StoreError),
}

impl From<JournalError> for PutError {
    fn from(error: JournalError) -> Self {
        Self::Vault(VaultError::Journal(error))
    }
}

error_codes!(PutError {
    Self::NoSource(_) => "no_source",
    Self::Glob { .. } => "bad_pattern",
    Self::File(_) => "file_failed",
    Self::Upload(error) => upload_code(error),
    Self::Vault(error) => error.code(),
    Self::Store(_) => "store_failed",
});

pub(super) fn upload_code(error: &crate::transfer::UploadError) -> &'static str {
    use crate::transfer::UploadError;
    match error {
        UploadError::TooFewContracts { .. } => "too_few_contracts",
        UploadError::TooFewHosts { reached, needed, failures, .. } => {
            // With money in those contracts it would have gone well.
            let poor = failures.iter().filter(|failure| failure.is_money()).count();
            match poor > 0 && reached + poor >= *needed {
                true => "contract_out_of_money",
                false => "too_few_hosts",
            }
        }
        UploadError::Fenced { .. } => "fenced",
        UploadError::Stopped => "stopped",
        _ => "upload_failed",
    }
}

fn download_code(error: &crate::transfer::DownloadError) -> &'static str {
    use crate::transfer::DownloadError;
    match error {
        DownloadError::TooFewHosts { .. } | DownloadError::NoDescriptor { .. } => "too_few_hosts",
        DownloadError::Stopped { .. } => "stopped",
        _ => "download_failed",
    }
}

/// Why nothing was fetched. Single files that fail are listed in the report instead.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GetError {
    /// What was asked for does not exist.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The destination cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes could not be fetched.
    #[error("fetching '{path}': {source}")]
    Download {
        /// The file.
        path: String,
        /// What failed.
        source: crate::transfer::DownloadError,
    },
    /// The bytes that came are not the ones that were stored.
    #[error("'{0}' does not have its hash: the stored bytes are not what was put")]
    Hash(String),
    /// A slab that the journal does not know.
    #[error("'{path}' refers to slab {slab}, which is not known")]
    UnknownSlab {
        /// The file.
        path: String,
        /// The slab in hex.
        slab: String,
    },
    /// A range outside of the file.
    #[error("'{path}' has {size} bytes, not {start}..{end}")]
    Range {
        /// The file.
        path: String,
        /// Its bytes.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// First after it.
        end: u64,
    },
}

error_codes!(GetError {
    Self::Vault(error) => error.code(),
    Self::File(_) => "file_failed",
    Self::Download { source, .. } => download_code(source),
    Self::Hash(_) => "hash_mismatch",
    Self::UnknownSlab { .. } => "unknown_slab",
    Self::Range { .. } => "bad_range",
});
