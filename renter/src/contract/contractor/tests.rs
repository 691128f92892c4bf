//! The contractor over a real ledger and real hosts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use samara_protocol::host::{HostAnnouncement, Prices};
use samara_protocol::journal::HostIndex;
use samara_protocol::ledger::state::Contract;
use samara_protocol::sector::SectorSize;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime, Millis};

use crate::contract::{
    Allowance, AllowanceError, BookError, ContractBook, Contractor, ContractorError, HostHealth,
    HostRegistry, PriceLimits, Reason, Redundancy, Sight, Standing, Step, StepOutcome, least_funds,
    obstacles, plan,
};
use crate::garbage::Leases;
use crate::testing::world::{Fault, TestNetwork, prices};
use crate::transfer::{Downloader, SlabClass, TransferOptions, Uploader};

/// Numbers hosts in the order in which they come; fails while it is broken.
struct Numbers {
    book: ContractBook,
    broken: AtomicBool,
}

#[async_trait]
impl HostRegistry for Numbers {
    async fn admit(&self, _: &Contract) -> Result<(), ContractorError> {
        Ok(())
    }

    async fn register(&self, host: PublicKey, operator: String) -> Result<HostIndex, BookError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(BookError::Full);
        }
        let index = match self.book.index_of(&host) {
            Some(index) => index,
            None => self.book.next_index()?,
        };
        self.book.add_host(index, host, operator).await?;
        Ok(index)
    }
}

fn numbers(network: &TestNetwork) -> Numbers {
    Numbers { book: network.book.clone(), broken: AtomicBool::new(false) }
}

/// One round, as upkeep makes it.
async fn tend(
    contractor: &Contractor,
    registry: &Numbers,
) -> Result<Vec<StepOutcome>, ContractorError> {
    let turn = contractor.turn().await;
    contractor.resume(registry).await?;
    let plan = contractor.plan().await?;
    contractor.carry_out(&turn, plan, registry).await
}

fn allowance(hosts: u16) -> Allowance {
    Allowance {
        hosts,
        funds: Amount(4_000_000_000_000),
        period: Millis::hours(1),
        periods: 4,
        window: Millis::seconds(600),
        window_blocks: 3,
        redundancy: Redundancy { data: 2, total: 4, margin: 1 },
        limits: PriceLimits::NONE,
    }
}

async fn contractor(network: &TestNetwork, hosts: u16) -> Contractor {
    let contractor = Contractor::open(network.book.clone()).await.unwrap();
    contractor.set_allowance(allowance(hosts)).await.unwrap();
    contractor
}

