//! The scan in the background: what the words own, and which backups there are.

use std::sync::Arc;

use samara_protocol::keys::KeyTree;
use samara_protocol::keys::phrase::Phrase;
use samara_protocol::units::{Amount, Millis};
use tokio::sync::broadcast::Receiver;
use zeroize::Zeroizing;

use super::{fill, put_rounds, recover, spilled};
use crate::backup::{BackupEdit, BackupRequest, BackupStatus};
use crate::news::News;
use crate::progress::Silent;
use crate::recovery::{
    FoundBackup, RecoveryOptions, RecoveryPhase, RecoveryScanAdvance, RecoveryScanOptions,
    RecoveryScanState, RecoveryScanStatus,
};
use crate::rows::RenterState;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{Node, config};

async fn back_up(node: &Node, name: &str, vault: Option<&str>) {
    let vault = vault.map(str::to_owned);
    let request = BackupRequest { name: name.into(), vault, ..BackupRequest::default() };
    let row = node.renter.create_backup(request, &Silent).await.unwrap();
    assert_eq!(row.status, BackupStatus::Completed, "{row:?}");
}

/// A machine that has put its home and made a backup.
async fn backed_up(network: &TestNetwork) -> Node {
    let node = Node::fresh(network).await;
    fill(&node.files);
    node.put("/home", "home").await;
    back_up(&node, "first", None).await;
    node
}

async fn start(node: &Node) -> RecoveryScanStatus {
    node.renter.start_recovery_scan(RecoveryScanOptions::default()).await.unwrap()
}

/// What is told next of a scan.
async fn told(news: &mut Receiver<News>) -> Result<FoundBackup, RecoveryScanAdvance> {
    loop {
        match news.recv().await.unwrap() {
            News::ScanFoundBackup(backup) => return Ok(*backup),
            News::ScanAdvanced(advance) => return Err(*advance),
            _ => {}
        }
    }
}

/// Waits until a scan is told to be as wanted.
async fn until(news: &mut Receiver<News>, wanted: impl Fn(&RecoveryScanAdvance) -> bool) {
    loop {
        if let Err(advance) = told(news).await
            && wanted(&advance)
        {
            return;
        }
    }
}

/// Starts a scan and waits for its end.
async fn scan(node: &Node) -> RecoveryScanStatus {
    let mut news = node.renter.news();
    assert!(start(node).await.state.is_open());
    until(&mut news, |advance| !advance.state.is_open()).await;
    node.renter.recovery_scan()
}

fn names(status: &RecoveryScanStatus) -> Vec<&str> {
    status.backups.iter().map(|backup| backup.name.as_str()).collect()
}

/// A chain of many blocks, of which a few come at a time.
fn lengthen(network: &TestNetwork) {
    for _ in 0..60 {
        network.chain.pass(Millis(1));
    }
    network.chain.slow_down(4, Millis(2_000));
}

#[tokio::test(start_paused = true)]
async fn the_words_alone_show_the_backups_and_nothing_is_claimed() {
    let network = TestNetwork::empty(8).await;
    let old = backed_up(&network).await;
    back_up(&old, "of home", Some("home")).await;
    back_up(&old, "gone", None).await;
    old.renter.delete_backup("gone").await.unwrap();
    let edit = BackupEdit {
        description: Some("all of it".into()),
        tags: Some(vec!["year".into()]),
        pinned: Some(true),
        ..BackupEdit::default()
    };
    old.renter.edit_backup("first", &edit).await.unwrap();
    old.renter.rename_vault("home", "house").await.unwrap();
    old.renter.confirm().await.unwrap();

    let node = Node::blank(&network).await;
    let status = scan(&node).await;
    assert_eq!(status.state, RecoveryScanState::Found, "{status:?}");
    assert_eq!((status.contracts_found, status.contracts_live), (8, 8));
    assert_eq!((status.contracts_known, status.contracts_unknown), (0, 8));
    assert_eq!((status.hosts_answered, status.hosts_asked), (8, 8));
    assert_eq!((status.may_be_missing.as_ref(), status.phase), (None, None));
    assert_eq!(status.blocks_known, Some(status.blocks_done));
    // As the node shows them that has made them.
    assert_eq!(names(&status), ["first", "of home"]);
    let own = old.renter.recovery_scan().backups;
    assert_eq!(status.backups, own);
    assert_eq!(own[1].vault.as_deref(), Some("house"));
    assert!(network.hosts.iter().all(|host| host.calls("promise") == 0));
    assert_eq!(node.renter.status().state, RenterState::Fresh);
    // It writes on, and nothing of what the scan did is in the way of a recovery.
    old.put("/home", "house").await;
    let report = recover(&node).await;
    assert_eq!((report.outcome, report.backups), (RecoveryPhase::Done, 2));
    assert_eq!(names(&node.renter.recovery_scan()), ["first", "of home"]);
}

