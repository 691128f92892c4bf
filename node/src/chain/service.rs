//! The chain as the rest of the node and its peers see it: tip, state, submissions, answers.
//!
//! Shared behind an `Arc`. Blocks are written by [`super::ChainApplication`] only; this is the side that
//! reads, takes transactions and tells others of a new tip.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use serde_bytes::ByteBuf;
use tokio::sync::{Notify, Semaphore, watch};

use samara_protocol::chain::query::{
    ChainRequest, ChainResponse, Finalized, LONG_POLL, MAX_ANSWER, MAX_BATCH, MAX_KEYS,
    TransactionStatus,
};
use samara_protocol::chain::{Block, Genesis, Transaction, ValidatorSet};
use samara_protocol::encoding;
use samara_protocol::hash::{BlockHash, TransactionId};
use samara_protocol::ledger::state::StateKey;
use samara_protocol::ledger::{
    StateChanges, StateError, StateReader as _, TransactionError, prove,
};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::units::{ChainTime, Height, Millis};

use super::error::{ApplicationError, StoreError};
use super::guard::{ClockGuard, ClockLead};
use super::long_polls::LongPolls;
use super::mempool::{Limits, Mempool, SubmitError, Tip, candidate_limit};
use super::snapshot::Snapshot;
use super::store::{Store, VoteLog};
use crate::causes::with_causes;
use crate::clock::{Clock, Elapsed};

/// Answers that are read from disk at once; more wait.
const READERS: usize = 8;
/// Room in an answer for what surrounds a batch's blocks.
const BATCH_FRAME: usize = 16;
/// Room in an answer for a header and the largest certificate.
const FINALIZED: usize = 16 << 10;

/// How transactions reach the other nodes.
pub trait Gossip: Send + Sync {
    /// Sends an encoded transaction to all nodes, without waiting.
    fn publish(&self, transaction: Vec<u8>);
}

/// What to do with a message of the transactions' gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// It is good and new: pass it on.
    Accept,
    /// It is of no use now, which is nobody's fault.
    Ignore,
    /// It could never be good: whoever sent it should know better.
    Reject,
}

/// The chain on this node.
pub struct Chain {
    genesis: Genesis,
    genesis_hash: BlockHash,
    store: Store,
    clock: Clock,
    /// For a validator: of what its clock says, only what is explained goes into blocks.
    guard: OnceLock<ClockGuard>,
    pool: Mutex<Mempool>,
    tip: watch::Sender<Option<Arc<Finalized>>>,
    wake: Arc<Notify>,
    gossip: OnceLock<Arc<dyn Gossip>>,
    readers: Semaphore,
    long_polls: LongPolls,
}

impl Chain {
    /// Opens the chain in a folder. [`super::open`] also gives what drives it.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used.
    pub fn open(
        folder: &Path,
        genesis: Genesis,
        limits: Limits,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let store = Store::open(folder, &genesis)?;
        let snapshot = store.snapshot()?;
        let tip = snapshot.finalized(snapshot.height()?)?.map(Arc::new);
        drop(snapshot);
        Ok(Arc::new(Self {
            genesis_hash: genesis.hash(),
            genesis,
            store,
            clock,
            guard: OnceLock::new(),
            pool: Mutex::new(Mempool::new(limits)),
            tip: watch::channel(tip).0,
            long_polls: LongPolls::default(),
            wake: Arc::default(),
            gossip: OnceLock::new(),
            readers: Semaphore::new(READERS),
        }))
    }

    /// Connects the gossip of transactions. Only the first call counts.
    pub fn connect_gossip(&self, gossip: Arc<dyn Gossip>) {
        let _ = self.gossip.set(gossip);
    }

    /// To be handed to consensus: notified when a transaction has come.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// The genesis document.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The genesis document's hash.
    #[must_use]
    pub const fn genesis_hash(&self) -> &BlockHash {
        &self.genesis_hash
    }

