//! Backups: points of the journal that are kept under a name, and archives of vaults.
//!
//! | file | what it does |
//! | --- | --- |
//! | `state` | the states of a backup and the legal steps between them |
//! | `record` | what this node knows of a backup beside the journal |
//! | `quote` | what one will cost at most |
//! | `make` | makes one: asks for its place, runs it, ends it |
//! | `list` | rows, pages, searches |
//! | `archives` | the files of archives |
//! | `edit` | labels, pins, deletion |
//! | `limit` | how many a vault may have |
//! | `policy`, `policies` | which are made by themselves and when; how people manage that |
//! | `keeper` | a round of what is done by itself: expiry, policies, rotation |
//! | `retention`, `rotation` | which scheduled ones are kept |
//! | `warnings` | what people are told of before it happens |
//! | `verify` | reads one back from the hosts and says what is wrong |
//! | `restore` | files back to a folder or into their vaults |
//!
//! A *network* backup is one event of the journal. It is acknowledged like any other, and completed when the
//! head that holds it has settled on `live contracts - k + 1` hosts, at least a write quorum: then any k
//! hosts that survive include one that has it. The journal is its owner; the record of this node says how
//! far it is. One without a record (after a recovery) is settled again. One whose checkpoint cannot be
//! written any more, because the hosts have lost what it builds upon, is lost, whatever heads hold of its
//! name. An *archive* is a file of this node; its record is its owner.
//!
//! Invariants: what is charged for making a backup never exceeds its quote; nothing is deleted to make room;
//! a backup that failed counts against no limit, and stays listed with its reason until it is deleted.

mod archives;
mod edit;
mod error;
mod keeper;
mod limit;
mod list;
mod make;
mod policies;
mod policy;
mod quote;
mod record;
mod restore;
pub mod retention;
mod rotation;
mod state;
mod types;
mod verify;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

pub use archives::People;
pub use error::BackupError;
pub use policy::{MAX_POLICY_NAME, Policy, PolicyRequest, PolicyRow, PolicyVerdict};
use samara_protocol::journal::quorum::{HeadSet, Quorum};
use samara_protocol::journal::{
    Backup, BackupCounts, BackupId, JournalState, UserId, VaultId, VaultState,
};
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
pub use state::{BackupState, BackupStep, IllegalStep};
use tokio::sync::{Semaphore, broadcast, watch};
pub use types::{
    BackupDetail, BackupDifference, BackupEdit, BackupFilter, BackupKind, BackupOrder, BackupPage,
    BackupPhase, BackupQuery, BackupRequest, BackupRow, BackupStatus, BackupVault, BackupsUsed,
    JobProblem, JobProgress, LogLine, QuoteRequest, QuoteRow, RecoveryEstimate, RestoreReport,
    RestoreRequest, Trigger,
};
pub use verify::{
    Verified, VerifyHost, VerifyOptions, VerifyProblem, VerifyProblemKind, VerifyReport,
};
pub(crate) use warnings::Money;

use self::archives::Archives;
use self::quote::Quotes;
use self::record::Record;
use self::warnings::Warning;
use crate::archive::Passphrase;
use crate::checkpoint::DifferenceKind;
use crate::journal::{JournalError, JournalStatus};
use crate::news::News;
use crate::vault::{VaultError, Vaults, totals};
use crate::world::{StoreError, TaskHandle, Write};

/// How long a comparison waits for the checkpoint of a backup that was just made.
const CHECKPOINT_PATIENCE: Millis = Millis::seconds(30);
/// Archives that are written at a time; others wait in the order in which they came.
const ARCHIVES: usize = 1;
/// Backups that are verified at a time, likewise: each reads as fast as it can.
const VERIFICATIONS: usize = 1;

/// The backups of a renter. A cheap clone.
#[derive(Clone)]
pub(crate) struct Backups {
    pub(crate) vaults: Vaults,
    shared: Arc<Shared>,
    /// Who makes backups through this handle.
    by: Option<UserId>,
}

struct Shared {
    /// What the store holds of them.
    records: Mutex<BTreeMap<BackupId, Record>>,
    /// Those that are being made.
    running: Mutex<BTreeMap<BackupId, Running>>,
    quotes: Mutex<Quotes>,
    /// The turn of who asks for a backup: names and limits are looked at and taken together.
    asking: Semaphore,
    /// The turn of who changes a record.
    changing: Semaphore,
    /// Turns of archives.
    turns: Semaphore,
    /// Where archives are kept, if they are.
    archives: Mutex<Option<Arc<Archives>>>,
    /// The turn of who changes policies or does what follows from them.
    keeping: Semaphore,
    /// What people were warned of and still lasts. A leaf.
    warned: Mutex<BTreeSet<Warning>>,
    /// Turns of verifications.
    verifying: Semaphore,
    news: broadcast::Sender<News>,
}

/// A backup that is being made.
struct Running {
    progress: Option<JobProgress>,
    /// What an archive is to be encrypted with. It is nowhere else.
    passphrase: Option<Passphrase>,
    /// Set to cancel it.
    cancel: watch::Sender<bool>,
    /// The task, if it has one of its own.
    task: Option<Box<dyn TaskHandle>>,
}

impl Backups {
    /// Reads how far each backup is. Archives that a restart has cut are in error.
    pub(crate) async fn open(
        vaults: Vaults,
        news: broadcast::Sender<News>,
    ) -> Result<Self, StoreError> {
        let records = record::load(vaults.world.store.as_ref()).await?;
        let warned = warnings::load(vaults.world.store.as_ref()).await?;
        let shared = Shared {
            records: Mutex::new(records.into_iter().collect()),
            running: Mutex::default(),
            quotes: Mutex::default(),
            asking: Semaphore::new(1),
            changing: Semaphore::new(1),
            turns: Semaphore::new(ARCHIVES),
            archives: Mutex::default(),
            keeping: Semaphore::new(1),
            warned: Mutex::new(warned),
            verifying: Semaphore::new(VERIFICATIONS),
            news,
        };
        let backups = Self { vaults, shared: Arc::new(shared), by: None };
        backups.end_interrupted().await?;
        Ok(backups)
    }

