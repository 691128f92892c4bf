//! The owner of the journal: one task, one loop.
//!
//! Each turn takes one outcome of a write, one message or one timer, and then brings things forward:
//! what is acknowledged, the base, spilling, writes that can start, callers that can be answered. A
//! slot has at most one write on its way. A host that is slow or fails is left behind: the head set's
//! quorum decides, and the host is brought up by a later append or full put.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::BlockHash;
use samara_protocol::host::message::MAX_HEAD;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::{HeadBase, Segment};
use samara_protocol::journal::{Change, Entry, HostIndex, JournalState};
use samara_protocol::keys::KeyTree;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Epoch, Millis};
use tokio::sync::{mpsc, oneshot};

use super::error::JournalError;
use super::handle::{
    Adopted, HeadHost, JournalOptions, JournalStatus, Message, SettleReport, Shared, may_write,
};
use super::local::{self, Loaded, LocalBase, Meta, Mode};
use super::slot::{Job, Slot, Written, base_bytes};
use super::spill;
use crate::contract::ContractBook;
use crate::slabs::Slabs;
use crate::world::{World, Write, random_bytes};

/// Messages that one round may take together.
const GROUP: usize = 256;
/// Full puts to hosts beyond the head set at one time: each has up to 1 MiB.
const SETTLING: usize = 16;
/// Bytes that sealing, framing and revisions yet to come may add to a slot.
const MARGIN: usize = 64 << 10;
/// Wait before another attempt to move entries into a slab.
const SPILL_RETRY: u64 = 10_000;

type Reply = oneshot::Sender<Result<JournalPoint, JournalError>>;

/// A caller that waits for a position.
struct Waiter {
    point: JournalPoint,
    reply: Reply,
}

/// Changes that wait for room in the heads.
pub(super) struct Group {
    changes: Vec<Change>,
    reply: Reply,
}

/// A caller that waits for hosts beyond the head set.
struct Settler {
    position: u64,
    needed: usize,
    reply: oneshot::Sender<SettleReport>,
}

enum Outcome {
    Written(ContractId, Written),
    Spilled(Result<Segment, String>),
}

pub(super) struct Owner {
    world: World,
    keys: Arc<KeyTree>,
    book: ContractBook,
    slabs: Slabs,
    options: JournalOptions,
    genesis: BlockHash,
    shared: Arc<Shared>,
    meta: Meta,
    base: LocalBase,
    /// Entries after the base's point, and the encoded length of each.
    tail: Vec<Entry>,
    lengths: Vec<usize>,
    /// The fold of all entries, acknowledged or not.
    working: JournalState,
    slots: BTreeMap<ContractId, Slot>,
    inflight: FuturesUnordered<BoxFuture<'static, Outcome>>,
    waiters: VecDeque<Waiter>,
    parked: VecDeque<Group>,
    settlers: Vec<Settler>,
    /// Hosts beyond the head set are brought up to here.
    settle_to: Option<u64>,
    spilling: bool,
    spill_at: u64,
    problem: Option<String>,
}

