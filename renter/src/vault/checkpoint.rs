//! Checkpoints of large files: which of their slabs are stored, in the renter's store below `put/`.
//!
//! | key | value |
//! | --- | --- |
//! | `put/` + place (32 bytes) | [`Head`]: which file, in which state |
//! | `put/` + place + number (8 bytes, big-endian) | [`SlabRow`]: one slab |
//!
//! A place is the digest of a vault and a path in it. Each row of a slab says where its bytes end and
//! what the hash of the file up to there is, so it proves itself when the file is read again: rows of
//! different runs cannot be mixed up. Slabs are never sealed again; a slab that does not count any more
//! is forgotten with its id.
//!
//! Invariants: a slab is listed only after enough hosts have committed it (B1); rows of one place are
//! written by one put at a time, the one that holds its claim.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::{Digest, SlabId, digest};
use samara_protocol::journal::{HostIndex, SlabRecord, StoredPath, VaultId};
use samara_protocol::sync::lock;
use samara_protocol::units::{Epoch, Millis};
use serde::{Deserialize, Serialize};

use super::Vaults;
use super::reading::Candidate;
use crate::contract::{ContractBook, ContractHandle};
use crate::garbage::Leases;
use crate::transfer::{Redundancy, Settled, StoredSlab};
use crate::world::{FileEntry, Pages, Store, StoreError, Write};

const PREFIX: &[u8] = b"put/";
/// How long a checkpoint is kept after its last slab.
pub(super) const KEPT: Millis = Millis::hours(14 * 24);

/// Places that a put of this process works at.
pub(super) type Claims = Arc<Mutex<BTreeSet<Digest>>>;

/// Hash and count of the bytes of a file from its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) end: u64,
    pub(super) hash: Digest,
}

/// The file that a checkpoint is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u8,
    vault: VaultId,
    path: StoredPath,
    /// Where the file is on this machine, if its name is UTF-8.
    source: Option<String>,
    size: u64,
    modified: u64,
    /// Epoch of the writer; numbers of hosts are its own.
    epoch: Epoch,
    /// When the last slab was added, milliseconds since the Unix epoch.
    touched: u64,
}

impl Head {
    const VERSION: u8 = 1;

    fn decode(bytes: &[u8]) -> Option<Self> {
        encoding::decode(bytes).ok().filter(|head: &Self| head.version == Self::VERSION)
    }

    /// Whether slabs of that file, as it was then, may be slabs of this one.
    fn goes_on_from(&self, other: &Self) -> bool {
        let state = |head: &Self| (head.vault, head.size, head.modified, head.epoch);
        state(self) == state(other) && self.path == other.path
    }
}

/// A slab that only this file has bytes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlabRow {
    /// First byte of the file after it.
    pub(super) end: u64,
    /// Bytes in it.
    pub(super) length: u32,
    /// BLAKE3 of the file up to `end`.
    pub(super) prefix: Digest,
    pub(super) record: SlabRecord,
    /// Hosts that have committed it, with the first contract of the line that it lies under.
    committed: Vec<(HostIndex, ContractId)>,
}

impl SlabRow {
    fn is_usable(&self, redundancy: Redundancy, lines: &Lines) -> bool {
        let held = self.committed.iter().filter(|(host, line)| lines.get(host) == Some(line));
        let needed = usize::from(redundancy.data) + usize::from(redundancy.margin);
        self.record.data == redundancy.data && held.count() >= needed.min(self.record.hosts.len())
    }
}

/// Contracts by host: of each the first of its line, which renewals keep.
type Lines = BTreeMap<HostIndex, ContractId>;

/// A row whose slab may still reach more hosts.
struct Open {
    number: u64,
    row: SlabRow,
    settled: Settled,
}

/// The right to work at a place.
struct Claim {
    place: Digest,
    claims: Claims,
}

