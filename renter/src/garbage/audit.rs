//! What contracts hold and nothing names: left by crashes, by files that were started over, by shards
//! that moved elsewhere, by recoveries.
//!
//! A contract whose size is not what the journal's slabs make is audited, and each one now and then. The
//! host's list of sectors, which its data root proves, is compared with the descriptors of all slabs
//! that name the host. What is left over is a suspect; one that has been a suspect in two audits, so far
//! apart that no upload or repair takes as long, is freed. An audit that does not find every descriptor
//! frees nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::journal::{Change, HostIndex, SlabRecord};
use samara_protocol::slab::SlabDescriptor;

use super::free::explain;
use super::{Garbage, GarbageError};
use crate::contract::{ContractError, ContractHandle};
use crate::vault::checkpointed_slabs;

/// Slabs looked at under one lock of the journal's state, and descriptors asked for at once.
const PAGE: usize = 256;

/// What is remembered of a host's audits.
#[derive(Clone, Debug, Default)]
pub(super) struct HostAudit {
    /// Local time of the last one.
    at: u64,
    /// By how much the contract's size was not what it should be; nothing if the audit was not clear.
    excess: Option<i128>,
    /// Sectors without a name, and since when they are known to be.
    suspects: BTreeMap<SectorRoot, u64>,
    /// Why they wait.
    pub(super) reason: String,
}

impl HostAudit {
    pub(super) fn suspects(&self) -> u64 {
        self.suspects.len() as u64
    }
}

/// What an audit found.
enum Found {
    /// All descriptors are known; these sectors have no name.
    Unnamed(BTreeMap<SectorRoot, u64>),
    /// Some could not be learnt.
    Unclear(u64),
}

impl Garbage {
    /// Bytes that each host should hold, by its key in hex.
    pub(crate) async fn needed(&self) -> Result<BTreeMap<String, u64>, GarbageError> {
        let expected = self.expected().await?;
        let book = self.vaults.slabs.book();
        let key = |index| book.host(index).unwrap_or_default().to_string();
        Ok(expected.into_iter().map(|(index, bytes)| (key(index), bytes)).collect())
    }

    /// Audits the contracts that are due.
    pub(super) async fn audit(&self) -> Result<(), GarbageError> {
        let now = self.now();
        {
            let mut memory = self.memory();
            if now < memory.compare_at {
                return Ok(());
            }
            memory.compare_at = now.saturating_add(self.options.compare.0);
        }
        let expected = self.expected().await?;
        let contracts = self.vaults.slabs.book().live();
        let is_live = |index: &HostIndex| contracts.iter().any(|c| c.index() == *index);
        self.memory().audits.retain(|index, _| is_live(index));
        for contract in contracts {
            let index = contract.index();
            let expected = expected.get(&index).copied().unwrap_or_default();
            let excess = i128::from(contract.revision().revision.size) - i128::from(expected);
            if self.is_due(index, excess, now)
                && let Err(error) = self.audit_host(&contract, excess).await
            {
                match error {
                    GarbageError::Host(ContractError::Fenced { .. }) | GarbageError::Journal(_) => {
                        return Err(error);
                    }
                    // Another host's audit does not depend on it.
                    _ => tracing::debug!(%error, "an audit was cut off"),
                }
            }
        }
        Ok(())
    }

