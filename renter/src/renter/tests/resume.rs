//! Puts of large files that are cut, and what the next put of the same file sends.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::RenterConfig;
use crate::progress::{ProgressEvent, Silent};
use crate::recovery::{RecoveryOptions, RecoveryPhase};
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, config, noise, put};
use crate::transfer::SlabClass;
use crate::vault::{Conflict, PutReport};
use crate::world::{Store, Write};

/// Bytes of the file: a dozen slabs, the last of them not full.
const SIZE: usize = 3_000_000;

/// Files from half a megabyte on are large.
fn resuming() -> RenterConfig {
    let mut resuming = config();
    resuming.vault.batch_bytes = 512 << 10;
    resuming.vault.chunk = 64 << 10;
    resuming
}

async fn reopen(network: &TestNetwork, store: MortalStore, files: &MemoryFiles) -> Node {
    Node::with(network, store, files.clone(), resuming()).await
}

/// A machine with contracts, a large file and a small one.
async fn ready(network: &TestNetwork) -> Node {
    let node = reopen(network, MortalStore::immortal(), &MemoryFiles::default()).await;
    node.start(network).await;
    node.files.put("/home/big", &noise(1, SIZE), 10);
    node.files.put("/home/a small one", &noise(2, 40_000), 10);
    node
}

/// Sectors that hosts were sent.
fn sent(network: &TestNetwork) -> u64 {
    network.hosts.iter().map(|host| host.calls("store")).sum()
}

/// Sectors of that many bytes in slabs of their own.
fn sectors(network: &TestNetwork, node: &Node, bytes: u64) -> u64 {
    let capacity = node.renter.inner.vaults.slabs.uploader().capacity(SlabClass::Data).unwrap();
    bytes.div_ceil(u64::from(capacity)) * network.hosts.len() as u64
}

async fn rows(node: &Node) -> usize {
    node.store.disk.scan(b"put/", None, usize::MAX).await.unwrap().len()
}

/// Puts and is stopped as by Ctrl-C when so many bytes were read.
async fn cut(node: &Node, bytes: u64) {
    let enough = Arc::new(Notify::new());
    let seen = enough.clone();
    let progress = move |event| match event {
        ProgressEvent::Advanced { done, .. } if done >= bytes => seen.notify_one(),
        _ => {}
    };
    let put = node.renter.put(put("/home", "home"), &progress);
    tokio::select! {
        biased;
        () = enough.notified() => {}
        report = put => panic!("it was not cut: {report:?}"),
    }
}

async fn assert_back(node: &Node, to: &str) {
    node.get("home", to, Conflict::Replace).await;
    assert!(node.files.below(to) == node.files.below("/home"));
}

/// Puts all, and checks that exactly the rest of the large file was sent.
async fn put_the_rest(network: &TestNetwork, node: &Node, small: bool) -> PutReport {
    let before = sent(network);
    let report = node.put("/home", "home").await;
    let rest = SIZE as u64 - report.resumed_bytes;
    let other = if small { network.hosts.len() as u64 } else { 0 };
    assert_eq!(sent(network) - before, sectors(network, node, rest) + other, "{report:?}");
    report
}

