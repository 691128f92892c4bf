//! The repair of one slab: missing shards rebuilt, stored on other hosts, described.
//!
//! The sectors are the very bytes that were sealed once: nothing is sealed again under the slab's key but
//! the descriptor, whose nonce is random, so no key and nonce serve two plaintexts. Until the journal has
//! the new record the old one holds: its hosts keep their sectors, and every descriptor of a slab names
//! the same sectors, whoever is listed to have them. From the commit until the journal names it, what was
//! stored has the lease of an upload, so that the collector does not take it for garbage.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use samara_protocol::host::message::SealedDescriptor;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::sector::SectorEntry;
use samara_protocol::slab::{DescriptorError, ShardDescriptor, SlabDescriptor};
use samara_protocol::units::Epoch;

use super::standing::Standings;
use crate::contract::{ContractBook, ContractError, ContractHandle};
use crate::garbage::UploadLease;
use crate::slabs::Slabs;
use crate::transfer::{DownloadError, SlabClass, order};
use crate::world::random_bytes;

/// Times that a placement is described again because a host took its sector and then failed.
const ATTEMPTS: usize = 3;

/// Why a slab was not repaired.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum MendError {
    /// Every host that could take a shard has one.
    #[error("no host is free to take a shard: allow more hosts")]
    NoHost,
    /// Too little of it can be read.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// No host took a shard.
    #[error("no host took a shard: {0}")]
    Store(ContractError),
    /// Another node writes for these words now.
    #[error("another node has taken over with epoch {0}")]
    Fenced(Epoch),
    /// The new placement cannot be described.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The node is shutting down.
    #[error("the node is stopping")]
    Stopped,
    /// This node may not write at present.
    #[error("{0}")]
    MayNot(String),
}

impl MendError {
    /// How many sectors of a slab of which `shards` are missing were not moved because of it.
    pub(super) fn unmoved(&self, record: &SlabRecord, shards: usize) -> usize {
        let needed = usize::from(record.data);
        match self {
            Self::NoHost | Self::Stopped | Self::MayNot(_) => needed + shards,
            Self::Download(DownloadError::TooFewHosts { answered, .. }) => {
                needed.saturating_sub(*answered) + shards
            }
            Self::Download(_) => needed + shards,
            Self::Store(_) | Self::Fenced(_) | Self::Descriptor(_) => 0,
        }
    }

    /// What kind it is of: the same for all slabs that fail alike.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::NoHost => "no_host",
            Self::Download(_) => "download",
            Self::Store(_) => "store",
            Self::Fenced(_) => "fenced",
            Self::Descriptor(_) => "descriptor",
            Self::Stopped => "stopped",
            Self::MayNot(_) => "may_not",
        }
    }
}

/// A slab that hosts have in a new placement, which the journal does not know yet.
#[derive(Clone, Debug)]
pub(super) struct Mended {
    pub(super) record: SlabRecord,
    /// Shards with the host before and the host now.
    pub(super) moves: Vec<(u8, HostIndex, HostIndex)>,
    /// Keeps the sectors until the journal names their new places.
    pub(super) _lease: UploadLease,
}

/// A missing shard on its way.
struct Moving {
    shard: u8,
    bytes: Bytes,
    to: Option<ContractHandle>,
}

/// Hosts that may take shards.
struct Free {
    /// Those without a shard of the slab, the best first; any shard may go there.
    new: VecDeque<ContractHandle>,
    /// Those that lost theirs. Only that one may go back, or a host would have two.
    former: Vec<ContractHandle>,
}

impl Free {
    /// A host for a shard that is on host `own` by the record.
    fn take(&mut self, own: Option<HostIndex>) -> Option<ContractHandle> {
        self.new.pop_front().or_else(|| {
            let place = self.former.iter().position(|host| Some(host.index()) == own)?;
            Some(self.former.remove(place))
        })
    }

    fn may_go_back(&self, own: Option<HostIndex>) -> bool {
        self.former.iter().any(|host| Some(host.index()) == own)
    }
}

/// Repairs one slab.
pub(super) struct Mending<'a> {
    pub(super) book: &'a ContractBook,
    pub(super) slabs: &'a Slabs,
    pub(super) standings: &'a Standings,
    pub(super) class: SlabClass,
    pub(super) record: &'a SlabRecord,
    /// Shards that are missing.
    pub(super) missing: &'a [u8],
}

