//! The autopilot: looks, plans, and carries plans out.
//!
//! A plan can be shown before it is applied. Each formation is noted in the store before it is handed
//! to the chain, so one that a crash cuts off is found again by [`Contractor::resume`] (and by the
//! words alone, through its recovery record, even without the store).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use samara_protocol::chain::{Action, Transaction, TransactionBody};
use samara_protocol::contract::{ContractId, ContractTerms};
use samara_protocol::encoding::{self, DecodeError};
use samara_protocol::hash::{ContractNonce, TransactionId};
use samara_protocol::host::SignedPrices;
use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::journal::HostIndex;
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::{PublicKey, SecretKey, Signature};
use samara_protocol::units::{Amount, ChainTime, Epoch, Millis};
use serde::{Deserialize, Serialize};

use super::allowance::{Allowance, AllowanceError};
use super::book::{BookError, ContractBook};
use super::commit::frozen;
use super::error::ContractError;
use super::handle::{ContractHandle, ask_prices};
use super::plan::{LiveSight, Plan, Sight, Step, plan};
use crate::world::{ChainError, Lane, StoreError, World, Write, random_bytes};

const ALLOWANCE: &[u8] = b"contract/allowance";
const ACCOUNT: &[u8] = b"contract/account";
const FORMING: &[u8] = b"contract/forming/";
/// Rows read from the store at once.
const PAGE: usize = 256;
/// Chain time after which a formation that never reached the chain is forgotten.
const FORGET: Millis = Millis::hours(1);
/// Settlements pay for so much more time than has passed, because blocks come in between.
const SETTLEMENT_SLACK: Millis = Millis::seconds(120);

/// Gives hosts their numbers, durably: the journal's task.
#[async_trait]
pub trait HostRegistry: Send + Sync {
    /// The number of a host in the table of the book, which it is given if it has none.
    async fn register(&self, host: PublicKey, operator: String) -> Result<HostIndex, BookError>;
}

/// Why the contractor could not look, plan or act.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContractorError {
    /// There is no allowance yet.
    #[error("no allowance is set: set how many hosts and how much money may be used")]
    NoAllowance,
    /// The allowance makes no sense.
    #[error(transparent)]
    Allowance(#[from] AllowanceError),
    /// The account has too little.
    #[error("the plan needs {needed}, the account has {balance}")]
    Balance {
        /// What the plan needs.
        needed: Amount,
        /// What the account has.
        balance: Amount,
    },
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The host.
    #[error(transparent)]
    Host(#[from] ContractError),
    /// The host does not form contracts now.
    #[error("host {host} forms no contracts at present", host = .host.short())]
    NotAccepting {
        /// The host.
        host: PublicKey,
    },
    /// The transaction is in a block, and the contract is not on the chain.
    #[error("contract {contract} with host {host} is not on the chain after its block",
        contract = .contract.short(), host = .host.short())]
    NotOnChain {
        /// The host.
        host: PublicKey,
        /// The contract.
        contract: ContractId,
    },
    /// Another node writes for these words now.
    #[error("another node has taken over with epoch {promised}; no contract is changed from here")]
    Fenced {
        /// The other node's epoch.
        promised: Epoch,
    },
    /// There is no such contract to renew.
    #[error("there is no live contract with host {host}", host = .host.short())]
    NoContract {
        /// The host.
        host: PublicKey,
    },
    /// The table.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of the store does not decode.
    #[error("the contractor's store is damaged: {0}")]
    Damaged(#[from] DecodeError),
}

/// What became of one step.
#[derive(Debug)]
pub struct StepOutcome {
    /// The step.
    pub step: Step,
    /// The contract that is in use now, or why there is none; nothing for a contract retired.
    pub result: Result<Option<ContractHandle>, ContractorError>,
}

/// A formation that was handed to the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Forming {
    terms: ContractTerms,
    operator: String,
    /// The contract that it renews.
    renews: Option<HostIndex>,
    since: ChainTime,
}

impl Forming {
    fn key(&self) -> Vec<u8> {
        [FORMING, self.terms.contract.as_bytes()].concat()
    }
}

/// Transactions of the account that wait for a block.
#[derive(Default)]
struct Outbox {
    sent: Vec<TransactionId>,
    /// Number of the next one, if any was sent.
    next: u64,
}

