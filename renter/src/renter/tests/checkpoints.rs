//! Checkpoints: what a recovery starts from, and what backups are.

use samara_protocol::sector::GROUP;
use samara_protocol::units::Millis;

use crate::RenterConfig;
use crate::backup::{BackupRequest, BackupStatus, RestoreRequest};
use crate::checkpoint::DifferenceKind::{self, Added, Changed, Removed};
use crate::progress::Silent;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, config, noise};
use crate::vault::{Conflict, ListOptions, ListRow};
use crate::world::{Store as _, Write};

use super::{put_rounds, recover};

/// A checkpoint after every few entries, and slabs for what lies between.
fn small() -> RenterConfig {
    let mut small = config();
    small.journal.spill = 4 << 10;
    small.journal.checkpoint_entries = 40;
    small
}

async fn blank(network: &TestNetwork) -> Node {
    Node::with(network, MortalStore::immortal(), MemoryFiles::default(), small()).await
}

/// A machine whose journal is long enough for several checkpoints.
async fn filled(network: &TestNetwork) -> Node {
    let node = blank(network).await;
    node.start(network).await;
    put_rounds(&node, 5, 20).await;
    node
}

/// Waits until nothing is on its way into a checkpoint.
async fn written(node: &Node) -> u64 {
    let journal = &node.renter.inner.journal;
    let mut watch = journal.watch();
    loop {
        if journal.named().await.unwrap().quiet {
            return journal.status().checkpoint.unwrap();
        }
        watch.changed().await.unwrap();
    }
}

async fn listed(node: &Node, backup: Option<&str>) -> Vec<(String, String)> {
    let backup = backup.map(str::to_owned);
    let options = ListOptions { recursive: true, backup, ..ListOptions::default() };
    let rows = node.renter.list("home", &options).await.unwrap();
    let file = |row| match row {
        ListRow::File(row) => Some((row.path, row.version.hash)),
        ListRow::Folder { .. } => None,
    };
    rows.into_iter().filter_map(file).collect()
}

async fn backup(node: &Node, name: &str) {
    let request = BackupRequest { name: name.into(), ..BackupRequest::default() };
    node.renter.create_backup(request, &Silent).await.unwrap();
    written(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_recovery_starts_from_the_checkpoint() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    let position = written(&node).await;
    assert!(position > 40, "{position}");
    let status = node.renter.inner.journal.status();
    assert!(status.position - position < 60, "{status:?}");
    let expected = listed(&node, None).await;
    assert_eq!(expected.len(), 100);
    node.lose().await;

    let node = blank(&network).await;
    recover(&node).await;
    assert_eq!(node.renter.inner.journal.status().checkpoint, Some(position));
    assert_eq!(listed(&node, None).await, expected);
    // It is a journal like any other: it goes on, is read again from disk, and checkpoints again.
    for number in 0..80 {
        node.files.put(&format!("/home/new/{number}"), &noise(number, 300), 10);
    }
    node.put("/home", "home").await;
    assert!(written(&node).await > position);
    let expected = listed(&node, None).await;
    assert_eq!(expected.len(), 180);
    node.renter.shutdown().await;
    let again = Node::with(&network, node.store.clone(), node.files.clone(), small()).await;
    assert_eq!(listed(&again, None).await, expected);
    let got = again.get("home", "/back", Conflict::Keep).await;
    assert_eq!(got.failed, vec![]);
    assert_eq!(again.files.bytes("/back/new/7"), Some(noise(7, 300)));
}

#[tokio::test(start_paused = true)]
async fn the_local_copies_of_nodes_are_only_copies() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    written(&node).await;
    let expected = listed(&node, None).await;
    node.renter.shutdown().await;
    let rows = node.store.scan(b"checkpoint/", None, 1_000).await.unwrap();
    assert!(rows.len() > 2);
    // One is damaged, the others are gone.
    let damaged = Write::Put(rows[0].0.clone(), b"no node".to_vec());
    let gone = rows[1..].iter().map(|(key, _)| Write::Delete(key.clone()));
    node.store.commit(gone.chain([damaged]).collect()).await.unwrap();
    let again = Node::with(&network, node.store.clone(), node.files.clone(), small()).await;
    assert_eq!(listed(&again, None).await, expected);
    again.files.put("/home/more", &noise(9, 300), 10);
    again.put("/home", "home").await;
}

#[tokio::test(start_paused = true)]
async fn backups_are_checkpoints_that_can_be_compared() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    backup(&node, "before").await;
    let before = listed(&node, None).await;
    node.renter.remove("home", "0/3", false).await.unwrap();
    node.files.put("/home/1/5", &noise(999, 400), 20);
    node.files.put("/home/other", &noise(998, 500), 20);
    node.files.take("/home/0/3");
    node.put("/home", "home").await;
    backup(&node, "after").await;
    let after = listed(&node, None).await;
    node.lose().await;

    let node = blank(&network).await;
    recover(&node).await;
    assert_eq!(listed(&node, Some("before")).await, before);
    assert_eq!(listed(&node, Some("after")).await, after);
    let differences = async |from: &str, to: &str| -> Vec<(DifferenceKind, String, Option<u64>)> {
        let found = node.renter.compare_backups(from, to, Some("home")).await.unwrap();
        found.files.into_iter().map(|row| (row.kind, row.path, row.after)).collect()
    };
    let expected = [
        (Removed, "0/3".to_owned(), None),
        (Changed, "1/5".to_owned(), Some(400)),
        (Added, "other".to_owned(), Some(500)),
    ];
    assert_eq!(differences("before", "after").await, expected);
    assert_eq!(differences("after", "after").await, []);
    let request = RestoreRequest {
        backup: "before".into(),
        vault: Some("home".into()),
        path: String::new(),
        destination: Some("/old/".into()),
        into_vault: false,
        conflict: Conflict::Keep,
        dry_run: false,
    };
    let restored = node.renter.restore_backup(request, &Silent).await.unwrap();
    assert_eq!(restored.files.failed, vec![]);
    assert_eq!(node.files.bytes("/old/0/3"), Some(noise(3, 300)));
    assert_eq!(node.files.bytes("/old/other"), None);
}

