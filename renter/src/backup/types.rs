//! What is asked of backups, and what is answered.

use std::path::PathBuf;

use samara_protocol::units::Amount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive::Passphrase;
use crate::checkpoint::FileDifference;
use crate::progress::{Phase, ProgressEvent, Unit};
use crate::rows::Stage;
use crate::vault::{Conflict, GetReport};

/// What a backup is made of, and where it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// The metadata at a point of the journal, sealed, on the hosts. It needs the contracts alive, and the
    /// words find it again.
    #[default]
    Network,
    /// One vault with its whole history and all bytes, in one file. It stands alone.
    Archive,
}

/// A backup to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupRequest {
    /// What it is to be made of.
    pub kind: BackupKind,
    /// One to 96 bytes, unique among the backups that exist.
    pub name: String,
    /// For people; at most 4,096 bytes.
    pub description: String,
    /// At most 16 of one to 64 bytes.
    pub tags: Vec<String>,
    /// Name of the one vault it is about; all if none. An archive has one.
    pub vault: Option<String>,
    /// Whether no rule and no expiry deletes it.
    pub pinned: bool,
    /// Time of the chain at which it is deleted by itself, milliseconds since the Unix epoch.
    pub expires: Option<u64>,
    /// The same, as seconds from now.
    pub expires_in: Option<u64>,
    /// Id of the quote that was agreed to. Without one the price of the moment is taken.
    pub quote: Option<String>,
    /// What an archive is encrypted with. Without one everybody who has the file can read it.
    pub passphrase: Option<Passphrase>,
    /// Name of the schedule that asks for it.
    #[serde(skip)]
    pub schedule: Option<String>,
    /// The most that its schedule pays.
    #[serde(skip)]
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub max_price: Option<Amount>,
}

/// What is to be priced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuoteRequest {
    /// What the backup is to be made of.
    pub kind: BackupKind,
    /// Name of the one vault it is about; all if none.
    pub vault: Option<String>,
}

/// A price that making a backup will not exceed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuoteRow {
    /// Its id, to be named when the backup is made.
    pub id: String,
    /// What the backup is made of.
    pub kind: BackupKind,
    /// Name of the vault; all if none.
    pub vault: Option<String>,
    /// The most that it costs.
    #[schemars(with = "crate::schema::Coins")]
    pub price: Amount,
    /// Bytes that are moved for it at most: to the hosts, or from them.
    pub moved: u64,
    /// Events in it.
    pub events: u64,
    /// Versions in it.
    pub versions: u64,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub file_size: u64,
    /// Until when it can be agreed to, milliseconds since the Unix epoch on the node's clock.
    pub expires: u64,
}

/// What it takes to bring things back from the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryEstimate {
    /// The most that it costs.
    pub price: Amount,
    /// Bytes of metadata that are read at most.
    pub names: u64,
}

/// What people may change of a backup; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupEdit {
    /// Another name.
    pub name: Option<String>,
    /// Another description.
    pub description: Option<String>,
    /// Other tags.
    pub tags: Option<Vec<String>>,
    /// Whether it is pinned.
    pub pinned: Option<bool>,
    /// When it expires, milliseconds of chain time; zero for never.
    pub expires: Option<u64>,
    /// The same, as seconds from now; zero for never.
    pub expires_in: Option<u64>,
}

/// What a list shows of a backup's state.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BackupStatus {
    /// It is being made, or waits for its turn.
    InProgress,
    /// It is whole.
    Completed,
    /// It is not, for the reason in `error`.
    Error,
}

/// What a backup in progress is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupPhase {
    /// It waits for its turn.
    Queued,
    /// Its entry is on its way to the head set.
    Acknowledging,
    /// Its head is being written to more hosts.
    Settling,
    /// It is not known yet which hosts hold it: after a recovery they are asked first.
    Checking,
    /// Its file is being written.
    Archiving,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobProgress {
    /// What it is doing.
    pub phase: Phase,
    /// How much is done.
    pub done: u64,
    /// Of how much, if that is known.
    pub total: Option<u64>,
    /// What both count.
    pub unit: Unit,
    /// Seconds that the rest will take.
    pub seconds_left: Option<u64>,
}

