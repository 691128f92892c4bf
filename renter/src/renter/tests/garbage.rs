//! What leaves the hosts, and what does not.

use std::collections::BTreeMap;

use samara_protocol::host::HostStore as _;
use samara_protocol::units::Millis;

use crate::RenterConfig;
use crate::backup::{BackupRequest, RestoreRequest};
use crate::progress::Silent;
use crate::recovery::{RecoveryOptions, RecoveryPhase};
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, config, get, noise, put};
use crate::vault::{Conflict, ListOptions, ListRow};
use crate::world::Store as _;

const CAPACITY: u64 = 1 << 30;

/// Bytes on each host's disk.
fn used(network: &TestNetwork) -> BTreeMap<String, u64> {
    let used = network
        .hosts
        .iter()
        .map(|host| (host.key.public().to_string(), CAPACITY - host.disk.space().free));
    used.collect()
}

/// Bytes that each host needs for the slabs that the journal names, and for the journal itself.
async fn needed(network: &TestNetwork, node: &Node) -> BTreeMap<String, u64> {
    let keys = network.hosts.iter().map(|host| (host.key.public().to_string(), 0));
    let mut needed: BTreeMap<String, u64> = keys.collect();
    needed.extend(node.renter.needed_bytes().await.unwrap());
    needed
}

/// Nothing is at the hosts but what is needed.
async fn assert_clean(network: &TestNetwork, node: &Node) {
    assert_eq!(used(network), needed(network, node).await, "{:?}", node.renter.garbage());
}

fn slabs_of(node: &Node) -> u64 {
    node.renter.inner.journal.read(|state| state.slabs.len() as u64)
}

fn total(network: &TestNetwork) -> u64 {
    used(network).values().sum()
}

/// As [`total`], without the checkpoints of backups.
fn contents(network: &TestNetwork, node: &Node) -> u64 {
    let metadata: u64 = node.renter.inner.journal.read(|state| {
        let pinned = state.slabs.values().filter(|slab| slab.is_metadata());
        let bytes = pinned.map(|slab| &slab.record);
        bytes.map(|record| record.column_bytes() * record.hosts.len() as u64).sum()
    });
    total(network) - metadata
}

/// Sizes of the contracts: what is paid for.
fn paid(node: &Node) -> u64 {
    node.renter.contracts().iter().map(|row| row.bytes).sum()
}

/// Gives up all versions of a file.
async fn purge(node: &Node, vault: &str, path: &str) {
    let options = ListOptions { versions: true, recursive: true, ..ListOptions::default() };
    for row in node.renter.list(vault, &options).await.unwrap() {
        let ListRow::File(row) = row else { continue };
        for version in row.versions.iter().filter(|_| row.path == path) {
            node.renter.remove_version(vault, path, version.version).await.unwrap();
        }
    }
}

async fn backup(node: &Node, name: &str, vault: Option<&str>) {
    let vault = vault.map(str::to_owned);
    let request = BackupRequest { name: name.into(), vault, ..BackupRequest::default() };
    node.renter.create_backup(request, &Silent).await.unwrap();
}

/// Collects until all that can be done is done.
async fn collect(node: &Node) {
    for _ in 0..3 {
        node.renter.collect().await;
        assert_eq!(node.renter.garbage().problem, None);
    }
}

/// As [`collect`], with audits so far apart that orphans go.
async fn collect_orphans(node: &Node) {
    collect(node).await;
    tokio::time::advance(std::time::Duration::from_secs(2 * 3_600)).await;
    collect(node).await;
}

/// Nothing is rewritten.
fn plain() -> RenterConfig {
    let mut plain = config();
    plain.garbage.rewrite_rate = 0;
    plain
}

async fn fresh(network: &TestNetwork, config: RenterConfig) -> Node {
    let node = Node::with(network, MortalStore::immortal(), MemoryFiles::default(), config).await;
    node.start(network).await;
    node
}

