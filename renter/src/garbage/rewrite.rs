//! What is left of slabs less than half used moves into full ones.
//!
//! Only slabs are rewritten of which no backup shows a byte: a backup names the old place, so both would
//! have to be kept. And only if the hosts hold a quarter less afterwards: so each rewriting frees
//! something, and it comes to an end. The bytes of a version are the same before and after; its event
//! says where they are now. The old slabs are then such that nothing names, and go the way of all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{
    Change, Extent, JournalState, SlabRecord, StoredPath, VaultEvent, VaultId, Version,
};

use super::{Garbage, GarbageError};
use crate::transfer::{Piece, SlabClass};
use crate::vault::{append_changes, vault_event};

/// Slabs rewritten together.
const SLABS: usize = 256;
/// Files looked at under one lock of the journal's state.
const FILES: usize = 1_024;
/// Bytes read at once.
const READ: u32 = 4 << 20;

/// A version with bytes in a slab that is rewritten.
#[derive(Clone, Debug)]
struct Tenant {
    vault: VaultId,
    path: StoredPath,
    version: u64,
    content: Vec<Extent>,
}

/// Where an extent's bytes are now.
type Moves = BTreeMap<(SlabId, u32, u32), Vec<Extent>>;

impl Garbage {
    /// Rewrites as much as goes into one slab, if it is time for it and nothing else is going on.
    pub(super) async fn rewrite(&self) -> Result<(), GarbageError> {
        let waits = self.now() < self.memory().rewrite_at;
        if self.options.rewrite_rate == 0 || waits || !self.is_idle() {
            return Ok(());
        }
        let (chosen, live) = self.choose()?;
        if !self.pays(&chosen, live)? {
            return Ok(());
        }
        let (chosen, tenants) = {
            let tenants = self.tenants(&chosen);
            without_pinned(chosen, tenants)
        };
        let lengths = moving(&chosen, &tenants).into_iter().map(|(.., length)| u64::from(length));
        if !self.pays(&chosen, lengths.fold(0, u64::saturating_add))? {
            // Backups keep it as it is: not every round looks at every file.
            self.memory().rewrite_at = self.now().saturating_add(self.options.compare.0);
            return Ok(());
        }
        let done = self.carry_over(&chosen, &tenants).await;
        if done.is_err() {
            // What cannot be read now is not read in vain each round.
            self.memory().rewrite_at = self.now().saturating_add(self.options.compare.0);
        }
        done
    }

    fn is_idle(&self) -> bool {
        let status = self.vaults.journal.status();
        status.position == status.acknowledged && self.vaults.slabs.leases().is_idle()
    }

    /// The emptiest slabs, as many as fill one new slab, and what is used of them.
    fn choose(&self) -> Result<(BTreeMap<SlabId, SlabRecord>, u64), GarbageError> {
        let mut thin: Vec<(u64, SlabRecord)> = self.vaults.journal.read(|state| {
            let slabs = state.thin.iter().filter_map(|slab| state.slabs.get(slab));
            let free = slabs.filter(|slab| slab.held == 0);
            free.take(FILES).map(|slab| (slab.live, slab.record.clone())).collect()
        });
        if thin.is_empty() {
            return Ok((BTreeMap::new(), 0));
        }
        // Permille of each that is in use.
        let used =
            |live: u64, record: &SlabRecord| live.saturating_mul(1_000) / record.capacity().max(1);
        thin.sort_by_key(|(live, record)| (used(*live, record), record.id));
        let room = u64::from(self.vaults.slabs.uploader().capacity(SlabClass::Data)?);
        let mut chosen = BTreeMap::new();
        let mut bytes = 0u64;
        for (live, record) in thin.into_iter().take(SLABS) {
            if bytes.saturating_add(live) > room && !chosen.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(live);
            chosen.insert(record.id, record);
        }
        Ok((chosen, bytes))
    }

    /// All versions with bytes in some slabs, and whether a backup shows them. Looks at every file, a
    /// part at a time: only when there is something to rewrite.
    fn tenants(&self, slabs: &BTreeMap<SlabId, SlabRecord>) -> Vec<(Tenant, bool)> {
        let mut tenants = Vec::new();
        let mut vault: Option<VaultId> = None;
        loop {
            let from = vault.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.vaults.journal.read(|state| {
                state.vaults.range((from, Bound::Unbounded)).next().map(|(id, _)| *id)
            });
            let Some(id) = next else { return tenants };
            vault = Some(id);
            let mut path: Option<StoredPath> = None;
            loop {
                let from = path.take().map_or(Bound::Unbounded, Bound::Excluded);
                path = self.vaults.journal.read(|state| {
                    let files = &state.vaults.get(&id)?.files;
                    let page = files.range((from, Bound::Unbounded)).take(FILES);
                    page.fold(None, |_, (path, file)| {
                        let here = file.versions.iter().filter(|version| is_in(version, slabs));
                        tenants.extend(here.map(|version| tenant(state, id, path, version)));
                        Some(path.clone())
                    })
                });
                if path.is_none() {
                    break;
                }
            }
        }
    }

    /// Whether the hosts hold a quarter less when so many bytes of these slabs lie elsewhere.
    fn pays(
        &self,
        slabs: &BTreeMap<SlabId, SlabRecord>,
        length: u64,
    ) -> Result<bool, GarbageError> {
        if slabs.is_empty() || length == 0 {
            return Ok(false);
        }
        let after = self.vaults.slabs.uploader().stored_bytes(SlabClass::Data, length)?;
        let before = slabs.values().fold(0u64, |sum, record| {
            sum.saturating_add(record.column_bytes().saturating_mul(record.hosts.len() as u64))
        });
        Ok(after <= before / 4 * 3)
    }

