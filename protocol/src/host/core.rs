//! The host: one entrance for all requests.
//!
//! [`Host::handle`] is synchronous and may be called from many threads. What it answers is true of the
//! store: whatever an answer promises was durable before it. Each contract has a lock of its own, held
//! during a durable write of that contract and never while sectors are read or written, so parallel
//! transfers run side by side. Lock order: the map of contracts, then one contract, then agreements,
//! prices or the index of sectors; nobody holds two contracts but a renewal, which holds the map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::announcement::Prices;
use super::claim::EpochClaim;
use super::message::{
    ContractCall, ContractRequest, ContractStatus, HeadReceipt, HostRequest, HostResponse,
    MAX_ENTRIES, MAX_TAGS, Refusal, SignedSlot,
};
use super::sector_index::SectorIndex;
use super::store::{
    Agreement, ContractRecord, HostStore, HostStoreError, HostWrite, IssuedPrices, Temporary,
};
use crate::chain::Action;
use crate::contract::{ContractId, SignedRevision};
use crate::hash::{BlockHash, Digest, SectorRoot, SlabTag};
use crate::ledger::state::{Account, Contract};
use crate::sector::{SectorEntry, SectorSize, SectorTree};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::sync::lock;
use crate::units::{Amount, ChainTime, Epoch, Height, Millis};

/// What the shell has read from the chain for one request.
#[derive(Clone, Debug)]
pub struct ChainFacts {
    /// Time of the tip.
    pub now: ChainTime,
    /// Height of the tip.
    pub tip: Height,
    /// What the host's account can spend.
    pub balance: Amount,
    /// The account that [`Host::payer`] names, read before `balance`: what that account has sent is
    /// then taken off the balance already.
    pub payer: Account,
    /// The contract that [`Host::concerns`] names, if it is on the chain.
    pub contract: Option<Contract>,
}

/// A host's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRules {
    /// Smallest sector it stores.
    pub minimum_sector: SectorSize,
    /// How long a signed price table binds.
    pub price_validity: Millis,
    /// Longest time for which it signs a formation or renewal. So long its collateral is kept apart
    /// and the contract that it renews stands still. Longer than the chain's heartbeat, because a tip
    /// may be that old.
    pub agreement_lifetime: Millis,
    /// Most formations that wait for the chain. Endings of contracts are not counted: each contract
    /// has one of its own.
    pub formations: usize,
    /// Most formations that wait for one peer.
    pub formations_per_peer: usize,
    /// How long before the end of a period it publishes what is to be proven, and agrees to no removal
    /// any more; for short periods half of the period.
    pub publish_lead: Millis,
    /// Shortest proof window that it agrees to.
    pub minimum_window: Millis,
    /// How long a stored sector waits for its commit.
    pub temporary_grace: Millis,
    /// How long data is kept after its contract left the chain.
    pub contract_grace: Millis,
}

impl Default for HostRules {
    fn default() -> Self {
        Self {
            minimum_sector: SectorSize::HOST_MIN,
            price_validity: Millis::seconds(600),
            agreement_lifetime: Millis::seconds(300),
            formations: 1_024,
            formations_per_peer: 16,
            publish_lead: Millis::seconds(300),
            minimum_window: Millis::seconds(1),
            temporary_grace: Millis::hours(6),
            contract_grace: Millis::hours(24),
        }
    }
}

/// A host over its store.
#[derive(Debug)]
pub struct Host<S> {
    pub(super) store: S,
    pub(super) key: SecretKey,
    pub(super) id: PublicKey,
    pub(super) genesis: BlockHash,
    pub(super) rules: HostRules,
    pub(super) contracts: Mutex<BTreeMap<ContractId, Arc<Mutex<Live>>>>,
    pub(super) sectors: SectorIndex,
    pub(super) agreements: Mutex<BTreeMap<ContractId, Agreement>>,
    pub(super) offer: Mutex<Offer>,
}

/// What the host asks for now, and what it still has to stand by.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) accepting: bool,
    /// The current prices last.
    pub(super) issued: Vec<IssuedPrices>,
}

