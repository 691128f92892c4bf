//! The host's loop over the chain: at each new tip it looks at the contracts that are due, publishes
//! what they need, and sweeps.
//!
//! Transactions of the host's account are ordered by nonces. Those on their way are counted on from the
//! chain's nonce; if one is not included for some blocks, all are given up and what is still due is
//! sent again with fresh nonces. The chain's rules make repeating harmless: a period is proven once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::chain::{Action, Transaction, TransactionBody};
use samara_protocol::contract::ContractId;
use samara_protocol::hash::TransactionId;
use samara_protocol::host::message::Refusal;
use samara_protocol::host::{ChainFacts, Host, HostAnnouncement, HostStore, HostStoreError};
use samara_protocol::ledger::state::{Account, Contract, ContractPhase};
use samara_protocol::signature::SecretKey;
use samara_protocol::units::{Amount, ChainTime, Height, Millis};
use samara_renter::world::{ChainError, ChainView};
use tokio::sync::watch;

/// How the loop goes about it.
#[derive(Debug, Clone)]
pub struct ProverConfig {
    /// Fee of each transaction.
    pub fee: Amount,
    /// Blocks after which a transaction that is in none of them is given up.
    pub patience: u64,
    /// Chain time between two sweeps.
    pub sweep: Millis,
    /// Time between two writes of payments.
    pub payments: Duration,
    /// Longest chain time for which a contract is not looked at.
    pub look: Millis,
}

impl ProverConfig {
    /// Values that suit a chain with this least fee.
    #[must_use]
    pub fn new(fee: Amount) -> Self {
        Self {
            fee,
            patience: 8,
            sweep: Millis::seconds(60),
            payments: Duration::from_secs(1),
            look: Millis::seconds(600),
        }
    }
}

/// Why the loop ended or a round failed.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// The chain cannot be read.
    #[error("the chain cannot be read")]
    Chain(#[from] ChainError),
    /// The host's store failed.
    #[error("the host's store failed")]
    Store(#[from] HostStoreError),
    /// The host did not take in what the chain says.
    #[error("the host cannot follow contract {contract}")]
    Follow {
        /// The contract.
        contract: ContractId,
        /// Why.
        source: Refusal,
    },
    /// A thread panicked.
    #[error("a task of the host broke off")]
    Task(#[from] tokio::task::JoinError),
}

/// How long a contract that is not on the chain is not looked for.
const ABSENT: Millis = Millis::seconds(5);

/// What a transaction on its way is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Announcement,
    Contract(ContractId),
}

/// A transaction on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    nonce: u64,
    at: Height,
}

/// Completes when the value is true or the sender is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error is a sender that is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn save_payments<S: HostStore + 'static>(host: &Arc<Host<S>>) -> Result<(), ProverError> {
    let host = Arc::clone(host);
    tokio::task::spawn_blocking(move || host.save_payments()).await??;
    Ok(())
}

async fn keep_saving<S: HostStore + 'static>(host: &Arc<Host<S>>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        if let Err(error) = save_payments(host).await {
            tracing::error!(%error, "payments are not saved");
        }
    }
}

/// The loop's state.
pub struct Prover<S> {
    host: Arc<Host<S>>,
    chain: Arc<dyn ChainView>,
    key: SecretKey,
    config: ProverConfig,
    /// What the host wants to have announced.
    announcement: watch::Receiver<HostAnnouncement>,
    announced: bool,
    sent: BTreeMap<Subject, Sent>,
    /// When each contract is looked at again.
    looks: BTreeMap<ContractId, ChainTime>,
    swept: ChainTime,
}

