//! Formations and renewals: terms, the host's signature, and the way to the chain.
//!
//! What both sides have signed is valid for a short while of chain time. Until then its money is counted
//! as spent and a contract that it renews is not renewed again; if it is not on the chain by then, it
//! never will be, and both sides go on as if it had not been.

use samara_protocol::chain::{Action, Transaction, TransactionBody};
use samara_protocol::contract::{ContractId, ContractTerms};
use samara_protocol::encoding;
use samara_protocol::hash::{ContractNonce, TransactionId};
use samara_protocol::host::SignedPrices;
use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::journal::HostIndex;
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime, Millis};
use serde::{Deserialize, Serialize};

use super::{Contractor, ContractorError};
use crate::account;
use crate::contract::commit::frozen;
use crate::contract::error::ContractError;
use crate::contract::handle::{ContractHandle, ask_prices};
use crate::world::{ChainError, HostCallError, Lane, Pages, StoreError, Write, random_bytes};

/// Formations and renewals that were handed to the chain.
pub(super) const FORMING: &[u8] = b"contract/forming/";
/// Every contract that this node ever asked for.
const DRAWN: &[u8] = b"contract/drawn/";
/// Chain time for which an agreement is valid, besides a heartbeat. Hosts sign for five minutes.
const AGREEMENT: Millis = Millis::seconds(120);
/// Settlements pay for so much more time than has passed, because blocks come in between.
const SETTLEMENT_SLACK: Millis = Millis::seconds(120);

/// A formation that was handed to the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Forming {
    pub(super) terms: ContractTerms,
    pub(super) operator: String,
    /// The contract that it renews.
    pub(super) renews: Option<HostIndex>,
    /// From this chain time on it is dead, unless it is on the chain: its money is free again.
    pub(super) valid_until: ChainTime,
    /// Whether the host's signature is known. It has all others, so what it seems to have refused may
    /// still come to the chain and is looked for; plans do not count with it.
    pub(super) agreed: bool,
}

impl Forming {
    pub(super) fn key(&self) -> Vec<u8> {
        [FORMING, self.terms.contract.as_bytes()].concat()
    }

    /// Keeps it until it is in use or dead.
    fn note(&self) -> Write {
        Write::Put(self.key(), encoding::encode(self))
    }

    /// Remembers the contract for good, whatever becomes of it: see [`Contractor::has_drawn`].
    fn drawn(&self) -> Write {
        Write::Put([DRAWN, self.terms.contract.as_bytes()].concat(), Vec::new())
    }

    /// What it may take from the account, if it is no renewal.
    pub(super) fn cost(&self, fee: Amount) -> Amount {
        self.terms.funds.saturating_add(fee)
    }
}

/// What is to be asked for.
fn forming(terms: ContractTerms, operator: String, renews: Option<HostIndex>) -> Forming {
    Forming { terms, operator, renews, valid_until: ChainTime::default(), agreed: false }
}

/// Transactions of the account that wait for a block.
#[derive(Clone, Default)]
pub(super) struct Outbox {
    sent: Vec<TransactionId>,
    /// Number of the next one, if any was sent.
    next: u64,
}

impl Outbox {
    /// One more transaction waits for a block.
    fn note(&mut self, nonce: u64, id: TransactionId) {
        self.next = nonce.saturating_add(1);
        self.sent.push(id);
    }
}

/// A transfer that waits for its block outside of any turn: until this is dropped, others of the account
/// are numbered after it.
pub(crate) struct Waiting {
    contractor: Contractor,
    id: TransactionId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (_, outbox) = &mut *lock(&self.contractor.0.waiting);
        outbox.sent.retain(|sent| *sent != self.id);
        if outbox.sent.is_empty() {
            outbox.next = 0;
        }
    }
}

impl Contractor {
    /// What waits outside of any turn.
    pub(super) fn outbox(&self) -> Outbox {
        let waiting = lock(&self.0.waiting);
        if waiting.0 == self.account() { waiting.1.clone() } else { Outbox::default() }
    }

