//! Slabs that this process is using: uploads and repairs that the journal does not name yet, and readers
//! under way.
//!
//! Neither outlives the process: after a restart, uploads are found by the audit, and there are no
//! readers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::journal::{HostIndex, SlabRecord};

/// Slabs in use. A cheap clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// What each upload or repair has at hosts, or may have. A slab may be repaired while the last of its
    /// upload goes on.
    uploads: BTreeMap<(SlabId, u64), Shards>,
    /// Start and slabs of each reader.
    readers: BTreeMap<u64, (u64, BTreeSet<SlabId>)>,
    next: u64,
    /// Uploads that have ended; the journal names those that went well.
    ended: Vec<Ended>,
}

/// Hosts and sectors of a slab.
pub(crate) type Shards = BTreeSet<(HostIndex, SectorRoot)>;

/// A slab that nobody works at any more.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// An upload or a repair, with all that it may have at hosts.
    Upload(SlabId, Shards),
    /// A slab of a large file that is not being put any more.
    Checkpointed(SlabRecord),
}

impl Ended {
    pub(crate) fn slab(&self) -> SlabId {
        match self {
            Self::Upload(slab, _) => *slab,
            Self::Checkpointed(record) => record.id,
        }
    }
}

/// A slab on its way, or shards of it to other hosts, until its names are acknowledged or it is given up. A cheap clone; it ends with the
/// last.
#[derive(Clone, Debug)]
pub struct UploadLease(Arc<Upload>);

#[derive(Debug)]
struct Upload {
    leases: Leases,
    slab: SlabId,
    number: u64,
}

impl UploadLease {
    /// The slab.
    pub(crate) fn slab(&self) -> SlabId {
        self.0.slab
    }

    /// A shard may be at a host from now on.
    pub(crate) fn place(&self, host: HostIndex, root: SectorRoot) {
        if let Some(shards) = self.0.leases.lock().uploads.get_mut(&(self.0.slab, self.0.number)) {
            shards.insert((host, root));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut table = self.leases.lock();
        if let Some(shards) = table.uploads.remove(&(self.slab, self.number)) {
            table.ended.push(Ended::Upload(self.slab, shards));
        }
    }
}

/// A reader of some slabs.
#[derive(Debug)]
pub(crate) struct ReadLease {
    leases: Leases,
    number: u64,
}

impl ReadLease {
    /// The reader is at work still: its slabs are kept for as long again.
    pub(crate) fn renew(&self, now: u64) {
        if let Some((start, _)) = self.leases.lock().readers.get_mut(&self.number) {
            *start = now;
        }
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        self.leases.lock().readers.remove(&self.number);
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change of the table is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a slab that is about to be stored, or of which shards are about to be.
    #[must_use]
    pub fn upload(&self, slab: SlabId) -> UploadLease {
        let number = {
            let mut table = self.lock();
            let number = table.number();
            table.uploads.insert((slab, number), Shards::new());
            number
        };
        UploadLease(Arc::new(Upload { leases: self.clone(), slab, number }))
    }

    /// Keeps slabs for a reader that starts now. To be taken while the journal's state is locked in
    /// which they were found.
    pub(crate) fn read(&self, slabs: BTreeSet<SlabId>, now: u64) -> ReadLease {
        let mut table = self.lock();
        let number = table.number();
        table.readers.insert(number, (now, slabs));
        ReadLease { leases: self.clone(), number }
    }

    /// A slab of a large file that no checkpoint lists any more.
    pub(crate) fn forget(&self, record: SlabRecord) {
        self.lock().ended.push(Ended::Checkpointed(record));
    }

    /// Takes out what has ended since the last call.
    pub(crate) fn take_ended(&self) -> Vec<Ended> {
        std::mem::take(&mut self.lock().ended)
    }

    /// Puts back what could not be judged yet.
    pub(crate) fn put_back(&self, mut ended: Vec<Ended>) {
        let mut table = self.lock();
        ended.append(&mut table.ended);
        table.ended = ended;
    }

    /// Slabs that are being uploaded or repaired.
    pub(crate) fn uploads(&self) -> BTreeSet<SlabId> {
        self.lock().uploads.keys().map(|(slab, _)| *slab).collect()
    }

    /// Sectors of uploads and repairs, also of those that have ended, at a host.
    pub(crate) fn sectors_at(&self, host: HostIndex) -> BTreeSet<SectorRoot> {
        let table = self.lock();
        let ended = table.ended.iter().filter_map(|ended| match ended {
            Ended::Upload(_, shards) => Some(shards),
            Ended::Checkpointed(_) => None,
        });
        let shards = table.uploads.values().chain(ended).flatten();
        shards.filter(|(index, _)| *index == host).map(|(_, root)| *root).collect()
    }

    /// Whether a slab is being uploaded or repaired, or read by somebody who began after `oldest`.
    pub(crate) fn in_use(&self, slab: &SlabId, oldest: u64) -> bool {
        let table = self.lock();
        let read =
            |(start, slabs): &(u64, BTreeSet<SlabId>)| *start >= oldest && slabs.contains(slab);
        let uploads = table.uploads.range((*slab, 0)..=(*slab, u64::MAX)).next();
        uploads.is_some() || table.readers.values().any(read)
    }

    /// Whether nobody reads, uploads or repairs.
    pub(crate) fn is_idle(&self) -> bool {
        let table = self.lock();
        table.uploads.is_empty() && table.readers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_keeps_its_slab_until_it_ends_or_is_too_old() {
        let leases = Leases::default();
        let (one, two) = (SlabId([1; 16]), SlabId([2; 16]));
        let upload = leases.upload(one);
        upload.place(HostIndex(3), SectorRoot([4; 32]));
        let other = upload.clone();
        drop(upload);
        assert!(leases.in_use(&one, u64::MAX));
        drop(other);
        assert!(!leases.in_use(&one, 0));
        assert_eq!(leases.take_ended().len(), 1);
        // A repair beside the end of an upload.
        let (upload, repair) = (leases.upload(one), leases.upload(one));
        repair.place(HostIndex(5), SectorRoot([6; 32]));
        drop(upload);
        assert!(leases.in_use(&one, u64::MAX));
        assert_eq!(leases.sectors_at(HostIndex(5)), BTreeSet::from([SectorRoot([6; 32])]));
        drop(repair);
        assert!(!leases.in_use(&one, 0));
        leases.take_ended();
        let reader = leases.read(BTreeSet::from([two]), 1_000);
        assert!(leases.in_use(&two, 1_000));
        assert!(!leases.in_use(&two, 1_001));
        reader.renew(2_000);
        assert!(leases.in_use(&two, 1_001));
        drop(reader);
        assert!(!leases.in_use(&two, 0));
        assert!(leases.is_idle());
    }
}
