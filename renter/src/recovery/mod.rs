//! Recovery: everything back from the words, an empty machine and one peer.
//!
//! ```text
//! words -> scan of the chain -> claim (promises and heads) -> adopt the newest head -> take over -> done
//!            |                                                   |
//!            +-> nothing found                                   +-> read-only, without a quorum
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `progress` | the steps, their legal order, and what is stored of them |
//! | `scan` | drives the scan of the chain for this seed's contracts |
//! | `ask` | heads from every host; a new epoch, promised by hosts that suffice to take over |
//! | `claim` | what the hosts said, and what it suffices for |
//! | `fork` | tells apart what two copies of one node have written |
//! | `give_up` | hosts that the operator gives up, on the chain |
//! | `separate` | tells apart what two nodes have done with the same words |
//! | `adopt` | the newest head's journal, the contracts, the quorum write, the money |
//! | `background` | a scan for people who watch: what the words own, and which backups there are |
//!
//! Invariants: nothing is acknowledged before a write quorum of the new head set holds the head under
//! the new epoch and every old set may be left (`HeadSet::is_left`); below a quorum nothing is promised
//! or written at all; no host is given up unless the operator says so; each step may be repeated, so a
//! crash or a stop costs at most the step that ran; nothing is concluded from a single chain peer
//! without saying so.

mod adopt;
mod ask;
mod background;
mod claim;
mod error;
mod fork;
mod give_up;
mod progress;
mod scan;
mod separate;
mod types;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

pub(crate) use background::BackgroundScan;
pub use background::{
    FoundBackup, RecoveryScanAdvance, RecoveryScanOptions, RecoveryScanState, RecoveryScanStatus,
    RecoveryScanStep,
};
pub use error::RecoveryError;
use samara_protocol::contract::ContractId;
use samara_protocol::keys::KeyTree;
use samara_protocol::recovery::FoundContract;
use samara_protocol::sync::lock;
use samara_protocol::units::Epoch;
use tokio::sync::watch;
pub use types::{
    HeadSetRow, RecoveryHost, RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryStatus,
};

use self::claim::Claim;
use self::progress::{Progress as Stored, Step};
use crate::contract::ContractBook;
use crate::journal::{Journal, Mode};
use crate::progress::Progress;
use crate::slabs::Slabs;
use crate::world::{StoreError, World};

/// What one run was asked for.
struct Context<'a> {
    options: RecoveryOptions,
    progress: &'a dyn Progress,
}

#[derive(Default)]
struct Shared {
    /// Replaced field by field, each of which is true by itself.
    status: Mutex<RecoveryStatus>,
    stop: watch::Sender<bool>,
    /// Hears of the end of each run.
    ended: watch::Sender<()>,
    /// Accounts below this one were found empty, or emptied, since this process started.
    collected: AtomicU64,
    /// Journal positions of the heads that the last claim read, one for each live contract.
    heads: Mutex<Vec<Option<u64>>>,
}

/// The recovery of a renter. A cheap clone.
#[derive(Clone)]
pub(crate) struct Recovery {
    world: World,
    keys: Arc<KeyTree>,
    book: ContractBook,
    journal: Journal,
    slabs: Slabs,
    shared: Arc<Shared>,
}

/// Marks the run as ended, also when its future is dropped.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.0.status).running = false;
        self.0.ended.send_replace(());
    }
}