    /// Ends the tasks that make backups. The next start finds what they made interrupted.
    pub(crate) fn stop(&self) {
        let running = std::mem::take(&mut *self.running());
        // Outside of the lock, which their ends take.
        drop(running);
    }

    /// The same backups, whose changes are this user's.
    pub(crate) fn acting(&self, by: Option<UserId>) -> Self {
        Self { vaults: self.vaults.acting(by), by, ..self.clone() }
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<BackupId, Record>> {
        lock(&self.shared.records)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<BackupId, Running>> {
        lock(&self.shared.running)
    }

    fn quotes(&self) -> MutexGuard<'_, Quotes> {
        lock(&self.shared.quotes)
    }

    fn warned(&self) -> MutexGuard<'_, BTreeSet<Warning>> {
        lock(&self.shared.warned)
    }

    fn now(&self) -> u64 {
        self.vaults.world.clock.now()
    }

    fn record(&self, id: BackupId) -> Option<Record> {
        self.records().get(&id).cloned()
    }

    /// Enters a record that is new.
    async fn enter(&self, id: BackupId, record: &Record) -> Result<(), StoreError> {
        let _turn = self.shared.changing.acquire().await.ok();
        self.keep(id, record).await
    }

    /// Changes a record; whether there is one. Changes follow one another, so none undoes another.
    async fn change(
        &self,
        id: BackupId,
        change: impl FnOnce(&mut Record),
    ) -> Result<bool, StoreError> {
        let _turn = self.shared.changing.acquire().await.ok();
        let Some(mut record) = self.record(id) else { return Ok(false) };
        change(&mut record);
        self.keep(id, &record).await?;
        Ok(true)
    }

    /// Only for who has the turn.
    async fn keep(&self, id: BackupId, record: &Record) -> Result<(), StoreError> {
        self.vaults.world.store.commit(vec![record::put(&id, record)]).await?;
        self.records().insert(id, record.clone());
        Ok(())
    }

    async fn forget(&self, id: BackupId) -> Result<(), StoreError> {
        let _turn = self.shared.changing.acquire().await.ok();
        let delete: Write = record::delete(&id);
        self.vaults.world.store.commit(vec![delete]).await?;
        self.records().remove(&id);
        Ok(())
    }

    /// Hosts that must hold a head so that any k survivors include one of them.
    pub(crate) fn needed(&self, live: usize) -> usize {
        needed(live, usize::from(self.vaults.slabs.redundancy().data))
    }

    /// A network backup, by name or id.
    fn find(&self, name: &str) -> Result<(BackupId, Backup), BackupError> {
        let found = self
            .vaults
            .journal
            .read(|state| state.backup_named(name).map(|(id, backup)| (id, backup.clone())));
        found.ok_or_else(|| VaultError::NoBackup(name.to_owned()).into())
    }

    /// A backup of any kind, by name or id. Of several with one name it is the one that exists, not one that
    /// failed.
    fn find_any(&self, name: &str) -> Result<BackupId, BackupError> {
        if let Ok((id, _)) = self.find(name) {
            return Ok(id);
        }
        let records = self.records();
        if let Some(id) = name.parse().ok().filter(|id| records.contains_key(id)) {
            return Ok(id);
        }
        let named = records.iter().filter(|(_, record)| record.label.name == name);
        let best =
            named.max_by_key(|(_, record)| (record.state != BackupState::Failed, record.created));
        best.map(|(id, _)| *id).ok_or_else(|| VaultError::NoBackup(name.to_owned()).into())
    }

    /// Everything as it was at a backup's point.
    async fn state_at(&self, backup: &Backup) -> Result<JournalState, BackupError> {
        let state = self.vaults.journal.at_backup(backup).await?;
        state.ok_or_else(|| VaultError::NoHistory(backup.label.name.clone()).into())
    }

    /// What differs between two backups: of one vault, by the name that it has in either, or of all that
    /// they hold. Only what differs is read.
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
            let name = backup.label.name.clone();
            if journal.read(|state| state.is_without_checkpoint(&backup)) {
                return Err(VaultError::NoHistory(name).into());
            }
            tokio::select! {
                biased;
                changed = watch.changed() => changed.map_err(|_| JournalError::Stopped)?,
                () = &mut patience => return Err(JournalError::NoCheckpoint(name).into()),
            }
        }
    }
}

/// Of so many hosts, those that must hold a head so that any `k` survivors include one of them.
pub(crate) fn needed(live: usize, k: usize) -> usize {
    let quorum = Quorum::of(live.min(HeadSet::MAX)).write;
    (live + 1).saturating_sub(k).max(quorum).max(1)
}

/// The vaults of a scope: all if it names none.
fn scoped(
    state: &JournalState,
    scope: Option<VaultId>,
) -> impl Iterator<Item = (VaultId, &VaultState)> {
    let in_scope = move |id: &VaultId| scope.is_none_or(|scope| scope == *id);
    state.listed_vaults().filter(move |(id, _)| in_scope(id))
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

/// The position from which on a head holds a backup: behind its event.
pub(crate) const fn held_from(backup: &Backup) -> u64 {
    backup.point.position.saturating_add(1)
}

/// Hosts that hold a position.
fn holders(status: &JournalStatus, position: u64) -> usize {
    status.hosts.iter().filter(|host| host.position.is_some_and(|at| at >= position)).count()
}
