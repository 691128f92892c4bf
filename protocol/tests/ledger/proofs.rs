//! Proofs of the state: what is there, what is not, and nothing else.

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use samara_protocol::hash::Digest;
use samara_protocol::ledger::state::{StateKey, StateProof};
use samara_protocol::ledger::{ProofError, StateError, StateReader, prove, verify_proof};
use samara_protocol::units::{Amount, Height};

use crate::world::{HOST, RENTER, World, public};

fn keys() -> Vec<StateKey> {
    let numbers = [RENTER, HOST, 50, 99, 100, 101];
    let mut keys = vec![StateKey::Totals, StateKey::Validators];
    for key in numbers.map(public) {
        keys.extend([StateKey::Account(key), StateKey::Contract(key), StateKey::Host(key)]);
    }
    keys
}

#[test]
fn every_key_is_proven_present_or_absent() {
    let world = World::with_contract(3);
    let root = world.state.root();
    let reader: &dyn StateReader = &world.state;
    for key in keys() {
        let proof = prove(reader, world.height(), &key).unwrap();
        assert!(proof.0.len() <= StateProof::MAX_BYTES);
        let value = world.state.value(&key).unwrap();
        verify_proof(&root, &key, value.as_deref(), &proof).unwrap();
        let other = if value.is_some() { None } else { Some(&b"money"[..]) };
        for (root, key, value) in [
            (root, key, other),
            (root, key, Some(&b"other"[..])),
            (Digest([1; 32]), key, value.as_deref()),
        ] {
            let refused = verify_proof(&root, &key, value, &proof);
            assert!(matches!(refused, Err(ProofError::False { .. })));
        }
    }
}

#[test]
fn a_proof_of_one_key_proves_no_other() {
    let world = World::with_contract(3);
    let root = world.state.root();
    let present = StateKey::Account(public(RENTER));
    let proof = prove(&world.state, world.height(), &present).unwrap();
    for key in keys().into_iter().filter(|key| *key != present) {
        if let Some(value) = world.state.value(&key).unwrap() {
            assert!(verify_proof(&root, &key, Some(&value), &proof).is_err());
            assert!(verify_proof(&root, &key, None, &proof).is_err(), "{key:?} is there");
        }
    }
}

#[test]
fn earlier_heights_are_proven_until_they_are_pruned() {
    let mut world = World::new();
    let key = StateKey::Account(public(RENTER));
    let mut history = vec![(world.state.root(), world.state.value(&key).unwrap())];
    for _ in 0..6 {
        let transfer = world.transfer(RENTER, HOST, Amount(1));
        world.good(1, vec![transfer]);
        history.push((world.state.root(), world.state.value(&key).unwrap()));
        world.good(1, vec![]);
        history.push((world.state.root(), world.state.value(&key).unwrap()));
    }
    let check = |world: &World, height: usize| {
        let (root, value) = &history[height];
        prove(&world.state, Height(height as u64), &key)
            .map(|proof| verify_proof(root, &key, value.as_deref(), &proof).unwrap())
    };
    assert!((0..history.len()).all(|height| check(&world, height).is_ok()));
    world.state.prune(Height(5));
    for height in 0..history.len() {
        let result = check(&world, height);
        if height < 5 {
            assert!(matches!(result, Err(StateError::Tree { .. })), "height {height}");
        } else {
            assert!(result.is_ok(), "height {height}");
        }
    }
    let more = world.transfer(RENTER, HOST, Amount(1));
    world.good(1, vec![more]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_proofs_are_refused_and_never_panic(
        at in any::<proptest::sample::Index>(), flip in 1u8..=255, cut in any::<bool>(),
    ) {
        let world = World::with_contract(3);
        let key = StateKey::Account(public(RENTER));
        let value = world.state.value(&key).unwrap();
        let StateProof(mut bytes) = prove(&world.state, world.height(), &key).unwrap();
        let index = at.index(bytes.len());
        if cut { bytes.truncate(index) } else { bytes[index] ^= flip }
        let changed = StateProof(bytes);
        prop_assert!(verify_proof(&world.state.root(), &key, None, &changed).is_err());
        let verdict = verify_proof(&world.state.root(), &key, value.as_deref(), &changed);
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn any_bytes_are_a_proof_of_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let key = StateKey::Totals;
        prop_assert!(verify_proof(&Digest::ZERO, &key, None, &StateProof(bytes)).is_err());
    }
}
