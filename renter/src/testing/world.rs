//! A small world for tests: the real ledger, real hosts over stores in memory, a paused clock.
//!
//! Hosts answer at once unless a [`Fault`] says otherwise; every call is counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::BoxFuture;
use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::{
    Action, Certificate, ChainParameters, Genesis, Header, Transaction, TransactionBody, Validator,
    ValidatorSet,
};
use samara_protocol::contract::{ContractId, ContractTerms};
use samara_protocol::encoding;
use samara_protocol::hash::{ContractNonce, TransactionId};
use samara_protocol::host::core::{ChainFacts, Host, HostRules};
use samara_protocol::host::memory::MemoryStore;
use samara_protocol::host::message::{HostRequest, HostResponse, Refusal};
use samara_protocol::host::{EpochClaim, HostAnnouncement, Prices};
use samara_protocol::journal::HostIndex;
use samara_protocol::keys::phrase::Phrase;
use samara_protocol::keys::tree::KeyTree;
use samara_protocol::ledger::state::{Account, Contract, StateKey};
use samara_protocol::ledger::{MemoryState, StateReader, build_block, genesis_state};
use samara_protocol::signature::{PublicKey, SecretKey, Signature};
use samara_protocol::units::{Amount, ChainTime, Epoch, Height, Millis};
use zeroize::Zeroizing;

use crate::contract::{ContractBook, ContractHandle, Writer};
use crate::world::{
    ChainError, ChainView, Clock, Compute, FileEntry, FileError, Files, HostCallError, HostClient,
    Lane, Randomness, ReadFile, Spawner, Store, StoreError, TaskHandle, World, Write, WriteFile,
};

/// What goes wrong with a host's next calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It cannot be reached.
    Dead,
    /// It reads, but cannot be written to.
    Deaf,
    /// It flips a bit in each range that it sends.
    Flips,
    /// It carries commits out and never says so, so many times.
    LosesCommits(u32),
    /// Commits never reach it, so many times.
    DropsCommits(u32),
    /// It says that it promised the highest epoch there is, with a forged claim, and refuses whatever is
    /// below.
    Fences,
    /// It waits so many milliseconds before it answers.
    Slow(u64),
}

pub(crate) fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}

pub(crate) fn epoch(counter: u64) -> Epoch {
    Epoch { counter, writer: [1; 16] }
}

pub(crate) fn prices() -> Prices {
    Prices {
        storage: Amount(1),
        upload: Amount(2),
        download: Amount(3),
        request: Amount(100),
        collateral_rate: Amount(1),
        maximum_collateral: Amount(1_000_000),
        proof_fee: Amount(10),
        maximum_duration: Millis::hours(10_000),
    }
}

/// A chain of one in memory: each transaction makes a block.
pub(crate) struct TestChain {
    genesis: Genesis,
    inner: Mutex<ChainInner>,
}

struct ChainInner {
    state: MemoryState,
    tip: Option<Header>,
    included: BTreeMap<TransactionId, Height>,
    hosts: Vec<PublicKey>,
    blocks: Vec<ScannedBlock>,
    /// Transactions that were taken and are in no block, while they are held back.
    held: Option<Vec<Transaction>>,
}

impl TestChain {
    fn new(genesis: Genesis) -> Self {
        let state = MemoryState::new(genesis_state(&genesis).unwrap());
        let inner = ChainInner {
            state,
            tip: None,
            included: BTreeMap::new(),
            hosts: Vec::new(),
            blocks: Vec::new(),
            held: None,
        };
        Self { genesis, inner: Mutex::new(inner) }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, key: &StateKey) -> Option<T> {
        let inner = self.inner.lock().unwrap();
        inner.state.value(key).unwrap().map(|value| encoding::decode(&value).unwrap())
    }

    /// The one validator's certificate.
    fn certify(&self, header: &Header) -> Certificate {
        Certificate::sign(header, &[secret(254)])
    }

    /// Makes an empty block so much later.
    pub(crate) fn pass(&self, span: Millis) {
        self.block(span, None).unwrap();
    }

    /// Takes transactions from now on and puts them into no block.
    pub(crate) fn hold(&self) {
        self.inner.lock().unwrap().held = Some(Vec::new());
    }

