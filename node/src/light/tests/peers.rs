//! Peers that hold a real ledger, some of whom lie.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use samara_protocol::chain::query::{
    ChainRequest, ChainResponse, Finalized, ScannedBlock, TransactionStatus,
};
use samara_protocol::chain::{
    Action, Certificate, ChainParameters, Genesis, Header, Transaction, TransactionBody, Validator,
    ValidatorSet,
};
use samara_protocol::hash::TransactionId;
use samara_protocol::ledger::state::StateKey;
use samara_protocol::ledger::{
    MemoryState, StateReader, build_block, genesis_state, prove, records,
};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, ChainTime, Height};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::light::{AskError, ChainPeer};
use crate::transport::RequestError;

pub(super) const START: u64 = 1_000_000_000;

pub(super) fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}

pub(super) fn validators(bytes: &[u8]) -> Vec<Validator> {
    bytes.iter().map(|byte| Validator { key: secret(*byte).public(), power: 1 }).collect()
}

/// The one chain of a test, with validators whose keys are made of the given bytes.
pub(super) struct Chain {
    pub(super) genesis: Genesis,
    books: Mutex<Books>,
    pub(super) height: watch::Sender<u64>,
}

pub(super) struct Books {
    state: MemoryState,
    blocks: Vec<(ScannedBlock, Certificate, ValidatorSet)>,
    signers: Vec<u8>,
    included: BTreeMap<TransactionId, Height>,
}

impl Chain {
    pub(super) fn new() -> Arc<Self> {
        let genesis = Genesis {
            version: Genesis::VERSION,
            name: "light client".to_owned(),
            time: ChainTime(START),
            validators: ValidatorSet::new(validators(&[1, 2, 3])).unwrap(),
            allocations: vec![(secret(50).public(), Amount::coins(1_000))],
            parameters: ChainParameters::default(),
        };
        let state = MemoryState::new(genesis_state(&genesis).unwrap());
        let (signers, included) = (vec![1, 2, 3], BTreeMap::new());
        let books = Mutex::new(Books { state, blocks: Vec::new(), signers, included });
        Arc::new(Self { genesis, books, height: watch::Sender::new(0) })
    }

    /// Makes a block of these transactions; those that change the set say who signs afterwards.
    pub(super) fn block(&self, transactions: Vec<Transaction>, next: Option<&[u8]>) {
        let mut guard = self.books.lock().unwrap();
        let books = &mut *guard;
        let parent = books.blocks.last().map(|(block, ..)| block.header);
        let number = books.blocks.len() as u64 + 1;
        let time = ChainTime(START + number * 1_000);
        let built =
            build_block(&books.state, &self.genesis, parent.as_ref(), time, transactions).unwrap();
        let header = built.block.header;
        for transaction in &built.block.transactions {
            books.included.insert(transaction.id(), header.height);
        }
        let certificate = certify(&header, &books.signers);
        let set = ValidatorSet::new(validators(&books.signers)).unwrap();
        let scanned = ScannedBlock { header, records: records(&built.block) };
        books.blocks.push((scanned, certificate, set));
        books.state.apply(built.changes);
        if let Some(next) = next {
            books.signers = next.to_vec();
        }
        drop(guard);
        self.height.send_replace(number);
    }

    pub(super) fn grow(&self, blocks: u64) {
        for _ in 0..blocks {
            self.block(Vec::new(), None);
        }
    }

    pub(super) fn tip_time(&self) -> u64 {
        START + *self.height.borrow() * 1_000
    }

    pub(super) fn finalized(&self, height: u64) -> Option<Finalized> {
        let books = self.books.lock().unwrap();
        let (block, certificate, _) = books.blocks.get(usize::try_from(height).ok()? - 1)?;
        Some(Finalized { header: block.header, certificate: certificate.clone() })
    }

    pub(super) fn tip(&self) -> Option<Finalized> {
        let height = *self.height.borrow();
        if height == 0 { None } else { self.finalized(height) }
    }

    pub(super) fn transaction(
        &self,
        sender: u8,
        nonce: u64,
        action: Action,
        also: &[u8],
    ) -> Transaction {
        let body = TransactionBody {
            genesis: self.genesis.hash(),
            account: secret(sender).public(),
            nonce,
            fee: self.genesis.parameters.minimum_fee,
            valid_until: TransactionBody::ALWAYS,
            action,
        };
        let keys: Vec<SecretKey> = [sender].iter().chain(also).map(|byte| secret(*byte)).collect();
        Transaction::signed(body, &keys.iter().collect::<Vec<_>>())
    }