impl<S: HostStore + 'static> Prover<S> {
    /// A loop for a host; `key` is the host's, whose account pays the fees.
    pub fn new(
        host: Arc<Host<S>>,
        chain: Arc<dyn ChainView>,
        key: SecretKey,
        config: ProverConfig,
        announcement: watch::Receiver<HostAnnouncement>,
    ) -> Self {
        Self {
            host,
            chain,
            key,
            config,
            announcement,
            announced: false,
            sent: BTreeMap::new(),
            looks: BTreeMap::new(),
            swept: ChainTime(0),
        }
    }

    /// Runs until `stop` is true or its sender is gone; saves payments at the end. A round that fails is
    /// logged and tried again with the next block.
    ///
    /// # Errors
    /// [`ProverError::Store`] when the last payments cannot be saved.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), ProverError> {
        let (host, pause) = (Arc::clone(&self.host), self.config.payments);
        tokio::select! {
            biased;
            () = stopped(&mut stop) => {}
            () = keep_saving(&host, pause) => {}
            () = self.rounds() => {}
        }
        save_payments(&host).await
    }

    /// A round for each new tip.
    async fn rounds(&mut self) {
        let mut height = None;
        loop {
            let tip = match height {
                None => self.chain.tip().await.map(|tip| tip.map(|tip| tip.header)),
                Some(height) => self.chain.tip_above(height).await.map(|tip| Some(tip.header)),
            };
            match tip {
                Ok(Some(header)) => {
                    height = Some(header.height);
                    if let Err(error) = self.round(header.time, header.height).await {
                        tracing::warn!(%error, height = header.height.0, "round of the host failed");
                    }
                }
                Ok(None) => height = Some(Height(0)),
                Err(error) => {
                    tracing::warn!(%error, "no tip");
                    tokio::time::sleep(self.config.payments).await;
                }
            }
        }
    }

    /// Everything that one new block may ask for.
    ///
    /// # Errors
    /// [`ProverError`]; what was not done is done in the next round.
    pub async fn round(&mut self, now: ChainTime, tip: Height) -> Result<(), ProverError> {
        let account = self.chain.account(&self.host.id()).await?;
        self.forget_included(account.nonce, tip);
        if self.announcement.has_changed().unwrap_or(false) {
            self.announced = false;
        }
        if !self.announced {
            self.announce(account.nonce, tip).await?;
        }
        let followed = self.host.followed();
        self.looks.retain(|id, _| followed.binary_search(id).is_ok());
        for id in followed {
            if self.looks.get(&id).is_some_and(|look| *look > now) {
                continue;
            }
            let contract = self.chain.contract(&id).await?;
            let payer = Account::default();
            let facts = ChainFacts { now, tip, payer, balance: account.balance, contract };
            if let Some(contract) = &facts.contract {
                self.looks.insert(id, self.next_look(contract, now));
            } else {
                // Gone, or agreed on and not formed yet; a renter's request tells sooner.
                self.looks.insert(id, now.plus(ABSENT));
            }
            self.look(id, facts, account.nonce, tip).await?;
        }
        if now.since(self.swept) >= self.config.sweep {
            let host = Arc::clone(&self.host);
            let report = tokio::task::spawn_blocking(move || host.sweep(now)).await??;
            tracing::debug!(?report, "swept");
            self.swept = now;
        }
        Ok(())
    }

    /// Tells the host about one contract and publishes what is due.
    async fn look(
        &mut self,
        id: ContractId,
        facts: ChainFacts,
        nonce: u64,
        tip: Height,
    ) -> Result<(), ProverError> {
        let host = Arc::clone(&self.host);
        let waiting = self.sent.contains_key(&Subject::Contract(id));
        let due = tokio::task::spawn_blocking(move || {
            host.follow(&facts, &id)
                .map_err(|source| ProverError::Follow { contract: id, source })?;
            let contract = facts.contract.as_ref().filter(|_| !waiting);
            Ok::<_, ProverError>(contract.map(|contract| host.due(contract, facts.now)))
        });
        match due.await?? {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some(action))) => {
                self.send(Subject::Contract(id), action, nonce, tip).await.map(|_| ())
            }
            Some(Err(error)) => {
                tracing::error!(contract = %id, %error, "storage cannot be proven");
                Ok(())
            }
        }
    }

    /// While something may be due soon, the next block; else shortly before the period's end.
    fn next_look(&self, contract: &Contract, now: ChainTime) -> ChainTime {
        if contract.phase != ContractPhase::Running {
            return now;
        }
        let end = contract.period_end();
        let early = ChainTime(end.0.saturating_sub(self.host.lead(&contract.terms).0));
        early.min(now.plus(self.config.look))
    }

    /// Drops transactions that are in a block, or all if one of them is overdue.
    fn forget_included(&mut self, nonce: u64, tip: Height) {
        self.sent.retain(|_, sent| sent.nonce >= nonce);
        let patience = self.config.patience;
        if self.sent.values().any(|sent| sent.at.0.saturating_add(patience) <= tip.0) {
            tracing::warn!(sent = self.sent.len(), "transactions were not included, sending again");
            self.sent.clear();
        }
    }

    async fn announce(&mut self, nonce: u64, tip: Height) -> Result<(), ProverError> {
        if self.sent.contains_key(&Subject::Announcement) {
            return Ok(());
        }
        let wanted = self.announcement.borrow_and_update().clone();
        let id = self.host.id();
        let all = self.chain.announced_hosts().await?;
        let present = all.iter().find(|(key, _)| *key == id).map(|(_, present)| present);
        if present == Some(&wanted) {
            self.announced = true;
            return Ok(());
        }
        let action = Action::AnnounceHost(wanted);
        self.send(Subject::Announcement, action, nonce, tip).await?;
        Ok(())
    }

    /// Signs and hands in a transaction with the next nonce. A refused one is logged; it is due again.
    async fn send(
        &mut self,
        subject: Subject,
        action: Action,
        nonce: u64,
        tip: Height,
    ) -> Result<Option<TransactionId>, ProverError> {
        let next = self.sent.values().map(|sent| sent.nonce.saturating_add(1)).max();
        let nonce = next.unwrap_or(nonce).max(nonce);
        let body = TransactionBody {
            genesis: self.chain.genesis().hash(),
            account: self.host.id(),
            nonce,
            fee: self.config.fee,
            valid_until: TransactionBody::ALWAYS,
            action,
        };
        match self.chain.submit(Transaction::signed(body, &[&self.key])).await {
            Ok(id) => {
                tracing::info!(?subject, transaction = %id, nonce, "sent");
                self.sent.insert(subject, Sent { nonce, at: tip });
                Ok(Some(id))
            }
            Err(ChainError::Refused(reason)) => {
                tracing::warn!(?subject, nonce, reason, "transaction refused");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
