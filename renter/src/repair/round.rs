//! The steps: silent hosts are asked, audits made, slabs counted, the most urgent ones repaired.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{Change, HostIndex, SlabRecord};
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;

use super::damage::Lost;
use super::health::{Census, Examined, HeldBack, Moved, record_of};
use super::mend::{MendError, Mended, Mending};
use super::report::{HeldRow, Repairing, StoryRow, UnsoundHostRow};
use super::standing::Standings;
use super::{Counted, HELD, Inner, Repair, STORY, Work};
use crate::contract::ContractHandle;
use crate::journal::JournalError;
use crate::transfer::SlabClass;

/// Most slabs that are repaired before the journal is told of them together.
const BATCH: usize = 8;
/// Longest time that the journal is not told of a repair that is made: a crash loses it.
const TELL: Millis = Millis::seconds(10);
/// A host is asked whether it is there when it has not answered for a part of the patience.
const QUIET: u64 = 3;
/// Longest time between two such questions to a host that fails, milliseconds.
const PROBE: u64 = 20_000;
/// Hosts asked at once.
const PROBES: usize = 16;
/// How old a census may be while there is work from it.
const STALE: u64 = 60_000;
/// How long a repair that failed waits, unless the hosts change.
const RETRY: u64 = 300_000;
/// Most repairs of a class that wait each by itself. If more fail, all of the class wait.
pub(super) const MOST_HELD: usize = if cfg!(test) { 16 } else { 4_096 };

/// A slab chosen for repair.
struct Chosen {
    class: SlabClass,
    record: SlabRecord,
    examined: Examined,
}

impl Chosen {
    fn is_metadata(&self) -> bool {
        self.class == SlabClass::Metadata
    }

    /// What its repair moves at most.
    fn moved(&self) -> Moved {
        Moved::to_repair(&self.record, self.examined.missing.len())
    }
}

impl Repair {
    /// Asks silent hosts and counts slabs.
    pub(super) async fn watch(&self) {
        let may = self.may();
        let may_write = may.is_ok();
        let off = || (self.0.options.bandwidth == 0).then(|| "repair is switched off".to_owned());
        self.seen().idle = may.err().or_else(off);
        if may_write {
            self.probe().await;
            self.count().await;
        }
    }

    /// Makes an audit; whether another can be made at once.
    pub(super) async fn audit(&self) -> bool {
        if self.may().is_err() {
            return false;
        }
        let mut auditor = self.0.auditor.lock().await;
        let more = auditor.run(&self.standings(), &self.0.damage).await;
        self.seen().audits = auditor.totals();
        more
    }

    fn standings(&self) -> Standings {
        Standings::of(&self.0.book, &self.0.options)
    }

    /// Asks hosts that fail or have not been heard of for long, so that silence is known and ends.
    async fn probe(&self) {
        let book = &self.0.book;
        let now = self.0.world.clock.now();
        let quiet_for = self.0.options.patience.0 / QUIET;
        if now.saturating_sub(self.0.probed.load(Ordering::Relaxed)) < PROBE.min(quiet_for) {
            return;
        }
        self.0.probed.store(now, Ordering::Relaxed);
        let quiet = |contract: &ContractHandle| {
            let health = book.reports().health(&contract.host());
            health.failing > 0 || now.saturating_sub(health.last_answer) >= quiet_for
        };
        let quiet: Vec<ContractHandle> = book.live().into_iter().filter(quiet).collect();
        let asking = quiet.into_iter().map(|contract| async move {
            // The link reports what comes of it.
            let _ = contract.latest().await;
        });
        futures::stream::iter(asking).buffer_unordered(PROBES).collect::<Vec<()>>().await;
    }

    /// Takes a census, if anything has changed and the last one is used up or old, and shows it.
    async fn count(&self) {
        let mut work = self.0.work.lock().await;
        let standings = self.standings();
        if self.is_due(&mut work, &standings) {
            self.take_census(&mut work, &standings).await;
            self.0.censuses.send_replace(());
        }
        self.show(&work, &standings);
    }