    /// Hands in what was held back, each in a block of its own.
    pub(crate) fn release(&self) -> Vec<Result<Height, ChainError>> {
        let held = self.inner.lock().unwrap().held.take().unwrap_or_default();
        held.into_iter().map(|transaction| self.block(Millis(1), Some(transaction))).collect()
    }

    fn block(&self, span: Millis, transaction: Option<Transaction>) -> Result<Height, ChainError> {
        let mut inner = self.inner.lock().unwrap();
        let time = inner.tip.map_or(self.genesis.time, |tip| tip.time).plus(span);
        let id = transaction.as_ref().map(Transaction::id);
        let built = build_block(&inner.state, &self.genesis, inner.tip.as_ref(), time, transaction)
            .unwrap();
        if let Some((_, reason)) = built.rejected.first() {
            return Err(ChainError::Refused(reason.to_string()));
        }
        let height = built.block.header.height;
        for transaction in &built.block.transactions {
            if let Action::AnnounceHost(_) = transaction.body.action {
                inner.hosts.push(transaction.body.account);
            }
        }
        let records = built.block.transactions.iter().filter_map(|tx| match &tx.body.action {
            Action::FormContract(terms) | Action::RenewContract { terms, .. } => {
                Some(terms.record())
            }
            _ => None,
        });
        let scanned = ScannedBlock { header: built.block.header, records: records.collect() };
        inner.blocks.push(scanned);
        inner.state.apply(built.changes);
        inner.tip = Some(built.block.header);
        inner.included.extend(id.map(|id| (id, height)));
        Ok(height)
    }

    pub(crate) fn account_of(&self, key: &PublicKey) -> Account {
        self.read(&StateKey::Account(*key)).unwrap_or_default()
    }

    pub(crate) fn send(&self, key: &SecretKey, others: &[&SecretKey], action: Action) {
        let account = key.public();
        let nonce = self.account_of(&account).nonce;
        let genesis = self.genesis.hash();
        let fee = self.genesis.parameters.minimum_fee;
        let valid_until = TransactionBody::ALWAYS;
        let body = TransactionBody { genesis, account, nonce, fee, valid_until, action };
        let keys: Vec<&SecretKey> = std::iter::once(key).chain(others.iter().copied()).collect();
        self.block(Millis(1), Some(Transaction::signed(body, &keys))).unwrap();
    }

    fn facts(
        &self,
        host: &PublicKey,
        payer: Option<PublicKey>,
        contract: Option<ContractId>,
    ) -> ChainFacts {
        let tip = self.inner.lock().unwrap().tip;
        ChainFacts {
            now: tip.map_or(self.genesis.time, |tip| tip.time),
            tip: tip.map_or(Height(0), |tip| tip.height),
            payer: payer.map(|key| self.account_of(&key)).unwrap_or_default(),
            balance: self.account_of(host).balance,
            contract: contract.and_then(|id| self.read(&StateKey::Contract(id))),
        }
    }
}

#[async_trait]
impl ChainView for TestChain {
    fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    async fn tip(&self) -> Result<Option<Finalized>, ChainError> {
        let tip = self.inner.lock().unwrap().tip;
        Ok(tip.map(|header| Finalized { header, certificate: self.certify(&header) }))
    }

    async fn tip_above(&self, _: Height) -> Result<Finalized, ChainError> {
        Ok(self.tip().await?.unwrap())
    }

    async fn account(&self, key: &PublicKey) -> Result<Account, ChainError> {
        Ok(self.account_of(key))
    }

    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, ChainError> {
        Ok(self.read(&StateKey::Contract(*id)))
    }

    async fn announced_hosts(&self) -> Result<Vec<(PublicKey, HostAnnouncement)>, ChainError> {
        let mut hosts = self.inner.lock().unwrap().hosts.clone();
        hosts.sort_unstable();
        hosts.dedup();
        Ok(hosts
            .into_iter()
            .filter_map(|host| Some((host, self.read(&StateKey::Host(host))?)))
            .collect())
    }

