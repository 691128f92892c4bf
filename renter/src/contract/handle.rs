//! A live contract: paid transfers, and the list of sectors behind its revisions.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use samara_protocol::contract::{ContractId, ContractTerms, SignedRevision, SignedVoucher};
use samara_protocol::hash::{ContractNonce, SectorRoot, SlabId, SlabTag};
use samara_protocol::host::announcement::{Prices, SignedPrices};
use samara_protocol::host::message::{
    ContractCall, ContractStatus, HeadReceipt, HostRequest, HostResponse, Refusal, SlotState,
};
use samara_protocol::journal::HostIndex;
use samara_protocol::keys::KeyTree;
use samara_protocol::sector::{SectorSize, align, verify_range};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime, Epoch};

use super::budget::Budget;
use super::error::ContractError;
use super::line::{Line, Queued};
use super::link::{ContractLink, HeadAnswer};
use super::prices::PriceLimits;
use super::purse::Purse;
use super::queue::CommitQueue;
use super::records::ContractSnapshot;
use super::reports::Reports;
use crate::world::{HostCallError, Lane, World, compute};

/// Ranges above this are verified off the runtime's threads.
const INLINE_VERIFY: u32 = 128 << 10;

/// A live contract with one host. A cheap clone.
///
/// Paid calls run in parallel; commits are one at a time, and those that wait are made in one revision.
#[derive(Clone)]
pub struct ContractHandle(pub(super) Arc<Live>, pub(super) Option<Budget>);

pub(super) struct Live {
    pub(super) index: HostIndex,
    pub(super) operator: String,
    pub(super) nonce: ContractNonce,
    pub(super) terms: ContractTerms,
    pub(super) ends: ChainTime,
    pub(super) labels: Vec<ContractId>,
    pub(super) link: ContractLink,
    pub(super) purse: Purse,
    pub(super) limits: Arc<Mutex<PriceLimits>>,
    pub(super) line: Line,
    /// Latest doubly signed revision, for those who must not wait for a commit.
    pub(super) revision: Mutex<SignedRevision>,
    pub(super) commits: CommitQueue,
    /// Also makes those wait who come while the price table is asked for.
    pub(super) prices: tokio::sync::Mutex<Option<KnownPrices>>,
    /// The epoch that the host has promised, as far as it is known here.
    pub(super) promised: Mutex<Epoch>,
    /// Whether the purse agrees with the host.
    pub(super) synced: tokio::sync::Mutex<bool>,
}

/// A price table and the local time until which it is used.
pub(super) struct KnownPrices {
    signed: SignedPrices,
    use_until: u64,
}

impl std::fmt::Debug for ContractHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContractHandle")
            .field("index", &self.0.index)
            .field("host", &self.0.link.host())
            .field("id", &self.0.link.id())
            .finish_non_exhaustive()
    }
}

impl ContractHandle {
    /// The same contract, whose paid calls come out of this budget.
    #[must_use]
    pub fn within(&self, budget: Option<Budget>) -> Self {
        Self(Arc::clone(&self.0), budget)
    }

