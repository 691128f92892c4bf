//! Storing and reading sectors.

use std::ops::Range;
use std::sync::Mutex;

use super::core::{Ask, Host, Live, bad, fence};
use super::message::{HostResponse, Refusal};
use super::store::{HostStore, HostStoreError, HostWrite, Temporary};
use crate::contract::SignedVoucher;
use crate::hash::SectorRoot;
use crate::sector::{
    Outboard, ProofError, RangeProof, SectorEntry, SectorSize, align, prove_range, verify_range,
};
use crate::sync::lock;

impl<S: HostStore> Host<S> {
    pub(super) fn store_sector(
        &self,
        ask: &Ask<'_>,
        live: &Mutex<Live>,
        voucher: &SignedVoucher,
        root: SectorRoot,
        data: &[u8],
    ) -> Result<HostResponse, Refusal> {
        let size = SectorSize::new(data.len() as u64).map_err(|error| bad(error.to_string()))?;
        if size < self.rules.minimum_sector {
            let least = self.rules.minimum_sector;
            return Err(bad(format!("a sector of {size} is below the least of {least}")));
        }
        let cost = self.cost(ask.facts.now, |prices| prices.store_cost(u64::from(size.bytes())));
        {
            let mut live = lock(live);
            ask.running(&live)?;
            fence(ask.epoch(), &live.record.promised)?;
            self.check_stays(&ask.id, ask.facts.now)?;
            if !live.known {
                // A temporary sector is found again only through its contract's record.
                let record = live.record.clone();
                self.persist(&mut live, record, Vec::new())?;
            }
            self.charge(ask, &mut live, voucher, cost)?;
        }
        let stored = self.store_paid(ask, live, SectorEntry { root, size }, data);
        if stored.is_err() {
            Self::refund(live, cost);
        }
        stored.map(|()| HostResponse::Stored)
    }

    fn store_paid(
        &self,
        ask: &Ask<'_>,
        live: &Mutex<Live>,
        entry: SectorEntry,
        data: &[u8],
    ) -> Result<(), Refusal> {
        let (needed, free) = (u64::from(entry.size.bytes()), self.store.space().free);
        if free < needed && !self.sectors.is_sound(&entry.root) {
            return Err(Refusal::Full { free, needed });
        }
        let (computed, outboard) =
            Outboard::of(entry.size, data).map_err(|error| bad(error.to_string()))?;
        if computed != entry.root {
            return Err(bad(format!("the bytes are sector {computed}, not {}", entry.root)));
        }
        self.sectors.hold(&self.store, &entry, data, &outboard)?;
        let temporary = Temporary { contract: ask.id, entry, since: ask.facts.now };
        if let Err(error) = self.store.apply(vec![HostWrite::Temporary(temporary)]) {
            self.sectors.release(&self.store, entry.root);
            return Err(error.into());
        }
        let counted_before = {
            let mut live = lock(live);
            if live.swept || live.record.successor.is_some() {
                None
            } else {
                Some(live.temporary.insert(entry.root, temporary).is_some())
            }
        };
        match counted_before {
            Some(false) => Ok(()),
            Some(true) => {
                self.sectors.release(&self.store, entry.root);
                Ok(())
            }
            None => {
                let gone = HostWrite::TemporaryGone { contract: ask.id, root: entry.root };
                let _ = self.store.note(vec![gone]);
                self.sectors.release(&self.store, entry.root);
                Err(Refusal::UnknownContract(ask.id))
            }
        }
    }

