//! Backups: named points of the journal, held by so many hosts that any k survivors lead back to them.
//!
//! A backup is one event. It is acknowledged like any other, and completed when the head that holds it
//! has settled on `live contracts - k + 1` hosts, at least a write quorum: then any k hosts that survive
//! include one that has it. How far it is, is kept below `backup/` in the renter's store; a backup
//! without a row there (after a crash or a recovery) is settled again.
//!
//! ```text
//! create -> acknowledged -> InProgress -> Completed
//!                               |  ^
//!                               v  | upkeep
//!                              Error
//! ```
//!
//! One whose checkpoint cannot be written any more, because the hosts have lost what it builds upon, is
//! lost, whatever the heads hold of its name.

mod error;
mod restore;
mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

pub use error::BackupError;
use samara_protocol::encoding;
use samara_protocol::journal::backup::{MAX_BACKUP_NAME, MAX_DESCRIPTION};
use samara_protocol::journal::quorum::{HeadSet, Quorum};
use samara_protocol::journal::{
    Backup, BackupCounts, BackupId, BackupLabel, BackupOrigin, Change, JournalState, UserId,
    VaultId, VaultState,
};
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use serde::{Deserialize, Serialize};
pub use types::{
    BackupDetail, BackupDifference, BackupRequest, BackupRow, BackupState, BackupVault,
    RestoreReport, RestoreRequest,
};

use crate::checkpoint::DifferenceKind;
use crate::journal::{JournalError, JournalStatus, SettleReport};
use crate::progress::{Meter, Phase, Progress, Unit};
use crate::rows::Stage;
use crate::vault::{VaultError, Vaults, find, totals};
use crate::world::{Pages, StoreError, Write, random_bytes};

const PREFIX: &[u8] = b"backup/";
/// How long a comparison waits for the checkpoint of a backup that was just made.
const CHECKPOINT_PATIENCE: Millis = Millis::seconds(30);

/// What a backup that has lost its checkpoint is for people.
const LOST: &str = "the hosts had lost metadata that it builds upon before it was stored; delete it and \
                    make another";

/// How far a backup is, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u8,
    state: BackupState,
    hosts_ok: u64,
    hosts_needed: u64,
    hosts_total: u64,
    problem: Option<String>,
    /// Journal position that hosts must hold.
    position: u64,
}

fn key(id: &BackupId) -> Vec<u8> {
    [PREFIX, id.as_bytes()].concat()
}

/// The backups of a renter. A cheap clone.
#[derive(Clone)]
pub(crate) struct Backups {
    pub(crate) vaults: Vaults,
    /// What the store holds of them.
    records: Arc<Mutex<BTreeMap<BackupId, Record>>>,
    /// Who makes backups through this handle.
    by: Option<UserId>,
}

impl Backups {
    /// Reads how far each backup is.
    pub(crate) async fn open(vaults: Vaults) -> Result<Self, StoreError> {
        let mut records = BTreeMap::new();
        let mut pages = Pages::below(vaults.world.store.as_ref(), PREFIX);
        while let Some(page) = pages.next().await? {
            for (key, value) in page {
                // A row that does not decode is one that is missing: the backup is settled again.
                if let (Ok(id), Ok(record)) =
                    (key[PREFIX.len()..].try_into(), encoding::decode(&value))
                {
                    records.insert(BackupId(id), record);
                }
            }
        }
        Ok(Self { vaults, records: Arc::new(Mutex::new(records)), by: None })
    }