impl JobProgress {
    /// What an event tells of it, if it does.
    #[must_use]
    pub const fn of(event: &ProgressEvent) -> Option<Self> {
        let ProgressEvent::Advanced { phase, done, total, unit, seconds_left, .. } = event else {
            return None;
        };
        let (phase, done, total, unit) = (*phase, *done, *total, *unit);
        Some(Self { phase, done, total, unit, seconds_left: *seconds_left })
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobProblem {
    /// A stable word.
    pub code: String,
    /// What was attempted, on what, and what to do.
    pub message: String,
    /// Whether it may succeed when it is tried again.
    pub retryable: bool,
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Milliseconds since the Unix epoch on the node's clock.
    pub time: u64,
    /// What happened.
    pub text: String,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupRow {
    /// Its id in hex.
    pub sid: String,
    /// What it is made of.
    pub kind: BackupKind,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Name of the one vault it is about; all if none.
    pub vault: Option<String>,
    /// How far it is.
    pub status: BackupStatus,
    /// What is being done, if it is in progress.
    pub phase: Option<BackupPhase>,
    /// How far that is, if it is known.
    pub progress: Option<JobProgress>,
    /// What went wrong, if it is in error.
    pub error: Option<JobProblem>,
    /// Events in it.
    pub events: u64,
    /// Versions in it.
    pub versions: u64,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub file_size: u64,
    /// Bytes that it takes where it is stored, if that is known: of the file, or of the metadata that was
    /// written for it.
    pub stored_size: Option<u64>,
    /// The price that was agreed to.
    #[schemars(with = "crate::schema::Coins")]
    pub cost_quoted: Amount,
    /// What making it has cost, if that is known.
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub cost_actual: Option<Amount>,
    /// Who made it: a user's id in hex; nothing if whoever runs the node did.
    pub created_by: Option<String>,
    /// What made it.
    pub trigger: Trigger,
    /// Name of the schedule that made it.
    pub schedule: Option<String>,
    /// Whether no rule and no expiry deletes it.
    pub pinned: bool,
    /// When it was made, milliseconds since the Unix epoch on the node's clock.
    pub date_created: u64,
    /// When it was made by the chain's time.
    pub chain_time: u64,
    /// When it was whole, if it is and this node knows.
    pub date_completed: Option<u64>,
    /// Chain time at which it is deleted by itself.
    pub date_expired: Option<u64>,
    /// Chain time from which on, without renewals, too few contracts are left to recover it from the words.
    pub recoverable_until: Option<u64>,
    /// Hosts that hold it.
    pub hosts_ok: u64,
    /// Hosts that must hold it before it is completed.
    pub hosts_needed: u64,
    /// Hosts with live contracts.
    pub hosts_total: u64,
    /// Journal position that it holds; nothing before it is acknowledged, and for archives the position of
    /// the vault's last event in it.
    pub head_seq: Option<u64>,
    /// Digest of the journal there, or of the archive's last event, in hex.
    pub head_hash: Option<String>,
    /// BLAKE3 of an archive's file, in hex.
    pub archive_hash: Option<String>,
    /// Whether an archive can only be opened with its passphrase.
    pub encrypted: bool,
    /// When it was last verified, milliseconds since the Unix epoch on the node's clock.
    #[serde(default)]
    pub date_verified: Option<u64>,
    /// Whether nothing was wrong with it then.
    #[serde(default)]
    pub verified_sound: Option<bool>,
    /// Where an archive can be fetched from this API, once it is whole.
    pub file_path: Option<String>,
    /// How safe it is. It is completed once any k survivors hold it, and settled once all hosts do.
    #[serde(default)]
    pub stage: Stage,
}

/// What made a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person.
    Manual,
    /// A schedule.
    Schedule,
}

/// A backup and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupDetail {
    /// The backup.
    #[serde(flatten)]
    pub row: BackupRow,
    /// Vaults in it; none if that cannot be read now.
    pub vaults: Vec<BackupVault>,
    /// What happened to it on this node, oldest first.
    pub log: Vec<LogLine>,
}

/// Which of the backups are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupFilter {
    /// All.
    #[default]
    All,
    /// Those that are whole.
    Completed,
    /// Those that are being made.
    InProgress,
    /// Those with errors.
    Error,
}

/// By what a list is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupOrder {
    /// When they were made.
    #[default]
    Created,
    /// Their names.
    Name,
    /// The bytes of their files.
    Size,
    /// How far they are.
    Status,
}

/// A page of a list of backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupQuery {
    /// Words that name, description, sid or tags must have; empty for all.
    pub search: String,
    /// Which.
    pub status: BackupFilter,
    /// Only of this kind.
    pub kind: Option<BackupKind>,
    /// Only of this vault, or about all vaults.
    pub vault: Option<String>,
    /// By what they are ordered.
    pub order: BackupOrder,
    /// Whether the largest comes first.
    pub descending: bool,
    /// How many to pass over.
    pub offset: u64,
    /// How many at most; 1 to 1,000.
    pub limit: u64,
}

impl Default for BackupQuery {
    fn default() -> Self {
        Self {
            search: String::new(),
            status: BackupFilter::All,
            kind: None,
            vault: None,
            order: BackupOrder::Created,
            descending: false,
            offset: 0,
            limit: 100,
        }
    }
}

/// A page of a list of backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupPage {
    /// The backups of the page.
    pub backups: Vec<BackupRow>,
    /// How many there are that were asked for.
    pub total: u64,
    /// How many there are in all.
    pub all: u64,
    /// How many each vault may have of each kind.
    pub limit: u32,
    /// How many of these each vault has.
    pub used: Vec<BackupsUsed>,
}

/// How many backups count against the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupsUsed {
    /// Of this kind.
    pub kind: BackupKind,
    /// Of this vault; about all if none.
    pub vault: Option<String>,
    /// How many.
    pub count: u64,
}

/// What differs between two backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReport {
    /// Files written to the folder.
    pub files: GetReport,
    /// Files listed in their vaults again.
    pub relisted_files: u64,
    /// Files of vaults that were left alone because one existed.
    pub relisting_kept: Vec<String>,
}
