//! What a renter shows of itself: its state at a glance, contracts and hosts, and backups as heads tell
//! of them. Owns nothing, and asks nobody but this machine.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::HostIndex;

use super::Renter;
use crate::backup::{BackupKind, BackupPhase, BackupRow, BackupStatus};
use crate::journal::{HeadHost, JournalStatus, Mode};
use crate::repair::HealthReport;
use crate::rows::{ContractRow, HeadHostRow, HostRow, RenterState, RenterStatus};
use crate::vault::totals;

impl Renter {
    /// Waits until the state is as wanted.
    pub async fn until(&self, wanted: impl Fn(&RenterState) -> bool + Send) {
        let (mut journal, mut recovery) = (self.inner.journal.watch(), self.inner.recovery.ended());
        loop {
            journal.borrow_and_update();
            recovery.borrow_and_update();
            if wanted(&self.state()) {
                return;
            }
            tokio::select! {
                changed = journal.changed() => if changed.is_err() {
                    // The journal's owner has ended: nothing changes any more.
                    return std::future::pending().await;
                },
                // The other end is in `self`.
                _ = recovery.changed() => {}
            }
        }
    }

    /// Whether it writes, and why not. Unlike the status it costs the same however much is stored.
    #[must_use]
    pub fn state(&self) -> RenterState {
        self.state_by(&self.inner.journal.status())
    }

    fn state_by(&self, journal: &JournalStatus) -> RenterState {
        let recovery = self.inner.recovery.status();
        if recovery.running || self.inner.recovery.is_unfinished() {
            return RenterState::Recovering { progress: recovery.progress };
        }
        match (journal.fenced, journal.mode) {
            (Some(by), _) => RenterState::Fenced { by: by.to_string() },
            (None, Mode::Fresh) => RenterState::Fresh,
            (None, Mode::Active) => RenterState::Active,
            (None, Mode::ReadOnly) => RenterState::ReadOnly,
        }
    }

    /// Everything at a glance.
    #[must_use]
    pub fn status(&self) -> RenterStatus {
        let journal = self.inner.journal.status();
        let state = self.state_by(&journal);
        let halted = self.inner.upkeep.halted();
        let refused = self.inner.upkeep.lineage().refusal().map(|error| error.to_string());
        let (vaults, files, bytes, backups) = self.inner.journal.read(|state| {
            let listed = state.listed_vaults().count() as u64;
            let each = state.listed_vaults().map(|(_, vault)| totals(vault));
            let (files, bytes) =
                each.fold((0, 0u64), |(f, b), (files, bytes)| (f + files, b.saturating_add(bytes)));
            (listed, files, bytes, state.backups.len() as u64)
        });
        let (unreachable, bare, unreadable) = self.reach();
        let (mut hosts, mut settled) = (journal.hosts.len() as u64, journal.settled as u64);
        if journal.mode == Mode::ReadOnly {
            // This node writes no heads; the recovery saw them.
            let heads = self.inner.recovery.heads();
            let holds =
                |position: &Option<u64>| position.is_some_and(|at| at >= journal.acknowledged);
            hosts = heads.len() as u64;
            settled = heads.iter().filter(|position| holds(position)).count() as u64;
        }
        let outlook = self.inner.upkeep.outlook();
        RenterStatus {
            state,
            epoch: journal.epoch.to_string(),
            position: journal.acknowledged,
            unacknowledged: journal.position.saturating_sub(journal.acknowledged),
            settled_position: self.inner.settled.position(),
            vaults,
            files,
            bytes,
            backups,
            hosts,
            head_set: journal.head_set.into_iter().map(|host| self.head_host(host)).collect(),
            settled,
            forming: outlook.forming,
            unreachable,
            ended: self.says_ended(),
            bare,
            unreadable: unreadable.len() as u64,
            poor: outlook.poor,
            health: self.inner.repair.summary(),
            problem: refused.or(journal.problem),
            lapses: outlook.lapses(&self.inner.book.live(), halted.as_deref()),
            garbage: self.inner.garbage.report(),
        }
    }

