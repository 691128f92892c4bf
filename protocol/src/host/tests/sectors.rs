//! Storing, committing, reading, damage, descriptors, proofs.

use super::{START, World, data, is_bad, prices};
use crate::hash::{Digest, SlabTag};
use crate::host::message::{ContractCall, HostResponse, MAX_TAGS, Refusal, SealedDescriptor};
use crate::host::store::HostStore as _;
use crate::host::upkeep::SweepReport;
use crate::sector::verify_range;
use crate::signature::Signature;
use crate::slab::MAX_DESCRIPTOR;
use crate::units::{Amount, Millis};

#[test]
fn a_stored_sector_is_committed_and_read_with_a_proof() {
    let mut world = World::new();
    let entry = world.store(1, 16).unwrap();
    let signature = world.do_commit(&[entry], &[], Vec::new()).unwrap();
    let status = world.latest();
    assert_eq!(status.revision.host, signature);
    assert!(status.revision.verify(&super::GENESIS, &world.host.id()));
    let voucher = world.pay(prices().read_cost(32 << 10));
    let (offset, length) = (16 << 10, 32 << 10);
    let answer = world.call(ContractCall::Read { voucher, root: entry.root, offset, length });
    let Ok(HostResponse::Range { data: bytes, proof }) = answer else { panic!("{answer:?}") };
    let range = offset..offset + length;
    assert_eq!(verify_range(&entry.root, entry.size, range, &bytes, &proof), Ok(()));
    assert_eq!(bytes, data(1, 16).1[16 << 10..48 << 10]);
}

#[test]
fn ranges_that_are_not_whole_groups_are_refused() {
    let mut world = World::new();
    let entry = world.store(1, 16).unwrap();
    for (offset, length) in [(0, 0), (1, 16 << 10), (0, 100), (48 << 10, 32 << 10), (u32::MAX, 1)] {
        let voucher = world.pay(Amount(1_000_000));
        let call = ContractCall::Read { voucher, root: entry.root, offset, length };
        assert!(is_bad(world.call(call)), "{offset} {length}");
    }
    let unknown = data(9, 10).0.root;
    assert_eq!(world.read(unknown, 1_024), Err(Refusal::UnknownSector(unknown)));
}

#[test]
fn sectors_of_wrong_size_or_root_are_refused_and_cost_nothing() {
    let mut world = World::new();
    let (entry, bytes) = data(1, 10);
    let voucher = world.pay(Amount(1_000_000));
    for wrong in [bytes[..1_000].to_vec(), bytes[..512].to_vec(), vec![0; 3 << 10], Vec::new()] {
        let call = ContractCall::Store { voucher, root: entry.root, data: wrong.into() };
        assert!(is_bad(world.call(call)));
    }
    let call = ContractCall::Store { voucher, root: entry.root, data: vec![0; 1_024].into() };
    assert!(is_bad(world.call(call)));
    assert_eq!(world.latest().consumed, Amount::ZERO);
    assert!(world.store.stored().unwrap().is_empty());
}

#[test]
fn a_full_host_refuses_and_keeps_nothing() {
    let mut world = World::new();
    world.store.set_capacity(2_500);
    world.store(1, 10).unwrap();
    world.store(2, 10).unwrap();
    assert_eq!(world.store(3, 10), Err(Refusal::Full { free: 452, needed: 1_024 }));
    assert!(world.store(2, 10).is_ok(), "a sector that is there needs no room");
    assert_eq!(world.store.stored().unwrap().len(), 2);
}

#[test]
fn uncommitted_sectors_are_dropped_after_the_grace_time_and_committed_ones_stay() {
    let mut world = World::new();
    let kept = world.store(1, 10).unwrap();
    let lost = world.store(2, 10).unwrap();
    world.do_commit(&[kept], &[], Vec::new()).unwrap();
    world.pass(Millis::seconds(59));
    assert_eq!(world.host.sweep(world.facts.now), Ok(SweepReport::default()));
    world.pass(Millis::seconds(1));
    let swept = SweepReport { temporaries: 1, ..SweepReport::default() };
    assert_eq!(world.host.sweep(world.facts.now), Ok(swept));
    assert_eq!(world.store.stored(), Ok(vec![kept]));
    assert_eq!(world.do_commit(&[lost], &[], Vec::new()), Err(Refusal::UnknownSector(lost.root)));
}

