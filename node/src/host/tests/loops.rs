//! The service and the loops, with a chain in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::{
    Action, Certificate, ChainParameters, Genesis, Transaction, Validator, ValidatorSet,
};
use samara_protocol::contract::ContractId;
use samara_protocol::hash::{BlockHash, TransactionId};
use samara_protocol::host::HostAnnouncement;
use samara_protocol::host::message::{
    ContractCall, HostRequest, HostResponse, Refusal, SignedSlot, SlotState,
};
use samara_protocol::ledger::state::{Account, Contract, ContractPhase};
use samara_protocol::sector::verify_storage_proof;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime, Height, Millis};
use samara_renter::world::{ChainError, ChainView};
use tokio::sync::watch;

use super::{PEER, START, World, data, epoch, secret};
use crate::host::config::HostConfig;
use crate::host::prover::{Prover, ProverConfig};
use crate::host::scrub::{ScrubReport, Scrubber};
use crate::host::service::{ChainFactsSource, FactsError, HostService, Meter, ServiceLimits};

/// A chain that knows one contract and keeps what is handed in.
struct Chain {
    genesis: Genesis,
    contract: Mutex<Option<Contract>>,
    account: Mutex<Account>,
    announced: Mutex<Vec<(PublicKey, HostAnnouncement)>>,
    submitted: Mutex<Vec<Transaction>>,
}

fn genesis() -> Genesis {
    let validator = Validator { key: secret(5).public(), power: 1 };
    Genesis {
        version: Genesis::VERSION,
        name: "test".into(),
        time: START,
        validators: ValidatorSet::new(vec![validator]).unwrap(),
        allocations: Vec::new(),
        parameters: ChainParameters::default(),
    }
}

impl Chain {
    fn new(contract: Option<Contract>) -> Arc<Self> {
        let account = Account { balance: Amount::coins(10), nonce: 7 };
        Arc::new(Self {
            genesis: genesis(),
            contract: Mutex::new(contract),
            account: Mutex::new(account),
            announced: Mutex::new(Vec::new()),
            submitted: Mutex::new(Vec::new()),
        })
    }

    fn take_submitted(&self) -> Vec<Transaction> {
        std::mem::take(&mut *self.submitted.lock().unwrap())
    }
}

#[async_trait]
impl ChainView for Chain {
    fn genesis(&self) -> &Genesis {
        &self.genesis
    }
    fn time(&self) -> ChainTime {
        self.genesis.time
    }
    async fn tip(&self) -> Result<Option<Finalized>, ChainError> {
        Ok(None)
    }
    async fn tip_above(&self, _height: Height) -> Result<Finalized, ChainError> {
        std::future::pending().await
    }
    async fn account(&self, _key: &PublicKey) -> Result<Account, ChainError> {
        Ok(*self.account.lock().unwrap())
    }
    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, ChainError> {
        let contract = self.contract.lock().unwrap().clone();
        Ok(contract.filter(|contract| contract.terms.contract == *id))
    }
    async fn announced_hosts(&self) -> Result<Vec<(PublicKey, HostAnnouncement)>, ChainError> {
        Ok(self.announced.lock().unwrap().clone())
    }
    async fn submit(&self, transaction: Transaction) -> Result<TransactionId, ChainError> {
        let id = transaction.id();
        self.submitted.lock().unwrap().push(transaction);
        Ok(id)
    }
    async fn included(&self, id: &TransactionId) -> Result<Height, ChainError> {
        Err(ChainError::Dropped(*id))
    }
    async fn batch(&self, _from: Height, _limit: u32) -> Result<Vec<ScannedBlock>, ChainError> {
        Ok(Vec::new())
    }
    async fn decision(&self, _height: Height) -> Result<(ValidatorSet, Certificate), ChainError> {
        Err(ChainError::Unreachable("a chain of one block has none".into()))
    }
    async fn peers(&self) -> usize {
        1
    }
}

fn prover(
    world: &World,
    chain: &Arc<Chain>,
) -> (Prover<super::DiskStore>, watch::Sender<HostAnnouncement>) {
    let announcement = HostConfig::default().announcement(vec!["/memory/1".into()]).unwrap();
    let (sender, receiver) = watch::channel(announcement);
    let config = ProverConfig::new(Amount(5));
    let view: Arc<dyn ChainView> = Arc::clone(chain) as _;
    let prover = Prover::new(Arc::clone(&world.host), view, secret(1), config, receiver);
    (prover, sender)
}