#[tokio::test(start_paused = true)]
async fn contracts_are_formed_up_to_the_allowance() {
    let network = TestNetwork::empty(6).await;
    let unset = Contractor::open(network.book.clone()).await.unwrap();
    assert!(matches!(unset.plan().await, Err(ContractorError::NoAllowance)));
    let contractor = contractor(&network, 5).await;
    let plan = contractor.plan().await.unwrap();
    assert_eq!(plan.steps.len(), 5);
    assert!(
        plan.steps
            .iter()
            .all(|step| matches!(step, Step::Form { reason: Reason::TooFew { want: 5, .. }, .. }))
    );
    assert_eq!(plan.hosts.iter().filter(|host| host.standing == Standing::Spare).count(), 1);
    let spend = plan.spend;
    let before = network.chain.account_of(&network.keys.account(0).public()).balance;
    for outcome in contractor.apply(plan, &numbers(&network)).await.unwrap() {
        let contract = outcome.result.unwrap().unwrap();
        assert_eq!(contract.terms().funds, Amount(800_000_000_000));
    }
    let after = network.chain.account_of(&network.keys.account(0).public()).balance;
    assert_eq!(before.checked_sub(after), Some(spend));
    assert_eq!(network.book.live().len(), 5);
    assert_eq!(contractor.plan().await.unwrap().steps, []);
    // The allowance survives a restart.
    let again = Contractor::open(network.reopen().await).await.unwrap();
    assert_eq!(again.allowance(), Some(allowance(5)));
    assert_eq!(again.plan().await.unwrap().steps, []);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_does_not_stop_the_others() {
    let network = TestNetwork::empty(5).await;
    let contractor = contractor(&network, 5).await;
    network.set([2], Fault::Dead);
    let plan = contractor.plan().await.unwrap();
    let outcomes = contractor.apply(plan, &numbers(&network)).await.unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.result.is_err()).count(), 1);
    assert_eq!(network.book.live().len(), 4);
    network.set([2], Fault::None);
    assert_eq!(tend(&contractor, &numbers(&network)).await.unwrap().len(), 1);
    assert_eq!(network.book.live().len(), 5);
    assert_eq!(tend(&contractor, &numbers(&network)).await.unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_formation_that_was_cut_off_is_taken_up() {
    let network = TestNetwork::empty(4).await;
    let contractor = contractor(&network, 4).await;
    let broken = Numbers { book: network.book.clone(), broken: AtomicBool::new(true) };
    let plan = contractor.plan().await.unwrap();
    let outcomes = contractor.apply(plan, &broken).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_err()));
    assert_eq!(network.book.live().len(), 0);
    // As after a restart.
    let contractor = Contractor::open(network.book.clone()).await.unwrap();
    assert_eq!(contractor.resume(&numbers(&network)).await.unwrap(), 4);
    assert_eq!(network.book.live().len(), 4);
    assert_eq!(contractor.resume(&numbers(&network)).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn renewals_carry_data_over_and_reads_go_on() {
    let network = TestNetwork::empty(4).await;
    let contractor = contractor(&network, 4).await;
    let plan = contractor.plan().await.unwrap();
    contractor.apply(plan, &numbers(&network)).await.unwrap();
    let options = TransferOptions {
        maximum_column: SectorSize::new(64 << 10).unwrap(),
        ..TransferOptions::new(allowance(4).redundancy)
    };
    let uploader = Uploader::new(network.book.clone(), options, Leases::default());
    let upload = |byte: u8| uploader.upload_slab(vec![byte; 50_000], SlabClass::Data);
    let first = upload(1).await.unwrap();
    first.settled.clone().wait().await;

    let mut before: Vec<_> = network.book.live().iter().map(|live| live.id()).collect();
    for round in 0..2 {
        network.chain.pass(Millis::hours(1));
        assert_eq!(contractor.plan().await.unwrap().steps, [], "round {round}: not yet");
        network.chain.pass(Millis::seconds(5_760));
        let plan = contractor.plan().await.unwrap();
        assert_eq!(plan.steps.len(), 4);
        for outcome in contractor.apply(plan, &numbers(&network)).await.unwrap() {
            assert!(matches!(outcome.step, Step::Renew { reason: Reason::EndsSoon { .. }, .. }));
            outcome.result.unwrap();
        }
        let after: Vec<_> = network.book.live().iter().map(|live| live.id()).collect();
        assert!(before.iter().all(|old| !after.contains(old)));
        before = after;

        // No descriptor is remembered.
        let downloader = Downloader::new(network.book.clone(), options);
        assert!(downloader.read(&first.record, 0..50_000).await.unwrap() == vec![1; 50_000]);
        let more = upload(2).await.unwrap();
        assert_eq!(more.settled.clone().wait().await.committed.len(), 4);
        assert!(downloader.read(&more.record, 0..50_000).await.unwrap() == vec![2; 50_000]);
    }
    assert_eq!(contractor.plan().await.unwrap().steps, []);
}

#[tokio::test(start_paused = true)]
async fn a_formation_that_comes_late_is_dead_and_its_money_is_free() {
    let network = TestNetwork::empty(5).await;
    let contractor = contractor(&network, 4).await;
    let first = contractor.plan().await.unwrap();
    let (balance, spend) = (first.balance, first.spend);
    network.chain.hold();
    let outcomes = contractor.apply(first, &numbers(&network)).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_err()));
    // They may still come: nothing is formed or spent twice, also after a restart.
    let contractor = Contractor::open(network.book.clone()).await.unwrap();
    assert_eq!(contractor.resume(&numbers(&network)).await.unwrap(), 0);
    let waiting = contractor.plan().await.unwrap();
    assert_eq!((waiting.steps, waiting.balance), (vec![], balance.saturating_sub(spend)));
    network.chain.pass(Millis::seconds(130));
    assert_eq!(contractor.resume(&numbers(&network)).await.unwrap(), 0);
    let again = contractor.plan().await.unwrap();
    assert_eq!((again.steps.len(), again.balance), (4, balance));
    for late in network.chain.release() {
        assert!(late.unwrap_err().to_string().contains("valid until"));
    }
    contractor.apply(again, &numbers(&network)).await.unwrap();
    assert_eq!(network.book.live().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_formation_that_comes_in_time_is_used() {
    let network = TestNetwork::empty(4).await;
    let contractor = contractor(&network, 4).await;
    network.chain.hold();
    contractor.apply(contractor.plan().await.unwrap(), &numbers(&network)).await.unwrap();
    network.chain.pass(Millis::seconds(120));
    assert!(network.chain.release().iter().all(Result::is_ok));
    network.chain.pass(Millis::seconds(120));
    assert_eq!(contractor.resume(&numbers(&network)).await.unwrap(), 4);
    assert_eq!(network.book.live().len(), 4);
    assert_eq!(contractor.plan().await.unwrap().steps, []);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_late_changes_nothing_for_either_side() {
    let network = TestNetwork::empty(4).await;
    let contractor = contractor(&network, 4).await;
    contractor.apply(contractor.plan().await.unwrap(), &numbers(&network)).await.unwrap();
    let options = TransferOptions {
        maximum_column: SectorSize::new(64 << 10).unwrap(),
        ..TransferOptions::new(allowance(4).redundancy)
    };
    let uploader = Uploader::new(network.book.clone(), options, Leases::default());
    let upload = |byte: u8| uploader.upload_slab(vec![byte; 50_000], SlabClass::Data);
    upload(1).await.unwrap().settled.clone().wait().await;
    let before: Vec<_> = network.book.live().iter().map(|live| live.id()).collect();
    network.chain.pass(Millis::seconds(9_360));
    network.chain.hold();
    let plan = contractor.plan().await.unwrap();
    assert_eq!(plan.steps.len(), 4);
    let outcomes = contractor.apply(plan, &numbers(&network)).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_err()));
    assert_eq!(contractor.plan().await.unwrap().steps, [], "one renewal at a time");
    // Hosts take no revision that a renewal in time would lose.
    assert!(upload(2).await.is_err());
    network.chain.pass(Millis::seconds(130));
    let later = upload(3).await.unwrap();
    assert_eq!(later.settled.clone().wait().await.committed.len(), 4);
    assert!(network.chain.release().iter().all(Result::is_err));
    let live = || network.book.live().iter().map(|live| live.id()).collect::<Vec<_>>();
    assert_eq!(live(), before);
    let outcomes = tend(&contractor, &numbers(&network)).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert!(live().iter().all(|id| !before.contains(id)));
    let downloader = Downloader::new(network.book.clone(), options);
    assert!(downloader.read(&later.record, 0..50_000).await.unwrap() == vec![3; 50_000]);
}

