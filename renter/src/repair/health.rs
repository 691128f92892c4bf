//! The health of slabs: how many of their shards are left, and which slabs come first.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::state::SlabUse;
use samara_protocol::journal::{JournalState, SlabRecord};
use samara_protocol::units::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::damage::LostShards;
use super::standing::{Standing, Standings};
use crate::journal::Journal;
use crate::transfer::SlabClass;
use crate::world::World;

/// Slabs looked at while the journal's owner waits.
const PAGE: usize = 1_024;
/// Most slabs of a class that wait in memory to be repaired; the others come with the next census.
pub(super) const QUEUE: usize = if cfg!(test) { 8 } else { 1_024 };
/// Most slabs kept by name of those that cannot be read.
const UNREADABLE: usize = 16_384;

/// How a slab is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HealthClass {
    /// Fewer than k shards are left, and no host that may come back has more.
    Lost,
    /// Fewer than k shards are on hosts that answer; others may come back.
    Unreadable,
    /// No more than k shards can be counted on: one more lost host may lose it.
    Critical,
    /// Less than three quarters of its parity is left.
    Endangered,
    /// Some shard is missing.
    Reduced,
    /// All n shards are on hosts that answer.
    Full,
}

/// One slab looked at.
#[derive(Clone, Debug)]
pub(super) struct Examined {
    pub(super) class: HealthClass,
    /// Shards that can be counted on.
    pub(super) sound: usize,
    /// Those that cannot, with the reasons.
    pub(super) missing: Vec<(u8, String)>,
    /// Whether a missing shard does not come back by itself.
    pub(super) for_good: bool,
    /// Whether too few shards are left even when all silent hosts come back, but for those that are replaced
    /// and do not answer.
    pub(super) hopeless: bool,
}

impl Examined {
    /// Looks at a slab.
    pub(super) fn of(record: &SlabRecord, standings: &Standings, lost: &LostShards) -> Self {
        let (mut missing, mut for_good) = (Vec::new(), false);
        let (mut silent, mut replaced, mut leaving) = (0, 0, 0);
        for (shard, host) in (0u8..=u8::MAX).zip(&record.hosts) {
            if let Some(reason) = lost.reason(&record.id, *host) {
                for_good = true;
                missing.push((shard, reason.to_owned()));
                continue;
            }
            match standings.of_host(*host) {
                Standing::Sound => {}
                Standing::Silent(reason) => {
                    silent += 1;
                    missing.push((shard, reason));
                }
                Standing::Leaving(reason) => {
                    (leaving, for_good) = (leaving + 1, true);
                    missing.push((shard, reason));
                }
                Standing::Replaced(reason) => {
                    (replaced, for_good) = (replaced + 1, true);
                    missing.push((shard, reason));
                }
                Standing::Gone(reason) => {
                    for_good = true;
                    missing.push((shard, reason));
                }
            }
        }
        let (needed, total) = (usize::from(record.data), record.hosts.len());
        let sound = total.saturating_sub(missing.len());
        let class = class(needed, total, sound, leaving, silent + replaced);
        let hopeless = sound + leaving + silent < needed;
        Self { class, sound, missing, for_good, hopeless }
    }

    /// Whether it is to be repaired now: little parity is left, or a shard is gone for good.
    pub(super) fn wants_repair(&self) -> bool {
        match self.class {
            HealthClass::Critical | HealthClass::Endangered => true,
            // Hosts that are replaced may answer again.
            HealthClass::Reduced | HealthClass::Unreadable => self.for_good,
            HealthClass::Lost | HealthClass::Full => false,
        }
    }
}

/// Whether anything may read a slab: without a backup nothing can name one that no version uses.
pub(super) fn is_used(state: &JournalState, slab: &SlabUse) -> bool {
    slab.live > 0 || slab.pins > 0 || !state.backups.is_empty()
}

fn class_of(slab: &SlabUse) -> SlabClass {
    if slab.is_metadata() { SlabClass::Metadata } else { SlabClass::Data }
}

/// The record that the journal has of a slab in use now, and what lies in it.
pub(super) fn record_of(journal: &Journal, slab: &SlabId) -> Option<(SlabClass, SlabRecord)> {
    let segments = journal.segment_slabs();
    if let Some(record) = segments.iter().find(|record| record.id == *slab) {
        return Some((SlabClass::Metadata, record.clone()));
    }
    journal.read(|state| {
        let slab = state.slabs.get(slab).filter(|slab| is_used(state, slab));
        slab.map(|slab| (class_of(slab), slab.record.clone()))
    })
}

