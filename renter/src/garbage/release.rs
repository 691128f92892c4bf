//! Slabs that nothing names leave the journal.

use std::collections::BTreeMap;

use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::journal::{Change, HostIndex, SlabRecord};

use super::free::FreeRow;
use super::leases::{Ended, Shards};
use super::{Garbage, GarbageError};
use crate::transfer::{DownloadError, SlabClass};
use crate::vault::checkpointed_slabs;
use crate::world::Write;

/// Slabs released by one entry.
const ENTRY: usize = 64;
/// Slabs released in one round.
const ROUND: usize = 1_024;
/// Attempts to learn the sectors of a slab before it is released without: an audit finds them.
const TRIES: u32 = 10;
/// Slabs whose descriptors are asked for at one time.
const PARALLEL: usize = 8;

impl Garbage {
    /// Looks at uploads that have ended: the journal names those that went well. What is at hosts of the
    /// others is garbage.
    pub(super) async fn judge_ended(&self) -> Result<(), GarbageError> {
        let leases = self.vaults.slabs.leases();
        let ended = leases.take_ended();
        if ended.is_empty() {
            return Ok(());
        }
        let judged = self.judge(&ended).await;
        if !matches!(judged, Ok(true)) {
            leases.put_back(ended);
        }
        judged.map(drop)
    }

    /// Whether they could be judged.
    async fn judge(&self, ended: &[Ended]) -> Result<bool, GarbageError> {
        let journal = &self.vaults.journal;
        let named = journal.named().await?;
        if !named.quiet {
            return Ok(false);
        }
        let kept = checkpointed_slabs(self.vaults.world.store.as_ref()).await?;
        let unnamed = journal.read(|state| {
            let is_named = |slab: &SlabId| {
                state.slabs.contains_key(slab)
                    || kept.contains_key(slab)
                    || named.segments.iter().any(|segment| segment.id == *slab)
            };
            ended.iter().filter(|ended| !is_named(&ended.slab())).cloned().collect::<Vec<_>>()
        });
        let mut writes = Vec::new();
        for ended in unnamed {
            match ended {
                Ended::Upload(slab, shards) => writes.extend(rows(slab, &shards)),
                Ended::Checkpointed(record) => {
                    // What cannot be learnt is left to an audit.
                    let shards = self.shards(&record).await.unwrap_or_default();
                    writes.extend(rows(record.id, &shards));
                }
            }
        }
        self.vaults.world.store.commit(writes).await?;
        Ok(true)
    }

    /// Releases slabs that no version and no backup names. The rows of their sectors are on disk before.
    pub(super) async fn release(&self) -> Result<(), GarbageError> {
        let journal = &self.vaults.journal;
        let dead: Vec<SlabRecord> = journal.read(|state| {
            let records = state.dead.iter().filter_map(|slab| state.slabs.get(slab));
            records.take(ROUND).map(|slab| slab.record.clone()).collect()
        });
        if dead.is_empty() {
            let mut memory = self.memory();
            memory.tries.clear();
            memory.resumable.clear();
            return Ok(());
        }
        let kept = checkpointed_slabs(self.vaults.world.store.as_ref()).await?;
        self.memory().resumable = kept.keys().copied().collect();
        let uploads = self.vaults.slabs.leases().uploads();
        let free =
            |record: &SlabRecord| !kept.contains_key(&record.id) && !uploads.contains(&record.id);
        let dead: Vec<SlabRecord> = dead.into_iter().filter(free).collect();
        for part in dead.chunks(ENTRY) {
            self.release_part(part).await?;
        }
        Ok(())
    }

    async fn release_part(&self, part: &[SlabRecord]) -> Result<(), GarbageError> {
        let (mut writes, mut released) = (Vec::new(), Vec::new());
        for some in part.chunks(PARALLEL) {
            let asked = some.iter().map(|record| self.shards(record));
            let found = futures::future::join_all(asked).await;
            for (record, shards) in some.iter().zip(found) {
                match shards {
                    Ok(shards) => writes.extend(rows(record.id, &shards)),
                    Err(_) if self.is_hopeless(record) => {}
                    Err(_) => continue,
                }
                released.push(record.id);
            }
        }
        if released.is_empty() {
            return Ok(());
        }
        self.vaults.world.store.commit(writes).await?;
        self.vaults.journal.append(vec![Change::SlabsReleased(released.clone())]).await?;
        tracing::info!(slabs = released.len(), "slabs that nothing needs are released");
        let mut memory = self.memory();
        for slab in &released {
            memory.tries.remove(slab);
        }
        Ok(())
    }

    /// Whether the sectors of a slab are not going to be learnt.
    fn is_hopeless(&self, record: &SlabRecord) -> bool {
        let book = self.vaults.slabs.book();
        let mut memory = self.memory();
        let tries = memory.tries.entry(record.id).or_default();
        *tries = tries.saturating_add(1);
        *tries >= TRIES || record.hosts.iter().all(|host| book.contract(*host).is_none())
    }

    /// The sectors of a slab, by host.
    pub(super) async fn shards(&self, record: &SlabRecord) -> Result<Shards, DownloadError> {
        let descriptor =
            self.vaults.slabs.downloader(SlabClass::Data).slab_descriptor(record).await?;
        let roots = descriptor.shards.iter().map(|shard| shard.root);
        Ok(record.hosts.iter().copied().zip(roots).collect())
    }
}

/// The rows of a slab's sectors.
fn rows(slab: SlabId, shards: &Shards) -> Vec<Write> {
    let mut by_host: BTreeMap<HostIndex, Vec<SectorRoot>> = BTreeMap::new();
    for (host, root) in shards {
        by_host.entry(*host).or_default().push(*root);
    }
    let rows =
        by_host.into_iter().map(|(host, roots)| FreeRow { version: 1, roots }.put(host, slab));
    rows.collect()
}
