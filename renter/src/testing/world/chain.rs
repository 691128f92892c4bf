//! The real ledger in memory: each transaction makes a block.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::{
    Action, Certificate, Genesis, Header, Transaction, TransactionBody, ValidatorSet,
};
use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::TransactionId;
use samara_protocol::host::HostAnnouncement;
use samara_protocol::host::core::ChainFacts;
use samara_protocol::ledger::state::{Account, Contract, StateKey};
use samara_protocol::ledger::{MemoryState, StateReader as _, build_block, genesis_state};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{ChainTime, Height, Millis};

use super::secret;
use crate::world::{ChainError, ChainView};

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
    /// Whether who asks for one of those waits.
    patient: bool,
    /// Most blocks of an answer, and how long it takes.
    pace: Option<(usize, Millis)>,
    /// First heights of the batches that were asked for.
    asked: Vec<u64>,
}

impl TestChain {
    pub(super) fn new(genesis: Genesis) -> Self {
        let state = MemoryState::new(genesis_state(&genesis).unwrap());
        let inner = ChainInner {
            state,
            tip: None,
            included: BTreeMap::new(),
            hosts: Vec::new(),
            blocks: Vec::new(),
            held: None,
            patient: false,
            pace: None,
            asked: Vec::new(),
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

    /// As [`TestChain::hold`], and who asks whether one of them is in a block waits until it is.
    pub(crate) fn hold_patiently(&self) {
        self.hold();
        self.inner.lock().unwrap().patient = true;
    }

    /// Answers with so many blocks at most from now on, and after so long.
    pub(crate) fn slow_down(&self, blocks: usize, span: Millis) {
        self.inner.lock().unwrap().pace = Some((blocks, span));
    }

    /// First heights of the batches that were asked for since the last call.
    pub(crate) fn take_asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.inner.lock().unwrap().asked)
    }

    /// Whether a transaction is held back, and that is no reason to give it up.
    fn is_awaited(&self, id: &TransactionId) -> bool {
        let inner = self.inner.lock().unwrap();
        let held = inner.held.as_ref().filter(|_| inner.patient);
        held.is_some_and(|held| held.iter().any(|transaction| transaction.id() == *id))
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

    pub(super) fn facts(
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

    fn time(&self) -> ChainTime {
        self.inner.lock().unwrap().tip.map_or(self.genesis.time, |tip| tip.time)
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
        while self.is_awaited(id) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let inner = self.inner.lock().unwrap();
        inner.included.get(id).copied().ok_or(ChainError::Dropped(*id))
    }

    async fn batch(&self, from: Height, limit: u32) -> Result<Vec<ScannedBlock>, ChainError> {
        let pace = self.inner.lock().unwrap().pace;
        let most = pace.map_or(usize::MAX, |(blocks, _)| blocks).min(limit as usize);
        if let Some((_, span)) = pace {
            tokio::time::sleep(std::time::Duration::from_millis(span.0)).await;
        }
        let mut inner = self.inner.lock().unwrap();
        inner.asked.push(from.0);
        let skip = usize::try_from(from.0 - 1).unwrap();
        Ok(inner.blocks.iter().skip(skip).take(most).cloned().collect())
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