impl Recovery {
    /// Reads how far an earlier run came.
    pub(crate) async fn open(
        world: World,
        keys: Arc<KeyTree>,
        book: ContractBook,
        journal: Journal,
        slabs: Slabs,
    ) -> Result<Self, StoreError> {
        let stored = Stored::load(world.store.as_ref()).await?;
        let phase = match stored.step {
            Step::Idle => RecoveryPhase::Idle,
            Step::Scanning => RecoveryPhase::Scanning {
                blocks_done: 0,
                blocks_known: None,
                contracts_found: 0,
                rate: None,
                seconds_left: None,
            },
            Step::Claiming => RecoveryPhase::Claiming { hosts_answered: 0, hosts_asked: 0 },
            Step::Adopting => RecoveryPhase::Adopting { segments_done: 0, segments_total: 0 },
            Step::TakingOver => RecoveryPhase::TakingOver { hosts_written: 0 },
            Step::Done => RecoveryPhase::Done,
            Step::ReadOnly => RecoveryPhase::ReadOnly,
            Step::NothingFound => {
                RecoveryPhase::NothingFound { peers: stored.peers, blocks: stored.blocks }
            }
        };
        let status =
            RecoveryStatus { progress: phase, report: stored.report, ..Default::default() };
        let shared = Shared {
            status: Mutex::new(status),
            heads: Mutex::new(progress::load_heads(world.store.as_ref()).await?),
            ..Shared::default()
        };
        Ok(Self { world, keys, book, journal, slabs, shared: Arc::new(shared) })
    }

    /// How far it is.
    pub(crate) fn status(&self) -> RecoveryStatus {
        lock(&self.shared.status).clone()
    }

    /// Hears of the end of each run.
    pub(crate) fn ended(&self) -> watch::Receiver<()> {
        self.shared.ended.subscribe()
    }

    /// Journal positions of the heads that the last claim read, one for each live contract; nothing for
    /// a host that showed none.
    pub(crate) fn heads(&self) -> Vec<Option<u64>> {
        lock(&self.shared.heads).clone()
    }

    async fn keep_heads(&self, claim: &Claim) -> Result<(), StoreError> {
        let heads = claim.heads();
        progress::save_heads(self.world.store.as_ref(), &heads).await?;
        *lock(&self.shared.heads) = heads;
        Ok(())
    }

    /// Ends the run that is under way, if there is one; it goes on when it is started again.
    pub(crate) fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Whether a run has not come to its end.
    pub(crate) fn is_unfinished(&self) -> bool {
        !matches!(
            lock(&self.shared.status).progress,
            RecoveryPhase::Idle
                | RecoveryPhase::Done
                | RecoveryPhase::ReadOnly
                | RecoveryPhase::NothingFound { .. }
        )
    }

    /// The contracts that the last run has found, whether they live or not.
    pub(crate) async fn found(&self) -> Result<BTreeSet<ContractId>, StoreError> {
        let stored = Stored::load(self.world.store.as_ref()).await?;
        Ok(stored.found.into_iter().map(|found| found.record.contract).collect())
    }

    /// Whether the last run has found nothing that lives.
    pub(crate) fn found_nothing(&self) -> bool {
        matches!(lock(&self.shared.status).progress, RecoveryPhase::NothingFound { .. })
    }

    /// Notes that the node starts new after a run that found nothing that lives.
    pub(crate) async fn set_aside(&self) -> Result<(), StoreError> {
        let store = self.world.store.as_ref();
        let mut stored = Stored::load(store).await?;
        if stored.step == Step::NothingFound {
            stored.enter(Step::Idle);
            stored.report = None;
            stored.save(store).await?;
            *lock(&self.shared.status) = RecoveryStatus::default();
        }
        Ok(())
    }

    /// The epoch that the last run has claimed, if it came so far.
    pub(crate) async fn claimed(&self) -> Result<Option<Epoch>, StoreError> {
        Ok(Stored::load(self.world.store.as_ref()).await?.claimed)
    }

    fn set_phase(&self, phase: RecoveryPhase) {
        lock(&self.shared.status).progress = phase;
    }

