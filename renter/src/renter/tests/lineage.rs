//! Two nodes that start with the same new words.

use samara_protocol::units::{Amount, Millis};

use super::recover;
use crate::contract::Allowance;
use crate::progress::Silent;
use crate::recovery::{RecoveryOptions, RecoveryPhase};
use crate::rows::{AllowanceReport, RenewalState, RenterState};
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, allowance, config};
use crate::vault::Conflict;
use crate::world::{Store, Write};

#[tokio::test(start_paused = true)]
async fn the_chain_decides_whose_new_words_they_are() {
    let network = TestNetwork::empty(8).await;
    // A folder was copied before its first start: both nodes believe that the words are new.
    let (first, second) = (Node::blank(&network).await, Node::blank(&network).await);
    first.renter.start_fresh().await.unwrap();
    second.renter.start_fresh().await.unwrap();
    first.renter.set_allowance(allowance(&network)).await.unwrap();
    let before = second.renter.wallet().await.unwrap().balance;
    let report = second.renter.set_allowance(allowance(&network)).await.unwrap();
    // Both pay from the words' account. What the second had locked is there again, but for fees.
    let fee = network.world.chain.genesis().parameters.minimum_fee;
    let after = second.renter.wallet().await.unwrap().balance;
    assert_eq!(before.checked_sub(after), Some(fee.saturating_mul(16)));
    assert_eq!((report.done.len(), report.failed.len()), (0, 8));
    assert!(report.failed[0].contains("recover to take over"), "{report:?}");
    let status = second.renter.status();
    assert!(matches!(status.state, RenterState::Fenced { .. }), "{status:?}");
    assert!(status.problem.unwrap().contains("another node has put these words to use"));
    assert_eq!(second.renter.create_vault("x").await.unwrap_err().code(), "fenced");

    // The owner goes on, with contracts formed after the other's as well.
    first.files.put("/home/a", b"mine", 10);
    first.put("/home", "home").await;
    first.renter.upkeep().await;
    assert_eq!(first.renter.status().state, RenterState::Active);

    // The second knows it after a restart, forms nothing more, and can recover.
    let (store, files) = (second.store.clone(), second.files.clone());
    second.lose().await;
    let second = Node::with(&network, store, files, config()).await;
    second.renter.upkeep().await;
    assert!(matches!(second.renter.status().state, RenterState::Fenced { .. }));
    assert!(second.renter.contracts().is_empty());
    let report = recover(&second).await;
    assert_eq!((report.outcome.clone(), report.files), (RecoveryPhase::Done, 1), "{report:?}");
    assert_eq!((report.contracts_found, report.contracts_live), (16, 8), "{report:?}");
    second.renter.upkeep().await;
    assert_eq!(second.renter.contracts().len(), 8);
    second.get("home", "/back", Conflict::Keep).await;
    assert_eq!(second.files.bytes("/back/a"), Some(b"mine".to_vec()));
    second.renter.create_vault("more").await.unwrap();
    assert_eq!(second.renter.status().problem, None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_before_its_check_makes_it_at_its_next_start() {
    let network = TestNetwork::empty(8).await;
    let first = Node::fresh(&network).await;
    let store = MortalStore::immortal();
    let blank = Node::with(&network, store.clone(), MemoryFiles::default(), config()).await;
    blank.renter.start_fresh().await.unwrap();
    // Its contracts reach the chain, and it dies before it has looked.
    network.chain.hold();
    let report = blank.renter.set_allowance(allowance(&network)).await.unwrap();
    assert_eq!(report.failed.len(), 8);
    blank.lose().await;
    assert!(network.chain.release().iter().all(Result::is_ok));
    let second = Node::with(&network, store, MemoryFiles::default(), config()).await;
    // Its hosts are away, so its contracts stay, and nothing is ever stored under them.
    network.set(0..8, Fault::Dead);
    second.renter.upkeep().await;
    network.set(0..8, Fault::None);
    assert!(matches!(second.renter.status().state, RenterState::Fenced { .. }));
    assert_eq!(second.renter.create_vault("x").await.unwrap_err().code(), "fenced");
    first.files.put("/home/a", b"mine", 10);
    first.put("/home", "home").await;
    first.renter.create_vault("x").await.unwrap();
    first.lose().await;
    let report = recover(&second).await;
    assert_eq!((report.outcome.clone(), report.files), (RecoveryPhase::Done, 1), "{report:?}");
    assert_eq!(report.others.len(), 8, "its own empty contracts are named: {report:?}");
    assert!(report.next.unwrap().contains("left alone"));
    second.renter.upkeep().await;
    assert_eq!(second.renter.contracts().len(), 8);
    second.renter.create_vault("y").await.unwrap();
}

/// A second node of the same words that takes the first's contracts for its own, as an older version
/// that did not ask the chain.
async fn careless(network: &TestNetwork, first: &Node) -> Node {
    let store = MortalStore::immortal();
    let node = Node::with(network, store.clone(), MemoryFiles::default(), config()).await;
    node.renter.start_fresh().await.unwrap();
    node.lose().await;
    let drawn = first.renter.book().live().into_iter().map(|held| {
        Write::Put([b"contract/drawn/".as_slice(), held.id().as_bytes()].concat(), Vec::new())
    });
    store.commit(drawn.collect()).await.unwrap();
    let node = Node::with(network, store, MemoryFiles::default(), config()).await;
    node.renter.set_allowance(allowance(network)).await.unwrap();
    node
}

#[tokio::test(start_paused = true)]
async fn two_journals_of_one_seed_are_never_mixed() {
    let network = TestNetwork::empty(8).await;
    let first = Node::fresh(&network).await;
    first.files.put("/home/a", b"first", 10);
    first.put("/home", "home").await;
    let careless = careless(&network, &first).await;
    for number in 0..3 {
        careless.files.put(&format!("/other/{number}"), b"second", 10);
        careless.put("/other", "other").await;
    }
    let theirs: Vec<String> =
        careless.renter.contracts().into_iter().map(|row| row.contract).collect();

    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((report.outcome.clone(), report.files), (RecoveryPhase::Done, 1), "{report:?}");
    let mut named: Vec<String> = report.others.iter().map(|row| row.contract.clone()).collect();
    named.sort();
    let mut expected = theirs.clone();
    expected.sort();
    assert_eq!(named, expected);
    assert!(report.others[0].reason.contains("another node's journal"), "{report:?}");
    let ours = node.renter.contracts();
    assert!(ours.iter().all(|row| !theirs.contains(&row.contract)));
    assert_eq!(node.renter.vaults().len(), 1);
    // The other journal's hosts promised nothing, so that node still has what it stored.
    careless.renter.create_vault("still").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_keeps_the_words_when_all_its_contracts_are_renewed() {
    let network = TestNetwork::empty(4).await;
    let short = || Allowance {
        period: Millis::hours(1),
        periods: 4,
        window: Millis::seconds(600),
        ..allowance(&network)
    };
    let first = Node::blank(&network).await;
    first.renter.start_fresh().await.unwrap();
    first.renter.set_allowance(short()).await.unwrap();
    first.renter.create_vault("mine").await.unwrap();
    let careless = careless(&network, &first).await;
    careless.renter.create_vault("theirs").await.unwrap();
    network.chain.pass(Millis::hours(1));
    network.chain.pass(Millis::seconds(5_760));
    tokio::time::advance(std::time::Duration::from_secs(3_600 + 5_760)).await;
    let report = first.renter.set_allowance(short()).await.unwrap();
    assert_eq!((report.done.len(), report.failed), (4, vec![]), "all are renewed");
    first.renter.create_vault("more").await.unwrap();
    first.lose().await;
    // Of those that live, the other's records come first now.
    let node = Node::blank(&network).await;
    let report = recover(&node).await;
    assert_eq!((&report.outcome, report.others.len()), (&RecoveryPhase::Done, 4), "{report:?}");
    let names: Vec<String> = node.renter.vaults().into_iter().map(|vault| vault.name).collect();
    assert_eq!(names, ["mine", "more"]);
}

/// Four contracts of an hour.
async fn short(network: &TestNetwork, node: &Node) -> AllowanceReport {
    let allowance = Allowance {
        period: Millis::hours(1),
        periods: 1,
        window: Millis::seconds(600),
        ..allowance(network)
    };
    node.renter.set_allowance(allowance).await.unwrap()
}

/// So much later that such contracts are off the chain.
async fn ends(network: &TestNetwork) {
    for _ in 0..60 {
        pass(network, Millis::seconds(600)).await;
    }
}

/// So much later on the chain and here.
async fn pass(network: &TestNetwork, span: Millis) {
    network.chain.pass(span);
    tokio::time::advance(std::time::Duration::from_millis(span.0)).await;
}

fn names(node: &Node) -> Vec<String> {
    node.renter.vaults().into_iter().map(|vault| vault.name).collect()
}

#[tokio::test(start_paused = true)]
async fn words_whose_contracts_have_all_ended_begin_anew() {
    let network = TestNetwork::empty(4).await;
    let old = Node::blank(&network).await;
    old.renter.start_fresh().await.unwrap();
    short(&network, &old).await;
    old.renter.create_vault("old").await.unwrap();
    // Its machine is off until all is over; a taker that only looked has the same words.
    let (store, files) = (old.store.clone(), old.files.clone());
    old.lose().await;
    let reader = Node::blank(&network).await;
    let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
    reader.renter.recover(options, &Silent).await.unwrap();
    assert_eq!(reader.renter.start_fresh().await.unwrap_err().code(), "started");
    ends(&network).await;

    let report = recover(&reader).await;
    assert!(matches!(report.outcome, RecoveryPhase::NothingFound { .. }), "{report:?}");
    assert_eq!((report.contracts_found, report.contracts_live), (4, 0));
    assert!(report.next.unwrap().contains("all 4 contracts of these words have ended"));
    reader.renter.start_fresh().await.unwrap();
    assert_eq!(reader.renter.recovery_status().progress, RecoveryPhase::Idle);
    assert!(names(&reader).is_empty());
    let report = short(&network, &reader).await;
    assert_eq!((reader.renter.contracts().len(), report.failed), (4, vec![]));
    reader.renter.create_vault("new").await.unwrap();

    // The old node comes back, its contracts ended, and forms no journal beside the new one.
    let old = Node::with(&network, store, files, config()).await;
    old.renter.upkeep().await;
    assert!(matches!(old.renter.status().state, RenterState::Fenced { .. }));
    assert_eq!(old.renter.create_vault("x").await.unwrap_err().code(), "fenced");
    reader.renter.create_vault("more").await.unwrap();
    // It can recover what the new one has.
    let report = recover(&old).await;
    assert_eq!(report.outcome, RecoveryPhase::Done, "{report:?}");
    assert_eq!(names(&old), ["more", "new"]);
    old.renter.create_vault("most").await.unwrap();
    reader.lose().await;
    old.lose().await;
    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    assert_eq!(names(&node), ["more", "most", "new"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_first_keeps_its_words() {
    let network = TestNetwork::empty(4).await;
    let old = Node::blank(&network).await;
    old.renter.start_fresh().await.unwrap();
    short(&network, &old).await;
    ends(&network).await;
    let new = Node::blank(&network).await;
    recover(&new).await;
    new.renter.start_fresh().await.unwrap();
    old.renter.upkeep().await;
    old.renter.create_vault("old").await.unwrap();
    let report = short(&network, &new).await;
    assert_eq!((report.done.len(), report.failed.len()), (0, 4), "{report:?}");
    assert!(matches!(new.renter.status().state, RenterState::Fenced { .. }));
    old.renter.upkeep().await;
    assert_eq!(old.renter.status().state, RenterState::Active);
    assert_eq!(recover(&new).await.outcome, RecoveryPhase::Done);
    assert_eq!(names(&new), ["old"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_sees_what_lapses_and_when() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    assert_eq!(node.renter.status().lapses, vec![]);
    let rows = node.renter.contracts();
    assert!(
        rows.iter().all(|row| matches!(row.renewal, RenewalState::Planned { from }
        if from < row.ends)),
        "{rows:?}"
    );
    // The money is sent away: nothing is left to renew with.
    let elsewhere = crate::testing::world::secret(77).public();
    let fee = Amount(network.world.chain.genesis().parameters.minimum_fee.0);
    let left = node.renter.wallet().await.unwrap().balance.saturating_sub(fee);
    node.renter.transfer(elsewhere, left).await.unwrap();
    node.renter.upkeep().await;
    let lapses = node.renter.status().lapses;
    assert_eq!(lapses.len(), 8);
    assert!(lapses[0].reason.contains("the account has"), "{lapses:?}");
    assert!(lapses.windows(2).all(|pair| pair[0].ends <= pair[1].ends));
    assert!(node.renter.contracts().iter().all(|row| row.ends == lapses[0].ends || row.ends > 0));

    // A recovered node has no allowance: everything lapses until its owner sets one.
    node.lose().await;
    let node = Node::blank(&network).await;
    assert_eq!(recover(&node).await.outcome, RecoveryPhase::Done);
    let lapses = node.renter.status().lapses;
    assert_eq!(lapses.len(), 8);
    assert!(lapses[0].reason.contains("no allowance is set"), "{lapses:?}");
    network.chain.pass(Millis(1));
}

#[tokio::test(start_paused = true)]
async fn used_words_that_were_started_as_new_can_still_be_recovered() {
    let network = TestNetwork::empty(8).await;
    let first = Node::fresh(&network).await;
    first.files.put("/home/a", b"mine", 10);
    first.put("/home", "home").await;
    first.lose().await;
    // The operator starts where a recovery is meant.
    let second = Node::blank(&network).await;
    second.renter.start_fresh().await.unwrap();
    // While no host answers it is stopped, and keeps its empty journal to itself.
    network.set(0..8, Fault::Dead);
    second.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap_err();
    assert_eq!(second.renter.create_vault("x").await.unwrap_err().code(), "fenced");
    network.set(0..8, Fault::None);
    let report = recover(&second).await;
    assert_eq!((report.outcome.clone(), report.files), (RecoveryPhase::Done, 1), "{report:?}");
    second.renter.upkeep().await;
    second.renter.create_vault("more").await.unwrap();
    second.get("home", "/back", Conflict::Keep).await;
    assert_eq!(second.files.bytes("/back/a"), Some(b"mine".to_vec()));
    // Now there is something to lose.
    let refused = second.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap_err();
    assert!(matches!(refused, crate::recovery::RecoveryError::Active), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn new_words_that_own_nothing_stay_new_after_a_recovery() {
    let network = TestNetwork::empty(8).await;
    let (first, second) = (Node::blank(&network).await, Node::blank(&network).await);
    first.renter.start_fresh().await.unwrap();
    let report = recover(&first).await;
    assert!(matches!(report.outcome, RecoveryPhase::NothingFound { .. }), "{report:?}");
    assert_eq!(first.renter.status().state, RenterState::Active);
    // Another node is first, and this one still finds out.
    second.renter.start_fresh().await.unwrap();
    second.renter.set_allowance(allowance(&network)).await.unwrap();
    first.renter.set_allowance(allowance(&network)).await.unwrap();
    assert!(matches!(first.renter.status().state, RenterState::Fenced { .. }));
}