#[tokio::test(start_paused = true)]
async fn what_no_version_needs_leaves_the_hosts() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 300_000), 10);
    node.put("/home", "home").await;
    node.files.put("/home/a", &noise(2, 300_000), 11);
    node.files.put("/home/b", &noise(3, 300_000), 11);
    node.put("/home", "home").await;
    collect(&node).await;
    assert_clean(&network, &node).await;
    let full = total(&network);
    assert_eq!(paid(&node), full);

    // A file off the list keeps its versions.
    node.renter.remove("home", "a", false).await.unwrap();
    collect(&node).await;
    assert_eq!(total(&network), full);
    purge(&node, "home", "a").await;
    collect(&node).await;
    assert_clean(&network, &node).await;
    // The second version shares a slab with the file that is still there.
    assert!(total(&network) < full, "{} of {full}", total(&network));
    assert_eq!(paid(&node), total(&network));
    node.get("home", "/back", Conflict::Keep).await;
    assert_eq!(node.files.bytes("/back/b").unwrap(), noise(3, 300_000));

    node.renter.remove_vault("home").await.unwrap();
    collect(&node).await;
    assert_clean(&network, &node).await;
    assert_eq!((total(&network), paid(&node)), (0, 0));
    let report = node.renter.garbage();
    assert_eq!((report.freed_bytes, report.orphans, report.waiting.len()), (full, 0, 0));
    assert_eq!(node.store.disk.scan(b"garbage/", None, 10).await.unwrap(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_keeps_what_it_shows_and_no_more() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/one/a", &noise(1, 300_000), 10);
    node.files.put("/two/b", &noise(2, 300_000), 10);
    node.put("/one", "one").await;
    node.put("/two", "two").await;
    backup(&node, "of one", Some("one")).await;
    node.files.put("/one/later", &noise(3, 300_000), 10);
    node.put("/one", "one").await;
    let full = contents(&network, &node);

    node.renter.remove_vault("two").await.unwrap();
    purge(&node, "one", "later").await;
    node.renter.remove_vault("one").await.unwrap();
    collect(&node).await;
    assert_clean(&network, &node).await;
    // A third of it is what the backup shows.
    assert_eq!(contents(&network, &node), full / 3);
    assert_eq!(node.renter.garbage().held, 300_000);

    // A second backup, which does not see it, holds nothing when the first one goes.
    backup(&node, "of nothing", None).await;
    let request = RestoreRequest {
        backup: "of one".into(),
        vault: None,
        path: String::new(),
        destination: Some("/back/".into()),
        into_vault: true,
        conflict: Conflict::Keep,
        dry_run: false,
    };
    let report = node.renter.restore_backup(request, &Silent).await.unwrap();
    assert_eq!((report.relisted_files, report.files.failed.len()), (1, 0));
    assert_eq!(node.files.bytes("/back/one/a").unwrap(), noise(1, 300_000));
    node.renter.delete_backup("of one").await.unwrap();
    collect(&node).await;
    // It is listed again, so it stays.
    assert_eq!((contents(&network, &node), node.renter.garbage().held), (full / 3, 0));
    node.renter.remove_vault("one").await.unwrap();
    collect(&node).await;
    assert_eq!(contents(&network, &node), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_delays_for_a_while() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 2_000_000), 10);
    node.put("/home", "home").await;
    let full = total(&network);
    let mut stream = node.renter.stream_range("home", "a", None, 0..2_000_000).unwrap();
    let mut bytes = stream.next().await.unwrap().unwrap().to_vec();
    node.renter.remove_vault("home").await.unwrap();
    collect(&node).await;
    assert_eq!(total(&network), full);
    let waiting = node.renter.garbage().waiting;
    assert_eq!((waiting.len(), waiting[0].reason.as_str()), (8, "they are being read"));
    while let Some(more) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    assert!(bytes == noise(1, 2_000_000));
    // A reader that is never done does not keep them for ever.
    tokio::time::advance(std::time::Duration::from_secs(7 * 3_600)).await;
    collect(&node).await;
    assert_eq!(total(&network), 0);
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_frees_when_it_is_back() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 300_000), 10);
    node.put("/home", "home").await;
    node.renter.remove_vault("home").await.unwrap();
    network.set([2], Fault::Dead);
    collect(&node).await;
    let away = network.hosts[2].key.public().to_string();
    assert!(used(&network).iter().all(|(host, bytes)| (*host == away) == (*bytes > 0)));
    let waiting = node.renter.garbage().waiting;
    assert_eq!((waiting.len(), &waiting[0].host, waiting[0].sectors > 0), (1, &away, true));
    assert!(waiting[0].reason.contains("dead"), "{waiting:?}");
    network.set([2], Fault::None);
    collect(&node).await;
    assert_eq!((total(&network), node.renter.garbage().waiting.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn sectors_stay_while_a_period_is_being_proven() {
    let network = TestNetwork::empty(4).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 300_000), 10);
    node.put("/home", "home").await;
    let full = total(&network);
    let period = Millis(node.renter.contracts()[0].period);
    network.chain.pass(Millis(period.0 - 100_000));
    node.renter.remove_vault("home").await.unwrap();
    collect(&node).await;
    assert_eq!(total(&network), full);
    let waiting = node.renter.garbage().waiting;
    assert!(waiting.iter().all(|row| row.reason.contains("period ends")), "{waiting:?}");
    assert_eq!(waiting.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_leaves_nothing_behind() {
    let network = TestNetwork::empty(4).await;
    let mut node = fresh(&network, plain()).await;
    for number in 0..40 {
        node.files.put("/home/a", &noise(number, 100_000), number);
        node.files.put("/home/keep", b"kept", 10);
        node.put("/home", "home").await;
        purge(&node, "home", "a").await;
        let files = node.files.clone();
        let store = node.store.dies_after(i64::try_from(number).unwrap());
        node.renter.shutdown().await;
        let dying = Node::with(&network, store, files.clone(), plain()).await;
        dying.renter.collect().await;
        let died = dying.store.is_dead();
        let alive = dying.store.dies_after(i64::MAX);
        dying.renter.shutdown().await;
        node = Node::with(&network, alive, files, plain()).await;
        collect(&node).await;
        assert_clean(&network, &node).await;
        assert_eq!(total(&network), 0, "after {number} writes");
        if !died {
            return;
        }
    }
    panic!("a round takes more writes than were tried");
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_machine_had_begun_to_free_is_found_from_the_words() {
    let network = TestNetwork::empty(6).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 200_000), 10);
    node.put("/home", "home").await;
    node.files.put("/home/b", &noise(2, 200_000), 10);
    node.put("/home", "home").await;
    purge(&node, "home", "a").await;
    let slabs = slabs_of(&node);
    // Released and not freed, then the machine is gone with its list of work.
    network.set(0..6, Fault::DropsCommits(1_000));
    node.renter.collect().await;
    let freed = slabs - slabs_of(&node);
    assert!(freed > 0);
    network.set(0..6, Fault::None);
    node.lose().await;

    let next = Node::blank(&network).await;
    // Nothing is done before the recovery is at its end.
    next.renter.collect().await;
    assert!(next.renter.garbage().halted.is_some());
    let report = next.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap();
    assert_eq!(report.outcome, RecoveryPhase::Done);
    next.renter.collect().await;
    let before = total(&network);
    let garbage = next.renter.garbage();
    assert_eq!(
        garbage.waiting.iter().map(|row| row.suspects).sum::<u64>(),
        freed * 6,
        "{garbage:?}"
    );
    // Not before they have been without a name for a while.
    next.renter.collect().await;
    assert_eq!(total(&network), before);
    collect_orphans(&next).await;
    assert_clean(&network, &next).await;
    assert!(total(&network) < before);
    assert_eq!(next.renter.garbage().orphans, freed * 6);
    next.get("home", "/back", Conflict::Keep).await;
    assert_eq!(next.files.bytes("/back/b").unwrap(), noise(2, 200_000));
}

#[tokio::test(start_paused = true)]
async fn a_reading_node_and_one_that_was_replaced_free_nothing() {
    let network = TestNetwork::empty(6).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 200_000), 10);
    node.put("/home", "home").await;
    node.renter.remove_vault("home").await.unwrap();
    let full = total(&network);
    let visitor = Node::blank(&network).await;
    let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
    visitor.renter.recover(options, &Silent).await.unwrap();
    visitor.renter.collect().await;
    assert!(visitor.renter.garbage().halted.unwrap().contains("does not write"));
    let next = Node::blank(&network).await;
    next.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap();
    node.renter.collect().await;
    assert!(node.renter.garbage().problem.is_some() || node.renter.garbage().halted.is_some());
    assert_eq!(total(&network), full);
    collect(&next).await;
    assert_eq!(total(&network), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_of_a_folder_finds_itself_out_before_it_frees() {
    let network = TestNetwork::empty(6).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 200_000), 10);
    node.put("/home", "home").await;
    let older = node.store.copied().await;
    node.files.put("/home/b", &noise(2, 200_000), 10);
    node.put("/home", "home").await;
    let full = total(&network);
    node.renter.shutdown().await;
    let back = Node::with(&network, older, MemoryFiles::default(), plain()).await;
    back.renter.collect().await;
    tokio::time::advance(std::time::Duration::from_secs(2 * 3_600)).await;
    back.renter.collect().await;
    back.renter.collect().await;
    assert_eq!(total(&network), full);
    assert!(back.renter.garbage().halted.is_some(), "{:?}", back.renter.garbage());
}

