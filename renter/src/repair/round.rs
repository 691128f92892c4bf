//! One look: silent hosts are asked, audits made, slabs counted, the most urgent ones repaired.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{Change, HostIndex, SlabRecord};
use samara_protocol::sync::lock;

use super::health::{Census, Examined, record_of};
use super::mend::{MendError, Mended, Mending};
use super::report::{HeldRow, Repairing, StoryRow, UnsoundHostRow};
use super::standing::Standings;
use super::{Counted, HELD, Inner, Repair, STORY, Work};
use crate::contract::ContractHandle;
use crate::journal::JournalError;

/// Slabs that are repaired before the journal is told of them together.
const BATCH: usize = 8;
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
/// Most repairs that wait; others are tried with each census.
const MOST_HELD: usize = 4_096;

/// A slab chosen for repair.
struct Chosen {
    metadata: bool,
    record: SlabRecord,
    examined: Examined,
}

impl Repair {
    /// One look, with at most [`BATCH`] repairs; whether there may be more to do at once.
    pub(crate) async fn look(&self) -> bool {
        let mut work = self.0.work.lock().await;
        if let Err(reason) = self.may() {
            self.seen().idle = Some(reason);
            return false;
        }
        self.probe(&mut work).await;
        let standings = Standings::of(&self.0.book, &self.0.options);
        let Work { auditor, damage, .. } = &mut *work;
        auditor.run(&standings, damage).await;
        self.count(&mut work, &standings).await;
        let idle = (self.0.options.bandwidth == 0).then(|| "repair is switched off".to_owned());
        self.seen().idle.clone_from(&idle);
        self.show(&work, &standings);
        let more = idle.is_none() && self.repair(&mut work, &standings).await;
        self.show(&work, &standings);
        more
    }