#[tokio::test]
async fn a_host_announces_itself_once_and_again_when_it_changes() {
    let world = World::new(genesis().hash());
    let chain = Chain::new(None);
    let (mut prover, sender) = prover(&world, &chain);
    prover.round(START, Height(1)).await.unwrap();
    prover.round(START, Height(2)).await.unwrap();
    let submitted = chain.take_submitted();
    let [transaction] = submitted.as_slice() else { panic!("{submitted:?}") };
    let Action::AnnounceHost(announced) = &transaction.body.action else { panic!() };
    assert_eq!((transaction.body.nonce, transaction.body.fee), (7, Amount(5)));
    assert!(transaction.is_signed_by(&world.host.id()));
    *chain.announced.lock().unwrap() = vec![(world.host.id(), announced.clone())];
    chain.account.lock().unwrap().nonce = 8;
    prover.round(START, Height(3)).await.unwrap();
    assert!(chain.take_submitted().is_empty());
    sender.send_modify(|announcement| announcement.accepting = false);
    prover.round(START, Height(4)).await.unwrap();
    assert_eq!(chain.take_submitted()[0].body.nonce, 8);
}

#[tokio::test]
async fn the_first_revision_and_then_the_proof_are_published() {
    let world = World::new(genesis().hash());
    let entries: Vec<_> = (0..3).map(|number| world.store(number, 32 << 10).unwrap()).collect();
    let revision = world.commit(entries);
    let mut contract = world.facts.contract.clone().unwrap();
    let chain = Chain::new(Some(contract.clone()));
    let (mut prover, _sender) = prover(&world, &chain);
    let end = contract.period_end();
    prover.round(START, Height(6)).await.unwrap();
    chain.take_submitted();
    chain.account.lock().unwrap().nonce = 8;
    *chain.announced.lock().unwrap() = vec![(
        world.host.id(),
        HostConfig::default().announcement(vec!["/memory/1".into()]).unwrap(),
    )];
    prover.round(ChainTime(end.0 - 300_000), Height(7)).await.unwrap();
    let submitted = chain.take_submitted();
    let [update] = submitted.as_slice() else { panic!("{submitted:?}") };
    assert!(
        matches!(&update.body.action, Action::UpdateContract { revision: Some(signed), .. }
            if signed.revision == revision),
        "{update:?}"
    );
    prover.round(ChainTime(end.0 - 200_000), Height(8)).await.unwrap();
    assert!(chain.take_submitted().is_empty(), "it is on its way");
    prover.round(ChainTime(end.0 - 100_000), Height(15)).await.unwrap();
    assert_eq!(chain.take_submitted()[0].body.nonce, 8, "sent again after eight blocks");

    chain.account.lock().unwrap().nonce = 9;
    contract.revision = revision;
    let seeds = (1..=3).map(|byte| BlockHash([byte; 32])).collect();
    contract.phase = ContractPhase::Proving { opened: Height(16), since: end, seeds };
    let seed = contract.challenge().unwrap();
    *chain.contract.lock().unwrap() = Some(contract);
    prover.round(end.plus(Millis(10)), Height(19)).await.unwrap();
    let submitted = chain.take_submitted();
    let [proof] = submitted.as_slice() else { panic!("{submitted:?}") };
    let Action::ProveStorage { period: 0, proof, .. } = &proof.body.action else {
        panic!("{proof:?}")
    };
    assert_eq!(verify_storage_proof(&seed, &revision.data_root, revision.size, proof), Ok(()));
}

#[tokio::test]
async fn a_contract_that_left_the_chain_is_swept_in_time() {
    let world = World::new(genesis().hash());
    let entry = world.store(1, 1_024).unwrap();
    world.commit(vec![entry]);
    let chain = Chain::new(None);
    let (mut prover, _sender) = prover(&world, &chain);
    prover.round(START, Height(6)).await.unwrap();
    prover.round(START.plus(Millis::hours(23)), Height(7)).await.unwrap();
    assert_eq!(world.host.followed(), [world.key.public()]);
    prover.round(START.plus(Millis::hours(24)), Height(8)).await.unwrap();
    assert!(world.host.followed().is_empty());
}

