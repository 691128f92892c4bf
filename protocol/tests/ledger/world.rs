//! One chain in memory, with keys, contracts and disks whose every byte follows from small numbers.

use samara_protocol::chain::{
    Action, Block, ChainParameters, Genesis, Header, Transaction, TransactionBody, Validator,
    ValidatorSet,
};
use samara_protocol::contract::{
    ContractId, ContractTerms, Revision, SignedRevision, SignedVoucher, Voucher,
};
use samara_protocol::encoding::decode;
use samara_protocol::hash::{BlockHash, ContractNonce, Digest, RecordTag, TransactionId};
use samara_protocol::ledger::state::{Account, Contract, StateKey, Totals};
use samara_protocol::ledger::{
    MemoryState, StateReader, TransactionError, build_block, genesis_state, validate_block,
};
use samara_protocol::sector::{
    Outboard, SectorEntry, SectorSize, StorageProof, StorageSample, data_root, locate_samples,
    prove_chunk,
};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, ChainTime, Epoch, Height, Millis};
use zeroize::Zeroizing;

use crate::oracle;

pub const START: ChainTime = ChainTime(1_000_000);
pub const PERIOD: u64 = 10_000;
pub const WINDOW: u64 = 4_000;
pub const FEE: Amount = Amount(1_000);
pub const WEALTH: Amount = Amount(1_000_000_000_000);

/// Keys of the parts that people play.
pub const RENTER: u16 = 1;
pub const HOST: u16 = 2;
pub const STRANGER: u16 = 3;
/// Validators 10, 11, 12, 13 with a power of 1 each.
pub const VALIDATORS: std::ops::Range<u16> = 10..14;

pub fn key(number: u16) -> SecretKey {
    let seed = blake3::derive_key("samara test keys", &number.to_le_bytes());
    SecretKey::from_bytes(&Zeroizing::new(seed))
}

pub fn public(number: u16) -> PublicKey {
    key(number).public()
}

pub fn validator_set(numbers: impl IntoIterator<Item = u16>) -> Vec<Validator> {
    numbers.into_iter().map(|n| Validator { key: public(n), power: 1 }).collect()
}

pub fn genesis() -> Genesis {
    Genesis {
        version: Genesis::VERSION,
        name: "test".into(),
        time: START,
        validators: ValidatorSet::new(validator_set(VALIDATORS)).unwrap(),
        allocations: [RENTER, HOST, STRANGER].map(|n| (public(n), WEALTH)).to_vec(),
        parameters: ChainParameters { minimum_fee: FEE, ..ChainParameters::default() },
    }
}

/// Terms between renter and host; the contract's key is `number`.
pub fn terms(number: u16) -> ContractTerms {
    let mut nonce = [7; 16];
    nonce[..2].copy_from_slice(&number.to_le_bytes());
    ContractTerms {
        contract: public(number),
        nonce: ContractNonce(nonce),
        tag: RecordTag([9; 16]),
        host: public(HOST),
        refund: public(RENTER),
        period: Millis(PERIOD),
        periods: 3,
        window: Millis(WINDOW),
        window_blocks: 3,
        storage_price: Amount(3_600),
        collateral_rate: Amount(2),
        proof_fee: Amount(500),
        funds: Amount(1_000_000_000),
        collateral: Amount(1_000_000),
    }
}

/// The first `count` sectors of every disk: 1 KiB each.
pub fn entries(count: u64) -> Vec<SectorEntry> {
    (0..count).map(|index| sector(index).0).collect()
}

fn sector(index: u64) -> (SectorEntry, Outboard, Vec<u8>) {
    let mut bytes = vec![0; 1_024];
    blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let size = SectorSize::MIN;
    let (root, outboard) = Outboard::of(size, &bytes).unwrap();
    (SectorEntry { root, size }, outboard, bytes)
}

/// A host's true proof over its first `count` sectors.
pub fn storage_proof(seed: &Digest, count: u64) -> StorageProof {
    let entries = entries(count);
    let sample = |place: samara_protocol::sector::SampleLocation| {
        let index = entries.iter().position(|e| e.root == place.position.entry.root).unwrap();
        let (_, outboard, bytes) = sector(index as u64);
        let chunk = prove_chunk(&outboard, &bytes, place.chunk).unwrap();
        StorageSample { position: place.position, chunk }
    };
    StorageProof { samples: locate_samples(seed, &entries).into_iter().map(sample).collect() }
}

#[derive(Clone)]
pub struct World {
    pub genesis: Genesis,
    pub hash: BlockHash,
    pub state: MemoryState,
    pub tip: Option<Header>,
    pub blocks: Vec<Block>,
}

impl World {
    pub fn new() -> Self {
        Self::with(genesis())
    }

    pub fn with(genesis: Genesis) -> Self {
        let state = MemoryState::new(genesis_state(&genesis).unwrap());
        let world = Self { hash: genesis.hash(), genesis, state, tip: None, blocks: Vec::new() };
        oracle::check(&world.state);
        world
    }

    pub fn now(&self) -> ChainTime {
        self.tip.map_or(START, |tip| tip.time)
    }

    pub fn height(&self) -> Height {
        self.tip.map_or(Height(0), |tip| tip.height)
    }

