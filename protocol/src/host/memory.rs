//! A host's store in memory, with a disk that can be made to fail.
//!
//! It tells what is visible from what is durable: [`MemoryStore::crash`] falls back to the latter, as a
//! power loss does. [`MemoryStore::fail_after`] lets a number of writes through and then fails all of
//! them until the crash, so that every point between two writes can be tried.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::store::{
    Agreement, ContractRecord, HostStore, HostStoreError, HostWrite, IssuedPrices, Space, Temporary,
};
use crate::contract::ContractId;
use crate::hash::{SectorRoot, SlabTag};
use crate::sector::SectorEntry;
use crate::sync::lock;

/// A host's store in memory. Share it by [`Arc`] to reopen it after a crash.
#[derive(Debug)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

/// What a store held at one moment.
#[derive(Debug, Clone)]
pub struct MemoryImage(State);

#[derive(Debug)]
struct Inner {
    capacity: u64,
    visible: State,
    durable: State,
    /// Batches that are visible and not durable, in order.
    noted: Vec<Vec<HostWrite>>,
    /// Sectors whose removal is not durable.
    removed: Vec<SectorRoot>,
    /// Writes that still succeed; all of them if nothing is set.
    writes_left: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct State {
    records: BTreeMap<ContractId, ContractRecord>,
    lists: BTreeMap<ContractId, Vec<SectorEntry>>,
    temporaries: BTreeMap<(ContractId, SectorRoot), Temporary>,
    descriptors: BTreeMap<(ContractId, SlabTag), Vec<u8>>,
    heads: BTreeMap<ContractId, Vec<u8>>,
    agreements: BTreeMap<ContractId, Agreement>,
    prices: Vec<IssuedPrices>,
    damaged: BTreeMap<SectorRoot, ()>,
    sectors: BTreeMap<SectorRoot, Stored>,
}

#[derive(Debug, Clone)]
struct Stored {
    entry: SectorEntry,
    data: Arc<[u8]>,
    outboard: Arc<[u8]>,
}

impl MemoryStore {
    /// An empty store with room for `capacity` bytes of sectors.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let inner = Inner {
            capacity,
            visible: State::default(),
            durable: State::default(),
            noted: Vec::new(),
            removed: Vec::new(),
            writes_left: None,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Loses everything that was not durable, as a power loss does, and lets writes succeed again.
    pub fn crash(&self) {
        let mut inner = self.lock();
        inner.visible = inner.durable.clone();
        inner.noted.clear();
        inner.removed.clear();
        inner.writes_left = None;
    }

    /// As [`MemoryStore::crash`], but what was on its way is torn: some first batches and removals that
    /// nobody had synced are durable all the same. Each batch is still whole or not there.
    pub fn crash_torn(&self, batches: usize, removals: usize) {
        {
            let mut inner = self.lock();
            let inner = &mut *inner;
            for write in inner.noted.drain(..).take(batches).flatten() {
                inner.durable.apply(write);
            }
            for root in inner.removed.drain(..).take(removals) {
                inner.durable.sectors.remove(&root);
            }
        }
        self.crash();
    }

    /// Batches and removals that a crash would undo.
    #[must_use]
    pub fn unsynced(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.noted.len(), inner.removed.len())
    }

    /// Lets `writes` more writes succeed and fails all that follow, until [`MemoryStore::crash`].
    pub fn fail_after(&self, writes: u64) {
        self.lock().writes_left = Some(writes);
    }

    /// Everything that is durable at this moment, to go back to with [`MemoryStore::restore`].
    #[must_use]
    pub fn image(&self) -> MemoryImage {
        MemoryImage(self.lock().durable.clone())
    }

    /// Goes back to an earlier moment, as a disk does that is restored from a copy.
    pub fn restore(&self, image: &MemoryImage) {
        self.lock().durable = image.0.clone();
        self.crash();
    }

    /// Changes the room for sectors.
    pub fn set_capacity(&self, capacity: u64) {
        self.lock().capacity = capacity;
    }