    /// The host's number in the renter's table.
    #[must_use]
    pub fn index(&self) -> HostIndex {
        self.0.index
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> PublicKey {
        self.0.link.host()
    }

    /// The contract.
    #[must_use]
    pub fn id(&self) -> ContractId {
        self.0.link.id()
    }

    /// Who runs the host.
    #[must_use]
    pub fn operator(&self) -> &str {
        &self.0.operator
    }

    /// What was agreed.
    #[must_use]
    pub fn terms(&self) -> &ContractTerms {
        &self.0.terms
    }

    /// When its last period ends.
    #[must_use]
    pub fn ends(&self) -> ChainTime {
        self.0.ends
    }

    /// Tags under which the host may have a slab's descriptor. New ones are filed under the first. A
    /// renewed contract keeps the label of the first of its line, so that nothing is filed again.
    #[must_use]
    pub fn slab_tags(&self, keys: &KeyTree, slab: &SlabId) -> Vec<SlabTag> {
        let tags = keys.slab_tag_key();
        self.0.labels.iter().map(|label| tags.tag(label, slab)).collect()
    }

    /// Whether both go through one queue.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The tag under which new descriptors of a slab are filed.
    #[must_use]
    pub fn slab_tag(&self, keys: &KeyTree, slab: &SlabId) -> SlabTag {
        let label = self.0.labels.first().copied().unwrap_or_else(|| self.id());
        keys.slab_tag_key().tag(&label, slab)
    }

    /// What the head keeps of the contract.
    #[must_use]
    pub fn snapshot(&self) -> ContractSnapshot {
        ContractSnapshot {
            nonce: self.nonce(),
            revision: self.revision(),
            voucher_total: self.voucher_total(),
            labels: self.0.labels.clone(),
        }
    }

    /// The nonce from which the contract's key derives.
    #[must_use]
    pub fn nonce(&self) -> ContractNonce {
        self.0.nonce
    }

    /// The contract's signed channel.
    #[must_use]
    pub fn link(&self) -> &ContractLink {
        &self.0.link
    }

    /// The latest doubly signed revision that this node knows.
    #[must_use]
    pub fn revision(&self) -> SignedRevision {
        *lock(&self.0.revision)
    }

    /// Highest voucher total signed.
    #[must_use]
    pub fn voucher_total(&self) -> Amount {
        self.0.purse.total()
    }

    /// A voucher over everything owed so far, for closing or renewing; nothing if nothing is owed.
    #[must_use]
    pub fn last_voucher(&self) -> Option<SignedVoucher> {
        (self.0.purse.total() > Amount::ZERO)
            .then(|| {
                let link = &self.0.link;
                self.0.purse.reserve(link, link.writer().epoch(), Amount::ZERO).ok()
            })
            .flatten()
    }

    /// Money that vouchers may still cover.
    #[must_use]
    pub fn money_left(&self) -> Amount {
        self.0.purse.left()
    }

    /// Stores a sector durably; it stays only if a commit follows within the host's grace time.
    ///
    /// # Errors
    /// [`ContractError`]; nothing needs to be undone after any of them.
    pub async fn store(&self, root: SectorRoot, data: Bytes) -> Result<(), ContractError> {
        self.store_in_turn(root, data, Queued::default()).await
    }

    /// As [`ContractHandle::store`]; holds the ticket while it waits for the line.
    pub(crate) async fn store_in_turn(
        &self,
        root: SectorRoot,
        data: Bytes,
        ticket: Queued,
    ) -> Result<(), ContractError> {
        let bytes = data.len() as u64;
        self.0.line.send(bytes).await;
        drop(ticket);
        self.store_now(root, data).await
    }

    /// As [`ContractHandle::store`], without waiting for the line.
    pub(crate) async fn store_at_once(
        &self,
        root: SectorRoot,
        data: Bytes,
    ) -> Result<(), ContractError> {
        self.0.line.send_at_once(data.len() as u64);
        self.store_now(root, data).await
    }

    async fn store_now(&self, root: SectorRoot, data: Bytes) -> Result<(), ContractError> {
        let bytes = data.len() as u64;
        let answer = self
            .paid(
                Access::Write,
                |prices| prices.store_cost(bytes),
                |voucher| ContractCall::Store { voucher, root, data: data.clone() },
            )
            .await?;
        match answer {
            HostResponse::Stored => Ok(()),
            _ => Err(self.0.link.unexpected("store")),
        }
    }

    /// Reads `range` of a sector of `size`, verified against its root; any range within the sector. The
    /// bytes share the memory of the answer.
    ///
    /// # Errors
    /// [`ContractError`]; `False` if the bytes or their proof are not true.
    pub async fn read(
        &self,
        root: SectorRoot,
        size: SectorSize,
        range: Range<u32>,
    ) -> Result<Bytes, ContractError> {
        self.read_in_turn(root, size, range, Queued::default()).await
    }

    /// As [`ContractHandle::read`]; holds the ticket while it waits for the line.
    pub(crate) async fn read_in_turn(
        &self,
        root: SectorRoot,
        size: SectorSize,
        range: Range<u32>,
        ticket: Queued,
    ) -> Result<Bytes, ContractError> {
        let Some(aligned) = align(size, range.clone()) else { return Ok(Bytes::new()) };
        self.0.line.fetch(u64::from(aligned.end - aligned.start)).await;
        drop(ticket);
        self.read_now(root, size, range, aligned).await
    }

    /// As [`ContractHandle::read`], without waiting for the line.
    pub(crate) async fn read_at_once(
        &self,
        root: SectorRoot,
        size: SectorSize,
        range: Range<u32>,
    ) -> Result<Bytes, ContractError> {
        let Some(aligned) = align(size, range.clone()) else { return Ok(Bytes::new()) };
        self.0.line.fetch_at_once(u64::from(aligned.end - aligned.start));
        self.read_now(root, size, range, aligned).await
    }

    /// Reads `range` out of the `aligned` one, which can be proven.
    async fn read_now(
        &self,
        root: SectorRoot,
        size: SectorSize,
        range: Range<u32>,
        aligned: Range<u32>,
    ) -> Result<Bytes, ContractError> {
        let length = aligned.end - aligned.start;
        let answer = self
            .paid(
                Access::Read,
                |prices| prices.read_cost(u64::from(length)),
                |voucher| ContractCall::Read { voucher, root, offset: aligned.start, length },
            )
            .await?;
        let HostResponse::Range { data, proof } = answer else {
            return Err(self.0.link.unexpected("read"));
        };
        let checked = if length > INLINE_VERIFY {
            let (aligned, data) = (aligned.clone(), data.clone());
            compute(self.0.link.world().compute.as_ref(), move || {
                verify_range(&root, size, aligned, &data, &proof)
            })
            .await
        } else {
            verify_range(&root, size, aligned.clone(), &data, &proof)
        };
        checked.map_err(|error| self.0.link.false_answer(error.to_string()))?;
        // Verified bytes are as long as the aligned range.
        let within = |at: u32| (at - aligned.start) as usize;
        Ok(data.slice(within(range.start)..within(range.end)))
    }

    /// See [`ContractLink::descriptors`].
    ///
    /// # Errors
    /// [`ContractError`].
    pub async fn descriptors(
        &self,
        tags: &[SlabTag],
    ) -> Result<Vec<Option<Vec<u8>>>, ContractError> {
        self.0.link.descriptors(tags).await
    }

    /// See [`ContractLink::latest`]. A revision older than the one known here is a false answer.
    ///
    /// # Errors
    /// [`ContractError`].
    pub async fn latest(&self) -> Result<ContractStatus, ContractError> {
        let known = self.revision().revision.number;
        let status = self.0.link.latest().await?;
        let shown = status.revision.revision.number;
        if shown < known {
            let reason = format!("it shows revision {shown} after it signed revision {known}");
            return Err(self.0.link.false_answer(reason));
        }
        Ok(status)
    }

    /// Makes sure that the host has promised no other node a higher epoch. Reads are not refused for one,
    /// and vouchers of two nodes get into each other's way: what is read unasked must stop before.
    ///
    /// # Errors
    /// [`ContractError`]; `Fenced` if another node has taken over.
    pub async fn check_epoch(&self) -> Result<(), ContractError> {
        let status = self.latest().await?;
        self.0.link.writer().fence(status.promised.epoch);
        self.0.link.check_fence()
    }

    /// See [`ContractLink::head`].
    ///
    /// # Errors
    /// [`ContractError`].
    pub async fn head(&self) -> Result<HeadAnswer, ContractError> {
        self.0.link.head().await
    }

    /// See [`ContractLink::promise`].
    ///
    /// # Errors
    /// [`ContractError`].
    pub async fn promise(&self, epoch: Epoch) -> Result<HeadAnswer, ContractError> {
        self.0.link.promise(epoch).await
    }

    /// See [`ContractLink::head_append`].
    ///
    /// # Errors
    /// [`ContractError`].
    pub async fn head_append(
        &self,
        expected: SlotState,
        tail: Vec<u8>,
        new: SlotState,
    ) -> Result<HeadReceipt, ContractError> {
        self.0.link.head_append(expected, tail, new).await
    }

    /// See [`ContractLink::head_put`].
    ///
    /// # Errors
    /// [`ContractError`].
    pub async fn head_put(
        &self,
        expected: SlotState,
        head: Vec<u8>,
        new: SlotState,
    ) -> Result<HeadReceipt, ContractError> {
        self.0.link.head_put(expected, head, new).await
    }

    /// Sends a paid call; once more with fresh prices and totals if the host finds the pay too small.
    ///
    /// Reading goes on for a node that is fenced, or that reads without having claimed an epoch: its
    /// vouchers then carry the epoch that the host has promised. They only pay.
    async fn paid(
        &self,
        access: Access,
        cost: impl Fn(&Prices) -> Amount,
        call: impl Fn(SignedVoucher) -> ContractCall,
    ) -> Result<HostResponse, ContractError> {
        let link = &self.0.link;
        let (mut paid_less, mut fenced) = (false, false);
        loop {
            if access == Access::Write {
                link.check_fence()?;
            }
            self.sync().await?;
            let cost = cost(&self.prices().await?.prices);
            let writer = link.writer();
            let epoch = match access {
                Access::Write => writer.epoch(),
                Access::Read => writer.epoch().max(*lock(&self.0.promised)),
            };
            let voucher = self.reserve(epoch, cost)?;
            let error = match link.call(Lane::Bulk, call(voucher)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !error.is_in_doubt() {
                self.0.purse.refund(cost);
                self.1.iter().for_each(|budget| budget.give_back(cost));
            }
            match &error {
                ContractError::Refused { refusal: Refusal::Payment { .. }, .. } if !paid_less => {
                    paid_less = true;
                    *self.0.prices.lock().await = None;
                    *self.0.synced.lock().await = false;
                }
                ContractError::Refused { refusal: Refusal::Payment { needed, .. }, .. } => {
                    return Err(self.out_of_money(*needed));
                }
                ContractError::Fenced { promised, .. } if access == Access::Read && !fenced => {
                    fenced = true;
                    *lock(&self.0.promised) = *promised;
                }
                // The voucher was made before this node claimed its epoch.
                ContractError::Refused { refusal: Refusal::Fenced { .. }, .. } if !fenced => {
                    fenced = true;
                }
                _ => return Err(error),
            }
        }
    }

    /// A voucher that covers `cost` more, if the operation may spend so much.
    fn reserve(&self, epoch: Epoch, cost: Amount) -> Result<SignedVoucher, ContractError> {
        let within = |budget: &Budget| budget.take(cost);
        if !self.1.as_ref().is_none_or(within) {
            return Err(ContractError::OverBudget { host: self.host(), needed: cost });
        }
        let voucher = self.0.purse.reserve(&self.0.link, epoch, cost);
        if voucher.is_err() {
            self.1.iter().for_each(|budget| budget.give_back(cost));
        }
        voucher
    }

    /// The host finds a payment too small that cannot be raised: this contract's money is at its end.
    pub(super) fn out_of_money(&self, needed: Amount) -> ContractError {
        let funds = self.0.terms.funds;
        ContractError::OutOfMoney { host: self.host(), contract: self.id(), needed, funds }
    }

    /// Makes sure once that the purse counts what the host counts.
    async fn sync(&self) -> Result<(), ContractError> {
        let mut synced = self.0.synced.lock().await;
        if !*synced {
            let status = self.latest().await?;
            self.0.purse.learn(status.voucher_total, status.consumed);
            *lock(&self.0.promised) = status.promised.epoch;
            *synced = true;
        }
        Ok(())
    }

    /// The host's signed prices, asked again before they expire, and within the allowance's limits.
    ///
    /// # Errors
    /// [`ContractError`]; `TooExpensive` above the limits.
    pub async fn prices(&self) -> Result<SignedPrices, ContractError> {
        let world = self.0.link.world();
        let mut known = self.0.prices.lock().await;
        if let Some(prices) = known.as_ref().filter(|p| world.clock.now() < p.use_until) {
            return Ok(prices.signed.clone());
        }
        let host = self.host();
        let signed = ask_prices(world, self.0.link.reports(), host).await?;
        let limits = *lock(&self.0.limits);
        limits.check_transfer(&host, &signed.prices)?;
        let tip = world.chain.tip().await;
        let tip = tip.map_err(|source| ContractError::Chain { host, source })?;
        let now = tip.map_or(world.chain.genesis().time, |tip| tip.header.time);
        // A quarter of the time is left for the call itself and for clocks that run apart.
        let span = signed.valid_until.since(now).0 / 4 * 3;
        *known = Some(KnownPrices {
            signed: signed.clone(),
            use_until: world.clock.now().saturating_add(span),
        });
        Ok(signed)
    }
}

/// Whether a paid call changes what the host keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

/// Asks a host for its signed prices.
pub(super) async fn ask_prices(
    world: &World,
    reports: &Reports,
    host: PublicKey,
) -> Result<SignedPrices, ContractError> {
    let started = world.clock.now();
    let answer = world.hosts.call(&host, Lane::Control, HostRequest::Prices).await;
    let answer = answer.inspect_err(|error| reports.failed(&host, error))?;
    reports.answered(&host, Lane::Control, world.clock.now().saturating_sub(started));
    match answer {
        HostResponse::Prices(signed)
            if signed.host == host && signed.verify(&world.chain.genesis().hash()) =>
        {
            Ok(*signed)
        }
        HostResponse::Refused(refusal) => Err(ContractError::Refused { host, refusal }),
        _ => {
            let reason = "its price table is not signed by it".to_owned();
            reports.false_answer(&host, &reason);
            Err(HostCallError::False { host, reason }.into())
        }
    }
}
