//! Epochs, head sets and hosts that are gone: who may take over, and what a later recovery finds.

use samara_protocol::units::Millis;

use super::{fill, recover, spilled};
use crate::contract::Allowance;
use crate::progress::{ProgressEvent, Silent};
use crate::recovery::{RecoveryOptions, RecoveryPhase, RecoveryReport};
use crate::rows::RenterState;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, Node, allowance, config};
use crate::vault::Conflict;

/// Only reads, so that nothing changes.
async fn visit(network: &TestNetwork) -> (Vec<String>, RecoveryReport) {
    let node = Node::blank(network).await;
    let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
    let report = node.renter.recover(options, &Silent).await.unwrap();
    let names = node.renter.vaults().into_iter().map(|vault| vault.name).collect();
    node.lose().await;
    (names, report)
}

/// The network's number of a host.
fn at(network: &TestNetwork, host: &str) -> usize {
    network.hosts.iter().position(|known| known.key.public().to_string() == host).unwrap()
}

/// Terms that are renewed after some hours.
fn short(network: &TestNetwork) -> Allowance {
    Allowance {
        period: Millis::hours(1),
        periods: 4,
        window: Millis::seconds(600),
        ..allowance(network)
    }
}

/// Brings the time at which such contracts are renewed.
async fn renewal_is_due(network: &TestNetwork) {
    network.chain.pass(Millis::hours(1));
    network.chain.pass(Millis::seconds(5_760));
    tokio::time::advance(std::time::Duration::from_secs(3_600 + 5_760)).await;
}