    /// Number of the account's next transaction, where the chain counts so many. For the holder of the
    /// turn.
    pub(crate) fn next_nonce(&self, known: u64) -> u64 {
        known.max(self.outbox().next)
    }

    /// A transaction was submitted within a turn, and its block is not waited for there.
    pub(crate) fn waits(&self, nonce: u64, id: TransactionId) -> Waiting {
        let account = self.account();
        let mut waiting = lock(&self.0.waiting);
        if waiting.0 != account {
            *waiting = (account, Outbox::default());
        }
        waiting.1.note(nonce, id);
        drop(waiting);
        Waiting { contractor: self.clone(), id }
    }

    /// Waits until blocks have what waits now, or it is given up.
    pub(crate) async fn wait_out(&self) {
        for id in self.outbox().sent {
            // What became of each is told by its own outcome.
            let _ = self.world().chain.included(&id).await;
        }
    }
}

impl Contractor {
    /// What was handed to the chain and is not in use yet.
    pub(super) async fn forming(&self) -> Result<Vec<Forming>, ContractorError> {
        let rows = Pages::below(self.world().store.as_ref(), FORMING).collect().await?;
        rows.iter().map(|(_, value)| Ok(encoding::decode(value)?)).collect()
    }

    /// Whether this node (this store) has ever asked for the contract, whatever became of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_drawn(&self, contract: &ContractId) -> Result<bool, StoreError> {
        let key = [DRAWN, contract.as_bytes()].concat();
        Ok(self.world().store.read(&key).await?.is_some())
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
    pub(super) async fn start_forming(
        &self,
        host: PublicKey,
        operator: &str,
        funds: Amount,
        outbox: &mut Outbox,
    ) -> Result<(TransactionId, Forming), ContractorError> {
        let prices = self.prices(host).await?;
        let terms = self.terms(&prices, funds)?;
        let operator = operator.to_owned();
        let mut forming = forming(terms, operator, None);
        let action = Action::FormContract(Box::new(forming.terms.clone()));
        let contract_key = self.0.book.keys().contract(&forming.terms.nonce);
        let id = self.send(&mut forming, action, &[&contract_key], outbox).await?;
        Ok((id, forming))
    }

    /// Renews one contract, with no revision under way meanwhile.
    pub(super) async fn renew(
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
        let renews = Some(old.index());
        let mut forming = forming(terms, operator, renews);
        let action = Action::RenewContract {
            old: old.id(),
            last,
            voucher,
            settlement: earned.min(left),
            terms: Box::new(forming.terms.clone()),
        };
        let new_key = keys.contract(&forming.terms.nonce);
        let id = self.send(&mut forming, action, &[&new_key, old.link().key()], outbox).await?;
        chain.included(&id).await?;
        let contract = self.on_chain(&forming.terms).await?;
        let handle = self.0.book.renewed(&contract, old).await?;
        self.forget(&forming).await?;
        Ok(handle)
    }

    /// Ends a contract that another node's words forbid to use and under which nothing was stored, so
    /// that its money comes back before its term is over. If that fails it comes back then.
    pub(super) async fn give_back(&self, forming: &Forming, outbox: &mut Outbox) {
        match self.close(&forming.terms, outbox).await {
            Ok(id) => tracing::info!(transaction = %id, "an unused contract is closed"),
            Err(error) => {
                tracing::warn!(%error, "an unused contract keeps its money until its end")
            }
        }
    }

    async fn close(
        &self,
        terms: &ContractTerms,
        outbox: &mut Outbox,
    ) -> Result<TransactionId, ContractorError> {
        let contract = terms.contract;
        let action = Action::CloseContract { contract, voucher: None, settlement: Amount::ZERO };
        let body = self.body(action, outbox).await?;
        let nonce = body.nonce;
        let contract_key = self.0.book.keys().contract(&terms.nonce);
        let asked = Transaction::signed(body, &[&self.key(), &contract_key]);
        let transaction = self.agree(terms.host, asked).await?;
        let id = self.world().chain.submit(transaction).await?;
        outbox.note(nonce, id);
        Ok(id)
    }

