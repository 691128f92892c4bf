//! Hosts that die, lose and lie, and slabs that are whole again.

use std::ops::Range;
use std::time::Duration;

use samara_protocol::journal::HostIndex;
use samara_protocol::sector::{GROUP, SectorEntry};
use samara_protocol::units::Millis;

use super::health::QUEUE;
use super::work::MOST_POSTPONED;
use super::{HealthReport, RepairOptions, StoryRow};
use crate::contract::{Allowance, LineRates, Redundancy};
use crate::renter::RenterConfig;
use crate::rows::RenterState;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, allowance, config, noise};
use crate::vault::Conflict;

/// Any 4 of 8 hosts bring a slab back.
const REDUNDANCY: Redundancy = Redundancy { data: 4, total: 8, margin: 2 };
const MINUTE: Duration = Duration::from_secs(60);

/// No limits that matter for a few megabytes, and small older parts of the journal.
fn unlimited() -> RenterConfig {
    let mut config = config();
    config.journal.spill = 2 << 10;
    config.repair = RepairOptions {
        bandwidth: 1 << 40,
        audit_bytes: 1 << 40,
        audit_requests: 1 << 40,
        ..config.repair
    };
    config
}

/// A renter with contracts with all hosts and a vault with some files.
async fn filled(network: &TestNetwork, config: RenterConfig) -> Node {
    let files = MemoryFiles::default();
    let node = Node::with(network, MortalStore::immortal(), files, config).await;
    node.renter.start_fresh().await.unwrap();
    let wanted = Allowance { redundancy: REDUNDANCY, ..allowance(network) };
    let report = node.renter.set_allowance(wanted).await.unwrap();
    assert_eq!(report.failed, Vec::<String>::new());
    fill(&node, 0..4).await;
    node
}

/// Puts files one by one, so that there is a journal too.
async fn fill(node: &Node, numbers: Range<u64>) {
    for number in numbers {
        node.files.put(&format!("/home/{number}"), &noise(number, 300_000), 1);
        for small in 0..5 {
            let name = format!("/home/{number}-{small}");
            node.files.put(&name, &noise(100 * number + small, 900), 1);
        }
        node.put("/home", "home").await;
    }
}

fn assert_one_shard_on_a_host(node: &Node) {
    for record in node.renter.slab_records() {
        let mut hosts = record.hosts.clone();
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts.len(), record.hosts.len(), "{record:?}");
    }
}

async fn assert_readable(node: &Node, to: &str) {
    let report = node.get("home", to, Conflict::Replace).await;
    assert_eq!(report.failed, vec![]);
    assert_eq!(node.files.below(to), node.files.below("/home"));
}

fn is_whole(report: &HealthReport) -> bool {
    report.counted.is_some()
        && report.data.total() > 0
        && report.data.not_full() + report.metadata.not_full() + report.lost_shards == 0
}

/// Looks after slabs every minute until something holds.
async fn until(node: &Node, minutes: u64, holds: impl Fn(&HealthReport) -> bool) -> HealthReport {
    for _ in 0..minutes {
        node.renter.look_after_slabs().await;
        let report = node.renter.health();
        if holds(&report) {
            return report;
        }
        tokio::time::sleep(MINUTE).await;
    }
    panic!("after {minutes} minutes: {:#?}", node.renter.health());
}

/// The number of a host in the renter's table.
fn number(network: &TestNetwork, node: &Node, host: usize) -> HostIndex {
    node.renter.book().index_of(&network.hosts[host].key.public()).unwrap()
}

/// The sectors that a host owes.
async fn owed(network: &TestNetwork, node: &Node, host: usize) -> Vec<SectorEntry> {
    let contract = node.renter.book().contract(number(network, node, host)).unwrap();
    contract.link().sectors(&contract.revision()).await.unwrap()
}

/// Damages every group of a sector on a host's disk.
fn damage(network: &TestNetwork, host: usize, sector: &SectorEntry) {
    for offset in (0..sector.size.len()).step_by(GROUP as usize) {
        assert!(network.hosts[host].disk.corrupt(&sector.root, offset));
    }
}