    /// The same backups, whose changes are this user's.
    pub(crate) fn acting(&self, by: Option<UserId>) -> Self {
        Self { vaults: self.vaults.acting(by), by, ..self.clone() }
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<BackupId, Record>> {
        lock(&self.records)
    }

    /// Makes a backup, and returns when it is settled or has failed to. The event itself is
    /// acknowledged in either case.
    pub(crate) async fn create(
        &self,
        request: &BackupRequest,
        progress: &dyn Progress,
    ) -> Result<BackupRow, BackupError> {
        let name = &request.name;
        let fits = (1..=MAX_BACKUP_NAME).contains(&name.len());
        // As a part of an address the last two would lead elsewhere.
        if !fits || name.contains(char::is_control) || matches!(name.as_str(), "." | "..") {
            return Err(BackupError::Name(name.len()));
        }
        if request.description.len() > MAX_DESCRIPTION {
            return Err(BackupError::Description(request.description.len()));
        }
        let journal = &self.vaults.journal;
        journal.check_writable()?;
        let (scope, counts) = journal.read(|state| {
            if state.backups.values().any(|backup| backup.label.name == *name) {
                return Err(BackupError::Exists(name.clone()));
            }
            let scope = request.vault.as_ref().map(|vault| find(state, vault).map(|(id, _)| id));
            let scope = scope.transpose()?;
            Ok((scope, counts(state, scope)))
        })?;
        let id = BackupId(random_bytes(self.vaults.world.random.as_ref()));
        let name = name.clone();
        let label = BackupLabel {
            name: name.clone(),
            description: request.description.clone(),
            ..BackupLabel::default()
        };
        let chain_time = self.vaults.world.chain.time();
        let origin = BackupOrigin { chain_time, by: self.by, counts, ..BackupOrigin::default() };
        let (label, origin) = (Box::new(label), Box::new(origin));
        let created = Change::BackupCreated { id, scope, label, origin };
        let point = journal.append(vec![created]).await.map_err(|error| match error.code() {
            "exists" => BackupError::Exists(name),
            _ => error.into(),
        })?;
        self.settle(id, point.position, progress).await?;
        self.row(id)
    }

    /// Settles a backup's head and keeps how it went.
    async fn settle(
        &self,
        id: BackupId,
        position: u64,
        progress: &dyn Progress,
    ) -> Result<(), BackupError> {
        let journal = &self.vaults.journal;
        let status = journal.status();
        let needed = self.needed(status.hosts.len());
        let mut record = Record {
            version: 1,
            state: BackupState::InProgress,
            hosts_ok: holders(&status, position) as u64,
            hosts_needed: needed as u64,
            hosts_total: status.hosts.len() as u64,
            problem: None,
            position,
        };
        self.keep(id, &record).await?;
        let clock = &self.vaults.world.clock;
        let total = needed as u64;
        let now = clock.now();
        let mut meter = Meter::new(progress, Phase::Settling, Unit::Hosts, Some(total), now);
        let mut watch = journal.watch();
        let settling = journal.settle(position, needed);
        tokio::pin!(settling);
        let settled: SettleReport = loop {
            tokio::select! {
                biased;
                settled = &mut settling => break settled?,
                Ok(()) = watch.changed() => {
                    // More may hold it than must.
                    let held = holders(&watch.borrow_and_update(), position);
                    meter.done = held.min(needed) as u64;
                    meter.report(None, clock.now());
                }
            }
        };
        // Contracts may have come or gone meanwhile.
        let needed = self.needed(journal.status().hosts.len());
        record.hosts_ok = settled.hosts_ok as u64;
        record.hosts_needed = needed as u64;
        record.hosts_total = settled.hosts_total as u64;
        if settled.hosts_ok >= needed {
            record.state = BackupState::Completed;
        } else {
            record.state = BackupState::Error;
            record.problem = Some(format!(
                "{} of the {needed} hosts needed hold it: {}",
                settled.hosts_ok,
                settled.failures.join("; ")
            ));
        }
        self.keep(id, &record).await?;
        meter.done = record.hosts_ok.min(total);
        meter.report(None, clock.now());
        Ok(())
    }

    /// Hosts that must hold a head so that any k survivors include one of them.
    pub(crate) fn needed(&self, live: usize) -> usize {
        let k = usize::from(self.vaults.slabs.redundancy().data);
        let quorum = Quorum::of(live.min(HeadSet::MAX)).write;
        (live + 1).saturating_sub(k).max(quorum).max(1)
    }

    /// Settles what is not completed yet: after a crash, a recovery, or a failure.
    pub(crate) async fn resume(&self, progress: &dyn Progress) -> Result<(), BackupError> {
        let journal = &self.vaults.journal;
        if journal.check_writable().is_err() || journal.status().hosts.is_empty() {
            return Ok(());
        }
        let backups: Vec<(BackupId, u64)> = journal.read(|state| {
            let after = |backup: &Backup| backup.point.position.saturating_add(1);
            state.backups.iter().map(|(id, backup)| (*id, after(backup))).collect()
        });
        for (id, position) in backups {
            let record = self.record(id);
            if record.is_none_or(|record| record.state != BackupState::Completed) {
                self.settle(id, position, progress).await?;
            }
        }
        Ok(())
    }

    async fn keep(&self, id: BackupId, record: &Record) -> Result<(), StoreError> {
        let write = Write::Put(key(&id), encoding::encode(record));
        self.vaults.world.store.commit(vec![write]).await?;
        self.records().insert(id, record.clone());
        Ok(())
    }

    fn record(&self, id: BackupId) -> Option<Record> {
        self.records().get(&id).cloned()
    }

    fn row(&self, id: BackupId) -> Result<BackupRow, BackupError> {
        let record = self.record(id);
        let status = self.vaults.journal.status();
        let needed = self.needed(status.hosts.len()) as u64;
        let asks = !status.hosts.is_empty() && self.vaults.journal.check_writable().is_ok();
        let row = self.vaults.journal.read(|state| {
            let backup = state.backups.get(&id)?;
            let vault = |id: VaultId| {
                state.vaults.get(&id).map_or_else(|| id.to_string(), |vault| vault.name.clone())
            };
            let position = backup.point.position.saturating_add(1);
            let mut record = record.unwrap_or_else(|| {
                let hosts_ok = holders(&status, position) as u64;
                // A recovery brought it back, and nobody has settled it here.
                let state = match asks {
                    true if hosts_ok >= needed => BackupState::Completed,
                    true => BackupState::Checking,
                    false => BackupState::InProgress,
                };
                Record {
                    version: 1,
                    state,
                    hosts_ok,
                    hosts_needed: needed,
                    hosts_total: status.hosts.len() as u64,
                    problem: None,
                    position,
                }
            });
            if state.is_without_checkpoint(backup) {
                record.state = BackupState::Lost;
                record.problem = Some(LOST.to_owned());
            }
            Some(BackupRow {
                id: id.to_string(),
                name: backup.label.name.clone(),
                description: backup.label.description.clone(),
                vault: backup.scope.map(vault),
                state: record.state,
                hosts_ok: record.hosts_ok,
                hosts_needed: record.hosts_needed,
                hosts_total: record.hosts_total,
                problem: record.problem,
                position: record.position,
                stage: Stage::default(),
                created: backup.created,
            })
        });
        row.ok_or_else(|| VaultError::NoBackup(id.to_string()).into())
    }

    /// All backups, oldest first.
    pub(crate) fn list(&self) -> Vec<BackupRow> {
        let ids: Vec<BackupId> =
            self.vaults.journal.read(|state| state.backups.keys().copied().collect());
        // One that was deleted meanwhile has no row.
        let mut rows: Vec<BackupRow> = ids.into_iter().filter_map(|id| self.row(id).ok()).collect();
        rows.sort_by_key(|row| row.position);
        rows
    }

    fn find(&self, name: &str) -> Result<(BackupId, Backup), BackupError> {
        let found = self
            .vaults
            .journal
            .read(|state| state.backup_named(name).map(|(id, backup)| (id, backup.clone())));
        found.ok_or_else(|| VaultError::NoBackup(name.to_owned()).into())
    }

    /// Everything as it was at a backup's point.
    async fn state_at(&self, backup: &Backup) -> Result<JournalState, BackupError> {
        let state = self.vaults.journal.at_backup(backup).await?;
        state.ok_or_else(|| VaultError::NoHistory(backup.label.name.clone()).into())
    }

    /// A backup and what is in it.
    pub(crate) async fn show(&self, name: &str) -> Result<BackupDetail, BackupError> {
        let (id, backup) = self.find(name)?;
        let row = self.row(id)?;
        let state = self.state_at(&backup).await?;
        let mut detail = BackupDetail { row, vaults: Vec::new(), files: 0, bytes: 0, versions: 0 };
        for (id, vault) in scoped(&state, backup.scope) {
            let (files, bytes) = totals(vault);
            let (id, name) = (id.to_string(), vault.name.clone());
            detail.vaults.push(BackupVault { id, name, files, bytes });
            detail.files += files;
            detail.bytes = detail.bytes.saturating_add(bytes);
            detail.versions +=
                vault.files.values().map(|file| file.versions.len() as u64).sum::<u64>();
        }
        Ok(detail)
    }

    /// What differs between two backups: of one vault, by the name that it has in either, or of all that
    /// both are about.
    pub(crate) async fn compare(
        &self,
        before: &str,
        after: &str,
        vault: Option<&str>,
    ) -> Result<BackupDifference, BackupError> {
        let before = self.with_checkpoint(before).await?;
        let after = self.with_checkpoint(after).await?;
        let files = self.vaults.journal.compare([&before, &after], vault).await?;
        let no_vault = || VaultError::NoVault(vault.unwrap_or_default().to_owned());
        let files = files.ok_or_else(no_vault)?;
        let count = |kind| files.iter().filter(|file| file.kind == kind).count() as u64;
        Ok(BackupDifference {
            before: before.label.name,
            after: after.label.name,
            added: count(DifferenceKind::Added),
            removed: count(DifferenceKind::Removed),
            changed: count(DifferenceKind::Changed),
            files,
        })
    }

    /// A backup, as soon as its checkpoint is stored. One that was just made has it in a moment.
    async fn with_checkpoint(&self, name: &str) -> Result<Backup, BackupError> {
        let journal = &self.vaults.journal;
        let mut watch = journal.watch();
        let clock = &self.vaults.world.clock;
        let patience = clock.sleep(CHECKPOINT_PATIENCE);
        tokio::pin!(patience);
        loop {
            watch.borrow_and_update();
            let (_, backup) = self.find(name)?;
            if backup.checkpoint.is_some() {
                return Ok(backup);
            }
            if journal.read(|state| state.is_without_checkpoint(&backup)) {
                return Err(VaultError::NoHistory(backup.label.name).into());
            }
            tokio::select! {
                biased;
                changed = watch.changed() => changed.map_err(|_| JournalError::Stopped)?,
                () = &mut patience => return Err(JournalError::NoCheckpoint(backup.label.name).into()),
            }
        }
    }

    /// Gives a backup up.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), BackupError> {
        let (id, _) = self.find(name)?;
        self.vaults.journal.append(vec![Change::BackupDeleted(id)]).await?;
        self.vaults.world.store.commit(vec![Write::Delete(key(&id))]).await?;
        self.records().remove(&id);
        Ok(())
    }
}

/// The vaults of a scope: all if it names none.
fn scoped(
    state: &JournalState,
    scope: Option<VaultId>,
) -> impl Iterator<Item = (VaultId, &VaultState)> {
    let in_scope = move |id: &VaultId| scope.is_none_or(|scope| scope == *id);
    state.vaults.iter().filter(move |(id, _)| in_scope(id)).map(|(id, vault)| (*id, vault))
}

/// What is in the vaults of a scope.
fn counts(state: &JournalState, scope: Option<VaultId>) -> BackupCounts {
    let mut counts = BackupCounts::default();
    for (_, vault) in scoped(state, scope) {
        let (files, bytes) = totals(vault);
        counts.vaults += 1;
        counts.events = counts.events.saturating_add(vault.next);
        counts.versions += vault.files.values().map(|file| file.versions.len() as u64).sum::<u64>();
        counts.files += files;
        counts.bytes = counts.bytes.saturating_add(bytes);
    }
    counts
}

/// Hosts that hold a position.
fn holders(status: &JournalStatus, position: u64) -> usize {
    status.hosts.iter().filter(|host| host.position.is_some_and(|at| at >= position)).count()
}
