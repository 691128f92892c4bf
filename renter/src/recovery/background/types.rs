//! What is asked of a scan, and what it shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::state::RecoveryScanState;
use crate::backup::{BackupRow, BackupStatus, JobProblem, LogLine};
use crate::progress::Phase;

/// How to scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecoveryScanOptions {
    /// Forget what was scanned before, and begin with the first block. One that runs is stopped for it.
    pub restart: bool,
    /// Accept a chain whose newest block is this old, in milliseconds: for one that is known to have
    /// halted. The network's own bound if none.
    pub maximum_age: Option<u64>,
}

/// A scan, and what it has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryScanStatus {
    /// Where it is.
    pub state: RecoveryScanState,
    /// What is being done, while it runs. Hosts are asked also while the chain is read.
    pub phase: Option<Phase>,
    /// Blocks seen.
    pub blocks_done: u64,
    /// Blocks there are, as far as known.
    pub blocks_known: Option<u64>,
    /// Blocks a second.
    pub rate: Option<u64>,
    /// Seconds that the rest of the blocks takes at that rate.
    pub seconds_left: Option<u64>,
    /// Chain peers that have answered.
    pub peers: u64,
    /// Contracts of the words found so far.
    pub contracts_found: u64,
    /// Of them, contracts that live.
    pub contracts_live: u64,
    /// Of those, contracts that this node knows.
    pub contracts_known: u64,
    /// Of those, contracts that it does not know.
    pub contracts_unknown: u64,
    /// Hosts that were asked for their heads.
    pub hosts_asked: u64,
    /// Of them, hosts that have answered.
    pub hosts_answered: u64,
    /// Backups found so far, oldest first. On a node that writes those that it has.
    pub backups: Vec<FoundBackup>,
    /// What may be missing, in plain words; nothing if nothing can be.
    pub may_be_missing: Option<String>,
    /// What ended it, if it failed.
    pub error: Option<JobProblem>,
    /// When it was started, milliseconds since the Unix epoch on the node's clock.
    pub date_started: Option<u64>,
    /// When it ended.
    pub date_ended: Option<u64>,
    /// What to do next, in plain words.
    pub next: Option<String>,
    /// What happened, oldest first.
    pub log: Vec<LogLine>,
}

/// How far a scan is, without what it has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoveryScanAdvance {
    /// Where it is.
    pub state: RecoveryScanState,
    /// What is being done.
    pub phase: Option<Phase>,
    /// Blocks seen.
    pub blocks_done: u64,
    /// Blocks there are, as far as known.
    pub blocks_known: Option<u64>,
    /// Seconds that the rest of the blocks takes.
    pub seconds_left: Option<u64>,
    /// Contracts found so far.
    pub contracts_found: u64,
    /// Of them, contracts that live.
    pub contracts_live: u64,
    /// Hosts that were asked.
    pub hosts_asked: u64,
    /// Of them, hosts that have answered.
    pub hosts_answered: u64,
    /// How many backups are found so far.
    pub backups: u64,
    /// What ended it, if it failed.
    pub error: Option<JobProblem>,
}

impl RecoveryScanStatus {
    /// How far it is.
    #[must_use]
    pub fn advance(&self) -> RecoveryScanAdvance {
        RecoveryScanAdvance {
            state: self.state,
            phase: self.phase,
            blocks_done: self.blocks_done,
            blocks_known: self.blocks_known,
            seconds_left: self.seconds_left,
            contracts_found: self.contracts_found,
            contracts_live: self.contracts_live,
            hosts_asked: self.hosts_asked,
            hosts_answered: self.hosts_answered,
            backups: self.backups.len() as u64,
            error: self.error.clone(),
        }
    }
}

/// A backup that a scan has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundBackup {
    /// Its id in hex.
    pub sid: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Name of the one vault it is about; all if none.
    pub vault: Option<String>,
    /// How far it is, by the heads that were shown.
    pub status: BackupStatus,
    /// Whether the scan has not ended, so that newer heads may say something else of it.
    pub preliminary: bool,
    /// Whether no rule and no expiry deletes it.
    pub pinned: bool,
    /// Events in it.
    pub events: u64,
    /// Versions in it.
    pub versions: u64,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub file_size: u64,
    /// When it was made, milliseconds since the Unix epoch on the clock of the node that made it.
    pub date_created: u64,
    /// When it was made by the chain's time.
    pub chain_time: u64,
    /// Chain time at which it is deleted by itself.
    pub date_expired: Option<u64>,
    /// Hosts whose heads hold it.
    pub hosts_ok: u64,
    /// Hosts that must hold it before it is completed.
    pub hosts_needed: u64,
    /// Hosts with live contracts, as far as they are found.
    pub hosts_total: u64,
    /// Journal position that it holds.
    pub head_seq: u64,
}

impl From<BackupRow> for FoundBackup {
    fn from(row: BackupRow) -> Self {
        Self {
            sid: row.sid,
            name: row.name,
            description: row.description,
            tags: row.tags,
            vault: row.vault,
            status: row.status,
            preliminary: false,
            pinned: row.pinned,
            events: row.events,
            versions: row.versions,
            files: row.files,
            file_size: row.file_size,
            date_created: row.date_created,
            chain_time: row.chain_time,
            date_expired: row.date_expired,
            hosts_ok: row.hosts_ok,
            hosts_needed: row.hosts_needed,
            hosts_total: row.hosts_total,
            head_seq: row.head_seq.unwrap_or_default(),
        }
    }
}
