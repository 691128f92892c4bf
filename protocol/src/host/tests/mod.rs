//! The host's rules over a store in memory.

mod crash;
mod heads;
mod money;
mod proofs;
mod sectors;
mod terms;

use std::sync::Arc;

use zeroize::Zeroizing;

use super::Prices;
use super::claim::EpochClaim;
use super::core::{ChainFacts, Host, HostRules};
use super::memory::MemoryStore;
use super::message::{
    Commit, ContractCall, ContractRequest, ContractStatus, HostRequest, HostResponse, Refusal,
    SealedDescriptor,
};
use crate::contract::{ContractId, ContractTerms, Revision, SignedVoucher, Voucher};
use crate::hash::{BlockHash, ContractNonce, RecordTag, SectorRoot};
use crate::ledger::state::{Account, Contract, ContractPhase};
use crate::sector::{self, SectorEntry, SectorSize};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::{Amount, ChainTime, Epoch, Height, Millis};

pub(super) const GENESIS: BlockHash = BlockHash([9; 32]);
const START: ChainTime = ChainTime(1_000_000);
const PEER: PublicKey = PublicKey([77; 32]);

pub(super) fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}

pub(super) fn epoch(counter: u64) -> Epoch {
    Epoch { counter, writer: [1; 16] }
}

pub(super) fn prices() -> Prices {
    Prices {
        storage: Amount(1),
        upload: Amount(2),
        download: Amount(3),
        request: Amount(100),
        collateral_rate: Amount(5),
        maximum_collateral: Amount(1_000_000),
        proof_fee: Amount(10),
        maximum_duration: Millis::hours(1_000),
    }
}

pub(super) fn rules() -> HostRules {
    HostRules {
        minimum_sector: SectorSize::MIN,
        temporary_grace: Millis::seconds(60),
        contract_grace: Millis::seconds(600),
        ..HostRules::default()
    }
}

pub(super) fn terms(host: PublicKey, key: &SecretKey) -> ContractTerms {
    ContractTerms {
        contract: key.public(),
        nonce: ContractNonce([1; 16]),
        tag: RecordTag([2; 16]),
        host,
        refund: PublicKey([3; 32]),
        period: Millis::hours(10),
        periods: 10,
        window: Millis::hours(1),
        window_blocks: 3,
        storage_price: Amount(1),
        collateral_rate: Amount(5),
        proof_fee: Amount(10),
        funds: Amount(1_000_000_000_000),
        collateral: Amount(1_000_000),
    }
}

/// A sector of 1 KiB or more, different for each number.
pub(super) fn data(number: u64, log2: u8) -> (SectorEntry, Vec<u8>) {
    let mut bytes = vec![0; 1 << log2];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let size = SectorSize::from_log2(log2).unwrap();
    (SectorEntry { root: sector::root(&bytes), size }, bytes)
}

/// A host with its disk, and a renter with one contract.
pub(super) struct World {
    pub(super) store: Arc<MemoryStore>,
    pub(super) host: Host<Arc<MemoryStore>>,
    pub(super) facts: ChainFacts,
    pub(super) key: SecretKey,
    pub(super) epoch: Epoch,
    pub(super) paid: Amount,
    pub(super) list: Vec<SectorEntry>,
    pub(super) revision: Revision,
    challenge: u8,
}

impl World {
    pub(super) fn new() -> Self {
        let store = Arc::new(MemoryStore::new(1 << 20));
        let key = secret(2);
        let host = open(&store, START);
        let contract = chain_contract(terms(host.id(), &key));
        let facts = ChainFacts {
            now: START,
            tip: Height(5),
            payer: Account { balance: Amount(u128::MAX), nonce: 0 },
            balance: Amount(3_000_000),
            contract: Some(contract),
        };
        let revision = Revision::initial(key.public());
        Self {
            store,
            host,
            facts,
            key,
            epoch: epoch(1),
            paid: Amount::ZERO,
            list: Vec::new(),
            revision,
            challenge: 0,
        }
    }

    pub(super) fn id(&self) -> ContractId {
        self.key.public()
    }

    /// Loses power and starts again.
    pub(super) fn crash(&mut self) {
        self.store.crash();
        self.host = open(&self.store, self.facts.now);
    }

    pub(super) fn request(&mut self, call: ContractCall) -> ContractRequest {
        self.challenge = self.challenge.wrapping_add(1);
        let challenge = [self.challenge; 16];
        let claim = self.claim(self.epoch);
        ContractRequest::sign(&GENESIS, &self.host.id(), &self.key, claim, challenge, call)
    }

    /// The claim of an epoch at the present contract.
    pub(super) fn claim(&self, epoch: Epoch) -> EpochClaim {
        EpochClaim::sign(&GENESIS, ContractNonce([7; 16]), epoch, &self.key)
    }

    pub(super) fn send(&self, request: ContractRequest) -> Result<HostResponse, Refusal> {
        match self.host.handle(&self.facts, &PEER, HostRequest::Contract(Box::new(request))) {
            HostResponse::Refused(refusal) => Err(refusal),
            answer => Ok(answer),
        }
    }

    pub(super) fn call(&mut self, call: ContractCall) -> Result<HostResponse, Refusal> {
        let request = self.request(call);
        self.send(request)
    }

    pub(super) fn voucher(&self, total: Amount) -> SignedVoucher {
        let voucher = Voucher { contract: self.id(), total, epoch: self.epoch };
        SignedVoucher::sign(&GENESIS, voucher, &self.key)
    }

