//! Shards that their hosts have lost: kept in memory and in the renter's store below `repair/lost/`, so
//! that what an audit has paid for is known after a restart. A cache: audits find it again.

use std::collections::BTreeMap;

use samara_protocol::encoding;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{HostIndex, SlabRecord};

use crate::world::{Pages, StoreError, World, Write};

const LOST: &[u8] = b"repair/lost/";
/// Most shards that are kept; what is lost beyond is found again once these are repaired.
const MOST: usize = 16_384;

/// The shards that are lost, with the reasons.
pub(super) struct Damage {
    world: World,
    lost: BTreeMap<(SlabId, HostIndex), String>,
    /// Grows with each change.
    version: u64,
}

fn key(slab: &SlabId, host: HostIndex) -> Vec<u8> {
    [LOST, slab.as_bytes(), &host.0.to_be_bytes()].concat()
}

impl Damage {
    /// What is known from before; a row that cannot be read is passed over.
    pub(super) async fn open(world: World) -> Result<Self, StoreError> {
        let mut lost = BTreeMap::new();
        let mut pages = Pages::below(world.store.as_ref(), LOST);
        while let Some(page) = pages.next().await? {
            for (key, value) in page {
                let place = <[u8; 18]>::try_from(&key[LOST.len()..]);
                let (Ok(place), Ok(reason)) = (place, encoding::decode::<String>(&value)) else {
                    continue;
                };
                if let (Some(slab), Some(host)) = (place.first_chunk(), place.last_chunk()) {
                    let host = HostIndex(u16::from_be_bytes(*host));
                    lost.insert((SlabId(*slab), host), reason);
                }
            }
        }
        Ok(Self { world, lost, version: 0 })
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn len(&self) -> usize {
        self.lost.len()
    }

    /// Why a shard is lost, if it is.
    pub(super) fn reason(&self, slab: &SlabId, host: HostIndex) -> Option<&str> {
        self.lost.get(&(*slab, host)).map(String::as_str)
    }

    /// The slabs with lost shards.
    pub(super) fn slabs(&self) -> Vec<SlabId> {
        let mut slabs: Vec<SlabId> = self.lost.keys().map(|(slab, _)| *slab).collect();
        slabs.dedup();
        slabs
    }

    /// Notes a shard as lost.
    pub(super) async fn mark(&mut self, slab: SlabId, host: HostIndex, reason: String) {
        if self.lost.len() >= MOST || self.lost.contains_key(&(slab, host)) {
            return;
        }
        let write = Write::Put(key(&slab, host), encoding::encode(&reason));
        self.write(vec![write]).await;
        self.lost.insert((slab, host), reason);
        self.version += 1;
    }

    /// Forgets a shard that is there after all.
    pub(super) async fn clear(&mut self, slab: &SlabId, host: HostIndex) {
        if self.lost.remove(&(*slab, host)).is_some() {
            self.write(vec![Write::Delete(key(slab, host))]).await;
            self.version += 1;
        }
    }

    /// Forgets what does not belong to the slab any more: hosts that its record does not name, and all
    /// where there is no record.
    pub(super) async fn keep_only(&mut self, slab: &SlabId, record: Option<&SlabRecord>) {
        let named = |host: &HostIndex| record.is_some_and(|record| record.hosts.contains(host));
        let range = (*slab, HostIndex(0))..=(*slab, HostIndex(u16::MAX));
        let known = self.lost.range(range).map(|((_, host), _)| *host);
        let gone: Vec<HostIndex> = known.filter(|host| !named(host)).collect();
        for host in gone {
            self.clear(slab, host).await;
        }
    }

    async fn write(&self, writes: Vec<Write>) {
        if let Err(error) = self.world.store.commit(writes).await {
            // Only a cache: it is found again.
            tracing::debug!(%error, "what is lost was not written down");
        }
    }
}
