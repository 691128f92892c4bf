//! Rows, pages and searches.

use samara_protocol::journal::{Backup, BackupCounts, BackupId, JournalState, VaultId};
use samara_protocol::units::ChainTime;

use super::record::Record;
use super::state::BackupState;
use super::types::{
    BackupDetail, BackupFilter, BackupKind, BackupOrder, BackupPage, BackupPhase, BackupQuery,
    BackupRow, BackupStatus, BackupVault, BackupsUsed, JobProblem, Trigger,
};
use super::{BackupError, Backups, held_from, holders, scoped};
use crate::journal::JournalStatus;
use crate::rows::Stage;
use crate::vault::{VaultError, totals};

/// Most rows of a page.
const PAGE: u64 = 1_000;
/// What a backup that has lost its checkpoint is for people.
const LOST: &str = "the hosts had lost metadata that it builds upon before it was stored; delete it and make another";

/// What all rows of a list have in common.
struct Moment {
    status: JournalStatus,
    /// Whether hosts can be asked to hold what they do not hold yet.
    asks: bool,
    recoverable_until: Option<ChainTime>,
}

impl Backups {
    /// A backup as lists show it.
    pub(super) fn row(&self, id: BackupId) -> Result<BackupRow, BackupError> {
        self.row_at(id, &self.moment())
    }

    fn moment(&self) -> Moment {
        let status = self.vaults.journal.status();
        let asks = !status.hosts.is_empty() && self.vaults.journal.check_writable().is_ok();
        Moment { status, asks, recoverable_until: self.recoverable_until() }
    }

    fn row_at(&self, id: BackupId, moment: &Moment) -> Result<BackupRow, BackupError> {
        let record = self.record(id);
        let known = self.vaults.journal.read(|state| {
            let backup = state.backups.get(&id)?;
            let vault = backup.scope.map(|scope| vault_name(state, scope));
            Some((backup.clone(), vault, state.is_without_checkpoint(backup)))
        });
        let row = match (known, record) {
            (Some((backup, vault, lost)), record) => {
                let mut row = self.network_row((id, &backup), record, moment);
                row.vault = vault;
                if lost {
                    row.status = BackupStatus::Error;
                    row.phase = None;
                    row.error = Some(JobProblem {
                        code: "backup_lost".to_owned(),
                        message: LOST.to_owned(),
                        retryable: false,
                    });
                }
                row
            }
            (None, Some(record)) if !record.is_left_over() || self.running().contains_key(&id) => {
                self.own_row(id, record)
            }
            (None, _) => return Err(VaultError::NoBackup(id.to_string()).into()),
        };
        Ok(row)
    }

    /// A backup that the journal knows.
    fn network_row(
        &self,
        (id, backup): (BackupId, &Backup),
        record: Option<Record>,
        Moment { status, asks, recoverable_until }: &Moment,
    ) -> BackupRow {
        let position = held_from(backup);
        let unknown = record.is_none();
        let mut record = record.unwrap_or_else(|| self.record_of(backup));
        record.label = backup.label.clone();
        record.origin = backup.origin.clone();
        record.position = position;
        // As a recovery shows it.
        record.created = backup.created;
        if unknown {
            // A recovery brought it back, and nobody has settled it here.
            record.hosts_ok = holders(status, position) as u64;
            record.hosts_needed = self.needed(status.hosts.len()) as u64;
            record.hosts_total = status.hosts.len() as u64;
        }
        let mut row = self.own_row(id, record);
        row.head_seq = Some(position);
        row.head_hash = Some(backup.point.hash.to_string());
        if unknown {
            (row.status, row.phase) = match *asks {
                true if row.hosts_ok >= row.hosts_needed => (BackupStatus::Completed, None),
                true => (BackupStatus::InProgress, Some(BackupPhase::Checking)),
                false => (BackupStatus::InProgress, Some(BackupPhase::Settling)),
            };
        }
        if let (None, Some(cost)) = (row.stored_size, self.vaults.journal.checkpoint_cost(&id)) {
            row.stored_size = Some(cost.bytes);
        }
        row.recoverable_until = recoverable_until.map(|time| time.0);
        row
    }