impl Claim {
    fn take(claims: &Claims, place: Digest) -> Option<Self> {
        let is_free = lock(claims).insert(place);
        is_free.then(|| Self { place, claims: claims.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims).remove(&self.place);
    }
}

/// The checkpoint of one file that is being put.
pub(super) struct Checkpoint {
    claim: Claim,
    head: Head,
    /// Slabs of earlier runs.
    before: u64,
    /// Slabs of this run that are listed.
    saved: usize,
    open: Vec<Open>,
}

impl Checkpoint {
    /// The checkpoint of a file, with the slabs of earlier runs that still count, in order. What does not
    /// count is removed. Nothing if another put works at the same place: that one keeps the rows.
    pub(super) async fn open(
        vaults: &Vaults,
        vault: VaultId,
        candidate: &Candidate,
        entry: &FileEntry,
    ) -> Result<Option<(Self, Vec<SlabRow>)>, StoreError> {
        let path = candidate.path.clone();
        let place = digest("samara v1 put checkpoint", &(vault, &path));
        let Some(claim) = Claim::take(&vaults.claims, place) else { return Ok(None) };
        let head = Head {
            version: Head::VERSION,
            vault,
            path,
            source: candidate.source.to_str().map(str::to_owned),
            size: entry.size,
            modified: entry.modified,
            epoch: vaults.journal.status().epoch,
            touched: vaults.world.clock.now(),
        };
        let store = vaults.world.store.as_ref();
        let stored = store.read(&head_key(&place)).await?;
        let stored = stored.and_then(|bytes| Head::decode(&bytes));
        let mut rows = Vec::new();
        if stored.is_some_and(|stored| head.goes_on_from(&stored)) {
            rows = slab_rows(store, &place).await?;
            let (redundancy, lines) = (vaults.slabs.redundancy(), binding_lines(vaults).await);
            let usable = rows.iter().take_while(|row| row.is_usable(redundancy, &lines)).count();
            rows.truncate(usable);
        }
        let before = rows.len() as u64;
        remove(store, vaults.slabs.leases(), &place, before).await?;
        Ok(Some((Self { claim, head, before, saved: 0, open: Vec::new() }, rows)))
    }

    /// Lists the slabs of this run that have become durable. `prefixes` has the file's hash at the end of
    /// each slab by its number in this run; what is listed is taken out.
    pub(super) async fn save(
        &mut self,
        vaults: &Vaults,
        landed: &[StoredSlab],
        prefixes: &mut BTreeMap<usize, Prefix>,
    ) -> Result<(), StoreError> {
        let known = self.saved;
        for slab in landed.iter().skip(known) {
            let Some(Prefix { end, hash: prefix }) = prefixes.remove(&self.saved) else { break };
            let (record, length) = (slab.record.clone(), slab.length);
            let row = SlabRow { end, length, prefix, record, committed: Vec::new() };
            let number = self.before.saturating_add(self.saved as u64);
            self.open.push(Open { number, row, settled: slab.settled.clone() });
            self.saved += 1;
        }
        if self.saved == known {
            return Ok(());
        }
        let place = self.claim.place;
        self.head.touched = vaults.world.clock.now();
        let lines = lines(vaults.slabs.book());
        let mut writes = vec![Write::Put(head_key(&place), encoding::encode(&self.head))];
        // Late hosts of the slabs before have committed meanwhile.
        self.open.retain_mut(|open| {
            let now = open.settled.now();
            let line = |host: &HostIndex| Some((*host, *lines.get(host)?));
            open.row.committed = now.committed.iter().filter_map(line).collect();
            writes.push(Write::Put(slab_key(&place, open.number), encoding::encode(&open.row)));
            now.committed.len() + now.failed.len() < open.row.record.hosts.len()
        });
        vaults.world.store.commit(writes).await
    }

    /// Forgets the slabs of earlier runs; none of this run is listed yet.
    pub(super) async fn start_over(&mut self, vaults: &Vaults) -> Result<(), StoreError> {
        self.before = 0;
        remove_all(vaults, &self.claim.place).await
    }

    /// Removes all rows: the file is acknowledged.
    pub(super) async fn remove(self, vaults: &Vaults) -> Result<(), StoreError> {
        remove_all(vaults, &self.claim.place).await
    }
}

/// Removes checkpoints that nobody goes on from: no slab was added for [`KEPT`], another epoch, no such
/// vault, the file is listed in that state, or it lay below `root` and is gone. Without a root no file is
/// looked for: what is gone may lie on a disk that is not attached.
pub(crate) async fn sweep(vaults: &Vaults, root: Option<&Path>) -> Result<(), StoreError> {
    let store = vaults.world.store.as_ref();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(PREFIX, after.as_deref(), 1).await?;
        let Some((key, value)) = page.into_iter().next() else { return Ok(()) };
        let place = key.get(PREFIX.len()..).and_then(|key| key.first_chunk());
        let Some(place) = place.copied().map(Digest) else {
            store.commit(vec![Write::Delete(key)]).await?;
            continue;
        };
        after = Some(slab_key(&place, u64::MAX));
        // A slab's row without its head is what a put that was stopped wrote last.
        let head = if key == head_key(&place) { Head::decode(&value) } else { None };
        if let Some(head) = head
            && is_wanted(vaults, &head, root).await
        {
            continue;
        }
        if let Some(_claim) = Claim::take(&vaults.claims, place) {
            remove_all(vaults, &place).await?;
        }
    }
}