#[tokio::test(start_paused = true)]
async fn heads_survive_a_crash_right_after_every_contract_was_renewed() {
    let network = TestNetwork::empty(4).await;
    let node = Node::blank(&network).await;
    node.renter.start_fresh().await.unwrap();
    node.renter.set_allowance(short(&network)).await.unwrap();
    fill(&node.files);
    node.put("/home", "home").await;
    let expected = node.files.below("/home");
    let before = node.renter.contracts();
    renewal_is_due(&network).await;
    let report = node.renter.set_allowance(short(&network)).await.unwrap();
    assert_eq!((report.done.len(), report.failed), (4, vec![]), "all are renewed");
    assert!(node.renter.contracts().iter().all(|row| !before.contains(row)));
    // The new slots of three hosts get the head; that of the last stays empty.
    network.set([3], Fault::Dead);
    node.renter.create_vault("late").await.unwrap();
    node.lose().await;
    // Where an empty slot answers, the head of the renewed contract is shown: it is old, and counts.
    for pair in [[0, 3], [1, 3], [2, 3], [0, 1]] {
        network.set(0..4, Fault::Dead);
        network.set(pair, Fault::None);
        let (names, report) = visit(&network).await;
        assert_eq!((names.len(), &report.may_be_missing), (2, &None), "{pair:?} {report:?}");
        assert_eq!((report.hosts_answered.len(), report.position > 0), (2, true));
    }
    network.set(0..4, Fault::None);
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((report.outcome, report.files, report.vaults), (RecoveryPhase::Done, 3, 2));
    node.get("home", "/back", Conflict::Keep).await;
    assert_eq!(node.files.below("/back"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_claim_outlives_the_contract_that_it_was_signed_for() {
    let network = TestNetwork::empty(4).await;
    let old = Node::blank(&network).await;
    old.renter.start_fresh().await.unwrap();
    old.renter.set_allowance(short(&network)).await.unwrap();
    old.renter.create_vault("home").await.unwrap();
    // A node claims everywhere and is lost before it moves the money.
    let other = Node::blank(&network).await;
    let claim = |event: ProgressEvent| {
        if matches!(event, ProgressEvent::NamesAvailable { .. }) {
            other.renter.stop_recovery();
        }
    };
    other.renter.recover(RecoveryOptions::default(), &claim).await.unwrap_err();
    other.lose().await;
    // The old node has not heard of it, and renews: the new contracts know the old ones' claims.
    renewal_is_due(&network).await;
    let report = old.renter.set_allowance(short(&network)).await.unwrap();
    assert_eq!((report.done.len(), report.failed), (4, vec![]), "all are renewed");
    let refused = old.renter.create_vault("late").await.unwrap_err();
    assert_eq!(refused.code(), "fenced", "{refused}");
    assert!(
        matches!(old.renter.status().state, RenterState::Fenced { by } if by.starts_with("2."))
    );
    assert_eq!(recover(&old).await.outcome, RecoveryPhase::Done);
    assert!(old.renter.status().epoch.starts_with("3."));
}

#[tokio::test(start_paused = true)]
async fn three_recoveries_with_hosts_silent_in_turn_lose_nothing_acknowledged() {
    let network = TestNetwork::empty(4).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("first").await.unwrap();
    node.lose().await;
    let mut acknowledged = vec!["first".to_owned()];
    // Two of four are a read quorum, and any two others are one as well: were the head written to the
    // first two only, the next recovery would take the old one for the newest.
    let turns: [&[usize]; 4] = [&[0, 1], &[2, 3], &[0, 2, 3], &[1, 3]];
    for (turn, up) in turns.into_iter().enumerate() {
        network.set(0..4, Fault::Dead);
        network.set(up.iter().copied(), Fault::None);
        let node = Node::blank(&network).await;
        let report = recover(&node).await;
        let names: Vec<String> = node.renter.vaults().into_iter().map(|vault| vault.name).collect();
        assert_eq!((&names, &report.may_be_missing), (&acknowledged, &None), "turn {turn}");
        if report.outcome == RecoveryPhase::Done {
            let name = format!("turn {turn}");
            node.renter.create_vault(&name).await.unwrap();
            acknowledged.push(name);
        }
        node.lose().await;
    }
    assert_eq!(acknowledged, ["first", "turn 2"], "three of four leave the old set");
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_gone_are_given_up_only_when_the_operator_says_so() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("first").await.unwrap();
    node.lose().await;
    // Three of five are a read quorum; a write quorum has four.
    network.set(3..5, Fault::Dead);
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((report.outcome, report.may_be_missing), (RecoveryPhase::ReadOnly, None));
    let next = report.next.unwrap();
    assert!(next.contains("gone for good"), "{next}");
    assert!(network.hosts.iter().all(|host| host.calls("promise") == 0));
    // One of the two is enough.
    let gone = network.hosts[4].key.public();
    let options = RecoveryOptions { give_up: vec![gone], ..RecoveryOptions::default() };
    let report = node.renter.recover(options, &Silent).await.unwrap();
    assert_eq!(report.outcome, RecoveryPhase::Done, "{report:?}");
    let given_up: Vec<_> =
        report.hosts_silent.iter().filter(|row| row.reason.contains("given up")).collect();
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0].host, gone.to_string());
    node.renter.create_vault("second").await.unwrap();
    // Both come back: the one that was given up holds shards, and no say.
    network.set(3..5, Fault::None);
    node.renter.upkeep().await;
    assert_eq!(node.renter.contracts().len(), 5);
    node.renter.create_vault("third").await.unwrap();
    let members = node.renter.status().head_set.len();
    assert_eq!(members, 4);
    node.lose().await;
    // With its head, two would be a read quorum of the four.
    network.set(0..3, Fault::Dead);
    let (_, report) = visit(&network).await;
    assert!(report.may_be_missing.is_some(), "{report:?}");
    network.set([2], Fault::None);
    network.set([4], Fault::Dead);
    let (names, report) = visit(&network).await;
    assert_eq!((names.len(), report.may_be_missing), (3, None));
    network.set([1], Fault::None);
    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
}

#[tokio::test(start_paused = true)]
async fn where_no_read_quorum_is_left_nobody_is_given_up() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("first").await.unwrap();
    node.lose().await;
    network.set(2..5, Fault::Dead);
    let node = Node::blank(&network).await;
    let options = RecoveryOptions { give_up_silent: true, ..RecoveryOptions::default() };
    let report = node.renter.recover(options.clone(), &Silent).await.unwrap();
    assert_eq!(report.outcome, RecoveryPhase::ReadOnly);
    assert!(report.may_be_missing.is_some());
    // Nothing was written on the chain: one more host, and a takeover comes to its end.
    network.set([2], Fault::None);
    let report = node.renter.recover(options, &Silent).await.unwrap();
    assert_eq!(report.outcome, RecoveryPhase::Done);
    node.renter.create_vault("second").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_stays_in_the_set_so_that_it_does_not_shrink() {
    let network = TestNetwork::empty(3).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("first").await.unwrap();
    node.lose().await;
    network.set([2], Fault::Dead);
    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    node.renter.create_vault("second").await.unwrap();
    assert_eq!(node.renter.status().head_set.len(), 3);
    network.set([2], Fault::None);
    node.renter.upkeep().await;
    node.renter.create_vault("third").await.unwrap();
    node.lose().await;
    // Another host than before is lost for good; a set of two would not bear it.
    network.set([0], Fault::Dead);
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((report.outcome, report.vaults), (RecoveryPhase::Done, 3));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_is_written_to_a_quorum_of_the_old_head_set_too() {
    // Twelve hosts, nine of which are the head set.
    let network = TestNetwork::empty(12).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("first").await.unwrap();
    node.lose().await;
    let (_, report) = visit(&network).await;
    let members: Vec<usize> =
        report.head_sets[0].hosts.iter().map(|host| at(&network, host)).collect();
    let others: Vec<usize> = (0..12).filter(|host| !members.contains(host)).collect();
    assert_eq!((report.head_sets.len(), members.len()), (1, 9));
    // Six of nine are a write quorum of the old set; five are only a read quorum.
    network.set(members[0..4].iter().copied(), Fault::Dead);
    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::ReadOnly);
    assert!(network.hosts.iter().all(|host| host.calls("promise") == 0));
    network.set([members[3]], Fault::None);
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    node.renter.create_vault("second").await.unwrap();
    assert_eq!(node.renter.status().head_set.len(), 9);
    node.lose().await;
    // Every read quorum of the first set alone meets the new head.
    for first in 0..6 {
        network.set(members.iter().copied(), Fault::None);
        network.set(others.iter().copied(), Fault::Dead);
        network.set((0..4).map(|step| members[3 + (first + step) % 6]), Fault::Dead);
        let (names, report) = visit(&network).await;
        assert_eq!(names, ["first", "second"], "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_promise_without_a_head_is_an_interrupted_recovery() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    fill(&node.files);
    node.put("/home", "home").await;
    node.lose().await;
    // A node claims everywhere and is lost before it writes a head.
    let other = Node::blank(&network).await;
    let claim = |event: ProgressEvent| {
        if matches!(event, ProgressEvent::NamesAvailable { .. }) {
            other.renter.stop_recovery();
        }
    };
    other.renter.recover(RecoveryOptions::default(), &claim).await.unwrap_err();
    assert!(network.hosts.iter().all(|host| host.calls("promise") > 0));
    other.lose().await;
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!(
        (report.outcome, report.files, report.may_be_missing),
        (RecoveryPhase::Done, 3, None)
    );
}

#[tokio::test(start_paused = true)]
async fn liars_about_promises_stop_neither_a_writer_nor_a_recovery() {
    for (hosts, liars) in [(8, 2), (4, 1), (3, 1)] {
        let network = TestNetwork::empty(hosts).await;
        let node = Node::fresh(&network).await;
        fill(&node.files);
        network.set(0..liars, Fault::Fences);
        if hosts < 5 {
            // Every shard is needed there: only the journal goes on.
            network.set(0..liars, Fault::None);
            node.put("/home", "home").await;
            network.set(0..liars, Fault::Fences);
            node.renter.create_vault("more").await.unwrap();
        } else {
            node.put("/home", "home").await;
        }
        assert_eq!(node.renter.status().state, RenterState::Active, "{hosts}");
        let expected = node.files.below("/home");
        node.lose().await;

        let node = Node::blank(&network).await;
        let report = recover(&node).await;
        assert_eq!((report.outcome, report.files), (RecoveryPhase::Done, 3), "{hosts}");
        assert_eq!(report.hosts_silent.len(), liars, "{hosts}");
        let claimed = |reason: &str| reason.contains("no node of these words has claimed");
        assert!(report.hosts_silent.iter().all(|row| claimed(&row.reason)), "{hosts}");
        node.renter.create_vault("after").await.unwrap();
        node.get("home", "/back", Conflict::Keep).await;
        assert_eq!(node.files.below("/back"), expected);
        assert!(node.renter.status().epoch.starts_with("2."), "{}", node.renter.status().epoch);
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_that_all_lie_about_promises_burn_no_epoch() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.lose().await;
    network.set(0..8, Fault::Fences);
    let node = Node::blank(&network).await;
    let error = node.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap_err();
    assert_eq!(error.code(), "no_host_answers", "{error}");
    network.set(0..8, Fault::None);
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    assert!(node.renter.status().epoch.starts_with("2."), "{}", node.renter.status().epoch);
}

#[tokio::test(start_paused = true)]
async fn a_spilled_journal_comes_back_whole_from_the_fewest_hosts_that_can_hold_it() {
    let network = TestNetwork::empty(8).await;
    let node = spilled(&network).await;
    let expected = node.files.below("/home");
    node.lose().await;
    // Four columns of eight rebuild a slab of data.
    network.set(0..4, Fault::Dead);
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((report.outcome, report.files), (RecoveryPhase::ReadOnly, 360));
    node.get("home", "/back", Conflict::Keep).await;
    assert_eq!(node.files.below("/back"), expected);
    node.lose().await;
    // Two rebuild one of metadata, whichever they are: names outlive data.
    for first in 0..8 {
        network.set(0..8, Fault::Dead);
        network.set([first, (first + 3) % 8], Fault::None);
        let node = Node::blank(&network).await;
        let report = recover(&node).await;
        assert_eq!((report.outcome, report.files), (RecoveryPhase::ReadOnly, 360), "{first}");
        node.lose().await;
    }
    network.set(0..8, Fault::Dead);
    network.set([5], Fault::None);
    let node = Node::blank(&network).await;
    let error = node.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap_err();
    assert_eq!(error.code(), "segment_missing", "{error}");
}

/// Recovers without some hosts, renews the others, loses the machine, and meets those hosts again.
async fn old_hosts_come_back(hosts: u8, dead: std::ops::Range<usize>, give_up_silent: bool) {
    let network = TestNetwork::empty(hosts).await;
    let node = Node::blank(&network).await;
    node.renter.start_fresh().await.unwrap();
    node.renter.set_allowance(short(&network)).await.unwrap();
    node.renter.create_vault("first").await.unwrap();
    node.lose().await;
    network.set(dead.clone(), Fault::Dead);
    let node = Node::blank(&network).await;
    let options = RecoveryOptions { give_up_silent, ..RecoveryOptions::default() };
    node.renter.recover(options, &Silent).await.unwrap();
    node.renter.create_vault("second").await.unwrap();
    node.renter.set_allowance(short(&network)).await.unwrap();
    renewal_is_due(&network).await;
    node.renter.set_allowance(short(&network)).await.unwrap();
    node.renter.create_vault("third").await.unwrap();
    node.lose().await;
    network.set(dead, Fault::None);
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((&report.outcome, report.others.len()), (&RecoveryPhase::Done, 0), "{report:?}");
    let names: Vec<String> = node.renter.vaults().into_iter().map(|vault| vault.name).collect();
    assert_eq!(names, ["first", "second", "third"], "{report:?}");
    node.renter.create_vault("fourth").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_that_returns_does_not_bring_the_old_journal_back() {
    old_hosts_come_back(4, 3..4, false).await;
    old_hosts_come_back(4, 0..1, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_given_up_does_not_bring_the_old_journal_back() {
    old_hosts_come_back(2, 0..1, true).await;
    old_hosts_come_back(5, 0..2, true).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_copies_in_use_only_one_acknowledges() {
    let network = TestNetwork::empty(5).await;
    let first = Node::fresh(&network).await;
    first.renter.create_vault("first").await.unwrap();
    let store = first.store.copied().await;
    network.set(0..5, Fault::Slow(1_000));
    // The copy reads the heads; the first node appends before the copy writes.
    let copy = Node::with(&network, store, MemoryFiles::default(), config()).await;
    let wait = |ms| tokio::time::sleep(std::time::Duration::from_millis(ms));
    let (one, other) = futures::future::join(
        async {
            wait(100).await;
            first.renter.create_vault("one").await
        },
        async {
            wait(50).await;
            copy.renter.create_vault("other").await
        },
    )
    .await;
    one.unwrap();
    let refused = other.unwrap_err();
    assert_eq!(refused.code(), "fenced");
    assert!(refused.to_string().contains("another copy of this folder"), "{refused}");
    assert!(matches!(copy.renter.status().state, RenterState::Fenced { .. }));
    assert_eq!(first.renter.status().state, RenterState::Active);
    network.set(0..5, Fault::None);
    first.renter.create_vault("more").await.unwrap();
    first.lose().await;
    copy.lose().await;
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((&report.outcome, report.vaults), (&RecoveryPhase::Done, 3), "{report:?}");
}
