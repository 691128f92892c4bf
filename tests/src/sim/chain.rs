//! The simulated chain: the real ledger over a state in memory, one validator, real certificates.
//!
//! Blocks are made on demand: some time after a transaction was handed in, and when somebody looks
//! and the last block is older than a heartbeat or a deadline is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::{
    Action, Certificate, ChainParameters, Genesis, Header, Transaction, TransactionBody, Validator,
    ValidatorSet,
};
use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::TransactionId;
use samara_protocol::host::HostAnnouncement;
use samara_protocol::host::core::ChainFacts;
use samara_protocol::ledger::block::{build_block, check_transaction, records, wants_block};
use samara_protocol::ledger::state::{Account, Contract, StateKey};
use samara_protocol::ledger::{MemoryState, StateReader, genesis_state};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime, Height, Millis};
use samara_renter::world::{ChainError, ChainView};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::chance::Chance;
use super::trace::{Fault, Trace};

/// Milliseconds since the Unix epoch when every run starts.
pub const EPOCH: u64 = 2_000_000_000_000;
const HEARTBEAT: Millis = Millis::seconds(60);
/// Wait of a question that finds nobody.
const SILENCE: Duration = Duration::from_secs(5);

/// A key that is the same in every run.
#[must_use]
pub fn fixed_key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([number; 32]))
}

/// The chain. A cheap clone.
#[derive(Clone)]
pub struct SimChain(Arc<Shared>);

struct Shared {
    genesis: Genesis,
    validator: SecretKey,
    treasury: SecretKey,
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: MemoryState,
    blocks: Vec<ScannedBlock>,
    included: BTreeMap<TransactionId, Height>,
    pending: Vec<Transaction>,
    announced: BTreeSet<PublicKey>,
    chance: Chance,
    /// Questions of 1,000 that find nobody.
    silent: u64,
    /// Transactions of 1,000 that are accepted and dropped.
    dropped: u64,
}