    /// Makes a block `after` milliseconds later, has it validated, and checks the whole state.
    pub fn block(
        &mut self,
        after: u64,
        candidates: Vec<Transaction>,
    ) -> Vec<(TransactionId, TransactionError)> {
        let (tip, time) = (self.tip.as_ref(), self.now().plus(Millis(after)));
        let built = build_block(&self.state, &self.genesis, tip, time, candidates).unwrap();
        let changes = validate_block(&self.state, &self.genesis, tip, &built.block).unwrap();
        assert_eq!(changes, built.changes);
        assert_eq!(changes.root, built.block.header.state_root);
        self.state.apply(changes);
        self.tip = Some(built.block.header);
        self.blocks.push(built.block);
        oracle::check(&self.state);
        built.rejected
    }

    /// A block in which everything must succeed.
    pub fn good(&mut self, after: u64, transactions: Vec<Transaction>) {
        let count = transactions.len();
        let rejected = self.block(after, transactions);
        assert!(rejected.is_empty(), "{rejected:?}");
        assert_eq!(self.blocks.last().unwrap().transactions.len(), count);
    }

    /// A block with one transaction that must fail.
    pub fn refused(&mut self, transaction: Transaction) -> TransactionError {
        let mut rejected = self.block(1, vec![transaction]);
        assert_eq!(rejected.len(), 1, "the transaction was accepted");
        rejected.pop().unwrap().1
    }

    /// Makes empty blocks as a proposer would: one whenever the ledger wants one, up to `until`.
    pub fn run_to(&mut self, until: ChainTime) {
        loop {
            let due = samara_protocol::ledger::next_due(&self.state).unwrap();
            let next = self.now().plus(Millis(1));
            match due {
                Some(due) if due.max(next) <= until => {
                    self.good(due.max(next).since(self.now()).0, vec![]);
                }
                _ => break,
            }
        }
    }

    pub fn value<T: serde::de::DeserializeOwned>(&self, key: StateKey) -> Option<T> {
        self.state.value(&key).unwrap().map(|bytes| decode(&bytes).unwrap())
    }

    pub fn account(&self, number: u16) -> Account {
        self.value(StateKey::Account(public(number))).unwrap_or_default()
    }

    pub fn balance(&self, number: u16) -> u128 {
        self.account(number).balance.0
    }

    pub fn contract(&self, number: u16) -> Option<Contract> {
        self.value(StateKey::Contract(public(number)))
    }

    pub fn totals(&self) -> Totals {
        self.value(StateKey::Totals).unwrap()
    }

    pub fn body(&self, account: u16, action: Action) -> TransactionBody {
        TransactionBody {
            genesis: self.hash,
            account: public(account),
            nonce: self.account(account).nonce,
            fee: FEE,
            valid_until: TransactionBody::ALWAYS,
            action,
        }
    }

    /// A transaction of `account`, signed by it and others.
    pub fn sent(&self, account: u16, others: &[u16], action: Action) -> Transaction {
        let body = self.body(account, action);
        let keys: Vec<SecretKey> =
            std::iter::once(&account).chain(others).map(|n| key(*n)).collect();
        Transaction::signed(body, &keys.iter().collect::<Vec<_>>())
    }

    pub fn transfer(&self, from: u16, to: u16, amount: Amount) -> Transaction {
        self.sent(from, &[], Action::Transfer { to: public(to), amount })
    }

    pub fn form(&self, terms: ContractTerms, contract: u16) -> Transaction {
        self.sent(RENTER, &[contract, HOST], Action::FormContract(Box::new(terms)))
    }

    /// Revision `number` of a contract: its first `sectors` sectors.
    pub fn revision(&self, contract: u16, number: u64, sectors: u64) -> SignedRevision {
        let (data_root, size) = data_root(&entries(sectors));
        let epoch = Epoch::default();
        let revision = Revision { contract: public(contract), number, size, data_root, epoch };
        let message = revision.sign_bytes(&self.hash);
        let (renter, host) = (key(contract), key(HOST));
        let sign = |key: &SecretKey| key.sign(message.as_bytes());
        SignedRevision { revision, renter: sign(&renter), host: sign(&host) }
    }

    pub fn voucher(&self, contract: u16, total: u128) -> SignedVoucher {
        let voucher =
            Voucher { contract: public(contract), total: Amount(total), epoch: Epoch::default() };
        SignedVoucher::sign(&self.hash, voucher, &key(contract))
    }

    pub fn update(
        &self,
        contract: u16,
        revision: Option<SignedRevision>,
        voucher: Option<SignedVoucher>,
    ) -> Transaction {
        let contract: ContractId = public(contract);
        self.sent(STRANGER, &[], Action::UpdateContract { contract, revision, voucher })
    }

    /// The host's proof of the period that waits for one.
    pub fn proof(&self, contract: u16, sectors: u64) -> Transaction {
        let on_chain = self.contract(contract).unwrap();
        let proof = storage_proof(&on_chain.challenge().unwrap(), sectors);
        let action = Action::ProveStorage {
            contract: public(contract),
            period: on_chain.period,
            voucher: None,
            proof,
        };
        self.sent(HOST, &[], action)
    }

    /// A world with one contract (key 100) that holds `sectors` sectors.
    pub fn with_contract(sectors: u64) -> Self {
        let mut world = Self::new();
        let form = world.form(terms(100), 100);
        world.good(10, vec![form]);
        let update = world.update(100, Some(world.revision(100, 1, sectors)), None);
        world.good(10, vec![update]);
        world
    }
}
