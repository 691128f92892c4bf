//! The host's shell over real folders, and a chain in memory.

mod disk;
mod loops;
mod oracle;

use std::path::Path;
use std::sync::Arc;

use samara_protocol::contract::{ContractTerms, Revision, SignedVoucher, Voucher};
use samara_protocol::hash::{BlockHash, ContractNonce, RecordTag, SectorRoot};
use samara_protocol::host::message::{
    Commit, ContractCall, ContractRequest, HostRequest, HostResponse, Refusal,
};
use samara_protocol::host::{ChainFacts, EpochClaim, Host, HostRules, Prices};
use samara_protocol::ledger::state::{Account, Contract, ContractPhase};
use samara_protocol::sector::{self, SectorEntry, SectorSize};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, ChainTime, Epoch, Height, Millis};
use zeroize::Zeroizing;

use super::config::{ByteCount, HostConfig, VolumeConfig};
use super::store::DiskStore;

const START: ChainTime = ChainTime(1_000_000);
const PEER: PublicKey = PublicKey([77; 32]);

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}

fn prices() -> Prices {
    HostConfig::default().prices().unwrap()
}

fn data(number: u64, bytes: usize) -> (SectorEntry, Vec<u8>) {
    let mut data = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut data);
    let size = SectorSize::new(bytes as u64).unwrap();
    (SectorEntry { root: sector::root(&data), size }, data)
}

fn volumes(folder: &Path, limits: &[u64]) -> Vec<VolumeConfig> {
    let volume = |(number, limit): (usize, &u64)| VolumeConfig {
        path: folder.join(format!("volume {number}")),
        limit: ByteCount(*limit),
    };
    limits.iter().enumerate().map(volume).collect()
}

fn open(folder: &Path, limits: &[u64]) -> DiskStore {
    DiskStore::open(&folder.join("host"), &volumes(folder, limits), &secret(1).public()).unwrap()
}

/// A host on disk and a renter with one contract, which pays without counting.
struct World {
    folder: tempfile::TempDir,
    genesis: BlockHash,
    host: Arc<Host<DiskStore>>,
    facts: ChainFacts,
    key: SecretKey,
}

impl World {
    fn new(genesis: BlockHash) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), &[1 << 24, 1 << 24]);
        Self::on(folder, genesis, store)
    }

    /// Over a store that the test made.
    fn over(genesis: BlockHash, store: DiskStore) -> Self {
        Self::on(tempfile::tempdir().unwrap(), genesis, store)
    }

    fn on(folder: tempfile::TempDir, genesis: BlockHash, store: DiskStore) -> Self {
        let key = secret(2);
        let host = Self::host(store, genesis);
        let terms = ContractTerms {
            contract: key.public(),
            nonce: ContractNonce([1; 16]),
            tag: RecordTag([2; 16]),
            host: host.id(),
            refund: PublicKey([3; 32]),
            period: Millis::hours(10),
            periods: 10,
            window: Millis::hours(1),
            window_blocks: 3,
            storage_price: prices().storage,
            collateral_rate: prices().collateral_rate,
            proof_fee: prices().proof_fee,
            funds: Amount::coins(1_000),
            collateral: Amount::coins(1),
        };
        let contract = Contract {
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
        };
        let facts = ChainFacts {
            now: START,
            tip: Height(5),
            payer: Account::default(),
            balance: Amount::coins(10),
            contract: Some(contract),
        };
        Self { folder, genesis, host: Arc::new(host), facts, key }
    }

    fn host(store: DiskStore, genesis: BlockHash) -> Host<DiskStore> {
        let rules = HostRules { minimum_sector: SectorSize::MIN, ..HostRules::default() };
        Host::open(store, secret(1), genesis, rules, prices(), true, START).unwrap()
    }

    /// Closes the host and opens it again.
    fn reopen(self) -> Self {
        let path = self.folder.path().to_owned();
        self.restart(|| open(&path, &[1 << 24, 1 << 24]))
    }

    /// Closes the host, and opens it again over the store that is opened then.
    fn restart(self, store: impl FnOnce() -> DiskStore) -> Self {
        let Self { folder, genesis, host, facts, key } = self;
        drop(Arc::into_inner(host).expect("nobody else holds the host"));
        let host = Arc::new(Self::host(store(), genesis));
        Self { folder, genesis, host, facts, key }
    }

    fn voucher(&self) -> SignedVoucher {
        let voucher =
            Voucher { contract: self.key.public(), total: Amount::coins(500), epoch: epoch() };
        SignedVoucher::sign(&self.genesis, voucher, &self.key)
    }

    fn request(&self, call: ContractCall) -> HostRequest {
        let host = self.host.id();
        let claim = EpochClaim::sign(&self.genesis, ContractNonce([1; 16]), epoch(), &self.key);
        let request = ContractRequest::sign(&self.genesis, &host, &self.key, claim, [4; 16], call);
        HostRequest::Contract(Box::new(request))
    }

    fn call(&self, call: ContractCall) -> Result<HostResponse, Refusal> {
        match self.host.handle(&self.facts, &PEER, self.request(call)) {
            HostResponse::Refused(refusal) => Err(refusal),
            answer => Ok(answer),
        }
    }

    fn store(&self, number: u64, bytes: usize) -> Result<SectorEntry, Refusal> {
        let (entry, data) = data(number, bytes);
        self.call(ContractCall::Store {
            voucher: self.voucher(),
            root: entry.root,
            data: data.into(),
        })?;
        Ok(entry)
    }

    fn read(&self, root: SectorRoot, length: u32) -> Result<Vec<u8>, Refusal> {
        let voucher = self.voucher();
        match self.call(ContractCall::Read { voucher, root, offset: 0, length })? {
            HostResponse::Range { data, .. } => Ok(data.into()),
            other => panic!("{other:?}"),
        }
    }

    /// Commits a first revision of these sectors.
    fn commit(&self, append: Vec<SectorEntry>) -> Revision {
        let (data_root, size) = sector::data_root(&append);
        let contract = self.key.public();
        let revision = Revision { contract, number: 1, size, data_root, epoch: epoch() };
        let renter = self.key.sign(revision.sign_bytes(&self.genesis).as_bytes());
        let (remove, descriptors) = (Vec::new(), Vec::new());
        let commit = Commit { revision, renter, append, remove, descriptors };
        let answer = self.call(ContractCall::Commit(Box::new(commit)));
        assert!(matches!(answer, Ok(HostResponse::Committed(_))), "{answer:?}");
        revision
    }
}

fn epoch() -> Epoch {
    Epoch { counter: 1, writer: [1; 16] }
}