impl SimChain {
    /// A chain without a block.
    ///
    /// # Panics
    /// Never: the genesis document is valid.
    #[must_use]
    pub fn new(seed: u64, trace: Arc<Trace>) -> Self {
        let (validator, treasury) = (fixed_key(254), fixed_key(255));
        let validators = vec![Validator { key: validator.public(), power: 1 }];
        let genesis = Genesis {
            version: Genesis::VERSION,
            name: format!("simulation {seed}"),
            time: ChainTime(EPOCH - 1_000),
            validators: ValidatorSet::new(validators).expect("one validator"),
            allocations: vec![(treasury.public(), Amount::coins(1_000_000))],
            parameters: ChainParameters { heartbeat: HEARTBEAT, ..ChainParameters::default() },
        };
        let inner = Inner {
            state: MemoryState::new(genesis_state(&genesis).expect("a valid genesis")),
            blocks: Vec::new(),
            included: BTreeMap::new(),
            pending: Vec::new(),
            announced: BTreeSet::new(),
            chance: Chance::new(seed, "chain"),
            silent: 0,
            dropped: 0,
        };
        let inner = Mutex::new(inner);
        Self(Arc::new(Shared { genesis, validator, treasury, trace, inner }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0.inner)
    }

    /// Sets how often, of 1,000 times, a question finds nobody and a transaction gets lost.
    pub fn set_faults(&self, silent: u64, dropped: u64) {
        let mut inner = self.lock();
        (inner.silent, inner.dropped) = (silent, dropped);
    }

    fn read<T: DeserializeOwned>(&self, inner: &Inner, key: &StateKey) -> Option<T> {
        let value = inner.state.value(key).expect("a state in memory can be read")?;
        Some(encoding::decode(&value).expect("the ledger's own bytes"))
    }

    /// Puts everything that waits into a block.
    ///
    /// # Panics
    /// When the ledger refuses to build one.
    pub fn make_block(&self) {
        let mut inner = self.lock();
        self.make_block_with(&mut inner);
    }

    fn make_block_with(&self, inner: &mut Inner) {
        let parent = inner.blocks.last().map(|block| block.header);
        let last = parent.map_or(self.0.genesis.time, |header| header.time);
        let now = ChainTime((EPOCH + self.0.trace.elapsed()).max(last.0 + 1));
        let candidates = std::mem::take(&mut inner.pending);
        let built = build_block(&inner.state, &self.0.genesis, parent.as_ref(), now, candidates)
            .expect("a block can be built");
        for (id, reason) in &built.rejected {
            self.0.trace.event(format_args!("chain rejects {id}: {reason}"));
        }
        let header = built.block.header;
        for transaction in &built.block.transactions {
            inner.included.insert(transaction.id(), header.height);
            if let Action::AnnounceHost(_) = transaction.body.action {
                inner.announced.insert(transaction.body.account);
            }
        }
        let records = records(&built.block);
        self.0.trace.event(format_args!("chain block {} {}", header.height, header.hash()));
        inner.blocks.push(ScannedBlock { header, records });
        inner.state.apply(built.changes);
    }

    /// Makes the block that is due, if one is.
    fn catch_up(&self, inner: &mut Inner) {
        let now = ChainTime(EPOCH + self.0.trace.elapsed());
        let old = inner.blocks.last().is_none_or(|b| now.since(b.header.time) >= HEARTBEAT);
        if old || wants_block(&inner.state, now).expect("a state in memory can be read") {
            self.make_block_with(inner);
        }
    }

    /// Signs and includes a transaction at once: for the setting up of a run.
    ///
    /// # Panics
    /// When it is refused.
    pub fn send(&self, key: &SecretKey, others: &[&SecretKey], action: Action) {
        let mut inner = self.lock();
        let account = key.public();
        let nonce =
            self.read::<Account>(&inner, &StateKey::Account(account)).unwrap_or_default().nonce;
        let fee = self.0.genesis.parameters.minimum_fee;
        let genesis = self.0.genesis.hash();
        let valid_until = TransactionBody::ALWAYS;
        let body = TransactionBody { genesis, account, nonce, fee, valid_until, action };
        let keys: Vec<&SecretKey> = std::iter::once(key).chain(others.iter().copied()).collect();
        let transaction = Transaction::signed(body, &keys);
        let id = transaction.id();
        inner.pending.push(transaction);
        self.make_block_with(&mut inner);
        assert!(inner.included.contains_key(&id), "a transaction of the setting up was refused");
    }

    /// Gives money from the treasury.
    pub fn fund(&self, to: PublicKey, amount: Amount) {
        let treasury = self.0.treasury.clone();
        self.send(&treasury, &[], Action::Transfer { to, amount });
    }

    /// A live contract.
    #[must_use]
    pub fn contract_of(&self, id: &ContractId) -> Option<Contract> {
        let inner = self.lock();
        self.read(&inner, &StateKey::Contract(*id))
    }

    /// What a host's shell reads from the chain for one request.
    #[must_use]
    pub fn facts(
        &self,
        host: &PublicKey,
        payer: Option<PublicKey>,
        contract: Option<ContractId>,
    ) -> ChainFacts {
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        let tip = inner.blocks.last().map(|block| block.header);
        let account =
            |key| self.read::<Account>(&inner, &StateKey::Account(key)).unwrap_or_default();
        ChainFacts {
            now: tip.map_or(self.0.genesis.time, |tip| tip.time),
            tip: tip.map_or(Height(0), |tip| tip.height),
            payer: payer.map(account).unwrap_or_default(),
            balance: account(*host).balance,
            contract: contract.and_then(|id| self.read(&inner, &StateKey::Contract(id))),
        }
    }

    /// The chain as one renter's machine sees it.
    async fn ask(&self, what: &str) -> Result<(), ChainError> {
        tokio::task::yield_now().await;
        let silent = {
            let mut inner = self.lock();
            let rate = inner.silent;
            inner.chance.per_mille(rate)
        };
        if silent {
            self.0.trace.fault(Fault::ChainSilent, format_args!("{what}"));
            tokio::time::sleep(SILENCE).await;
            return Err(ChainError::Unreachable("the simulated peers are silent".into()));
        }
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        Ok(())
    }

    fn certificate(&self, header: &Header) -> Certificate {
        Certificate::sign(header, std::slice::from_ref(&self.0.validator))
    }

    fn finalized(&self, inner: &Inner) -> Option<Finalized> {
        let header = inner.blocks.last()?.header;
        Some(Finalized { header, certificate: self.certificate(&header) })
    }
}

#[async_trait]
impl ChainView for SimChain {
    fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    fn time(&self) -> ChainTime {
        let inner = self.lock();
        self.finalized(&inner).map_or(self.0.genesis.time, |tip| tip.header.time)
    }