    pub(super) fn transfer(&self, nonce: u64, to: u8, coins: u64) -> Transaction {
        let (to, amount) = (secret(to).public(), Amount::coins(coins));
        self.transaction(50, nonce, Action::Transfer { to, amount }, &[])
    }

    pub(super) async fn answer(&self, request: ChainRequest) -> ChainResponse {
        match request {
            ChainRequest::Tip { above } => {
                let above = above.map_or(0, |height| height.0 + 1);
                let mut height = self.height.subscribe();
                height.wait_for(|height| *height >= above).await.unwrap();
                ChainResponse::Tip(self.tip().map(Box::new))
            }
            ChainRequest::Batch { from, limit } => {
                let books = self.books.lock().unwrap();
                let skip = from.0 as usize - 1;
                let blocks = books.blocks.iter().skip(skip).take(limit as usize);
                ChainResponse::Batch(blocks.map(|(block, ..)| block.clone()).collect())
            }
            ChainRequest::Decision(height) => {
                let books = self.books.lock().unwrap();
                match books.blocks.get(height.0 as usize - 1) {
                    Some((_, certificate, set)) => ChainResponse::Decision {
                        validators: set.clone(),
                        certificate: Box::new(certificate.clone()),
                    },
                    None => ChainResponse::Refused("no such block".to_owned()),
                }
            }
            ChainRequest::State(keys) => {
                let Some(at) = self.tip() else {
                    return ChainResponse::Refused("no block".to_owned());
                };
                let books = self.books.lock().unwrap();
                let value = |key: &StateKey| {
                    let value = books.state.value(key).unwrap().map(serde_bytes::ByteBuf::from);
                    (value, prove(&books.state, at.header.height, key).unwrap())
                };
                let values = keys.iter().map(value).collect();
                drop(books);
                ChainResponse::State { at: Box::new(at), values }
            }
            ChainRequest::Hosts { after, limit } => {
                let books = self.books.lock().unwrap();
                let hosts = books.state.values().filter_map(|(key, _)| match key {
                    StateKey::Host(host) if after.is_none_or(|after| *host > after) => Some(*host),
                    _ => None,
                });
                ChainResponse::Hosts(hosts.take(limit as usize).collect())
            }
            ChainRequest::Submit(transaction) => {
                let id = transaction.id();
                self.block(vec![*transaction], None);
                ChainResponse::Accepted(id)
            }
            ChainRequest::Transaction(id) => {
                let books = self.books.lock().unwrap();
                let included = books.included.get(&id).copied();
                ChainResponse::Transaction(
                    included.map_or(TransactionStatus::Unknown, TransactionStatus::Included),
                )
            }
        }
    }
}

pub(super) fn certify(header: &Header, signers: &[u8]) -> Certificate {
    let keys: Vec<SecretKey> = signers.iter().map(|byte| secret(*byte)).collect();
    Certificate::sign(header, &keys)
}

/// Changes a true answer into what the peer says.
pub(super) type Lie = fn(&mut ChainResponse);

/// A peer that tells the truth about a chain, except for its lie.
pub(super) struct Peer {
    pub(super) key: PublicKey,
    chain: Arc<Chain>,
    lie: Option<Lie>,
    pub(super) asked: AtomicUsize,
    /// First heights of the batches asked for.
    pub(super) batches: Mutex<Vec<u64>>,
}

impl Peer {
    pub(super) fn new(byte: u8, chain: &Arc<Chain>, lie: Option<Lie>) -> Arc<Self> {
        Arc::new(Self {
            key: secret(byte).public(),
            chain: Arc::clone(chain),
            lie,
            asked: AtomicUsize::new(0),
            batches: Mutex::new(Vec::new()),
        })
    }
}

#[async_trait]
impl ChainPeer for Peer {
    fn key(&self) -> PublicKey {
        self.key
    }

    async fn ask(
        &self,
        request: ChainRequest,
        deadline: Duration,
    ) -> Result<ChainResponse, AskError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let ChainRequest::Batch { from, .. } = &request {
            self.batches.lock().unwrap().push(from.0);
        }
        let mut answer = timeout(deadline, self.chain.answer(request))
            .await
            .map_err(|_| RequestError::TimedOut { peer: self.key, deadline })?;
        if let Some(lie) = self.lie {
            lie(&mut answer);
        }
        Ok(answer)
    }
}
