//! Sectors of released slabs leave their contracts.
//!
//! The work list is in the renter's store: `garbage/free/` + host number (2 bytes, big-endian) + slab id
//! holds a [`FreeRow`]. A row says which sectors to remove, not that they may be: that is looked up in
//! the journal each time.

use std::collections::BTreeMap;

use samara_protocol::encoding;
use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::host::message::{MAX_COMMIT, Refusal, SealedDescriptor};
use samara_protocol::journal::HostIndex;
use serde::{Deserialize, Serialize};

use super::{Garbage, GarbageError};
use crate::contract::{ContractError, ContractHandle};
use crate::vault::checkpointed_slabs;
use crate::world::{Pages, StoreError, Write};

const PREFIX: &[u8] = b"garbage/free/";
/// Slabs removed by one commit.
const BATCH: usize = MAX_COMMIT / 4;
/// Commits at one host in one round.
const COMMITS: usize = 8;

/// Sectors of one slab at one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FreeRow {
    pub(super) version: u8,
    pub(super) roots: Vec<SectorRoot>,
}

impl FreeRow {
    pub(super) fn put(&self, host: HostIndex, slab: SlabId) -> Write {
        Write::Put([&prefix(host)[..], slab.as_bytes()].concat(), encoding::encode(self))
    }
}

fn prefix(host: HostIndex) -> Vec<u8> {
    [PREFIX, &host.0.to_be_bytes()].concat()
}

/// What came of a host's rows.
#[derive(Default)]
struct Freed {
    sectors: u64,
    bytes: u64,
    /// Sectors that wait, and why.
    waiting: u64,
    reason: Option<String>,
}

/// A row as it is stored.
struct Listed {
    key: Vec<u8>,
    slab: SlabId,
    roots: Vec<SectorRoot>,
}

/// The rows of a page.
fn listed(rows: Vec<(Vec<u8>, Vec<u8>)>) -> impl Iterator<Item = Listed> {
    rows.into_iter().filter_map(|(key, value)| {
        let slab = SlabId(*key.last_chunk()?);
        // A row that does not decode removes nothing; an audit finds its sectors.
        let roots = encoding::decode::<FreeRow>(&value).map(|row| row.roots);
        Some(Listed { key, slab, roots: roots.unwrap_or_default() })
    })
}

impl Garbage {
    /// Removes what is listed at every host that takes it now.
    pub(super) async fn free(&self) -> Result<(), GarbageError> {
        let book = self.vaults.slabs.book();
        let store = self.vaults.world.store.as_ref();
        for index in book.ended() {
            // With the contract went its sectors.
            self.drop_rows(index).await?;
        }
        if store.scan(PREFIX, None, 1).await?.is_empty() {
            self.memory().waiting.clear();
            return Ok(());
        }
        let journal = &self.vaults.journal;
        let status = journal.status();
        // Who comes back from few heads should not find names of what is freed: all that answer are told.
        journal.settle(status.acknowledged, status.hosts.len()).await?;
        let contracts = book.live();
        let freeing = contracts.iter().map(|contract| self.free_at(contract));
        let outcomes = futures::future::join_all(freeing).await;
        let mut waiting = BTreeMap::new();
        for (contract, outcome) in contracts.iter().zip(outcomes) {
            let freed = outcome?;
            self.count_freed(freed.sectors, freed.bytes);
            if freed.waiting > 0 {
                let reason = freed.reason.unwrap_or_default();
                waiting.insert(contract.index(), (freed.waiting, reason));
            }
        }
        self.memory().waiting = waiting;
        Ok(())
    }

    pub(super) fn count_freed(&self, sectors: u64, bytes: u64) {
        let mut memory = self.memory();
        let report = &mut memory.report;
        report.freed_sectors = report.freed_sectors.saturating_add(sectors);
        report.freed_bytes = report.freed_bytes.saturating_add(bytes);
    }

