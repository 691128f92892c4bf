//! The scan that runs in the background: what the words own, and which backups there are, for people who
//! watch. It reads and claims nothing, so a node that writes goes on.
//!
//! | file | what it does |
//! | --- | --- |
//! | `state` | the states of a scan and the legal steps between them |
//! | `types`, `record` | what is asked and shown; what is stored |
//! | `work` | the work: the chain, and the hosts of what is found in it |
//! | `look` | one look at the hosts, which leaves nothing behind |
//! | `catalogue` | the backups that a head leads to, without its files |
//!
//! While the chain is read, hosts of the contracts found so far are asked, one look at a time: the next one
//! begins when the last has ended and more contracts were found since. What they show is preliminary
//! until the scan has ended.
//!
//! Owner of the record is the one task that works; the handle starts it, and waits for its end when it
//! stops it. The task goes on without clients, and after a restart of the node unless somebody had stopped
//! it. A recovery stops it and goes on with the chain from where it was; none starts beside a recovery.

mod catalogue;
mod look;
mod record;
mod state;
mod types;
mod work;

use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::sync::lock;
pub use state::{RecoveryScanState, RecoveryScanStep};
use tokio::sync::{broadcast, watch};
pub use types::{FoundBackup, RecoveryScanAdvance, RecoveryScanOptions, RecoveryScanStatus};

use self::record::Record;
use self::work::Work;
use super::{Recovery, RecoveryError};
use crate::journal::Mode;
use crate::news::News;
use crate::world::{StoreError, TaskHandle};

/// What the handle and the task share.
struct Shared {
    inner: Mutex<Inner>,
    stop: watch::Sender<bool>,
    /// Hears of the end of each task.
    ended: watch::Sender<()>,
}

#[derive(Default)]
struct Inner {
    record: Record,
    /// Whether a task works.
    running: bool,
    /// Recoveries under way.
    recoveries: usize,
    /// When progress was told last, and with how many contracts.
    told: (u64, u64),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// The background scan of a renter. A cheap clone; with the last one its task ends.
#[derive(Clone)]
pub(crate) struct BackgroundScan {
    work: Work,
    task: Arc<Mutex<Option<Box<dyn TaskHandle>>>>,
    /// The turn of who starts or stops.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// As long as it lives, a recovery has the chain for itself.
pub(crate) struct Yielded(Arc<Shared>);

impl Drop for Yielded {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.recoveries = inner.recoveries.saturating_sub(1);
    }
}

impl BackgroundScan {
    /// Reads how far an earlier scan came, and lets one go on that a restart has cut.
    pub(crate) async fn open(
        recovery: Recovery,
        news: broadcast::Sender<News>,
    ) -> Result<Self, StoreError> {
        let record = Record::load(recovery.world.store.as_ref()).await?;
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner { record, ..Inner::default() }),
            stop: watch::Sender::new(false),
            ended: watch::Sender::default(),
        });
        let work = Work { recovery, news, shared };
        let scan = Self { work, task: Arc::default(), turn: Arc::default() };
        if scan.work.shared.lock().record.state().is_open() {
            scan.work.resume().await?;
            scan.spawn();
        }
        Ok(scan)
    }

    fn spawn(&self) {
        let shared = &self.work.shared;
        shared.stop.send_replace(false);
        shared.lock().running = true;
        let running = work::Running(Arc::clone(shared));
        let spawner = &self.work.recovery.world.spawner;
        let task = spawner.spawn("recovery scan", Box::pin(self.work.clone().run(running)));
        *lock(&self.task) = Some(task);
    }

    /// Whether the backups to be shown are those that the node has, and not what the scan has found.
    pub(crate) fn shows_own(&self) -> bool {
        self.work.shows_own()
    }

    /// How far it is, and what it has found itself.
    pub(crate) fn status(&self) -> RecoveryScanStatus {
        self.work.status()
    }

    /// Starts one, or resumes one that was stopped; one that runs goes on, unless it is to begin again.
    pub(crate) async fn start(
        &self,
        options: RecoveryScanOptions,
    ) -> Result<RecoveryScanStatus, RecoveryError> {
        let _turn = self.turn.lock().await;
        let shared = &self.work.shared;
        if shared.lock().recoveries > 0 {
            return Err(RecoveryError::Running);
        }
        if options.restart {
            self.halt("it begins again").await?;
        } else if shared.lock().running {
            return Ok(self.status());
        }
        let now = self.work.recovery.world.clock.now();
        let record = shared.lock().record.started(options, now);
        let store = self.work.recovery.world.store.as_ref();
        match options.restart {
            true => record.save_anew(store).await?,
            false => record.save(store).await?,
        }
        shared.lock().record = record;
        self.spawn();
        self.work.tell();
        Ok(self.status())
    }

    /// Stops one that runs; what was scanned is kept.
    pub(crate) async fn stop(&self) -> Result<RecoveryScanStatus, RecoveryError> {
        let _turn = self.turn.lock().await;
        self.halt("somebody stopped it").await?;
        Ok(self.status())
    }

    /// Stops one that runs, and lets none start until what is returned is dropped: a recovery goes on.
    pub(crate) async fn yield_to_recovery(&self) -> Result<Yielded, RecoveryError> {
        let _turn = self.turn.lock().await;
        self.work.shared.lock().recoveries += 1;
        let yielded = Yielded(Arc::clone(&self.work.shared));
        self.halt("a recovery goes on from here").await?;
        Ok(yielded)
    }

    /// From here on the node itself knows the backups, because a recovery has read everything.
    pub(crate) async fn hand_over(&self) -> Result<(), StoreError> {
        let record = {
            let mut inner = self.work.shared.lock();
            inner.record.listed = false;
            inner.record.status.backups.clear();
            inner.record.clone()
        };
        record.save(self.work.recovery.world.store.as_ref()).await
    }

    /// Ends the task, for a reason that the log shows.
    async fn halt(&self, reason: &str) -> Result<(), RecoveryError> {
        let shared = &self.work.shared;
        let mut ended = shared.ended.subscribe();
        shared.stop.send_replace(true);
        while shared.lock().running {
            // The other end is in `shared`.
            let _ = ended.changed().await;
        }
        lock(&self.task).take();
        if shared.lock().record.state().is_open() {
            self.work.stopped(reason).await?;
        }
        Ok(())
    }

    /// Ends the task; after a restart it goes on.
    pub(crate) fn shut_down(&self) {
        lock(&self.task).take();
    }
}
