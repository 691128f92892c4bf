//! What waits to be committed under one contract, and the list of sectors behind its latest revision.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use samara_protocol::contract::{Revision, SignedRevision};
use samara_protocol::hash::SectorRoot;
use samara_protocol::host::message::SealedDescriptor;
use samara_protocol::sector::{SectorEntry, SectorTree};
use samara_protocol::signature::Signature;
use samara_protocol::sync::lock;
use tokio::sync::oneshot;

use super::error::ContractError;

pub(super) type Reply = oneshot::Sender<Result<SignedRevision, ContractError>>;

/// What one caller wants.
pub(super) struct Job {
    pub(super) append: Vec<SectorEntry>,
    pub(super) remove: Vec<SectorRoot>,
    pub(super) descriptors: Vec<SealedDescriptor>,
    pub(super) reply: Reply,
}

/// What waits, and the list behind the latest revision.
pub(super) struct CommitQueue {
    pub(super) waiting: Mutex<Waiting>,
    pub(super) data: tokio::sync::Mutex<Data>,
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) jobs: VecDeque<Job>,
    pub(super) running: bool,
}

/// The sectors of the latest revision, if they are known.
#[derive(Default)]
pub(super) struct Data {
    pub(super) known: Option<Sectors>,
    /// A revision that was sent and not answered.
    pub(super) pending: Option<Prepared>,
    /// Whether the host was asked for its latest revision since the last failure.
    pub(super) agreed: bool,
}

#[derive(Clone, Default)]
pub(super) struct Sectors {
    pub(super) entries: Vec<SectorEntry>,
    pub(super) present: BTreeSet<SectorRoot>,
    pub(super) tree: SectorTree,
}

/// One revision about to be sent.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) revision: Revision,
    pub(super) renter: Signature,
    pub(super) append: Vec<SectorEntry>,
    pub(super) remove: Vec<u64>,
}

impl CommitQueue {
    /// A queue that must ask the host for its state first.
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), data: tokio::sync::Mutex::default() }
    }

    /// A queue of a contract that was just formed and is empty.
    pub(super) fn fresh() -> Self {
        let data = Data { known: Some(Sectors::default()), pending: None, agreed: true };
        Self { waiting: Mutex::default(), data: tokio::sync::Mutex::new(data) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The queue is only pushed to and popped from; a poisoned lock holds a whole one.
        lock(&self.waiting)
    }
}

impl Sectors {
    pub(super) fn of(entries: Vec<SectorEntry>) -> Self {
        let tree = entries.iter().collect();
        let present = entries.iter().map(|entry| entry.root).collect();
        Self { entries, present, tree }
    }

    pub(super) fn apply(&mut self, append: &[SectorEntry], remove: &[u64]) {
        if !remove.is_empty() {
            let gone: BTreeSet<u64> = remove.iter().copied().collect();
            let mut index = 0;
            self.entries.retain(|_| {
                index += 1;
                !gone.contains(&(index - 1))
            });
            *self = Self::of(std::mem::take(&mut self.entries));
        }
        for entry in append {
            self.entries.push(*entry);
            self.present.insert(entry.root);
            self.tree.append(entry);
        }
    }
}

impl Job {
    pub(super) fn is_empty(&self) -> bool {
        self.append.is_empty() && self.remove.is_empty() && self.descriptors.is_empty()
    }

    pub(super) fn descriptor_bytes(&self) -> usize {
        self.descriptors.iter().map(|descriptor| descriptor.sealed.len()).sum()
    }
}