    /// Flips one bit of a stored sector, as a bad disk does. Whether there was such a byte.
    pub fn corrupt(&self, root: &SectorRoot, offset: usize) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut found = false;
        for state in [&mut inner.visible, &mut inner.durable] {
            let Some(stored) = state.sectors.get_mut(root) else { continue };
            let mut data = stored.data.to_vec();
            if let Some(byte) = data.get_mut(offset) {
                *byte ^= 1;
                found = true;
            }
            stored.data = data.into();
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock().visible)
    }
}

impl Inner {
    /// Uses up one of the writes that are left.
    fn write(&mut self, action: &'static str) -> Result<(), HostStoreError> {
        match &mut self.writes_left {
            Some(0) => Err(HostStoreError::Failed { action, reason: "the disk failed".into() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn free(&self) -> u64 {
        let used: u64 =
            self.visible.sectors.values().map(|s| u64::from(s.entry.size.bytes())).sum();
        self.capacity.saturating_sub(used)
    }
}

impl State {
    fn apply(&mut self, write: HostWrite) {
        match write {
            HostWrite::Record(contract, record) => {
                self.records.insert(contract, *record);
            }
            HostWrite::Tail { contract, from, entries } => {
                let list = self.lists.entry(contract).or_default();
                list.truncate(usize::try_from(from).unwrap_or(usize::MAX));
                list.extend(entries);
            }
            HostWrite::Temporary(temporary) => {
                let key = (temporary.contract, temporary.entry.root);
                self.temporaries.insert(key, temporary);
            }
            HostWrite::TemporaryGone { contract, root } => {
                self.temporaries.remove(&(contract, root));
            }
            HostWrite::Descriptor { contract, tag, sealed } if sealed.is_empty() => {
                self.descriptors.remove(&(contract, tag));
            }
            HostWrite::Descriptor { contract, tag, sealed } => {
                self.descriptors.insert((contract, tag), sealed);
            }
            HostWrite::Head { contract, offset, bytes } => {
                let head = self.heads.entry(contract).or_default();
                head.truncate(offset as usize);
                head.extend(bytes);
            }
            HostWrite::Adopt { old, new } => self.adopt(old, new),
            HostWrite::Forget(contract) => self.forget(&contract),
            HostWrite::Agreement(agreement) => {
                self.agreements.insert(agreement.contract, *agreement);
            }
            HostWrite::AgreementGone(contract) => {
                self.agreements.remove(&contract);
            }
            HostWrite::Prices(prices) => self.prices = prices,
            HostWrite::Damaged(root) => {
                self.damaged.insert(root, ());
            }
            HostWrite::Mended(root) => {
                self.damaged.remove(&root);
            }
        }
    }

    fn adopt(&mut self, old: ContractId, new: ContractId) {
        if let Some(list) = self.lists.remove(&old) {
            self.lists.insert(new, list);
        }
        let moved: Vec<_> =
            self.descriptors.keys().filter(|(owner, _)| *owner == old).copied().collect();
        for key in moved {
            if let Some(sealed) = self.descriptors.remove(&key) {
                self.descriptors.insert((new, key.1), sealed);
            }
        }
        let moved: Vec<_> =
            self.temporaries.keys().filter(|(owner, _)| *owner == old).copied().collect();
        for key in moved {
            if let Some(temporary) = self.temporaries.remove(&key) {
                self.temporaries.insert((new, key.1), Temporary { contract: new, ..temporary });
            }
        }
    }

    fn forget(&mut self, contract: &ContractId) {
        self.records.remove(contract);
        self.lists.remove(contract);
        self.heads.remove(contract);
        self.descriptors.retain(|(owner, _), _| owner != contract);
        self.temporaries.retain(|(owner, _), _| owner != contract);
    }
}

impl HostStore for MemoryStore {
    fn space(&self) -> Space {
        let inner = self.lock();
        Space { capacity: inner.capacity, free: inner.free() }
    }

    fn contracts(&self) -> Result<Vec<ContractId>, HostStoreError> {
        Ok(self.read(|state| state.records.keys().copied().collect()))
    }

    fn record(&self, contract: &ContractId) -> Result<Option<ContractRecord>, HostStoreError> {
        Ok(self.read(|state| state.records.get(contract).cloned()))
    }

    fn sectors(&self, contract: &ContractId) -> Result<Vec<SectorEntry>, HostStoreError> {
        Ok(self.read(|state| state.lists.get(contract).cloned().unwrap_or_default()))
    }

    fn temporaries(&self) -> Result<Vec<Temporary>, HostStoreError> {
        Ok(self.read(|state| state.temporaries.values().copied().collect()))
    }

    fn descriptor(
        &self,
        contract: &ContractId,
        tag: &SlabTag,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        Ok(self.read(|state| state.descriptors.get(&(*contract, *tag)).cloned()))
    }

    fn head(&self, contract: &ContractId) -> Result<Vec<u8>, HostStoreError> {
        Ok(self.read(|state| state.heads.get(contract).cloned().unwrap_or_default()))
    }

    fn agreements(&self) -> Result<Vec<Agreement>, HostStoreError> {
        Ok(self.read(|state| state.agreements.values().cloned().collect()))
    }

    fn prices(&self) -> Result<Vec<IssuedPrices>, HostStoreError> {
        Ok(self.read(|state| state.prices.clone()))
    }

    fn damaged(&self) -> Result<Vec<SectorRoot>, HostStoreError> {
        Ok(self.read(|state| state.damaged.keys().copied().collect()))
    }

    fn stored(&self) -> Result<Vec<SectorEntry>, HostStoreError> {
        Ok(self.read(|state| state.sectors.values().map(|stored| stored.entry).collect()))
    }

    fn put_sector(
        &self,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &[u8],
    ) -> Result<(), HostStoreError> {
        let mut inner = self.lock();
        let (needed, free) = (u64::from(entry.size.bytes()), inner.free());
        if free < needed && !inner.visible.sectors.contains_key(&entry.root) {
            return Err(HostStoreError::Full { needed, free });
        }
        inner.write("store a sector")?;
        let stored = Stored { entry: *entry, data: data.into(), outboard: outboard.into() };
        inner.removed.retain(|root| *root != entry.root);
        inner.durable.sectors.insert(entry.root, stored.clone());
        inner.visible.sectors.insert(entry.root, stored);
        Ok(())
    }

    fn read_sector(
        &self,
        root: &SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        Ok(self.read(|state| {
            let data = &state.sectors.get(root)?.data;
            let start = data.len().min(offset as usize);
            let end = data.len().min(start + length as usize);
            Some(data[start..end].to_vec())
        }))
    }

    fn outboard(&self, root: &SectorRoot) -> Result<Option<Vec<u8>>, HostStoreError> {
        Ok(self.read(|state| state.sectors.get(root).map(|stored| stored.outboard.to_vec())))
    }

    fn remove_sector(&self, root: &SectorRoot) -> Result<(), HostStoreError> {
        let mut inner = self.lock();
        inner.write("remove a sector")?;
        if inner.visible.sectors.remove(root).is_some() {
            inner.removed.push(*root);
        }
        Ok(())
    }

    fn apply(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        let mut inner = self.lock();
        inner.write("write a batch")?;
        for write in std::mem::take(&mut inner.noted).into_iter().flatten() {
            inner.durable.apply(write);
        }
        for root in std::mem::take(&mut inner.removed) {
            inner.durable.sectors.remove(&root);
        }
        for write in writes {
            inner.durable.apply(write.clone());
            inner.visible.apply(write);
        }
        Ok(())
    }

    fn note(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        let mut inner = self.lock();
        inner.write("note a batch")?;
        for write in &writes {
            inner.visible.apply(write.clone());
        }
        inner.noted.push(writes);
        Ok(())
    }
}
