//! Garbage: what no file, version, backup or reader needs goes from the hosts, and nothing else does.
//!
//! ```text
//! last name of a slab gone, acknowledged -> rows of its sectors durable here -> released, acknowledged
//!   -> sectors and descriptor removed from each contract by a commit -> rows gone
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `leases` | which slabs this process uploads or reads |
//! | `release` | slabs that nothing names leave the journal; uploads that came to nothing are found |
//! | `free` | sectors of released slabs leave their contracts |
//! | `audit` | compares a contract's list of sectors with what is named, and frees what is left over |
//! | `rewrite` | what is left of slabs less than half used moves into full ones |
//!
//! Invariants: a sector is removed only when the release of its slab is acknowledged, or when no slab of
//! the journal, no checkpoint and no upload has named it for a while; the fold refuses to release a
//! slab that a version or a backup names; nothing happens on a node that may not write, or whose
//! recovery is not at its end; whatever removes sectors has first had an entry acknowledged in this
//! process, so a folder that was set back finds itself out and stops. Owner of all work is one task, or
//! a caller of [`crate::Renter::collect`], one at a time.

mod audit;
mod free;
mod leases;
mod release;
mod rewrite;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use leases::ReadLease;
pub use leases::{Leases, UploadLease};
use samara_protocol::hash::SlabId;
use samara_protocol::journal::HostIndex;
use samara_protocol::units::Millis;
pub use types::{GarbageHostRow, GarbageReport};

use crate::contract::ContractError;
use crate::journal::JournalError;
use crate::recovery::Recovery;
use crate::transfer::{DownloadError, UploadError};
use crate::vault::{Vaults, sweep_checkpoints};
use crate::world::StoreError;

/// When garbage is looked for, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageOptions {
    /// Time between two rounds.
    pub interval: Millis,
    /// Longest time for which a reader keeps slabs that are released meanwhile.
    pub reader: Millis,
    /// Time between two comparisons of what contracts hold with what they should.
    pub compare: Millis,
    /// Time after which a contract's list is audited even if its size is right.
    pub audit: Millis,
    /// Time for which a sector must have been without a name before an audit frees it.
    pub orphan: Millis,
    /// Most bytes of files that are rewritten in a second, on average; 0 rewrites nothing.
    pub rewrite_rate: u64,
}

impl Default for GarbageOptions {
    fn default() -> Self {
        Self {
            interval: Millis::seconds(30),
            reader: Millis::hours(6),
            compare: Millis::seconds(600),
            audit: Millis::hours(24),
            orphan: Millis::hours(1),
            rewrite_rate: 4 << 20,
        }
    }
}

/// Why a round stopped; the next one tries again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GarbageError {
    /// The journal did not acknowledge.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is to be rewritten could not be read.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// Or could not be stored anew.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A host refused or did not answer.
    #[error(transparent)]
    Host(#[from] ContractError),
}

/// What is remembered between rounds; all of it can be found out again.
#[derive(Default)]
struct Memory {
    report: GarbageReport,
    /// Sectors of released slabs that wait at a host, and why.
    waiting: BTreeMap<HostIndex, (u64, String)>,
    /// Slabs that nothing names but the checkpoint of a put that may go on.
    resumable: BTreeSet<SlabId>,
    /// Attempts to find the sectors of a slab that nothing names.
    tries: BTreeMap<SlabId, u32>,
    audits: BTreeMap<HostIndex, audit::HostAudit>,
    /// Local time of the next comparison.
    compare_at: u64,
    /// Local time before which nothing is rewritten.
    rewrite_at: u64,
}

/// The collector. A cheap clone.
#[derive(Clone)]
pub(crate) struct Garbage {
    vaults: Vaults,
    recovery: Recovery,
    options: GarbageOptions,
    /// One round at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// A leaf, held for no call.
    memory: Arc<Mutex<Memory>>,
}

impl Garbage {
    pub(crate) fn new(vaults: Vaults, recovery: Recovery, options: GarbageOptions) -> Self {
        Self { vaults, recovery, options, turn: Arc::default(), memory: Arc::default() }
    }

    /// Collects, again and again.
    pub(crate) async fn run(self) {
        loop {
            self.vaults.world.clock.sleep(self.options.interval).await;
            self.round().await;
        }
    }

    /// One round. What cannot be done now is left to a later one.
    pub(crate) async fn round(&self) {
        let _turn = self.turn.lock().await;
        if self.halted().is_some() || self.vaults.slabs.book().live().is_empty() {
            return;
        }
        let problem = Box::pin(self.work()).await.err().map(|error| error.to_string());
        if let Some(problem) = &problem {
            tracing::debug!(problem, "a round of garbage collection stopped");
        }
        self.memory().report.problem = problem;
    }

    async fn work(&self) -> Result<(), GarbageError> {
        // What a crash left half acknowledged comes first.
        self.vaults.journal.confirm().await?;
        // A put that was stopped late may never be tried again, and keeps what its file had.
        sweep_checkpoints(&self.vaults, None).await?;
        self.judge_ended().await?;
        self.release().await?;
        self.free().await?;
        self.audit().await?;
        self.rewrite().await
    }

    /// What was freed and what waits.
    pub(crate) fn report(&self) -> GarbageReport {
        let book = self.vaults.slabs.book();
        let resumable = self.memory().resumable.clone();
        let (unused, thin, held) = self.vaults.journal.read(|state| {
            let held = state.held.values().flat_map(|held| &held.extents);
            let held = held.fold(0u64, |sum, e| sum.saturating_add(u64::from(e.length)));
            let unused = state.dead.difference(&resumable).count() as u64;
            (unused, state.thin.len() as u64, held)
        });
        let memory = self.memory();
        let indexes: BTreeSet<HostIndex> =
            memory.waiting.keys().chain(memory.audits.keys()).copied().collect();
        let rows = indexes.into_iter().filter_map(|index| {
            let waiting = memory.waiting.get(&index);
            let audit = memory.audits.get(&index);
            let sectors = waiting.map_or(0, |(sectors, _)| *sectors);
            let suspects = audit.map_or(0, audit::HostAudit::suspects);
            let reason = waiting.map(|(_, reason)| reason).or(audit.map(|audit| &audit.reason));
            let host = book.host(index).unwrap_or_default().to_string();
            let reason = reason.cloned().unwrap_or_default();
            (sectors + suspects > 0).then_some(GarbageHostRow { host, sectors, suspects, reason })
        });
        let waiting = rows.collect();
        let halted = self.halted();
        GarbageReport { unused, thin, held, waiting, halted, ..memory.report.clone() }
    }

    /// Why nothing is freed here, if nothing is.
    fn halted(&self) -> Option<String> {
        if self.recovery.status().running || self.recovery.is_unfinished() {
            return Some("a recovery is under way".into());
        }
        let writable = self.vaults.journal.check_writable();
        writable.err().map(|error| format!("this node does not write: {error}"))
    }

    fn now(&self) -> u64 {
        self.vaults.world.clock.now()
    }

    /// Start of the oldest reader that still counts.
    fn oldest_reader(&self) -> u64 {
        self.now().saturating_sub(self.options.reader.0)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A report or map that is changed in part is still one.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