    async fn free_at(&self, contract: &ContractHandle) -> Result<Freed, GarbageError> {
        let prefix = prefix(contract.index());
        let mut freed = Freed::default();
        let mut after: Option<Vec<u8>> = None;
        for _ in 0..COMMITS {
            let page = self.page(&prefix, after.as_deref()).await?;
            let Some(last) = page.last() else { return Ok(freed) };
            after = Some(last.key.clone());
            let ready = self.ready(page, &mut freed).await?;
            if ready.is_empty() {
                continue;
            }
            let sectors: u64 = ready.iter().map(|row| row.roots.len() as u64).sum();
            match self.remove_rows(contract, &ready).await {
                Ok(bytes) => {
                    freed.sectors = freed.sectors.saturating_add(sectors);
                    freed.bytes = freed.bytes.saturating_add(bytes);
                    let gone = ready.into_iter().map(|row| Write::Delete(row.key)).collect();
                    self.vaults.world.store.commit(gone).await?;
                }
                Err(error @ ContractError::Fenced { .. }) => return Err(error.into()),
                Err(error) => {
                    freed.waiting = freed.waiting.saturating_add(sectors);
                    freed.reason = Some(explain(&error));
                    return Ok(freed);
                }
            }
        }
        Ok(freed)
    }

    /// Rows of which it is certain that nobody needs the sectors. Those of slabs that are in use after all
    /// are dropped.
    async fn ready(
        &self,
        page: Vec<Listed>,
        freed: &mut Freed,
    ) -> Result<Vec<Listed>, GarbageError> {
        let journal = &self.vaults.journal;
        // A release that is not acknowledged may still be.
        let named = journal.named().await?;
        let kept = checkpointed_slabs(self.vaults.world.store.as_ref()).await?;
        let (mut ready, mut dropped) = (Vec::new(), Vec::new());
        let oldest = self.oldest_reader();
        journal.read(|state| {
            for row in page {
                let in_journal = state.slabs.contains_key(&row.slab)
                    || kept.contains_key(&row.slab)
                    || named.segments.iter().any(|segment| segment.id == row.slab);
                if in_journal {
                    if named.quiet {
                        dropped.push(Write::Delete(row.key));
                    }
                } else if self.vaults.slabs.leases().in_use(&row.slab, oldest) {
                    freed.waiting = freed.waiting.saturating_add(row.roots.len() as u64);
                    freed.reason.get_or_insert_with(|| "they are being read".into());
                } else {
                    ready.push(row);
                }
            }
        });
        self.vaults.world.store.commit(dropped).await?;
        Ok(ready)
    }

    /// Removes sectors and descriptors; returns by how much the contract shrank.
    async fn remove_rows(
        &self,
        contract: &ContractHandle,
        rows: &[Listed],
    ) -> Result<u64, ContractError> {
        let keys = self.vaults.slabs.book().keys();
        let roots = rows.iter().flat_map(|row| row.roots.iter().copied()).collect();
        let tags = rows.iter().flat_map(|row| contract.slab_tags(keys, &row.slab));
        let descriptors = tags.map(|tag| SealedDescriptor { tag, sealed: Vec::new() }).collect();
        let before = contract.revision().revision.size;
        let after = contract.commit(Vec::new(), roots, descriptors).await?;
        // Uploads may have made it grow meanwhile; then less is counted.
        Ok(before.saturating_sub(after.revision.size))
    }

    async fn page(&self, prefix: &[u8], after: Option<&[u8]>) -> Result<Vec<Listed>, StoreError> {
        let page = self.vaults.world.store.scan(prefix, after, BATCH).await?;
        Ok(listed(page).collect())
    }

    /// Sectors that wait to be freed at a host.
    pub(super) async fn listed_at(&self, host: HostIndex) -> Result<Vec<SectorRoot>, StoreError> {
        let (prefix, mut roots) = (prefix(host), Vec::new());
        let mut pages = Pages::below(self.vaults.world.store.as_ref(), &prefix);
        while let Some(page) = pages.next().await? {
            roots.extend(listed(page).flat_map(|row| row.roots));
        }
        Ok(roots)
    }

    async fn drop_rows(&self, host: HostIndex) -> Result<(), StoreError> {
        if self.vaults.slabs.book().contract(host).is_some() {
            return Ok(());
        }
        Pages::below(self.vaults.world.store.as_ref(), &prefix(host)).delete().await
    }
}

/// Why a host does not free now.
pub(super) fn explain(error: &ContractError) -> String {
    match error {
        ContractError::Refused { refusal: Refusal::Busy(reason), .. } => reason.clone(),
        other => other.to_string(),
    }
}
