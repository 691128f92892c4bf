//! The owner of the journal: one task, one loop.
//!
//! Each turn takes one outcome of a write, one message or one timer, and then brings things forward:
//! what is acknowledged, the base, spilling, writes that can start, callers that can be answered. A
//! slot has at most one write on its way. A host that is slow or fails is left behind: the head set's
//! quorum decides, and the host is brought up by a later append or full put.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::BlockHash;
use samara_protocol::host::message::MAX_HEAD;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Segment;
use samara_protocol::journal::{Change, Entry, HostIndex, JournalState, SlabRecord};
use samara_protocol::keys::KeyTree;
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::{read, write};
use samara_protocol::units::{Epoch, Millis};
use tokio::sync::{mpsc, oneshot};

use super::error::JournalError;
use super::local::{self, Loaded, LocalBase, Meta, Mode};
use super::message::{Adopted, JournalOptions, Message, Named, SettleReport, Shared, may_write};
use super::slot::{Failure, Slot, Written, base_bytes};
use crate::checkpoint::{CheckpointError, Checkpoints, Made, Recorder};
use crate::contract::ContractBook;
use crate::slabs::Slabs;
use crate::transfer::UploadError;
use crate::world::{World, Write, random_bytes};

/// Messages that one round may take together.
const GROUP: usize = 256;
/// Bytes that sealing, framing and revisions yet to come may add to a slot.
const MARGIN: usize = 64 << 10;
/// Wait before another attempt to move entries into a slab.
pub(super) const SPILL_RETRY: u64 = 10_000;

pub(super) type Reply = oneshot::Sender<Result<JournalPoint, JournalError>>;

/// A caller that waits for a position.
pub(super) struct Waiter {
    pub(super) point: JournalPoint,
    pub(super) reply: Reply,
}

/// Changes that wait for room in the heads.
pub(super) struct Group {
    pub(super) changes: Vec<Change>,
    pub(super) reply: Reply,
}

/// A caller that waits for hosts beyond the head set.
pub(super) struct Settler {
    pub(super) position: u64,
    pub(super) needed: usize,
    pub(super) reply: oneshot::Sender<SettleReport>,
}

pub(super) enum Outcome {
    Written(Box<Written>),
    Spilled(Result<Segment, UploadError>),
    Checkpointed(Result<Box<Made>, CheckpointError>),
    /// The cache of nodes was tidied.
    Tidied,
}

pub(super) struct Owner {
    pub(super) world: World,
    pub(super) keys: Arc<KeyTree>,
    pub(super) book: ContractBook,
    pub(super) slabs: Slabs,
    pub(super) checkpoints: Checkpoints,
    pub(super) options: JournalOptions,
    pub(super) genesis: BlockHash,
    pub(super) shared: Arc<Shared>,
    pub(super) meta: Meta,
    pub(super) base: LocalBase,
    /// Entries after the base's point, and the encoded length of each.
    pub(super) tail: Vec<Entry>,
    pub(super) lengths: Vec<usize>,
    /// The fold of all entries, acknowledged or not.
    pub(super) working: JournalState,
    pub(super) slots: BTreeMap<ContractId, Slot>,
    /// Slots that this process has made.
    pub(super) slots_made: u64,
    /// Whether a read quorum's heads were compared with this journal since the process began. Nothing is
    /// written before: a folder that was set back would write its own changes to hosts that are behind,
    /// before it hears of those that others acknowledged.
    pub(super) compared: bool,
    pub(super) inflight: FuturesUnordered<BoxFuture<'static, Outcome>>,
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) parked: VecDeque<Group>,
    pub(super) settlers: Vec<Settler>,
    /// Hosts beyond the head set are brought up to here.
    pub(super) settle_to: Option<u64>,
    pub(super) spilling: bool,
    pub(super) spill_at: u64,
    /// What is to go into checkpoints.
    pub(super) recorder: Recorder,
    pub(super) checkpointing: bool,
    pub(super) checkpoint_at: u64,
    /// How often something was missing that the next cut builds upon.
    pub(super) checkpoint_failures: u32,
    /// Whether old copies of nodes are being removed: those of the next checkpoint must come later.
    pub(super) tidying: bool,
    /// A checkpoint that was written and that no head names yet.
    pub(super) made: Option<Box<Made>>,
    /// Checkpoints whose slabs are kept until the entry at a position, which tells of them, is
    /// acknowledged.
    pub(super) told: Vec<(u64, Arc<Made>)>,
    pub(super) problem: Option<String>,
}