    async fn submit(&self, transaction: Transaction) -> Result<TransactionId, ChainError> {
        let id = transaction.id();
        if let Some(held) = &mut self.inner.lock().unwrap().held {
            held.push(transaction);
            return Ok(id);
        }
        self.block(Millis(1), Some(transaction)).map(|_| id)
    }

    async fn included(&self, id: &TransactionId) -> Result<Height, ChainError> {
        let inner = self.inner.lock().unwrap();
        inner.included.get(id).copied().ok_or(ChainError::Dropped(*id))
    }

    async fn batch(&self, from: Height, limit: u32) -> Result<Vec<ScannedBlock>, ChainError> {
        let inner = self.inner.lock().unwrap();
        let skip = usize::try_from(from.0 - 1).unwrap();
        Ok(inner.blocks.iter().skip(skip).take(limit as usize).cloned().collect())
    }

    async fn decision(&self, height: Height) -> Result<(ValidatorSet, Certificate), ChainError> {
        let header = {
            let inner = self.inner.lock().unwrap();
            inner.blocks[usize::try_from(height.0 - 1).unwrap()].header
        };
        Ok((self.genesis.validators.clone(), self.certify(&header)))
    }

    async fn peers(&self) -> usize {
        1
    }
}

/// A host with its disk and its faults.
pub(crate) struct TestHost {
    pub(crate) key: SecretKey,
    pub(crate) disk: Arc<MemoryStore>,
    host: Host<Arc<MemoryStore>>,
    fault: Mutex<Fault>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

impl TestHost {
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn calls(&self, kind: &str) -> u64 {
        self.calls.lock().unwrap().get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn all_calls(&self) -> u64 {
        self.calls.lock().unwrap().values().sum()
    }

    pub(crate) fn offer(&self, prices: Prices) {
        self.host.offer(prices, true, ChainTime(u64::MAX / 2)).unwrap();
    }
}

/// All hosts, by key.
pub(crate) struct TestHosts {
    chain: Arc<TestChain>,
    hosts: BTreeMap<PublicKey, Arc<TestHost>>,
}

#[async_trait]
impl HostClient for TestHosts {
    async fn call(
        &self,
        host: &PublicKey,
        _: Lane,
        request: HostRequest,
    ) -> Result<HostResponse, HostCallError> {
        let lost = |reason: &str| HostCallError::Unreachable { host: *host, reason: reason.into() };
        let Some(target) = self.hosts.get(host) else { return Err(lost("nobody is there")) };
        let kind = request.name();
        *target.calls.lock().unwrap().entry(kind).or_default() += 1;
        let fault = *target.fault.lock().unwrap();
        match fault {
            Fault::Dead => return Err(lost("it is dead")),
            Fault::Deaf if matches!(kind, "store" | "commit") => return Err(lost("it is deaf")),
            Fault::DropsCommits(left) if kind == "commit" && left > 0 => {
                target.set(Fault::DropsCommits(left - 1));
                return Err(HostCallError::TimedOut { host: *host });
            }
            Fault::Slow(span) => tokio::time::sleep(std::time::Duration::from_millis(span)).await,
            _ => tokio::task::yield_now().await,
        }
        let contract = Host::<Arc<MemoryStore>>::concerns(&request);
        let payer = Host::<Arc<MemoryStore>>::payer(&request);
        let facts = self.chain.facts(host, payer, contract);
        // The messages travel as bytes, as they do in earnest.
        let request = encoding::decode(&encoding::encode(&request)).unwrap();
        let lie = EpochClaim {
            nonce: ContractNonce([3; 16]),
            epoch: Epoch { counter: u64::MAX, writer: [0xff; 16] },
            signature: Signature([5; 64]),
        };
        if let (Fault::Fences, HostRequest::Contract(request)) = (fault, &request)
            && matches!(kind, "store" | "commit" | "promise" | "read")
        {
            let (given, promised) = (request.claim.epoch, Box::new(lie));
            return Ok(HostResponse::Refused(Refusal::Fenced { given, promised }));
        }
        let mut answer = target.host.handle(&facts, &PublicKey([200; 32]), request);
        if fault == Fault::Fences {
            match &mut answer {
                HostResponse::Latest(status) | HostResponse::Head { status, .. } => {
                    status.promised = lie;
                }
                _ => {}
            }
        }
        if let (Fault::Flips, HostResponse::Range { data, .. }) = (fault, &mut answer) {
            let mut flipped = data.to_vec();
            flipped[0] ^= 1;
            *data = flipped.into();
        }
        if let Fault::LosesCommits(left) = fault
            && kind == "commit"
            && left > 0
        {
            target.set(Fault::LosesCommits(left - 1));
            return Err(HostCallError::TimedOut { host: *host });
        }
        Ok(encoding::decode(&encoding::encode(&answer)).unwrap())
    }
}

#[derive(Default)]
pub(crate) struct TestStore(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

#[async_trait]
impl Store for TestStore {
    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let rows = self.0.lock().unwrap();
        let wanted = rows.iter().filter(|(key, _)| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
        });
        Ok(wanted.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut rows = self.0.lock().unwrap();
        for write in writes {
            match write {
                Write::Put(key, value) => rows.insert(key, value),
                Write::Delete(key) => rows.remove(&key),
            };
        }
        Ok(())
    }
}

/// There are no files here.
struct NoFiles;

fn no_file<T>(path: &Path) -> Result<T, FileError> {
    Err(FileError { action: "open", path: path.into(), reason: "there are no files here".into() })
}

#[async_trait]
impl Files for NoFiles {
    async fn walk(&self, root: &Path) -> Result<Vec<Result<FileEntry, FileError>>, FileError> {
        no_file(root)
    }

