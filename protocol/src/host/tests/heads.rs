//! Epochs and the head slot.

use super::{GENESIS, World, epoch, is_bad};
use crate::hash::{ContractNonce, Digest};
use crate::host::claim::EpochClaim;
use crate::host::message::{
    ContractCall, ContractRequest, HeadReceipt, HostResponse, MAX_HEAD, Refusal, SignedSlot,
    SlotState,
};
use crate::signature::Signature;
use crate::units::Amount;

fn state(world: &World, sequence: u64, bytes: &[u8]) -> SignedSlot {
    let state = SlotState {
        sequence,
        length: u32::try_from(bytes.len()).unwrap(),
        hash: Digest(*blake3::hash(bytes).as_bytes()),
        epoch: world.epoch,
    };
    SignedSlot::sign(&GENESIS, state, &world.key)
}

fn put(expected: SlotState, head: &[u8], new: SignedSlot) -> ContractCall {
    ContractCall::HeadPut { expected, head: head.to_vec(), new }
}

fn written(answer: Result<HostResponse, Refusal>) -> HeadReceipt {
    match answer {
        Ok(HostResponse::HeadWritten(receipt)) => receipt,
        other => panic!("{other:?}"),
    }
}

fn head(world: &mut World) -> Vec<u8> {
    match world.call(ContractCall::Head) {
        Ok(HostResponse::Head { head, .. }) => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn heads_are_put_appended_and_shown_with_receipts() {
    let mut world = World::new();
    let base = vec![1; 1_000];
    let new = state(&world, 1, &base);
    let receipt = written(world.call(ContractCall::HeadPut {
        expected: SlotState::default(),
        head: base.clone(),
        new,
    }));
    assert!(receipt.verify(&GENESIS, &world.id(), &world.host.id()));
    assert_eq!(receipt.state, new.state);
    for round in 2..5u8 {
        // The hash goes on from the store after a crash, from memory otherwise.
        if round == 3 {
            world.crash();
        }
        let tail = vec![round; 10];
        let bytes = [head(&mut world), tail.clone()].concat();
        let expected = world.latest().slot.state;
        let new = state(&world, u64::from(round), &bytes);
        let call = ContractCall::HeadAppend { expected, tail, new };
        written(world.call(call.clone()));
        let again = written(world.call(call));
        assert_eq!(again.state, new.state, "a repeated append is answered again");
        assert_eq!(head(&mut world), bytes);
    }
    assert!(world.latest().slot.verify(&GENESIS, &world.id()));
}

#[test]
fn an_append_to_another_state_conflicts_and_a_full_put_mends_it() {
    let mut world = World::new();
    let new = state(&world, 5, b"base");
    written(world.call(put(SlotState::default(), b"base", new)));
    let present = new.state;
    let next = state(&world, 6, b"base+");
    let wrong = SlotState { sequence: 4, ..present };
    let call = ContractCall::HeadAppend { expected: wrong, tail: b"+".to_vec(), new: next };
    assert_eq!(world.call(call), Err(Refusal::HeadConflict(present)));
    let low = state(&world, 5, b"other");
    let call = put(present, b"other", low);
    assert_eq!(world.call(call), Err(Refusal::HeadConflict(present)));
    let high = state(&world, 6, b"other");
    // One that was made before the slot was last written comes too late, however high its sequence.
    let late = |expected| put(expected, b"other", high);
    assert_eq!(world.call(late(SlotState::default())), Err(Refusal::HeadConflict(present)));
    assert_eq!(world.call(late(wrong)), Err(Refusal::HeadConflict(present)));
    assert_eq!(head(&mut world), b"base");
    written(world.call(late(present)));
    assert_eq!(written(world.call(late(present))).state, high.state, "a repeated put");
    assert_eq!(head(&mut world), b"other");
}

#[test]
fn slot_states_must_be_those_of_the_bytes() {
    let mut world = World::new();
    let good = state(&world, 1, b"head");
    let mut tries = vec![state(&world, 1, b"heat"), state(&world, 1, b"heads")];
    let mut short = good.state;
    short.length = 3;
    tries.push(SignedSlot::sign(&GENESIS, short, &world.key));
    let mut other = good.state;
    other.epoch = epoch(2);
    tries.push(SignedSlot::sign(&GENESIS, other, &world.key));
    tries.push(SignedSlot { signature: Signature::EMPTY, ..good });
    tries.push(SignedSlot::sign(&GENESIS, good.state, &super::secret(9)));
    for new in tries {
        assert!(is_bad(world.call(put(SlotState::default(), b"head", new))));
    }
    let long = vec![0; MAX_HEAD + 1];
    let new = state(&world, 1, &long);
    assert!(is_bad(world.call(ContractCall::HeadPut {
        expected: SlotState::default(),
        head: long,
        new
    })));
    let full = vec![0; MAX_HEAD];
    let new = state(&world, 1, &full);
    written(world.call(ContractCall::HeadPut { expected: SlotState::default(), head: full, new }));
    let next = state(&world, 2, &vec![0; MAX_HEAD + 1]);
    let call = ContractCall::HeadAppend { expected: new.state, tail: vec![0], new: next };
    assert!(is_bad(world.call(call)));
}

#[test]
fn a_promise_is_durable_and_fences_every_mutating_call() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let old = world.epoch;
    let old_voucher = world.voucher(Amount(1_000_000));
    world.epoch = epoch(3);
    assert!(matches!(world.call(ContractCall::Promise), Ok(HostResponse::Head { .. })));
    assert!(world.call(ContractCall::Promise).is_ok(), "an equal epoch is fine");
    world.crash();
    assert_eq!(world.latest().promised, world.claim(epoch(3)));
    let current = world.epoch;
    world.epoch = old;
    let fenced = Refusal::Fenced { given: old, promised: Box::new(world.claim(current)) };
    assert_eq!(world.call(ContractCall::Promise), Err(fenced.clone()));
    assert_eq!(world.store(2, 10), Err(fenced.clone()));
    assert_eq!(world.do_commit(&[entry], &[], Vec::new()), Err(fenced.clone()));
    let new = state(&world, 1, b"head");
    assert_eq!(world.call(put(SlotState::default(), b"head", new)), Err(fenced.clone()));
    let expected = SlotState::default();
    assert_eq!(
        world.call(ContractCall::HeadAppend { expected, tail: b"head".to_vec(), new }),
        Err(fenced.clone())
    );
    assert_eq!(world.read(entry.root, 1_024), Err(fenced.clone()), "by its voucher");
    assert!(world.call(ContractCall::Head).is_ok(), "reading is free for all");
    world.epoch = current;
    let root = entry.root;
    let call = ContractCall::Read { voucher: old_voucher, root, offset: 0, length: 1_024 };
    assert_eq!(world.call(call), Err(fenced));
    world.paid = Amount(10_000_000);
    assert!(world.do_commit(&[entry], &[], Vec::new()).is_ok());
}

#[test]
fn a_write_of_a_higher_epoch_fences_the_lower() {
    let mut world = World::new();
    world.epoch = epoch(7);
    let new = state(&world, 1, b"head");
    written(world.call(put(SlotState::default(), b"head", new)));
    world.epoch = epoch(6);
    let fenced = Refusal::Fenced { given: epoch(6), promised: Box::new(world.claim(epoch(7))) };
    let new = state(&world, 2, b"head");
    assert_eq!(world.call(put(SlotState::default(), b"head", new)), Err(fenced));
}

#[test]
fn an_epoch_is_raised_only_by_a_claim_that_verifies() {
    let mut world = World::new();
    let tries = [
        EpochClaim { epoch: epoch(9), ..world.claim(epoch(2)) },
        EpochClaim { nonce: ContractNonce([8; 16]), ..world.claim(epoch(9)) },
        EpochClaim { signature: Signature::EMPTY, ..world.claim(epoch(9)) },
    ];
    let head = b"head".to_vec();
    for claim in tries {
        world.epoch = claim.epoch;
        let new = state(&world, 1, &head);
        for call in [
            ContractCall::Promise,
            ContractCall::HeadPut { expected: SlotState::default(), head: head.clone(), new },
        ] {
            let host = world.host.id();
            let request = ContractRequest::sign(&GENESIS, &host, &world.key, claim, [1; 16], call);
            assert!(is_bad(world.send(request)));
        }
        assert_eq!(world.latest().promised, EpochClaim::NONE);
    }
    world.epoch = epoch(2);
    world.call(ContractCall::Promise).unwrap();
    assert_eq!(world.latest().promised, world.claim(epoch(2)));
}

#[test]
fn a_contract_that_left_the_chain_promises_nothing_and_still_shows_its_fence() {
    let mut world = World::new();
    world.epoch = epoch(3);
    world.call(ContractCall::Promise).unwrap();
    world.facts.contract = None;
    world.epoch = epoch(4);
    assert!(matches!(world.call(ContractCall::Promise), Err(Refusal::Expired { .. })));
    world.epoch = epoch(2);
    let new = state(&world, 1, b"head");
    let answer = world.call(put(SlotState::default(), b"head", new));
    assert!(matches!(answer, Err(Refusal::Fenced { .. })), "{answer:?}");
}