impl Owner {
    pub(super) fn new(
        world: World,
        (keys, book, slabs, checkpoints): (Arc<KeyTree>, ContractBook, Slabs, Checkpoints),
        options: JournalOptions,
        loaded: Loaded,
        shared: Arc<Shared>,
    ) -> Self {
        let genesis = world.chain.genesis().hash();
        let Loaded { meta, base, tail, published, working, recorder } = loaded;
        let mut owner = Self {
            world,
            keys,
            book,
            slabs,
            checkpoints,
            options,
            genesis,
            shared,
            meta,
            base,
            lengths: tail.iter().map(|entry| encoding::encode(entry).len()).collect(),
            tail,
            working,
            slots: BTreeMap::new(),
            slots_made: 0,
            compared: false,
            inflight: FuturesUnordered::new(),
            waiters: VecDeque::new(),
            parked: VecDeque::new(),
            settlers: Vec::new(),
            settle_to: None,
            spilling: false,
            spill_at: 0,
            recorder,
            checkpointing: false,
            checkpoint_at: 0,
            checkpoint_failures: 0,
            tidying: false,
            made: None,
            told: Vec::new(),
            problem: None,
        };
        owner.publish_state(published);
        owner.publish_segments();
        owner.refresh_slots();
        owner.publish();
        owner
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut writer = self.book.writer().watch();
        self.advance().await;
        loop {
            let timer = self.timer();
            tokio::select! {
                biased;
                Some(outcome) = self.inflight.next() => self.outcome(outcome).await,
                message = inbox.recv() => match message {
                    None => return,
                    Some(Message::Stop { reply }) => {
                        self.drop_waiters(&JournalError::Stopped);
                        // The caller may have gone; nothing depends on it.
                        let _ = reply.send(());
                        return;
                    }
                    Some(message) => self.message(message, &mut inbox).await,
                },
                // A host has shown that another node has taken over.
                Ok(()) = writer.changed() => {}
                () = timer => {}
            }
            self.advance().await;
        }
    }