    /// Brings everything back, from where an earlier run stopped.
    pub(crate) async fn run(
        &self,
        options: RecoveryOptions,
        progress: &dyn Progress,
    ) -> Result<RecoveryReport, RecoveryError> {
        {
            let mut status = lock(&self.shared.status);
            if status.running {
                return Err(RecoveryError::Running);
            }
            status.running = true;
            status.problem = None;
        }
        let _running = Running(&self.shared);
        self.shared.stop.send_replace(false);
        let mut stop = self.shared.stop.subscribe();
        let context = Context { options, progress };
        // Progress is durable at each step, so the run may be dropped wherever it waits.
        let result = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(RecoveryError::Stopped),
            result = self.steps(&context) => result,
        };
        let mut status = lock(&self.shared.status);
        match &result {
            Ok(report) => {
                status.progress = report.outcome.clone();
                status.report = Some(report.clone());
            }
            // There was nothing to do, so nothing went wrong.
            Err(RecoveryError::Active) => {}
            Err(error) => status.problem = Some(error.to_string()),
        }
        result
    }

    /// Fails where a run would do nothing, because one runs or this node writes.
    pub(crate) async fn check_wanted(&self) -> Result<(), RecoveryError> {
        if lock(&self.shared.status).running {
            return Err(RecoveryError::Running);
        }
        self.check_needed(&Stored::load(self.world.store.as_ref()).await?)
    }

    /// Fails on a node that writes. What it has recovered is not forgotten: it tells its contracts from
    /// others'.
    fn check_needed(&self, stored: &Stored) -> Result<(), RecoveryError> {
        let journal = self.journal.status();
        let fenced = journal.fenced.is_some() || self.book.writer().fenced().is_some();
        let writes = journal.mode == Mode::Active && !fenced && !self.is_unused();
        if writes && stored.step.is_final() { Err(RecoveryError::Active) } else { Ok(()) }
    }

    async fn steps(&self, context: &Context<'_>) -> Result<RecoveryReport, RecoveryError> {
        let started = self.world.clock.now();
        let store = self.world.store.as_ref();
        let mut stored = Stored::load(store).await?;
        self.check_needed(&stored)?;
        // One that was started and has neither stored nor formed anything may have been started by mistake.
        let unused = self.is_unused();
        if context.options.restart {
            progress::forget(store).await?;
            stored = Stored::default();
        }
        if stored.step.is_final() {
            // A claim of a run that has ended is not used again.
            stored.claimed = None;
        }
        // A resumed run has the rest of the chain before it.
        self.scan(context, &mut stored).await?;
        let live = self.live_now(context, &mut stored).await?;
        let mut report = RecoveryReport {
            peers: stored.peers,
            blocks: stored.blocks,
            contracts_found: stored.found.len() as u64,
            ..RecoveryReport::default()
        };
        report.contracts_live = live.len() as u64;
        if live.is_empty() {
            return self.nothing_found(&mut stored, report, started).await;
        }
        if unused {
            self.stop_unused().await?;
        }
        // Hosts take nothing under a contract that is over, though they may still show what they have.
        let over = self.are_over(&live).await?;
        let reading;
        let context = if over && !context.options.read_only {
            let options = RecoveryOptions { read_only: true, ..context.options.clone() };
            reading = Context { options, progress: context.progress };
            &reading
        } else {
            context
        };
        let mut claim = self.claim(context, &mut stored, live).await?;
        self.keep_heads(&claim).await?;
        claim.tell(&mut report);
        let mode = self.adopt(context, &mut stored, &claim, &mut report).await?;
        report.hosts_behind.dedup();
        let end = if mode == Mode::Active {
            self.take_over(&mut stored, &claim, &mut report).await?;
            report.outcome = RecoveryPhase::Done;
            report.next = Some(after_takeover(report.others.len()));
            Step::Done
        } else {
            report.outcome = RecoveryPhase::ReadOnly;
            report.next = Some(match over {
                true => OVER.to_owned(),
                false => next_step(&context.options, &mut claim),
            });
            Step::ReadOnly
        };
        self.end(&mut stored, end, report, started).await
    }

    /// Whether this node was started with its words and has made nothing of it.
    fn is_unused(&self) -> bool {
        let journal = self.journal.status();
        journal.mode == Mode::Active && journal.position == 0 && self.book.live().is_empty()
    }

    /// Stops a node that was started and not used: contracts of its words live, so its empty journal must
    /// never be written over theirs.
    async fn stop_unused(&self) -> Result<(), RecoveryError> {
        if !self.is_unused() {
            return Err(RecoveryError::Active);
        }
        // Above the epoch in which it was started, and below every one that is claimed.
        let counter = self.journal.status().epoch.counter;
        self.book.writer().fence(Epoch { counter, writer: [u8::MAX; 16] });
        // The journal's owner notes it before it answers the second message, with a refusal.
        self.journal.refresh().await;
        let _ = self.journal.confirm().await;
        Ok(())
    }

    async fn nothing_found(
        &self,
        stored: &mut Stored,
        mut report: RecoveryReport,
        started: u64,
    ) -> Result<RecoveryReport, RecoveryError> {
        let (peers, blocks) = (stored.peers, stored.blocks);
        report.outcome = RecoveryPhase::NothingFound { peers, blocks };
        report.next = Some(nothing_lives(&stored.found, blocks, peers));
        if stored.step != Step::Scanning {
            // Contracts have ended since an earlier run claimed them.
            stored.enter(Step::Scanning);
        }
        self.end(stored, Step::NothingFound, report, started).await
    }

    async fn end(
        &self,
        stored: &mut Stored,
        step: Step,
        mut report: RecoveryReport,
        started: u64,
    ) -> Result<RecoveryReport, RecoveryError> {
        report.elapsed = self.world.clock.now().saturating_sub(started);
        stored.enter(step);
        stored.report = Some(report.clone());
        stored.save(self.world.store.as_ref()).await?;
        Ok(report)
    }
}