#[tokio::test(start_paused = true)]
async fn slabs_of_a_put_that_came_to_nothing_are_found() {
    let network = TestNetwork::empty(6).await;
    let node = fresh(&network, plain()).await;
    node.files.put("/home/a", &noise(1, 900_000), 10);
    node.put("/home", "home").await;
    node.files.put("/home/b", &noise(2, 900_000), 10);
    let mut cut = Box::pin(node.renter.put(put("/home", "home"), &Silent));
    let stored = || network.hosts.iter().map(|host| host.calls("commit")).sum::<u64>();
    let before = stored();
    while stored() < before + 12 {
        tokio::select! {
            biased;
            report = &mut cut => panic!("it was not cut: {report:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(cut);
    collect_orphans(&node).await;
    assert_eq!(paid(&node), needed(&network, &node).await.values().sum::<u64>());
    assert_eq!(node.renter.garbage().orphans, 0);
}

#[tokio::test(start_paused = true)]
async fn slabs_of_which_little_is_left_are_rewritten() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, config()).await;
    for number in 0..20u64 {
        node.files.put(&format!("/home/{number}"), &noise(number, 40_000), 10);
    }
    node.put("/home", "home").await;
    collect(&node).await;
    let full = total(&network);
    for number in (0..20).filter(|number| ![2, 9, 19].contains(number)) {
        purge(&node, "home", &number.to_string()).await;
    }
    let mut stream = node.renter.stream_range("home", "19", None, 0..40_000).unwrap();
    collect(&node).await;
    assert_eq!(node.renter.garbage().rewritten_slabs, 0, "it rewrites while somebody reads");
    while stream.next().await.unwrap().is_some() {}
    drop(stream);
    collect(&node).await;
    let report = node.renter.garbage();
    assert_eq!((report.rewritten_slabs > 0, report.rewritten_bytes), (true, 120_000), "{report:?}");
    assert_clean(&network, &node).await;
    assert!(total(&network) <= full / 4, "{} of {full}", total(&network));
    // It comes to an end.
    let position = node.renter.status().position;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    collect(&node).await;
    assert_eq!(node.renter.status().position, position);
    node.get("home", "/back", Conflict::Keep).await;
    for number in [2, 9, 19] {
        let bytes = node.files.bytes(&format!("/back/{number}")).unwrap();
        assert!(bytes == noise(number, 40_000));
    }
    node.lose().await;
    let next = Node::blank(&network).await;
    next.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap();
    let restored = next.get("home", "/back", Conflict::Keep).await;
    assert_eq!((restored.restored_files, restored.failed.len()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_backup_shows_stays_where_it_is() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, config()).await;
    for number in 0..10u64 {
        node.files.put(&format!("/home/{number}"), &noise(number, 40_000), 10);
    }
    node.put("/home", "home").await;
    backup(&node, "all", None).await;
    for number in 0..9 {
        purge(&node, "home", &number.to_string()).await;
    }
    let full = contents(&network, &node);
    collect(&node).await;
    assert_eq!((contents(&network, &node), node.renter.garbage().rewritten_slabs), (full, 0));
    let mut request = get("home", "/back", Conflict::Keep);
    request.backup = Some("all".into());
    let restored = node.renter.get(request, &Silent).await.unwrap();
    assert_eq!((restored.restored_files, restored.failed.len()), (10, 0));
    node.renter.delete_backup("all").await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    collect(&node).await;
    assert_clean(&network, &node).await;
    assert!(contents(&network, &node) <= full / 4);
    node.get("home", "/now", Conflict::Keep).await;
    assert!(node.files.bytes("/now/9").unwrap() == noise(9, 40_000));
}

#[tokio::test(start_paused = true)]
async fn small_puts_are_packed_together_later() {
    let network = TestNetwork::empty(8).await;
    let node = fresh(&network, config()).await;
    for number in 0..12u64 {
        node.files.put(&format!("/home/{number}"), &noise(number, 6_000), 10);
        node.put("/home", "home").await;
    }
    assert_eq!(slabs_of(&node), 12);
    let full = total(&network);
    collect(&node).await;
    assert_eq!(slabs_of(&node), 1);
    assert_clean(&network, &node).await;
    assert!(total(&network) < full / 2);
    let restored = node.get("home", "/back", Conflict::Keep).await;
    assert_eq!((restored.restored_files, restored.failed.len()), (12, 0));
}

/// Small files cost neither a slab nor a round each.
#[tokio::test(start_paused = true)]
async fn ten_thousand_small_files_are_packed() {
    let network = TestNetwork::empty(6).await;
    let node = Node::fresh(&network).await;
    for number in 0..10_000u64 {
        let path = format!("/home/{}/{number}", number % 100);
        node.files.put(&path, &noise(number, 1_024), 10);
    }
    let count = |kind: &str| network.hosts.iter().map(|host| host.calls(kind)).sum::<u64>();
    let kinds = ["store", "commit", "append head", "put head"];
    let before = kinds.map(count);
    node.put("/home", "home").await;
    let calls: Vec<u64> = kinds.iter().zip(before).map(|(kind, b)| (count(kind) - b) / 6).collect();
    let named = node.renter.inner.journal.named().await.unwrap().segments.len();
    let (slabs, inline) = node.renter.inner.journal.read(|state| {
        let files = state.vaults.values().flat_map(|vault| vault.files.values());
        let inline = files.filter(|file| {
            let content = &file.versions[0].file.content;
            matches!(content, samara_protocol::journal::Content::Inline(_))
        });
        (state.slabs.len(), inline.count())
    });
    // Ten megabytes fill some forty slabs of 256 KiB here; with columns of 4 MiB, one.
    assert!(slabs < 60 && named < 30, "{slabs} slabs and {named} of the journal");
    // A batch has so many bytes in its events: they stay in the memory of the fold.
    assert_eq!(inline, 640);
    let rounds: u64 = calls.iter().sum();
    assert!(rounds < 300, "{calls:?} calls of a host");
    for number in [0, 4_321, 9_999] {
        let path = format!("{}/{number}", number % 100);
        let read = node.renter.read_range("home", &path, None, 0..1_024).await.unwrap();
        assert!(read == noise(number, 1_024));
    }
}
