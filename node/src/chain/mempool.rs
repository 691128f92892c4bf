//! Transactions that wait for a block.
//!
//! A waiting transaction is *ready* when it would succeed on the tip's state after its account's
//! earlier ones, and *waiting* when it may succeed later without anybody changing it: an earlier nonce
//! is missing, a challenge is still being gathered. Everything else is refused, or evicted with a
//! reason once a block has made it so. After a block only the accounts are tried again whose
//! transactions touch something that the block changed.
//!
//! Bounded in transactions, bytes and transactions per account ([`Limits`]). When it is full, a higher
//! fee pushes the lowest out; one nonce is replaced by a higher fee only.
//!
//! Owner: [`super::Chain`], behind a lock that is never held across an await.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::chain::{Action, Block, Genesis, Transaction};
use samara_protocol::encoding;
use samara_protocol::hash::TransactionId;
use samara_protocol::ledger::state::{Account, StateKey};
use samara_protocol::ledger::{Execution, StateChanges, StateError, StateReader, TransactionError};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime, Height, Millis};

/// Most transactions that are handed to the builder of a block.
pub(super) fn candidate_limit(block_transactions: u32) -> usize {
    // Some may be refused in their new company.
    usize::try_from(block_transactions).unwrap_or(usize::MAX).saturating_mul(2)
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Transactions.
    pub count: usize,
    /// Bytes of encoded transactions.
    pub bytes: usize,
    /// Transactions of one account, and how far a nonce may be ahead.
    pub per_account: usize,
    /// How long a transaction that is not ready may wait.
    pub patience: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        // A few blocks' worth; an account with more to say waits for its blocks.
        Self { count: 10_000, bytes: 32 << 20, per_account: 128, patience: Millis::seconds(600) }
    }
}

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It does not decode, or not canonically.
    #[error("not a transaction: {0}")]
    Malformed(#[from] encoding::DecodeError),
    /// It breaks a rule, whatever comes before it.
    #[error("transaction {id} is invalid: {source}")]
    Invalid {
        /// The transaction.
        id: TransactionId,
        /// The rule.
        source: Box<TransactionError>,
    },
    /// Another transaction with this nonce waits and pays as much.
    #[error("transaction {id}: {waiting} waits with the same nonce and pays as much")]
    Underpriced {
        /// The transaction.
        id: TransactionId,
        /// The one that waits.
        waiting: TransactionId,
    },
    /// Its nonce is too far ahead.
    #[error("transaction {id}: nonce {given} is too far ahead of the account's {next}")]
    TooFarAhead {
        /// The transaction.
        id: TransactionId,
        /// The account's next nonce.
        next: u64,
        /// The transaction's.
        given: u64,
    },
    /// The pool is full of transactions that pay as much.
    #[error("transaction {id}: the pool is full and all others pay as much")]
    Full {
        /// The transaction.
        id: TransactionId,
    },
    /// The chain's store failed.
    #[error("the chain cannot be read")]
    Store(#[from] super::StoreError),
    /// The state cannot be read.
    #[error("the state cannot be read")]
    State(#[from] StateError),
}

/// Where on the chain transactions are tried.
pub(super) struct Tip<'a, R: ?Sized> {
    pub(super) reader: &'a R,
    pub(super) genesis: &'a Genesis,
    /// Height of the next block.
    pub(super) height: Height,
    /// Its likely time.
    pub(super) time: ChainTime,
}

struct Entry {
    transaction: Transaction,
    id: TransactionId,
    bytes: usize,
    /// Order of arrival.
    sequence: u64,
    since: ChainTime,
    ready: bool,
    /// Values of the state that decide whether it is good.
    touches: BTreeSet<StateKey>,
}

impl Entry {
    const fn rank(&self) -> (Amount, std::cmp::Reverse<u64>) {
        (self.transaction.body.fee, std::cmp::Reverse(self.sequence))
    }
}

/// A transaction's place in the pool, cheapest and latest first.
type Rank = (Amount, std::cmp::Reverse<u64>, PublicKey, u64);

pub(super) struct Mempool {
    limits: Limits,
    accounts: BTreeMap<PublicKey, BTreeMap<u64, Entry>>,
    ids: BTreeMap<TransactionId, (PublicKey, u64)>,
    ranks: BTreeSet<Rank>,
    bytes: usize,
    ready: usize,
    next_sequence: u64,
}

impl Mempool {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
            ids: BTreeMap::new(),
            ranks: BTreeSet::new(),
            bytes: 0,
            ready: 0,
            next_sequence: 0,
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready > 0
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn contains(&self, id: &TransactionId) -> bool {
        self.ids.contains_key(id)
    }

    /// The account's next nonce after everything of it that is ready.
    pub(super) fn next_nonce(&self, account: &PublicKey, on_chain: u64) -> u64 {
        let Some(entries) = self.accounts.get(account) else { return on_chain };
        let ready = entries.range(on_chain..).take_while(|(_, entry)| entry.ready);
        ready.last().map_or(on_chain, |(nonce, _)| nonce.saturating_add(1))
    }

    /// Takes a transaction. Gives whether it is new.
    pub(super) fn add<R: StateReader + ?Sized>(
        &mut self,
        tip: &Tip<'_, R>,
        transaction: Transaction,
    ) -> Result<bool, SubmitError> {
        let id = transaction.id();
        if self.contains(&id) {
            return Ok(false);
        }
        let (account, nonce) = (transaction.body.account, transaction.body.nonce);
        let bytes = encoding::encode(&transaction).len();
        self.judge_alone(tip, &transaction, id, bytes)?;
        if let Some(waiting) = self.accounts.get(&account).and_then(|all| all.get(&nonce))
            && waiting.transaction.body.fee >= transaction.body.fee
        {
            return Err(SubmitError::Underpriced { id, waiting: waiting.id });
        }
        let ready = self.try_after_earlier(tip, &transaction, id)?;
        self.make_room(id, transaction.body.fee, bytes)?;
        self.remove(&account, nonce, Some("replaced by a transaction that pays more"));
        let touches = touches(&transaction);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let entry = Entry { transaction, id, bytes, sequence, since: tip.time, ready, touches };
        self.insert(account, nonce, entry);
        // What waited for this nonce may be ready now.
        self.retry(tip, &account)?;
        Ok(true)
    }

    /// Rules that hold whatever comes before: they keep strangers out of others' accounts.
    fn judge_alone<R: StateReader + ?Sized>(
        &self,
        tip: &Tip<'_, R>,
        transaction: &Transaction,
        id: TransactionId,
        bytes: usize,
    ) -> Result<(), SubmitError> {
        let body = &transaction.body;
        let invalid = |source| SubmitError::Invalid { id, source: Box::new(source) };
        if bytes > Transaction::MAX_BYTES {
            return Err(invalid(TransactionError::TooLarge(bytes)));
        }
        let minimum = tip.genesis.parameters.minimum_fee;
        if body.fee < minimum {
            return Err(invalid(TransactionError::FeeTooLow { fee: body.fee, minimum }));
        }
        let Account { balance, nonce: next } = account_of(tip.reader, &body.account)?;
        if body.nonce < next {
            let (account, given) = (body.account, body.nonce);
            return Err(invalid(TransactionError::Nonce { account, expected: next, given }));
        }
        if body.nonce - next >= self.limits.per_account as u64 {
            return Err(SubmitError::TooFarAhead { id, next, given: body.nonce });
        }
        if balance < body.fee {
            let (account, needed) = (body.account, body.fee);
            return Err(invalid(TransactionError::Balance { account, balance, needed }));
        }
        if !transaction.is_signed_by(&body.account) {
            return Err(invalid(TransactionError::MissingSignature(body.account)));
        }
        Ok(())
    }

    /// Tries a transaction on the tip after its account's earlier ones; gives whether it is ready.
    fn try_after_earlier<R: StateReader + ?Sized>(
        &self,
        tip: &Tip<'_, R>,
        transaction: &Transaction,
        id: TransactionId,
    ) -> Result<bool, SubmitError> {
        let body = &transaction.body;
        let mut execution = Execution::speculate(tip.reader, tip.genesis, tip.height, tip.time)?;
        if let Some(entries) = self.accounts.get(&body.account) {
            for (_, entry) in entries.range(..body.nonce) {
                if execution.apply(&entry.transaction).is_err() {
                    break;
                }
            }
        }
        match execution.apply(transaction) {
            Ok(()) => Ok(true),
            Err(TransactionError::State(error)) => Err(error.into()),
            Err(error) if error.may_pass_later() => Ok(false),
            Err(error) => Err(SubmitError::Invalid { id, source: Box::new(error) }),
        }
    }

    /// Pushes out what pays less until one more fits.
    fn make_room(
        &mut self,
        id: TransactionId,
        fee: Amount,
        bytes: usize,
    ) -> Result<(), SubmitError> {
        while self.ids.len() >= self.limits.count || self.bytes + bytes > self.limits.bytes {
            match self.ranks.first().copied() {
                Some((lowest, _, account, nonce)) if lowest < fee => {
                    self.remove(&account, nonce, Some("pushed out by a higher fee"));
                    self.unready_after(&account, nonce);
                }
                _ => return Err(SubmitError::Full { id }),
            }
        }
        Ok(())
    }

    /// After a block: forgets what it holds and tries again what it may have changed.
    pub(super) fn update<R: StateReader + ?Sized>(
        &mut self,
        tip: &Tip<'_, R>,
        block: &Block,
        changes: &StateChanges,
    ) -> Result<(), StateError> {
        for transaction in &block.transactions {
            if let Some((account, nonce)) = self.ids.get(&transaction.id()).copied() {
                self.remove(&account, nonce, None);
            }
        }
        let affected = |entry: &Entry| {
            let changed = entry.touches.iter().any(|key| changes.values.contains_key(key));
            changed || (!entry.ready && tip.time.since(entry.since) > self.limits.patience)
        };
        let accounts: Vec<PublicKey> = self
            .accounts
            .iter()
            .filter(|(_, entries)| entries.values().any(affected))
            .map(|(account, _)| *account)
            .collect();
        accounts.iter().try_for_each(|account| self.retry(tip, account))
    }

    /// Tries all transactions of an account again, in order.
    fn retry<R: StateReader + ?Sized>(
        &mut self,
        tip: &Tip<'_, R>,
        account: &PublicKey,
    ) -> Result<(), StateError> {
        let mut execution = Execution::speculate(tip.reader, tip.genesis, tip.height, tip.time)?;
        let nonces: Vec<u64> =
            self.accounts.get(account).into_iter().flat_map(BTreeMap::keys).copied().collect();
        for nonce in nonces {
            let Some(entry) = self.accounts.get_mut(account).and_then(|all| all.get_mut(&nonce))
            else {
                continue;
            };
            let late = tip.time.since(entry.since) > self.limits.patience;
            let outcome = match execution.apply(&entry.transaction) {
                Ok(()) => Ok(true),
                Err(TransactionError::State(error)) => return Err(error),
                Err(error) if error.may_pass_later() && !late => Ok(false),
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(ready) => {
                    self.ready = self.ready - usize::from(entry.ready) + usize::from(ready);
                    entry.ready = ready;
                }
                Err(reason) => self.remove(account, nonce, Some(&reason)),
            }
        }
        Ok(())
    }

    /// Evicts transactions that the builder of a block found to be invalid.
    pub(super) fn evict(&mut self, rejected: &[(TransactionId, TransactionError)]) {
        for (id, error) in rejected.iter().filter(|(_, error)| !error.may_pass_later()) {
            if let Some((account, nonce)) = self.ids.get(id).copied() {
                self.remove(&account, nonce, Some(&error.to_string()));
                self.unready_after(&account, nonce);
            }
        }
    }

    /// Ready transactions in order of arrival, each after its account's earlier ones; at most `count`.
    pub(super) fn candidates(&self, count: usize) -> Vec<Transaction> {
        let mut ordered = Vec::new();
        for entries in self.accounts.values() {
            let mut latest = 0;
            for (nonce, entry) in entries.iter().take_while(|(_, entry)| entry.ready) {
                latest = entry.sequence.max(latest);
                ordered.push((latest, *nonce, &entry.transaction));
            }
        }
        ordered.sort_by_key(|(sequence, nonce, _)| (*sequence, *nonce));
        ordered.into_iter().take(count).map(|(_, _, transaction)| transaction.clone()).collect()
    }

    fn insert(&mut self, account: PublicKey, nonce: u64, entry: Entry) {
        let (fee, order) = entry.rank();
        self.ranks.insert((fee, order, account, nonce));
        self.ids.insert(entry.id, (account, nonce));
        self.bytes += entry.bytes;
        self.ready += usize::from(entry.ready);
        self.accounts.entry(account).or_default().insert(nonce, entry);
    }

    fn remove(&mut self, account: &PublicKey, nonce: u64, reason: Option<&str>) {
        let Some(entries) = self.accounts.get_mut(account) else { return };
        let Some(entry) = entries.remove(&nonce) else { return };
        if entries.is_empty() {
            self.accounts.remove(account);
        }
        let (fee, order) = entry.rank();
        self.ranks.remove(&(fee, order, *account, nonce));
        self.ids.remove(&entry.id);
        self.bytes -= entry.bytes;
        self.ready -= usize::from(entry.ready);
        if let Some(reason) = reason {
            // Whoever handed it in and asks is told when it hands it in again.
            tracing::info!(transaction = %entry.id, reason, "evicted from the pool");
        }
    }

    /// What follows a nonce that is gone cannot be ready.
    fn unready_after(&mut self, account: &PublicKey, nonce: u64) {
        let Some(entries) = self.accounts.get_mut(account) else { return };
        for (_, entry) in entries.range_mut(nonce..) {
            self.ready -= usize::from(entry.ready);
            entry.ready = false;
        }
    }
}

fn account_of<R: StateReader + ?Sized>(
    reader: &R,
    account: &PublicKey,
) -> Result<Account, StateError> {
    let key = StateKey::Account(*account);
    let Some(bytes) = reader.value(&key)? else { return Ok(Account::default()) };
    encoding::decode(&bytes).map_err(|source| StateError::Damaged { key, source })
}

/// Values of the state that decide whether a transaction is good.
fn touches(transaction: &Transaction) -> BTreeSet<StateKey> {
    let mut keys = BTreeSet::from([StateKey::Account(transaction.body.account)]);
    match &transaction.body.action {
        Action::Transfer { .. } | Action::AnnounceHost(_) => {}
        Action::FormContract(terms) => {
            keys.insert(StateKey::Contract(terms.contract));
            keys.insert(StateKey::Account(terms.host));
        }
        Action::RenewContract { old, terms, .. } => {
            keys.insert(StateKey::Contract(*old));
            keys.insert(StateKey::Contract(terms.contract));
            keys.insert(StateKey::Account(terms.host));
        }
        Action::UpdateContract { contract, .. }
        | Action::ProveStorage { contract, .. }
        | Action::CloseContract { contract, .. } => {
            keys.insert(StateKey::Contract(*contract));
        }
        Action::ChangeValidators { .. } => {
            keys.insert(StateKey::Validators);
        }
    }
    keys
}