impl Mending<'_> {
    /// The missing shards to rebuild together: those for which there is a host, as far as they have room.
    pub(super) fn shards(&self) -> Vec<u8> {
        let mut shards = self.placeable(&self.free());
        let downloader = self.slabs.downloader(self.class);
        let column = self.record.column_bytes().max(1);
        let most = usize::try_from(downloader.most_room() / column).unwrap_or(usize::MAX);
        shards.truncate(most.max(1));
        shards
    }

    /// Rebuilds, stores and describes these shards.
    pub(super) async fn run(&self, shards: Vec<u8>) -> Result<Mended, MendError> {
        let mut free = self.free();
        let lease = self.slabs.leases().upload(self.record.id);
        let downloader = self.slabs.downloader(self.class);
        // They are held until hosts have them; rebuilding has a budget of its own.
        let room = self.record.column_bytes().saturating_mul(shards.len() as u64);
        let _room = downloader.room(room).await.ok_or(MendError::Stopped)?;
        let descriptor = downloader.slab_descriptor(self.record).await?;
        let sectors = downloader.sectors(self.record, &shards).await?;
        let moving = shards.into_iter().zip(sectors);
        let mut moving: Vec<Moving> =
            moving.map(|(shard, bytes)| Moving { shard, bytes, to: None }).collect();
        self.store(&descriptor, &mut moving, &mut free).await?;
        self.describe(&descriptor, moving, lease).await
    }

    /// The host that a shard is on by the record.
    fn host_of(&self, shard: u8) -> Option<HostIndex> {
        self.record.hosts.get(usize::from(shard)).copied()
    }

    /// Hosts that keep their shards.
    fn kept(&self) -> Vec<HostIndex> {
        let shards = (0u8..=u8::MAX).zip(&self.record.hosts);
        shards.filter(|(shard, _)| !self.missing.contains(shard)).map(|(_, host)| *host).collect()
    }

    /// The missing shards for which there is a host: first those that cannot go back to their own.
    fn placeable(&self, free: &Free) -> Vec<u8> {
        let missing = self.missing.iter().copied();
        let (back, away): (Vec<u8>, Vec<u8>) =
            missing.partition(|shard| free.may_go_back(self.host_of(*shard)));
        away.into_iter().take(free.new.len()).chain(back).collect()
    }

    /// Hosts that may take a shard: those of other operators before those of operators who have one.
    fn free(&self) -> Free {
        let kept = self.kept();
        let mut operators: BTreeSet<String> = kept
            .iter()
            .filter_map(|host| self.book.contract(*host))
            .map(|contract| contract.operator().to_owned())
            .collect();
        let hosts = order(self.book.live(), self.book.reports(), &self.record.id);
        let usable = hosts.into_iter().filter(|contract| {
            let index = contract.index();
            !kept.contains(&index) && self.standings.of_host(index).is_sound()
        });
        let (former, new): (Vec<_>, Vec<_>) =
            usable.partition(|contract| self.record.hosts.contains(&contract.index()));
        let (first, second): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|contract| operators.insert(contract.operator().to_owned()));
        Free { new: first.into_iter().chain(second).collect(), former }
    }

    /// Sends each shard to a free host, to the next one where that fails, until all have one or no host
    /// is left.
    async fn store(
        &self,
        descriptor: &SlabDescriptor,
        moving: &mut [Moving],
        free: &mut Free,
    ) -> Result<(), MendError> {
        let mut failure = None;
        loop {
            let mut sending = Vec::new();
            for (number, shard) in moving.iter().enumerate().filter(|(_, m)| m.to.is_none()) {
                let Some(host) = free.take(self.host_of(shard.shard)) else { continue };
                let bytes = shard.bytes.clone();
                let root = descriptor.shards[usize::from(shard.shard)].root;
                let class = self.class;
                sending.push(async move {
                    let stored = match class {
                        SlabClass::Metadata => host.store_at_once(root, bytes).await,
                        SlabClass::Data => host.store(root, bytes).await,
                    };
                    (number, stored, host)
                });
            }
            if sending.is_empty() {
                break;
            }
            for (number, stored, host) in join_all(sending).await {
                match stored {
                    Ok(()) => moving[number].to = Some(host),
                    Err(ContractError::Fenced { promised, .. }) => {
                        return Err(MendError::Fenced(promised));
                    }
                    Err(error) => failure = Some(error),
                }
            }
        }
        match failure {
            Some(error) if moving.iter().all(|shard| shard.to.is_none()) => {
                Err(MendError::Store(error))
            }
            _ => Ok(()),
        }
    }

    /// Commits the sectors with the descriptor of the new placement, then gives it to the other hosts.
    async fn describe(
        &self,
        old: &SlabDescriptor,
        mut moving: Vec<Moving>,
        lease: UploadLease,
    ) -> Result<Mended, MendError> {
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            moving.retain(|shard| shard.to.is_some());
            if moving.is_empty() {
                break;
            }
            let (record, sealed) = self.placement(old, &moving)?;
            let commits = moving.iter().enumerate().filter_map(|(number, shard)| {
                let index = shard.to.as_ref()?.index();
                let root = old.shards[usize::from(shard.shard)].root;
                let entry = SectorEntry { root, size: old.geometry.column() };
                lease.place(index, root);
                let sealed = sealed.clone();
                Some(async move { (number, self.commit(index, vec![entry], &sealed).await) })
            });
            let mut whole = true;
            for (number, done) in join_all(commits.collect::<Vec<_>>()).await {
                match done {
                    Ok(()) => {}
                    Err(ContractError::Fenced { promised, .. }) => {
                        return Err(MendError::Fenced(promised));
                    }
                    Err(error) => {
                        moving[number].to = None;
                        whole = false;
                        failure = Some(error);
                    }
                }
            }
            if whole {
                self.tell_others(&record, &moving, &sealed).await;
                let moves = moving.iter().filter_map(|shard| {
                    let to = shard.to.as_ref()?.index();
                    Some((shard.shard, self.host_of(shard.shard)?, to))
                });
                return Ok(Mended { moves: moves.collect(), record, _lease: lease });
            }
        }
        Err(failure.map_or(MendError::NoHost, MendError::Store))
    }

    /// The record and the sealed descriptor with the shards where they are going. The old descriptor may
    /// be of any placement: only its sectors count.
    fn placement(
        &self,
        old: &SlabDescriptor,
        moving: &[Moving],
    ) -> Result<(SlabRecord, Arc<Vec<u8>>), MendError> {
        let mut record = self.record.clone();
        for shard in moving {
            if let (Some(host), Some(place)) =
                (&shard.to, record.hosts.get_mut(usize::from(shard.shard)))
            {
                *place = host.index();
            }
        }
        let shards = record.hosts.iter().zip(&old.shards).map(|(index, shard)| ShardDescriptor {
            root: shard.root,
            host: self.book.host(*index).unwrap_or(shard.host),
        });
        let descriptor = SlabDescriptor::new(record.id, old.geometry, shards.collect())?;
        let key = self.book.keys().slab(&record.id);
        let nonce = random_bytes(self.book.world().random.as_ref());
        record.descriptor = descriptor.hash();
        Ok((record, Arc::new(descriptor.seal(key.as_bytes(), nonce))))
    }

    /// Files the descriptor at the hosts that keep their shards. One that is not reached keeps the one
    /// before, which still leads to the sectors.
    async fn tell_others(&self, record: &SlabRecord, moving: &[Moving], sealed: &Arc<Vec<u8>>) {
        let moved: Vec<u8> = moving.iter().map(|shard| shard.shard).collect();
        let others = (0u8..=u8::MAX).zip(&record.hosts).filter(|(shard, host)| {
            !moved.contains(shard) && self.standings.of_host(**host).is_sound()
        });
        let told = others.map(|(_, host)| self.commit(*host, Vec::new(), sealed));
        for done in join_all(told.collect::<Vec<_>>()).await {
            if let Err(error) = done {
                tracing::debug!(slab = %record.id.short(), %error, "not told of a repair");
            }
        }
    }

    async fn commit(
        &self,
        index: HostIndex,
        append: Vec<SectorEntry>,
        sealed: &Arc<Vec<u8>>,
    ) -> Result<(), ContractError> {
        // A contract that was renewed meanwhile took stored sectors and labels over.
        let Some(contract) = self.book.contract(index) else {
            let host = self.book.host(index).unwrap_or_default();
            return Err(ContractError::Stopped { host });
        };
        let tag = contract.slab_tag(self.book.keys(), &self.record.id);
        let descriptor = SealedDescriptor { tag, sealed: sealed.to_vec() };
        let done = contract.commit(append.clone(), Vec::new(), vec![descriptor.clone()]).await;
        let successor = self.book.contract(index).filter(|c| c.id() != contract.id());
        match (done, successor) {
            (Err(ContractError::Refused { .. }), Some(successor)) => {
                successor.commit(append, Vec::new(), vec![descriptor]).await.map(drop)
            }
            (done, _) => done.map(drop),
        }
    }
}