#[test]
fn removals_close_up_and_free_sectors_that_nobody_needs() {
    let mut world = World::new();
    let entries: Vec<_> = (0..5).map(|number| world.store(number, 10).unwrap()).collect();
    world.do_commit(&entries, &[], Vec::new()).unwrap();
    // One sector twice: it is freed with its last place only.
    world.do_commit(&[entries[1]], &[0, 3], Vec::new()).unwrap();
    assert_eq!(world.list, [entries[1], entries[2], entries[4], entries[1]]);
    assert_eq!(world.store.stored().unwrap().len(), 3);
    world.do_commit(&[], &[0], Vec::new()).unwrap();
    assert!(world.read(entries[1].root, 1_024).is_ok());
    world.do_commit(&[], &[2], Vec::new()).unwrap();
    assert_eq!(world.read(entries[1].root, 1_024), Err(Refusal::UnknownSector(entries[1].root)));
    let answer = world.call(ContractCall::Sectors { from: 1 });
    assert_eq!(answer, Ok(HostResponse::Sectors(vec![entries[4]])));
    assert_eq!(
        world.call(ContractCall::Sectors { from: u64::MAX }),
        Ok(HostResponse::Sectors(vec![]))
    );
}

#[test]
fn a_repeated_commit_is_answered_again_and_others_conflict() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let (commit, _) = world.commit(&[entry], &[]);
    let first = world.do_commit(&[entry], &[], Vec::new()).unwrap();
    world.crash();
    let again = world.call(ContractCall::Commit(Box::new(commit.clone())));
    assert_eq!(again, Ok(HostResponse::Committed(first)));
    let mut other = commit.clone();
    other.descriptors.push(SealedDescriptor { tag: SlabTag([1; 16]), sealed: vec![1] });
    let conflict = Err(Refusal::RevisionConflict { given: 1, latest: 1 });
    assert_eq!(world.call(ContractCall::Commit(Box::new(other))), conflict);
    let mut skipped = commit.revision;
    skipped.number = 3;
    let skipped = world.signed(skipped, &[], &[]);
    let conflict = Err(Refusal::RevisionConflict { given: 3, latest: 1 });
    assert_eq!(world.call(ContractCall::Commit(Box::new(skipped))), conflict);
}

#[test]
fn a_commit_must_say_what_it_does() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let (good, _) = world.commit(&[entry], &[]);
    let mut tries = Vec::new();
    let mut revision = good.revision;
    revision.size += 1;
    tries.push(world.signed(revision, &[entry], &[]));
    let mut revision = good.revision;
    revision.data_root = Digest([1; 32]);
    tries.push(world.signed(revision, &[entry], &[]));
    let mut revision = good.revision;
    revision.epoch = super::epoch(2);
    tries.push(world.signed(revision, &[entry], &[]));
    let mut unsigned = good.clone();
    unsigned.renter = Signature::EMPTY;
    tries.push(unsigned);
    let mut removing = good.clone();
    removing.remove = vec![0];
    tries.push(removing);
    let mut unsorted = good.clone();
    unsorted.remove = vec![1, 0];
    tries.push(unsorted);
    let mut long = good.clone();
    let sealed = vec![0; MAX_DESCRIPTOR + 1];
    long.descriptors.push(SealedDescriptor { tag: SlabTag([1; 16]), sealed });
    tries.push(long);
    let mut many = good.clone();
    many.remove = (0..1_025).collect();
    tries.push(many);
    let mut hoard = good.clone();
    hoard.descriptors = (0..70u8)
        .map(|tag| SealedDescriptor { tag: SlabTag([tag; 16]), sealed: vec![tag] })
        .collect();
    tries.push(hoard);
    for (index, commit) in tries.into_iter().enumerate() {
        assert!(is_bad(world.call(ContractCall::Commit(Box::new(commit)))), "try {index}");
    }
    let unknown = data(7, 10).0;
    let answer = world.do_commit(&[unknown], &[], Vec::new());
    assert_eq!(answer, Err(Refusal::UnknownSector(unknown.root)));
    assert_eq!(world.latest().revision.revision.number, 0);
    assert!(world.call(ContractCall::Commit(Box::new(good))).is_ok());
}