    /// The next moment at which something that waits is tried again: a host that was left behind, a spill,
    /// a checkpoint.
    fn timer(&self) -> BoxFuture<'static, ()> {
        let now = self.world.clock.now();
        let waits = self.slots.values().filter(|slot| !slot.busy && self.is_due(slot));
        let spill_waits = !self.parked.is_empty() && !self.spilling && self.spill_at > now;
        let spill = spill_waits.then(|| Millis(self.spill_at.saturating_sub(now)));
        let idle = !self.checkpointing && !self.tidying && !self.spilling;
        let retried = idle && now < self.checkpoint_at;
        let checkpoint = (retried && self.recorder.next().is_some())
            .then(|| Millis(self.checkpoint_at.saturating_sub(now)));
        match waits.map(|slot| slot.wait(now)).chain(spill).chain(checkpoint).min() {
            Some(wait) if self.may_write().is_ok() => self.world.clock.sleep(Millis(wait.0.max(1))),
            _ => Box::pin(futures::future::pending()),
        }
    }

    async fn message(&mut self, message: Message, inbox: &mut mpsc::Receiver<Message>) {
        match message {
            Message::Append { changes, reply } => {
                let mut groups = VecDeque::from([Group { changes, reply }]);
                let mut other = None;
                while groups.len() < GROUP && other.is_none() {
                    match inbox.try_recv() {
                        Ok(Message::Append { changes, reply }) => {
                            groups.push_back(Group { changes, reply });
                        }
                        Ok(message) => other = Some(message),
                        Err(_) => break,
                    }
                }
                self.parked.append(&mut groups);
                self.accept().await;
                if !self.parked.is_empty() {
                    // Hosts that are back make room for them.
                    self.hurry();
                }
                if let Some(message) = other {
                    self.single(message).await;
                }
            }
            message => self.single(message).await,
        }
    }

    async fn single(&mut self, message: Message) {
        match message {
            Message::Append { changes, reply } => {
                self.parked.push_back(Group { changes, reply });
                self.accept().await;
            }
            Message::Confirm { reply } => match self.ready() {
                Err(error) => answer(reply, Err(error)),
                Ok(()) => {
                    self.waiters.push_back(Waiter { point: self.working.point, reply });
                    self.hurry();
                }
            },
            Message::Settle { position, needed, reply } => {
                self.settle_to = Some(self.settle_to.unwrap_or(0).max(position));
                for slot in self.slots.values_mut() {
                    slot.retry_at = 0;
                }
                self.settlers.push(Settler { position, needed, reply });
            }
            Message::MoveSegments { records, reply } => {
                match self.move_segments(&records).await {
                    Ok(true) => {
                        // By position the heads that name the new places are newer than all before.
                        let changes = vec![Change::SlabsMoved(Vec::new())];
                        self.parked.push_back(Group { changes, reply });
                        self.accept().await;
                    }
                    Ok(false) => answer(reply, Ok(self.working.point)),
                    Err(error) => answer(reply, Err(error)),
                }
            }
            Message::Named { reply } => {
                let slabs = self.base.segments.iter().flat_map(|segment| &segment.slabs);
                let segments = slabs.cloned().collect();
                let still = !self.spilling && !self.checkpointing && self.made.is_none();
                let quiet = self.parked.is_empty() && still;
                answer(reply, Named { segments, quiet });
            }
            Message::Refresh => {}
            Message::Renew => {
                if self.may_write().is_ok() && !self.recorder.has_whole() {
                    self.recorder.cut_whole(&read(&self.shared.published));
                }
            }
            Message::Start { epoch, account, reply } => {
                answer(reply, self.start(epoch, account).await);
            }
            Message::Adopt { adopted, reply } => answer(reply, self.adopt(*adopted).await),
            Message::Stop { reply } => {
                self.drop_waiters(&JournalError::Stopped);
                answer(reply, ());
            }
        }
    }

    async fn start(&mut self, epoch: Epoch, account: u64) -> Result<(), JournalError> {
        let (version, mode) = (Meta::VERSION, Mode::Active);
        let meta = Meta { version, mode, epoch, account, ..Meta::default() };
        let base = LocalBase { number: 1, ..LocalBase::default() };
        self.world.store.commit(vec![local::put_base(&base), local::put_meta(&meta)]).await?;
        self.book.writer().claim(epoch);
        self.meta = meta;
        self.base = base;
        self.publish_segments();
        self.compared = true;
        Ok(())
    }

    async fn adopt(&mut self, adopted: Adopted) -> Result<(), JournalError> {
        let meta = adopted.meta();
        let base = adopted.base(self.base.number.saturating_add(1));
        let Adopted { mut state, entries, .. } = adopted;
        let first = state.point.position;
        let mut recorder = Recorder::default();
        for entry in &entries {
            let applied = recorder.apply(&mut state, entry, encoding::encode(entry).len());
            applied.map_err(|error| JournalError::Damaged(error.to_string()))?;
        }
        local::replace(self.world.store.as_ref(), &meta, &base, first, &entries).await?;
        self.book.writer().claim(meta.epoch);
        let skip = base.point.position.saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.tail = entries.get(skip..).unwrap_or_default().to_vec();
        self.lengths = self.tail.iter().map(|entry| encoding::encode(entry).len()).collect();
        self.recorder = recorder;
        self.told.clear();
        self.meta = meta;
        self.base = base;
        self.working = state.clone();
        self.slots.clear();
        (self.spill_at, self.checkpoint_at, self.checkpoint_failures) = (0, 0, 0);
        (self.made, self.problem) = (None, None);
        // The recovery has heard the quorum.
        self.compared = true;
        self.settle_to = None;
        self.publish_state(state);
        self.publish_segments();
        Ok(())
    }

    pub(super) fn may_write(&self) -> Result<(), JournalError> {
        let fenced = self.book.writer().fenced().filter(|_| self.meta.mode == Mode::Active);
        may_write(self.meta.mode, self.meta.fenced.or(fenced))
    }

    /// Whether an append can be taken at all.
    fn ready(&mut self) -> Result<(), JournalError> {
        self.may_write()?;
        self.refresh_slots();
        if self.slots.is_empty() { Err(JournalError::NoHosts) } else { Ok(()) }
    }

    /// Takes parked groups in as long as the heads have room: entries are made, and durable here.
    pub(super) async fn accept(&mut self) {
        if let Err(error) = self.ready() {
            for group in self.parked.drain(..) {
                answer(group.reply, Err(error.clone()));
            }
            return;
        }
        let from = self.tail.len();
        let mut waiters = Vec::new();
        self.take_hosts();
        while let Some(group) = self.parked.pop_front() {
            let mark = self.tail.len();
            match self.take_group(&group.changes) {
                Ok(true) => waiters.push(Waiter { point: self.working.point, reply: group.reply }),
                Ok(false) => {
                    self.parked.push_front(group);
                    break;
                }
                Err(error) => {
                    self.roll_back(mark);
                    answer(group.reply, Err(error));
                }
            }
        }
        if self.tail.len() == from {
            waiters.into_iter().for_each(|waiter| self.waiters.push_back(waiter));
            return;
        }
        let first = self.base.point.position.saturating_add(from as u64);
        let mut writes: Vec<Write> = (first..)
            .zip(&self.tail[from..])
            .map(|(position, entry)| local::put_entry(position, entry))
            .collect();
        writes.push(local::put_meta(&self.meta));
        match self.world.store.commit(writes).await {
            Ok(()) => {
                waiters.into_iter().for_each(|waiter| self.waiters.push_back(waiter));
                self.hurry();
            }
            Err(error) => {
                self.roll_back(from);
                for waiter in waiters {
                    answer(waiter.reply, Err(error.clone().into()));
                }
            }
        }
    }

    /// Hosts of the contract table that the journal does not number yet.
    fn take_hosts(&mut self) {
        for row in self.book.hosts() {
            if usize::from(row.index.0) == self.working.hosts.len() {
                let entry = self.entry(Change::HostAdded { index: row.index, host: row.host });
                if self.working.apply(&entry).is_ok() {
                    self.push(entry);
                }
            } else if self.working.hosts.get(usize::from(row.index.0)) != Some(&row.host) {
                tracing::error!(index = row.index.0, host = %row.host, "host number is not the journal's");
            }
        }
    }

    /// Makes entries of changes; `false` if the heads have no room for them now.
    fn take_group(&mut self, changes: &[Change]) -> Result<bool, JournalError> {
        let entries: Vec<Entry> = changes.iter().map(|c| self.entry(c.clone())).collect();
        let bytes: usize = entries.iter().map(|entry| encoding::encode(entry).len()).sum();
        if bytes > self.options.append {
            return Err(JournalError::TooLarge { bytes, limit: self.options.append });
        }
        if self.lengths.iter().sum::<usize>() + bytes > self.room_upon(&self.base) {
            return Ok(false);
        }
        for mut entry in entries {
            match &mut entry.change {
                Change::Vault { vault, number, .. } => {
                    *number = self.working.vaults.get(vault).map_or(0, |vault| vault.next);
                }
                Change::HostAdded { index, host } => {
                    if self.working.hosts.contains(host) {
                        continue;
                    }
                    *index = HostIndex(u16::try_from(self.working.hosts.len()).unwrap_or(u16::MAX));
                }
                _ => {}
            }
            self.working.apply(&entry)?;
            self.push(entry);
        }
        Ok(true)
    }

    pub(super) fn entry(&self, change: Change) -> Entry {
        let salt = random_bytes(self.world.random.as_ref());
        Entry { time: self.world.clock.now(), salt, change }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.lengths.push(encoding::encode(&entry).len());
        self.tail.push(entry);
    }

    /// Bytes of entries that fit into every slot upon a base.
    pub(super) fn room_upon(&self, base: &LocalBase) -> usize {
        // Every origin is as long as this one.
        let base = self.head_base(base, PublicKey([0; 32]));
        MAX_HEAD.saturating_sub(MARGIN + base_bytes(&base))
    }

    /// Forgets entries of the tail from `mark` on, which no host and no store has seen.
    pub(super) fn roll_back(&mut self, mark: usize) {
        self.tail.truncate(mark);
        self.lengths.truncate(mark);
        let mut state = read(&self.shared.published).clone();
        let skip = state.point.position.saturating_sub(self.base.point.position);
        for entry in self.tail.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
            if let Err(error) = state.apply(entry) {
                tracing::error!(%error, "an accepted entry does not follow any more");
            }
        }
        self.working = state;
    }

    async fn outcome(&mut self, outcome: Outcome) {
        let now = self.world.clock.now();
        match outcome {
            Outcome::Written(written) => {
                let contract = written.contract;
                let slot = self.slots.get_mut(&contract);
                let Some(slot) = slot.filter(|slot| slot.serial == written.serial) else { return };
                if let Err(failure) = &written.result {
                    if failure.diverged() {
                        tracing::error!(
                            reason = failure.reason(),
                            "this folder is an older copy, or a copy is in use: it stops writing"
                        );
                    }
                    tracing::debug!(contract = %contract.short(), reason = failure.reason(), "head write failed");
                }
                let diverged = written.result.as_ref().is_err_and(Failure::diverged);
                slot.settle(*written, now);
                if diverged {
                    // Recovering here claims a new epoch over the newest head.
                    self.fence(self.meta.epoch).await;
                }
            }
            Outcome::Tidied => self.tidying = false,
            Outcome::Checkpointed(result) => {
                self.checkpoint_written(result);
            }
            Outcome::Spilled(result) => {
                self.spilling = false;
                let done = match result {
                    Ok(segment) => self.take_segment(segment).await.map_err(|e| e.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(reason) = done {
                    self.spill_at = now.saturating_add(SPILL_RETRY);
                    self.problem = Some(reason.clone());
                    for group in self.parked.drain(..) {
                        answer(group.reply, Err(JournalError::HeadsFull(reason.clone())));
                    }
                }
            }
        }
    }

    /// The oldest entries lie in a slab now: the base names it.
    async fn take_segment(&mut self, segment: Segment) -> Result<(), JournalError> {
        if segment.from != self.base.point {
            // Another journal was adopted while it was on its way.
            return Ok(());
        }
        let count = usize::try_from(segment.entries).unwrap_or(usize::MAX).min(self.tail.len());
        let point = self.tail[..count].iter().fold(segment.from, |point, e| point.after(e));
        let mut base = self.base.clone();
        base.number = base.number.saturating_add(1);
        base.segments.push(segment);
        base.point = point;
        self.set_base(base).await?;
        self.tail.drain(..count);
        self.lengths.drain(..count);
        Ok(())
    }

    /// Names other hosts for slabs of segments; whether anything changed.
    async fn move_segments(&mut self, records: &[SlabRecord]) -> Result<bool, JournalError> {
        self.ready()?;
        let mut base = self.base.clone();
        for slab in base.segments.iter_mut().flat_map(|segment| &mut segment.slabs) {
            if let Some(record) = records.iter().find(|record| record.replaces(slab)) {
                slab.clone_from(record);
            }
        }
        if base == self.base {
            return Ok(false);
        }
        base.number = base.number.saturating_add(1);
        self.set_base(base).await.map(|()| true)
    }

    pub(super) async fn set_base(&mut self, base: LocalBase) -> Result<(), JournalError> {
        let writes = [local::put_base(&base), local::put_meta(&self.meta)];
        let writes = local::put_points(&base).chain(writes).collect();
        self.world.store.commit(writes).await?;
        self.base = base;
        self.publish_segments();
        Ok(())
    }

    pub(super) fn publish_segments(&self) {
        let slabs = self.base.segments.iter().flat_map(|segment| &segment.slabs).cloned();
        let slabs = Arc::new(slabs.collect());
        *write(&self.shared.segments) = slabs;
    }
}

/// Answers a caller, who may have gone: then nobody needs the answer.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}
