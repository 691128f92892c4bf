//! Genesis, headers, certificates, records, transactions of every kind, state keys and values.

use samara_protocol::chain::record::records_root;
use samara_protocol::chain::{
    Action, Block, Certificate, ChainParameters, Genesis, Header, Transaction, TransactionBody,
    Validator, ValidatorSet, Vote, VoteKind,
};
use samara_protocol::hash::{BlockHash, Digest, SectorRoot};
use samara_protocol::ledger::challenge_seed;
use samara_protocol::ledger::state::{Account, Contract, ContractPhase, StateKey, Totals};
use samara_protocol::sector::{Outboard, SectorEntry, SectorSize, locate_samples, prove_chunk};
use samara_protocol::sector::{StorageProof, StorageSample};
use samara_protocol::units::{Amount, ChainTime, Height};

use crate::contract::{GENESIS, revision, signed_revision, terms, voucher};
use crate::host::announcement;
use crate::{Area, secret};

fn validators() -> ValidatorSet {
    let validator = |byte| Validator { key: secret(byte).public(), power: u64::from(byte) };
    ValidatorSet::new(vec![validator(21), validator(22)]).unwrap()
}

fn genesis() -> Genesis {
    Genesis {
        version: Genesis::VERSION,
        name: "vectors".into(),
        time: ChainTime(1_700_000_000_000),
        validators: validators(),
        allocations: vec![(secret(3).public(), Amount::coins(5))],
        parameters: ChainParameters::default(),
    }
}

fn header() -> Header {
    Header {
        version: Header::VERSION,
        genesis: GENESIS,
        height: Height(4_321),
        time: ChainTime(1_700_000_123_456),
        parent: BlockHash([1; 32]),
        transactions_root: Digest([2; 32]),
        state_root: Digest([3; 32]),
        records_root: records_root(&[terms().record()]),
        validators: validators().hash(),
        next_validators: Digest([5; 32]),
    }
}

fn storage_proof() -> StorageProof {
    let bytes: Vec<u8> = (0..4_096).map(|i| (i / 3) as u8).collect();
    let size = SectorSize::new(4_096).unwrap();
    let (root, outboard) = Outboard::of(size, &bytes).unwrap();
    let entries = [SectorEntry { root, size }, SectorEntry { root: SectorRoot([8; 32]), size }];
    let places = locate_samples(&Digest([6; 32]), &entries);
    let place = places.into_iter().find(|place| place.position.entry.root == root).unwrap();
    let chunk = prove_chunk(&outboard, &bytes, place.chunk).unwrap();
    StorageProof { samples: vec![StorageSample { position: place.position, chunk }] }
}

pub fn body(action: Action) -> TransactionBody {
    TransactionBody {
        genesis: GENESIS,
        account: secret(3).public(),
        nonce: 77,
        fee: Amount(1_000_000),
        valid_until: ChainTime(1_700_000_200_000),
        action,
    }
}

fn actions() -> Vec<(&'static str, Action)> {
    let contract = terms().contract;
    let boxed = Box::new(terms());
    vec![
        ("transfer", Action::Transfer { to: secret(4).public(), amount: Amount::coins(2) }),
        ("announce host", Action::AnnounceHost(announcement())),
        ("form contract", Action::FormContract(boxed.clone())),
        (
            "update contract",
            Action::UpdateContract {
                contract,
                revision: Some(signed_revision()),
                voucher: Some(voucher()),
            },
        ),
        (
            "renew contract",
            Action::RenewContract {
                old: secret(6).public(),
                last: signed_revision(),
                voucher: None,
                settlement: Amount(55),
                terms: boxed,
            },
        ),
        (
            "prove storage",
            Action::ProveStorage { contract, period: 2, voucher: None, proof: storage_proof() },
        ),
        (
            "close contract",
            Action::CloseContract { contract, voucher: Some(voucher()), settlement: Amount(66) },
        ),
        (
            "change validators",
            Action::ChangeValidators {
                current: validators().hash(),
                validators: validators().as_slice().to_vec(),
            },
        ),
    ]
}

fn contract(phase: ContractPhase) -> Contract {
    Contract {
        terms: terms(),
        started: ChainTime(1_700_000_000_500),
        formed: Height(9),
        revision: revision(),
        redeemed: Amount(5),
        funds: Amount(6),
        collateral: Amount(7),
        period: 1,
        phase,
        due: ChainTime(1_700_000_000_900),
        proofs_kept: 1,
        proofs_missed: 0,
    }
}

#[test]
fn chain() {
    let mut area = Area::new("chain");
    area.value("genesis", &genesis());
    area.bytes("genesis hash", &genesis().hash().0);
    area.value("validators", &validators());
    area.bytes("validators hash", validators().hash().as_bytes());
    area.value("header", &header());
    area.bytes("header hash", &header().hash().0);
    let vote = Vote {
        genesis: GENESIS,
        kind: VoteKind::Precommit,
        height: header().height,
        round: 1,
        block: Some(header().hash()),
        validator: secret(21).public(),
    };
    area.value("vote", &vote);
    area.bytes("vote sign bytes", vote.sign_bytes().as_bytes());
    let signature = secret(21).sign(vote.sign_bytes().as_bytes());
    let certificate = Certificate {
        height: header().height,
        round: 1,
        block: header().hash(),
        signatures: vec![(secret(21).public(), signature)],
    };
    area.value("certificate", &certificate);
    area.value("record", &terms().record());
    area.bytes("records root", records_root(&[terms().record()]).as_bytes());
    let mut transactions = Vec::new();
    for (name, action) in actions() {
        let body = body(action);
        area.bytes(&format!("transaction id: {name}"), &body.id().0);
        let transaction = Transaction::signed(body, &[&secret(3)]);
        area.value(&format!("transaction: {name}"), &transaction);
        transactions.push(transaction);
    }
    transactions.truncate(2);
    area.value("block", &Block { header: header(), transactions });
    let key = secret(3).public();
    let keys = [
        ("account", StateKey::Account(key)),
        ("host", StateKey::Host(key)),
        ("contract", StateKey::Contract(key)),
        ("totals", StateKey::Totals),
        ("validators", StateKey::Validators),
    ];
    for (name, key) in keys {
        area.value(&format!("state key: {name}"), &key);
    }
    area.value("state: account", &Account { balance: Amount::coins(3), nonce: 9 });
    let amounts = [Amount(100), Amount(50), Amount(40), Amount(10)];
    let [issued, balances, locked, burned] = amounts;
    area.value("state: totals", &Totals { issued, balances, locked, burned });
    area.value("state: running contract", &contract(ContractPhase::Running));
    let seeds = vec![BlockHash([1; 32]), BlockHash([2; 32])];
    let (opened, since) = (Height(44), ChainTime(1_700_000_000_800));
    let proving = ContractPhase::Proving { opened, since, seeds: seeds.clone() };
    area.value("state: contract under proof", &contract(proving));
    let seed = challenge_seed(&terms().contract, 1, &seeds);
    area.bytes("challenge seed", seed.as_bytes());
    area.finish();
}