#[tokio::test(start_paused = true)]
async fn what_only_backups_hold_is_in_the_checkpoint_until_they_go() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    for (vault, number) in [("one", 1), ("two", 2)] {
        for file in 0..6 {
            let content = noise(100 * number + file, 9_000);
            node.files.put(&format!("/{vault}/{file}"), &content, 10);
        }
        node.put(&format!("/{vault}"), vault).await;
        backup(&node, vault).await;
    }
    node.renter.remove_vault("one").await.unwrap();
    node.renter.remove_vault("two").await.unwrap();
    let held = |node: &Node| node.renter.garbage().held;
    assert_eq!(held(&node), 12 * 9_000);
    // The first backup shows one of the vaults; the other one shows both.
    put_rounds(&node, 8, 20).await;
    let position = written(&node).await;
    node.renter.delete_backup("one").await.unwrap();
    assert_eq!(held(&node), 12 * 9_000);
    node.lose().await;

    let node = blank(&network).await;
    recover(&node).await;
    assert!(node.renter.inner.journal.status().checkpoint >= Some(position));
    assert_eq!(held(&node), 12 * 9_000);
    node.renter.delete_backup("two").await.unwrap();
    assert_eq!(held(&node), 0);
    put_rounds(&node, 9, 20).await;
    assert!(written(&node).await > position);
    node.lose().await;

    let node = blank(&network).await;
    recover(&node).await;
    assert_eq!(held(&node), 0);
    assert_eq!(listed(&node, None).await.len(), 180);
}

#[tokio::test(start_paused = true)]
async fn metadata_is_written_anew_from_what_is_known_here() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    written(&node).await;
    let old: Vec<_> = node.renter.inner.journal.read(|state| {
        state.checkpoint.iter().flat_map(|name| name.slabs().collect::<Vec<_>>()).collect()
    });
    // A backup waits for its checkpoint as well.
    let request = BackupRequest { name: "before".into(), ..BackupRequest::default() };
    node.renter.create_backup(request, &Silent).await.unwrap();
    node.renter.inner.journal.renew().await;
    written(&node).await;
    node.renter.inner.journal.read(|state| {
        let name = state.checkpoint.as_ref().unwrap();
        assert!(!name.slabs().any(|slab| old.contains(&slab)), "nothing of the old is used");
    });
    let expected = listed(&node, None).await;
    node.lose().await;
    let node = blank(&network).await;
    recover(&node).await;
    assert_eq!(listed(&node, None).await, expected);
    assert_eq!(listed(&node, Some("before")).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_builds_upon_what_is_lost_is_called_lost() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    backup(&node, "before").await;
    // The hosts lose all they have, and there are no copies of nodes here.
    let contracts: Vec<_> = node.renter.book().live();
    for contract in contracts {
        let key = contract.host();
        let host = network.hosts.iter().find(|host| host.key.public() == key).unwrap();
        for sector in contract.link().sectors(&contract.revision()).await.unwrap() {
            for offset in (0..sector.size.len()).step_by(GROUP as usize) {
                assert!(host.disk.corrupt(&sector.root, offset));
            }
        }
    }
    let copies = node.store.scan(b"checkpoint/", None, 1_000).await.unwrap();
    let copies = copies.into_iter().map(|(key, _)| Write::Delete(key)).collect();
    node.store.commit(copies).await.unwrap();
    let request = BackupRequest { name: "after".into(), ..BackupRequest::default() };
    node.renter.create_backup(request, &Silent).await.unwrap();
    let journal = &node.renter.inner.journal;
    let before = journal.status().checkpoint;
    journal.renew().await;
    let mut watch = journal.watch();
    watch.wait_for(|status| status.checkpoint > before).await.unwrap();
    network.chain.pass(Millis::seconds(300));
    written(&node).await;
    let state = |node: &Node, name: &str| {
        let rows = node.renter.backups();
        let row = rows.iter().find(|row| row.name == name).unwrap();
        (row.status, row.error.is_some())
    };
    assert_eq!(state(&node, "after"), (BackupStatus::Error, true));
    assert_eq!(state(&node, "before"), (BackupStatus::Completed, false));
    node.lose().await;
    let node = blank(&network).await;
    recover(&node).await;
    assert_eq!(state(&node, "after"), (BackupStatus::Error, true));
    node.renter.delete_backup("after").await.unwrap();
    backup(&node, "after").await;
    assert_eq!(state(&node, "after"), (BackupStatus::Completed, false));
}

#[tokio::test(start_paused = true)]
async fn a_start_without_hosts_finds_the_last_of_many_checkpoints() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    for round in 0..6u64 {
        // No wait in between: each checkpoint is cut while the one before is written or tidied up after.
        node.files.put("/home/again", &noise(round, 500), 20 + round);
        node.put("/home", "home").await;
        let request = BackupRequest { name: format!("{round}"), ..BackupRequest::default() };
        node.renter.create_backup(request, &Silent).await.unwrap();
    }
    written(&node).await;
    let expected = listed(&node, None).await;
    node.renter.shutdown().await;
    network.set(0..8, Fault::Dead);
    let again = Node::with(&network, node.store.clone(), node.files.clone(), small()).await;
    assert_eq!(listed(&again, None).await, expected);
}