impl Owner {
    pub(super) fn new(
        world: World,
        keys: Arc<KeyTree>,
        book: ContractBook,
        slabs: Slabs,
        options: JournalOptions,
        loaded: Loaded,
        shared: Arc<Shared>,
    ) -> Self {
        let genesis = world.chain.genesis().hash();
        let Loaded { meta, base, tail, published, working } = loaded;
        let mut owner = Self {
            world,
            keys,
            book,
            slabs,
            options,
            genesis,
            shared,
            meta,
            base,
            lengths: tail.iter().map(|entry| encoding::encode(entry).len()).collect(),
            tail,
            working,
            slots: BTreeMap::new(),
            inflight: FuturesUnordered::new(),
            waiters: VecDeque::new(),
            parked: VecDeque::new(),
            settlers: Vec::new(),
            settle_to: None,
            spilling: false,
            spill_at: 0,
            problem: None,
        };
        owner.publish_state(published);
        owner.refresh_slots();
        owner.publish();
        owner
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
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
                () = timer => {}
            }
            self.advance().await;
        }
    }

    /// The next moment at which a host that was left behind is tried again.
    fn timer(&self) -> BoxFuture<'static, ()> {
        let now = self.world.clock.now();
        let waits = self.slots.values().filter(|slot| !slot.busy && self.is_behind(slot));
        let spill = (!self.parked.is_empty() && !self.spilling)
            .then(|| Millis(self.spill_at.saturating_sub(now)));
        match waits.map(|slot| slot.wait(now)).chain(spill).min() {
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
            Message::Refresh => {}
            Message::Start { epoch, reply } => answer(reply, self.start(epoch).await),
            Message::Adopt { adopted, reply } => answer(reply, self.adopt(*adopted).await),
            Message::Stop { reply } => {
                self.drop_waiters(&JournalError::Stopped);
                answer(reply, ());
            }
        }
    }

    async fn start(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        let meta = Meta { version: Meta::VERSION, mode: Mode::Active, epoch, ..Meta::default() };
        let base = LocalBase { number: 1, ..LocalBase::default() };
        self.world.store.commit(vec![local::put_base(&base), local::put_meta(&meta)]).await?;
        self.book.writer().claim(epoch);
        self.meta = meta;
        self.base = base;
        Ok(())
    }

    async fn adopt(&mut self, adopted: Adopted) -> Result<(), JournalError> {
        let meta = adopted.meta();
        let base = adopted.base(self.base.number.saturating_add(1));
        let mut state = JournalState::default();
        for entry in &adopted.entries {
            state.apply(entry).map_err(|error| JournalError::Damaged(error.to_string()))?;
        }
        local::replace(self.world.store.as_ref(), &meta, &base, &adopted.entries).await?;
        self.book.writer().claim(meta.epoch);
        let first = usize::try_from(base.point.position).unwrap_or(usize::MAX);
        self.tail = adopted.entries.get(first..).unwrap_or_default().to_vec();
        self.lengths = self.tail.iter().map(|entry| encoding::encode(entry).len()).collect();
        self.meta = meta;
        self.base = base;
        self.working = state.clone();
        self.slots.clear();
        self.settle_to = None;
        self.publish_state(state);
        Ok(())
    }

    fn may_write(&self) -> Result<(), JournalError> {
        may_write(self.meta.mode, self.meta.fenced.or_else(|| self.book.writer().fenced()))
    }

    /// Whether an append can be taken at all.
    fn ready(&mut self) -> Result<(), JournalError> {
        self.may_write()?;
        self.refresh_slots();
        if self.slots.is_empty() { Err(JournalError::NoHosts) } else { Ok(()) }
    }

    /// Takes parked groups in as long as the heads have room: entries are made, and durable here.
    async fn accept(&mut self) {
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
        if self.lengths.iter().sum::<usize>() + bytes > self.room() {
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

    fn entry(&self, change: Change) -> Entry {
        let salt = random_bytes(self.world.random.as_ref());
        Entry { time: self.world.clock.now(), salt, change }
    }

    fn push(&mut self, entry: Entry) {
        self.lengths.push(encoding::encode(&entry).len());
        self.tail.push(entry);
    }

    /// Bytes of entries that fit into every slot.
    fn room(&self) -> usize {
        MAX_HEAD.saturating_sub(MARGIN + base_bytes(&self.head_base()))
    }

    /// Forgets entries of the tail from `mark` on, which no host and no store has seen.
    fn roll_back(&mut self, mark: usize) {
        self.tail.truncate(mark);
        self.lengths.truncate(mark);
        let mut state =
            self.shared.published.read().unwrap_or_else(PoisonError::into_inner).clone();
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
            Outcome::Written(contract, written) => {
                if let Err(failure) = &written.result {
                    tracing::debug!(contract = %contract.short(), reason = failure.reason(), "head write failed");
                }
                if let Some(slot) = self.slots.get_mut(&contract) {
                    slot.settle(written, now);
                }
            }
            Outcome::Spilled(result) => {
                self.spilling = false;
                let done = match result {
                    Ok(segment) => self.take_segment(segment).await.map_err(|e| e.to_string()),
                    Err(reason) => Err(reason),
                };
                if let Err(reason) = done {
                    self.spill_at = now.saturating_add(SPILL_RETRY);
                    self.problem = Some(reason.clone());
                    for group in self.parked.drain(..) {
                        answer(group.reply, Err(JournalError::Spill(reason.clone())));
                    }
                }
            }
        }
    }

    /// The oldest entries lie in a slab now: the base names it.
    async fn take_segment(&mut self, segment: Segment) -> Result<(), JournalError> {
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

    async fn set_base(&mut self, base: LocalBase) -> Result<(), JournalError> {
        let writes = vec![local::put_base(&base), local::put_meta(&self.meta)];
        self.world.store.commit(writes).await?;
        self.base = base;
        Ok(())
    }

    /// Brings everything forward as far as it goes without waiting for a host.
    async fn advance(&mut self) {
        if let Some(by) = self.book.writer().fenced().filter(|_| self.meta.mode == Mode::Active) {
            self.fence(by).await;
        }
        if self.may_write().is_ok() {
            self.refresh_slots();
            self.acknowledge();
            if let Err(error) = self.shift_base().await {
                self.problem = Some(error.to_string());
            }
            self.start_spill();
            if !self.parked.is_empty() && !self.spilling {
                self.accept().await;
            }
            self.start_writes();
            self.give_up();
        }
        self.answer_settlers();
        self.publish();
    }

    async fn fence(&mut self, by: Epoch) {
        if self.meta.fenced != Some(by) {
            self.meta.fenced = Some(by);
            tracing::warn!(%by, "another node has taken over; this one stops writing");
            if let Err(error) = self.world.store.commit(vec![local::put_meta(&self.meta)]).await {
                // The next start learns it from any host.
                tracing::warn!(%error, "the fence could not be written down");
            }
        }
        self.drop_waiters(&JournalError::Fenced { by });
    }

    fn drop_waiters(&mut self, error: &JournalError) {
        for waiter in self.waiters.drain(..) {
            answer(waiter.reply, Err(error.clone()));
        }
        for group in self.parked.drain(..) {
            answer(group.reply, Err(error.clone()));
        }
    }

    /// A slot for each live contract; those that are gone are forgotten.
    fn refresh_slots(&mut self) {
        let live = self.book.live();
        self.slots.retain(|id, _| live.iter().any(|handle| handle.id() == *id));
        for handle in live {
            let id = handle.id();
            let keys = &self.keys;
            self.slots.entry(id).or_insert_with(|| Slot::new(handle, keys.head(&id)));
        }
    }

    /// Position that a write quorum holds under the present base.
    fn written(&self) -> Option<u64> {
        let number = self.base.number;
        let held = |slot: &Slot| {
            let image = slot.image.as_ref().filter(|image| image.base == number)?;
            Some((image.point.position, slot.handle.index()))
        };
        let mut held: Vec<(u64, HostIndex)> = self.slots.values().filter_map(held).collect();
        held.sort_unstable_by(|a, b| b.cmp(a));
        let mut hosts = Vec::new();
        for (position, index) in held {
            hosts.push(index);
            if self.base.head_set.is_written(&hosts) {
                return Some(position);
            }
        }
        None
    }

    /// Publishes what a quorum holds, and answers those who waited for it.
    fn acknowledge(&mut self) {
        let Some(written) = self.written() else { return };
        if written > self.meta.acknowledged {
            let skip = self.meta.acknowledged.saturating_sub(self.base.point.position);
            let count = written - self.meta.acknowledged;
            let span = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let mut state = self.shared.published.write().unwrap_or_else(PoisonError::into_inner);
            for entry in self.tail.iter().skip(span(skip)).take(span(count)) {
                if let Err(error) = state.apply(entry) {
                    tracing::error!(%error, "an accepted entry does not follow any more");
                }
            }
            drop(state);
            self.meta.acknowledged = written;
            self.problem = None;
        }
        while self.waiters.front().is_some_and(|waiter| waiter.point.position <= written) {
            if let Some(waiter) = self.waiters.pop_front() {
                answer(waiter.reply, Ok(waiter.point));
            }
        }
    }

    /// Ends a change of the head set that both sets hold, or starts one that is due.
    async fn shift_base(&mut self) -> Result<(), JournalError> {
        let set = &self.base.head_set;
        let mut base = self.base.clone();
        if set.previous.is_some() && self.written().is_some() {
            base.head_set.previous = None;
            base.number = base.number.saturating_add(1);
            return self.set_base(base).await;
        }
        let desired = super::members::choose(&set.hosts, &self.candidates());
        let live = |index: &HostIndex| desired.contains(index);
        let stuck = set.previous.is_some() && set.hosts.iter().all(live);
        if desired.is_empty() || desired == set.hosts || stuck {
            return Ok(());
        }
        // Hosts without a live contract hold no head any more, so they cannot be asked for a quorum.
        let before = set.previous.as_ref().unwrap_or(&set.hosts);
        let reachable =
            |index: &&HostIndex| self.slots.values().any(|s| s.handle.index() == **index);
        let before: Vec<HostIndex> = before.iter().filter(reachable).copied().collect();
        base.head_set.generation = base.head_set.generation.saturating_add(1);
        base.head_set.previous = (!before.is_empty()).then_some(before);
        base.head_set.hosts = desired;
        base.number = base.number.saturating_add(1);
        self.set_base(base).await
    }

    fn candidates(&self) -> Vec<super::members::Candidate> {
        let candidate = |slot: &Slot| super::members::Candidate {
            index: slot.handle.index(),
            operator: slot.handle.operator().to_owned(),
            failing: slot.failures >= 5,
        };
        // In the order of the hosts' numbers, which does not depend on random contract ids.
        let mut candidates: Vec<_> = self.slots.values().map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.index);
        candidates
    }

    fn is_member(&self, index: HostIndex) -> bool {
        let set = &self.base.head_set;
        set.hosts.contains(&index) || set.previous.as_ref().is_some_and(|p| p.contains(&index))
    }

    /// Whether a slot lacks something that it should hold.
    fn is_behind(&self, slot: &Slot) -> bool {
        if self.is_member(slot.handle.index()) {
            return !slot.holds(self.base.number, self.working.point.position);
        }
        self.settle_to.is_some_and(|to| slot.position().is_none_or(|position| position < to))
    }

    /// Starts every write that is due.
    fn start_writes(&mut self) {
        let now = self.world.clock.now();
        let settling = |slot: &&Slot| slot.busy && !self.is_member(slot.handle.index());
        let mut settling = self.slots.values().filter(settling).count();
        let mut due = Vec::new();
        let mut order: Vec<(&ContractId, &Slot)> = self.slots.iter().collect();
        order.sort_by_key(|(_, slot)| slot.handle.index());
        for (id, slot) in order {
            if slot.busy || slot.retry_at > now || !self.is_behind(slot) {
                continue;
            }
            if !self.is_member(slot.handle.index()) {
                if settling >= SETTLING {
                    continue;
                }
                settling += 1;
            }
            due.push(*id);
        }
        if due.is_empty() {
            return;
        }
        let base = Arc::new(self.head_base());
        for id in due {
            self.start_write(id, base.clone());
        }
    }

    fn start_write(&mut self, id: ContractId, base: Arc<HeadBase>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.busy = true;
        let job = Job {
            handle: slot.handle.clone(),
            key: slot.key.clone(),
            contract: id,
            genesis: self.genesis,
            epoch: self.meta.epoch,
            random: self.world.random.clone(),
            reports: self.book.reports().clone(),
            number: self.base.number,
            base,
            tail: self.tail.clone(),
            image: slot.image.clone(),
            sequence: slot.sequence,
            confirmed: slot.confirmed,
        };
        self.inflight.push(Box::pin(async move { Outcome::Written(id, job.run().await) }));
    }

    /// Hosts by number: the journal's, and those of the contract table that it numbers next.
    fn hosts(&self) -> Vec<PublicKey> {
        let mut hosts = self.working.hosts.clone();
        for row in self.book.hosts() {
            if usize::from(row.index.0) == hosts.len() {
                hosts.push(row.host);
            }
        }
        hosts
    }

    fn head_base(&self) -> HeadBase {
        let revisions =
            self.slots.values().map(|slot| (slot.handle.index(), slot.handle.revision().revision));
        let mut revisions: Vec<_> = revisions.collect();
        revisions.sort_by_key(|(index, _)| *index);
        HeadBase {
            epoch: self.meta.epoch,
            account: self.meta.account,
            head_set: self.base.head_set.clone(),
            hosts: self.hosts(),
            revisions,
            segments: self.base.segments.clone(),
            point: self.base.point,
        }
    }

    /// Tries members that were left behind at once, if the others cannot make a quorum.
    fn hurry(&mut self) {
        let healthy: Vec<HostIndex> =
            self.slots.values().filter(|s| s.failures == 0).map(|s| s.handle.index()).collect();
        if !self.base.head_set.is_written(&healthy) {
            for slot in self.slots.values_mut() {
                slot.retry_at = 0;
            }
        }
    }

    /// Answers those who wait for a quorum that cannot come now: no write is on its way.
    fn give_up(&mut self) {
        let under_way = |slot: &Slot| slot.busy && self.is_member(slot.handle.index());
        if self.waiters.is_empty() || self.slots.values().any(under_way) {
            return;
        }
        let members: Vec<HostIndex> = {
            let set = &self.base.head_set;
            set.hosts.iter().chain(set.previous.iter().flatten()).copied().collect()
        };
        let holds = |index: &&HostIndex| {
            let mut slots = self.slots.values();
            slots.any(|slot| {
                slot.handle.index() == **index
                    && slot.holds(self.base.number, self.working.point.position)
            })
        };
        let failures = self.slots.values().filter(|slot| self.is_member(slot.handle.index()));
        let error = JournalError::NoQuorum {
            written: members.iter().filter(holds).count(),
            members: members.len(),
            needed: samara_protocol::journal::quorum::Quorum::of(self.base.head_set.hosts.len())
                .write,
            failures: failures.filter_map(|slot| slot.problem.clone()).collect(),
        };
        self.problem = Some(error.to_string());
        for waiter in self.waiters.drain(..) {
            answer(waiter.reply, Err(error.clone()));
        }
    }

    fn start_spill(&mut self) {
        let now = self.world.clock.now();
        let count = self.meta.acknowledged.saturating_sub(self.base.point.position);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.tail.len());
        let bytes: usize = self.lengths[..count].iter().sum();
        if self.spilling || now < self.spill_at || bytes <= self.options.spill {
            return;
        }
        self.spilling = true;
        let (entries, from) = (self.tail[..count].to_vec(), self.base.point);
        let uploader = self.slabs.uploader();
        self.inflight.push(Box::pin(async move {
            Outcome::Spilled(spill::store(&uploader, from, entries).await)
        }));
    }

    /// Answers those who wait for hosts beyond the head set, if enough hold the position or no
    /// write is on its way.
    fn answer_settlers(&mut self) {
        if self.settlers.is_empty() {
            return;
        }
        let waiting = self.may_write().is_ok() && self.slots.values().any(|slot| slot.busy);
        let mut left = Vec::new();
        for settler in std::mem::take(&mut self.settlers) {
            let holds = |slot: &&Slot| slot.position().is_some_and(|at| at >= settler.position);
            let hosts_ok = self.slots.values().filter(holds).count();
            if hosts_ok < settler.needed && waiting {
                left.push(settler);
                continue;
            }
            let failures = self.slots.values().filter(|slot| !holds(slot));
            let report = SettleReport {
                hosts_ok,
                hosts_total: self.slots.len(),
                failures: failures.filter_map(|slot| slot.problem.clone()).collect(),
            };
            answer(settler.reply, report);
        }
        self.settlers = left;
    }

    fn publish_state(&self, state: JournalState) {
        *self.shared.published.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn publish(&self) {
        let head_host = |index: HostIndex| {
            let slot = self.slots.values().find(|slot| slot.handle.index() == index);
            HeadHost {
                index,
                position: slot.and_then(Slot::position),
                problem: slot.map_or_else(
                    || Some("it has no live contract".into()),
                    |slot| slot.problem.clone(),
                ),
            }
        };
        let acknowledged = self.meta.acknowledged;
        let holds = |slot: &&Slot| slot.position().is_some_and(|at| at >= acknowledged);
        let mut indexes: Vec<HostIndex> = self.slots.values().map(|s| s.handle.index()).collect();
        indexes.sort_unstable();
        let status = JournalStatus {
            mode: self.meta.mode,
            epoch: self.meta.epoch,
            account: self.meta.account,
            fenced: self.meta.fenced,
            acknowledged,
            position: self.working.point.position,
            head_set: self.base.head_set.hosts.iter().copied().map(head_host).collect(),
            hosts: indexes.into_iter().map(head_host).collect(),
            settled: self.slots.values().filter(holds).count(),
            segments: self.base.segments.len(),
            problem: self.problem.clone(),
        };
        self.shared.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}

/// Answers a caller, who may have gone: then nobody needs the answer.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}
