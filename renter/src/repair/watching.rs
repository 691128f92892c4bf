//! What is watched: silent hosts are asked whether they are there, slabs counted, and what came of it
//! shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::SlabRecord;

use super::health::{Census, record_of};
use super::report::{HeldRow, UnsoundHostRow};
use super::standing::Standings;
use super::work::Basis;
use super::{HELD, Inner, Repair};
use crate::contract::ContractHandle;

/// A host is asked whether it is there when it has not answered for a part of the patience.
const QUIET: u64 = 3;
/// Longest time between two such questions to a host that fails, milliseconds.
const PROBE: u64 = 20_000;
/// Hosts asked at once.
const PROBES: usize = 16;

impl Repair {
    /// Asks silent hosts and counts slabs.
    pub(super) async fn watch(&self) {
        let may = self.may();
        let may_write = may.is_ok();
        let off = || (self.0.options.bandwidth == 0).then(|| "repair is switched off".to_owned());
        self.seen().idle = may.err().or_else(off);
        if may_write {
            self.probe().await;
            self.count().await;
        }
    }

    pub(super) fn standings(&self) -> Standings {
        Standings::of(&self.0.book, &self.0.options)
    }

    /// Asks hosts that fail or have not been heard of for long, so that silence is known and ends.
    async fn probe(&self) {
        let book = &self.0.book;
        let now = self.0.world.clock.now();
        let quiet_for = self.0.options.patience.0 / QUIET;
        if now.saturating_sub(self.0.probed.load(Ordering::Relaxed)) < PROBE.min(quiet_for) {
            return;
        }
        self.0.probed.store(now, Ordering::Relaxed);
        let quiet = |contract: &ContractHandle| {
            let health = book.reports().health(&contract.host());
            health.failing > 0 || now.saturating_sub(health.last_answer) >= quiet_for
        };
        let quiet: Vec<ContractHandle> = book.live().into_iter().filter(quiet).collect();
        let asking = quiet.into_iter().map(|contract| async move {
            // The link reports what comes of it.
            let _ = contract.latest().await;
        });
        futures::stream::iter(asking).buffer_unordered(PROBES).collect::<Vec<()>>().await;
    }

    /// Takes a census if one is due, and shows what is known.
    pub(super) async fn count(&self) {
        let _counting = self.0.counting.lock().await;
        let Inner { world, journal, damage, .. } = &*self.0;
        let mut basis = Basis {
            standings: self.standings(),
            lost_version: damage.now().version,
            position: journal.status().acknowledged,
            segments: journal.segment_slabs(),
        };
        let standings = basis.standings.clone();
        let is_due = {
            let (mut work, now) = (self.work(), world.clock.now());
            work.expire(now, &basis) || work.is_due(now, &basis)
        };
        if is_due {
            self.forget_what_moved().await;
            let (passed_over, before) = self.work().before_census();
            let lost = damage.now();
            basis.lost_version = lost.version;
            let census = Census::take(world, journal, &standings, &lost, &passed_over).await;
            self.0.slabs.set_unreadable(census.unreadable.clone());
            self.renew_metadata(&census.lost_metadata).await;
            let work_to_do = !census.queues.are_empty();
            self.work().take_in(census, basis, before);
            if work_to_do {
                self.0.censuses.send_replace(());
            }
        }
        self.show(&standings);
    }

    /// Forgets lost shards that their slabs do not have at those hosts any more.
    async fn forget_what_moved(&self) {
        let damage = &self.0.damage;
        let lost = damage.now();
        let records: BTreeMap<SlabId, SlabRecord> = lost
            .slabs()
            .into_iter()
            .filter_map(|slab| Some((slab, record_of(&self.0.journal, &slab)?.1)))
            .collect();
        let is_named = |slab: &SlabId, host: &_| {
            records.get(slab).is_some_and(|record| record.hosts.contains(host))
        };
        let mut gone = lost.places();
        drop(lost);
        gone.retain(|(slab, host)| !is_named(slab, host));
        damage.forget(&gone).await;
    }

    /// What the hosts have lost of the metadata in use is known here: it is written anew. Without it this
    /// node goes on, and a recovery from the words would not.
    async fn renew_metadata(&self, lost: &BTreeSet<SlabId>) {
        let journal = &self.0.journal;
        let segments = journal.segment_slabs();
        let lost = segments.iter().any(|record| lost.contains(&record.id))
            || journal.read(|state| {
                let mut checkpoints = state.checkpoint.iter();
                checkpoints.any(|name| name.slabs().any(|slab| lost.contains(&slab)))
            });
        if lost {
            tracing::warn!("metadata is lost at the hosts; it is written anew");
            journal.renew().await;
        }
    }

    /// What reports show from now on.
    fn show(&self, standings: &Standings) {
        let rows = self.0.book.hosts();
        // Hosts of which no contract is left any more and that hold nothing are no news.
        let hosts = standings.unsound().filter_map(|(index, reason, for_good)| {
            let row = rows.iter().find(|row| row.index == index)?;
            row.contract.is_some().then(|| UnsoundHostRow {
                host: row.host.to_string(),
                operator: row.operator.clone(),
                for_good,
                reason: reason.to_owned(),
            })
        });
        let hosts = hosts.collect();
        let lost_shards = self.0.damage.now().len() as u64;
        let work = self.work();
        let held = work.postponed().iter().take(HELD).map(|(slab, postponed)| HeldRow {
            slab: slab.to_string(),
            until: postponed.until(),
            reason: postponed.reason.clone(),
        });
        let mut seen = self.seen();
        if let Some(census) = work.census() {
            seen.counted = Some(census.at);
            (seen.data, seen.metadata) = (census.data, census.metadata);
            seen.unreadable = census.unreadable.clone();
        }
        seen.lost_shards = lost_shards;
        (seen.waiting, seen.to_move) = work.left();
        seen.held_total = work.postponed().len() as u64;
        (seen.held, seen.hosts) = (held.collect(), hosts);
    }
}
