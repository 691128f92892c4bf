//! What is asked of backups, and what is answered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checkpoint::FileDifference;
use crate::rows::Stage;
use crate::vault::{Conflict, GetReport};

/// A backup to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// One to 96 bytes, unique among the backups that exist.
    pub name: String,
    /// For people; at most 4,096 bytes.
    #[serde(default)]
    pub description: String,
    /// Name of the one vault it is about; all if none.
    #[serde(default)]
    pub vault: Option<String>,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// Acknowledged; being written to more hosts.
    InProgress,
    /// On so many hosts that any k survivors hold it.
    Completed,
    /// Not on enough hosts; it is tried again by itself.
    Error,
    /// It is not known yet which hosts hold it: after a recovery they are asked first.
    Checking,
    /// The hosts had lost what its checkpoint was to be built upon: a recovery does not have it.
    Lost,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRow {
    /// Its id in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Name of the one vault it is about; all if none.
    pub vault: Option<String>,
    /// How far it is.
    pub state: BackupState,
    /// Hosts that hold it.
    pub hosts_ok: u64,
    /// Hosts that must hold it before it is completed.
    pub hosts_needed: u64,
    /// Hosts with live contracts.
    pub hosts_total: u64,
    /// What went wrong last, if it is in error.
    pub problem: Option<String>,
    /// Journal position it holds.
    pub position: u64,
    /// How safe it is. It is completed once any k survivors hold it, and settled once all hosts do.
    #[serde(default)]
    pub stage: Stage,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
}

/// A backup and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDetail {
    /// The backup.
    #[serde(flatten)]
    pub row: BackupRow,
    /// Vaults in it.
    pub vaults: Vec<BackupVault>,
    /// Files in all of them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions in all of them.
    pub versions: u64,
}

/// What differs between two backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDifference {
    /// Name of the first.
    pub before: String,
    /// Name of the second.
    pub after: String,
    /// Files that only the second lists.
    pub added: u64,
    /// Files that only the first lists.
    pub removed: u64,
    /// Files that both list with other contents.
    pub changed: u64,
    /// All of them, in the order of vaults and paths.
    pub files: Vec<FileDifference>,
}

/// A vault in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupVault {
    /// Its id in hex.
    pub id: String,
    /// Its name then.
    pub name: String,
    /// Files listed then.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What to bring back from a backup, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Name or id of the backup.
    pub backup: String,
    /// Name then of the one vault to restore; all if none.
    #[serde(default)]
    pub vault: Option<String>,
    /// A file or folder in it; empty for everything.
    #[serde(default)]
    pub path: String,
    /// Folder to write files to; each vault becomes a folder in it unless one was named.
    #[serde(default)]
    pub destination: Option<PathBuf>,
    /// Whether the files are to be listed in their vaults again as they were then. No byte moves:
    /// the vault refers to the same slabs.
    #[serde(default)]
    pub into_vault: bool,
    /// Where a file exists.
    #[serde(default)]
    pub conflict: Conflict,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a restore did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Files written to the folder.
    pub files: GetReport,
    /// Files listed in their vaults again.
    pub relisted_files: u64,
    /// Files of vaults that were left alone because one existed.
    pub relisting_kept: Vec<String>,
}
