//! What a monitoring system watches: `GET /metrics`, described in `docs/operators.md`.
//!
//! Each scrape reads what the API's lists read, and keeps nothing. Ages are by the node's clock. Labels are
//! kinds, states and the names of policies, of which there are few.

mod backups;
mod page;
#[cfg(test)]
pub(super) mod tests;

use samara_renter::Renter;
use samara_renter::recovery::{RecoveryPhase, RecoveryScanStatus, RecoveryStatus};
use samara_renter::repair::{HealthReport, SlabCounts};
use samara_renter::rows::{ContractRow, RenterState, RenterStatus};

use super::error::ApiError;
use super::state::Api;
use crate::drill::DrillRow;
use crate::light::LightStatus;
use crate::notify::Notices;
use crate::restores::{Restore, RestoreState};
use page::{Of, Page, coins, number, seconds, truth};

pub use page::OPEN_METRICS;

/// All metrics of a node at this moment, as text.
///
/// # Errors
/// `store_failed` when notices cannot be read; `internal`.
pub async fn scrape(api: &Api) -> Result<String, ApiError> {
    let now = crate::clock::now().0;
    let mut page = Page::new();
    page.gauges(
        "build",
        Of::Things,
        "The program, by its version; always 1",
        "version",
        [(env!("CARGO_PKG_VERSION").to_owned(), Some(1.0))],
    );
    page.gauge("uptime", Of::Seconds, "How long the node runs", Some(api.uptime().as_secs_f64()));
    let node = api.node();
    chain(&mut page, now, &node.light.status());
    if let Some(renter) = &node.renter {
        of_renter(&mut page, now, renter).await;
    }
    if let Some(restores) = &node.restores {
        self::restores(&mut page, &restores.list());
    }
    if let Some(drills) = &node.drills {
        drill(&mut page, now, &drills.list());
    }
    if let Some(notices) = &node.notices {
        of_notices(&mut page, notices).await?;
    }
    page.text().map_err(|error| ApiError::new("internal", error.to_string()))
}

fn chain(page: &mut Page, now: u64, status: &LightStatus) {
    page.gauge(
        "chain_reached",
        Of::Things,
        "Whether a chain peer has answered since the start",
        Some(truth(status.contacted)),
    );
    let Some(tip) = status.tip.as_ref().map(|tip| &tip.header) else { return };
    let height = Some(number(tip.height.0));
    page.gauge("chain_height", Of::Things, "Height of the newest verified block", height);
    let age = Some(seconds(now.saturating_sub(tip.time.0)));
    page.gauge("chain_tip_age", Of::Seconds, "Age of the newest verified block", age);
}

async fn of_renter(page: &mut Page, now: u64, renter: &Renter) {
    state(page, &renter.status());
    scan(page, &renter.recovery_status(), &renter.recovery_scan());
    repair(page, now, &renter.health());
    contracts(page, &renter.contracts());
    let funds = renter.allowance().map(|allowance| coins(allowance.funds));
    page.gauge("allowance_funds", Of::Coins, "Coins for all contracts of one term", funds);
    // Before it is known what the words own, the lists are not known either.
    if renter.check_known().is_ok() {
        let policies = renter.policies().await.unwrap_or_default();
        backups::show(page, now, &renter.backups(), &policies);
    }
}

fn state(page: &mut Page, status: &RenterStatus) {
    let now = match status.state {
        RenterState::Fresh => "fresh",
        RenterState::Active => "active",
        RenterState::ReadOnly => "read_only",
        RenterState::Fenced { .. } => "fenced",
        RenterState::Recovering { .. } => "recovering",
    };
    let all = ["fresh", "active", "read_only", "fenced", "recovering"];
    let states = all.map(|state| (state.to_owned(), Some(truth(state == now))));
    page.gauges(
        "renter_state",
        Of::Things,
        "What the renter may do: 1 for its state",
        "state",
        states,
    );
    let waiting = Some(number(status.unacknowledged));
    page.gauge(
        "journal_unacknowledged",
        Of::Things,
        "Journal entries that too few hosts hold yet",
        waiting,
    );
    let hosts = Some(number(status.hosts));
    page.gauge("hosts", Of::Things, "Hosts with live contracts", hosts);
    let answering = Some(number(status.hosts.saturating_sub(status.unreachable)));
    page.gauge("hosts_answering", Of::Things, "Hosts with live contracts that answer", answering);
    let lapsing = Some(number(status.lapses.len() as u64));
    page.gauge(
        "contracts_lapsing",
        Of::Things,
        "Contracts that end without a successor as things stand",
        lapsing,
    );
    let poor = Some(number(status.poor));
    page.gauge(
        "contracts_poor",
        Of::Things,
        "Contracts whose money suffices for no more files",
        poor,
    );
    page.counter(
        "garbage_freed",
        Of::Bytes,
        "Bytes at hosts that were freed",
        status.garbage.freed_bytes,
    );
}

