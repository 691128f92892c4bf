//! The count of who still needs which sector.
//!
//! Invariant: a sector's file is there as long as its count is above zero. A file is written before it
//! is counted and removed after the last count is gone; both happen under the sector's claim, so that
//! a sector that is being removed cannot be acknowledged to another. The counts live in memory and are
//! rebuilt from the contracts' rows at each start, when files without a row are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};

use super::store::{HostStore, HostStoreError, HostWrite};
use crate::hash::SectorRoot;
use crate::sector::{Outboard, SectorEntry};
use crate::sync::{lock, wait};

#[derive(Debug, Default)]
pub(super) struct SectorIndex {
    counts: Mutex<Counts>,
    unclaimed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    needed: BTreeMap<SectorRoot, u64>,
    /// Sectors whose file is being written or removed.
    claimed: BTreeSet<SectorRoot>,
    damaged: BTreeSet<SectorRoot>,
}

/// The right to write or remove one sector's file.
struct Claim<'a> {
    index: &'a SectorIndex,
    root: SectorRoot,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.index.counts).claimed.remove(&self.root);
        self.index.unclaimed.notify_all();
    }
}

impl SectorIndex {
    /// Removes what is not needed, and notes what is needed and gone as damaged.
    pub(super) fn open<S: HostStore>(
        store: &S,
        needed: BTreeMap<SectorRoot, u64>,
    ) -> Result<Self, HostStoreError> {
        let mut lost: BTreeSet<_> = needed.keys().copied().collect();
        for entry in store.stored()? {
            if !lost.remove(&entry.root) {
                store.remove_sector(&entry.root)?;
            }
        }
        let mut damaged: BTreeSet<_> = store.damaged()?.into_iter().collect();
        damaged.retain(|root| needed.contains_key(root));
        damaged.extend(lost);
        let counts = Counts { needed, damaged, claimed: BTreeSet::new() };
        Ok(Self { counts: Mutex::new(counts), unclaimed: Condvar::new() })
    }

    fn claim(&self, root: SectorRoot) -> Claim<'_> {
        let mut counts = lock(&self.counts);
        while !counts.claimed.insert(root) {
            counts = wait(&self.unclaimed, counts);
        }
        Claim { index: self, root }
    }

    pub(super) fn is_damaged(&self, root: &SectorRoot) -> bool {
        lock(&self.counts).damaged.contains(root)
    }

    pub(super) fn damaged(&self) -> Vec<SectorRoot> {
        lock(&self.counts).damaged.iter().copied().collect()
    }

    pub(super) fn is_sound(&self, root: &SectorRoot) -> bool {
        let counts = lock(&self.counts);
        counts.needed.contains_key(root) && !counts.damaged.contains(root)
    }

    /// Makes a sector durable, unless it is already, and counts one more need for it.
    pub(super) fn hold<S: HostStore>(
        &self,
        store: &S,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &Outboard,
    ) -> Result<(), HostStoreError> {
        let _claim = self.claim(entry.root);
        if !self.is_sound(&entry.root) {
            store.put_sector(entry, data, &outboard.to_bytes())?;
            if self.is_damaged(&entry.root) {
                store.apply(vec![HostWrite::Mended(entry.root)])?;
            }
        }
        let mut counts = lock(&self.counts);
        counts.damaged.remove(&entry.root);
        *counts.needed.entry(entry.root).or_default() += 1;
        Ok(())
    }

    /// Writes the file of a sector again, if it is still needed.
    pub(super) fn rewrite<S: HostStore>(
        &self,
        store: &S,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &Outboard,
    ) -> Result<(), HostStoreError> {
        let _claim = self.claim(entry.root);
        if lock(&self.counts).needed.contains_key(&entry.root) {
            store.put_sector(entry, data, &outboard.to_bytes())?;
        }
        Ok(())
    }

    /// Counts one more need for a sector that the caller knows to be held.
    pub(super) fn need(&self, root: SectorRoot) {
        *lock(&self.counts).needed.entry(root).or_default() += 1;
    }

    /// Counts one need less and removes the sector after the last. A file that cannot be removed is
    /// removed at the next start.
    pub(super) fn release<S: HostStore>(&self, store: &S, root: SectorRoot) {
        let _claim = self.claim(root);
        let damaged = {
            let mut counts = lock(&self.counts);
            let Some(count) = counts.needed.get_mut(&root) else { return };
            *count -= 1;
            if *count > 0 {
                return;
            }
            counts.needed.remove(&root);
            counts.damaged.remove(&root)
        };
        let _ = store.remove_sector(&root);
        if damaged {
            let _ = store.note(vec![HostWrite::Mended(root)]);
        }
    }

    /// Remembers that a sector is damaged. The note may be lost: the damage is found again.
    pub(super) fn report<S: HostStore>(&self, store: &S, root: SectorRoot) {
        let new = {
            let mut counts = lock(&self.counts);
            counts.needed.contains_key(&root) && counts.damaged.insert(root)
        };
        if new {
            let _ = store.note(vec![HostWrite::Damaged(root)]);
        }
    }
}