    async fn stat(&self, path: &Path) -> Result<Option<FileEntry>, FileError> {
        no_file(path)
    }

    async fn open(&self, path: &Path) -> Result<Box<dyn ReadFile>, FileError> {
        no_file(path)
    }

    async fn create(&self, _root: &Path, path: &Path) -> Result<Box<dyn WriteFile>, FileError> {
        no_file(path)
    }

    async fn create_folder(&self, _root: &Path, path: &Path) -> Result<(), FileError> {
        no_file(path)
    }
}

/// Tokio's paused clock: time passes when nobody can go on.
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> u64 {
        1_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn sleep(&self, span: Millis) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(std::time::Duration::from_millis(span.0)))
    }
}

/// The same bytes in every run.
struct TestRandom(Mutex<u64>);

impl Randomness for TestRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut count = self.0.lock().unwrap();
        *count += 1;
        // Nothing secret: the protocol's digest serves as a generator.
        for (index, part) in (0u64..).zip(buffer.chunks_mut(32)) {
            let bytes = samara_protocol::hash::digest("samara test random", &(*count, index)).0;
            part.copy_from_slice(&bytes[..part.len()]);
        }
    }
}

struct TestSpawner;

struct TestTask(Option<tokio::task::JoinHandle<()>>);

impl TaskHandle for TestTask {
    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }

    fn detach(mut self: Box<Self>) {
        self.0.take();
    }
}

impl Drop for TestTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Spawner for TestSpawner {
    #[expect(clippy::disallowed_methods, reason = "this is the world's spawner")]
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        Box::new(TestTask(Some(tokio::spawn(task))))
    }
}

struct Inline;

impl Compute for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        job();
        Box::pin(std::future::ready(()))
    }
}

/// A renter among hosts.
pub(crate) struct TestNetwork {
    pub(crate) world: World,
    pub(crate) chain: Arc<TestChain>,
    pub(crate) hosts: Vec<Arc<TestHost>>,
    pub(crate) keys: Arc<KeyTree>,
    pub(crate) writer: Writer,
    pub(crate) book: ContractBook,
}