    pub(super) fn read_sector(
        &self,
        ask: &Ask<'_>,
        live: &Mutex<Live>,
        voucher: &SignedVoucher,
        root: SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<HostResponse, Refusal> {
        let cost = self.cost(ask.facts.now, |prices| prices.read_cost(u64::from(length)));
        let (size, range) = {
            let mut live = lock(live);
            ask.on_chain(&live)?;
            let size = live.size_of(&root).ok_or(Refusal::UnknownSector(root))?;
            let range = offset..offset.saturating_add(length);
            if align(size, range.clone()).as_ref() != Some(&range) {
                return Err(bad(format!(
                    "{length} bytes from {offset} are not whole groups of a sector of {size}"
                )));
            }
            self.charge(ask, &mut live, voucher, cost)?;
            (size, range)
        };
        let read = self.proven_range(&SectorEntry { root, size }, range);
        if read.is_err() {
            Self::refund(live, cost);
        }
        read.map(|(data, proof, _)| HostResponse::Range { data: data.into(), proof })
    }

    /// Whole groups of a sector with the proof that they belong to it, both checked.
    fn proven_range(
        &self,
        entry: &SectorEntry,
        range: Range<u32>,
    ) -> Result<(Vec<u8>, RangeProof, Outboard), Refusal> {
        let internal = |error: ProofError| Refusal::Internal(error.to_string());
        if let Some(outboard) = self.stored_outboard(entry)? {
            let length = range.end - range.start;
            let data = self.store.read_sector(&entry.root, range.start, length)?;
            let data = data.ok_or_else(|| self.missing(&entry.root))?;
            let proof = prove_range(&outboard, range.clone()).map_err(internal)?;
            if verify_range(&entry.root, entry.size, range.clone(), &data, &proof).is_ok() {
                return Ok((data, proof, outboard));
            }
        }
        // Either the bytes or the outboard are damaged; the latter can be made again.
        let (data, outboard) = self.mend_outboard(entry)?;
        let proof = prove_range(&outboard, range.clone()).map_err(internal)?;
        let data = data[range.start as usize..range.end as usize].to_vec();
        Ok((data, proof, outboard))
    }

    /// The outboard from the store, if it is there and leads to the sector's root.
    pub(super) fn stored_outboard(
        &self,
        entry: &SectorEntry,
    ) -> Result<Option<Outboard>, HostStoreError> {
        let bytes = self.store.outboard(&entry.root)?;
        let outboard = bytes.and_then(|bytes| Outboard::from_bytes(entry.size, &bytes).ok());
        Ok(outboard.filter(|outboard| outboard.root() == entry.root))
    }

    /// Reads the whole sector; if it is sound, writes it again with a new outboard.
    pub(super) fn mend_outboard(
        &self,
        entry: &SectorEntry,
    ) -> Result<(Vec<u8>, Outboard), Refusal> {
        let data = self.store.read_sector(&entry.root, 0, entry.size.bytes())?;
        let data = data.ok_or_else(|| self.missing(&entry.root))?;
        match Outboard::of(entry.size, &data) {
            Ok((root, outboard)) if root == entry.root => {
                self.sectors.rewrite(&self.store, entry, &data, &outboard)?;
                Ok((data, outboard))
            }
            _ => Err(self.missing(&entry.root)),
        }
    }

    /// A sector's outboard and one range of it, checked.
    pub(super) fn group(
        &self,
        entry: &SectorEntry,
        range: Range<u32>,
    ) -> Result<(Outboard, Vec<u8>), Refusal> {
        self.proven_range(entry, range).map(|(data, _, outboard)| (outboard, data))
    }

    /// Notes a sector whose bytes are not there or not sound.
    fn missing(&self, root: &SectorRoot) -> Refusal {
        self.sectors.report(&self.store, *root);
        if self.sectors.is_damaged(root) {
            Refusal::Damaged(*root)
        } else {
            // It was removed since the request began.
            Refusal::UnknownSector(*root)
        }
    }

    /// Reads and hashes one sector, as the scrubber does. Whether it is sound; one that is no longer
    /// needed is.
    ///
    /// # Errors
    /// [`Refusal::Internal`] when the store fails.
    pub fn check_sector(&self, entry: &SectorEntry) -> Result<bool, Refusal> {
        match self.mend_if_broken(entry) {
            Ok(()) | Err(Refusal::UnknownSector(_)) => Ok(true),
            Err(Refusal::Damaged(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn mend_if_broken(&self, entry: &SectorEntry) -> Result<(), Refusal> {
        let data = self.store.read_sector(&entry.root, 0, entry.size.bytes())?;
        let data = data.ok_or_else(|| self.missing(&entry.root))?;
        if crate::sector::root(&data) != entry.root {
            return Err(self.missing(&entry.root));
        }
        if self.stored_outboard(entry)?.is_none() {
            self.mend_outboard(entry)?;
        }
        Ok(())
    }

    /// Sectors that are needed and known to be damaged.
    pub fn damaged_sectors(&self) -> Vec<SectorRoot> {
        self.sectors.damaged()
    }
}