#[tokio::test(start_paused = true)]
async fn ended_contracts_are_forgotten_and_replaced() {
    let network = TestNetwork::empty(4).await;
    let contractor = contractor(&network, 4).await;
    let plan = contractor.plan().await.unwrap();
    contractor.apply(plan, &numbers(&network)).await.unwrap();
    for _ in 0..40 {
        network.chain.pass(Millis::seconds(900));
    }
    let plan = contractor.plan().await.unwrap();
    let retired = plan.steps.iter().filter(|step| matches!(step, Step::Retire { .. })).count();
    assert_eq!((retired, plan.steps.len()), (4, 8));
    for outcome in contractor.apply(plan, &numbers(&network)).await.unwrap() {
        outcome.result.unwrap();
    }
    assert_eq!(network.book.live().len(), 4);
    assert_eq!(network.book.hosts().len(), 4, "hosts keep their numbers");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_paid_is_refused_as_a_whole() {
    let network = TestNetwork::empty(4).await;
    let contractor = contractor(&network, 4).await;
    let rich = Allowance { funds: Amount::coins(100_000), ..allowance(4) };
    contractor.set_allowance(rich).await.unwrap();
    let plan = contractor.plan().await.unwrap();
    let error = contractor.apply(plan, &numbers(&network)).await.unwrap_err();
    assert!(matches!(error, ContractorError::Balance { .. }));
    assert!(network.hosts.iter().all(|host| host.all_calls() == 0));
}

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn announced(byte: u8, operator: &str, prices: Prices) -> (PublicKey, HostAnnouncement) {
    let announcement = HostAnnouncement {
        addresses: Vec::new(),
        operator: operator.into(),
        capacity: 1 << 30,
        accepting: true,
        prices,
    };
    (key(byte), announcement)
}

fn sight(hosts: u16, announced: Vec<(PublicKey, HostAnnouncement)>) -> Sight {
    Sight {
        allowance: allowance(hosts),
        now: ChainTime(1_000),
        clock: 100_000_000,
        balance: Amount::coins(100),
        fee: Amount(1),
        announced,
        health: BTreeMap::new(),
        live: Vec::new(),
        pending: Vec::new(),
    }
}

fn chosen(sight: &Sight) -> Vec<u8> {
    let steps = plan(sight).steps;
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Form { host, .. } => Some(host.0[0]),
            _ => None,
        })
        .collect()
}