/// The class of a slab of which `sound` of `total` shards are left, `leaving` ones are there as long as their
/// hosts are, and `away` ones may come back.
fn class(needed: usize, total: usize, sound: usize, leaving: usize, away: usize) -> HealthClass {
    let (left, parity) = (sound.saturating_sub(needed), total.saturating_sub(needed));
    if sound == total {
        HealthClass::Full
    } else if sound + leaving + away < needed {
        HealthClass::Lost
    } else if sound + leaving < needed {
        HealthClass::Unreadable
    } else if left == 0 {
        HealthClass::Critical
    } else if 4 * left < 3 * parity {
        HealthClass::Endangered
    } else {
        HealthClass::Reduced
    }
}

/// Slabs by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlabCounts {
    /// All shards are there.
    pub full: u64,
    /// Some are missing; at least three quarters of the parity is left.
    pub reduced: u64,
    /// Less parity is left.
    pub endangered: u64,
    /// No parity is left.
    pub critical: u64,
    /// Too few shards are on hosts that answer; others may come back.
    pub unreadable: u64,
    /// Too few shards are left.
    pub lost: u64,
}

impl SlabCounts {
    fn count(&mut self, class: HealthClass) {
        let counter = match class {
            HealthClass::Full => &mut self.full,
            HealthClass::Reduced => &mut self.reduced,
            HealthClass::Endangered => &mut self.endangered,
            HealthClass::Critical => &mut self.critical,
            HealthClass::Unreadable => &mut self.unreadable,
            HealthClass::Lost => &mut self.lost,
        };
        *counter += 1;
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: &Self) -> Self {
        Self {
            full: self.full + other.full,
            reduced: self.reduced + other.reduced,
            endangered: self.endangered + other.endangered,
            critical: self.critical + other.critical,
            unreadable: self.unreadable + other.unreadable,
            lost: self.lost + other.lost,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.full + self.not_full()
    }

    /// Those with a missing shard.
    #[must_use]
    pub const fn not_full(&self) -> u64 {
        self.reduced + self.endangered + self.critical + self.unreadable + self.lost
    }
}

/// What is repaired first: what has the least parity left, per mille.
pub(super) type Urgency = (u64, SlabId);

/// The most urgent slabs of one class.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    slabs: BTreeSet<Urgency>,
    /// Whether there were more than it takes.
    more: bool,
}

impl Queue {
    fn push(&mut self, urgency: Urgency) {
        self.slabs.insert(urgency);
        if self.slabs.len() > QUEUE {
            self.slabs.pop_last();
            self.more = true;
        }
    }

    /// Takes out the most urgent one.
    pub(super) fn pop(&mut self) -> Option<SlabId> {
        self.slabs.pop_first().map(|(_, slab)| slab)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slabs.is_empty()
    }

    /// Whether those are done that were queued, and others wait.
    fn wants_more(&self) -> bool {
        self.more && self.slabs.is_empty()
    }
}

/// A queue for names and one for files, of which neither waits for the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues {
    metadata: Queue,
    data: Queue,
}

impl Queues {
    pub(super) fn of(&mut self, class: SlabClass) -> &mut Queue {
        match class {
            SlabClass::Metadata => &mut self.metadata,
            SlabClass::Data => &mut self.data,
        }
    }

    pub(super) fn are_empty(&self) -> bool {
        self.metadata.is_empty() && self.data.is_empty()
    }

    /// Whether a queue of those classes is done, and others wait.
    pub(super) fn want_more(&self, of: impl Fn(SlabClass) -> bool) -> bool {
        (of(SlabClass::Metadata) && self.metadata.wants_more())
            || (of(SlabClass::Data) && self.data.wants_more())
    }
}

/// Bytes of sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) fetched: u64,
    pub(super) sent: u64,
}

impl Moved {
    /// What moves at most when so many shards of a slab are rebuilt.
    pub(super) fn to_repair(record: &SlabRecord, missing: usize) -> Self {
        let column = record.column_bytes();
        let of = |shards: u64| column.saturating_mul(shards);
        Self { fetched: of(record.data.into()), sent: of(missing as u64) }
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.fetched = self.fetched.saturating_add(more.fetched);
        self.sent = self.sent.saturating_add(more.sent);
    }

    pub(super) const fn without(&self, done: &Self) -> Self {
        Self {
            fetched: self.fetched.saturating_sub(done.fetched),
            sent: self.sent.saturating_sub(done.sent),
        }
    }

