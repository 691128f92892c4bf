//! What hosts announce, are asked and answer.

use samara_protocol::chain::{Action, Transaction};
use samara_protocol::hash::{Digest, SectorRoot, SlabTag};
use samara_protocol::host::message::{
    Commit, ContractCall, ContractRequest, ContractStatus, HeadReceipt, HostRequest, HostResponse,
    Refusal, SealedDescriptor, SignedSlot, SlotState,
};
use samara_protocol::host::{EpochClaim, HostAnnouncement, Prices, SignedPrices};
use samara_protocol::sector::{RangeProof, SectorEntry, SectorSize};
use samara_protocol::signature::Signature;
use samara_protocol::units::{Amount, ChainTime, Epoch, Millis};

use crate::contract::{GENESIS, epoch, revision, signed_revision, terms, voucher};
use crate::{Area, chain, secret};

fn prices() -> Prices {
    Prices {
        storage: Amount(1),
        upload: Amount(2),
        download: Amount(3),
        request: Amount(4),
        collateral_rate: Amount(5),
        maximum_collateral: Amount(6),
        proof_fee: Amount(7),
        maximum_duration: Millis::hours(8),
    }
}

pub fn announcement() -> HostAnnouncement {
    HostAnnouncement {
        addresses: vec!["/ip4/192.0.2.1/tcp/4001".into()],
        operator: "ahorn".into(),
        capacity: 1 << 40,
        accepting: true,
        prices: prices(),
    }
}

fn slot() -> SlotState {
    SlotState { sequence: 9, length: 4, hash: Digest([51; 32]), epoch: epoch() }
}

fn claim() -> EpochClaim {
    EpochClaim::sign(&GENESIS, terms().nonce, epoch(), &secret(1))
}

fn status() -> ContractStatus {
    let key = secret(1);
    ContractStatus {
        revision: signed_revision(),
        slot: SignedSlot::sign(&GENESIS, slot(), &key),
        promised: claim(),
        renews: Some(secret(4).public()),
        voucher_total: Amount(300),
        consumed: Amount(200),
        receipt: HeadReceipt::sign(&GENESIS, &key.public(), slot(), [54; 16], &secret(2)),
    }
}

fn calls() -> Vec<(&'static str, ContractCall)> {
    let root = SectorRoot([52; 32]);
    let new = SignedSlot::sign(&GENESIS, slot(), &secret(1));
    let commit = Commit {
        revision: revision(),
        renter: signed_revision().renter,
        append: vec![SectorEntry { root, size: SectorSize::new(4 << 20).unwrap() }],
        remove: vec![0, 300],
        descriptors: vec![SealedDescriptor { tag: SlabTag([53; 16]), sealed: vec![1, 2, 3] }],
    };
    vec![
        ("store", ContractCall::Store { voucher: voucher(), root, data: vec![7; 8].into() }),
        ("read", ContractCall::Read { voucher: voucher(), root, offset: 16_384, length: 32_768 }),
        ("commit", ContractCall::Commit(Box::new(commit))),
        ("descriptors", ContractCall::Descriptors { tags: vec![SlabTag([53; 16])] }),
        ("sectors", ContractCall::Sectors { from: 300 }),
        ("latest", ContractCall::Latest),
        ("promise", ContractCall::Promise),
        ("head", ContractCall::Head),
        (
            "head append",
            ContractCall::HeadAppend { expected: SlotState::default(), tail: vec![1, 2], new },
        ),
        (
            "head put",
            ContractCall::HeadPut { expected: SlotState::default(), head: vec![1, 2, 3, 4], new },
        ),
    ]
}

fn responses() -> Vec<(&'static str, HostResponse)> {
    let host = secret(2);
    let table = SignedPrices {
        host: host.public(),
        prices: prices(),
        free: 1 << 30,
        capacity: 1 << 31,
        accepting: true,
        valid_until: ChainTime(1_700_000_000_000),
        signature: Signature::EMPTY,
    };
    let size = SectorSize::new(64 << 10).unwrap();
    let receipt = HeadReceipt::sign(&GENESIS, &secret(1).public(), slot(), [54; 16], &host);
    let proof = RangeProof { siblings: vec![[55; 32]] };
    vec![
        ("prices", HostResponse::Prices(Box::new(table.sign(&GENESIS, &host)))),
        ("agreed", HostResponse::Agreed(host.sign(b"id"))),
        ("stored", HostResponse::Stored),
        ("range", HostResponse::Range { data: vec![1, 2, 3].into(), proof }),
        ("committed", HostResponse::Committed(signed_revision().host)),
        (
            "descriptors",
            HostResponse::Descriptors(vec![
                serde_bytes::ByteBuf::from(vec![1]),
                Default::default(),
            ]),
        ),
        ("sectors", HostResponse::Sectors(vec![SectorEntry { root: SectorRoot([52; 32]), size }])),
        ("head written", HostResponse::HeadWritten(receipt)),
        ("latest", HostResponse::Latest(Box::new(status()))),
        ("head", HostResponse::Head { status: Box::new(status()), head: vec![1, 2, 3, 4] }),
    ]
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    let contract = secret(1).public();
    vec![
        ("bad request", Refusal::BadRequest("no".into())),
        ("unknown contract", Refusal::UnknownContract(contract)),
        ("expired", Refusal::Expired { contract, ended: ChainTime(5) }),
        ("fenced", Refusal::Fenced { given: Epoch::default(), promised: Box::new(claim()) }),
        ("full", Refusal::Full { free: 1, needed: 300 }),
        ("payment", Refusal::Payment { total: Amount(1), needed: Amount(2) }),
        ("terms", Refusal::Terms("too cheap".into())),
        ("unknown sector", Refusal::UnknownSector(SectorRoot([52; 32]))),
        ("damaged", Refusal::Damaged(SectorRoot([52; 32]))),
        ("revision conflict", Refusal::RevisionConflict { given: 3, latest: 300 }),
        ("head conflict", Refusal::HeadConflict(slot())),
        ("busy", Refusal::Busy("later".into())),
        ("internal", Refusal::Internal("disk".into())),
    ]
}

#[test]
fn host() {
    let mut area = Area::new("host");
    area.value("announcement", &announcement());
    area.value("request: prices", &HostRequest::Prices);
    let body = chain::body(Action::FormContract(Box::new(terms())));
    let asked = Transaction::signed(body, &[&secret(3), &secret(1)]);
    area.value("request: agree", &HostRequest::Agree(Box::new(asked)));
    area.value("claim", &claim());
    let (host, call) = (secret(2).public(), ContractCall::Promise);
    let request = ContractRequest::sign(&GENESIS, &host, &secret(1), claim(), [54; 16], call);
    area.value("request: contract", &HostRequest::Contract(Box::new(request)));
    for (name, call) in calls() {
        area.value(&format!("call: {name}"), &call);
    }
    for (name, response) in responses() {
        area.value(&format!("response: {name}"), &response);
    }
    for (name, refusal) in refusals() {
        area.value(&format!("refused: {name}"), &HostResponse::Refused(refusal));
    }
    area.finish();
}