/// The autopilot. A cheap clone.
#[derive(Clone)]
pub struct Contractor(Arc<Inner>);

struct Inner {
    book: ContractBook,
    allowance: Mutex<Option<Allowance>>,
    account: Mutex<u64>,
    /// One transaction of the account after the other.
    sending: tokio::sync::Mutex<()>,
}

impl Contractor {
    /// Reads allowance and account from the renter's store.
    ///
    /// # Errors
    /// [`ContractorError::Store`], [`ContractorError::Damaged`].
    pub async fn open(book: ContractBook) -> Result<Self, ContractorError> {
        let store = book.world().store.clone();
        let allowance = match store.read(ALLOWANCE).await? {
            Some(bytes) => Some(encoding::decode::<Allowance>(&bytes)?),
            None => None,
        };
        let account = match store.read(ACCOUNT).await? {
            Some(bytes) => encoding::decode(&bytes)?,
            None => 0,
        };
        if let Some(allowance) = &allowance {
            book.limit_prices(allowance.limits);
        }
        let (allowance, account) = (Mutex::new(allowance), Mutex::new(account));
        let sending = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { book, allowance, account, sending })))
    }

    /// What the owner allows.
    #[must_use]
    pub fn allowance(&self) -> Option<Allowance> {
        *lock(&self.0.allowance)
    }

    /// Sets what the owner allows; durable when it returns. Contracts in force stay as they are.
    ///
    /// # Errors
    /// [`ContractorError::Allowance`], [`ContractorError::Store`].
    pub async fn set_allowance(&self, allowance: Allowance) -> Result<(), ContractorError> {
        allowance.check(&self.world().chain.genesis().parameters)?;
        let write = Write::Put(ALLOWANCE.to_vec(), encoding::encode(&allowance));
        self.world().store.commit(vec![write]).await?;
        *lock(&self.0.allowance) = Some(allowance);
        self.0.book.limit_prices(allowance.limits);
        Ok(())
    }

    /// Index of the wallet account that pays and is paid back.
    #[must_use]
    pub fn account(&self) -> u64 {
        *lock(&self.0.account)
    }

    /// Pays from another account from now on, as after a recovery; durable when it returns.
    ///
    /// # Errors
    /// [`ContractorError::Store`].
    pub async fn use_account(&self, index: u64) -> Result<(), ContractorError> {
        let write = Write::Put(ACCOUNT.to_vec(), encoding::encode(&index));
        self.world().store.commit(vec![write]).await?;
        *lock(&self.0.account) = index;
        Ok(())
    }

    /// What the contractor would do now, and what it thinks of each host.
    ///
    /// # Errors
    /// [`ContractorError::NoAllowance`], [`ContractorError::Chain`].
    pub async fn plan(&self) -> Result<Plan, ContractorError> {
        self.plan_for(self.allowance().ok_or(ContractorError::NoAllowance)?).await
    }

    /// What would be done under an allowance that is not set.
    ///
    /// # Errors
    /// [`ContractorError::Chain`].
    pub async fn plan_for(&self, allowance: Allowance) -> Result<Plan, ContractorError> {
        let (world, book) = (self.world(), &self.0.book);
        let mut live = Vec::new();
        for handle in book.live() {
            live.push(LiveSight {
                index: handle.index(),
                host: handle.host(),
                operator: handle.operator().to_owned(),
                contract: handle.id(),
                on_chain: world.chain.contract(&handle.id()).await?,
                ends: handle.ends(),
                money_left: handle.money_left(),
            });
        }
        let sight = Sight {
            allowance,
            now: self.chain_time().await?,
            clock: world.clock.now(),
            balance: world.chain.account(&self.key().public()).await?.balance,
            fee: self.fee(),
            announced: world.chain.announced_hosts().await?,
            health: book.reports().all(),
            live,
        };
        Ok(plan(&sight))
    }

    /// Carries a plan out; every step has its own outcome, and one that fails does not stop the others.
    ///
    /// # Errors
    /// [`ContractorError::Balance`] before anything is done; [`ContractorError::Store`].
    pub async fn apply(
        &self,
        plan: Plan,
        registry: &dyn HostRegistry,
    ) -> Result<Vec<StepOutcome>, ContractorError> {
        if let Some(promised) = self.0.book.writer().fenced() {
            return Err(ContractorError::Fenced { promised });
        }
        if plan.spend > plan.balance {
            let (needed, balance) = (plan.spend, plan.balance);
            return Err(ContractorError::Balance { needed, balance });
        }
        let _sending = self.0.sending.lock().await;
        let mut outbox = Outbox::default();
        let mut outcomes = Vec::new();
        let mut forming = Vec::new();
        for step in plan.steps {
            let result = match &step {
                Step::Form { host, operator, funds, .. } => {
                    match self.start_forming(*host, operator, *funds, &mut outbox).await {
                        Ok(started) => {
                            forming.push((step, started));
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                Step::Renew { index, host, funds, .. } => {
                    self.renew(*index, *host, *funds, &mut outbox).await.map(Some)
                }
                Step::Retire { index, .. } => {
                    self.0.book.retire(*index).await.map(|()| None).map_err(Into::into)
                }
            };
            outcomes.push(StepOutcome { step, result });
        }
        for (step, (id, started)) in forming {
            let result = self.finish_forming(&id, &started, registry).await.map(Some);
            outcomes.push(StepOutcome { step, result });
        }
        self.0.book.save_health().await?;
        Ok(outcomes)
    }

    /// One round of the autopilot: takes up what was cut off, plans, and applies. To be called at
    /// start, after the allowance has changed, and every few minutes. Without an allowance it only
    /// takes up and forgets.
    ///
    /// # Errors
    /// [`ContractorError`] of [`Contractor::resume`], [`Contractor::plan`] and [`Contractor::apply`].
    pub async fn tend(
        &self,
        registry: &dyn HostRegistry,
    ) -> Result<Vec<StepOutcome>, ContractorError> {
        self.resume(registry).await?;
        if self.allowance().is_none() {
            return Ok(Vec::new());
        }
        let plan = self.plan().await?;
        for step in &plan.steps {
            tracing::info!(%step, "contractor");
        }
        if plan.steps.is_empty() {
            self.0.book.save_health().await?;
            return Ok(Vec::new());
        }
        self.apply(plan, registry).await
    }

    /// Takes contracts in use whose formation a crash cut off; returns how many.
    ///
    /// # Errors
    /// [`ContractorError`] of store, chain and table.
    pub async fn resume(&self, registry: &dyn HostRegistry) -> Result<usize, ContractorError> {
        let store = self.world().store.clone();
        let now = self.chain_time().await?;
        let mut resumed = 0;
        for (_, value) in store.scan(FORMING, None, PAGE).await? {
            let forming = encoding::decode::<Forming>(&value)?;
            match self.world().chain.contract(&forming.terms.contract).await? {
                Some(contract) => {
                    self.take_in_use(&forming, &contract, registry).await?;
                    resumed += 1;
                }
                None if now.since(forming.since) >= FORGET => {
                    store.commit(vec![Write::Delete(forming.key())]).await?;
                }
                None => {}
            }
        }
        Ok(resumed)
    }

    fn world(&self) -> &World {
        self.0.book.world()
    }

    fn key(&self) -> SecretKey {
        self.0.book.keys().account(self.account())
    }

    fn fee(&self) -> Amount {
        self.world().chain.genesis().parameters.minimum_fee
    }

    async fn chain_time(&self) -> Result<ChainTime, ChainError> {
        let tip = self.world().chain.tip().await?;
        Ok(tip.map_or(self.world().chain.genesis().time, |tip| tip.header.time))
    }

    /// Prices of a host that forms contracts within the allowance's limits.
    async fn prices(&self, host: PublicKey) -> Result<SignedPrices, ContractorError> {
        let signed = ask_prices(self.world(), self.0.book.reports(), host).await?;
        let allowance = self.allowance().ok_or(ContractorError::NoAllowance)?;
        if let Some((what, asked, limit)) = allowance.limits.above(&signed.prices) {
            return Err(ContractError::TooExpensive { host, what, asked, limit }.into());
        }
        if !signed.accepting {
            return Err(ContractorError::NotAccepting { host });
        }
        Ok(signed)
    }

    /// Terms of a new contract under a nonce that was never used.
    fn terms(
        &self,
        prices: &SignedPrices,
        funds: Amount,
    ) -> Result<ContractTerms, ContractorError> {
        let allowance = self.allowance().ok_or(ContractorError::NoAllowance)?;
        let (keys, host, prices) = (self.0.book.keys(), prices.host, &prices.prices);
        let nonce = ContractNonce(random_bytes(self.world().random.as_ref()));
        let period = allowance.period;
        let longest = prices.maximum_duration.0 / period.0.max(1);
        let periods = allowance.periods.min(u32::try_from(longest).unwrap_or(u32::MAX)).max(1);
        // Half of the money stores, half of it transfers: so much data is worth its collateral.
        let hours =
            (u128::from(period.0) * u128::from(periods) / u128::from(Millis::hours(1).0)).max(1);
        let each = prices.storage.saturating_mul(hours).0.max(1);
        let bytes = funds.0 / 2 / each;
        let collateral =
            prices.collateral_rate.saturating_mul(bytes).min(prices.maximum_collateral);
        Ok(ContractTerms {
            contract: keys.contract(&nonce).public(),
            nonce,
            tag: keys.recovery_tag().tag(&nonce, &host),
            host,
            refund: self.key().public(),
            period,
            periods,
            window: allowance.window,
            window_blocks: allowance.window_blocks,
            storage_price: prices.storage,
            collateral_rate: prices.collateral_rate,
            proof_fee: prices.proof_fee,
            funds,
            collateral,
        })
    }

    /// Agrees with a host on a formation and hands it to the chain.
    async fn start_forming(
        &self,
        host: PublicKey,
        operator: &str,
        funds: Amount,
        outbox: &mut Outbox,
    ) -> Result<(TransactionId, Forming), ContractorError> {
        let prices = self.prices(host).await?;
        let terms = self.terms(&prices, funds)?;
        let since = self.chain_time().await?;
        let forming = Forming { terms, operator: operator.to_owned(), renews: None, since };
        let action = Action::FormContract(Box::new(forming.terms.clone()));
        let contract_key = self.0.book.keys().contract(&forming.terms.nonce);
        let id = self.send(&forming, action, &[&contract_key], outbox).await?;
        Ok((id, forming))
    }

    /// Renews one contract, with no revision under way meanwhile.
    async fn renew(
        &self,
        index: HostIndex,
        host: PublicKey,
        funds: Amount,
        outbox: &mut Outbox,
    ) -> Result<ContractHandle, ContractorError> {
        let old = self.0.book.contract(index).filter(|contract| contract.host() == host);
        let old = old.ok_or(ContractorError::NoContract { host })?;
        let prices = self.prices(host).await?;
        let work = Box::pin(self.renew_frozen(&old, &prices, funds, outbox));
        frozen(&old, work).await?
    }

    async fn renew_frozen(
        &self,
        old: &ContractHandle,
        prices: &SignedPrices,
        funds: Amount,
        outbox: &mut Outbox,
    ) -> Result<ContractHandle, ContractorError> {
        let (host, keys) = (old.host(), self.0.book.keys());
        let chain = &self.world().chain;
        let on_chain = chain.contract(&old.id()).await?;
        let on_chain = on_chain.ok_or(ContractorError::NoContract { host })?;
        let last = old.revision();
        let voucher = old.last_voucher();
        let now = self.chain_time().await?;
        let begun = ChainTime(on_chain.period_end().0.saturating_sub(on_chain.terms.period.0));
        let span = Millis(now.since(begun).0.saturating_add(SETTLEMENT_SLACK.0));
        let earned = on_chain.terms.storage_pay(last.revision.size, span);
        let owed = voucher.map_or(Amount::ZERO, |signed| signed.voucher.total);
        let left = on_chain.funds.saturating_sub(owed.saturating_sub(on_chain.redeemed));
        let terms = self.terms(prices, funds)?;
        let operator = old.operator().to_owned();
        let forming = Forming { terms, operator, renews: Some(old.index()), since: now };
        let action = Action::RenewContract {
            old: old.id(),
            last,
            voucher,
            settlement: earned.min(left),
            terms: Box::new(forming.terms.clone()),
        };
        let new_key = keys.contract(&forming.terms.nonce);
        let id = self.send(&forming, action, &[&new_key, old.link().key()], outbox).await?;
        chain.included(&id).await?;
        let contract = self.on_chain(&forming.terms).await?;
        let handle = self.0.book.renewed(&contract, old).await?;
        self.forget(&forming).await?;
        Ok(handle)
    }

    /// Signs, lets the host sign, notes and submits. A chain that wants the transactions before it in a
    /// block first is given that, once.
    async fn send(
        &self,
        forming: &Forming,
        action: Action,
        keys: &[&SecretKey],
        outbox: &mut Outbox,
    ) -> Result<TransactionId, ContractorError> {
        let chain = self.world().chain.clone();
        let account = self.key();
        let mut again = !outbox.sent.is_empty();
        loop {
            // The chain counts what is in blocks; what waits for one comes on top.
            let counted = chain.account(&account.public()).await?.nonce;
            let nonce = counted.max(outbox.next);
            let body = TransactionBody {
                genesis: chain.genesis().hash(),
                account: account.public(),
                nonce,
                fee: self.fee(),
                action: action.clone(),
            };
            let host = forming.terms.host;
            let signature = self.agree(host, &body).await?;
            let note = Write::Put(forming.key(), encoding::encode(forming));
            self.world().store.commit(vec![note]).await?;
            let mut all: Vec<&SecretKey> = vec![&account];
            all.extend(keys);
            let mut transaction = Transaction::signed(body, &all);
            transaction.signatures.push((host, signature));
            match chain.submit(transaction).await {
                Ok(id) => {
                    outbox.next = nonce.saturating_add(1);
                    outbox.sent.push(id);
                    return Ok(id);
                }
                Err(ChainError::Refused(_)) if again => {
                    again = false;
                    for id in std::mem::take(&mut outbox.sent) {
                        // What became of each is told by its own outcome.
                        let _ = chain.included(&id).await;
                    }
                    outbox.next = 0;
                }
                Err(error) => {
                    if matches!(error, ChainError::Refused(_)) {
                        self.forget(forming).await?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// The host's signature of a formation or renewal.
    async fn agree(
        &self,
        host: PublicKey,
        body: &TransactionBody,
    ) -> Result<Signature, ContractorError> {
        let (world, reports) = (self.world(), self.0.book.reports());
        let request = HostRequest::Agree(Box::new(body.clone()));
        let answer = world.hosts.call(&host, Lane::Control, request).await;
        let answer = answer.inspect_err(|error| reports.failed(&host, error));
        match answer.map_err(ContractError::from)? {
            HostResponse::Agreed(signature) if host.verify(body.id().as_bytes(), &signature) => {
                Ok(signature)
            }
            HostResponse::Refused(refusal) => {
                reports.refused(&host, &refusal);
                Err(ContractError::Refused { host, refusal }.into())
            }
            _ => {
                let reason = "its agreement is not signed by it".to_owned();
                reports.false_answer(&host, &reason);
                Err(ContractError::False { host, reason }.into())
            }
        }
    }

    async fn finish_forming(
        &self,
        id: &TransactionId,
        forming: &Forming,
        registry: &dyn HostRegistry,
    ) -> Result<ContractHandle, ContractorError> {
        self.world().chain.included(id).await?;
        let contract = self.on_chain(&forming.terms).await?;
        self.take_in_use(forming, &contract, registry).await
    }

    /// The contract as the chain shows it after its block.
    async fn on_chain(&self, terms: &ContractTerms) -> Result<Contract, ContractorError> {
        let contract = self.world().chain.contract(&terms.contract).await?;
        let (host, contract_id) = (terms.host, terms.contract);
        contract.ok_or(ContractorError::NotOnChain { host, contract: contract_id })
    }

    async fn take_in_use(
        &self,
        forming: &Forming,
        contract: &Contract,
        registry: &dyn HostRegistry,
    ) -> Result<ContractHandle, ContractorError> {
        let book = &self.0.book;
        let index = registry.register(forming.terms.host, forming.operator.clone()).await?;
        let present = book.contract(index);
        let handle = match present {
            Some(present) if present.id() == forming.terms.contract => present,
            Some(old) if forming.renews == Some(index) => book.renewed(contract, &old).await?,
            _ => book.formed(contract).await?,
        };
        self.forget(forming).await?;
        Ok(handle)
    }

    async fn forget(&self, forming: &Forming) -> Result<(), StoreError> {
        self.world().store.commit(vec![Write::Delete(forming.key())]).await
    }
}

fn lock<T>(leaf: &Mutex<T>) -> MutexGuard<'_, T> {
    // Settings are replaced whole.
    leaf.lock().unwrap_or_else(PoisonError::into_inner)
}