    /// A backup as this node's record has it.
    fn own_row(&self, id: BackupId, record: Record) -> BackupRow {
        let Record { label, origin, archive, .. } = record;
        let (status, phase) = shown(record.state, record.kind, record.position);
        let progress = self.running().get(&id).and_then(|running| running.progress);
        let BackupCounts { events, versions, files, bytes, .. } = origin.counts;
        let whole = archive.as_ref().filter(|_| record.state == BackupState::Completed);
        BackupRow {
            sid: id.to_string(),
            kind: record.kind,
            name: label.name,
            description: label.description,
            tags: label.tags,
            vault: record.scope.map(|(_, name)| name),
            status,
            phase,
            progress: progress.filter(|_| status == BackupStatus::InProgress),
            error: record.problem.filter(|_| status == BackupStatus::Error),
            events,
            versions,
            files,
            file_size: bytes,
            stored_size: record.stored,
            cost_quoted: origin.quoted,
            cost_actual: record.cost,
            created_by: origin.by.map(|user| user.to_string()),
            trigger: if origin.schedule.is_some() { Trigger::Schedule } else { Trigger::Manual },
            schedule: origin.schedule,
            pinned: label.pinned,
            date_created: record.created,
            chain_time: origin.chain_time.0,
            date_completed: record.completed,
            date_expired: label.expires.map(|time| time.0),
            recoverable_until: None,
            hosts_ok: record.hosts_ok,
            hosts_needed: record.hosts_needed,
            hosts_total: record.hosts_total,
            // That of a network backup is the journal's to say.
            head_seq: archive.as_ref().map(|archive| archive.events),
            head_hash: archive.as_ref().map(|archive| archive.head.to_string()),
            archive_hash: archive.as_ref().map(|archive| archive.hash.to_string()),
            encrypted: archive.as_ref().is_some_and(|archive| archive.encrypted),
            date_verified: record.verified.map(|verified| verified.time),
            verified_sound: record.verified.map(|verified| verified.sound),
            file_path: whole.map(|_| format!("/v1/backups/{id}/content")),
            stage: Stage::default(),
        }
    }

    /// Chain time from which on too few contracts are left to recover names and bytes, if none is renewed.
    pub(crate) fn recoverable_until(&self) -> Option<ChainTime> {
        let mut ends: Vec<ChainTime> =
            self.vaults.slabs.book().live().iter().map(|contract| contract.ends()).collect();
        ends.sort_unstable();
        let needed = usize::from(self.vaults.slabs.redundancy().data);
        // When this one has ended, fewer than k are left.
        ends.len().checked_sub(needed.max(1)).and_then(|at| ends.get(at).copied())
    }

    /// All backups, oldest first.
    pub(crate) fn list(&self) -> Vec<BackupRow> {
        let mut ids: Vec<BackupId> =
            self.vaults.journal.read(|state| state.backups.keys().copied().collect());
        ids.extend(self.records().keys());
        ids.sort_unstable();
        ids.dedup();
        let moment = self.moment();
        // One that was deleted meanwhile has no row.
        let rows = ids.into_iter().filter_map(|id| self.row_at(id, &moment).ok());
        let mut rows: Vec<BackupRow> = rows.collect();
        rows.sort_by_key(|row| (row.head_seq, row.date_created));
        rows
    }

    /// How many backups each vault has of each kind that count against its limit.
    pub(crate) fn used(&self) -> Vec<BackupsUsed> {
        let mut counted: Vec<(BackupKind, Option<VaultId>)> = self.counted().collect();
        counted.sort_unstable();
        let mut used: Vec<BackupsUsed> = Vec::new();
        for group in counted.chunk_by(|a, b| a == b) {
            let Some((kind, scope)) = group.first() else { continue };
            let vault = scope.map(|id| self.vaults.journal.read(|state| vault_name(state, id)));
            used.push(BackupsUsed { kind: *kind, vault, count: group.len() as u64 });
        }
        used
    }

