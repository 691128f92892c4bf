//! Which slabs wait for repair, which are under way, and which were tried in vain.
//!
//! Plain state, changed under one lock that is held for no call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::SlabRecord;

use super::health::{Census, Moved};
use super::standing::Standings;
use crate::transfer::SlabClass;

/// How old a census may be while there is work from it, milliseconds.
const STALE: u64 = 60_000;
/// How long a repair that failed waits, unless the hosts change, milliseconds.
const RETRY: u64 = 300_000;
/// Most repairs of a class that wait each by itself. If more fail, all of the class wait.
pub(super) const MOST_POSTPONED: usize = if cfg!(test) { 16 } else { 4_096 };

/// All that the health of slabs follows from.
pub(super) struct Basis {
    pub(super) standings: Standings,
    /// Version of what is lost.
    pub(super) lost_version: u64,
    /// Position of the journal.
    pub(super) position: u64,
    pub(super) segments: Arc<Vec<SlabRecord>>,
}

/// Why a slab whose repair failed is left alone.
#[derive(Clone, Debug)]
pub(super) struct Postponed {
    pub(super) class: SlabClass,
    /// When it failed, milliseconds on this machine.
    pub(super) since: u64,
    /// The same for all that fail alike.
    pub(super) kind: &'static str,
    pub(super) reason: String,
}

impl Postponed {
    /// When it is tried again.
    pub(super) const fn until(&self) -> u64 {
        self.since.saturating_add(RETRY)
    }
}

/// Repairs that have ended since some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// Slabs that were repaired.
    mended: u64,
    /// What was moved, or does not move now.
    moved: Moved,
}

/// What was counted, and what came of it.
#[derive(Default)]
pub(super) struct Work {
    census: Census,
    /// What the census was taken of; nothing before the first.
    counted: Option<Basis>,
    postponed: BTreeMap<SlabId, Postponed>,
    /// Classes of which more is postponed than is kept, and until when nothing of them is tried.
    paused: BTreeMap<SlabClass, u64>,
    /// Slabs that are repaired, until the journal was told.
    under_way: BTreeSet<SlabId>,
    /// Since the census.
    ended: Ended,
}

impl Work {
    /// Lets what was tried in vain be tried again when its time has come, or when the hosts have changed;
    /// whether any may.
    pub(super) fn expire(&mut self, now: u64, basis: &Basis) -> bool {
        let before = self.postponed.len();
        let hosts_changed = self.have_hosts_changed(basis);
        self.postponed.retain(|_, postponed| !hosts_changed && postponed.until() > now);
        self.paused.retain(|_, until| !hosts_changed && *until > now);
        self.postponed.len() < before
    }

    fn have_hosts_changed(&self, basis: &Basis) -> bool {
        self.counted.as_ref().is_none_or(|c| !c.standings.keeps_places_of(&basis.standings))
    }

    /// Whether a census is to be taken: anything has changed, and the last one is used up or old.
    pub(super) fn is_due(&self, now: u64, basis: &Basis) -> bool {
        let Some(counted) = &self.counted else { return true };
        let same = counted.position == basis.position && *counted.segments == *basis.segments;
        let queues = &self.census.queues;
        let is_old = now.saturating_sub(self.census.at) >= STALE;
        let used_up = queues.are_empty() || is_old;
        let others_answer = is_old && !counted.standings.agrees_with(&basis.standings);
        let want_more = queues.want_more(|class| !self.paused.contains_key(&class));
        let lost = counted.lost_version != basis.lost_version;
        self.have_hosts_changed(basis) || others_answer || lost || want_more || (!same && used_up)
    }

    /// What a census begins with: the slabs that it does not queue, and what has ended before it.
    pub(super) fn before_census(&self) -> (BTreeSet<SlabId>, Ended) {
        (self.postponed.keys().copied().collect(), self.ended)
    }

    /// Takes a census in. What has ended while it was taken counts from now on.
    pub(super) fn take_in(&mut self, census: Census, basis: Basis, before: Ended) {
        self.census = census;
        self.counted = Some(basis);
        self.ended.mended = self.ended.mended.saturating_sub(before.mended);
        self.ended.moved = self.ended.moved.without(&before.moved);
    }

    /// The most urgent slab of a class, which is under way from now on.
    pub(super) fn next(&mut self, class: SlabClass) -> Option<SlabId> {
        if self.paused.contains_key(&class) {
            return None;
        }
        loop {
            let slab = self.census.queues.of(class).pop()?;
            if !self.postponed.contains_key(&slab) && self.under_way.insert(slab) {
                return Some(slab);
            }
        }
    }

    /// A slab is not under way any more.
    pub(super) fn release(&mut self, slab: &SlabId) {
        self.under_way.remove(slab);
    }

    /// Whether there is more to repair of a class.
    pub(super) fn waits(&mut self, class: SlabClass) -> bool {
        !self.paused.contains_key(&class) && !self.census.queues.of(class).is_empty()
    }

    /// A repair is done, and what is lost went from one version to another by it.
    pub(super) fn mended(&mut self, moved: &Moved, before: u64, after: u64) {
        self.ended.mended += 1;
        self.ended.moved.add(moved);
        if let Some(counted) = self.counted.as_mut().filter(|c| c.lost_version == before) {
            // Nothing else has changed, and this is counted among what is mended.
            counted.lost_version = after;
        }
    }

    /// A repair has failed, and waits a while; whether none that waits has failed like this.
    pub(super) fn postpone(&mut self, slab: SlabId, postponed: Postponed, moved: &Moved) -> bool {
        let class = postponed.class;
        // One row for all that fail alike, as when every host has a shard.
        let news = self.postponed.values().all(|other| other.kind != postponed.kind);
        if self.postponed.values().filter(|other| other.class == class).count() < MOST_POSTPONED {
            self.postponed.insert(slab, postponed);
        } else {
            self.paused.insert(class, postponed.until());
        }
        // It does not move now.
        self.ended.moved.add(moved);
        news
    }

    /// The last census, if one was taken.
    pub(super) fn census(&self) -> Option<&Census> {
        self.counted.as_ref().map(|_| &self.census)
    }

    /// Slabs of the census that want repair still, and what moves for those that were not tried in vain.
    pub(super) fn left(&self) -> (u64, Moved) {
        let wanting = self.census.wanting.saturating_sub(self.ended.mended);
        (wanting, self.census.to_move.without(&self.ended.moved))
    }

    /// The slabs whose repair failed.
    pub(super) fn postponed(&self) -> &BTreeMap<SlabId, Postponed> {
        &self.postponed
    }
}