/// A contract in memory.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: ContractId,
    pub(super) record: ContractRecord,
    pub(super) list: Vec<SectorEntry>,
    pub(super) tree: SectorTree,
    /// Sizes of the sectors in the list, and how often they are in it.
    pub(super) committed: BTreeMap<SectorRoot, (SectorSize, u64)>,
    pub(super) temporary: BTreeMap<SectorRoot, Temporary>,
    /// State of the hash over the head slot's bytes, once it was needed.
    pub(super) head: Option<blake3::Hasher>,
    /// Whether the record in memory is ahead of the store's.
    pub(super) dirty: bool,
    /// Whether the store has a record.
    pub(super) known: bool,
    /// Whether it was swept away while somebody still held it.
    pub(super) swept: bool,
}

impl Live {
    pub(super) fn new(id: ContractId, record: ContractRecord, list: Vec<SectorEntry>) -> Self {
        let mut committed = BTreeMap::new();
        for entry in &list {
            committed.entry(entry.root).or_insert((entry.size, 0)).1 += 1;
        }
        Self {
            id,
            record,
            tree: list.iter().collect(),
            list,
            committed,
            temporary: BTreeMap::new(),
            head: None,
            dirty: false,
            known: true,
            swept: false,
        }
    }

    /// Sectors that it needs, and how often.
    fn needs(&self) -> impl Iterator<Item = (SectorRoot, u64)> {
        let committed = self.committed.iter().map(|(root, (_, count))| (*root, *count));
        committed.chain(self.temporary.keys().map(|root| (*root, 1)))
    }

    /// Size of a sector that is held under this contract.
    pub(super) fn size_of(&self, root: &SectorRoot) -> Option<SectorSize> {
        let committed = self.committed.get(root).map(|(size, _)| *size);
        committed.or_else(|| self.temporary.get(root).map(|temporary| temporary.entry.size))
    }

    /// Total of the highest voucher.
    pub(super) fn voucher_total(&self) -> Amount {
        self.record.voucher.map_or(Amount::ZERO, |signed| signed.voucher.total)
    }
}

impl ContractRecord {
    /// The record of a contract as the chain shows it, before anything was asked about it.
    #[must_use]
    pub fn formed(contract: &Contract) -> Self {
        let (renter, host) = (Signature::EMPTY, Signature::EMPTY);
        Self {
            revision: SignedRevision { revision: contract.revision, renter, host },
            commit: Digest::ZERO,
            slot: SignedSlot::EMPTY,
            promised: EpochClaim::NONE,
            voucher: None,
            consumed: Amount::ZERO,
            descriptors: 0,
            ends: contract.ends(),
            gone: None,
            successor: None,
            predecessor: None,
        }
    }
}

/// A request about a contract, without its call.
pub(super) struct Ask<'a> {
    pub(super) facts: &'a ChainFacts,
    pub(super) contract: Option<&'a Contract>,
    pub(super) id: ContractId,
    pub(super) claim: EpochClaim,
    pub(super) challenge: [u8; 16],
}

impl Ask<'_> {
    /// The writer's epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.claim.epoch
    }

    /// The contract, if its term runs.
    pub(super) fn running(&self, live: &Live) -> Result<&Contract, Refusal> {
        let contract = self.on_chain(live)?;
        let (contract_id, ended) = (self.id, contract.ends());
        if self.facts.now >= ended {
            return Err(Refusal::Expired { contract: contract_id, ended });
        }
        Ok(contract)
    }

    /// The contract, if the chain still has it; its term may be over.
    pub(super) fn on_chain(&self, live: &Live) -> Result<&Contract, Refusal> {
        let ended = Refusal::Expired { contract: self.id, ended: live.record.ends };
        if live.swept {
            return Err(Refusal::UnknownContract(self.id));
        }
        if live.record.successor.is_some() {
            return Err(ended);
        }
        self.contract.ok_or(ended)
    }
}

/// Refuses an epoch below the promised one.
pub(super) fn fence(given: Epoch, promised: &EpochClaim) -> Result<(), Refusal> {
    if given < promised.epoch {
        Err(Refusal::Fenced { given, promised: Box::new(*promised) })
    } else {
        Ok(())
    }
}

pub(super) fn bad(reason: impl Into<String>) -> Refusal {
    Refusal::BadRequest(reason.into())
}

impl From<HostStoreError> for Refusal {
    fn from(error: HostStoreError) -> Self {
        match error {
            HostStoreError::Full { needed, free } => Self::Full { free, needed },
            failed @ HostStoreError::Failed { .. } => Self::Internal(failed.to_string()),
        }
    }
}

