//! Repairs side by side, the most urgent first, and how the journal is told of them.

use std::pin::pin;

use futures::StreamExt as _;
use futures::future::OptionFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{Change, HostIndex, SlabRecord};
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;

use super::health::{Examined, Moved, record_of};
use super::mend::{MendError, Mended, Mending};
use super::report::{Repairing, StoryRow};
use super::standing::Standings;
use super::work::Postponed;
use super::{Repair, STORY};
use crate::journal::JournalError;
use crate::transfer::SlabClass;

/// Most slabs that are repaired before slabs are counted again.
const BATCH: usize = 8;
/// Longest time that the journal is not told of a repair that is made: a crash loses it.
const TELL: Millis = Millis::seconds(10);

/// A slab chosen for repair. Nobody else repairs it until this is dropped.
struct Chosen {
    class: SlabClass,
    record: SlabRecord,
    examined: Examined,
    _under_way: UnderWay,
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

/// Keeps a slab from being repaired twice at once.
struct UnderWay {
    repair: Repair,
    slab: SlabId,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.repair.work().release(&self.slab);
        self.repair.seen().repairing.remove(&self.slab);
    }
}

/// Where repaired slabs lie now.
fn records(mended: &[(Chosen, Mended)]) -> Vec<SlabRecord> {
    mended.iter().map(|(_, mended)| mended.record.clone()).collect()
}

