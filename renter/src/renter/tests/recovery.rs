//! Machines that are lost, and what the words bring back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::keys::KeyTree;
use samara_protocol::keys::phrase::Phrase;
use samara_protocol::units::Amount;
use zeroize::Zeroizing;

use super::{fill, recover, spilled, spilling};
use crate::backup::{BackupRequest, BackupStatus, RestoreRequest};
use crate::progress::{ProgressEvent, Silent};
use crate::recovery::{RecoveryOptions, RecoveryPhase};
use crate::rows::RenterState;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFile, MemoryFiles, MortalStore, Node, allowance, config, noise, put};
use crate::vault::Conflict;
use crate::world::{Store as _, Write};

/// What a machine has below a folder.
type Below = BTreeMap<String, MemoryFile>;

/// A machine that has put its home, and what it holds.
async fn stored(network: &TestNetwork) -> (Node, Below) {
    let node = Node::fresh(network).await;
    fill(&node.files);
    node.put("/home", "home").await;
    let expected = node.files.below("/home");
    (node, expected)
}

/// Asserts that a machine gets its home back as it was.
async fn assert_back(node: &Node, expected: &Below) {
    node.get("home", "/back", Conflict::Keep).await;
    assert_eq!(node.files.below("/back"), *expected);
}

fn backup(name: &str) -> BackupRequest {
    BackupRequest { name: name.into(), ..BackupRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_comes_back_from_the_words_alone() {
    let network = TestNetwork::empty(8).await;
    let (node, expected) = stored(&network).await;
    node.lose().await;
    network.set([3], Fault::Dead);

    let node = Node::blank(&network).await;
    assert_eq!(node.renter.status().state, RenterState::Fresh);
    let seen = std::sync::Mutex::new(Vec::new());
    let note = |event: ProgressEvent| seen.lock().unwrap().push(event);
    let report = node.renter.recover(RecoveryOptions::default(), &note).await.unwrap();
    assert_eq!(report.outcome, RecoveryPhase::Done, "{report:?}");
    assert_eq!((report.contracts_live, report.hosts_silent.len()), (8, 1));
    assert_eq!((report.files, report.may_be_missing), (3, None));
    assert!(report.money_moved > Amount::ZERO);
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().any(|e| matches!(e, ProgressEvent::NamesAvailable { files: 3, .. })));
    assert!(seen.iter().any(|e| matches!(e, ProgressEvent::ContractsFound { count: 8 })));

    assert_eq!(node.get("home", "/back", Conflict::Keep).await.restored_files, 3);
    assert_eq!(node.files.below("/back"), expected);
    // It writes again, under its own epoch and from its own account.
    let wallet = node.renter.wallet().await.unwrap();
    assert_eq!((wallet.index, wallet.balance > Amount::ZERO), (1, true));
    assert_eq!(node.renter.remembered_allowance(), Some(allowance(&network)));
    node.files.put("/more/new.bin", &noise(9, 50_000), 20);
    node.put("/more", "home").await;
    // The host that was silent is taken over when it answers.
    network.set([3], Fault::None);
    node.renter.upkeep().await;
    assert_eq!(node.renter.contracts().len(), 8);
    node.lose().await;

    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.files, 4);
}