    /// A voucher that pays for one thing more.
    pub(super) fn pay(&mut self, cost: Amount) -> SignedVoucher {
        self.paid = self.paid.checked_add(cost).unwrap();
        self.voucher(self.paid)
    }

    pub(super) fn store(&mut self, number: u64, log2: u8) -> Result<SectorEntry, Refusal> {
        let (entry, bytes) = data(number, log2);
        let voucher = self.pay(prices().store_cost(1 << log2));
        self.call(ContractCall::Store { voucher, root: entry.root, data: bytes.into() })?;
        Ok(entry)
    }

    pub(super) fn read(&mut self, root: SectorRoot, size: u32) -> Result<HostResponse, Refusal> {
        let voucher = self.pay(prices().read_cost(u64::from(size)));
        self.call(ContractCall::Read { voucher, root, offset: 0, length: size })
    }

    /// The commit that appends and removes, and the list it leads to.
    pub(super) fn commit(
        &self,
        append: &[SectorEntry],
        remove: &[u64],
    ) -> (Commit, Vec<SectorEntry>) {
        let mut list = self.list.clone();
        for index in remove.iter().rev() {
            list.remove(usize::try_from(*index).unwrap());
        }
        list.extend(append);
        let (data_root, size) = sector::data_root(&list);
        let number = self.revision.number + 1;
        let revision = Revision { contract: self.id(), number, size, data_root, epoch: self.epoch };
        (self.signed(revision, append, remove), list)
    }

    pub(super) fn signed(
        &self,
        revision: Revision,
        append: &[SectorEntry],
        remove: &[u64],
    ) -> Commit {
        let renter = self.key.sign(revision.sign_bytes(&GENESIS).as_bytes());
        let (append, remove) = (append.to_vec(), remove.to_vec());
        Commit { revision, renter, append, remove, descriptors: Vec::new() }
    }

    pub(super) fn do_commit(
        &mut self,
        append: &[SectorEntry],
        remove: &[u64],
        descriptors: Vec<SealedDescriptor>,
    ) -> Result<Signature, Refusal> {
        let (mut commit, list) = self.commit(append, remove);
        commit.descriptors = descriptors;
        let revision = commit.revision;
        match self.call(ContractCall::Commit(Box::new(commit)))? {
            HostResponse::Committed(signature) => {
                (self.list, self.revision) = (list, revision);
                Ok(signature)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn latest(&mut self) -> ContractStatus {
        match self.call(ContractCall::Latest) {
            Ok(HostResponse::Latest(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn pass(&mut self, span: Millis) {
        self.facts.now = self.facts.now.plus(span);
    }
}

pub(super) fn open(store: &Arc<MemoryStore>, now: ChainTime) -> Host<Arc<MemoryStore>> {
    Host::open(Arc::clone(store), secret(1), GENESIS, rules(), prices(), true, now).unwrap()
}

pub(super) fn chain_contract(terms: ContractTerms) -> Contract {
    Contract {
        started: START,
        formed: Height(5),
        revision: Revision::initial(terms.contract),
        redeemed: Amount::ZERO,
        funds: terms.funds,
        collateral: terms.collateral,
        period: 0,
        phase: ContractPhase::Running,
        due: START.plus(terms.period),
        proofs_kept: 0,
        proofs_missed: 0,
        terms,
    }
}

/// Whether a refusal is a [`Refusal::BadRequest`].
pub(super) fn is_bad<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::BadRequest(_)))
}

#[test]
fn a_request_must_be_signed_by_the_contract_for_this_host() {
    let mut world = World::new();
    let mut request = world.request(ContractCall::Latest);
    request.challenge = [0; 16];
    assert!(is_bad(world.send(request)));
    let other = secret(8).public();
    let request = ContractRequest::sign(
        &GENESIS,
        &other,
        &world.key,
        world.claim(world.epoch),
        [0; 16],
        ContractCall::Latest,
    );
    assert!(is_bad(world.send(request)));
}

#[test]
fn only_contracts_of_this_host_on_the_chain_are_known() {
    let mut world = World::new();
    let id = world.id();
    let contract = world.facts.contract.take();
    assert_eq!(world.call(ContractCall::Latest), Err(Refusal::UnknownContract(id)));
    let mut foreign = contract.unwrap();
    foreign.terms.host = secret(8).public();
    world.facts.contract = Some(foreign);
    assert_eq!(world.call(ContractCall::Head), Err(Refusal::UnknownContract(id)));
}

#[test]
fn an_ended_contract_takes_no_writes_and_still_shows_its_head() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    world.pass(Millis::hours(100));
    assert!(matches!(world.store(2, 10), Err(Refusal::Expired { .. })));
    assert!(matches!(world.do_commit(&[], &[0], Vec::new()), Err(Refusal::Expired { .. })));
    assert!(world.read(entry.root, 1_024).is_ok(), "vouchers can still be redeemed");
    world.facts.contract = None;
    assert!(matches!(world.read(entry.root, 1_024), Err(Refusal::Expired { .. })));
    assert!(world.call(ContractCall::Head).is_ok());
    assert_eq!(world.latest().revision.revision, world.revision);
}

#[test]
fn status_and_prices_are_signed() {
    let mut world = World::new();
    let status = world.latest();
    assert!(status.receipt.verify(&GENESIS, &world.id(), &world.host.id()));
    let prices = world.host.handle(&world.facts, &PEER, HostRequest::Prices);
    let HostResponse::Prices(table) = prices else { panic!("{prices:?}") };
    assert!(table.verify(&GENESIS));
    assert_eq!(table.valid_until, START.plus(Millis::seconds(600)));
    assert_eq!((table.capacity, table.free), (1 << 20, 1 << 20));
}