#[test]
fn descriptors_are_filed_replaced_and_removed_by_tag() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let (a, b) = (SlabTag([1; 16]), SlabTag([2; 16]));
    let file = |tag, byte: u8| SealedDescriptor { tag, sealed: vec![byte; usize::from(byte)] };
    world.do_commit(&[entry], &[], vec![file(a, 1), file(b, 2)]).unwrap();
    world.do_commit(&[], &[], vec![file(a, 3), file(b, 0)]).unwrap();
    world.crash();
    let answer = world.call(ContractCall::Descriptors { tags: vec![b, a] }).unwrap();
    let HostResponse::Descriptors(found) = answer else { panic!("{answer:?}") };
    assert_eq!(found, [Vec::new(), vec![3; 3]]);
    let tags = vec![a; MAX_TAGS + 1];
    assert!(is_bad(world.call(ContractCall::Descriptors { tags })));
}

#[test]
fn damage_is_told_remembered_and_mended_by_storing_again() {
    let mut world = World::new();
    let entry = world.store(1, 15).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    assert!(world.store.corrupt(&entry.root, 20 << 10));
    let consumed = world.latest().consumed;
    let damaged = Err(Refusal::Damaged(entry.root));
    assert_eq!(world.read(entry.root, 32 << 10), damaged);
    assert_eq!(world.latest().consumed, consumed, "nothing is paid for a damaged sector");
    assert_eq!(world.host.damaged_sectors(), [entry.root]);
    assert_eq!(world.host.check_sector(&entry), Ok(false));
    let sound_half = world.read(entry.root, 16 << 10);
    assert!(matches!(sound_half, Ok(HostResponse::Range { .. })), "{sound_half:?}");
    assert_eq!(
        world.do_commit(&[entry], &[], Vec::new()),
        Err(Refusal::Damaged(entry.root)),
        "a damaged sector is not acknowledged again"
    );
    world.store(1, 15).unwrap();
    assert!(world.read(entry.root, 32 << 10).is_ok());
    assert_eq!(world.host.check_sector(&entry), Ok(true));
    assert!(world.host.damaged_sectors().is_empty());
}

#[test]
fn two_contracts_share_a_sector_until_both_let_go() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    let mut other = World::new();
    other.key = super::secret(3);
    other.revision.contract = other.id();
    other.facts.contract = Some(super::chain_contract(super::terms(world.host.id(), &other.key)));
    std::mem::swap(&mut world.host, &mut other.host);
    assert_eq!(other.read(entry.root, 1_024), Err(Refusal::UnknownSector(entry.root)));
    other.paid = Amount::ZERO;
    other.store(1, 10).unwrap();
    other.do_commit(&[entry], &[], Vec::new()).unwrap();
    std::mem::swap(&mut world.host, &mut other.host);
    world.do_commit(&[], &[0], Vec::new()).unwrap();
    assert_eq!(world.store.stored(), Ok(vec![entry]));
    std::mem::swap(&mut world.host, &mut other.host);
    other.do_commit(&[], &[0], Vec::new()).unwrap();
    assert_eq!(world.store.stored(), Ok(Vec::new()));
}

#[test]
fn a_contract_gone_from_the_chain_is_kept_for_the_grace_time() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    world.facts.contract = None;
    let id = world.id();
    world.host.follow(&world.facts, &id).unwrap();
    world.pass(Millis::seconds(599));
    world.host.sweep(world.facts.now).unwrap();
    world.crash();
    assert!(world.call(ContractCall::Head).is_ok());
    world.pass(Millis::seconds(1));
    assert_eq!(world.host.sweep(world.facts.now).unwrap().contracts, 1);
    assert_eq!(world.call(ContractCall::Head), Err(Refusal::UnknownContract(id)));
    assert!(world.store.stored().unwrap().is_empty());
    assert!(world.facts.now > START);
}