/// That nothing lives of what was found, in plain words.
fn nothing_lives(found: &[FoundContract], blocks: u64, peers: u64) -> String {
    let what = match found.iter().map(|found| found.height).max() {
        None => format!("these words own nothing on this chain: {blocks} blocks were checked"),
        Some(last) => format!(
            "all {} contracts of these words have ended, the last of them formed in block {last}: \
             {blocks} blocks were checked. Files that were stored under them cannot be brought back",
            found.len()
        ),
    };
    let witness = if peers > 1 {
        format!("{peers} chain peers answered")
    } else {
        "only one chain peer answered: name another one and start again to be certain".into()
    };
    format!("{what}; {witness}")
}

/// How to go on when every contract's last period is over and the chain still closes the accounts.
const OVER: &str = "the terms of all contracts are over, so nothing can be written or renewed: get at once \
    what the hosts still give. Once the contracts are off the chain, `samara recover start --start-new` \
    starts new with these words";

/// How to go on after a takeover that met so many contracts of another lineage.
fn after_takeover(others: usize) -> String {
    let others = match others {
        0 => String::new(),
        count => format!(
            "; another node began with the same words: {count} contracts of it are named and left \
             alone, with what it may have stored"
        ),
    };
    format!("set the allowance, so that contracts are renewed in time{others}")
}

/// How to go on from reading to writing, in plain words.
fn next_step(options: &RecoveryOptions, claim: &mut Claim) -> String {
    const READ: &str = "files can be listed and read";
    let silent: Vec<bool> = claim.silent.iter().map(|_| true).collect();
    let lost = claim.newest().is_some_and(|newest| claim.is_lost(newest));
    if options.read_only {
        format!("{READ}; to write here, take over: `samara recover start`")
    } else if lost {
        format!(
            "{READ}; the contracts of so many hosts have ended that nobody can be certain of the newest \
             state any more: read what is there, and keep it under new words"
        )
    } else if claim.undecided {
        format!(
            "{READ}; two copies of the node wrote with these words, and the silent hosts tell which of \
             the two was acknowledged: start the recovery again when more hosts answer"
        )
    } else if claim.would_be_complete(&silent) {
        let names: Vec<String> =
            claim.silent.iter().map(|silent| silent.live.found.record.host.short()).collect();
        format!(
            "{READ}; start the recovery again when more hosts answer. If the silent hosts ({}) are gone \
             for good, give them up: `samara recover start --give-up HOST`, or --give-up-silent for all \
             of them, goes on without them",
            names.join(", ")
        )
    } else {
        format!(
            "{READ}; start the recovery again when more hosts answer. Giving the silent ones up does not \
             help: too few others hold the newest names. If they are gone for good these words can no \
             longer write: read what is there, and keep it under new words"
        )
    }
}
