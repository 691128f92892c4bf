//! Copies of a node's folder that write beside it, or that take its place.

use super::recover;
use crate::progress::Silent;
use crate::recovery::{RecoveryOptions, RecoveryPhase};
use crate::rows::RenterState;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, Node, config, noise};

/// A node of five hosts with a vault, and a machine with a copy of its folder.
async fn node_and_copy(network: &TestNetwork) -> (Node, Node) {
    let node = Node::fresh(network).await;
    node.files.put("/base/old", &noise(1, 9_000), 10);
    node.put("/base", "home").await;
    let copy = node.store.copied().await;
    let copy = Node::with(network, copy, MemoryFiles::default(), config()).await;
    (node, copy)
}

fn names(node: &Node) -> Vec<String> {
    node.renter.vaults().into_iter().map(|vault| vault.name).collect()
}

/// An older copy of the folder takes the node's place where only a host answers that was behind.
#[tokio::test(start_paused = true)]
async fn a_folder_that_was_set_back_writes_nothing_before_it_has_heard_a_quorum() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    let folder = node.store.copied().await;
    network.set([4], Fault::Dead);
    node.renter.create_vault("precious").await.unwrap();
    node.lose().await;

    network.set(0..4, Fault::Dead);
    network.set([4], Fault::None);
    let copy = Node::with(&network, folder, MemoryFiles::default(), config()).await;
    for number in 0..20 {
        copy.renter.create_vault(&format!("foreign {number}")).await.unwrap_err();
    }
    // What it would have written cannot be acknowledged when the others come back, either.
    network.set(0..5, Fault::None);
    let error = copy.renter.create_vault("late").await.unwrap_err();
    assert_eq!(error.code(), "fenced", "{error}");
    copy.lose().await;

    let machine = Node::blank(&network).await;
    let report = recover(&machine).await;
    assert_eq!((report.outcome.clone(), report.parted.len()), (RecoveryPhase::Done, 0));
    assert_eq!(names(&machine), ["precious"], "{report:?}");
}

/// Two copies that both run; each writes where the other does not.
#[tokio::test(start_paused = true)]
async fn a_longer_history_of_one_host_does_not_win_over_what_was_acknowledged() {
    let network = TestNetwork::empty(5).await;
    let (node, copy) = node_and_copy(&network).await;
    copy.renter.confirm().await.unwrap();
    network.set(0..4, Fault::Dead);
    for number in 0..40 {
        copy.renter.create_vault(&format!("foreign {number}")).await.unwrap_err();
    }
    copy.lose().await;
    network.set(0..4, Fault::None);
    network.set([4], Fault::Dead);
    node.renter.create_vault("precious").await.unwrap();
    node.lose().await;
    network.set([4], Fault::None);

    let machine = Node::blank(&network).await;
    let report = recover(&machine).await;
    assert_eq!((report.outcome.clone(), report.files), (RecoveryPhase::Done, 1), "{report:?}");
    assert_eq!(names(&machine), ["home", "precious"]);
    let foreign = network.hosts[4].key.public().to_string();
    assert_eq!(report.parted.iter().map(|row| &row.host).collect::<Vec<_>>(), [&foreign]);
    assert!(report.parted[0].reason.contains("40 changes"), "{report:?}");
    // The host is brought to the new head with the others.
    machine.renter.create_vault("more").await.unwrap();
    machine.lose().await;
    let report = recover(&Node::blank(&network).await).await;
    assert_eq!((report.outcome.clone(), report.parted.len()), (RecoveryPhase::Done, 0));
}

/// Three hosts: each copy has written to one, and the third is silent.
#[tokio::test(start_paused = true)]
async fn between_two_histories_that_a_silent_host_would_decide_nothing_is_written() {
    let network = TestNetwork::empty(3).await;
    let (node, copy) = node_and_copy(&network).await;
    copy.renter.confirm().await.unwrap();
    network.set(0..3, Fault::Dead);
    network.set([0], Fault::None);
    copy.renter.create_vault("foreign").await.unwrap_err();
    copy.lose().await;
    network.set(0..3, Fault::None);
    network.set([0], Fault::Dead);
    node.renter.create_vault("precious").await.unwrap();
    node.lose().await;
    network.set(0..3, Fault::None);
    network.set([2], Fault::Dead);

    let machine = Node::blank(&network).await;
    let report = recover(&machine).await;
    assert_eq!(report.outcome, RecoveryPhase::ReadOnly, "{report:?}");
    assert!(report.may_be_missing.unwrap().contains("Two copies"));
    assert!(report.next.unwrap().contains("when more hosts answer"));
    network.set([2], Fault::None);
    let report = recover(&machine).await;
    assert_eq!(report.outcome, RecoveryPhase::Done, "{report:?}");
    assert_eq!(names(&machine), ["home", "precious"]);
}

/// A takeover that was cut off leaves a journal that takes changes; the next one does not share its
/// epoch.
#[tokio::test(start_paused = true)]
async fn a_takeover_that_was_cut_off_is_repeated_under_another_epoch() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("home").await.unwrap();
    node.lose().await;

    let machine = Node::blank(&network).await;
    network.set(0..5, Fault::Headless);
    machine.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap_err();
    network.set([4], Fault::None);
    machine.renter.create_vault("half").await.unwrap_err();
    let before = machine.renter.status().epoch;
    network.set(0..5, Fault::None);
    let report = recover(&machine).await;
    assert_eq!(report.outcome, RecoveryPhase::Done, "{report:?}");
    assert_ne!(machine.renter.status().epoch, before);
    assert_eq!(machine.renter.status().state, RenterState::Active);
    machine.renter.create_vault("whole").await.unwrap();
}
