//! What this node knows of a backup beside what the journal says of it.

use samara_protocol::encoding;
use samara_protocol::hash::Digest;
use samara_protocol::journal::{BackupId, BackupLabel, BackupOrigin, VaultId};
use samara_protocol::units::Amount;
use serde::{Deserialize, Serialize};

use super::state::{BackupState, BackupStep};
use super::types::{BackupKind, JobProblem, LogLine};
use super::verify::Verified;
use crate::world::{Pages, Store, StoreError, Write};

const PREFIX: &[u8] = b"backup/";
/// Lines of a log that are kept, the newest.
const LOG: usize = 200;

/// What is kept of one backup below `backup/` in the renter's store. Of a network backup, label and origin
/// count only until the journal has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u8,
    pub(super) kind: BackupKind,
    pub(super) state: BackupState,
    /// The vault that it is about, and its name then; all if none.
    pub(super) scope: Option<(VaultId, String)>,
    pub(super) label: BackupLabel,
    pub(super) origin: BackupOrigin,
    /// Milliseconds since the Unix epoch on this node's clock.
    pub(super) created: u64,
    pub(super) completed: Option<u64>,
    pub(super) hosts_ok: u64,
    pub(super) hosts_needed: u64,
    pub(super) hosts_total: u64,
    /// Journal position that hosts must hold; zero before the backup is acknowledged.
    pub(super) position: u64,
    pub(super) stored: Option<u64>,
    pub(super) cost: Option<Amount>,
    /// What a byte at the hosts costs for as long as the backup was to last, when it was quoted.
    pub(super) keeping: Amount,
    pub(super) archive: Option<ArchiveFile>,
    pub(super) problem: Option<JobProblem>,
    pub(super) log: Vec<LogLine>,
    /// What the last verification has found.
    pub(super) verified: Option<Verified>,
}

/// An archive that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ArchiveFile {
    /// Its bytes.
    pub(super) bytes: u64,
    /// BLAKE3 of its bytes.
    pub(super) hash: Digest,
    /// Events in it.
    pub(super) events: u64,
    /// BLAKE3 of the last of them.
    pub(super) head: Digest,
    /// Whether it can only be opened with a passphrase.
    pub(super) encrypted: bool,
}

impl Record {
    /// Version of this format.
    const VERSION: u8 = 3;

    /// Of a backup that is about to be made.
    pub(super) fn new(
        kind: BackupKind,
        scope: Option<(VaultId, String)>,
        label: BackupLabel,
        origin: BackupOrigin,
        created: u64,
    ) -> Self {
        Self {
            version: Self::VERSION,
            kind,
            state: BackupState::Queued,
            scope,
            label,
            origin,
            created,
            completed: None,
            hosts_ok: 0,
            hosts_needed: 0,
            hosts_total: 0,
            position: 0,
            stored: None,
            cost: None,
            keeping: Amount::ZERO,
            archive: None,
            problem: None,
            log: Vec::new(),
            verified: None,
        }
    }

    /// Whether it is what a crash has left of a network backup that was deleted, if the journal does not name
    /// the backup: it was acknowledged once, and nobody has cancelled it.
    pub(super) fn is_left_over(&self) -> bool {
        self.kind == BackupKind::Network && self.position > 0 && !self.is_cancelled()
    }

    /// Whether somebody has cancelled it.
    pub(super) fn is_cancelled(&self) -> bool {
        let cancelled = |problem: &JobProblem| problem.code == "cancelled";
        self.state == BackupState::Failed && self.problem.as_ref().is_some_and(cancelled)
    }

    /// Takes a step; one that is not legal is a defect, which leaves the record as it is.
    pub(super) fn take(&mut self, step: BackupStep) {
        match self.state.after(step) {
            Ok(state) => self.state = state,
            Err(error) => tracing::error!(%error, "a step of a backup was left out"),
        }
    }

    /// Notes what happened.
    pub(super) fn note(&mut self, time: u64, text: impl Into<String>) {
        self.log.push(LogLine { time, text: text.into() });
        let over = self.log.len().saturating_sub(LOG);
        self.log.drain(..over);
    }

    /// Notes why it failed.
    pub(super) fn fail(&mut self, time: u64, problem: JobProblem) {
        self.take(BackupStep::Fail);
        self.note(time, format!("failed: {}", problem.message));
        self.problem = Some(problem);
    }
}

fn key(id: &BackupId) -> Vec<u8> {
    [PREFIX, id.as_bytes()].concat()
}

/// Puts a record into the store.
pub(super) fn put(id: &BackupId, record: &Record) -> Write {
    Write::Put(key(id), encoding::encode(record))
}

/// Removes one.
pub(super) fn delete(id: &BackupId) -> Write {
    Write::Delete(key(id))
}

/// All records of the store. One that does not decode is one that is missing: a network backup is settled
/// again, and its journal entry says the rest.
pub(super) async fn load(store: &dyn Store) -> Result<Vec<(BackupId, Record)>, StoreError> {
    let mut records = Vec::new();
    let mut pages = Pages::below(store, PREFIX);
    while let Some(page) = pages.next().await? {
        for (key, value) in page {
            let Ok(id) = key[PREFIX.len()..].try_into() else { continue };
            match encoding::decode::<Record>(&value) {
                Ok(record) if record.version == Record::VERSION => {
                    records.push((BackupId(id), record));
                }
                _ => {
                    tracing::debug!(key = %hex::encode(&key), "a record of a backup is no longer one")
                }
            }
        }
    }
    Ok(records)
}