#[test]
fn one_host_per_operator_where_there_are_enough() {
    let hosts = || {
        vec![
            announced(1, "a", prices()),
            announced(2, "a", prices()),
            announced(3, "b", prices()),
            announced(4, "c", prices()),
            announced(5, "d", prices()),
        ]
    };
    assert_eq!(chosen(&sight(4, hosts())), [1, 3, 4, 5]);
    assert_eq!(chosen(&sight(5, hosts())), [1, 3, 4, 5, 2]);
    let standing = plan(&sight(4, hosts())).hosts;
    let second = standing.iter().find(|verdict| verdict.host == key(2)).unwrap();
    assert_eq!(second.standing, Standing::SameOperator);
}

#[test]
fn cheap_and_reliable_hosts_are_chosen_and_others_say_why_not() {
    let dear = Prices { storage: Amount(100), ..prices() };
    let closed =
        |(host, announcement)| (host, HostAnnouncement { accepting: false, ..announcement });
    let mut sight = sight(
        4,
        vec![
            announced(1, "a", dear),
            announced(2, "b", prices()),
            announced(3, "c", prices()),
            announced(4, "d", prices()),
            announced(5, "e", prices()),
            closed(announced(6, "f", prices())),
            announced(7, "g", prices()),
        ],
    );
    let shaky = HostHealth { answered: 10, failed: 30, ..HostHealth::default() };
    sight.health.insert(key(3), shaky);
    let liar = HostHealth { answered: 1_000, false_answers: 3, ..HostHealth::default() };
    sight.health.insert(key(7), liar);
    let best = chosen(&sight);
    assert!(best.contains(&2) && best.contains(&4) && best.contains(&5));
    let standing = plan(&sight).hosts;
    let of = |byte| standing.iter().find(|v| v.host == key(byte)).unwrap().standing.clone();
    assert_eq!(of(6), Standing::NotAccepting);
    assert!(matches!(of(7), Standing::Unreliable(_)));
    sight.allowance.limits.storage = Amount(50);
    let standing = plan(&sight).hosts;
    let dear = standing.iter().find(|v| v.host == key(1)).unwrap();
    assert!(matches!(dear.standing, Standing::TooExpensive { what: "storage", .. }));
    assert!(!chosen(&sight).contains(&1));
}