    /// A backup and what is in it.
    pub(crate) async fn show(&self, name: &str) -> Result<BackupDetail, BackupError> {
        let id = self.find_any(name)?;
        let mut row = self.row(id)?;
        let log = self.record(id).map(|record| record.log).unwrap_or_default();
        let mut vaults = Vec::new();
        if let Ok((_, backup)) = self.find(&row.sid) {
            let state = self.state_at(&backup).await?;
            for (id, vault) in scoped(&state, backup.scope) {
                let (files, bytes) = totals(vault);
                let (id, name) = (id.to_string(), vault.name.clone());
                vaults.push(BackupVault { id, name, files, bytes });
            }
            let counts = super::counts(&state, backup.scope);
            (row.files, row.file_size) = (counts.files, counts.bytes);
            (row.versions, row.events) = (counts.versions, counts.events);
        }
        Ok(BackupDetail { row, vaults, log })
    }
}

/// How a state is shown.
fn shown(
    state: BackupState,
    kind: BackupKind,
    position: u64,
) -> (BackupStatus, Option<BackupPhase>) {
    match (state, kind) {
        (BackupState::Completed, _) => (BackupStatus::Completed, None),
        (BackupState::Failed, _) => (BackupStatus::Error, None),
        (BackupState::Queued, _) => (BackupStatus::InProgress, Some(BackupPhase::Queued)),
        (BackupState::Running, BackupKind::Archive) => {
            (BackupStatus::InProgress, Some(BackupPhase::Archiving))
        }
        (BackupState::Running, BackupKind::Network) if position > 0 => {
            (BackupStatus::InProgress, Some(BackupPhase::Settling))
        }
        (BackupState::Running, BackupKind::Network) => {
            (BackupStatus::InProgress, Some(BackupPhase::Acknowledging))
        }
    }
}

pub(super) fn vault_name(state: &JournalState, id: VaultId) -> String {
    state.vaults.get(&id).map_or_else(|| id.to_string(), |vault| vault.name.clone())
}

impl BackupQuery {
    /// The page of these rows that is asked for.
    #[must_use]
    pub fn page(&self, rows: Vec<BackupRow>, limit: u32, used: Vec<BackupsUsed>) -> BackupPage {
        let all = rows.len() as u64;
        let mut found: Vec<BackupRow> = rows.into_iter().filter(|row| self.matches(row)).collect();
        match self.order {
            BackupOrder::Created => found.sort_by_key(|row| row.date_created),
            BackupOrder::Name => found.sort_by_key(|row| row.name.to_lowercase()),
            BackupOrder::Size => found.sort_by_key(|row| row.file_size),
            BackupOrder::Status => found.sort_by_key(|row| row.status),
        }
        if self.descending {
            found.reverse();
        }
        let total = found.len() as u64;
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let most = usize::try_from(self.limit.clamp(1, PAGE)).unwrap_or(usize::MAX);
        let backups = found.into_iter().skip(skip).take(most).collect();
        BackupPage { backups, total, all, limit, used }
    }

    /// Whether a row is asked for: each word is in one of its texts, in any case of letters.
    fn matches(&self, row: &BackupRow) -> bool {
        let status = match self.status {
            BackupFilter::All => true,
            BackupFilter::Completed => row.status == BackupStatus::Completed,
            BackupFilter::InProgress => row.status == BackupStatus::InProgress,
            BackupFilter::Error => row.status == BackupStatus::Error,
        };
        let kind = self.kind.is_none_or(|kind| row.kind == kind);
        let vault = self.vault.is_none() || row.vault.is_none() || row.vault == self.vault;
        let texts: Vec<String> = [&row.name, &row.description, &row.sid]
            .into_iter()
            .chain(&row.tags)
            .map(|text| text.to_lowercase())
            .collect();
        let has = |word: &str| texts.iter().any(|text| text.contains(&word.to_lowercase()));
        status && kind && vault && self.search.split_whitespace().all(has)
    }
}