    /// The account's next transaction, valid for a short while from now on.
    async fn body(&self, action: Action, outbox: &Outbox) -> Result<TransactionBody, ChainError> {
        let (chain, account) = (self.world().chain.as_ref(), self.key().public());
        // The chain counts what is in blocks; what waits for one comes on top.
        let nonce = chain.account(&account).await?.nonce.max(outbox.next);
        // The tip, from whose time it counts, may be a heartbeat old.
        let validity = chain.genesis().parameters.heartbeat.0.saturating_add(AGREEMENT.0);
        let valid_until = self.chain_time().await?.plus(Millis(validity));
        Ok(account::body(chain, account, nonce, valid_until, action))
    }

    /// Notes, signs, lets the host sign and submits. What is signed is valid for a short while; a chain
    /// that wants the transactions before it in a block first is given that, once.
    async fn send(
        &self,
        forming: &mut Forming,
        action: Action,
        keys: &[&SecretKey],
        outbox: &mut Outbox,
    ) -> Result<TransactionId, ContractorError> {
        let chain = self.world().chain.clone();
        let account = self.key();
        let mut again = !outbox.sent.is_empty();
        loop {
            let body = self.body(action.clone(), outbox).await?;
            let nonce = body.nonce;
            forming.valid_until = body.valid_until;
            let host = forming.terms.host;
            let mut all: Vec<&SecretKey> = vec![&account];
            all.extend(keys);
            // The host can submit what it is given: it is noted before.
            forming.agreed = false;
            self.world().store.commit(vec![forming.note(), forming.drawn()]).await?;
            let transaction = self.agree(host, Transaction::signed(body, &all)).await?;
            forming.agreed = true;
            self.world().store.commit(vec![forming.note()]).await?;
            match chain.submit(transaction).await {
                Ok(id) => {
                    outbox.note(nonce, id);
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
                        forming.agreed = false;
                        self.world().store.commit(vec![forming.note()]).await?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// Adds the host's signature, the last one.
    async fn agree(
        &self,
        host: PublicKey,
        mut asked: Transaction,
    ) -> Result<Transaction, ContractorError> {
        let (world, reports) = (self.world(), self.0.book.reports());
        let request = HostRequest::Agree(Box::new(asked.clone()));
        let answer = world.hosts.call(&host, Lane::Control, request).await;
        let answer = answer.inspect_err(|error| reports.failed(&host, error));
        match answer.map_err(ContractError::from)? {
            HostResponse::Agreed(signature) if host.verify(asked.id().as_bytes(), &signature) => {
                asked.signatures.push((host, signature));
                Ok(asked)
            }
            HostResponse::Refused(refusal) => {
                reports.refused(&host, &refusal);
                Err(ContractError::Refused { host, refusal }.into())
            }
            _ => {
                let reason = "its agreement is not signed by it".to_owned();
                reports.false_answer(&host, &reason);
                Err(ContractError::from(HostCallError::False { host, reason }).into())
            }
        }
    }

    /// The contract as the chain shows it after its block.
    pub(super) async fn on_chain(
        &self,
        terms: &ContractTerms,
    ) -> Result<Contract, ContractorError> {
        let contract = self.world().chain.contract(&terms.contract).await?;
        let (host, contract_id) = (terms.host, terms.contract);
        contract.ok_or(ContractorError::NotOnChain { host, contract: contract_id })
    }

    pub(super) async fn forget(&self, forming: &Forming) -> Result<(), StoreError> {
        self.world().store.commit(vec![Write::Delete(forming.key())]).await
    }
}