#[tokio::test(start_paused = true)]
async fn a_lying_host_is_replaced() {
    let network = TestNetwork::empty(5).await;
    let contractor = contractor(&network, 4).await;
    let first = contractor.plan().await.unwrap();
    contractor.apply(first, &numbers(&network)).await.unwrap();
    let liar = network.book.live()[1].host();
    for _ in 0..3 {
        network.book.reports().false_answer(&liar, "flipped bytes");
    }
    let plan = contractor.plan().await.unwrap();
    assert!(matches!(
        plan.steps.as_slice(),
        [Step::Form { reason: Reason::Replaces { host, .. }, .. }] if *host == liar
    ));
    contractor.apply(plan, &numbers(&network)).await.unwrap();
    assert_eq!(network.book.live().len(), 5);
    assert_eq!(contractor.plan().await.unwrap().steps, []);
    let verdict = contractor.plan().await.unwrap().hosts;
    let liar = verdict.iter().find(|verdict| verdict.host == liar).unwrap();
    assert!(liar.standing.to_string().contains("3 false answers"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_renewed_says_why() {
    let network = TestNetwork::empty(5).await;
    let contractor = contractor(&network, 5).await;
    contractor.apply(contractor.plan().await.unwrap(), &numbers(&network)).await.unwrap();
    let of = |sight: &Sight| {
        let found = obstacles(sight, &plan(sight));
        network.book.live().iter().map(|live| found.get(&live.id()).cloned()).collect::<Vec<_>>()
    };
    let mut sight = contractor.sight().await.unwrap();
    assert_eq!(of(&sight), vec![None; 5]);
    let key_of = |index: usize| network.book.live()[index].host();
    let liar = HostHealth { answered: 1_000, false_answers: 3, ..HostHealth::default() };
    sight.health.insert(key_of(0), liar);
    sight.announced.retain(|(host, _)| *host != key_of(1));
    for (host, announced) in &mut sight.announced {
        announced.accepting = *host != key_of(2);
        if *host == key_of(3) {
            announced.prices.storage = Amount(100);
        }
    }
    sight.allowance.limits.storage = Amount(50);
    let found = of(&sight);
    let expected = ["to be replaced", "not announced", "forms no contracts", "asks"];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.as_ref().unwrap().contains(expected), "{found:?}");
    }
    assert_eq!(found[4], None);
    // A renewal takes what the old contract leaves first; more than that must be there.
    sight.balance = sight.fee;
    sight.allowance.funds = Amount(sight.allowance.funds.0 / 2);
    assert_eq!(of(&sight)[4], None);
    sight.balance = Amount::ZERO;
    assert!(of(&sight)[4].as_ref().unwrap().contains("the account has"));
}

#[test]
fn allowances_are_checked_and_defaults_are_good() {
    let parameters = samara_protocol::chain::ChainParameters::default();
    for hosts in 2..60 {
        let default = Allowance::for_network(hosts, Amount::coins(1), &parameters);
        assert_eq!(default.check(&parameters), Ok(()), "{hosts} hosts");
        assert!(usize::from(default.hosts) <= hosts.max(2), "{hosts} hosts");
    }
    let few = Allowance { hosts: 3, ..allowance(4) };
    assert_eq!(few.check(&parameters), Err(AllowanceError::Hosts { hosts: 3, total: 4 }));
    let none = Allowance { funds: Amount::ZERO, ..allowance(4) };
    assert_eq!(none.check(&parameters), Err(AllowanceError::Funds));
}

#[test]
fn the_least_money_is_that_of_the_dearest_host_that_is_needed() {
    let asks = |byte, coins| {
        let prices = Prices { proof_fee: Amount::coins(coins), ..prices() };
        announced(byte, "op", prices)
    };
    let allowance = Allowance { periods: 8, ..allowance(2) };
    assert_eq!(least_funds(&allowance, &[]), Amount::ZERO);
    let (cheap, dear) = (asks(1, 1), asks(2, 2));
    // Sixteen coins for proofs and a quarter above them, from each of two hosts; next to nothing for storage.
    let least = least_funds(&allowance, &[cheap.clone(), dear.clone()]);
    assert!(least >= Amount::coins(40) && least < Amount::coins(41), "{least}");
    assert_eq!(least.0 % (Amount::COIN.0 / 10_000), 0, "{least}");
    let third = asks(3, 100);
    assert_eq!(least_funds(&allowance, &[third, cheap, dear]), least);
}