#[tokio::test(start_paused = true)]
async fn slabs_of_hosts_that_died_are_whole_again_and_bear_as_many_deaths_as_before() {
    let network = TestNetwork::empty(12).await;
    let node = filled(&network, unlimited()).await;
    let report = until(&node, 1, is_whole).await;
    assert!(report.metadata.total() > 0, "older parts of the journal are watched too");
    network.set(0..3, Fault::Dead);
    until(&node, 30, |report| report.data.endangered > 0 || !report.story.is_empty()).await;
    let report = until(&node, 180, is_whole).await;
    assert_eq!(report.hosts.len(), 3);
    assert!(report.story.iter().all(|row| row.repaired), "{:?}", report.story);
    let status = node.renter.status();
    assert_eq!(status.health.slabs.not_full() + status.health.waiting, 0);
    assert_one_shard_on_a_host(&node);
    // Nothing depends on the dead, and four more may follow.
    network.set(3..7, Fault::Dead);
    assert_readable(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn a_backup_reads_slabs_where_they_are_now() {
    let network = TestNetwork::empty(12).await;
    let node = filled(&network, unlimited()).await;
    let request = crate::backup::BackupRequest { name: "b".into(), ..Default::default() };
    node.renter.create_backup(request, &crate::progress::Silent).await.unwrap();
    // The vault goes; only the backup names the slabs.
    node.renter.remove_vault("home").await.unwrap();
    network.set(0..3, Fault::Dead);
    until(&node, 180, is_whole_but_silent).await;
    network.set(3..7, Fault::Dead);
    let request = crate::backup::RestoreRequest {
        backup: "b".into(),
        vault: None,
        path: String::new(),
        destination: Some("/back".into()),
        into_vault: false,
        conflict: Conflict::Keep,
        dry_run: false,
    };
    let report = node.renter.restore_backup(request, &crate::progress::Silent).await.unwrap();
    assert_eq!(report.files.failed, vec![]);
    assert_eq!(node.files.below("/back/home"), node.files.below("/home"));
}

fn is_whole_but_silent(report: &HealthReport) -> bool {
    is_whole(report) && report.hosts.len() == 3
}

#[tokio::test(start_paused = true)]
async fn a_damaged_sector_is_found_by_an_audit_told_and_replaced() {
    let network = TestNetwork::empty(12).await;
    let node = filled(&network, unlimited()).await;
    until(&node, 1, is_whole).await;
    let sector = owed(&network, &node, 2).await[0];
    damage(&network, 2, &sector);
    let found = until(&node, 70, |report| report.audits.failed > 0).await;
    let key = network.hosts[2].key.public();
    assert!(found.audits.last_failures.iter().all(|row| row.host == key.to_string()));
    let report = until(&node, 5, |report| !report.story.is_empty() && is_whole(report)).await;
    let what = report.story.iter().flat_map(|row| &row.what).cloned().collect::<Vec<_>>();
    assert_eq!(what.len(), 1, "only the shard that was lost has moved: {what:?}");
    assert!(what[0].contains(&format!("from host {}", key.short())), "{what:?}");
    let health = node.renter.book().reports().health(&key);
    assert_eq!((health.lost_sectors, health.false_answers), (1, 0));
    let host = node.renter.hosts().into_iter().find(|row| row.host == key.to_string()).unwrap();
    assert_eq!(host.lost_sectors, 1);
    assert!(report.incidents.iter().any(|incident| incident.what.contains("lost a sector")));
    assert_readable(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn shards_that_were_lost_and_are_there_again_count_again() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network, unlimited()).await;
    until(&node, 1, is_whole).await;
    // The first slab is lost, as when the disks of five hosts are away.
    for host in 0..5 {
        damage(&network, host, &owed(&network, &node, host).await[0]);
    }
    until(&node, 130, |report| report.data.lost == 1).await;
    // Changed once more, the bytes are what they were.
    for host in 0..5 {
        damage(&network, host, &owed(&network, &node, host).await[0]);
    }
    let report = until(&node, 130, is_whole).await;
    assert_eq!(report.affected_total, 0);
    assert_readable(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_lies_about_its_sectors_loses_them_all_to_others() {
    let network = TestNetwork::empty(12).await;
    let node = filled(&network, unlimited()).await;
    network.set([5], Fault::Flips);
    let report = until(&node, 90, |report| is_whole(report) && !report.story.is_empty()).await;
    assert!(report.hosts.iter().any(|host| host.for_good), "{:?}", report.hosts);
    let index = number(&network, &node, 5);
    let named = node.renter.slab_records();
    assert!(named.iter().all(|record| !record.hosts.contains(&index)));
    assert_readable(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_meets_is_looked_at_and_replaced() {
    let network = TestNetwork::empty(12).await;
    let mut config = unlimited();
    // Enough to look closer at one shard, and for no round.
    config.repair.audit_requests = 24;
    config.repair.audit_bytes = 12 << 20;
    let node = filled(&network, config).await;
    for sector in owed(&network, &node, 4).await {
        damage(&network, 4, &sector);
    }
    assert_readable(&node, "/back").await;
    let (key, reports) = (network.hosts[4].key.public(), node.renter.book().reports());
    let suspects = reports.take_suspects();
    assert!(!suspects.is_empty() && suspects.iter().all(|(_, host)| *host == key));
    suspects.iter().for_each(|(slab, host)| reports.suspect(*slab, host));
    let repaired = |report: &HealthReport| report.story.iter().any(|row| row.repaired);
    until(&node, 240, |report| repaired(report) && is_whole(report)).await;
}

#[tokio::test(start_paused = true)]
async fn names_come_before_files() {
    let network = TestNetwork::empty(12).await;
    let node = filled(&network, unlimited()).await;
    network.set(0..3, Fault::Dead);
    let report = until(&node, 180, is_whole_but_silent).await;
    // Those that wait until a host is gone for good are another wave.
    let waves = report.story.chunk_by(|a, b| b.at - a.at < 60_000);
    let mut both = 0;
    for wave in waves {
        assert!(wave.is_sorted_by_key(|row| !row.metadata), "{wave:?}");
        both += usize::from(wave[0].metadata && !wave[wave.len() - 1].metadata);
    }
    assert!(both > 0, "{:?}", report.story);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_back_in_time_counts_again_and_nothing_is_moved() {
    let network = TestNetwork::empty(12).await;
    let node = filled(&network, unlimited()).await;
    network.set([1], Fault::Dead);
    let report = until(&node, 30, |report| report.data.reduced > 0).await;
    assert_eq!((report.data.endangered, report.waiting), (0, 0));
    assert!(report.hosts.iter().all(|host| !host.for_good));
    network.set([1], Fault::None);
    let report = until(&node, 3, is_whole).await;
    assert_eq!((report.hosts, report.story), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn repair_keeps_to_its_bandwidth() {
    let network = TestNetwork::empty(12).await;
    let mut config = unlimited();
    config.repair.bandwidth = 20_000;
    let node = filled(&network, config).await;
    until(&node, 1, is_whole).await;
    network.set(0..3, Fault::Dead);
    // Looks until the first repair is due; it moves at least 64 KiB for each of its slabs.
    let started = tokio::time::Instant::now();
    let report = until(&node, 300, is_whole_but_silent).await;
    let moved: u64 = report.story.iter().map(|row| row.what.len() as u64).sum();
    assert!(moved > 0);
    // Each shard was sent once, and k others were read for each slab: 16 KiB or more each.
    let bytes = (moved + 4 * report.story.len() as u64 / 2) * (16 << 10);
    let seconds = started.elapsed().as_secs();
    assert!(seconds * 20_000 >= bytes, "{bytes} bytes in {seconds} s");
}

/// As [`filled`], whole, and looking after its slabs by itself over a line of so many bytes a second each
/// way.
async fn filled_on_a_narrow_line(network: &TestNetwork, rate: u64) -> Node {
    let mut config = unlimited();
    config.repair.interval = RepairOptions::default().interval;
    let node = filled(network, config).await;
    until(&node, 1, is_whole).await;
    let narrow = LineRates { upload: rate, download: rate };
    node.renter.set_line_rates(Some(narrow)).await.unwrap();
    node
}

#[tokio::test(start_paused = true)]
async fn a_narrow_line_keeps_names_and_the_count_waiting_for_no_file() {
    let network = TestNetwork::empty(12).await;
    // Hours for the slabs of one file.
    let node = filled_on_a_narrow_line(&network, 20).await;
    network.set(0..3, Fault::Dead);
    let report = in_background(&node, |report| {
        let names = report.metadata.total() > 0 && report.metadata.not_full() == 0;
        names && report.repairing.iter().any(|row| !row.metadata)
    })
    .await;
    assert!(report.data.not_full() > 0 && report.waiting > 0, "{report:?}");
    assert!(report.waiting_seconds.unwrap() > 3_600, "{report:?}");
    assert!(report.waiting_seconds.unwrap() >= report.waiting_bytes / 40, "{report:?}");
    network.set([3], Fault::Dead);
    let report = in_background(&node, |report| report.hosts.len() == 4).await;
    assert!(report.data.not_full() > 0 && !report.story.iter().any(|row| !row.metadata));
    node.renter.set_line_rates(None).await.unwrap();
    let report = in_background(&node, is_whole).await;
    assert_eq!((report.waiting, report.waiting_bytes, report.waiting_seconds), (0, 0, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_slab_is_repaired_once_at_a_time_however_often_slabs_are_counted() {
    let network = TestNetwork::empty(16).await;
    // A quarter of an hour for the slabs of one file, and the hosts change meanwhile.
    let node = filled_on_a_narrow_line(&network, 600).await;
    for host in 0..3 {
        network.set([host], Fault::Dead);
        for _ in 0..4 {
            node.files.put("/home/more", &noise(host as u64, 200), 1);
            tokio::time::sleep(3 * MINUTE).await;
            let _ = node.put("/home", "home").await;
        }
    }
    let report = in_background(&node, is_whole_but_silent).await;
    let repaired = report.story.iter().filter(|row| row.repaired);
    let mut moves: Vec<(&str, &str)> =
        repaired.flat_map(|row| row.what.iter().map(|what| (&*row.slab, &**what))).collect();
    assert!(moves.len() > 8, "{moves:?}");
    let count = moves.len();
    moves.sort_unstable();
    moves.dedup_by_key(|(slab, what)| (*slab, what.split(" to ").next().unwrap()));
    assert_eq!(moves.len(), count, "{:#?}", report.story);
    assert!(report.story.iter().all(|row| row.repaired), "{:#?}", report.story);
}

#[tokio::test(start_paused = true)]
async fn where_all_hosts_are_to_be_replaced_nothing_is_written_anew_as_long_as_they_answer() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network, unlimited()).await;
    until(&node, 1, is_whole).await;
    let slabs = node.renter.slab_records();
    for host in &network.hosts {
        for _ in 0..3 {
            node.renter.book().reports().lost_sector(&host.key.public(), "a sector is gone");
        }
    }
    for _ in 0..10 {
        node.renter.look_after_slabs().await;
        tokio::time::sleep(MINUTE).await;
    }
    let report = node.renter.health();
    assert_eq!((report.hosts.len(), report.data.critical), (8, report.data.total()));
    assert_eq!(report.affected, vec![]);
    let again = node.put("/home", "home").await;
    assert_eq!(again.stored_files, 0);
    assert_eq!(node.renter.slab_records(), slabs);
}

#[tokio::test(start_paused = true)]
async fn names_are_rebuilt_shard_by_shard_where_memory_is_short() {
    let network = TestNetwork::empty(12).await;
    let mut config = unlimited();
    // For one column.
    config.transfer.names_budget = 16 << 10;
    let node = filled(&network, config).await;
    network.set(0..3, Fault::Dead);
    let report = until(&node, 180, is_whole_but_silent).await;
    let names: Vec<_> = report.story.iter().filter(|row| row.metadata).collect();
    assert!(names.iter().all(|row| row.repaired && row.what.len() == 1), "{names:#?}");
    let twice = |row: &&&StoryRow| names.iter().filter(|other| other.slab == row.slab).count() > 1;
    assert!(names.iter().filter(twice).count() > 0, "{names:#?}");
    network.set(3..7, Fault::Dead);
    assert_readable(&node, "/after").await;
}

/// Waits until something holds that the node does by itself.
async fn in_background(node: &Node, holds: impl Fn(&HealthReport) -> bool) -> HealthReport {
    for _ in 0..240 {
        tokio::time::sleep(MINUTE).await;
        let report = node.renter.health();
        if holds(&report) {
            return report;
        }
    }
    panic!("after four hours: {:#?}", node.renter.health());
}

#[tokio::test(start_paused = true)]
async fn audits_keep_to_their_budget() {
    let network = TestNetwork::empty(12).await;
    let mut config = unlimited();
    config.repair.audit_requests = 120;
    let node = filled(&network, config).await;
    let reads = || network.hosts.iter().map(|host| host.calls("read")).sum::<u64>();
    let before = reads();
    for _ in 0..180 {
        node.renter.look_after_slabs().await;
        tokio::time::sleep(MINUTE).await;
    }
    let made = reads() - before;
    // Three hours and what may come at once, and the last slab may overdraw.
    assert!(made > 100, "{made}");
    assert!(made <= 3 * 120 + 120 / 12 + 9, "{made}");
    let audits = node.renter.health().audits;
    assert_eq!(audits.proven, made);
    assert_eq!((audits.failed, audits.unanswered), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_may_not_write_neither_audits_nor_repairs() {
    let network = TestNetwork::empty(5).await;
    let node = Node::blank(&network).await;
    node.renter.look_after_slabs().await;
    let report = node.renter.health();
    assert!(report.idle.unwrap().contains("does not write"));
    assert_eq!(network.hosts.iter().map(|host| host.all_calls()).sum::<u64>(), 0);

    let node = filled(&TestNetwork::empty(12).await, unlimited()).await;
    node.renter.look_after_slabs().await;
    assert_eq!(node.renter.health().idle, None);
    let other = samara_protocol::units::Epoch { counter: 99, writer: [9; 16] };
    node.renter.book().writer().fence(other);
    node.renter.confirm().await.unwrap_err();
    assert!(matches!(node.renter.status().state, RenterState::Fenced { .. }));
    let audited = node.renter.health().audits.slabs;
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    node.renter.look_after_slabs().await;
    let report = node.renter.health();
    assert!(report.idle.unwrap().contains("does not write"));
    assert_eq!(report.audits.slabs, audited);
}

#[tokio::test(start_paused = true)]
async fn without_a_free_host_it_waits_and_says_so_and_goes_on_when_there_is_one() {
    let network = TestNetwork::empty(9).await;
    let node = filled(&network, unlimited()).await;
    until(&node, 1, is_whole).await;
    network.set(0..3, Fault::Dead);
    let report = until(&node, 120, |report| !report.held.is_empty()).await;
    assert!(report.waiting > 0);
    network.set([0, 1], Fault::None);
    let report = until(&node, 120, is_whole).await;
    assert!(report.story.iter().any(|row| !row.repaired && row.what[0].contains("no host")));
}

#[tokio::test(start_paused = true)]
async fn more_slabs_than_are_kept_wait_too() {
    let network = TestNetwork::empty(9).await;
    let node = filled(&network, unlimited()).await;
    fill(&node, 4..30).await;
    until(&node, 1, is_whole).await;
    network.set(0..3, Fault::Dead);
    // Each look ends, though there is more to do than is tried.
    let report = until(&node, 120, |report| report.held.len() >= MOST_POSTPONED).await;
    assert!(report.waiting > (MOST_POSTPONED + QUEUE) as u64, "{report:?}");
    let told = report.story.len();
    for _ in 0..20 {
        node.renter.look_after_slabs().await;
        tokio::time::sleep(MINUTE).await;
    }
    // They are tried again from time to time, and one row tells of all that fail alike.
    assert!(node.renter.health().story.len() < told + 8, "{:#?}", node.renter.health().story);
    network.set([0, 1], Fault::None);
    until(&node, 120, is_whole).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_shard_goes_back_to_its_host_where_no_other_is_free() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network, unlimited()).await;
    until(&node, 1, is_whole).await;
    network.set([1], Fault::Dead);
    until(&node, 90, |report| report.hosts.iter().any(|host| host.for_good)).await;
    let sector = owed(&network, &node, 6).await[0];
    damage(&network, 6, &sector);
    until(&node, 90, |report| {
        report.lost_shards > 0 || report.story.iter().any(|row| row.repaired)
    })
    .await;
    let report = until(&node, 10, |report| report.lost_shards == 0).await;
    let key = network.hosts[6].key.public().short();
    let back = format!("from host {key} to host {key}");
    assert!(report.story.iter().any(|row| row.repaired && row.what[0].contains(&back)));
    assert_one_shard_on_a_host(&node);
    network.set([1], Fault::None);
    until(&node, 5, is_whole).await;
    assert_readable(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn lost_slabs_name_the_files_that_are_affected() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network, unlimited()).await;
    network.set(0..5, Fault::Dead);
    let report = until(&node, 30, |report| report.data.unreadable > 0).await;
    assert_eq!(report.affected_total, report.affected.len() as u64);
    let row = &report.affected[0];
    assert_eq!((row.vault.as_str(), row.path.as_str(), row.current), ("home", "0", true));
    network.set(0..5, Fault::None);
    let report = until(&node, 5, is_whole).await;
    assert_eq!(report.affected, vec![]);
}

/// The node was away for longer than its contracts lasted; the hosts owe it nothing any more.
#[tokio::test(start_paused = true)]
async fn what_ended_contracts_held_is_known_to_be_lost_and_stored_again() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network, unlimited()).await;
    let wanted = Allowance { redundancy: REDUNDANCY, ..allowance(&network) };
    let term = Millis(wanted.period.0 * (u64::from(wanted.periods) + 2));
    network.chain.pass(term);
    tokio::time::advance(Duration::from_millis(term.0)).await;
    for _ in 0..4 {
        node.renter.upkeep().await;
    }
    assert_eq!(node.renter.contracts().len(), 8, "new ones are formed");
    let report = until(&node, 10, |report| report.data.lost > 0).await;
    assert_eq!((report.data.lost, report.data.full), (report.data.total(), 0), "{report:?}");
    assert!(report.affected_total > 0);
    // Nothing has changed here, and what cannot be read there is stored again all the same.
    let again = node.put("/home", "home").await;
    assert!(again.stored_files >= 4, "{again:?}");
    let third = node.put("/home", "home").await;
    assert_eq!(third.stored_files, 0, "{third:?}");
    assert_readable(&node, "/back").await;
}

/// Polls a future so many times, then drops it.
async fn cut<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_leaves_the_old_placement_or_the_new() {
    for step in 0..24i64 {
        let network = TestNetwork::empty(12).await;
        let node = filled(&network, unlimited()).await;
        until(&node, 1, is_whole).await;
        network.set(0..3, Fault::Dead);
        let (files, store) = (node.files.clone(), node.store.clone());
        until(&node, 30, |report| report.hosts.len() == 3 || !report.story.is_empty()).await;
        // One machine dies at a write, the other where it waits.
        drop(node);
        let dying = store.dies_after(if step % 2 == 0 { 2 * step } else { i64::MAX });
        let node = Node::with(&network, dying, files.clone(), unlimited()).await;
        for _ in 0..70 {
            let polls = if step % 2 == 0 { u64::MAX } else { 1 + 7 * step.unsigned_abs() };
            cut(polls, node.renter.look_after_slabs()).await;
            tokio::time::sleep(MINUTE).await;
        }
        drop(node);
        let node = Node::with(&network, store, files, unlimited()).await;
        assert_readable(&node, &format!("/between/{step}")).await;
        until(&node, 180, is_whole_but_silent).await;
        network.set(3..7, Fault::Dead);
        assert_readable(&node, &format!("/after/{step}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_collector_frees_nothing_that_a_repair_has_stored_and_not_named_yet() {
    let network = TestNetwork::empty(12).await;
    let mut config = unlimited();
    // What two audits in a row find is an orphan, and the repair is not so fast.
    config.garbage.orphan = Millis(0);
    config.garbage.rewrite_rate = 0;
    let node = filled(&network, config).await;
    until(&node, 1, is_whole).await;
    network.set(0..3, Fault::Dead);
    let stored = || -> u64 { network.hosts.iter().map(|host| host.calls("commit")).sum() };
    let mut audited = 0;
    for _ in 0..60 {
        // The repair stands still at each of its steps, and the collector goes round.
        let mut look = Box::pin(node.renter.look_after_slabs());
        let mut before = stored();
        while cut(1, look.as_mut()).await.is_none() {
            tokio::task::yield_now().await;
            if stored() > before {
                for _ in 0..3 {
                    node.renter.collect().await;
                }
                audited += 1;
                before = stored();
            }
        }
        drop(look);
        if is_whole_but_silent(&node.renter.health()) {
            break;
        }
        tokio::time::sleep(MINUTE).await;
    }
    assert!(audited > 3, "{audited}");
    assert_eq!(node.renter.garbage().orphans, 0, "{:?}", node.renter.garbage());
    assert!(is_whole_but_silent(&node.renter.health()), "{:#?}", node.renter.health());
    network.set(3..7, Fault::Dead);
    assert_readable(&node, "/after").await;
}
