//! One renter's machine: its store, clock, randomness and tasks, and how it dies.
//!
//! A crash ends every task at the await where it is, and cuts the commits that are under way: each is
//! either on disk or never was. What the network carries already goes on.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use samara_protocol::hash::SlabId;
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use samara_renter::world::{
    Clock, Compute, Randomness, Spawner, Store, StoreError, TaskHandle, World, Write,
};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::chain::{EPOCH, SimChain};
use super::chance::Chance;
use super::disk::Sabotage;
use super::files::SimFiles;
use super::hosts::SimHosts;
use super::trace::{Fault, Trace};

/// A moment of a renter's life at which it may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A request to a host is about to be sent.
    Call,
    /// A commit is about to be written.
    BeforeCommit,
    /// A commit is on disk, and the renter does not know it yet.
    AfterCommit,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    number: u32,
    seed: u64,
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
    dead: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    life: u64,
    plan: Option<(Point, u64)>,
    tasks: Vec<AbortHandle>,
    chance: Chance,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Commits under way.
    commits: BTreeMap<u64, Vec<Write>>,
    next_commit: u64,
}

impl Machine {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(seed: u64, number: u32, trace: Arc<Trace>) -> Arc<Self> {
        Self::with_disk(seed, number, BTreeMap::new(), trace)
    }