#[tokio::test(start_paused = true)]
async fn backups_appear_while_the_chain_is_read() {
    let network = TestNetwork::empty(8).await;
    let old = backed_up(&network).await;
    old.lose().await;
    lengthen(&network);
    let node = Node::blank(&network).await;
    let mut news = node.renter.news();
    start(&node).await;
    let first = loop {
        if let Ok(backup) = told(&mut news).await {
            break backup;
        }
    };
    assert_eq!((first.name.as_str(), first.preliminary), ("first", true));
    let status = node.renter.recovery_scan();
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Scanning, vec!["first"]));
    assert!(Some(status.blocks_done) < status.blocks_known && status.seconds_left > Some(0));
    until(&mut news, |advance| !advance.state.is_open()).await;
    let status = node.renter.recovery_scan();
    assert_eq!(status.state, RecoveryScanState::Found);
    assert!(status.backups.iter().all(|backup| !backup.preliminary));
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_was_stopped_goes_on_where_it_was_when_it_is_started_again() {
    let network = TestNetwork::empty(8).await;
    backed_up(&network).await.lose().await;
    lengthen(&network);
    let node = Node::blank(&network).await;
    let mut news = node.renter.news();
    start(&node).await;
    until(&mut news, |advance| advance.blocks_done >= 20).await;
    let stopped = node.renter.stop_recovery_scan().await.unwrap();
    assert_eq!(stopped.state, RecoveryScanState::Stopped);
    assert!(stopped.backups.iter().all(|backup| backup.preliminary));
    // Again changes nothing.
    assert_eq!(node.renter.stop_recovery_scan().await.unwrap(), stopped);
    let (store, files) = (node.store.clone(), node.files.clone());
    node.lose().await;

    let node = Node::with(&network, store, files, config()).await;
    assert_eq!(node.renter.recovery_scan().state, RecoveryScanState::Stopped);
    network.chain.take_asked();
    let status = scan(&node).await;
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Found, vec!["first"]));
    let asked = network.chain.take_asked();
    assert!(asked.iter().all(|from| *from > 16), "{asked:?}");
    let again = RecoveryScanOptions { restart: true, ..RecoveryScanOptions::default() };
    let mut news = node.renter.news();
    let begun = node.renter.start_recovery_scan(again).await.unwrap();
    assert_eq!((begun.blocks_done, begun.backups), (0, vec![]));
    until(&mut news, |advance| !advance.state.is_open()).await;
    assert_eq!(network.chain.take_asked()[0], 1);
}

#[tokio::test(start_paused = true)]
async fn a_scan_resumes_by_itself_after_a_crash() {
    let network = TestNetwork::empty(8).await;
    backed_up(&network).await.lose().await;
    lengthen(&network);
    let node = Node::blank(&network).await;
    let mut news = node.renter.news();
    start(&node).await;
    until(&mut news, |advance| advance.blocks_done >= 40).await;
    let (store, files) = (node.store.copied().await, node.files.clone());
    node.lose().await;

    network.chain.take_asked();
    let node = Node::with(&network, store, files, config()).await;
    let mut news = node.renter.news();
    assert_eq!(node.renter.recovery_scan().state, RecoveryScanState::Scanning);
    until(&mut news, |advance| !advance.state.is_open()).await;
    let status = node.renter.recovery_scan();
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Found, vec!["first"]));
    assert!(network.chain.take_asked().iter().all(|from| *from > 30));
    assert!(status.log.iter().any(|line| line.text.contains("started again")), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_in_use_learns_what_it_does_not_know_and_is_not_disturbed() {
    let network = TestNetwork::empty(8).await;
    let node = backed_up(&network).await;
    // Its own work goes on beside the scan, and asks for none of this.
    let asked = ["latest", "head", "read", "promise"];
    let of = |kind: &str| network.hosts.iter().map(|host| host.calls(kind)).sum::<u64>();
    let calls = || asked.map(of);
    let before = calls();
    let status = scan(&node).await;
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Found, vec!["first"]));
    assert_eq!((status.contracts_known, status.contracts_unknown), (8, 0));
    assert!(!status.backups[0].preliminary);
    // Somebody else uses the same words.
    network.form(0, Amount(1_000_000_000)).await;
    let status = scan(&node).await;
    assert_eq!((status.contracts_known, status.contracts_unknown), (8, 1));
    assert!(status.next.unwrap().contains("1 contracts of these words are not known here"));
    assert_eq!(calls(), before);
    assert_eq!(node.renter.status().state, RenterState::Active);
    // A recovery that is refused does not stop a scan.
    network.chain.slow_down(4, Millis(2_000));
    let again = RecoveryScanOptions { restart: true, ..RecoveryScanOptions::default() };
    node.renter.start_recovery_scan(again).await.unwrap();
    let refused = node.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap_err();
    assert_eq!(refused.code(), "active");
    assert!(node.renter.recovery_scan().state.is_open());
    node.put("/home", "home").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_started_by_mistake_is_shown_what_the_words_own() {
    let network = TestNetwork::empty(8).await;
    backed_up(&network).await.lose().await;
    let node = Node::blank(&network).await;
    node.renter.start_fresh().await.unwrap();
    let status = scan(&node).await;
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Found, vec!["first"]));
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
}

