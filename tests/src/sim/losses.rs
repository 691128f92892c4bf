//! Hosts that are lost for good, and slabs that must be whole again by themselves.

use std::time::Duration;

use samara_protocol::journal::SlabRecord;
use samara_renter::contract::Redundancy;
use samara_renter::repair::HealthReport;

use super::run::Run;

/// Hosts of such a run.
pub(super) const HOSTS: usize = 12;
/// Any 4 of 8 hosts bring a slab back, and four have no shard of it.
pub(super) const REDUNDANCY: Redundancy = Redundancy { data: 4, total: 8, margin: 2 };
/// Hosts that are lost.
const LOST: usize = 3;
/// Simulated hours until everything must be whole.
const HOURS: u64 = 12;
/// Simulated hours of quiet before, so that audits have seen all that faults have left undone.
const QUIET: u64 = 3;

impl Run {
    /// Three hosts are lost; after some quiet time all slabs have all their shards, and as many more hosts
    /// may go as every slab bears.
    pub(super) async fn lose_hosts(&mut self) {
        self.resolve().await;
        if self.renter.is_none() || !self.trace.violations().is_empty() {
            return;
        }
        self.quiet(QUIET).await;
        if !self.health().hosts.is_empty() {
            // A take-over gave silent hosts up, and nobody forms contracts here: too few are left.
            self.trace.event(format_args!("hosts were given up before"));
            return;
        }
        self.lose(LOST);
        let mut report = self.health();
        for _ in 0..HOURS {
            self.quiet(1).await;
            report = self.health();
            if is_whole(&report) {
                break;
            }
        }
        if !is_whole(&report) {
            self.trace.violation(format!("not whole after {HOURS} hours: {report:?}"));
            return;
        }
        let Some(seen) = self.look("after hosts were lost").await else { return };
        self.lose(self.spare());
        self.read_all("with as few hosts as slabs must bear", &seen).await;
    }

    /// Hosts that every slab bears to lose: those cut while fewer hosts were in use have less parity.
    fn spare(&self) -> usize {
        let records = self.renter.as_ref().map(|renter| renter.slab_records()).unwrap_or_default();
        let parity = |record: &SlabRecord| record.hosts.len() - usize::from(record.data);
        records.iter().map(parity).min().unwrap_or_default()
    }

    fn lose(&mut self, count: usize) {
        for _ in 0..count {
            let left = self.hosts.surviving();
            self.hosts.lose(left[self.trouble.index(left.len())]);
        }
    }

    fn health(&self) -> HealthReport {
        self.renter.as_ref().map(|renter| renter.health()).unwrap_or_default()
    }

    async fn quiet(&self, hours: u64) {
        tokio::time::sleep(Duration::from_secs(hours * 3_600)).await;
    }
}

fn is_whole(report: &HealthReport) -> bool {
    let missing = report.data.not_full() + report.metadata.not_full();
    report.hosts.len() == LOST && missing + report.lost_shards + report.waiting == 0
}