    /// The tip, and every later one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Finalized>>> {
        self.tip.subscribe()
    }

    /// The tip now; nothing before the first block.
    #[must_use]
    pub fn tip(&self) -> Option<Arc<Finalized>> {
        self.tip.borrow().clone()
    }

    /// Height of the tip.
    #[must_use]
    pub fn height(&self) -> Height {
        self.tip.borrow().as_ref().map_or(Height(0), |tip| tip.header.height)
    }

    /// The set that decides the block after the tip.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_validators(&self) -> Result<ValidatorSet, StoreError> {
        let snapshot = self.snapshot()?;
        snapshot.validators(snapshot.height()?.next())
    }

    /// As [`Store::vote_log`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn vote_log(&self, voter: &PublicKey) -> Result<Option<VoteLog>, StoreError> {
        self.store.vote_log(voter)
    }

    /// As [`Store::set_vote_log`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_vote_log(&self, voter: &PublicKey, log: VoteLog) -> Result<(), StoreError> {
        self.store.set_vote_log(voter, log)
    }

    /// A consistent view for reading.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.store.snapshot()
    }

    /// The clock's time, as far as it is believed.
    #[must_use]
    pub fn now(&self) -> ChainTime {
        let wall = (self.clock)();
        self.guard.get().map_or(wall, |guard| guard.now(wall))
    }

    /// Guards the clock of a node that may vote with this key: to be called before consensus starts.
    /// Only the first call counts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn guard_clock(&self, voter: PublicKey, elapsed: Elapsed) -> Result<(), StoreError> {
        let alone = decides_alone(&self.next_validators()?, &voter);
        let tip = self.tip().map(|tip| tip.header.time);
        let guard = ClockGuard::new(voter, elapsed, alone, (self.clock)(), tip);
        let _ = self.guard.set(guard);
        Ok(())
    }

    /// How far the clock is ahead of what this node believes; nothing if it is believed.
    #[must_use]
    pub fn clock_lead(&self) -> Option<ClockLead> {
        self.guard.get()?.lead((self.clock)())
    }

    /// Takes the operator's word that the clock is right, which is about `ahead` milliseconds ahead.
    /// Gives `false` if it is not ahead by so much.
    #[must_use]
    pub fn accept_clock(&self, ahead: u64) -> bool {
        let accepted = self.guard.get().is_some_and(|guard| guard.accept((self.clock)(), ahead));
        if accepted {
            // Deadlines may be due.
            self.wake.notify_one();
        }
        accepted
    }

    /// After a block: who decides the next one.
    pub(super) fn guard_decided(&self, time: ChainTime, next: &ValidatorSet) {
        if let Some(guard) = self.guard.get() {
            guard.decided(time, decides_alone(next, &guard.voter));
        }
    }

    // --- transactions --------------------------------------------------------------------------

    /// Takes a transaction into the pool and passes it on. Reads the disk and checks signatures.
    ///
    /// # Errors
    /// [`SubmitError`] when it cannot be in a block, or the pool is full.
    pub fn submit(&self, transaction: Transaction) -> Result<TransactionId, SubmitError> {
        let id = transaction.id();
        let bytes = encoding::encode(&transaction);
        if self.take(transaction)?
            && let Some(gossip) = self.gossip.get()
        {
            gossip.publish(bytes);
        }
        Ok(id)
    }

    /// Judges and keeps a transaction that came by gossip.
    #[must_use]
    pub fn receive(&self, bytes: &[u8]) -> Relay {
        let transaction = encoding::decode_canonical::<Transaction>(bytes);
        let outcome = transaction.map_err(SubmitError::from).and_then(|tx| self.take(tx));
        match outcome {
            Ok(true) => Relay::Accept,
            Ok(false) => Relay::Ignore,
            Err(SubmitError::Malformed(_)) => Relay::Reject,
            Err(SubmitError::Invalid { id, source }) => {
                tracing::debug!(transaction = %id, error = %source, "refused from gossip");
                let forged = matches!(
                    *source,
                    TransactionError::WrongChain(_)
                        | TransactionError::TooLarge(_)
                        | TransactionError::FalseSignature(_)
                        | TransactionError::MissingSignature(_)
                );
                if forged { Relay::Reject } else { Relay::Ignore }
            }
            Err(_) => Relay::Ignore,
        }
    }

    /// Passes on again what waits here, at most `limit` transactions: to be called now and then, for
    /// what was submitted while no peer was there.
    pub fn republish(&self, limit: usize) {
        let Some(gossip) = self.gossip.get() else { return };
        let waiting = self.pool().candidates(limit);
        waiting.iter().for_each(|transaction| gossip.publish(encoding::encode(transaction)));
    }

    /// Puts a transaction into the pool; gives whether it is new.
    fn take(&self, transaction: Transaction) -> Result<bool, SubmitError> {
        let id = transaction.id();
        // The pool's lock comes first: a block between reading the state and adding would otherwise
        // leave a transaction in the pool that the block holds.
        let mut pool = self.pool();
        let snapshot = self.snapshot()?;
        if snapshot.transaction_height(&id)?.is_some() {
            return Ok(false);
        }
        let parent = snapshot.tip()?;
        let tip_time = parent.map_or(self.genesis.time, |parent| parent.time);
        let tip = Tip {
            reader: &snapshot,
            genesis: &self.genesis,
            height: parent.map_or(Height(1), |parent| parent.height.next()),
            time: self.now().max(tip_time.plus(Millis(1))),
        };
        let new = pool.add(&tip, transaction)?;
        let ready = pool.has_ready();
        drop(pool);
        if new && ready {
            self.wake.notify_one();
        }
        Ok(new)
    }

    /// The nonce for the account's next transaction, after all of its ready ones in the pool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_nonce(&self, account: &PublicKey) -> Result<u64, StoreError> {
        let pool = self.pool();
        let on_chain = self.snapshot()?.account(account)?.nonce;
        Ok(pool.next_nonce(account, on_chain))
    }

    /// Number of transactions that wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pool().len()
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn transaction_status(&self, id: &TransactionId) -> Result<TransactionStatus, StoreError> {
        // The pool first: what leaves it meanwhile is found in the store.
        let pending = self.pool().contains(id);
        Ok(match self.snapshot()?.transaction_height(id)? {
            Some(height) => TransactionStatus::Included(height),
            None if pending => TransactionStatus::Pending,
            None => TransactionStatus::Unknown,
        })
    }

    fn pool(&self) -> MutexGuard<'_, Mempool> {
        lock(&self.pool)
    }

    // --- for the application -------------------------------------------------------------------

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn has_ready(&self) -> bool {
        self.pool().has_ready()
    }

    pub(super) fn candidates(&self) -> Vec<Transaction> {
        self.pool().candidates(candidate_limit(self.genesis.parameters.block_transactions))
    }

    pub(super) fn evict(&self, rejected: &[(TransactionId, TransactionError)]) {
        self.pool().evict(rejected);
    }

    /// After a commit: the pool follows, then everybody hears of the tip.
    pub(super) fn advance(
        &self,
        finalized: Finalized,
        block: &Block,
        changes: &StateChanges,
        next_time: ChainTime,
    ) -> Result<(), ApplicationError> {
        let mut pool = self.pool();
        let snapshot = self.snapshot()?;
        let height = finalized.header.height.next();
        let tip = Tip { reader: &snapshot, genesis: &self.genesis, height, time: next_time };
        pool.update(&tip, block, changes)?;
        drop(pool);
        self.tip.send_replace(Some(Arc::new(finalized)));
        Ok(())
    }

    // --- answers -------------------------------------------------------------------------------

    /// Answers as [`Chain::answer`] does, with the present tip at once where too many peers wait for
    /// a higher one.
    pub async fn answer_peer(self: &Arc<Self>, from: PublicKey, request: ChainRequest) -> Vec<u8> {
        if let ChainRequest::Tip { above: Some(_) } = request {
            let Some(poll) = self.long_polls.enter(from) else {
                return self.answer(ChainRequest::Tip { above: None }).await;
            };
            return tokio::select! {
                answer = self.answer(request) => answer,
                () = poll.replaced() => self.answer(ChainRequest::Tip { above: None }).await,
            };
        }
        self.answer(request).await
    }

    /// Answers a question with an encoded [`ChainResponse`] of at most about
    /// [`MAX_ANSWER`] bytes. Waits for a higher tip if asked to.
    pub async fn answer(self: &Arc<Self>, request: ChainRequest) -> Vec<u8> {
        if let ChainRequest::Tip { above } = request {
            return encoding::encode(&ChainResponse::Tip(self.tip_above(above).await));
        }
        let Ok(_permit) = self.readers.acquire().await else { return refused("closing") };
        let chain = self.clone();
        let read = tokio::task::spawn_blocking(move || chain.answer_now(request));
        read.await.unwrap_or_else(|_| refused("the answer failed"))
    }

    async fn tip_above(&self, above: Option<Height>) -> Option<Box<Finalized>> {
        let mut tips = self.subscribe();
        if let Some(above) = above {
            let higher =
                tips.wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.header.height > above));
            // Without a higher tip in time, the old one is the answer.
            let _ = tokio::time::timeout(LONG_POLL, higher).await;
        }
        self.tip().map(|tip| Box::new(tip.as_ref().clone()))
    }

    /// Answers a question other than the long poll, at once; blocks on the disk.
    #[must_use]
    pub fn answer_now(&self, request: ChainRequest) -> Vec<u8> {
        let answer = match request {
            // The one answer that must be fast: stored bytes, copied.
            ChainRequest::Batch { from, limit } => self.batch(from, limit),
            request => self.respond(request).map(|response| encoding::encode(&response)),
        };
        answer.unwrap_or_else(|error| {
            tracing::warn!(error = with_causes(&error), "a peer's question failed");
            refused("this node cannot read its chain")
        })
    }

    fn respond(&self, request: ChainRequest) -> Result<ChainResponse, AnswerError> {
        let snapshot = self.snapshot()?;
        Ok(match request {
            ChainRequest::Tip { .. } => {
                ChainResponse::Tip(self.tip().map(|tip| Box::new(tip.as_ref().clone())))
            }
            ChainRequest::Batch { .. } => ChainResponse::Refused("ask for bytes".to_owned()),
            ChainRequest::Decision(height) => match snapshot.certificate(height)? {
                Some(certificate) => ChainResponse::Decision {
                    validators: snapshot.validators(height)?,
                    certificate: Box::new(certificate),
                },
                None => ChainResponse::Refused(format!("there is no block {height}")),
            },
            ChainRequest::State(keys) => state(&snapshot, &keys)?,
            ChainRequest::Hosts { after, limit } => {
                let limit = usize::try_from(limit).unwrap_or(MAX_KEYS).min(MAX_KEYS);
                ChainResponse::Hosts(snapshot.hosts(after.as_ref(), limit)?)
            }
            ChainRequest::Submit(transaction) => {
                drop(snapshot);
                match self.submit(*transaction) {
                    Ok(id) => ChainResponse::Accepted(id),
                    Err(error) => ChainResponse::Refused(with_causes(&error)),
                }
            }
            ChainRequest::Transaction(id) => {
                ChainResponse::Transaction(self.transaction_status(&id)?)
            }
        })
    }

    /// The encoding of [`ChainResponse::Batch`], put together from stored blocks.
    fn batch(&self, from: Height, limit: u32) -> Result<Vec<u8>, AnswerError> {
        let limit = usize::try_from(limit.min(MAX_BATCH)).unwrap_or(0);
        let mut blocks = Vec::with_capacity(limit.saturating_mul(256).min(MAX_ANSWER));
        let room = MAX_ANSWER - BATCH_FRAME;
        let count = self.snapshot()?.scanned_bytes(from, limit, room, &mut blocks)?;
        let mut answer = batch_frame(count);
        answer.append(&mut blocks);
        Ok(answer)
    }
}

