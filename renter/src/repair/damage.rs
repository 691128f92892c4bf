//! Shards that their hosts have lost: kept in memory and in the renter's store below `repair/lost/`, so
//! that what an audit has paid for is known after a restart. A cache: audits find it again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::encoding;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::sync::lock;

use crate::world::{Pages, StoreError, World, Write};

const LOST: &[u8] = b"repair/lost/";
/// Most shards that are kept; what is lost beyond is found again once these are repaired.
const MOST: usize = 16_384;

/// The shards that were lost at one moment, with the reasons. A cheap clone.
#[derive(Clone, Default)]
pub(super) struct Lost {
    rows: Arc<BTreeMap<(SlabId, HostIndex), String>>,
    /// Grows with each change.
    pub(super) version: u64,
}

impl Lost {
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

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// What is known to be lost, for all who find it and mend it.
pub(super) struct Damage {
    world: World,
    /// A leaf, held for no call.
    lost: Mutex<Lost>,
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
        let lost = Mutex::new(Lost { rows: Arc::new(lost), version: 0 });
        Ok(Self { world, lost })
    }

    /// What is lost now.
    pub(super) fn now(&self) -> Lost {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lost> {
        lock(&self.lost)
    }

    /// Notes a shard as lost.
    pub(super) async fn mark(&self, slab: SlabId, host: HostIndex, reason: String) {
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

    /// Forgets a shard that is there after all; returns how many changes that was.
    pub(super) async fn clear(&self, slab: &SlabId, host: HostIndex) -> u64 {
        {
            let mut lost = self.lock();
            if !lost.rows.contains_key(&(*slab, host)) {
                return 0;
            }
            Arc::make_mut(&mut lost.rows).remove(&(*slab, host));
            lost.version += 1;
        }
        self.write(vec![Write::Delete(key(slab, host))]).await;
        1
    }

    /// Forgets what does not belong to the slab any more: hosts that its record does not name, and all
    /// where there is no record. Returns how many changes that was.
    pub(super) async fn keep_only(&self, slab: &SlabId, record: Option<&SlabRecord>) -> u64 {
        let named = |host: &HostIndex| record.is_some_and(|record| record.hosts.contains(host));
        let range = (*slab, HostIndex(0))..=(*slab, HostIndex(u16::MAX));
        let lost = self.now();
        let known = lost.rows.range(range).map(|((_, host), _)| *host);
        let mut changes = 0;
        for host in known.filter(|host| !named(host)) {
            changes += self.clear(slab, host).await;
        }
        changes
    }

    async fn write(&self, writes: Vec<Write>) {
        if let Err(error) = self.world.store.commit(writes).await {
            // Only a cache: it is found again.
            tracing::debug!(%error, "what is lost was not written down");
        }
    }
}
