//! The store on disk against the one in memory: the same writes give the same rows, also after a
//! restart.

use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use redb::TableDefinition;
use samara_protocol::contract::{ContractId, Revision, SignedRevision};
use samara_protocol::encoding::encode;
use samara_protocol::hash::{Digest, SectorRoot, SlabTag, TransactionId};
use samara_protocol::host::message::SignedSlot;
use samara_protocol::host::store::{
    Agreement, ContractRecord, HostStore, HostWrite, IssuedPrices, Temporary,
};
use samara_protocol::host::{EpochClaim, MemoryStore};
use samara_protocol::sector::{SectorEntry, SectorSize};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime};

use super::{epoch, open, prices, secret, volumes};
use crate::host::store::{DiskStore, OpenStoreError};

fn contract(byte: u8) -> ContractId {
    PublicKey([byte; 32])
}

fn entry(byte: u8) -> SectorEntry {
    let size = SectorSize::from_log2(10 + byte % 5).unwrap();
    SectorEntry { root: SectorRoot([byte; 32]), size }
}

fn record(id: u8, consumed: u128) -> HostWrite {
    let revision = SignedRevision::initial(contract(id));
    let record = ContractRecord {
        revision: SignedRevision {
            revision: Revision { number: 3, ..revision.revision },
            ..revision
        },
        commit: Digest([id; 32]),
        slot: SignedSlot::EMPTY,
        promised: EpochClaim { epoch: epoch(), ..EpochClaim::NONE },
        voucher: None,
        consumed: Amount(consumed),
        descriptors: 2,
        ends: ChainTime(9),
        gone: None,
        successor: None,
        predecessor: None,
    };
    HostWrite::Record(contract(id), Box::new(record))
}

fn write() -> impl Strategy<Value = HostWrite> {
    let id = || 0u8..3;
    prop_oneof![
        (id(), any::<u128>()).prop_map(|(id, consumed)| record(id, consumed)),
        (id(), 0u64..6, proptest::collection::vec(any::<u8>(), 0..5)).prop_map(
            |(id, from, bytes)| HostWrite::Tail {
                contract: contract(id),
                from,
                entries: bytes.into_iter().map(entry).collect(),
            }
        ),
        (id(), 0u8..5, any::<u64>()).prop_map(|(id, sector, since)| {
            let (contract, entry) = (contract(id), entry(sector));
            HostWrite::Temporary(Temporary { contract, entry, since: ChainTime(since) })
        }),
        (id(), 0u8..5).prop_map(|(id, sector)| HostWrite::TemporaryGone {
            contract: contract(id),
            root: entry(sector).root,
        }),
        (id(), 0u8..4, proptest::collection::vec(any::<u8>(), 0..9)).prop_map(
            |(id, tag, sealed)| HostWrite::Descriptor {
                contract: contract(id),
                tag: SlabTag([tag; 16]),
                sealed,
            }
        ),
        (id(), proptest::collection::vec(any::<u8>(), 0..9)).prop_map(|(id, bytes)| {
            HostWrite::Head { contract: contract(id), offset: 0, bytes }
        }),
        id().prop_map(|id| HostWrite::Forget(contract(id))),
        (id(), any::<u64>()).prop_map(|(id, until)| {
            let (contract, transaction) = (contract(id), TransactionId([id; 32]));
            let (collateral, until) = (Amount(5), ChainTime(until));
            let (renews, peer) = (None, PublicKey([8; 32]));
            let (account, nonce) = (PublicKey([9; 32]), 7);
            let agreement = Agreement {
                contract,
                transaction,
                collateral,
                renews,
                peer,
                account,
                nonce,
                until,
            };
            HostWrite::Agreement(Box::new(agreement))
        }),
        id().prop_map(|id| HostWrite::AgreementGone(contract(id))),
        any::<u64>().prop_map(|until| {
            let until = Some(ChainTime(until));
            HostWrite::Prices(vec![IssuedPrices { prices: prices(), until }])
        }),
        any::<u8>().prop_map(|byte| HostWrite::Damaged(entry(byte).root)),
        any::<u8>().prop_map(|byte| HostWrite::Mended(entry(byte).root)),
    ]
}

/// Indexes of a list have no gaps, and heads are appended where they end: the host never writes else.
fn fit(store: &MemoryStore, write: HostWrite) -> HostWrite {
    match write {
        HostWrite::Tail { contract, from, entries } => {
            let length = store.sectors(&contract).unwrap().len() as u64;
            HostWrite::Tail { contract, from: from.min(length), entries }
        }
        HostWrite::Head { contract, bytes, .. } if bytes.first().is_some_and(|b| b % 2 == 0) => {
            let offset = u32::try_from(store.head(&contract).unwrap().len()).unwrap();
            HostWrite::Head { contract, offset, bytes }
        }
        other => other,
    }
}

fn assert_same(memory: &MemoryStore, disk: &DiskStore) {
    assert_eq!(disk.contracts(), memory.contracts());
    assert_eq!(disk.temporaries(), memory.temporaries());
    assert_eq!(disk.agreements(), memory.agreements());
    assert_eq!(disk.prices(), memory.prices());
    assert_eq!(disk.damaged(), memory.damaged());
    for id in 0..4 {
        let id = contract(id);
        assert_eq!(disk.record(&id), memory.record(&id));
        assert_eq!(disk.sectors(&id), memory.sectors(&id));
        assert_eq!(disk.head(&id), memory.head(&id));
        for tag in 0..4 {
            let tag = SlabTag([tag; 16]);
            assert_eq!(disk.descriptor(&id, &tag), memory.descriptor(&id, &tag));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn disk_and_memory_agree(
        batches in proptest::collection::vec(proptest::collection::vec(write(), 1..4), 1..12),
        adopt: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (memory, disk) = (MemoryStore::new(1 << 20), open(folder.path(), &[1 << 20]));
        let both = |writes: Vec<HostWrite>, durable: bool| {
            for write in writes {
                let write = fit(&memory, write);
                let write = || vec![write.clone()];
                if durable {
                    memory.apply(write()).unwrap();
                    disk.apply(write()).unwrap();
                } else {
                    memory.note(write()).unwrap();
                    disk.note(write()).unwrap();
                }
            }
        };
        for (number, batch) in batches.into_iter().enumerate() {
            both(batch, number % 3 > 0);
        }
        if adopt {
            both(vec![HostWrite::Adopt { old: contract(0), new: contract(3) }], true);
        }
        assert_same(&memory, &disk);
        disk.apply(Vec::new()).unwrap();
        drop(disk);
        assert_same(&memory, &open(folder.path(), &[1 << 20]));
    }
}

#[test]
fn a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), &[1 << 20]));
    let path = folder.path().join("host/host.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = TableDefinition::<'_, &str, &[u8]>::new("meta");
    transaction.open_table(meta).unwrap().insert("version", encode(&2u32).as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let configs = volumes(folder.path(), &[1 << 20]);
    let refused = DiskStore::open(&folder.path().join("host"), &configs, &secret(1).public());
    assert!(matches!(refused, Err(OpenStoreError::Version { found: 2, .. })), "{refused:?}");
}
