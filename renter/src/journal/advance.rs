//! What moves by itself in each turn of the owner: acknowledgements, the base and its head set, spilling,
//! writes to slots, callers that can be answered, the published status.

use std::collections::BTreeSet;
use std::sync::Arc;

use samara_protocol::contract::ContractId;
use samara_protocol::journal::head::HeadBase;
use samara_protocol::journal::quorum::Quorum;
use samara_protocol::journal::{HostIndex, JournalState};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::write;
use samara_protocol::units::Epoch;

use super::error::JournalError;
use super::local::{self, LocalBase, Mode};
use super::members::{Candidate, choose};
use super::message::{HeadHost, JournalStatus, SettleReport};
use super::owner::{Outcome, Owner, SPILL_RETRY, answer};
use super::slot::{Job, Slot};
use super::spill;

/// Full puts to hosts beyond the head set at one time: each has up to 1 MiB.
const SETTLING: usize = 16;

impl Owner {
    /// Brings everything forward as far as it goes without waiting for a host.
    pub(super) async fn advance(&mut self) {
        if let Some(by) = self.book.writer().fenced().filter(|_| self.meta.mode == Mode::Active) {
            self.fence(by).await;
        }
        if self.may_write().is_ok() {
            self.refresh_slots();
            // The next append writes the mark too; without one it is written now, so that a restart
            // lists what was acknowledged before any host has answered it.
            if self.acknowledge() && self.parked.is_empty() {
                self.write_mark().await;
            }
            if let Err(error) = self.shift_base().await {
                self.problem = Some(error.to_string());
            }
            if let Err(error) = self.take_checkpoint().await {
                self.problem = Some(error.to_string());
                self.checkpoint_at = self.world.clock.now().saturating_add(SPILL_RETRY);
            }
            self.start_spill();
            self.start_checkpoint();
            if !self.parked.is_empty() && !self.spilling {
                self.accept().await;
            }
            self.start_writes();
            self.give_up();
        }
        self.answer_settlers();
        self.publish();
    }