    async fn tip(&self) -> Result<Option<Finalized>, ChainError> {
        self.ask("tip").await?;
        let inner = self.lock();
        Ok(self.finalized(&inner))
    }

    async fn tip_above(&self, height: Height) -> Result<Finalized, ChainError> {
        loop {
            {
                let mut inner = self.lock();
                self.catch_up(&mut inner);
                if let Some(tip) = self.finalized(&inner).filter(|tip| tip.header.height > height) {
                    return Ok(tip);
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn account(&self, key: &PublicKey) -> Result<Account, ChainError> {
        self.ask("account").await?;
        let inner = self.lock();
        Ok(self.read(&inner, &StateKey::Account(*key)).unwrap_or_default())
    }

    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, ChainError> {
        self.ask("contract").await?;
        Ok(self.contract_of(id))
    }

    async fn announced_hosts(&self) -> Result<Vec<(PublicKey, HostAnnouncement)>, ChainError> {
        self.ask("hosts").await?;
        let inner = self.lock();
        let hosts = inner.announced.iter();
        Ok(hosts
            .filter_map(|host| Some((*host, self.read(&inner, &StateKey::Host(*host))?)))
            .collect())
    }

    async fn submit(&self, transaction: Transaction) -> Result<TransactionId, ChainError> {
        self.ask("submit").await?;
        let id = transaction.id();
        let delay = {
            let mut inner = self.lock();
            if inner.included.contains_key(&id) || inner.pending.iter().any(|tx| tx.id() == id) {
                return Ok(id);
            }
            let height = inner.blocks.last().map_or(Height(1), |block| block.header.height.next());
            let now = ChainTime(EPOCH + self.0.trace.elapsed());
            check_transaction(&inner.state, &self.0.genesis, height, now, &transaction)
                .map_err(|error| ChainError::Refused(error.to_string()))?;
            let rate = inner.dropped;
            if inner.chance.per_mille(rate) {
                self.0.trace.fault(Fault::TransactionDropped, format_args!("{id}"));
                return Ok(id);
            }
            inner.pending.push(transaction);
            inner.chance.within(20, 900)
        };
        let chain = self.clone();
        // The network's own task: it goes on when the renter dies.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            chain.make_block();
        });
        Ok(id)
    }

    async fn included(&self, id: &TransactionId) -> Result<Height, ChainError> {
        loop {
            self.ask("included").await?;
            {
                let inner = self.lock();
                if let Some(height) = inner.included.get(id) {
                    return Ok(*height);
                }
                if !inner.pending.iter().any(|transaction| transaction.id() == *id) {
                    return Err(ChainError::Dropped(*id));
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn batch(&self, from: Height, limit: u32) -> Result<Vec<ScannedBlock>, ChainError> {
        self.ask("batch").await?;
        let inner = self.lock();
        // Short batches, so that a scan takes several even of a short chain.
        let limit = usize::try_from(limit.min(16)).unwrap_or(16);
        let skip = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        Ok(inner.blocks.iter().skip(skip).take(limit).cloned().collect())
    }

    async fn decision(&self, height: Height) -> Result<(ValidatorSet, Certificate), ChainError> {
        self.ask("decision").await?;
        let inner = self.lock();
        let index = usize::try_from(height.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let block = inner
            .blocks
            .get(index)
            .ok_or_else(|| ChainError::False(format!("there is no block {height}")))?;
        Ok((self.0.genesis.validators.clone(), self.certificate(&block.header)))
    }

    async fn peers(&self) -> usize {
        2
    }
}