#[tokio::test]
async fn the_loop_stops_when_told() {
    let world = World::new(genesis().hash());
    let chain = Chain::new(None);
    let (prover, _sender) = prover(&world, &chain);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(prover.run(stopped));
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_scrubber_finds_damage() {
    let world = World::new(genesis().hash());
    let entries: Vec<_> = (0..3).map(|number| world.store(number, 32 << 10).unwrap()).collect();
    world.commit(entries.clone());
    let path = super::super::store::DiskStore::volumes(world.host.store());
    let path = path.path(&entries[1].root).unwrap();
    let mut bytes = data(1, 32 << 10).1;
    bytes[9] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let (scrubber, report) = Scrubber::new(Arc::clone(&world.host), u64::MAX);
    scrubber.pass().await;
    let damaged = vec![entries[1].root];
    let expected = ScrubReport { passes: 1, checked: 3, sectors: 3, damaged };
    assert_eq!(*report.borrow(), expected);
}

/// Facts that can fail.
struct Facts {
    contract: Option<Contract>,
    down: bool,
    /// Whether contracts can be read.
    reachable: AtomicBool,
}

#[async_trait]
impl ChainFactsSource for Facts {
    async fn tip(&self) -> Result<(ChainTime, Height), FactsError> {
        if self.down { Err(FactsError("no peer".into())) } else { Ok((START, Height(5))) }
    }
    async fn account(&self, _account: &PublicKey) -> Result<Account, FactsError> {
        Ok(Account { balance: Amount::coins(1), nonce: 0 })
    }
    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, FactsError> {
        if !self.reachable.load(Ordering::SeqCst) {
            return Err(FactsError("no peer".into()));
        }
        Ok(self.contract.clone().filter(|contract| contract.terms.contract == *id))
    }
}

#[tokio::test]
async fn contracts_known_before_are_served_while_no_chain_node_answers() {
    let world = World::new(genesis().hash());
    let contract = world.facts.contract.clone();
    let facts = Arc::new(Facts { contract, down: false, reachable: AtomicBool::new(true) });
    // Each request asks the chain again, while it can.
    let limits = ServiceLimits { contract_age: Duration::ZERO, ..ServiceLimits::default() };
    let host = Arc::clone(&world.host);
    let service = HostService::new(host, Arc::clone(&facts) as Arc<dyn ChainFactsSource>, limits);
    let ask = async || service.answer(PEER, world.request(ContractCall::Latest)).await;
    let before = ask().await;
    assert!(!matches!(before, HostResponse::Refused(_)), "{before:?}");
    facts.reachable.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(ask().await, before);
    }
    // Nothing is known of a contract that was never read, and nothing is good for ever.
    let host = Arc::clone(&world.host);
    let facts = Arc::clone(&facts) as Arc<dyn ChainFactsSource>;
    let limits = ServiceLimits { unreachable_age: Duration::ZERO, ..limits };
    let service = HostService::new(host, facts, limits);
    let answer = service.answer(PEER, world.request(ContractCall::Latest)).await;
    assert!(matches!(answer, HostResponse::Refused(Refusal::Busy(_))), "{answer:?}");
}

fn service(world: &World, down: bool, limits: ServiceLimits) -> HostService<super::DiskStore> {
    let reachable = AtomicBool::new(true);
    let facts = Facts { contract: world.facts.contract.clone(), down, reachable };
    HostService::new(Arc::clone(&world.host), Arc::new(facts), limits)
}

#[tokio::test]
async fn the_service_answers_and_says_when_the_chain_is_down() {
    let world = World::new(genesis().hash());
    let limits = ServiceLimits::default();
    let answer = service(&world, false, limits).answer(PEER, HostRequest::Prices).await;
    assert!(matches!(answer, HostResponse::Prices(_)), "{answer:?}");
    let service = service(&world, true, limits);
    let answer = service.answer(PEER, world.request(ContractCall::Latest)).await;
    assert!(matches!(answer, HostResponse::Refused(Refusal::Busy(_))), "{answer:?}");
}

#[tokio::test]
async fn stores_through_the_service_run_side_by_side() {
    let world = World::new(genesis().hash());
    let service = service(&world, false, ServiceLimits::default());
    let stores = (0..24u64).map(|number| {
        let (entry, data) = data(number, 16 << 10);
        let call =
            ContractCall::Store { voucher: world.voucher(), root: entry.root, data: data.into() };
        service.answer(PEER, world.request(call))
    });
    for answer in futures::future::join_all(stores).await {
        assert_eq!(answer, HostResponse::Stored);
    }
}

#[tokio::test]
async fn requests_over_the_bound_are_told_that_the_host_is_busy() {
    let world = World::new(genesis().hash());
    let limits = ServiceLimits { control: 1, ..ServiceLimits::default() };
    let service = service(&world, false, limits);
    let requests = (0..6).map(|_| service.answer(PEER, world.request(ContractCall::Latest)));
    let answers = futures::future::join_all(requests).await;
    let served = answers.iter().filter(|a| matches!(a, HostResponse::Latest(_))).count();
    assert_eq!(served, 2, "one runs, one waits: {answers:?}");
}

#[tokio::test]
async fn head_writes_are_metered() {
    let world = World::new(genesis().hash());
    let limits = ServiceLimits { head_writes: 0, ..ServiceLimits::default() };
    let state = SlotState { sequence: 1, length: 0, hash: Default::default(), epoch: epoch() };
    let new = SignedSlot::sign(&world.genesis, state, &world.key);
    let request = world.request(ContractCall::HeadPut {
        expected: SlotState::default(),
        head: Vec::new(),
        new,
    });
    let answer = service(&world, false, limits).answer(PEER, request).await;
    assert!(matches!(answer, HostResponse::Refused(Refusal::Busy(_))), "{answer:?}");
    let now = Instant::now();
    let mut meter = Meter::new(10, now);
    assert_eq!((0..100).filter(|_| meter.take(10, now)).count(), 40);
    let later = now + Duration::from_secs(1);
    assert_eq!((0..100).filter(|_| meter.take(10, later)).count(), 10);
}