    /// Whether a census is to be taken.
    fn is_due(&self, work: &mut Work, standings: &Standings) -> bool {
        let now = self.0.world.clock.now();
        let before = work.held.len();
        let hosts_changed =
            work.counted.as_ref().is_none_or(|c| !c.standings.agrees_with(standings));
        if hosts_changed {
            work.held.clear();
            work.full.clear();
        }
        work.held.retain(|_, held| held.until > now);
        work.full.retain(|_, until| *until > now);
        let again = work.held.len() < before;
        let Some(counted) = &work.counted else { return true };
        let same = counted.position == self.0.journal.status().acknowledged
            && *counted.segments == *self.0.journal.segment_slabs();
        let queues = &work.census.queues;
        let used_up = queues.are_empty() || now.saturating_sub(work.census.at) >= STALE;
        let lost = self.0.damage.now().version;
        let want_more = queues.want_more(|class| !work.full.contains_key(&class));
        again || hosts_changed || counted.lost != lost || want_more || (!same && used_up)
    }

    async fn take_census(&self, work: &mut Work, standings: &Standings) {
        let Inner { world, journal, damage, .. } = &*self.0;
        let (position, segments) = (journal.status().acknowledged, journal.segment_slabs());
        for slab in damage.now().slabs() {
            let record = record_of(journal, &slab).map(|(_, record)| record);
            damage.keep_only(&slab, record.as_ref()).await;
        }
        let lost = damage.now();
        work.census = Census::take(world, journal, standings, &lost, &work.held).await;
        (work.mended, work.moved) = (0, Moved::default());
        self.0.slabs.set_unreadable(work.census.unreadable.clone());
        self.renew_metadata(&work.census.lost_metadata).await;
        let (standings, lost) = (standings.clone(), lost.version);
        work.counted = Some(Counted { standings, lost, position, segments });
    }

    /// What the hosts have lost of the metadata in use is known here: it is written anew. Without it this
    /// node goes on, and a recovery from the words would not.
    async fn renew_metadata(&self, lost: &BTreeSet<SlabId>) {
        let journal = &self.0.journal;
        let segments = journal.segment_slabs();
        let lost = segments.iter().any(|record| lost.contains(&record.id))
            || journal.read(|state| {
                let mut checkpoints = state.checkpoint.iter();
                checkpoints.any(|name| name.slabs().any(|slab| lost.contains(&slab)))
            });
        if lost {
            tracing::warn!("metadata is lost at the hosts; it is written anew");
            journal.renew().await;
        }
    }

    /// Takes the most urgent slab out of a queue that still wants repair.
    fn choose(&self, work: &mut Work, class: SlabClass, standings: &Standings) -> Option<Chosen> {
        let lost: Lost = self.0.damage.now();
        while let Some(slab) = work.census.queues.of(class).pop() {
            if work.held.contains_key(&slab) {
                continue;
            }
            let Some((class, record)) = record_of(&self.0.journal, &slab) else { continue };
            let examined = Examined::of(&record, standings, &lost);
            if examined.wants_repair() {
                return Some(Chosen { class, record, examined });
            }
        }
        None
    }

    /// Repairs the most urgent slabs of a class; whether there may be more.
    pub(super) async fn repair(&self, class: SlabClass) -> bool {
        if self.0.options.bandwidth == 0 || self.may().is_err() {
            return false;
        }
        let turn = match class {
            SlabClass::Metadata => &self.0.names,
            SlabClass::Data => &self.0.files,
        };
        let _turn = turn.lock().await;
        let any = self.repair_batch(class).await;
        self.count().await;
        let mut work = self.0.work.lock().await;
        any || (!work.full.contains_key(&class) && !work.census.queues.of(class).is_empty())
    }

