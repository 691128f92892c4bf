//! Shards that their hosts have lost: kept in memory and in the renter's store below `repair/lost/`, so
//! that what an audit has paid for is known after a restart. A cache: audits find it again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::encoding;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::HostIndex;
use samara_protocol::sync::lock;

use crate::world::{Pages, StoreError, World, Write};

const LOST: &[u8] = b"repair/lost/";
/// Most shards that are kept; what is lost beyond is found again once these are repaired.
const MOST: usize = 16_384;

/// The shards that were lost at one moment, with the reasons. A cheap clone.
#[derive(Clone, Default)]
pub(super) struct LostShards {
    rows: Arc<BTreeMap<Place, String>>,
    /// Grows with each change.
    pub(super) version: u64,
}

/// A shard by the host that was to have it.
type Place = (SlabId, HostIndex);

impl LostShards {
    /// Why a shard is lost, if it is.
    pub(super) fn reason(&self, slab: &SlabId, host: HostIndex) -> Option<&str> {
        self.rows.get(&(*slab, host)).map(String::as_str)
    }

    /// The slabs with lost shards.
    pub(super) fn slabs(&self) -> Vec<SlabId> {
        let mut slabs: Vec<SlabId> = self.rows.keys().map(|(slab, _)| *slab).collect();
        slabs.dedup();
        slabs
    }

    /// All of them.
    pub(super) fn places(&self) -> Vec<Place> {
        self.rows.keys().copied().collect()
    }

    /// Those of one slab.
    pub(super) fn places_of(&self, slab: &SlabId) -> Vec<Place> {
        let range = (*slab, HostIndex(0))..=(*slab, HostIndex(u16::MAX));
        self.rows.range(range).map(|(place, _)| *place).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// What is known to be lost, for all who find it and mend it.
pub(super) struct Damage {
    world: World,
    /// One change after another, so that the store has them in the order of memory.
    changing: tokio::sync::Mutex<()>,
    /// A leaf, held for no call.
    lost: Mutex<LostShards>,
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
        let lost = Mutex::new(LostShards { rows: Arc::new(lost), version: 0 });
        Ok(Self { world, changing: tokio::sync::Mutex::default(), lost })
    }

    /// What is lost now.
    pub(super) fn now(&self) -> LostShards {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LostShards> {
        lock(&self.lost)
    }

    /// Notes a shard as lost.
    pub(super) async fn mark(&self, slab: SlabId, host: HostIndex, reason: String) {
        let _changing = self.changing.lock().await;
        {
            let mut lost = self.lock();
            if lost.rows.len() >= MOST || lost.rows.contains_key(&(slab, host)) {
                return;
            }
            Arc::make_mut(&mut lost.rows).insert((slab, host), reason.clone());
            lost.version += 1;
        }
        self.write(vec![Write::Put(key(&slab, host), encoding::encode(&reason))]).await;
    }

    /// Forgets shards that are there after all, or that no slab has there; returns the versions before and
    /// after.
    pub(super) async fn forget(&self, places: &[Place]) -> (u64, u64) {
        let _changing = self.changing.lock().await;
        let (writes, before, after) = {
            let mut lost = self.lock();
            let before = lost.version;
            if places.is_empty() {
                return (before, before);
            }
            let rows = Arc::make_mut(&mut lost.rows);
            let known = places.iter().filter(|place| rows.remove(place).is_some());
            let writes: Vec<Write> =
                known.map(|(slab, host)| Write::Delete(key(slab, *host))).collect();
            lost.version += writes.len() as u64;
            (writes, before, lost.version)
        };
        if !writes.is_empty() {
            self.write(writes).await;
        }
        (before, after)
    }

    async fn write(&self, writes: Vec<Write>) {
        if let Err(error) = self.world.store.commit(writes).await {
            // Only a cache: it is found again.
            tracing::debug!(%error, "what is lost was not written down");
        }
    }
}
