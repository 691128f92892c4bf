//! The autopilot: looks, plans, and carries plans out.
//!
//! A plan can be shown before it is applied. Whoever plans and sends holds the [`Turn`]: transactions of
//! one account are numbered, so nobody else may send between the look and the last one. Each formation is noted in the store before it is handed
//! to the chain, so one that a crash cuts off is found again by [`Contractor::resume`] (and by the
//! words alone, through its recovery record, even without the store).

mod agreement;
mod error;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
pub use error::ContractorError;
use samara_protocol::encoding;
use samara_protocol::hash::TransactionId;
use samara_protocol::journal::HostIndex;
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::agreement::{Forming, Outbox};
use super::allowance::Allowance;
use super::book::{BookError, ContractBook};
use super::handle::ContractHandle;
use super::plan::{LiveSight, PendingSight, Plan, Sight, Step, plan};
use crate::world::{ChainError, World, Write};

const ALLOWANCE: &[u8] = b"contract/allowance";
const ACCOUNT: &[u8] = b"contract/account";

/// Decides which contracts are used, and gives hosts their numbers, durably: the journal's task.
#[async_trait]
pub trait HostRegistry: Send + Sync {
    /// Whether a contract that is new on the chain may be used. Asked before its first use.
    async fn admit(&self, contract: &Contract) -> Result<(), ContractorError>;
    /// The number of a host in the table of the book, which it is given if it has none.
    async fn register(&self, host: PublicKey, operator: String) -> Result<HostIndex, BookError>;
}

/// What became of one step.
#[derive(Debug)]
pub struct StepOutcome {
    /// The step.
    pub step: Step,
    /// The contract that is in use now, or why there is none; nothing for a contract retired.
    pub result: Result<Option<ContractHandle>, ContractorError>,
}

/// The autopilot. A cheap clone.
#[derive(Clone)]
pub struct Contractor(Arc<Inner>);

struct Inner {
    book: ContractBook,
    allowance: Mutex<Option<Allowance>>,
    account: Mutex<u64>,
    turns: Arc<Semaphore>,
    /// Transfers that wait for a block outside of any turn, and the account they are of. A leaf.
    waiting: Mutex<(u64, Outbox)>,
}

/// The right to plan and to send the account's transactions: one holder at a time, in the order in
/// which they asked. It guards no data.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

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
        let turns = Arc::new(Semaphore::new(1));
        let waiting = Mutex::default();
        Ok(Self(Arc::new(Inner { book, allowance, account, turns, waiting })))
    }

    /// Waits for the turn to plan and send.
    pub async fn turn(&self) -> Turn {
        let permit = self.0.turns.clone().acquire_owned().await;
        Turn(permit.expect("invariant: the semaphore is never closed"))
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
        Ok(plan(&self.sight().await?))
    }

    /// What it would do under an allowance that is not set.
    ///
    /// # Errors
    /// [`ContractorError::Chain`].
    pub async fn plan_for(&self, allowance: Allowance) -> Result<Plan, ContractorError> {
        Ok(plan(&self.sight_under(allowance).await?))
    }

    /// What a plan is made from.
    ///
    /// # Errors
    /// As [`Contractor::plan`].
    pub async fn sight(&self) -> Result<Sight, ContractorError> {
        let allowance = self.allowance().ok_or(ContractorError::NoAllowance)?;
        self.sight_under(allowance).await
    }

    async fn sight_under(&self, allowance: Allowance) -> Result<Sight, ContractorError> {
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
                size: handle.revision().revision.size,
            });
        }
        let now = self.chain_time().await?;
        let fee = self.fee();
        let forming = self.forming().await?;
        let pending = forming.iter().filter(|forming| forming.agreed && now < forming.valid_until);
        let pending = pending.map(|forming| PendingSight {
            host: forming.terms.host,
            operator: forming.operator.clone(),
            renews: forming.renews,
            cost: forming.cost(fee),
            valid_until: forming.valid_until,
        });
        Ok(Sight {
            allowance,
            now,
            pending: pending.collect(),
            clock: world.clock.now(),
            balance: world.chain.account(&self.key().public()).await?.balance,
            fee,
            announced: world.chain.announced_hosts().await?,
            health: book.reports().all(),
            live,
        })
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
        let turn = self.turn().await;
        self.carry_out(&turn, plan, registry).await
    }

    /// As [`Contractor::apply`], within a turn in which the plan was made.
    ///
    /// # Errors
    /// As [`Contractor::apply`].
    pub async fn carry_out(
        &self,
        _turn: &Turn,
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
        let mut outbox = self.outbox();
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
            if let Err(ContractorError::NotFirst { .. }) = result {
                self.give_back(&started, &mut outbox).await;
            }
            outcomes.push(StepOutcome { step, result });
        }
        self.0.book.save_health().await?;
        Ok(outcomes)
    }

    /// Takes contracts in use whose formation a crash cut off; returns how many.
    ///
    /// # Errors
    /// [`ContractorError`] of store, chain and table.
    pub async fn resume(&self, registry: &dyn HostRegistry) -> Result<usize, ContractorError> {
        let now = self.chain_time().await?;
        let (mut resumed, mut refused, mut outbox) = (0, None, self.outbox());
        for forming in self.forming().await? {
            // The time was read before the contract: a tip of that time without it proves it dead.
            match self.world().chain.contract(&forming.terms.contract).await? {
                Some(contract) => match self.take_in_use(&forming, &contract, registry).await {
                    Ok(_) => resumed += 1,
                    Err(error @ ContractorError::NotFirst { .. }) => {
                        self.give_back(&forming, &mut outbox).await;
                        refused = Some(error);
                    }
                    Err(error) => return Err(error),
                },
                None if now >= forming.valid_until => self.forget(&forming).await?,
                None => {}
            }
        }
        refused.map_or(Ok(resumed), Err)
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

    async fn take_in_use(
        &self,
        forming: &Forming,
        contract: &Contract,
        registry: &dyn HostRegistry,
    ) -> Result<ContractHandle, ContractorError> {
        registry.admit(contract).await?;
        let book = &self.0.book;
        let index = registry.register(forming.terms.host, forming.operator.clone()).await?;
        let present = book.contract(index);
        let handle = match present {
            Some(present) if present.id() == forming.terms.contract => present,
            Some(old) if forming.renews == Some(index) => book.renewed(contract, &old).await?,
            // Another one came into use meanwhile, as by a recovery. It may hold data, this one holds none.
            Some(present) => present,
            None => book.formed(contract).await?,
        };
        self.forget(forming).await?;
        Ok(handle)
    }
}