    /// Repairs slabs and tells the journal of them, soon after each; whether any is repaired.
    async fn repair_batch(&self, class: SlabClass) -> bool {
        let repairs = futures::stream::iter(0..BATCH).map(|_| self.repair_next(class));
        let mut repairs = pin!(repairs.buffer_unordered(self.0.options.parallel.max(1)));
        let (mut mended, mut late, mut any) = (Vec::new(), None, false);
        loop {
            let telling = async {
                match &mut late {
                    Some(late) => late.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = repairs.next() => match ended {
                    Some(Some((chosen, Ok(done)))) => {
                        mended.push((chosen, done));
                        late.get_or_insert_with(|| self.0.world.clock.sleep(TELL));
                    }
                    Some(Some((chosen, Err(error)))) => self.hold(&chosen, error.to_string()).await,
                    Some(None) => {}
                    None => break,
                },
                () = telling => {
                    late = None;
                    any |= self.tell_of(std::mem::take(&mut mended)).await;
                }
            }
        }
        self.tell_of(mended).await || any
    }

    /// Repairs the slab that is the most urgent once something may be moved, if any wants it.
    async fn repair_next(&self, class: SlabClass) -> Option<(Chosen, Result<Mended, MendError>)> {
        self.wait_for_turn(class).await;
        let standings = self.standings();
        let chosen = {
            let mut work = self.0.work.lock().await;
            if work.full.contains_key(&class) {
                return None;
            }
            self.choose(&mut work, class, &standings)?
        };
        let done = self.mend(&chosen, &standings).await;
        self.seen().repairing.remove(&chosen.record.id);
        Some((chosen, done))
    }

    /// Tells the journal of repaired slabs; whether it knows of any now.
    async fn tell_of(&self, mended: Vec<(Chosen, Mended)>) -> bool {
        if mended.is_empty() {
            return false;
        }
        let records = mended.iter().map(|(_, mended)| mended.record.clone()).collect();
        let told = self.tell(records).await;
        let mut any = false;
        for ((chosen, mended), told) in mended.into_iter().zip(told) {
            match told {
                Ok(()) => {
                    any = true;
                    self.settle(&chosen, &mended).await;
                }
                Err(error) => {
                    let reason = format!("the new places are not acknowledged: {error}");
                    self.hold(&chosen, reason).await;
                }
            }
        }
        any
    }

    async fn mend(&self, chosen: &Chosen, standings: &Standings) -> Result<Mended, MendError> {
        let Chosen { class, record, examined } = chosen;
        let shards: Vec<u8> = examined.missing.iter().map(|(shard, _)| *shard).collect();
        let missing = examined.missing.iter().map(|(shard, reason)| {
            let host = record.hosts.get(usize::from(*shard)).map(|host| self.name(*host));
            format!("shard {shard} of host {}: {reason}", host.unwrap_or_default())
        });
        let since = self.0.world.clock.now();
        let repairing =
            Repairing { metadata: chosen.is_metadata(), since, missing: missing.collect() };
        self.seen().repairing.insert(record.id, repairing);
        let (book, slabs) = (&self.0.book, &self.0.slabs);
        let mending = Mending { book, slabs, standings, class: *class, record, missing: &shards };
        if !mending.has_a_free_host() {
            return Err(MendError::NoHost);
        }
        lock(&self.0.bandwidth).take(chosen.moved().total());
        let asked = record.hosts.iter().filter(|host| standings.of_host(**host).is_sound());
        let asked = asked.filter_map(|host| book.contract(*host)).map(|contract| async move {
            // What it comes to is in the writer's state.
            let _ = contract.check_epoch().await;
        });
        futures::future::join_all(asked.collect::<Vec<_>>()).await;
        if self.may().is_err() {
            return Err(MendError::Stopped);
        }
        Box::pin(mending.run()).await
    }

    /// Waits until the bytes of earlier repairs are made up for. Those of names are counted and do not wait.
    async fn wait_for_turn(&self, class: SlabClass) {
        if class == SlabClass::Metadata {
            return;
        }
        loop {
            let wait = lock(&self.0.bandwidth).wait(self.0.world.clock.now());
            match wait {
                None | Some(Millis(0)) => return,
                Some(wait) => self.0.world.clock.sleep(wait).await,
            }
        }
    }

    /// Tells the journal of new places: of all together, or one by one if one of them does not follow,
    /// as when its slab is not used any more.
    async fn tell(&self, records: Vec<SlabRecord>) -> Vec<Result<(), JournalError>> {
        let journal = &self.0.journal;
        let count = records.len();
        let segments = journal.segment_slabs();
        let of_segments = |record: &SlabRecord| segments.iter().any(|known| known.id == record.id);
        if records.iter().any(of_segments) {
            let (heads, table): (Vec<_>, Vec<_>) = records.into_iter().partition(of_segments);
            let mut told = journal.move_segments(heads).await.map(drop);
            if told.is_ok() && !table.is_empty() {
                told = journal.append(vec![Change::SlabsMoved(table)]).await.map(drop);
            }
            return vec![told; count];
        }
        let together = journal.append(vec![Change::SlabsMoved(records.clone())]).await.map(drop);
        if count == 1 || !matches!(together, Err(JournalError::Refused(_))) {
            return vec![together; count];
        }
        let mut told = Vec::with_capacity(count);
        for record in records {
            let alone = journal.append(vec![Change::SlabsMoved(vec![record])]).await;
            told.push(alone.map(drop));
        }
        told
    }

    fn name(&self, host: HostIndex) -> String {
        self.0.book.host(host).map_or_else(|| format!("number {}", host.0), |key| key.short())
    }

    /// A repair is done: the journal knows it.
    async fn settle(&self, chosen: &Chosen, mended: &Mended) {
        let (slab, damage) = (chosen.record.id, &self.0.damage);
        {
            let mut work = self.0.work.lock().await;
            work.mended += 1;
            work.moved.add(&chosen.moved());
            let mut changes = damage.keep_only(&slab, Some(&mended.record)).await;
            for (_, _, to) in &mended.moves {
                changes += damage.clear(&slab, *to).await;
            }
            if let Some(counted) = &mut work.counted {
                // They are counted among what is mended.
                counted.lost += changes;
            }
        }
        let what = mended.moves.iter().map(|(shard, from, to)| {
            let reason = chosen.examined.missing.iter().find(|(missing, _)| missing == shard);
            let reason = reason.map_or("", |(_, reason)| reason.as_str());
            let (from, to) = (self.name(*from), self.name(*to));
            format!("shard {shard} from host {from} to host {to}: {reason}")
        });
        let what: Vec<String> = what.collect();
        tracing::info!(slab = %slab.short(), metadata = chosen.is_metadata(), ?what, "slab repaired");
        self.tell_story(chosen, true, what);
    }

    /// A repair has failed: it waits a while.
    async fn hold(&self, chosen: &Chosen, reason: String) {
        let slab = chosen.record.id;
        let mut work = self.0.work.lock().await;
        // One row for all that fail alike, as when every host has a shard.
        let news = work.held.values().all(|held| held.reason != reason);
        let (class, until) = (chosen.class, self.0.world.clock.now().saturating_add(RETRY));
        if work.held.values().filter(|held| held.class == class).count() < MOST_HELD {
            work.held.insert(slab, HeldBack { class, until, reason: reason.clone() });
        } else {
            work.full.insert(class, until);
        }
        // It does not move now.
        work.moved.add(&chosen.moved());
        drop(work);
        if news {
            tracing::info!(slab = %slab.short(), reason, "slab not repaired");
            self.tell_story(chosen, false, vec![reason]);
        }
    }

    fn tell_story(&self, chosen: &Chosen, repaired: bool, what: Vec<String>) {
        let (at, slab) = (self.0.world.clock.now(), chosen.record.id.to_string());
        let metadata = chosen.is_metadata();
        let mut seen = self.seen();
        if seen.story.len() == STORY {
            seen.story.pop_front();
        }
        seen.story.push_back(StoryRow { at, slab, metadata, repaired, what });
    }

    /// What reports show from now on.
    fn show(&self, work: &Work, standings: &Standings) {
        let rows = self.0.book.hosts();
        // Hosts of which no contract is left any more and that hold nothing are no news.
        let hosts = standings.unsound().filter_map(|(index, reason, for_good)| {
            let row = rows.iter().find(|row| row.index == index)?;
            row.contract.is_some().then(|| UnsoundHostRow {
                host: row.host.to_string(),
                operator: row.operator.clone(),
                for_good,
                reason: reason.to_owned(),
            })
        });
        let hosts = hosts.collect();
        let held = work.held.iter().take(HELD).map(|(slab, held)| HeldRow {
            slab: slab.to_string(),
            until: held.until,
            reason: held.reason.clone(),
        });
        let held = held.collect();
        let mut seen = self.seen();
        seen.counted = work.counted.is_some();
        // The queues are of no use to readers.
        let Census { at, data, metadata, wanting, to_move, ref unreadable, .. } = work.census;
        let unreadable = unreadable.clone();
        seen.census = Census { at, data, metadata, wanting, unreadable, ..Census::default() };
        seen.lost_shards = self.0.damage.now().len() as u64;
        seen.waiting = wanting.saturating_sub(work.mended);
        seen.to_move = to_move.without(&work.moved);
        seen.held_total = work.held.len() as u64;
        (seen.held, seen.hosts) = (held, hosts);
    }
}