impl<S: HostStore> Host<S> {
    /// Opens a host over what its store holds: counts which sectors are needed, removes those that are
    /// not, and notes those that are needed and gone as damaged.
    ///
    /// # Errors
    /// [`HostStoreError`] when the store cannot be read or written.
    pub fn open(
        store: S,
        key: SecretKey,
        genesis: BlockHash,
        rules: HostRules,
        prices: Prices,
        accepting: bool,
        now: ChainTime,
    ) -> Result<Self, HostStoreError> {
        let mut contracts = BTreeMap::new();
        for id in store.contracts()? {
            let Some(record) = store.record(&id)? else { continue };
            contracts.insert(id, Live::new(id, record, store.sectors(&id)?));
        }
        for temporary in store.temporaries()? {
            if let Some(live) = contracts.get_mut(&temporary.contract) {
                live.temporary.insert(temporary.entry.root, temporary);
            }
        }
        let mut needed = BTreeMap::<SectorRoot, u64>::new();
        for (root, count) in contracts.values().flat_map(Live::needs) {
            *needed.entry(root).or_default() += count;
        }
        let sectors = SectorIndex::open(&store, needed)?;
        let agreements =
            store.agreements()?.into_iter().map(|agreement| (agreement.contract, agreement));
        let offer = Offer { accepting, issued: store.prices()? };
        let host = Self {
            id: key.public(),
            agreements: Mutex::new(agreements.collect()),
            contracts: Mutex::new(
                contracts.into_iter().map(|(id, live)| (id, Arc::new(Mutex::new(live)))).collect(),
            ),
            sectors,
            offer: Mutex::new(offer),
            store,
            key,
            genesis,
            rules,
        };
        host.offer(prices, accepting, now)?;
        Ok(host)
    }

    /// The host's identity.
    #[must_use]
    pub fn id(&self) -> PublicKey {
        self.id
    }

    /// Its store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The contract whose state on the chain is needed to answer a request.
    #[must_use]
    pub fn concerns(request: &HostRequest) -> Option<ContractId> {
        match request {
            HostRequest::Prices => None,
            HostRequest::Contract(request) => Some(request.contract),
            HostRequest::Agree(asked) => match &asked.body.action {
                Action::FormContract(terms) => Some(terms.contract),
                Action::RenewContract { old, .. } => Some(*old),
                Action::CloseContract { contract, .. } => Some(*contract),
                _ => None,
            },
        }
    }

    /// The account whose state on the chain is needed to answer a request.
    #[must_use]
    pub fn payer(request: &HostRequest) -> Option<PublicKey> {
        match request {
            HostRequest::Agree(asked) => Some(asked.body.account),
            HostRequest::Prices | HostRequest::Contract(_) => None,
        }
    }

    /// Whether a request is signed by its contract's key for this host.
    #[must_use]
    pub fn is_signed(&self, request: &ContractRequest) -> bool {
        request.verify(&self.genesis, &self.id)
    }

    /// Answers a request of the peer `from`. A refusal changes nothing.
    pub fn handle(
        &self,
        facts: &ChainFacts,
        from: &PublicKey,
        request: HostRequest,
    ) -> HostResponse {
        let answer = match request {
            HostRequest::Prices => {
                Ok(HostResponse::Prices(Box::new(self.signed_prices(facts.now))))
            }
            HostRequest::Agree(asked) => self.agree(facts, from, *asked).map(HostResponse::Agreed),
            HostRequest::Contract(request) => self.contract_request(facts, *request),
        };
        answer.unwrap_or_else(HostResponse::Refused)
    }

    fn contract_request(
        &self,
        facts: &ChainFacts,
        request: ContractRequest,
    ) -> Result<HostResponse, Refusal> {
        if !self.is_signed(&request) {
            return Err(bad("the contract's key did not sign this request for this host"));
        }
        let id = request.contract;
        let contract = facts.contract.as_ref().filter(|c| self.is_ours(c, &id));
        let live = self.live(facts, contract, &id)?;
        let (claim, challenge) = (request.claim, request.challenge);
        let ask = Ask { facts, contract, id, claim, challenge };
        match request.call {
            ContractCall::Store { voucher, root, data } => {
                self.store_sector(&ask, &live, &voucher, root, &data)
            }
            ContractCall::Read { voucher, root, offset, length } => {
                self.read_sector(&ask, &live, &voucher, root, offset, length)
            }
            ContractCall::Commit(commit) => {
                self.commit(&ask, &mut lock(&live), *commit).map(HostResponse::Committed)
            }
            ContractCall::Descriptors { tags } => self.descriptors(&ask, &tags),
            ContractCall::Sectors { from } => Ok(Self::sector_list(&lock(&live), from)),
            ContractCall::Latest => {
                Ok(HostResponse::Latest(Box::new(self.status(&ask, &lock(&live)))))
            }
            ContractCall::Promise => self.promise(&ask, &mut lock(&live)),
            ContractCall::Head => self.head(&ask, &lock(&live)),
            ContractCall::HeadAppend { expected, tail, new } => {
                self.head_append(&ask, &mut lock(&live), &expected, tail, new)
            }
            ContractCall::HeadPut { expected, head, new } => {
                self.head_put(&ask, &mut lock(&live), &expected, head, new)
            }
        }
    }

