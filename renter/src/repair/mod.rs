//! Health of slabs, and their repair.
//!
//! ```text
//!  contracts, silence ─► standing of hosts ─┐
//!  audits, failed reads ─► lost shards ─────┴─► census: health of every slab ─► a queue of names and one
//!                                                                               of files, most urgent first
//!                                                                                     │
//!      journal: new places ◄── descriptor at all hosts ◄── commit ◄── store ◄── rebuild ◄┘
//! ```
//!
//! A slab is repaired when less than three quarters of its parity is left, or when a shard is gone for
//! good: its contract has ended, the contractor replaces its host, or the host has lost it. A host that is
//! only silent may come back, and its shards count again then. Slabs of names wait for none of files.
//!
//! Invariants: nothing is done unless this node may write; the old placement holds until a write quorum
//! has the new one; no two shards of a slab lie on one host; a slab is repaired once at a time; what is
//! moved for files and what audits read stays within its limits, and what is moved for names is counted
//! there; memory for sectors comes out of the downloads' budgets. Counting, audits, and the repair of names
//! and of files go on beside each other: under a narrow limit a file's repair takes hours, and no count and
//! no name waits for it. (An audit's few bytes wait in the line that the limit makes.) Owner of what is
//! known is `Repair`; all of it but the lost shards is found anew after a start.

mod audit;
mod batch;
mod damage;
mod health;
mod mend;
mod options;
mod report;
mod standing;
mod watching;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::hash::SlabId;
use samara_protocol::journal::StoredFile;
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use tokio::sync::watch;

pub use health::{HealthClass, SlabCounts};
pub use options::RepairOptions;
pub use report::{
    AffectedFile, AuditRow, AuditTotals, HealthReport, HealthSummary, HeldRow, IncidentRow,
    RepairingRow, StoryRow, UnsoundHostRow,
};

use self::audit::Auditor;
use self::damage::Damage;
use self::health::Moved;
use self::report::Repairing;
use self::work::Work;
use crate::bucket::Bucket;
use crate::contract::{ContractBook, LineRates};
use crate::journal::Journal;
use crate::recovery::Recovery;
use crate::slabs::Slabs;
use crate::transfer::SlabClass;
use crate::world::{StoreError, World};

/// Repairs kept for people to read.
const STORY: usize = 64;
/// Incidents that a report shows.
const INCIDENTS: usize = 32;
/// Repairs that wait, as a report shows them.
const HELD: usize = 64;

/// Watches and repairs slabs. A cheap clone.
#[derive(Clone)]
pub(crate) struct Repair(Arc<Inner>);

struct Inner {
    world: World,
    book: ContractBook,
    journal: Journal,
    slabs: Slabs,
    recovery: Recovery,
    options: RepairOptions,
    damage: Damage,
    auditor: tokio::sync::Mutex<Auditor>,
    /// When silent hosts were last asked whether they are there.
    probed: AtomicU64,
    /// One census at a time.
    counting: tokio::sync::Mutex<()>,
    /// A leaf, held for no call.
    work: Mutex<Work>,
    /// Hears of every census that leaves something to do.
    censuses: watch::Sender<()>,
    /// One batch of names at a time, and one of files.
    names: tokio::sync::Mutex<()>,
    files: tokio::sync::Mutex<()>,
    /// A leaf, held for no call.
    bandwidth: Mutex<Bucket>,
    /// What reports show. A leaf, held for no call.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When slabs were last counted.
    counted: Option<u64>,
    idle: Option<String>,
    data: SlabCounts,
    metadata: SlabCounts,
    /// Slabs of files that could not be read then.
    unreadable: Arc<BTreeSet<SlabId>>,
    lost_shards: u64,
    waiting: u64,
    to_move: Moved,
    held_total: u64,
    held: Vec<HeldRow>,
    repairing: BTreeMap<SlabId, Repairing>,
    hosts: Vec<UnsoundHostRow>,
    audits: AuditTotals,
    story: VecDeque<StoryRow>,
}