    /// Whether a contract is to be audited, whose size is by so much not what it should be.
    fn is_due(&self, index: HostIndex, excess: i128, now: u64) -> bool {
        let mut memory = self.memory();
        let first = || HostAudit { at: now, excess: Some(0), ..HostAudit::default() };
        let audit = match memory.audits.entry(index) {
            Entry::Vacant(_) if excess != 0 => return true,
            Entry::Vacant(vacant) => vacant.insert(first()),
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        let age = now.saturating_sub(audit.at);
        let open = !audit.suspects.is_empty() || audit.excess != Some(excess);
        age >= self.options.audit.0 || (open && age >= self.options.orphan.0)
    }

    /// Bytes that each host should hold, but for what is on its way.
    async fn expected(&self) -> Result<BTreeMap<HostIndex, u64>, GarbageError> {
        let named = self.vaults.journal.named().await?;
        let open = self.open_puts().await?;
        let mut expected = BTreeMap::new();
        named.segments.iter().chain(&open).for_each(|record| add(&mut expected, record));
        let mut after = Bound::Unbounded;
        loop {
            let last = self.vaults.journal.read(|state| {
                let page = state.slabs.range((after, Bound::Unbounded)).take(PAGE);
                page.fold(None, |_, (id, slab)| {
                    add(&mut expected, &slab.record);
                    Some(*id)
                })
            });
            let Some(last) = last else { return Ok(expected) };
            after = Bound::Excluded(last);
        }
    }

    /// Slabs that only puts name which were cut and may go on. Those of a put that is acknowledged lie where
    /// the state says: since then a repair may have moved them.
    async fn open_puts(&self) -> Result<Vec<SlabRecord>, GarbageError> {
        let kept = checkpointed_slabs(self.vaults.world.store.as_ref()).await?;
        let open = kept.into_values();
        Ok(self
            .vaults
            .journal
            .read(|state| open.filter(|record| !state.slabs.contains_key(&record.id)).collect()))
    }

    async fn audit_host(
        &self,
        contract: &ContractHandle,
        excess: i128,
    ) -> Result<(), GarbageError> {
        let index = contract.index();
        // The list first: whatever is stored later is not on it.
        let listed: BTreeMap<SectorRoot, u64> = contract.listed().await?.into_iter().collect();
        let unnamed = match self.unnamed(contract, listed).await? {
            Found::Unnamed(unnamed) => unnamed,
            Found::Unclear(missing) => {
                let mut memory = self.memory();
                let audit = memory.audits.entry(index).or_default();
                (audit.at, audit.excess) = (self.now(), None);
                audit.reason = format!("the descriptors of {missing} slabs cannot be learnt now");
                return Ok(());
            }
        };
        let now = self.now();
        let before = self.memory().audits.get(&index).cloned().unwrap_or_default().suspects;
        let since = |root: &SectorRoot| before.get(root).copied().unwrap_or(now);
        let suspects: BTreeMap<SectorRoot, u64> =
            unnamed.keys().map(|root| (*root, since(root))).collect();
        let ripe = |since: u64| now.saturating_sub(since) >= self.options.orphan.0;
        let mut ripe: Vec<SectorRoot> = suspects
            .iter()
            .filter(|(root, since)| before.contains_key(root) && ripe(**since))
            .map(|(root, _)| *root)
            .collect();
        let reason = "nothing names them; they are freed if it stays so".into();
        let audit = HostAudit { at: now, excess: Some(excess), suspects, reason };
        self.memory().audits.insert(index, audit);
        if !ripe.is_empty() {
            // A folder that was set back knows less than it should: this tells, before anything is lost.
            self.vaults.journal.append(vec![Change::SlabsReleased(Vec::new())]).await?;
            // A repair may have put a shard back meanwhile. What comes after this is stored anew.
            let leased = self.vaults.slabs.leases().sectors_at(index);
            ripe.retain(|root| !leased.contains(root));
            if ripe.is_empty() {
                return Ok(());
            }
            match contract.commit(Vec::new(), ripe.clone(), Vec::new()).await {
                Ok(_) => self.note_orphans(index, &ripe, &unnamed),
                Err(error @ ContractError::Fenced { .. }) => return Err(error.into()),
                Err(error) => {
                    self.memory().audits.entry(index).or_default().reason = explain(&error)
                }
            }
        }
        Ok(())
    }

    fn note_orphans(
        &self,
        index: HostIndex,
        freed: &[SectorRoot],
        sizes: &BTreeMap<SectorRoot, u64>,
    ) {
        let bytes = freed.iter().filter_map(|root| sizes.get(root)).sum();
        tracing::info!(host = index.0, sectors = freed.len(), bytes, "orphans are freed");
        self.count_freed(freed.len() as u64, bytes);
        let mut memory = self.memory();
        memory.report.orphans = memory.report.orphans.saturating_add(freed.len() as u64);
        if let Some(audit) = memory.audits.get_mut(&index) {
            for root in freed {
                audit.suspects.remove(root);
            }
        }
    }

    /// Of the sectors under a contract, those that nothing names, with their sizes.
    async fn unnamed(
        &self,
        contract: &ContractHandle,
        mut listed: BTreeMap<SectorRoot, u64>,
    ) -> Result<Found, GarbageError> {
        let index = contract.index();
        // In this order: what stops being an upload is in the journal's state by then.
        for root in self.vaults.slabs.leases().sectors_at(index) {
            listed.remove(&root);
        }
        let named = self.vaults.journal.named().await?;
        if !named.quiet {
            return Ok(Found::Unclear(0));
        }
        for root in self.listed_at(index).await? {
            listed.remove(&root);
        }
        let mut records: Vec<SlabRecord> = named.segments;
        records.extend(self.open_puts().await?);
        let mut unknown = 0;
        let mut after: Option<SlabId> = None;
        loop {
            records.retain(|record| record.hosts.contains(&index));
            for part in records.chunks(PAGE) {
                unknown += self.take_named(contract, part, &mut listed).await?;
            }
            records.clear();
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            after = self.vaults.journal.read(|state| {
                let page = state.slabs.range((from, Bound::Unbounded)).take(PAGE);
                page.fold(None, |_, (id, slab)| {
                    records.push(slab.record.clone());
                    Some(*id)
                })
            });
            if after.is_none() {
                let clear = unknown == 0;
                return Ok(if clear { Found::Unnamed(listed) } else { Found::Unclear(unknown) });
            }
        }
    }

    /// Takes the sectors of some slabs off a list; returns how many slabs are unknown.
    async fn take_named(
        &self,
        contract: &ContractHandle,
        records: &[SlabRecord],
        listed: &mut BTreeMap<SectorRoot, u64>,
    ) -> Result<u64, GarbageError> {
        let index = contract.index();
        let keys = self.vaults.slabs.book().keys();
        let tags: Vec<_> =
            records.iter().map(|record| contract.slab_tag(keys, &record.id)).collect();
        let sealed = contract.descriptors(&tags).await?;
        let mut unknown = 0;
        for (record, sealed) in records.iter().zip(sealed) {
            let key = keys.slab(&record.id);
            let own = sealed.and_then(|sealed| SlabDescriptor::open(key.as_bytes(), &sealed).ok());
            let own = own.filter(|own| own.hash() == record.descriptor);
            let roots: BTreeSet<SectorRoot> = match own {
                Some(own) => {
                    let shards = record.hosts.iter().zip(&own.shards);
                    shards.filter(|(host, _)| **host == index).map(|(_, s)| s.root).collect()
                }
                None => match self.shards(record).await {
                    Ok(shards) => {
                        shards.iter().filter(|(host, _)| *host == index).map(|(_, r)| *r).collect()
                    }
                    Err(_) => {
                        unknown += 1;
                        continue;
                    }
                },
            };
            for root in &roots {
                listed.remove(root);
            }
        }
        Ok(unknown)
    }
}

fn add(expected: &mut BTreeMap<HostIndex, u64>, record: &SlabRecord) {
    for host in &record.hosts {
        let bytes = expected.entry(*host).or_default();
        *bytes = bytes.saturating_add(record.column_bytes());
    }
}