    /// Whether a contract on the chain is the one asked about, and with this host.
    pub(super) fn is_ours(&self, contract: &Contract, id: &ContractId) -> bool {
        contract.terms.contract == *id && contract.terms.host == self.id
    }

    /// The contract in memory: known, taken over from the one that it renews, or new on the chain.
    pub(super) fn live(
        &self,
        facts: &ChainFacts,
        contract: Option<&Contract>,
        id: &ContractId,
    ) -> Result<Arc<Mutex<Live>>, Refusal> {
        let mut contracts = lock(&self.contracts);
        if let Some(live) = contracts.get(id) {
            return Ok(Arc::clone(live));
        }
        let contract = contract.ok_or(Refusal::UnknownContract(*id))?;
        let live = match self.adopt(facts, &contracts, contract)? {
            Some(live) => live,
            None => {
                let mut live = Live::new(*id, ContractRecord::formed(contract), Vec::new());
                live.known = false;
                live
            }
        };
        let live = Arc::new(Mutex::new(live));
        contracts.insert(*id, Arc::clone(&live));
        Ok(live)
    }

    fn descriptors(&self, ask: &Ask<'_>, tags: &[SlabTag]) -> Result<HostResponse, Refusal> {
        if tags.len() > MAX_TAGS {
            return Err(bad(format!("{} tags are over the limit of {MAX_TAGS}", tags.len())));
        }
        let mut found = Vec::with_capacity(tags.len());
        for tag in tags {
            let sealed = self.store.descriptor(&ask.id, tag)?.unwrap_or_default();
            found.push(serde_bytes::ByteBuf::from(sealed));
        }
        Ok(HostResponse::Descriptors(found))
    }

    fn sector_list(live: &Live, from: u64) -> HostResponse {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(live.list.len());
        let until = live.list.len().min(from.saturating_add(MAX_ENTRIES));
        HostResponse::Sectors(live.list[from..until].to_vec())
    }

    pub(super) fn receipt(&self, ask: &Ask<'_>, live: &Live) -> HeadReceipt {
        let state = live.record.slot.state;
        HeadReceipt::sign(&self.genesis, &ask.id, state, ask.challenge, &self.key)
    }

    pub(super) fn status(&self, ask: &Ask<'_>, live: &Live) -> ContractStatus {
        ContractStatus {
            revision: live.record.revision,
            slot: live.record.slot,
            promised: live.record.promised,
            renews: live.record.predecessor,
            voucher_total: live.voucher_total(),
            consumed: live.record.consumed,
            receipt: self.receipt(ask, live),
        }
    }

    /// Takes a higher epoch into a record, if the contract's key has claimed it: the claim is what the
    /// host shows when it refuses lower ones.
    pub(super) fn raise(&self, ask: &Ask<'_>, record: &mut ContractRecord) -> Result<(), Refusal> {
        if ask.epoch() <= record.promised.epoch {
            return Ok(());
        }
        if !ask.claim.verify(&self.genesis, &ask.id) {
            return Err(bad("the contract's key did not claim the request's epoch"));
        }
        record.promised = ask.claim;
        Ok(())
    }

    /// Writes a contract's new record with other writes in one durable step, then shows it.
    pub(super) fn persist(
        &self,
        live: &mut Live,
        record: ContractRecord,
        mut writes: Vec<HostWrite>,
    ) -> Result<(), Refusal> {
        if live.swept {
            return Err(Refusal::UnknownContract(live.id));
        }
        writes.insert(0, HostWrite::Record(live.id, Box::new(record.clone())));
        self.store.apply(writes)?;
        live.record = record;
        live.dirty = false;
        live.known = true;
        Ok(())
    }
}