#[tokio::test(start_paused = true)]
async fn a_contract_in_use_is_not_adopted_again() {
    let network = TestNetwork::empty(8).await;
    let (node, _) = stored(&network).await;
    node.lose().await;
    network.set([3], Fault::Dead);
    let node = Node::blank(&network).await;
    recover(&node).await;
    let noted = || node.store.disk.scan(b"recovery/silent", None, 1);
    let silent = noted().await.unwrap();
    assert_eq!(silent.len(), 1);
    network.set([3], Fault::None);
    node.renter.upkeep().await;
    let book = &node.renter.inner.book;
    let index = book.index_of(&network.hosts[3].key.public()).unwrap();
    let used = book.contract(index).unwrap();
    // As if the machine had died right before it noted that, and was at work again.
    let writes = silent.into_iter().map(|(key, value)| Write::Put(key, value)).collect();
    node.store.commit(writes).await.unwrap();
    node.renter.upkeep().await;
    assert!(book.contract(index).unwrap().is_same(&used));
    assert!(noted().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_of_the_folder_writes_over_nothing() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/one/a", b"1", 10);
    node.put("/one", "home").await;
    let copy = node.store.copied().await;
    node.files.put("/two/b", b"2", 10);
    node.put("/two", "home").await;
    let files = node.files.clone();
    node.lose().await;

    let old = Node::with(&network, copy, files, config()).await;
    let refused = old.renter.create_vault("other").await.unwrap_err();
    assert_eq!(refused.code(), "fenced", "{refused}");
    assert_eq!(recover(&old).await.outcome, RecoveryPhase::Done);
    assert_eq!(old.renter.status().files, 2);
    old.renter.create_vault("other").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_listed_after_a_restart_before_any_host_answers() {
    let network = TestNetwork::empty(8).await;
    let (node, _) = stored(&network).await;
    let (store, files) = (node.store.clone(), node.files.clone());
    node.lose().await;

    network.set(0..8, Fault::Dead);
    let node = Node::with(&network, store, files, config()).await;
    assert_eq!(node.renter.status().files, 3);
}

#[tokio::test(start_paused = true)]
async fn the_old_node_is_fenced_and_says_so() {
    let network = TestNetwork::empty(8).await;
    let (old, _) = stored(&network).await;
    let new = Node::blank(&network).await;
    assert_eq!(recover(&new).await.outcome, RecoveryPhase::Done);
    let idle = Node::with(&network, old.store.copied().await, old.files.clone(), config()).await;
    assert_eq!(idle.renter.status().state, RenterState::Active);
    // It has nothing to write, and learns it all the same.
    idle.renter.upkeep().await;
    assert!(matches!(idle.renter.status().state, RenterState::Fenced { .. }));
    idle.lose().await;

    old.files.put("/home/late", b"late", 30);
    let refused = old.renter.put(put("/home", "home"), &Silent).await.unwrap_err();
    assert_eq!(refused.code(), "fenced", "{refused}");
    assert!(matches!(old.renter.status().state, RenterState::Fenced { .. }));
    // It knows it after a restart, too.
    let (store, files) = (old.store.clone(), old.files.clone());
    old.lose().await;
    let old = Node::with(&network, store, files, config()).await;
    assert!(matches!(old.renter.status().state, RenterState::Fenced { .. }));
    assert_eq!(new.renter.status().files, 3);
    // And it can take over again.
    assert_eq!(recover(&old).await.outcome, RecoveryPhase::Done);
    old.put("/home", "home").await;
    assert_eq!(old.renter.status().files, 4);
    let refused = new.renter.create_vault("other").await.unwrap_err();
    assert_eq!(refused.code(), "fenced", "{refused}");
}

#[tokio::test(start_paused = true)]
async fn without_a_read_quorum_files_are_read_and_nothing_is_written() {
    let network = TestNetwork::empty(8).await;
    let (node, expected) = stored(&network).await;
    node.lose().await;
    // Eight hosts keep the head: five of them are a read quorum, four rebuild a slab.
    network.set(0..4, Fault::Dead);
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!(report.outcome, RecoveryPhase::ReadOnly);
    assert_eq!((report.hosts_answered.len(), report.hosts_silent.len()), (4, 4));
    assert!(network.hosts.iter().all(|host| host.calls("promise") == 0), "nobody is fenced for it");
    let account = report.may_be_missing.unwrap();
    assert!(account.contains("4 of the 8 hosts"), "{account}");
    assert_eq!(account.matches(", ").count(), 4, "each host that is missing is named: {account}");
    assert_eq!(node.renter.status().state, RenterState::ReadOnly);
    assert_back(&node, &expected).await;
    let refused = node.renter.create_vault("x").await.unwrap_err();
    assert_eq!(refused.code(), "read_only");
    // More hosts answer: the same node recovers whole.
    network.set(0..4, Fault::None);
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    node.renter.create_vault("x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn words_that_own_nothing_are_told_so() {
    let mut network = TestNetwork::empty(3).await;
    let phrase = Phrase::from_entropy(&Zeroizing::new([9; 16])).unwrap();
    let genesis = network.world.chain.genesis().hash();
    network.keys = Arc::new(KeyTree::new(&phrase.seed(""), &genesis));
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    let RecoveryPhase::NothingFound { peers, blocks } = report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!((peers, blocks > 5), (1, true));
    assert!(report.next.unwrap().contains("only one chain peer"));
    assert_eq!(node.renter.status().state, RenterState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn backups_are_settled_shown_restored_and_deleted() {
    let network = TestNetwork::empty(8).await;
    let (node, _) = stored(&network).await;
    let renter = &node.renter;
    assert_eq!(renter.create_backup(backup(""), &Silent).await.unwrap_err().code(), "bad_name");
    let row = renter.create_backup(backup("first"), &Silent).await.unwrap();
    assert_eq!(row.status, BackupStatus::Completed, "{row:?}");
    assert!(row.hosts_ok >= row.hosts_needed && row.hosts_needed >= 5, "{row:?}");
    let again = renter.create_backup(backup("first"), &Silent).await.unwrap_err();
    assert_eq!(again.code(), "exists");
    let then = node.files.below("/home");
    node.files.put("/home/small.txt", b"changed", 99);
    node.put("/home", "home").await;
    renter.remove("home", "sub", true).await.unwrap();
    node.lose().await;

    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.backups, 1);
    let renter = &node.renter;
    // The heads that the recovery read show it.
    assert_eq!(renter.backups()[0].status, BackupStatus::Completed);
    renter.upkeep().await;
    assert_eq!(renter.backups()[0].status, BackupStatus::Completed);
    let detail = renter.backup("first").await.unwrap();
    assert_eq!((detail.row.files, detail.vaults.len()), (3, 1));
    let mut request = RestoreRequest {
        backup: "first".into(),
        vault: None,
        path: String::new(),
        destination: Some("/restored".into()),
        into_vault: false,
        conflict: Conflict::Replace,
        dry_run: false,
    };
    let report = renter.restore_backup(request.clone(), &Silent).await.unwrap();
    assert_eq!((report.files.restored_files, report.files.failed.len()), (3, 0));
    assert_eq!(node.files.below("/restored/home"), then);
    (request.destination, request.into_vault) = (None, true);
    let report = renter.restore_backup(request, &Silent).await.unwrap();
    assert_eq!(report.relisted_files, 3);
    node.get("home", "/again", Conflict::Keep).await;
    assert_eq!(node.files.below("/again"), then);
    renter.delete_backup("first").await.unwrap();
    assert_eq!(renter.backups(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_too_few_hosts_hold_is_in_error_until_they_do() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("home").await.unwrap();
    network.set(0..3, Fault::Dead);
    let row = node.renter.create_backup(backup("b"), &Silent).await.unwrap();
    assert_eq!((row.hosts_ok, row.hosts_needed, row.hosts_total), (5, 5, 8));
    assert_eq!(row.status, BackupStatus::Completed);
    let error = node.renter.create_backup(backup("c"), &Silent).await;
    assert_eq!(error.unwrap().status, BackupStatus::Completed);
    network.set(0..4, Fault::Dead);
    let error = node.renter.create_backup(backup("d"), &Silent).await.unwrap_err();
    assert_eq!(error.code(), "no_quorum");
    network.set(0..4, Fault::None);
    node.renter.confirm().await.unwrap();
    assert_eq!(node.renter.backups().len(), 3);
    node.renter.upkeep().await;
    assert!(node.renter.backups().iter().all(|row| row.status == BackupStatus::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_long_journal_spills_into_slabs_and_comes_back() {
    let network = TestNetwork::empty(8).await;
    let node = spilled(&network).await;
    // The last segment may still be on its way.
    node.renter.create_vault("last").await.unwrap();
    let expected = node.files.below("/home");
    let (store, files) = (node.store.clone(), node.files.clone());
    node.lose().await;
    let node = Node::with(&network, store, files, spilling()).await;
    node.renter.confirm().await.unwrap();
    node.renter.create_vault("after").await.unwrap();
    assert_eq!(node.renter.status().files, 360);
    node.lose().await;

    let node = Node::blank(&network).await;
    let seen = std::sync::Mutex::new(0);
    let note = |event: ProgressEvent| {
        if let ProgressEvent::Advanced { phase: crate::progress::Phase::Adopting, done, .. } = event
        {
            *seen.lock().unwrap() = done;
        }
    };
    let report = node.renter.recover(RecoveryOptions::default(), &note).await.unwrap();
    assert_eq!((report.files, report.vaults), (360, 3));
    assert!(*seen.lock().unwrap() >= 3, "the journal lies in several slabs");
    assert_back(&node, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_put_and_a_backup_survive_a_crash_at_every_write() {
    for commits in 0.. {
        let network = TestNetwork::empty(4).await;
        let node = Node::fresh(&network).await;
        fill(&node.files);
        let (store, files) = (node.store.clone(), node.files.clone());
        node.lose().await;
        let dying = store.dies_after(commits);
        let node = Node::with(&network, dying.clone(), files.clone(), config()).await;
        // What the caller was told, if anything.
        let told = node.renter.put(put("/home", "home"), &Silent).await.is_ok();
        let backed = told && node.renter.create_backup(backup("b"), &Silent).await.is_ok();
        let dead = dying.is_dead();
        node.lose().await;

        // The machine starts again with what was on its disk.
        let node = Node::with(&network, store, files.clone(), config()).await;
        let confirmed = node.renter.confirm().await;
        assert!(confirmed.is_ok(), "{commits}: {confirmed:?}");
        if told {
            assert_eq!(node.renter.status().files, 3, "{commits}");
        }
        let report = node.put("/home", "home").await;
        assert_eq!(report.stored_files + report.unchanged_files, 3, "{commits}");
        // One that was cut before the journal had it is listed as interrupted, and is made again.
        if node.renter.backups().iter().all(|row| row.head_seq.is_none()) {
            assert!(!backed, "{commits}");
            node.renter.create_backup(backup("b"), &Silent).await.unwrap();
        }
        node.renter.upkeep().await;
        let row = node.renter.backup("b").await.unwrap().row;
        assert_eq!(row.status, BackupStatus::Completed, "{commits}");
        node.lose().await;

        // And the words alone bring the same back.
        let node = Node::blank(&network).await;
        let report = recover(&node).await;
        assert_eq!((report.files, report.backups), (3, 1), "{commits}");
        node.get("home", "/back", Conflict::Keep).await;
        assert_eq!(node.files.below("/back"), files.below("/home"), "{commits}");
        if !dead {
            assert!(commits > 5, "the crash must have hit something");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_survives_a_crash_at_every_write() {
    let network = TestNetwork::empty(5).await;
    let (node, expected) = stored(&network).await;
    node.lose().await;
    for commits in 0.. {
        let store = MortalStore::immortal();
        let dying = store.dies_after(commits);
        let node = Node::with(&network, dying.clone(), MemoryFiles::default(), config()).await;
        let first = node.renter.recover(RecoveryOptions::default(), &Silent).await;
        let dead = dying.is_dead();
        assert!(first.is_ok() || dead, "{commits}: {first:?}");
        node.lose().await;
        let node = Node::with(&network, store, MemoryFiles::default(), config()).await;
        if first.is_err() {
            let report = recover(&node).await;
            assert_eq!(report.outcome, RecoveryPhase::Done, "{commits}");
        }
        let wallet = node.renter.wallet().await.unwrap();
        assert!(wallet.index > 0 && wallet.balance > Amount::ZERO, "{commits}: {wallet:?}");
        assert_eq!(node.renter.status().state, RenterState::Active, "{commits}");
        assert_eq!(node.renter.status().files, 3, "{commits}");
        node.renter.create_vault(&format!("after {commits}")).await.unwrap();
        assert_back(&node, &expected).await;
        node.lose().await;
        if !dead {
            assert!(commits > 10, "the crash must have hit something");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_is_stopped_and_started_again() {
    let network = TestNetwork::empty(5).await;
    let (node, _) = stored(&network).await;
    node.lose().await;
    network.set(0..5, Fault::Slow(50));
    let node = Node::blank(&network).await;
    let renter = node.renter.clone();
    let stop = move |event: ProgressEvent| {
        if matches!(event, ProgressEvent::ContractsFound { .. }) {
            renter.stop_recovery();
        }
    };
    let stopped = node.renter.recover(RecoveryOptions::default(), &stop).await.unwrap_err();
    assert_eq!(stopped.code(), "stopped");
    assert!(!node.renter.recovery_status().running);
    assert!(matches!(node.renter.status().state, RenterState::Recovering { .. }));
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    assert_eq!(node.renter.recovery_status().progress, RecoveryPhase::Done);
}

#[tokio::test(start_paused = true)]
async fn a_look_without_a_claim_leaves_the_other_node_writing() {
    let network = TestNetwork::empty(5).await;
    let (old, expected) = stored(&network).await;
    let node = Node::blank(&network).await;
    let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
    let report = node.renter.recover(options, &Silent).await.unwrap();
    assert_eq!((report.outcome, report.files), (RecoveryPhase::ReadOnly, 3));
    assert_back(&node, &expected).await;
    old.renter.create_vault("other").await.unwrap();
    assert_eq!(node.renter.create_vault("x").await.unwrap_err().code(), "read_only");
}

#[tokio::test(start_paused = true)]
async fn a_reader_tells_backups_and_names_as_the_heads_show_them() {
    let network = TestNetwork::empty(8).await;
    let (node, _) = stored(&network).await;
    let made = node.renter.create_backup(backup("first"), &Silent).await.unwrap();
    assert_eq!(made.status, BackupStatus::Completed);
    let reader = Node::blank(&network).await;
    let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
    reader.renter.recover(options, &Silent).await.unwrap();
    let rows = reader.renter.backups();
    assert_eq!((rows[0].status, rows[0].hosts_ok >= rows[0].hosts_needed), (made.status, true));
    assert_eq!(rows[0].hosts_total, 8);
    assert_eq!(reader.renter.backup("first").await.unwrap().row, rows[0]);
    let status = reader.renter.status();
    assert_eq!((status.hosts, status.settled), (8, rows[0].hosts_ok));
    // It is known after a restart, too.
    let (store, files) = (reader.store.clone(), reader.files.clone());
    reader.lose().await;
    let reader = Node::with(&network, store, files, config()).await;
    assert_eq!(reader.renter.backups(), rows);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_node_that_writes_hears_of_the_end_of_a_recovery() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"tiny", 10);
    node.put("/home", "home").await;
    node.lose().await;
    let node = Node::blank(&network).await;
    let writes = node.renter.until(|state| *state == RenterState::Active);
    let both = async { tokio::join!(recover(&node), writes) };
    tokio::time::timeout(Duration::from_secs(600), both).await.unwrap();
}