#[tokio::test(start_paused = true)]
async fn a_large_put_that_was_stopped_goes_on() {
    let network = TestNetwork::empty(8).await;
    let node = ready(&network).await;
    let mut last = 0;
    for bytes in [1_200_000, 1_900_000, 2_600_000] {
        cut(&node, bytes).await;
        let store = node.store.disk.scan(b"put/", None, usize::MAX).await.unwrap();
        assert!(store.len() > last, "{bytes}");
        last = store.len();
    }
    let (store, files) = (node.store.clone(), node.files.clone());
    node.lose().await;

    let node = reopen(&network, store, &files).await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let list = told.clone();
    let progress = move |event| {
        if let ProgressEvent::Resumed { item, done, .. } = event {
            list.lock().unwrap().push((item, done));
        }
    };
    let before = sent(&network);
    let report = node.renter.put(put("/home", "home"), &progress).await.unwrap();
    // All but the slabs in flight and the one being filled.
    assert!(report.resumed_bytes > 1_500_000, "{report:?}");
    assert_eq!(report.stored_bytes + report.unchanged_bytes, SIZE as u64 + 40_000);
    assert_eq!(*told.lock().unwrap(), [("big".to_owned(), report.resumed_bytes)]);
    let rest = sectors(&network, &node, SIZE as u64 - report.resumed_bytes);
    let small = 8 * report.stored_files.saturating_sub(1);
    assert_eq!(sent(&network) - before, rest + small);
    assert_eq!(rows(&node).await, 0);
    assert_back(&node, "/back").await;
    let again = node.put("/home", "home").await;
    assert_eq!((again.unchanged_files, again.resumed_bytes), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_large_put_survives_a_crash_at_many_writes() {
    let (mut most, mut after_event) = (0, 0);
    for commits in (0..).step_by(5) {
        let network = TestNetwork::empty(4).await;
        let node = ready(&network).await;
        node.put("/home/a small one", "home").await;
        let (store, files) = (node.store.clone(), node.files.clone());
        node.lose().await;
        let dying = store.dies_after(commits);
        let node = reopen(&network, dying.clone(), &files).await;
        let told = node.renter.put(put("/home", "home"), &Silent).await.is_ok();
        let dead = dying.is_dead();
        node.lose().await;

        let node = reopen(&network, store, &files).await;
        node.renter.confirm().await.unwrap();
        if node.renter.status().files == 2 {
            after_event += u32::from(rows(&node).await > 0);
            let report = node.put("/home", "home").await;
            assert_eq!(report.unchanged_files, 2, "{commits}");
        } else {
            assert!(!told, "{commits}");
            let report = put_the_rest(&network, &node, false).await;
            assert!(report.resumed_bytes >= most, "{commits}: {report:?}");
            most = report.resumed_bytes;
        }
        assert_eq!(rows(&node).await, 0, "{commits}");
        assert_back(&node, "/back").await;
        node.lose().await;
        if !dead {
            break;
        }
    }
    assert!(most > 2_000_000, "{most}");
    assert!(after_event > 0, "no crash between the event and the end of its checkpoint");
}

#[tokio::test(start_paused = true)]
async fn slabs_of_an_event_whose_checkpoint_stayed_are_used_again() {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    cut(&node, 2_900_000).await;
    let stayed = node.store.disk.scan(b"put/", None, usize::MAX).await.unwrap();
    node.put("/home", "home").await;
    // As if the machine had died right before the rows were removed.
    let writes = stayed.into_iter().map(|(key, value)| Write::Put(key, value)).collect();
    node.store.commit(writes).await.unwrap();
    node.renter.remove("home", "big", false).await.unwrap();
    let report = put_the_rest(&network, &node, false).await;
    assert!(report.resumed_bytes > 1_500_000, "{report:?}");
    assert_eq!(rows(&node).await, 0);
    assert_back(&node, "/back").await;
}

/// What a checkpoint that stayed after its file was acknowledged keeps from the collector, before and
/// after a change and a round.
async fn kept_after(change: impl AsyncFn(&Node)) -> (usize, u64) {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    cut(&node, 2_900_000).await;
    let stayed = node.store.disk.scan(b"put/", None, usize::MAX).await.unwrap();
    node.put("/home", "home").await;
    let writes = stayed.into_iter().map(|(key, value)| Write::Put(key, value)).collect();
    node.store.commit(writes).await.unwrap();
    change(&node).await;
    node.renter.collect().await;
    let report = node.renter.garbage();
    assert_eq!((report.unused, report.problem), (0, None));
    (rows(&node).await, node.renter.needed_bytes().await.unwrap().values().sum())
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_stayed_keeps_nothing_that_no_put_goes_on_from() {
    // The file is listed: its slabs are the journal's.
    let (rows, listed) = kept_after(async |_: &Node| ()).await;
    assert_eq!(rows, 0);
    // Nothing can be put into a vault that is gone.
    let gone = async |node: &Node| node.renter.remove_vault("home").await.unwrap();
    let (rows, bytes) = kept_after(gone).await;
    assert!(rows == 0 && bytes < listed / 10, "{rows} {bytes} {listed}");
    // A file that was removed may be put again.
    let purged = async |node: &Node| {
        let version = node.renter.file("home", "big", None).unwrap().version.version;
        node.renter.remove("home", "big", false).await.unwrap();
        node.renter.remove_version("home", "big", version).await.unwrap();
    };
    let (rows, bytes) = kept_after(purged).await;
    assert!(rows > 0 && bytes > listed / 2, "{rows} {bytes} {listed}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changed_unseen_starts_over() {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    cut(&node, 2_600_000).await;
    let mut bytes = noise(1, SIZE);
    bytes[300_000] ^= 1;
    node.files.put("/home/big", &bytes, 10);
    let report = put_the_rest(&network, &node, true).await;
    assert_eq!(report.resumed_bytes, 0);
    assert_back(&node, "/back").await;

    // Behind what was sent a change does no harm.
    node.renter.remove("home", "big", false).await.unwrap();
    cut(&node, 2_000_000).await;
    bytes[SIZE - 1] ^= 1;
    node.files.put("/home/big", &bytes, 10);
    assert!(put_the_rest(&network, &node, false).await.resumed_bytes > 0);
    assert_back(&node, "/back").await;

    // Another time or size is another file.
    node.renter.remove("home", "big", false).await.unwrap();
    cut(&node, 2_000_000).await;
    node.files.put("/home/big", &bytes, 11);
    assert_eq!(put_the_rest(&network, &node, false).await.resumed_bytes, 0);
    assert_eq!(rows(&node).await, 0);
    assert_back(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn slabs_that_lost_their_contracts_are_sent_again() {
    let network = TestNetwork::empty(8).await;
    let node = ready(&network).await;
    // As many hosts hold each slab as it needs, and no more.
    let redundancy = node.renter.inner.vaults.slabs.redundancy();
    let needed = usize::from(redundancy.data + redundancy.margin);
    assert!(needed < 8, "{redundancy:?}");
    network.set(needed..8, Fault::Dead);
    cut(&node, 2_600_000).await;
    network.set(0..8, Fault::None);
    let book = &node.renter.inner.book;
    let holder = book.index_of(&network.hosts[0].key.public()).unwrap();
    book.retire(holder).await.unwrap();
    let report = node.put("/home", "home").await;
    let held = node.store.disk.scan(b"put/", None, usize::MAX).await.unwrap();
    assert_eq!((report.resumed_bytes, held.len()), (0, 0));
    assert_back(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn hosts_that_go_away_cost_only_the_rest() {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    let hosts = network.hosts.clone();
    let progress = move |event| match event {
        ProgressEvent::Advanced { done, .. } if done >= 2_000_000 => {
            hosts.iter().for_each(|host| host.set(Fault::Dead));
        }
        _ => {}
    };
    node.renter.put(put("/home", "home"), &progress).await.unwrap_err();
    network.set(0..5, Fault::None);
    let report = node.put("/home", "home").await;
    assert!(report.resumed_bytes > 1_000_000, "{report:?}");
    assert_back(&node, "/back").await;
}

#[tokio::test(start_paused = true)]
async fn two_puts_of_one_file_at_once_both_end_well() {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    cut(&node, 2_000_000).await;
    let request = || put("/home", "home");
    let (first, second) = futures::future::join(
        Box::pin(node.renter.put(request(), &Silent)),
        Box::pin(node.renter.put(request(), &Silent)),
    )
    .await;
    let resumed = [first.unwrap().resumed_bytes, second.unwrap().resumed_bytes];
    assert!(resumed.iter().filter(|bytes| **bytes > 0).count() == 1, "{resumed:?}");
    assert_eq!(rows(&node).await, 0);
    assert_back(&node, "/back").await;
    assert_eq!(node.put("/home", "home").await.unchanged_files, 2);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_that_nobody_needs_are_dropped() {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    node.files.put("/other/x", b"x", 10);
    // The file is gone from the folder that is put.
    cut(&node, 2_000_000).await;
    assert!(rows(&node).await > 0);
    let moved = node.files.take("/home/big");
    node.put("/other", "home").await;
    assert!(rows(&node).await > 0);
    node.put("/home", "home").await;
    assert_eq!(rows(&node).await, 0);
    // Nobody came back for it.
    node.files.put("/home/big", &moved, 10);
    cut(&node, 2_000_000).await;
    tokio::time::advance(std::time::Duration::from_secs(13 * 24 * 3600)).await;
    node.put("/other", "home").await;
    assert!(rows(&node).await > 0);
    tokio::time::advance(std::time::Duration::from_secs(2 * 24 * 3600)).await;
    node.put("/other", "home").await;
    assert_eq!(rows(&node).await, 0);
    // A row that a stopped put wrote last, without its head.
    let stray = [b"put/".as_slice(), &[7; 40]].concat();
    node.store.commit(vec![Write::Put(stray, vec![1])]).await.unwrap();
    node.put("/other", "home").await;
    assert_eq!(rows(&node).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_ends_what_was_under_way() {
    let network = TestNetwork::empty(5).await;
    let node = ready(&network).await;
    cut(&node, 2_000_000).await;
    // Numbers of hosts are those of an epoch.
    let other = Node::blank(&network).await;
    for taken_over in [&other, &node] {
        let report = taken_over.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap();
        assert_eq!(report.outcome, RecoveryPhase::Done);
        // The one that wrote before finds out.
        let _ = node.renter.create_vault("x").await;
    }
    let report = node.put("/home", "home").await;
    assert_eq!(report.resumed_bytes, 0);
    assert_eq!(rows(&node).await, 0);
    assert_back(&node, "/back").await;
}
