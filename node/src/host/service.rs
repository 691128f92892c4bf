//! Answers host requests: reads from the chain what the rules need to know, then runs them on a thread
//! that may block.
//!
//! Bounds: at most [`ServiceLimits::control`] and [`ServiceLimits::bulk`] requests run at a time, so that
//! sectors never keep a head waiting; as many again wait, more are told that the host is busy. Head
//! writes are free and therefore metered per contract.
//!
//! While no chain node can be reached, contracts that were read before count as they were then, for
//! [`ServiceLimits::unreachable_age`]: data stays readable when the chain's nodes are down. A contract
//! that is closed meanwhile costs the host the reads of that time at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use samara_protocol::contract::ContractId;
use samara_protocol::host::message::{ContractCall, HostRequest, HostResponse, Refusal};
use samara_protocol::host::{ChainFacts, Host, HostStore};
use samara_protocol::ledger::state::{Account, Contract};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime, Height};
use samara_renter::world::ChainView;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Why the chain could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain cannot be read: {0}")]
pub struct FactsError(pub String);

/// What a host needs to read from the chain, verified.
#[async_trait]
pub trait ChainFactsSource: Send + Sync {
    /// Time and height of the tip. Cheap: asked for each request.
    async fn tip(&self) -> Result<(ChainTime, Height), FactsError>;
    /// An account's money and nonce.
    async fn account(&self, account: &PublicKey) -> Result<Account, FactsError>;
    /// A contract on the chain.
    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, FactsError>;
}

/// The facts from a renter's or light client's view of the chain.
pub struct ChainViewFacts(pub Arc<dyn ChainView>);

#[async_trait]
impl ChainFactsSource for ChainViewFacts {
    async fn tip(&self) -> Result<(ChainTime, Height), FactsError> {
        let tip = self.0.tip().await.map_err(|error| FactsError(error.to_string()))?;
        Ok(match tip {
            Some(tip) => (tip.header.time, tip.header.height),
            None => (self.0.genesis().time, Height(0)),
        })
    }

    async fn account(&self, account: &PublicKey) -> Result<Account, FactsError> {
        self.0.account(account).await.map_err(|error| FactsError(error.to_string()))
    }

    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, FactsError> {
        self.0.contract(id).await.map_err(|error| FactsError(error.to_string()))
    }
}

/// Bounds of the service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceLimits {
    /// Requests at a time that carry no sector.
    pub control: usize,
    /// Stores and reads at a time.
    pub bulk: usize,
    /// How long a contract read from the chain is good.
    pub contract_age: Duration,
    /// How long it is good while the chain cannot be read.
    pub unreachable_age: Duration,
    /// Head writes a second for each contract; four times as many at once.
    pub head_writes: u32,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            control: 64,
            bulk: 32,
            contract_age: Duration::from_secs(1),
            unreachable_age: Duration::from_secs(3_600),
            head_writes: 100,
        }
    }
}

/// How long the chain is left alone after it could not be read, where an older answer is at hand.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Contracts that are kept in memory at most, as read from the chain and as metered.
const CACHED: usize = 16_384;

/// Answers requests for one host.
pub struct HostService<S> {
    host: Arc<Host<S>>,
    chain: Arc<dyn ChainFactsSource>,
    limits: ServiceLimits,
    control: Limiter,
    bulk: Limiter,
    contracts: Mutex<BTreeMap<ContractId, Cached>>,
    heads: Mutex<BTreeMap<ContractId, Meter>>,
}

/// A contract as the chain had it.
struct Cached {
    contract: Contract,
    read: Instant,
    /// When the chain could not be read any more.
    failed: Option<Instant>,
}

/// Requests of one kind: some run, as many wait.
struct Limiter {
    running: Semaphore,
    admitted: Semaphore,
}

impl Limiter {
    fn new(limit: usize) -> Self {
        Self { running: Semaphore::new(limit), admitted: Semaphore::new(2 * limit) }
    }

    async fn enter(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Refusal> {
        let busy = || Refusal::Busy("too many requests at a time".into());
        let admitted = self.admitted.try_acquire().map_err(|_| busy())?;
        let running = self.running.acquire().await.map_err(|_| busy())?;
        Ok((admitted, running))
    }
}

/// Free head writes of one contract: refilled by time, up to a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    left: f64,
    seen: Instant,
}

impl Meter {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { left: f64::from(rate) * 4.0, seen: now }
    }

    /// Takes one write, if there is one.
    pub(super) fn take(&mut self, rate: u32, now: Instant) -> bool {
        let rate = f64::from(rate);
        let earned = now.saturating_duration_since(self.seen).as_secs_f64() * rate;
        self.left = (self.left + earned).min(rate * 4.0);
        self.seen = now;
        let taken = self.left >= 1.0;
        if taken {
            self.left -= 1.0;
        }
        taken
    }
}