impl Repair {
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
        let (tried, any) = self.repair_batch(class).await;
        if !tried {
            return false;
        }
        self.count().await;
        any || self.work().waits(class)
    }

    /// Repairs slabs and tells the journal of them, soon after each; whether any was tried, and whether any
    /// is repaired.
    async fn repair_batch(&self, class: SlabClass) -> (bool, bool) {
        let repairs = futures::stream::iter(0..BATCH).map(|_| self.repair_next(class));
        let mut repairs = pin!(repairs.buffer_unordered(self.0.options.parallel.max(1)));
        // Repairs go on while the journal is told of others.
        let mut telling = FuturesUnordered::new();
        // It is time to tell of `mended` at `late`: never, as long as that is empty.
        let (mut mended, mut late) = (Vec::new(), OptionFuture::from(None));
        let (mut repairing, mut tried, mut any) = (true, false, false);
        while repairing || !telling.is_empty() {
            tokio::select! {
                biased;
                ended = repairs.next(), if repairing => {
                    tried |= matches!(ended, Some(Some(_)));
                    match ended {
                        Some(Some((chosen, Ok(done)))) => {
                            if mended.is_empty() {
                                late = Some(self.0.world.clock.sleep(TELL)).into();
                            }
                            mended.push((chosen, done));
                        }
                        Some(Some((chosen, Err(error)))) => {
                            self.postpone(&chosen, error.kind(), &error.to_string());
                        }
                        Some(None) => {}
                        None => {
                            repairing = false;
                            late = None.into();
                            telling.push(self.tell_of(std::mem::take(&mut mended)));
                        }
                    }
                }
                Some(told) = telling.next() => any |= told,
                Some(()) = &mut late => {
                    late = None.into();
                    telling.push(self.tell_of(std::mem::take(&mut mended)));
                }
            }
        }
        (tried, any)
    }

    /// Repairs the slab that is the most urgent once something may be moved, if any wants it.
    async fn repair_next(&self, class: SlabClass) -> Option<(Chosen, Result<Mended, MendError>)> {
        self.wait_for_turn(class).await;
        let standings = self.standings();
        let chosen = self.choose(class, &standings)?;
        let done = self.mend(&chosen, &standings).await;
        Some((chosen, done))
    }

    /// Takes the most urgent slab out of a queue that still wants repair.
    fn choose(&self, class: SlabClass, standings: &Standings) -> Option<Chosen> {
        let lost = self.0.damage.now();
        loop {
            let slab = self.work().next(class)?;
            let under_way = UnderWay { repair: self.clone(), slab };
            let Some((class, record)) = record_of(&self.0.journal, &slab) else { continue };
            let examined = Examined::of(&record, standings, &lost);
            if examined.wants_repair() {
                return Some(Chosen { class, record, examined, _under_way: under_way });
            }
        }
    }

    async fn mend(&self, chosen: &Chosen, standings: &Standings) -> Result<Mended, MendError> {
        let Chosen { class, record, examined, .. } = chosen;
        let lacking: Vec<u8> = examined.missing.iter().map(|(shard, _)| *shard).collect();
        let missing = examined.missing.iter().map(|(shard, reason)| {
            let host = record.hosts.get(usize::from(*shard)).map(|host| self.name(*host));
            format!("shard {shard} of host {}: {reason}", host.unwrap_or_default())
        });
        let since = self.0.world.clock.now();
        let repairing =
            Repairing { metadata: chosen.is_metadata(), since, missing: missing.collect() };
        self.seen().repairing.insert(record.id, repairing);
        let (book, slabs) = (&self.0.book, &self.0.slabs);
        let mending = Mending { book, slabs, standings, class: *class, record, missing: &lacking };
        let shards = mending.shards();
        if shards.is_empty() {
            return Err(MendError::NoHost);
        }
        let asked = record.hosts.iter().filter(|host| standings.of_host(**host).is_sound());
        let asked = asked.filter_map(|host| book.contract(*host)).map(|contract| async move {
            // What it comes to is in the writer's state.
            let _ = contract.check_epoch().await;
        });
        futures::future::join_all(asked.collect::<Vec<_>>()).await;
        self.may().map_err(MendError::MayNot)?;
        let count = shards.len();
        let place = lock(&self.0.bandwidth).line_up(Moved::to_repair(record, count).total());
        let done = Box::pin(mending.run(shards)).await;
        if let Err(error) = &done {
            let unmoved = record.column_bytes().saturating_mul(error.unmoved(record, count) as u64);
            lock(&self.0.bandwidth).give_back(place, unmoved);
        }
        done
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

    /// Tells the journal of repaired slabs, of segments and of all others by themselves; whether it knows
    /// of any now.
    async fn tell_of(&self, mended: Vec<(Chosen, Mended)>) -> bool {
        let journal = &self.0.journal;
        let is_current = |(chosen, _): &(Chosen, Mended)| {
            let now = record_of(journal, &chosen.record.id);
            now.is_some_and(|(_, record)| record == chosen.record)
        };
        let (mended, stale): (Vec<_>, Vec<_>) = mended.into_iter().partition(is_current);
        for (chosen, _) in &stale {
            // The record that was made would undo what has come since.
            let reason = "its shards have moved, or nothing uses it any more";
            self.postpone(chosen, "stale", reason);
        }
        let segments = journal.segment_slabs();
        let is_segment = |(_, mended): &(Chosen, Mended)| {
            segments.iter().any(|known| known.id == mended.record.id)
        };
        let (segments, mut others): (Vec<_>, Vec<_>) = mended.into_iter().partition(is_segment);
        let mut any = false;
        if !segments.is_empty() {
            let told = journal.move_segments(records(&segments)).await.map(drop);
            // A checkpoint may have put them into the table meanwhile.
            let named = journal.segment_slabs();
            let is_named = |(_, mended): &(Chosen, Mended)| named.contains(&mended.record);
            let (segments, dropped): (Vec<_>, Vec<_>) =
                segments.into_iter().partition(|done| told.is_err() || is_named(done));
            others.extend(dropped);
            let told = vec![told; segments.len()];
            any |= self.take_in(segments, told).await;
        }
        if !others.is_empty() {
            let told = self.tell(records(&others)).await;
            any |= self.take_in(others, told).await;
        }
        any
    }

    /// Tells the journal of new places in its table: of all together, or one by one if one of them does
    /// not follow, as when its slab is not used any more.
    async fn tell(&self, records: Vec<SlabRecord>) -> Vec<Result<(), JournalError>> {
        let journal = &self.0.journal;
        let count = records.len();
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

    /// Takes in what the journal said of each repair; whether it knows of any.
    async fn take_in(
        &self,
        mended: Vec<(Chosen, Mended)>,
        told: Vec<Result<(), JournalError>>,
    ) -> bool {
        let mut any = false;
        for ((chosen, mended), told) in mended.into_iter().zip(told) {
            match told {
                Ok(()) => {
                    any = true;
                    self.settle(&chosen, &mended).await;
                }
                Err(error) => {
                    let reason = format!("the new places are not acknowledged: {error}");
                    self.postpone(&chosen, "not_acknowledged", &reason);
                }
            }
        }
        any
    }

    fn name(&self, host: HostIndex) -> String {
        self.0.book.host(host).map_or_else(|| format!("number {}", host.0), |key| key.short())
    }

    /// A repair is done: the journal knows it.
    async fn settle(&self, chosen: &Chosen, mended: &Mended) {
        let (slab, damage) = (chosen.record.id, &self.0.damage);
        let mut gone = damage.now().places_of(&slab);
        let moved_to = |host: &HostIndex| mended.moves.iter().any(|(_, _, to)| to == host);
        gone.retain(|(_, host)| !mended.record.hosts.contains(host) || moved_to(host));
        let (before, after) = damage.forget(&gone).await;
        self.work().mended(&chosen.moved(), before, after);
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
    fn postpone(&self, chosen: &Chosen, kind: &'static str, reason: &str) {
        let slab = chosen.record.id;
        let now = self.0.world.clock.now();
        let postponed = Postponed { class: chosen.class, since: now, kind, reason: reason.into() };
        let news = self.work().postpone(slab, postponed, &chosen.moved());
        if news {
            tracing::info!(slab = %slab.short(), reason, "slab not repaired");
            self.tell_story(chosen, false, vec![reason.to_owned()]);
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
}