    /// The health of all slabs, and what is done about it.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        let (_, _, unanswered) = self.reach();
        self.inner.repair.report(unanswered)
    }

    /// Hosts with live contracts that say that these have ended.
    fn says_ended(&self) -> u64 {
        let reports = self.inner.book.reports();
        let live = self.inner.book.live();
        live.iter().filter(|contract| reports.says_ended(&contract.host())).count() as u64
    }

    /// Hosts with live contracts that do not answer, slabs in use that bear the loss of no further host,
    /// and slabs that cannot be read now.
    fn reach(&self) -> (u64, u64, BTreeSet<SlabId>) {
        let reports = self.inner.book.reports();
        let (gone, reached): (Vec<_>, Vec<_>) = self
            .inner
            .book
            .live()
            .into_iter()
            .partition(|contract| reports.health(&contract.host()).is_unreachable());
        let reached: BTreeSet<HostIndex> =
            reached.iter().map(|contract| contract.index()).collect();
        let (mut bare, mut unreadable) = (0, BTreeSet::new());
        self.inner.journal.read(|state| {
            for (id, slab) in state.slabs.iter().filter(|(_, slab)| slab.live > 0) {
                let shards = slab.record.hosts.iter().filter(|host| reached.contains(host)).count();
                match shards.cmp(&usize::from(slab.record.data)) {
                    Ordering::Less => drop(unreadable.insert(*id)),
                    Ordering::Equal => bare += 1,
                    Ordering::Greater => {}
                }
            }
        });
        (gone.len() as u64, bare, unreadable)
    }

    /// A backup as the heads show it that a recovery read: where this node writes none, and until it has
    /// asked the hosts itself.
    pub(super) fn as_seen(&self, mut row: BackupRow) -> BackupRow {
        let Some(position) = row.head_seq.filter(|_| row.kind == BackupKind::Network) else {
            return row;
        };
        row.stage = self.inner.settled.stage(position);
        let read_only = self.inner.journal.status().mode == Mode::ReadOnly;
        let checking = row.phase == Some(BackupPhase::Checking);
        let unsure = checking || (read_only && row.status == BackupStatus::InProgress);
        if unsure {
            let heads = self.inner.recovery.heads();
            let holds = |head: &&Option<u64>| head.is_some_and(|at| at >= position);
            let held = heads.iter().filter(holds).count() as u64;
            let needed = self.inner.backups.needed(heads.len()) as u64;
            if held >= needed {
                (row.status, row.phase) = (BackupStatus::Completed, None);
            }
            if read_only || held >= needed {
                (row.hosts_ok, row.hosts_needed) = (held, needed);
                row.hosts_total = heads.len() as u64;
            }
        }
        row
    }

    fn head_host(&self, host: HeadHost) -> HeadHostRow {
        let key = self.inner.book.host(host.index).unwrap_or_default();
        let HeadHost { position, problem, .. } = host;
        HeadHostRow { host: key.to_string(), position, problem }
    }

    /// All live contracts.
    #[must_use]
    pub fn contracts(&self) -> Vec<ContractRow> {
        let (outlook, halted) = (self.inner.upkeep.outlook(), self.inner.upkeep.halted());
        let rows = self.inner.book.live().into_iter().map(|contract| {
            let revision = contract.revision().revision;
            let terms = contract.terms();
            ContractRow {
                contract: contract.id().to_string(),
                host: contract.host().to_string(),
                operator: contract.operator().to_owned(),
                bytes: revision.size,
                revision: revision.number,
                funds: terms.funds,
                spent: contract.voucher_total(),
                duration: terms.duration().0,
                period: terms.period.0,
                periods: terms.periods,
                ends: contract.ends().0,
                renewal: outlook.renewal(&contract, halted.as_deref()),
            }
        });
        rows.collect()
    }

    /// All hosts that this renter has or had contracts with.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostRow> {
        let journal = self.inner.journal.status();
        let rows = self.inner.book.hosts().into_iter().map(|row| {
            let health = self.inner.book.reports().health(&row.host);
            let head = journal.hosts.iter().find(|host| host.index == row.index);
            HostRow {
                host: row.host.to_string(),
                operator: row.operator,
                contract: row.contract.map(|contract| contract.to_string()),
                answered: health.answered,
                failed: health.failed,
                unreachable: health.is_unreachable(),
                false_answers: health.false_answers,
                lost_sectors: health.lost_sectors,
                latency: health.latency,
                last_failure: health.last_failure,
                in_head_set: journal.head_set.iter().any(|host| host.index == row.index),
                head_position: head.and_then(|host| host.position),
            }
        });
        rows.collect()
    }
}