impl<S: HostStore + 'static> HostService<S> {
    /// A service for a host.
    pub fn new(
        host: Arc<Host<S>>,
        chain: Arc<dyn ChainFactsSource>,
        limits: ServiceLimits,
    ) -> Self {
        Self {
            host,
            chain,
            limits,
            control: Limiter::new(limits.control),
            bulk: Limiter::new(limits.bulk),
            contracts: Mutex::new(BTreeMap::new()),
            heads: Mutex::new(BTreeMap::new()),
        }
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host<S>> {
        &self.host
    }

    /// Answers a request of the peer `from`.
    pub async fn answer(&self, from: PublicKey, request: HostRequest) -> HostResponse {
        match self.try_answer(from, request).await {
            Ok(HostResponse::Refused(refusal)) | Err(refusal) => {
                HostResponse::Refused(told(refusal))
            }
            Ok(response) => response,
        }
    }

    async fn try_answer(
        &self,
        from: PublicKey,
        request: HostRequest,
    ) -> Result<HostResponse, Refusal> {
        let limiter = if is_bulk(&request) { &self.bulk } else { &self.control };
        let _permits = limiter.enter().await?;
        self.meter(&request)?;
        if let HostRequest::Agree(asked) = &request {
            // The chain is not read for what nobody signed.
            self.host.check_asked(asked)?;
        }
        let facts = self.facts(&request).await.map_err(|error| {
            tracing::debug!(%error, "a request waits for the chain");
            Refusal::Busy("the chain cannot be read".to_owned())
        })?;
        let host = Arc::clone(&self.host);
        let work = move || host.handle(&facts, &from, request);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Refusal::Internal(format!("the request was not finished: {error}")))
    }

    /// Only a true request uses up a contract's head writes, so nobody can use up another's.
    fn meter(&self, request: &HostRequest) -> Result<(), Refusal> {
        let HostRequest::Contract(contract) = request else { return Ok(()) };
        let writes =
            matches!(contract.call, ContractCall::HeadAppend { .. } | ContractCall::HeadPut { .. });
        if !writes || !self.host.is_signed(contract) {
            return Ok(());
        }
        let (rate, now) = (self.limits.head_writes, Instant::now());
        let mut heads = lock(&self.heads);
        if heads.len() >= CACHED && !heads.contains_key(&contract.contract) {
            heads.clear();
        }
        let meter = heads.entry(contract.contract).or_insert_with(|| Meter::new(rate, now));
        if meter.take(rate, now) {
            Ok(())
        } else {
            Err(Refusal::Busy(format!("more than {rate} head writes a second")))
        }
    }

    async fn facts(&self, request: &HostRequest) -> Result<ChainFacts, FactsError> {
        let (now, tip) = self.chain.tip().await?;
        // The payer first: what it has sent is then taken off the host's balance already.
        let (payer, balance) = match Host::<S>::payer(request) {
            Some(payer) => {
                let payer = self.chain.account(&payer).await?;
                (payer, self.chain.account(&self.host.id()).await?.balance)
            }
            None => (Account::default(), Amount::ZERO),
        };
        let contract = match Host::<S>::concerns(request) {
            Some(id) => self.contract(&id).await?,
            None => None,
        };
        Ok(ChainFacts { now, tip, payer, balance, contract })
    }

    /// A contract from the chain, or as it was a moment ago. That there is none is never remembered,
    /// because the next block may form it.
    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, FactsError> {
        if let Some(cached) = self.cached(id, |cached| {
            cached.read.elapsed() < self.limits.contract_age
                || cached.failed.is_some_and(|failed| failed.elapsed() < ASK_AGAIN)
        }) {
            return Ok(Some(cached));
        }
        let contract = match self.chain.contract(id).await {
            Ok(contract) => contract,
            Err(error) => return self.unread(id).map(Some).ok_or(error),
        };
        let mut contracts = lock(&self.contracts);
        match &contract {
            Some(contract) => {
                if contracts.len() >= CACHED {
                    contracts.clear();
                }
                let (contract, read) = (contract.clone(), Instant::now());
                contracts.insert(*id, Cached { contract, read, failed: None });
            }
            None => {
                contracts.remove(id);
            }
        }
        Ok(contract)
    }

    /// A contract read before, if it is good, and not too old even while the chain cannot be read.
    fn cached(&self, id: &ContractId, good: impl FnOnce(&Cached) -> bool) -> Option<Contract> {
        let contracts = lock(&self.contracts);
        let cached = contracts.get(id)?;
        let young = cached.read.elapsed() < self.limits.unreachable_age;
        (young && good(cached)).then(|| cached.contract.clone())
    }

    /// The chain could not be read: a contract as it was when it could.
    fn unread(&self, id: &ContractId) -> Option<Contract> {
        if let Some(cached) = lock(&self.contracts).get_mut(id) {
            cached.failed = Some(Instant::now());
        }
        self.cached(id, |_| true)
    }
}

/// A refusal as a peer may read it. What the system said names files of this machine: that is for its
/// operator, in the log.
fn told(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Internal(reason) => {
            tracing::warn!(%reason, "a request failed");
            let what = reason.split(": ").next().unwrap_or_default();
            Refusal::Internal(what.to_owned())
        }
        other => other,
    }
}

fn is_bulk(request: &HostRequest) -> bool {
    match request {
        HostRequest::Contract(contract) => {
            matches!(contract.call, ContractCall::Store { .. } | ContractCall::Read { .. })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use samara_protocol::host::HostStoreError;

    use super::*;

    #[test]
    fn no_peer_reads_where_a_host_keeps_its_files() {
        let error = HostStoreError::Failed {
            action: "write a sector",
            reason: "/srv/samara/sectors/97/9722: no space: 28".into(),
        };
        let told = told(error.into());
        assert_eq!(told, Refusal::Internal("the host's store failed to write a sector".into()));
    }
}