    /// Reads what is left, stores it anew, and says so.
    async fn carry_over(
        &self,
        slabs: &BTreeMap<SlabId, SlabRecord>,
        tenants: &[Tenant],
    ) -> Result<(), GarbageError> {
        let downloader = self.vaults.slabs.downloader(SlabClass::Data);
        let mut pipeline = self.vaults.slabs.uploader().pipeline(SlabClass::Data);
        let mut moved: BTreeMap<(SlabId, u32, u32), Vec<Piece>> = BTreeMap::new();
        let mut bytes = 0u64;
        for (slab, offset, length) in moving(slabs, tenants) {
            let Some(record) = slabs.get(&slab) else { continue };
            let end = offset.saturating_add(length);
            let pieces = moved.entry((slab, offset, length)).or_default();
            let mut at = offset;
            while at < end {
                let next = at.saturating_add(READ).min(end);
                let read = downloader.read(record, at..next).await?;
                bytes = bytes.saturating_add(read.len() as u64);
                pieces.extend(pipeline.write(&read).await?);
                at = next;
            }
        }
        // Holds the leases of the new slabs until their names are acknowledged.
        let packed = pipeline.finish().await?;
        let place = |piece: &Piece| Extent {
            slab: packed.record(piece).id,
            offset: piece.offset,
            length: piece.length,
        };
        let moves: Moves = moved
            .into_iter()
            .map(|(from, pieces)| (from, join(pieces.iter().map(place))))
            .collect();
        let journal = &self.vaults.journal;
        let records = packed.slabs.iter().map(|slab| slab.record.clone()).collect();
        journal.append(vec![Change::SlabsStored(records)]).await?;
        let still = journal.read(|state| {
            tenants.iter().filter(|tenant| tenant.is_there(state)).cloned().collect::<Vec<_>>()
        });
        let events = still.into_iter().map(|tenant| {
            let extents = join(tenant.content.iter().flat_map(|extent| follow(&moves, extent)));
            let Tenant { vault, path, version, .. } = tenant;
            vault_event(vault, VaultEvent::Relocated { path, version, extents })
        });
        // A version that goes in this very moment cuts it off; what is left is done another time.
        append_changes(&self.vaults, events.collect()).await?;
        drop(packed);
        tracing::info!(slabs = slabs.len(), bytes, "slabs less than half used are rewritten");
        let wait = bytes.saturating_mul(1_000) / self.options.rewrite_rate.max(1);
        let now = self.now();
        let mut memory = self.memory();
        memory.rewrite_at = now.saturating_add(wait);
        let report = &mut memory.report;
        report.rewritten_slabs = report.rewritten_slabs.saturating_add(slabs.len() as u64);
        report.rewritten_bytes = report.rewritten_bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Tenant {
    fn is_there(&self, state: &JournalState) -> bool {
        // The events of one that is arriving have their numbers already.
        let vault = state.vaults.get(&self.vault).filter(|vault| !vault.arriving);
        let file = vault.and_then(|vault| vault.files.get(&self.path));
        let version = file.and_then(|f| f.versions.iter().find(|v| v.number == self.version));
        version.is_some_and(|version| version.file.content.extents() == self.content)
    }
}

/// Leaves out what backups show.
fn without_pinned(
    mut slabs: BTreeMap<SlabId, SlabRecord>,
    tenants: Vec<(Tenant, bool)>,
) -> (BTreeMap<SlabId, SlabRecord>, Vec<Tenant>) {
    let pinned = tenants.iter().filter(|(_, pinned)| *pinned);
    for extent in pinned.flat_map(|(tenant, _)| &tenant.content) {
        slabs.remove(&extent.slab);
    }
    let named = |tenant: &Tenant| tenant.content.iter().any(|e| slabs.contains_key(&e.slab));
    let free = tenants.into_iter().filter(|(_, pinned)| !pinned).map(|(tenant, _)| tenant);
    let tenants = free.filter(named).collect();
    (slabs, tenants)
}

fn is_in(version: &Version, slabs: &BTreeMap<SlabId, SlabRecord>) -> bool {
    version.file.content.extents().iter().any(|extent| slabs.contains_key(&extent.slab))
}

fn tenant(
    state: &JournalState,
    vault: VaultId,
    path: &StoredPath,
    version: &Version,
) -> (Tenant, bool) {
    let now = state.point.position;
    let pinned = state.backups.values().any(|backup| backup.shows(vault, version.since, now));
    let content = version.file.content.extents().to_vec();
    (Tenant { vault, path: path.clone(), version: version.number, content }, pinned)
}

/// The extents that move, each once, in the order of their places.
fn moving(
    slabs: &BTreeMap<SlabId, SlabRecord>,
    tenants: &[Tenant],
) -> BTreeSet<(SlabId, u32, u32)> {
    let all = tenants.iter().flat_map(|tenant| &tenant.content);
    let moving = all.filter(|extent| slabs.contains_key(&extent.slab));
    moving.map(|extent| (extent.slab, extent.offset, extent.length)).collect()
}

/// Where an extent's bytes are: where they were, if they did not move.
fn follow(moves: &Moves, extent: &Extent) -> Vec<Extent> {
    let moved = moves.get(&(extent.slab, extent.offset, extent.length)).cloned();
    moved.unwrap_or_else(|| vec![*extent])
}

/// Extents, those made one that go on where the one before ends.
fn join(extents: impl Iterator<Item = Extent>) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last)
                if last.slab == extent.slab
                    && last.offset.checked_add(last.length) == Some(extent.offset) =>
            {
                last.length = last.length.saturating_add(extent.length);
            }
            _ => joined.push(extent),
        }
    }
    joined
}