/// Whether a key's power alone is enough to decide.
fn decides_alone(set: &ValidatorSet, key: &PublicKey) -> bool {
    set.find(key).is_some_and(|validator| set.is_quorum(validator.power))
}

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
}

fn refused(reason: &str) -> Vec<u8> {
    encoding::encode(&ChainResponse::Refused(reason.to_owned()))
}

/// The encoded beginning of a batch: the response's variant and the number of blocks.
fn batch_frame(count: usize) -> Vec<u8> {
    let mut frame = encoding::encode(&ChainResponse::Batch(Vec::new()));
    // An empty list ends with its length, one zero byte.
    frame.pop();
    frame.extend(encoding::encode(&count));
    frame
}

fn state(snapshot: &Snapshot, keys: &[StateKey]) -> Result<ChainResponse, AnswerError> {
    if keys.len() > MAX_KEYS {
        return Ok(ChainResponse::Refused(format!("at most {MAX_KEYS} keys")));
    }
    let Some(at) = snapshot.finalized(snapshot.height()?)? else {
        return Ok(ChainResponse::Refused("there is no block yet".to_owned()));
    };
    let height = at.header.height;
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for key in keys {
        let value = snapshot.value(key)?;
        let proof = prove(snapshot, height, key)?;
        bytes += value.as_ref().map_or(0, Vec::len) + proof.0.len();
        if bytes > MAX_ANSWER - FINALIZED - 16 * keys.len() {
            return Ok(ChainResponse::Refused("the answer is too long: ask for less".to_owned()));
        }
        values.push((value.map(ByteBuf::from), proof));
    }
    Ok(ChainResponse::State { at: Box::new(at), values })
}