impl Repair {
    /// Reads what is known to be lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open(
        journal: Journal,
        slabs: Slabs,
        recovery: Recovery,
        options: RepairOptions,
    ) -> Result<Self, StoreError> {
        let book = slabs.book().clone();
        let world = book.world().clone();
        let now = world.clock.now();
        let damage = Damage::open(world.clone()).await?;
        let auditor = Auditor::new(book.clone(), journal.clone(), slabs.clone(), &options);
        let rate = options.bandwidth;
        let bandwidth = Mutex::new(Bucket::new(rate, Millis::seconds(1), rate, now));
        Ok(Self(Arc::new(Inner {
            world,
            book,
            journal,
            slabs,
            recovery,
            options,
            damage,
            auditor: tokio::sync::Mutex::new(auditor),
            probed: AtomicU64::default(),
            counting: tokio::sync::Mutex::default(),
            work: Mutex::default(),
            censuses: watch::Sender::default(),
            names: tokio::sync::Mutex::default(),
            files: tokio::sync::Mutex::default(),
            bandwidth,
            seen: Mutex::default(),
        })))
    }

    /// Looks after slabs, again and again.
    pub(crate) async fn run(self) {
        let (clock, interval) = (&self.0.world.clock, self.0.options.interval);
        let watch = async {
            loop {
                clock.sleep(interval).await;
                self.watch().await;
            }
        };
        let audit = async {
            loop {
                clock.sleep(interval).await;
                while self.audit().await {}
            }
        };
        let names = self.repair_all(SlabClass::Metadata);
        let files = self.repair_all(SlabClass::Data);
        futures::join!(watch, audit, names, files);
    }

    /// Repairs slabs of a class after each census, and when it is time to.
    async fn repair_all(&self, class: SlabClass) {
        let mut censuses = self.0.censuses.subscribe();
        loop {
            tokio::select! {
                biased;
                // The other end is `self`.
                _ = censuses.changed() => {}
                () = self.0.world.clock.sleep(self.0.options.interval) => {}
            }
            while self.repair(class).await {}
        }
    }

    /// One look, with all names and some files repaired; whether there may be more to do at once.
    pub(crate) async fn look(&self) -> bool {
        while self.audit().await {}
        self.watch().await;
        while self.repair(SlabClass::Metadata).await {}
        self.repair(SlabClass::Data).await
    }

    /// Why nothing is done now, if it is not.
    fn may(&self) -> Result<(), String> {
        let Inner { book, journal, recovery, .. } = &*self.0;
        if let Some(by) = book.writer().fenced() {
            return Err(format!("this node does not write: epoch {by} has taken over"));
        }
        if recovery.status().running || recovery.is_unfinished() {
            return Err("a recovery is under way".into());
        }
        journal.check_writable().map_err(|error| format!("this node does not write: {error}"))
    }

    /// Health in short.
    #[must_use]
    pub(crate) fn summary(&self) -> HealthSummary {
        let seen = self.seen();
        HealthSummary {
            counted: seen.counted,
            slabs: seen.data.with(&seen.metadata),
            repairing: seen.repairing.len() as u64,
            waiting: seen.waiting,
            held_total: seen.held_total,
            waiting_bytes: seen.to_move.total(),
            waiting_seconds: self.least_seconds(seen.to_move),
            idle: seen.idle.clone(),
        }
    }

    /// How long it takes at least to move so much within the limits; nothing if repair is switched off.
    fn least_seconds(&self, moved: Moved) -> Option<u64> {
        let LineRates { upload, download } = self.0.book.line().rates();
        let at = |bytes: u64, rate: u64| bytes.checked_div(rate).unwrap_or_default();
        let whole = moved.total().checked_div(self.0.options.bandwidth)?;
        Some(whole.max(at(moved.sent, upload)).max(at(moved.fetched, download)))
    }

    /// Everything there is to tell, with the slabs too few of whose hosts answered lately.
    #[must_use]
    pub(crate) fn report(&self, mut unanswered: BTreeSet<SlabId>) -> HealthReport {
        let (mut report, unreadable) = {
            let seen = self.seen();
            let repairing = seen.repairing.iter().map(|(slab, repairing)| repairing.row(slab));
            let report = HealthReport {
                counted: seen.counted,
                idle: seen.idle.clone(),
                data: seen.data,
                metadata: seen.metadata,
                lost_shards: seen.lost_shards,
                waiting: seen.waiting,
                held_total: seen.held_total,
                waiting_bytes: seen.to_move.total(),
                waiting_seconds: self.least_seconds(seen.to_move),
                held: seen.held.clone(),
                repairing: repairing.collect(),
                hosts: seen.hosts.clone(),
                audits: seen.audits.clone(),
                story: seen.story.iter().cloned().collect(),
                ..HealthReport::default()
            };
            (report, seen.unreadable.clone())
        };
        unanswered.retain(|slab| !unreadable.contains(slab));
        report.unanswered = unanswered.len() as u64;
        unanswered.extend(unreadable.iter());
        if !unanswered.is_empty() {
            (report.affected, report.affected_total) = self.affected(&unanswered);
        }
        let incidents = self.0.book.reports().incidents();
        let newest = incidents.into_iter().rev().take(INCIDENTS).map(|incident| IncidentRow {
            at: incident.at,
            host: incident.host.to_string(),
            what: incident.what,
        });
        report.incidents = newest.collect();
        report.incidents.reverse();
        report
    }

    /// The files that have bytes in some slabs.
    fn affected(&self, slabs: &BTreeSet<SlabId>) -> (Vec<AffectedFile>, u64) {
        let hit = |file: &StoredFile| {
            file.content.extents().iter().any(|extent| slabs.contains(&extent.slab))
        };
        let (mut files, mut total) = (Vec::new(), 0);
        self.0.journal.read(|state| {
            for vault in state.vaults.values() {
                for (path, file) in &vault.files {
                    if !file.versions.iter().any(|version| hit(&version.file)) {
                        continue;
                    }
                    total += 1;
                    if files.len() < HealthReport::MOST_FILES {
                        let current = file.current().is_some_and(|version| hit(&version.file));
                        let (vault, path) = (vault.name.clone(), path.to_string());
                        files.push(AffectedFile { vault, path, current });
                    }
                }
            }
        });
        files.sort();
        (files, total)
    }

    /// Makes an audit; whether another can be made at once.
    async fn audit(&self) -> bool {
        if self.may().is_err() {
            return false;
        }
        let mut auditor = self.0.auditor.lock().await;
        let more = auditor.run(&self.standings(), &self.0.damage).await;
        self.seen().audits = auditor.totals();
        more
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.0.seen)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.0.work)
    }
}