fn scan(page: &mut Page, recovery: &RecoveryStatus, scan: &RecoveryScanStatus) {
    let running = Some(truth(recovery.running));
    page.gauge("recovery_running", Of::Things, "Whether a recovery is under way", running);
    let scans = scan.date_started.is_some() && scan.date_ended.is_none();
    page.gauge("scan_running", Of::Things, "Whether a scan is under way", Some(truth(scans)));
    let (blocks_done, blocks_known) = match &recovery.progress {
        RecoveryPhase::Scanning { blocks_done, blocks_known, .. } => (*blocks_done, *blocks_known),
        _ if scans => (scan.blocks_done, scan.blocks_known),
        _ => return,
    };
    let done = Some(number(blocks_done));
    page.gauge("recovery_blocks_scanned", Of::Things, "Blocks that the recovery has seen", done);
    let known = blocks_known.map(number);
    page.gauge(
        "recovery_blocks_known",
        Of::Things,
        "Blocks that there are for the recovery",
        known,
    );
}

fn repair(page: &mut Page, now: u64, health: &HealthReport) {
    page.counter("audits_read", Of::Bytes, "Bytes that audits have read", health.audits.bytes);
    page.counter("audits_failed", Of::Things, "Shards that audits missed", health.audits.failed);
    let Some(counted) = health.counted else { return };
    let age = Some(seconds(now.saturating_sub(counted)));
    page.gauge("slabs_counted_age", Of::Seconds, "Time since all slabs were counted", age);
    let SlabCounts { full, reduced, endangered, critical, unreadable, lost } =
        health.data.with(&health.metadata);
    let classes = [
        ("full", full),
        ("reduced", reduced),
        ("endangered", endangered),
        ("critical", critical),
        ("unreadable", unreadable),
        ("lost", lost),
    ];
    let classes = classes.map(|(class, count)| (class.to_owned(), Some(number(count))));
    page.gauges("slabs", Of::Things, "Slabs by their health", "health", classes);
    let waiting = Some(number(health.waiting));
    page.gauge("repair_waiting_slabs", Of::Things, "Slabs that want repair", waiting);
    let running = Some(number(health.repairing.len() as u64));
    page.gauge("repair_running_slabs", Of::Things, "Slabs that are being repaired", running);
    let bytes = Some(number(health.waiting_bytes));
    page.gauge("repair_waiting", Of::Bytes, "Bytes that the repair moves at most", bytes);
    let left = health.waiting_seconds.map(number);
    page.gauge("repair_left", Of::Seconds, "What the repair takes at least", left);
}

fn contracts(page: &mut Page, rows: &[ContractRow]) {
    let count = Some(number(rows.len() as u64));
    page.gauge("contracts", Of::Things, "Live contracts", count);
    let left = rows.iter().map(|row| coins(row.funds) - coins(row.spent)).sum();
    page.gauge(
        "contracts_money_left",
        Of::Coins,
        "Money in live contracts that is not spent",
        Some(left),
    );
    let first = rows.iter().map(|row| row.ends).min().map(seconds);
    page.gauge(
        "contracts_first_end_timestamp",
        Of::Seconds,
        "When the first live contract ends, chain time since 1970",
        first,
    );
}

fn restores(page: &mut Page, jobs: &[Restore]) {
    let states = [
        ("waiting", RestoreState::Waiting),
        ("queued", RestoreState::Queued),
        ("running", RestoreState::Running),
        ("completed", RestoreState::Completed),
        ("failed", RestoreState::Failed),
        ("rejected", RestoreState::Rejected),
    ];
    let counted = states.map(|(name, state)| {
        let count = jobs.iter().filter(|job| job.state == state).count();
        (name.to_owned(), Some(number(count as u64)))
    });
    page.gauges("restores", Of::Things, "Restores that are kept, by state", "state", counted);
}

fn drill(page: &mut Page, now: u64, rows: &[DrillRow]) {
    let Some(last) = rows.iter().max_by_key(|row| row.started) else { return };
    let passed = Some(truth(last.passed));
    page.gauge("drill_last_passed", Of::Things, "Whether the last drill passed", passed);
    let age = Some(seconds(now.saturating_sub(last.started)));
    page.gauge("drill_last_age", Of::Seconds, "Time since the last drill began", age);
}

async fn of_notices(page: &mut Page, notices: &Notices) -> Result<(), ApiError> {
    let waiting = Some(number(notices.waiting().await?));
    page.gauge(
        "notices_waiting",
        Of::Things,
        "Notices that are not delivered everywhere yet",
        waiting,
    );
    Ok(())
}
