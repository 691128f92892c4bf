//! What is asked of vaults, and what is answered.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rows::Stage;

/// Files to put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutRequest {
    /// A file or folder of this machine.
    pub source: PathBuf,
    /// Name of the vault.
    pub vault: String,
    /// Whether the vault is made if it does not exist.
    #[serde(default = "yes")]
    pub create_vault: bool,
    /// Where in the vault: for a folder the folder that takes its contents (empty for the vault
    /// itself), for a file its path (its own name if empty or ending in `/`).
    pub target: String,
    /// Globs over paths relative to the source; what matches is left out, folders with all in them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Compare hashes of files whose size and time look unchanged.
    #[serde(default)]
    pub checksum: bool,
}

const fn yes() -> bool {
    true
}

/// A stream of bytes to put as one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutStreamRequest {
    /// Name of the vault.
    pub vault: String,
    /// Whether a vault that does not exist is made.
    #[serde(default)]
    pub create_vault: bool,
    /// The file's path in it.
    pub path: String,
    /// Last change, milliseconds since the Unix epoch; now if none.
    pub modified: Option<u64>,
    /// Whether its owner may execute it.
    #[serde(default)]
    pub executable: bool,
}

/// What a put did. Everything counted as stored or unchanged is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutReport {
    /// The vault.
    pub vault: String,
    /// Files that have a new version.
    pub stored_files: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Of these bytes, those that an earlier put had sent before it was cut.
    #[serde(default)]
    pub resumed_bytes: u64,
    /// Files that had not changed.
    pub unchanged_files: u64,
    /// Their bytes.
    pub unchanged_bytes: u64,
    /// Empty folders that are new in the vault.
    #[serde(default)]
    pub stored_folders: u64,
    /// What was left out on purpose: links, devices, names that are not UTF-8.
    pub skipped: Vec<ItemReport>,
    /// What could not be stored; try again.
    pub failed: Vec<ItemReport>,
    /// Journal position at which everything above is acknowledged.
    pub position: u64,
    /// Whether all of it is settled by now.
    #[serde(default)]
    pub stage: Stage,
    /// Hosts with live contracts that hold it by now.
    #[serde(default)]
    pub hosts_ok: u64,
    /// Hosts with live contracts.
    #[serde(default)]
    pub hosts_total: u64,
    /// Milliseconds that it took.
    pub elapsed: u64,
}

/// One item that is not as the caller may expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemReport {
    /// Path on disk or in the vault.
    pub path: String,
    /// A stable word for programs.
    pub code: String,
    /// Why, for people.
    pub reason: String,
}

/// What to do where a file exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// The existing file stays, the other is not written.
    #[default]
    Keep,
    /// The existing file is replaced.
    Replace,
    /// The other is written beside it as `name (restored).ext`.
    Rename,
}

/// Files to fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetRequest {
    /// Name of the vault.
    pub vault: String,
    /// A file or folder in it; empty for all of it.
    pub path: String,
    /// A version of the one file; the current one if none.
    #[serde(default)]
    pub version: Option<u64>,
    /// Name or id of a backup: the vault as it was then.
    #[serde(default)]
    pub backup: Option<String>,
    /// For a folder the folder that takes its contents; for a file its new path, or an existing folder.
    pub destination: PathBuf,
    /// Where a file exists.
    #[serde(default)]
    pub conflict: Conflict,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a get did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetReport {
    /// Files written whole and verified.
    pub restored_files: u64,
    /// Their bytes.
    pub restored_bytes: u64,
    /// Folders that were made although nothing is in them.
    #[serde(default)]
    pub restored_folders: u64,
    /// Of the files, those that replaced others.
    pub replaced_files: u64,
    /// Of the files, those that were written under another name: the names.
    pub renamed: Vec<String>,
    /// Files left alone because another one existed.
    pub kept: Vec<String>,
    /// Files that were there already, by length and time of change, and were left alone.
    #[serde(default)]
    pub same_files: u64,
    /// Files that could not be restored, and why.
    pub failed: Vec<ItemReport>,
    /// Whether nothing was written because that was asked.
    pub dry_run: bool,
    /// Milliseconds that it took.
    pub elapsed: u64,
}

/// How to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListOptions {
    /// Folder to list; empty for the vault itself. A file lists itself.
    pub folder: String,
    /// Everything below, not the folder's own entries only.
    pub recursive: bool,
    /// All versions of each file, also of deleted ones.
    pub versions: bool,
    /// Name or id of a backup: the vault as it was then.
    pub backup: Option<String>,
}

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ListRow {
    /// A folder: what lies in it is counted.
    Folder {
        /// Its path in the vault.
        path: String,
        /// Files in it, at any depth.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A file.
    File(FileRow),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRow {
    /// Path in the vault.
    pub path: String,
    /// The version.
    #[serde(flatten)]
    pub version: VersionRow,
    /// Whether it is no longer listed, and only its versions are kept.
    pub deleted: bool,
    /// All versions, oldest first, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionRow>,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRow {
    /// Number of the event that put it.
    pub version: u64,
    /// When it was put, milliseconds since the Unix epoch.
    pub stored: u64,
    /// Bytes.
    pub size: u64,
    /// Last change where it came from, milliseconds since the Unix epoch.
    pub modified: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// BLAKE3 of its bytes in hex, as `b3sum` prints it.
    pub hash: String,
    /// Journal position from which on it is where it is: after the event that put it, or gave its bytes
    /// another place.
    #[serde(default)]
    pub position: u64,
    /// How safe it is; of a file, how safe its last change is.
    #[serde(default)]
    pub stage: Stage,
}

/// A vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VaultRow {
    /// Its id in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
    /// Files that are listed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions kept, of deleted files too.
    pub versions: u64,
    /// Events so far.
    pub events: u64,
    /// Id in hex of the user who has brought it in from an archive; nothing if whoever runs the node did, or
    /// if it was made here.
    #[serde(default)]
    pub owner: Option<String>,
}
