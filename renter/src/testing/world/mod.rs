//! A small world for tests: the real ledger, real hosts over stores in memory, a paused clock.

mod chain;
mod hosts;
mod machine;

use std::sync::Arc;

use samara_protocol::chain::{Action, ChainParameters, Genesis, Validator, ValidatorSet};
use samara_protocol::contract::ContractTerms;
use samara_protocol::hash::ContractNonce;
use samara_protocol::host::core::{Host, HostRules};
use samara_protocol::host::memory::MemoryStore;
use samara_protocol::host::{HostAnnouncement, Prices};
use samara_protocol::journal::HostIndex;
use samara_protocol::keys::phrase::Phrase;
use samara_protocol::keys::tree::KeyTree;
use samara_protocol::signature::SecretKey;
use samara_protocol::units::{Amount, ChainTime, Epoch, Millis};
use zeroize::Zeroizing;

pub(crate) use self::chain::TestChain;
use self::hosts::TestHosts;
pub(crate) use self::hosts::{Fault, TestHost};
use self::machine::{Inline, NoFiles, TestClock, TestRandom, TestSpawner};
use crate::contract::{ContractBook, ContractHandle, Writer};
pub(crate) use crate::memory::MemoryStore as TestStore;
use crate::world::World;

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
            all.push(Arc::new(TestHost::new(key, disk, host)));
        }
        let world = World {
            chain: chain.clone(),
            hosts: Arc::new(TestHosts::new(chain.clone(), &all)),
            store: Arc::new(TestStore::default()),
            files: Arc::new(NoFiles),
            clock: Arc::new(TestClock::start()),
            random: Arc::new(TestRandom::default()),
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