    /// A machine with what is on another one's disk, see [`Machine::disk`].
    #[must_use]
    pub fn with_disk(
        seed: u64,
        number: u32,
        rows: BTreeMap<Vec<u8>, Vec<u8>>,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let inner = Inner {
            life: 0,
            plan: None,
            tasks: Vec::new(),
            chance: Chance::new(seed, &format!("machine {number}")),
            rows,
            commits: BTreeMap::new(),
            next_commit: 0,
        };
        let (inner, dead) = (Mutex::new(inner), watch::Sender::new(false));
        Arc::new(Self { number, seed, trace, inner, dead })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// What is on its disk.
    #[must_use]
    pub fn disk(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.lock().rows.clone()
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Everything that a renter on this machine is given, for its next life.
    #[must_use]
    pub fn world(self: &Arc<Self>, chain: &SimChain, hosts: &SimHosts, files: &SimFiles) -> World {
        let life = {
            let mut inner = self.lock();
            inner.life += 1;
            inner.life
        };
        self.dead.send_replace(false);
        let draws = if hosts.sabotage() == Sabotage::StaleRandomness { 1 } else { life };
        let stream = format!("renter {} life {draws}", self.number);
        World {
            chain: Arc::new(chain.clone()),
            hosts: Arc::new(hosts.seen_by(self.clone())),
            store: self.clone(),
            files: Arc::new(files.clone()),
            clock: self.clone(),
            random: Arc::new(SimRandom {
                chance: Mutex::new(Chance::new(self.seed, &stream)),
                trace: self.trace.clone(),
            }),
            spawner: self.clone(),
            compute: Arc::new(Inline),
        }
    }

    /// Lets the machine die when it has passed `point` so many times.
    pub fn plan_crash(&self, point: Point, after: u64) {
        self.lock().plan = Some((point, after));
    }

    /// Calls off what [`Machine::plan_crash`] planned.
    pub fn forget_plan(&self) {
        self.lock().plan = None;
    }

    /// Completes when the machine dies at a planned point.
    pub async fn dies(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is `self`: the wait cannot fail.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// Passes a point, or dies there.
    pub async fn point(&self, point: Point) {
        let dies = {
            let mut inner = self.lock();
            match &mut inner.plan {
                Some((planned, 0)) if *planned == point => {
                    inner.plan = None;
                    true
                }
                Some((planned, left)) if *planned == point => {
                    *left -= 1;
                    false
                }
                _ => false,
            }
        };
        if dies {
            self.dead.send_replace(true);
        }
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// The machine dies now: its tasks end, its commits under way are written or not.
    pub async fn crash(&self) {
        self.dead.send_replace(true);
        {
            let mut inner = self.lock();
            inner.plan = None;
            inner.tasks.drain(..).for_each(|task| task.abort());
            for (number, writes) in std::mem::take(&mut inner.commits) {
                let written = inner.chance.per_mille(500);
                self.trace.fault(
                    Fault::CommitCut,
                    format_args!("m{} commit {number}, written: {written}", self.number),
                );
                if written {
                    apply(&mut inner.rows, writes);
                }
            }
        }
        // The tasks are dropped when the runtime comes by.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

fn apply(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, writes: Vec<Write>) {
    for write in writes {
        match write {
            Write::Put(key, value) => rows.insert(key, value),
            Write::Delete(key) => rows.remove(&key),
        };
    }
}

#[async_trait]
impl Store for Machine {
    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.lock().rows.get(key).cloned())
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        tokio::task::yield_now().await;
        let inner = self.lock();
        let start = after.map_or(prefix, |after| after.max(prefix)).to_vec();
        let rows = inner.rows.range(start..).take_while(|(key, _)| key.starts_with(prefix));
        let rows = rows.filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.point(Point::BeforeCommit).await;
        let (number, delay, life) = {
            let mut inner = self.lock();
            let number = inner.next_commit;
            inner.next_commit += 1;
            inner.commits.insert(number, writes);
            (number, inner.chance.within(0, 2), inner.life)
        };
        self.trace.event(format_args!("m{} life {life} commit {number}", self.number));
        // Once begun, a commit goes on though nobody waits for it any more: it runs on a thread.
        CommitUnderWay { machine: self, number, delay }.finish().await;
        self.point(Point::AfterCommit).await;
        Ok(())
    }
}

/// A commit that its caller may stop waiting for; then it is written at that moment.
struct CommitUnderWay<'a> {
    machine: &'a Machine,
    number: u64,
    delay: u64,
}

impl CommitUnderWay<'_> {
    async fn finish(self) {
        if self.delay > 0 {
            tokio::time::sleep(Duration::from_millis(self.delay)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for CommitUnderWay<'_> {
    fn drop(&mut self) {
        let mut inner = self.machine.lock();
        // A crash has decided already what became of its commits.
        if let Some(writes) = inner.commits.remove(&self.number) {
            apply(&mut inner.rows, writes);
        }
    }
}

impl Clock for Machine {
    fn now(&self) -> u64 {
        EPOCH + self.trace.elapsed()
    }

    fn sleep(&self, span: Millis) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(span.0)))
    }
}

struct Task(Option<JoinHandle<()>>);

impl TaskHandle for Task {
    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn detach(mut self: Box<Self>) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Spawner for Machine {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        let (trace, number) = (self.trace.clone(), self.number);
        let task = tokio::spawn(async move {
            if let Err(panic) = std::panic::AssertUnwindSafe(task).catch_unwind().await {
                let what = super::panic_text(panic.as_ref());
                trace.violation(format!("task '{name}' of machine {number} panicked: {what}"));
            }
        });
        let mut inner = self.lock();
        inner.tasks.retain(|task| !task.is_finished());
        inner.tasks.push(task.abort_handle());
        Box::new(Task(Some(task)))
    }
}

struct SimRandom {
    chance: Mutex<Chance>,
    trace: Arc<Trace>,
}

impl Randomness for SimRandom {
    fn fill(&self, buffer: &mut [u8]) {
        lock(&self.chance).fill(buffer);
        if let Ok(id) = <[u8; SlabId::LEN]>::try_from(&*buffer) {
            self.trace.note_draw(SlabId(id));
        }
    }
}

/// Runs jobs where they are asked for; the caller still passes an await, as it does in earnest.
struct Inline;

impl Compute for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            job();
        })
    }
}

/// How an operation ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// With its own result.
    Done(T),
    /// The machine died.
    Crashed,
    /// It was dropped at an await.
    Cancelled,
    /// It did not end at all.
    Hung,
}

impl Machine {
    /// Runs an operation to its end, to the machine's, or to the moment when it is cut.
    pub fn attempt<'a, T, F: Future<Output = T> + 'a>(
        &'a self,
        cut_after: Option<u64>,
        limit: u64,
        operation: F,
    ) -> impl Future<Output = Ended<T>> + use<'a, T, F> {
        // Boxed before the first await: an operation's future is large.
        let mut operation = Box::pin(operation);
        async move {
            let cut = async {
                match cut_after {
                    Some(span) => tokio::time::sleep(Duration::from_millis(span)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.dies() => Ended::Crashed,
                result = &mut operation => Ended::Done(result),
                () = cut => Ended::Cancelled,
                () = tokio::time::sleep(Duration::from_millis(limit)) => Ended::Hung,
            }
        }
    }
}