impl TestNetwork {
    /// A renter with money among so many announced hosts, none of which has a contract. To be called
    /// in a runtime whose clock is paused.
    pub(crate) async fn empty(hosts: u8) -> Self {
        // The genesis hash is in every key, so accounts are funded by a treasury afterwards.
        let treasury = secret(255);
        let validators = vec![Validator { key: secret(254).public(), power: 1 }];
        let genesis = Genesis {
            version: Genesis::VERSION,
            name: "network".into(),
            time: ChainTime(1_000_000),
            validators: ValidatorSet::new(validators).unwrap(),
            allocations: vec![(treasury.public(), Amount::coins(1_000_000))],
            parameters: ChainParameters::default(),
        };
        let hash = genesis.hash();
        let chain = Arc::new(TestChain::new(genesis));
        let phrase = Phrase::from_entropy(&Zeroizing::new([3; 16])).unwrap();
        let keys = Arc::new(KeyTree::new(&phrase.seed(""), &hash));
        let transfer = |to, amount| Action::Transfer { to, amount };
        chain.send(&treasury, &[], transfer(keys.account(0).public(), Amount::coins(10_000)));
        let mut all = Vec::new();
        for index in 0..hosts {
            let key = secret(index + 1);
            let disk = Arc::new(MemoryStore::new(1 << 30));
            let (rules, now) = (HostRules::default(), ChainTime(1_000_000));
            let host =
                Host::open(disk.clone(), key.clone(), hash, rules, prices(), true, now).unwrap();
            chain.send(&treasury, &[], transfer(key.public(), Amount::coins(100)));
            let announcement = HostAnnouncement {
                addresses: Vec::new(),
                operator: format!("operator {index}"),
                capacity: 1 << 30,
                accepting: true,
                prices: prices(),
            };
            chain.send(&key, &[], Action::AnnounceHost(announcement));
            let (fault, calls) = (Mutex::new(Fault::None), Mutex::default());
            all.push(Arc::new(TestHost { key, disk, host, fault, calls }));
        }
        let by_key = all.iter().map(|host| (host.key.public(), host.clone())).collect();
        let world = World {
            chain: chain.clone(),
            hosts: Arc::new(TestHosts { chain: chain.clone(), hosts: by_key }),
            store: Arc::new(TestStore::default()),
            files: Arc::new(NoFiles),
            clock: Arc::new(TestClock(tokio::time::Instant::now())),
            random: Arc::new(TestRandom(Mutex::default())),
            spawner: Arc::new(TestSpawner),
            compute: Arc::new(Inline),
        };
        let writer = Writer::new(epoch(1));
        let book = ContractBook::open(world.clone(), keys.clone(), writer.clone()).await.unwrap();
        Self { world, chain, hosts: all, keys, writer, book }
    }

    /// A renter with a contract with each of so many hosts.
    pub(crate) async fn new(hosts: u8) -> Self {
        let network = Self::empty(hosts).await;
        for index in 0..hosts {
            network.form(u16::from(index), Amount(1_000_000_000_000)).await;
        }
        network
    }

    /// Forms a contract with one host.
    pub(crate) async fn form(&self, index: u16, funds: Amount) -> ContractHandle {
        let host = &self.hosts[usize::from(index)];
        let mut bytes = [0; 16];
        self.world.random.fill(&mut bytes);
        let nonce = ContractNonce(bytes);
        let key = self.keys.contract(&nonce);
        let account = self.keys.account(0);
        let terms = ContractTerms {
            contract: key.public(),
            nonce,
            tag: self.keys.recovery_tag().tag(&nonce, &host.key.public()),
            host: host.key.public(),
            refund: account.public(),
            period: Millis::hours(10),
            periods: 10,
            window: Millis::hours(1),
            window_blocks: 3,
            storage_price: Amount(1),
            collateral_rate: Amount(1),
            proof_fee: Amount(10),
            funds,
            collateral: Amount(1_000_000),
        };
        let action = Action::FormContract(Box::new(terms.clone()));
        self.chain.send(&account, &[&key, &host.key], action);
        let index = HostIndex(index);
        self.book.add_host(index, terms.host, format!("operator {}", index.0)).await.unwrap();
        let contract = self.world.chain.contract(&terms.contract).await.unwrap().unwrap();
        self.book.formed(&contract).await.unwrap()
    }

    /// The book after a restart.
    pub(crate) async fn reopen(&self) -> ContractBook {
        ContractBook::open(self.world.clone(), self.keys.clone(), self.writer.clone())
            .await
            .unwrap()
    }

    /// Does as it says for some hosts.
    pub(crate) fn set(&self, hosts: impl IntoIterator<Item = usize>, fault: Fault) {
        for host in hosts {
            self.hosts[host].set(fault);
        }
    }
}
