//! Acknowledged, and settled later.

use std::collections::BTreeMap;

use super::recover;
use crate::backup::{BackupRequest, BackupStatus};
use crate::progress::{Phase, ProgressEvent, Silent};
use crate::rows::Stage;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MortalStore, Node, config};
use crate::vault::{ListOptions, ListRow, VersionRow};

/// The files of `home`, deleted ones too.
async fn files(node: &Node) -> BTreeMap<String, (VersionRow, Vec<VersionRow>)> {
    let options = ListOptions { recursive: true, versions: true, ..ListOptions::default() };
    let rows = node.renter.list("home", &options).await.unwrap();
    let files = rows.into_iter().filter_map(|row| match row {
        ListRow::File(file) => Some((file.path, (file.version, file.versions))),
        ListRow::Folder { .. } => None,
    });
    files.collect()
}

async fn stages(node: &Node) -> Vec<(String, Stage)> {
    files(node).await.into_iter().map(|(path, (file, _))| (path, file.stage)).collect()
}

fn all(stage: Stage, paths: &[&str]) -> Vec<(String, Stage)> {
    paths.iter().map(|path| ((*path).to_owned(), stage)).collect()
}

async fn backup(node: &Node, name: &str) -> (BackupStatus, Stage) {
    let request = BackupRequest { name: name.into(), ..BackupRequest::default() };
    let row = node.renter.create_backup(request, &Silent).await.unwrap();
    (row.status, row.stage)
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_settled_once_the_slow_host_has_it() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        node.files.put(&format!("/home/{name}"), b"one", number as u64);
    }
    node.put("/home", "home").await;
    node.renter.upkeep().await;
    assert_eq!(stages(&node).await, all(Stage::Settled, &["a", "b", "c"]));

    network.set([7], Fault::Headless);
    node.files.put("/home/d", b"new", 10);
    node.files.put("/home/c", b"changed", 11);
    let report = node.put("/home", "home").await;
    assert_eq!(report.stage, Stage::Acknowledged);
    assert!(report.hosts_ok >= 5 && report.hosts_ok < 8, "{report:?}");
    assert_eq!(report.hosts_total, 8);
    node.renter.move_file("home", "a", "e").await.unwrap();
    node.renter.remove("home", "b", false).await.unwrap();
    let expected = all(Stage::Acknowledged, &["b", "c", "d", "e"]);
    assert_eq!(stages(&node).await, expected);
    // Of a file that has changed since, the older version is where it was.
    let (_, versions) = &files(&node).await["c"];
    let versions: Vec<Stage> = versions.iter().map(|version| version.stage).collect();
    assert_eq!(versions, [Stage::Settled, Stage::Acknowledged]);
    // Any four that survive lead back to it.
    assert_eq!(backup(&node, "first").await, (BackupStatus::Completed, Stage::Acknowledged));
    node.renter.upkeep().await;
    assert_eq!(stages(&node).await, expected);

    network.set([7], Fault::None);
    node.renter.upkeep().await;
    assert_eq!(stages(&node).await, all(Stage::Settled, &["b", "c", "d", "e"]));
    assert_eq!(node.renter.backups()[0].stage, Stage::Settled);
    assert!(node.renter.status().settled_position >= node.renter.backups()[0].head_seq.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_restart_knows_what_was_settled_and_checks_the_rest() {
    let network = TestNetwork::empty(8).await;
    let (store, memory) = (MortalStore::immortal(), Default::default());
    let node = Node::with(&network, store.clone(), memory, config()).await;
    node.start(&network).await;
    node.files.put("/home/a", b"one", 1);
    node.put("/home", "home").await;
    node.renter.upkeep().await;
    network.set([7], Fault::Headless);
    node.files.put("/home/b", b"two", 2);
    node.put("/home", "home").await;
    let memory = node.files.clone();
    node.lose().await;

    network.set([7], Fault::Dead);
    let node = Node::with(&network, store, memory, config()).await;
    let of = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
    assert_eq!(stages(&node).await, of(Stage::Settled, Stage::Checking));
    node.renter.upkeep().await;
    assert_eq!(stages(&node).await, of(Stage::Settled, Stage::Acknowledged));
    network.set([7], Fault::None);
    node.renter.upkeep().await;
    assert_eq!(stages(&node).await, of(Stage::Settled, Stage::Settled));
}

#[tokio::test(start_paused = true)]
async fn a_recovery_says_what_is_settled_as_soon_as_it_knows() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"one", 1);
    node.put("/home", "home").await;
    assert_eq!(backup(&node, "first").await.0, BackupStatus::Completed);
    node.renter.upkeep().await;
    node.lose().await;

    network.set([6, 7], Fault::Slow(20));
    let node = Node::blank(&network).await;
    recover(&node).await;
    // The heads that it read have shown that enough hosts hold the backup.
    assert_eq!(node.renter.backups()[0].status, BackupStatus::Completed);
    let before = stages(&node).await[0].1;
    assert!(matches!(before, Stage::Checking | Stage::Settled), "{before:?}");
    node.renter.upkeep().await;
    assert_eq!(stages(&node).await, all(Stage::Settled, &["a"]));
    assert_eq!(node.renter.backups()[0].stage, Stage::Settled);
}

#[tokio::test(start_paused = true)]
async fn the_progress_of_a_backup_stays_below_its_total() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"one", 1);
    node.put("/home", "home").await;
    let seen = std::sync::Mutex::new(Vec::new());
    let note = |event: ProgressEvent| {
        if let ProgressEvent::Advanced { phase: Phase::Settling, done, total, .. } = event {
            seen.lock().unwrap().push((done, total.unwrap()));
        }
    };
    let request = BackupRequest { name: "first".into(), ..BackupRequest::default() };
    let row = node.renter.create_backup(request, &note).await.unwrap();
    assert!(row.hosts_ok >= row.hosts_needed && row.hosts_needed < row.hosts_total, "{row:?}");
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|(done, total)| done <= total), "{seen:?}");
    assert_eq!(seen.last(), Some(&(row.hosts_needed, row.hosts_needed)));
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_silent_since_a_recovery_count_among_all() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"one", 1);
    node.put("/home", "home").await;
    let files = node.files.clone();
    node.lose().await;
    network.set([6, 7], Fault::Dead);
    let node = Node::with(&network, MortalStore::immortal(), files, config()).await;
    recover(&node).await;
    node.files.put("/home/b", b"two", 2);
    let report = node.put("/home", "home").await;
    node.renter.upkeep().await;
    assert_eq!((report.hosts_ok.max(6), report.hosts_total), (6, 8));
    assert!(stages(&node).await.contains(&("b".into(), Stage::Acknowledged)));
    let request = BackupRequest { name: "b".into(), ..BackupRequest::default() };
    let row = node.renter.create_backup(request, &Silent).await.unwrap();
    assert_eq!((row.hosts_total, row.stage), (8, Stage::Acknowledged));
    network.set([6, 7], Fault::None);
    for _ in 0..30 {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        node.renter.upkeep().await;
    }
    assert_eq!(stages(&node).await, all(Stage::Settled, &["a", "b"]));
}