#[tokio::test(start_paused = true)]
async fn words_that_own_nothing_are_scanned_to_the_end() {
    let mut network = TestNetwork::empty(3).await;
    let phrase = Phrase::from_entropy(&Zeroizing::new([9; 16])).unwrap();
    let genesis = network.world.chain.genesis().hash();
    network.keys = Arc::new(KeyTree::new(&phrase.seed(""), &genesis));
    let node = Node::blank(&network).await;
    let status = scan(&node).await;
    assert_eq!(status.state, RecoveryScanState::NothingFound);
    assert!(status.next.unwrap().contains("these words own nothing"));
    assert_eq!(node.renter.status().state, RenterState::Fresh);
    node.renter.start_fresh().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_silent_or_send_rubbish_are_told_of_and_tried_again() {
    let network = TestNetwork::empty(8).await;
    spilled_and_backed_up(&network).await.lose().await;
    network.set(0..8, Fault::Dead);
    let node = Node::blank(&network).await;
    let status = scan(&node).await;
    assert_eq!(status.state, RecoveryScanState::Failed);
    let error = status.error.unwrap();
    assert_eq!((error.code.as_str(), error.retryable), ("no_host_answers", true));
    network.set(0..8, Fault::None);
    network.set(0..3, Fault::Flips);
    network.set([3], Fault::Dead);
    let status = scan(&node).await;
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Found, vec!["long"]));
    assert_eq!((status.error, status.hosts_answered), (None, 7));
    // Too few to be certain.
    network.set(0..4, Fault::Dead);
    let status = scan(&node).await;
    assert_eq!((status.state, status.hosts_answered), (RecoveryScanState::Found, 4));
    assert!(status.may_be_missing.unwrap().contains("4 of the 8 hosts"));
    assert_eq!(status.backups[0].status, BackupStatus::InProgress);
}

/// A machine whose journal is in slabs, behind a checkpoint, with a backup in the middle.
async fn spilled_and_backed_up(network: &TestNetwork) -> Node {
    let node = spilled(network).await;
    back_up(&node, "long", None).await;
    put_rounds(&node, 2, 60).await;
    node
}

#[tokio::test(start_paused = true)]
async fn a_recovery_goes_on_from_a_scan_and_has_the_chain_for_itself() {
    let network = TestNetwork::empty(8).await;
    backed_up(&network).await.lose().await;
    lengthen(&network);
    let node = Node::blank(&network).await;
    let mut news = node.renter.news();
    start(&node).await;
    until(&mut news, |advance| advance.blocks_done >= 40).await;
    network.chain.take_asked();
    let renter = node.renter.clone();
    let recovering = async {
        renter
            .recover(RecoveryOptions { read_only: true, ..RecoveryOptions::default() }, &Silent)
            .await
    };
    let beside = async {
        until(&mut news, |advance| advance.state == RecoveryScanState::Stopped).await;
        node.renter.start_recovery_scan(RecoveryScanOptions::default()).await.unwrap_err()
    };
    let (report, refused) = tokio::join!(recovering, beside);
    assert_eq!(refused.code(), "running");
    assert_eq!(report.unwrap().outcome, RecoveryPhase::ReadOnly);
    assert!(network.chain.take_asked().iter().all(|from| *from > 30));
    // What was recovered is what is listed, as the hosts hold it.
    let status = node.renter.recovery_scan();
    assert_eq!((status.state, names(&status)), (RecoveryScanState::Stopped, vec!["first"]));
    assert!(!status.backups[0].preliminary);
    assert_eq!(status.backups[0].status, BackupStatus::Completed);
    assert_eq!(scan(&node).await.state, RecoveryScanState::Found);
}