    pub(super) async fn fence(&mut self, by: Epoch) {
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

    pub(super) fn drop_waiters(&mut self, error: &JournalError) {
        for waiter in self.waiters.drain(..) {
            answer(waiter.reply, Err(error.clone()));
        }
        for group in self.parked.drain(..) {
            answer(group.reply, Err(error.clone()));
        }
    }

    /// A slot for each live contract; those that are gone are forgotten.
    pub(super) fn refresh_slots(&mut self) {
        let live = self.book.live();
        self.slots.retain(|id, _| live.iter().any(|handle| handle.id() == *id));
        for handle in live {
            let id = handle.id();
            let (keys, made) = (&self.keys, &mut self.slots_made);
            self.slots.entry(id).or_insert_with(|| {
                *made += 1;
                Slot::new(*made, handle, keys.head(&id))
            });
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
        let (mut hosts, ended) = (Vec::new(), self.book.ended());
        for (position, index) in held {
            hosts.push(index);
            if self.base.head_set.is_written(&hosts, &ended) {
                return Some(position);
            }
        }
        None
    }

    /// Writes down what is acknowledged.
    async fn write_mark(&mut self) {
        if let Err(error) = self.world.store.commit(vec![local::put_meta(&self.meta)]).await {
            // Nothing is lost by it: the next start asks the hosts.
            tracing::warn!(%error, "what is acknowledged could not be written down");
        }
    }

    /// Publishes what a quorum holds, and answers those who waited for it. Gives whether that is more
    /// than before.
    fn acknowledge(&mut self) -> bool {
        let Some(written) = self.written() else { return false };
        let more = written > self.meta.acknowledged;
        if more {
            let skip = self.meta.acknowledged.saturating_sub(self.base.point.position);
            let count = written - self.meta.acknowledged;
            let span = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let mut state = write(&self.shared.published);
            let entries = self.tail.iter().zip(&self.lengths).skip(span(skip)).take(span(count));
            for (entry, length) in entries {
                if let Err(error) = self.recorder.apply(&mut state, entry, *length) {
                    tracing::error!(%error, "an accepted entry does not follow any more");
                }
            }
            drop(state);
            self.meta.acknowledged = written;
            self.told.retain(|(position, _)| *position >= written);
            self.problem = None;
        }
        if self.waiters.front().is_some_and(|waiter| waiter.point.position <= written) {
            // Who is answered may look at who holds it.
            self.publish();
        }
        while self.waiters.front().is_some_and(|waiter| waiter.point.position <= written) {
            if let Some(waiter) = self.waiters.pop_front() {
                answer(waiter.reply, Ok(waiter.point));
            }
        }
        more
    }

    /// Ends a change of the head set that both sets hold, or starts one that is due.
    async fn shift_base(&mut self) -> Result<(), JournalError> {
        if self.base.origin.is_none() {
            let first = self.slots.values().min_by_key(|slot| slot.handle.index());
            let Some(origin) = first.map(|slot| slot.handle.id()) else { return Ok(()) };
            self.set_base(LocalBase { origin: Some(origin), ..self.base.clone() }).await?;
        }
        let set = &self.base.head_set;
        let mut base = self.base.clone();
        if !set.previous.is_empty() && self.written().is_some() {
            base.head_set.previous.clear();
            base.number = base.number.saturating_add(1);
            return self.set_base(base).await;
        }
        let desired = choose(&set.hosts, &self.candidates());
        let live = |index: &HostIndex| desired.contains(index);
        let stuck = !set.previous.is_empty() && set.hosts.iter().all(live);
        if desired.is_empty() || desired == set.hosts || stuck {
            return Ok(());
        }
        // A change of this node that is not done yet is forgotten for the next: nothing was ever
        // acknowledged by its set, and nobody has seen that set alone. The sets before stay whole;
        // members that have ended count as holding the head.
        if set.previous.is_empty() {
            base.head_set = set.followed_by(desired);
        } else {
            base.head_set.generation = set.generation.saturating_add(1);
            base.head_set.hosts = desired;
        }
        base.number = base.number.saturating_add(1);
        self.set_base(base).await
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |slot: &Slot| Candidate {
            index: slot.handle.index(),
            operator: slot.handle.operator().to_owned(),
            failing: slot.failures >= 5,
        };
        let ended = self.book.ended();
        let counts = |slot: &&Slot| !ended.contains(&slot.handle.index());
        let mut candidates: Vec<_> = self.slots.values().filter(counts).map(candidate).collect();
        // A silent member stays until a better host takes its place: a smaller set bears less.
        let awaited = self.book.awaited().into_iter().filter(|(index, _)| self.is_member(*index));
        let silent = |(index, operator)| Candidate { index, operator, failing: true };
        candidates.extend(awaited.map(silent));
        // In the order of the hosts' numbers, which does not depend on random contract ids.
        candidates.sort_by_key(|candidate| candidate.index);
        candidates
    }

    fn is_member(&self, index: HostIndex) -> bool {
        self.base.head_set.contains(index)
    }

    /// Whether a slot lacks something that it should hold.
    pub(super) fn is_behind(&self, slot: &Slot) -> bool {
        if self.is_member(slot.handle.index()) {
            return !slot.holds(self.base.number, self.working.point.position);
        }
        self.settle_to.is_some_and(|to| slot.position().is_none_or(|position| position < to))
    }

    /// Whether a call to a slot's host is to be made: to compare its head before all else, then to bring
    /// it what it lacks.
    pub(super) fn is_due(&self, slot: &Slot) -> bool {
        if self.compared {
            return self.is_behind(slot);
        }
        self.is_member(slot.handle.index()) && !slot.compared
    }

    /// Whether so many members' heads were compared that no acknowledged change can have been missed:
    /// a read quorum of each set, or of one that has lost its own for good, all that are left.
    fn has_compared(&self) -> bool {
        let ended = self.book.ended();
        let compared: Vec<HostIndex> =
            self.slots.values().filter(|s| s.compared).map(|s| s.handle.index()).collect();
        self.base.head_set.all_sets().all(|set| {
            let open: Vec<_> = set.iter().filter(|index| !ended.contains(index)).collect();
            let heard = open.iter().filter(|index| compared.contains(index)).count();
            heard >= Quorum::of(set.len()).read || heard == open.len()
        })
    }

    /// Starts every call that is due.
    fn start_writes(&mut self) {
        // A journal without a name could not be told from another one's.
        let Some(origin) = self.base.origin else { return };
        self.compared = self.compared || self.has_compared();
        let now = self.world.clock.now();
        let settling = |slot: &&Slot| slot.busy && !self.is_member(slot.handle.index());
        let mut settling = self.slots.values().filter(settling).count();
        let mut due = Vec::new();
        let mut order: Vec<(&ContractId, &Slot)> = self.slots.iter().collect();
        order.sort_by_key(|(_, slot)| slot.handle.index());
        for (id, slot) in order {
            if slot.busy || slot.retry_at > now || !self.is_due(slot) {
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
        let base = Arc::new(self.head_base(&self.base, origin));
        for id in due {
            self.start_write(id, base.clone());
        }
    }

    fn start_write(&mut self, id: ContractId, base: Arc<HeadBase>) {
        let compares = !self.compared;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.busy = true;
        let job = Job {
            serial: slot.serial,
            compares,
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
            store: self.world.store.clone(),
        };
        self.inflight.push(Box::pin(async move { Outcome::Written(Box::new(job.run().await)) }));
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

    /// What heads upon a base begin with.
    pub(super) fn head_base(&self, base: &LocalBase, origin: ContractId) -> HeadBase {
        let revisions =
            self.slots.values().map(|slot| (slot.handle.index(), slot.handle.revision().revision));
        let mut revisions: Vec<_> = revisions.collect();
        revisions.sort_by_key(|(index, _)| *index);
        HeadBase {
            epoch: self.meta.epoch,
            origin,
            account: self.meta.account,
            head_set: base.head_set.clone(),
            hosts: self.hosts(),
            revisions,
            checkpoint: base.checkpoint.clone(),
            segments: base.segments.clone(),
            point: base.point,
        }
    }

    /// Tries members that were left behind at once, if the others cannot make a quorum.
    pub(super) fn hurry(&mut self) {
        let healthy: Vec<HostIndex> =
            self.slots.values().filter(|s| s.failures == 0).map(|s| s.handle.index()).collect();
        if !self.base.head_set.is_written(&healthy, &self.book.ended()) {
            for slot in self.slots.values_mut() {
                slot.retry_at = 0;
            }
        }
    }

    /// Answers those who wait for a quorum that cannot come now, for no write is on its way, and those
    /// whose changes get no room without it.
    fn give_up(&mut self) {
        let under_way = |slot: &Slot| slot.busy && self.is_member(slot.handle.index());
        if self.slots.values().any(under_way) {
            return;
        }
        if self.gets_no_room() {
            let reason = "too few hosts hold what is in them";
            for group in self.parked.drain(..) {
                answer(group.reply, Err(JournalError::HeadsFull(reason.into())));
            }
        }
        if self.waiters.is_empty() {
            return;
        }
        let set = &self.base.head_set;
        let members: BTreeSet<HostIndex> = set.all_sets().flatten().copied().collect();
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
            needed: Quorum::of(self.base.head_set.hosts.len()).write,
            failures: failures.filter_map(|slot| slot.problem.clone()).collect(),
        };
        self.problem = Some(error.to_string());
        for waiter in self.waiters.drain(..) {
            answer(waiter.reply, Err(error.clone()));
        }
    }

    /// Whether nothing that is under way makes room in the heads for changes that wait for it: what is
    /// acknowledged goes into slabs, and a checkpoint takes their place.
    fn gets_no_room(&self) -> bool {
        let spills = self.spilling || self.may_spill_all();
        let writes = self.checkpointing || self.tidying || self.made.is_some();
        !spills && !writes
    }

    /// Whether there are entries behind the base and all of them are acknowledged, so that they can all be
    /// spilled, and waiting makes no more of them.
    fn may_spill_all(&self) -> bool {
        !self.tail.is_empty() && self.meta.acknowledged >= self.working.point.position
    }

    fn start_spill(&mut self) {
        let now = self.world.clock.now();
        let count = self.meta.acknowledged.saturating_sub(self.base.point.position);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.tail.len());
        let bytes: usize = self.lengths[..count].iter().sum();
        // Where changes have no room and nothing more comes to be acknowledged, less is spilled.
        let makes_room = !self.parked.is_empty() && self.may_spill_all();
        let is_due = bytes > self.options.spill || makes_room;
        if self.spilling || now < self.spill_at || !is_due {
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
                hosts_total: self.slots.len() + self.book.awaited().len(),
                failures: failures.filter_map(|slot| slot.problem.clone()).collect(),
            };
            answer(settler.reply, report);
        }
        self.settlers = left;
    }

    pub(super) fn publish_state(&self, state: JournalState) {
        *write(&self.shared.published) = state;
    }

    pub(super) fn publish(&self) {
        let head_host = |index: HostIndex| {
            let slot = self.slots.values().find(|slot| slot.handle.index() == index);
            HeadHost {
                index,
                position: slot.and_then(Slot::position),
                problem: slot.map_or_else(
                    || Some("it has no contract in use".into()),
                    |slot| slot.problem.clone(),
                ),
            }
        };
        let acknowledged = self.meta.acknowledged;
        let holds = |slot: &&Slot| slot.position().is_some_and(|at| at >= acknowledged);
        let mut indexes: Vec<HostIndex> = self.slots.values().map(|s| s.handle.index()).collect();
        // Their contracts live, so they are among the survivors that are reckoned with.
        indexes.extend(self.book.awaited().into_iter().map(|(index, _)| index));
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
            checkpoint: self.base.checkpoint.as_ref().map(|checkpoint| checkpoint.point.position),
            segments: self.base.segments.len(),
            uncut: self.recorder.waiting_bytes(),
            problem: self.problem.clone(),
        };
        self.shared.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}