/// Slabs that checkpoints list: a put may go on from them.
pub(crate) async fn checkpointed_slabs(
    store: &dyn Store,
) -> Result<BTreeMap<SlabId, SlabRecord>, StoreError> {
    let mut slabs = BTreeMap::new();
    let mut pages = Pages::below(store, PREFIX);
    while let Some(page) = pages.next().await? {
        let records = page.iter().filter_map(|(key, value)| Some(slab_row(key, value)?.record));
        slabs.extend(records.map(|record| (record.id, record)));
    }
    Ok(slabs)
}

/// A row of a slab; nothing for a head.
fn slab_row(key: &[u8], value: &[u8]) -> Option<SlabRow> {
    let is_slab = key.len() > PREFIX.len() + Digest::ZERO.0.len();
    encoding::decode(value).ok().filter(|_| is_slab)
}

async fn is_wanted(vaults: &Vaults, head: &Head, root: Option<&Path>) -> bool {
    let age = vaults.world.clock.now().saturating_sub(head.touched);
    if age > KEPT.0 || head.epoch != vaults.journal.status().epoch {
        return false;
    }
    let is_open = vaults.journal.read(|state| {
        state.vaults.get(&head.vault).is_some_and(|vault| {
            let listed = vault.files.get(&head.path).and_then(|file| file.current());
            listed.is_none_or(|listed| {
                (listed.file.size, listed.file.modified) != (head.size, head.modified)
            })
        })
    });
    let source = head.source.as_deref().map(Path::new);
    let below = source.filter(|source| root.is_some_and(|root| source.starts_with(root)));
    let Some(source) = below.filter(|_| is_open) else { return is_open };
    // One that cannot be looked at may be there.
    !matches!(vaults.world.files.stat(source).await, Ok(None))
}

/// The contracts in use.
fn lines(book: &ContractBook) -> Lines {
    let line = |contract: &ContractHandle| {
        contract.snapshot().labels.first().copied().unwrap_or_else(|| contract.id())
    };
    book.live().iter().map(|contract| (contract.index(), line(contract))).collect()
}

/// Those of them that bind their hosts at the chain's present time. If the chain cannot be asked, the book
/// is believed, as it is by every upload.
async fn binding_lines(vaults: &Vaults) -> Lines {
    let book = vaults.slabs.book();
    let tip = vaults.world.chain.tip().await.ok().flatten();
    let mut lines = lines(book);
    for index in book.ended() {
        lines.remove(&index);
    }
    for contract in book.live() {
        if tip.as_ref().is_some_and(|tip| tip.header.time >= contract.ends()) {
            lines.remove(&contract.index());
        }
    }
    lines
}

fn head_key(place: &Digest) -> Vec<u8> {
    [PREFIX, &place.0].concat()
}

fn slab_key(place: &Digest, number: u64) -> Vec<u8> {
    [PREFIX, &place.0, &number.to_be_bytes()].concat()
}

/// Rows of slabs in order, as far as each goes on where the one before ends.
async fn slab_rows(store: &dyn Store, place: &Digest) -> Result<Vec<SlabRow>, StoreError> {
    let prefix = head_key(place);
    let mut pages = Pages::below(store, &prefix).after(prefix.clone());
    let mut rows: Vec<SlabRow> = Vec::new();
    while let Some(page) = pages.next().await? {
        for (key, value) in page {
            let start = rows.last().map_or(0, |row| row.end);
            let row = encoding::decode(&value).ok().filter(|row: &SlabRow| {
                key == slab_key(place, rows.len() as u64)
                    && row.length > 0
                    && start.checked_add(u64::from(row.length)) == Some(row.end)
            });
            let Some(row) = row else { return Ok(rows) };
            rows.push(row);
        }
    }
    Ok(rows)
}

async fn remove_all(vaults: &Vaults, place: &Digest) -> Result<(), StoreError> {
    remove(vaults.world.store.as_ref(), vaults.slabs.leases(), place, 0).await
}

/// Removes slabs from a number on; all of them, and then the head, from 0 on. What no journal names of
/// them is garbage.
async fn remove(
    store: &dyn Store,
    leases: &Leases,
    place: &Digest,
    from: u64,
) -> Result<(), StoreError> {
    let prefix = head_key(place);
    let after = from.checked_sub(1).map_or_else(|| prefix.clone(), |last| slab_key(place, last));
    let mut pages = Pages::below(store, &prefix).after(after);
    while let Some(page) = pages.next().await? {
        let slabs: Vec<_> =
            page.iter().filter_map(|(key, value)| Some(slab_row(key, value)?.record)).collect();
        store.commit(page.into_iter().map(|(key, _)| Write::Delete(key)).collect()).await?;
        slabs.into_iter().for_each(|record| leases.forget(record));
    }
    if from == 0 && store.read(&prefix).await?.is_some() {
        store.commit(vec![Write::Delete(prefix)]).await?;
    }
    Ok(())
}