    /// Asks hosts that fail or have not been heard of for long, so that silence is known and ends.
    async fn probe(&self, work: &mut Work) {
        let book = &self.0.book;
        let now = self.0.world.clock.now();
        let quiet_for = self.0.options.patience.0 / QUIET;
        if now.saturating_sub(work.probed) < PROBE.min(quiet_for) {
            return;
        }
        work.probed = now;
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

    /// Takes a census, if anything has changed and the last one is used up or old.
    async fn count(&self, work: &mut Work, standings: &Standings) {
        let now = self.0.world.clock.now();
        let position = self.0.journal.status().acknowledged;
        let segments = self.0.journal.segment_slabs();
        let damage = work.damage.version();
        let before = work.held.len();
        let hosts_changed =
            work.counted.as_ref().is_none_or(|c| !c.standings.agrees_with(standings));
        if hosts_changed {
            work.held.clear();
        }
        work.held.retain(|_, (until, _)| *until > now);
        let again = work.held.len() < before;
        let same = work
            .counted
            .as_ref()
            .is_some_and(|counted| counted.position == position && *counted.segments == *segments);
        let urgent = again
            || hosts_changed
            || work.counted.as_ref().is_none_or(|counted| counted.damage != damage)
            || (work.census.more && work.census.queue.is_empty());
        let used_up = work.census.queue.is_empty() || now.saturating_sub(work.census.at) >= STALE;
        if !urgent && (same || !used_up) {
            return;
        }
        for slab in work.damage.slabs() {
            let record = record_of(&self.0.journal, &slab).map(|(_, record)| record);
            work.damage.keep_only(&slab, record.as_ref()).await;
        }
        let (damage, held) = (&work.damage, &work.held);
        let Inner { world, journal, .. } = &*self.0;
        work.census = Census::take(world, journal, standings, damage, held).await;
        work.mended = 0;
        self.0.slabs.set_unreadable(work.census.unreadable.clone());
        self.renew_metadata(&work.census.lost_metadata).await;
        let (standings, damage) = (standings.clone(), work.damage.version());
        work.counted = Some(Counted { standings, damage, position, segments });
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

    /// Takes slabs of one kind out of the queue that still want repair.
    fn choose(&self, work: &mut Work, standings: &Standings) -> Vec<Chosen> {
        let mut chosen: Vec<Chosen> = Vec::new();
        while chosen.len() < BATCH {
            let Some(urgency) = work.census.queue.pop_first() else { break };
            let slab = urgency.2;
            if work.held.contains_key(&slab) {
                continue;
            }
            let Some((metadata, record)) = record_of(&self.0.journal, &slab) else { continue };
            if chosen.first().is_some_and(|first| first.metadata != metadata) {
                work.census.queue.insert(urgency);
                break;
            }
            let examined = Examined::of(&record, standings, &work.damage);
            if examined.wants_repair() {
                chosen.push(Chosen { metadata, record, examined });
            }
        }
        chosen
    }

    /// Repairs the most urgent slabs; whether there may be more.
    async fn repair(&self, work: &mut Work, standings: &Standings) -> bool {
        let chosen = self.choose(work, standings);
        let Some(metadata) = chosen.first().map(|chosen| chosen.metadata) else { return false };
        let repairs = chosen.into_iter().map(|chosen| async move {
            let done = self.mend(&chosen, standings).await;
            self.seen().repairing.remove(&chosen.record.id);
            (chosen, done)
        });
        let repairs = futures::stream::iter(repairs);
        let done: Vec<(Chosen, Result<Mended, MendError>)> =
            repairs.buffer_unordered(self.0.options.parallel.max(1)).collect().await;
        let mut mended = Vec::new();
        for (chosen, done) in done {
            match done {
                Ok(done) => mended.push((chosen, done)),
                Err(error) => self.hold(work, &chosen, error.to_string()),
            }
        }
        let records = mended.iter().map(|(_, mended)| mended.record.clone()).collect();
        let told = if mended.is_empty() { Vec::new() } else { self.tell(records, metadata).await };
        let mut any = false;
        for ((chosen, mended), told) in mended.into_iter().zip(told) {
            match told {
                Ok(()) => {
                    any = true;
                    self.settle(work, &chosen, &mended).await;
                }
                Err(error) => {
                    let reason = format!("the new places are not acknowledged: {error}");
                    self.hold(work, &chosen, reason);
                }
            }
        }
        any || !work.census.queue.is_empty()
    }

    async fn mend(&self, chosen: &Chosen, standings: &Standings) -> Result<Mended, MendError> {
        let Chosen { metadata, record, examined } = chosen;
        let shards: Vec<u8> = examined.missing.iter().map(|(shard, _)| *shard).collect();
        let missing = examined.missing.iter().map(|(shard, reason)| {
            let host = record.hosts.get(usize::from(*shard)).map(|host| self.name(*host));
            format!("shard {shard} of host {}: {reason}", host.unwrap_or_default())
        });
        let since = self.0.world.clock.now();
        let repairing = Repairing { metadata: *metadata, since, missing: missing.collect() };
        self.seen().repairing.insert(record.id, repairing);
        let (book, slabs) = (&self.0.book, &self.0.slabs);
        let mending = Mending { book, slabs, standings, record, missing: &shards };
        if !mending.has_a_free_host() {
            return Err(MendError::NoHost);
        }
        self.pace(mending.bytes()).await;
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

    /// Waits until so many bytes may be moved.
    async fn pace(&self, bytes: u64) {
        loop {
            let wait = {
                let mut bandwidth = lock(&self.0.bandwidth);
                let wait = bandwidth.wait(self.0.world.clock.now());
                if wait.is_none_or(|wait| wait.0 == 0) {
                    bandwidth.take(bytes);
                    return;
                }
                wait.unwrap_or_default()
            };
            self.0.world.clock.sleep(wait).await;
        }
    }

    /// Tells the journal of new places: of all together, or one by one if one of them does not follow,
    /// as when its slab is not used any more.
    async fn tell(
        &self,
        records: Vec<SlabRecord>,
        metadata: bool,
    ) -> Vec<Result<(), JournalError>> {
        let journal = &self.0.journal;
        let count = records.len();
        let segments = journal.segment_slabs();
        let of_segments = |record: &SlabRecord| segments.iter().any(|known| known.id == record.id);
        if metadata && records.iter().any(of_segments) {
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
    async fn settle(&self, work: &mut Work, chosen: &Chosen, mended: &Mended) {
        let slab = chosen.record.id;
        work.mended += 1;
        work.damage.keep_only(&slab, Some(&mended.record)).await;
        for (_, _, to) in &mended.moves {
            work.damage.clear(&slab, *to).await;
        }
        if let Some(counted) = &mut work.counted {
            // This change is counted among those that are mended.
            counted.damage = work.damage.version();
        }
        let what = mended.moves.iter().map(|(shard, from, to)| {
            let reason = chosen.examined.missing.iter().find(|(missing, _)| missing == shard);
            let reason = reason.map_or("", |(_, reason)| reason.as_str());
            let (from, to) = (self.name(*from), self.name(*to));
            format!("shard {shard} from host {from} to host {to}: {reason}")
        });
        let what: Vec<String> = what.collect();
        tracing::info!(slab = %slab.short(), metadata = chosen.metadata, ?what, "slab repaired");
        self.tell_story(chosen, true, what);
    }

    /// A repair has failed: it waits a while.
    fn hold(&self, work: &mut Work, chosen: &Chosen, reason: String) {
        let slab = chosen.record.id;
        tracing::info!(slab = %slab.short(), reason, "slab not repaired");
        // One row for all that fail alike, as when every host has a shard.
        let news = work.held.values().all(|(_, known)| *known != reason);
        if work.held.len() < MOST_HELD {
            let until = self.0.world.clock.now().saturating_add(RETRY);
            work.held.insert(slab, (until, reason.clone()));
        }
        if news {
            self.tell_story(chosen, false, vec![reason]);
        }
    }

    fn tell_story(&self, chosen: &Chosen, repaired: bool, what: Vec<String>) {
        let (at, slab) = (self.0.world.clock.now(), chosen.record.id.to_string());
        let metadata = chosen.metadata;
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
        let held = work.held.iter().take(HELD).map(|(slab, (until, reason))| HeldRow {
            slab: slab.to_string(),
            until: *until,
            reason: reason.clone(),
        });
        let held = held.collect();
        let mut seen = self.seen();
        seen.counted = work.counted.is_some();
        // The queue is of no use to readers.
        let Census { at, data, metadata, wanting, ref unreadable, .. } = work.census;
        let unreadable = unreadable.clone();
        seen.census = Census { at, data, metadata, wanting, unreadable, ..Census::default() };
        seen.lost_shards = work.damage.len() as u64;
        seen.waiting = wanting.saturating_sub(work.mended);
        seen.audits = work.auditor.totals();
        (seen.held, seen.hosts) = (held, hosts);
    }
}