    /// Both ways together.
    pub(super) const fn total(&self) -> u64 {
        self.fetched.saturating_add(self.sent)
    }
}

/// All slabs counted at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    /// When, milliseconds on this machine.
    pub(super) at: u64,
    pub(super) data: SlabCounts,
    pub(super) metadata: SlabCounts,
    /// Those that want repair and were not passed over.
    pub(super) queues: Queues,
    /// Those that want repair, queued or not.
    pub(super) wanting: u64,
    /// What moves to repair those that were not passed over.
    pub(super) to_move: Moved,
    /// Slabs of files that cannot be read now.
    pub(super) unreadable: Arc<BTreeSet<SlabId>>,
    /// Slabs of metadata that are lost, or that only hosts could give which are replaced.
    pub(super) lost_metadata: BTreeSet<SlabId>,
}

impl Census {
    /// Looks at every slab of the journal, page by page, so that its owner never waits for long. Those to
    /// be passed over are counted and not queued.
    pub(super) async fn take(
        world: &World,
        journal: &Journal,
        standings: &Standings,
        lost: &LostShards,
        passed_over: &BTreeSet<SlabId>,
    ) -> Self {
        let mut census = Self { at: world.clock.now(), ..Self::default() };
        for record in journal.segment_slabs().iter() {
            census.count(record, SlabClass::Metadata, standings, lost, passed_over);
        }
        let mut after = Bound::Unbounded;
        loop {
            let last = journal.read(|state| {
                let mut last = None;
                for (id, slab) in state.slabs.range((after, Bound::Unbounded)).take(PAGE) {
                    if is_used(state, slab) {
                        let (record, class) = (&slab.record, class_of(slab));
                        census.count(record, class, standings, lost, passed_over);
                    }
                    last = Some(*id);
                }
                last
            });
            let Some(last) = last else { return census };
            after = Bound::Excluded(last);
            // Others come in between.
            world.clock.sleep(Millis(0)).await;
        }
    }

    fn count(
        &mut self,
        record: &SlabRecord,
        class: SlabClass,
        standings: &Standings,
        lost: &LostShards,
        passed_over: &BTreeSet<SlabId>,
    ) {
        let examined = Examined::of(record, standings, lost);
        let metadata = class == SlabClass::Metadata;
        let counts = if metadata { &mut self.metadata } else { &mut self.data };
        counts.count(examined.class);
        if !metadata
            && matches!(examined.class, HealthClass::Unreadable | HealthClass::Lost)
            && self.unreadable.len() < UNREADABLE
        {
            // Nobody shares it while the census is taken.
            Arc::make_mut(&mut self.unreadable).insert(record.id);
        }
        if metadata && examined.hopeless {
            self.lost_metadata.insert(record.id);
        }
        if !examined.wants_repair() {
            return;
        }
        self.wanting += 1;
        if passed_over.contains(&record.id) {
            return;
        }
        self.to_move.add(&Moved::to_repair(record, examined.missing.len()));
        let parity = record.hosts.len().saturating_sub(usize::from(record.data)).max(1);
        let left = examined.sound.saturating_sub(usize::from(record.data));
        let left = (left * 1_000 / parity) as u64;
        self.queues.of(class).push((left, record.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_parity_that_is_left() {
        use HealthClass::{Critical, Endangered, Full, Lost, Reduced, Unreadable};
        // 4 of 8: three quarters of the parity are three shards.
        let of_eight = |sound, away| class(4, 8, sound, 0, away);
        let expected = [
            (8, 0, Full),
            (7, 1, Reduced),
            (6, 0, Endangered),
            (5, 3, Endangered),
            (4, 4, Critical),
            (3, 1, Unreadable),
            (3, 0, Lost),
            (0, 8, Unreadable),
        ];
        for (sound, silent, expected) in expected {
            assert_eq!(of_eight(sound, silent), expected, "{sound} and {silent} silent");
        }
        assert_eq!(class(1, 2, 1, 0, 0), Critical);
        assert_eq!(class(10, 30, 25, 0, 0), Reduced);
        assert_eq!(class(10, 30, 24, 0, 0), Endangered);
        // Hosts that are replaced and answer still give what they have.
        assert_eq!(class(4, 8, 0, 8, 0), Critical);
        assert_eq!(class(4, 8, 5, 3, 0), Endangered);
        assert_eq!(class(4, 8, 1, 2, 1), Unreadable);
        assert_eq!(class(4, 8, 1, 2, 0), Lost);
    }
}
