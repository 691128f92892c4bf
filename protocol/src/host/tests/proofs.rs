//! Storage proofs and what is due on the chain.

use super::World;
use crate::chain::Action;
use crate::hash::{BlockHash, Digest};
use crate::host::prove::ProveError;
use crate::ledger::state::ContractPhase;
use crate::sector::verify_storage_proof;
use crate::units::{Height, Millis};

const LEAD: Millis = Millis::hours(1);

/// A world with six sectors of growing sizes.
fn filled() -> World {
    let mut world = World::new();
    let entries: Vec<_> =
        (0..6u8).map(|number| world.store(number.into(), 10 + number).unwrap()).collect();
    world.do_commit(&entries, &[], Vec::new()).unwrap();
    world
}

#[test]
fn storage_is_proven_for_any_seed_unless_it_is_damaged() {
    let world = filled();
    for seed in 0..20 {
        let seed = Digest([seed; 32]);
        let proof = world.host.prove(&world.id(), &seed).unwrap();
        let (root, size) = (world.revision.data_root, world.revision.size);
        assert_eq!(verify_storage_proof(&seed, &root, size, &proof), Ok(()));
    }
    for entry in &world.list {
        for group in 0..entry.size.groups() {
            assert!(world.store.corrupt(&entry.root, (group * entry.size.group()) as usize));
        }
    }
    let refused = world.host.prove(&world.id(), &Digest([1; 32]));
    assert!(matches!(refused, Err(ProveError::Sector { .. })), "{refused:?}");
    let unknown = super::secret(9).public();
    let refused = world.host.prove(&unknown, &Digest([1; 32]));
    assert_eq!(refused, Err(ProveError::UnknownContract(unknown)));
}

#[test]
fn the_first_revision_is_published_before_its_period_ends() {
    let mut world = filled();
    let contract = world.facts.contract.clone().unwrap();
    let due = |world: &World, contract| world.host.due(contract, world.facts.now, LEAD).unwrap();
    assert_eq!(due(&world, &contract), None);
    world.pass(Millis::hours(9));
    let Some(Action::UpdateContract { revision, voucher, .. }) = due(&world, &contract) else {
        panic!("nothing is due")
    };
    assert_eq!(revision.map(|signed| signed.revision), Some(world.revision));
    assert_eq!(voucher.map(|signed| signed.voucher.total), Some(world.paid));
    let mut published = contract.clone();
    published.revision = world.revision;
    assert_eq!(due(&world, &published), None);
}

#[test]
fn a_proof_is_due_once_the_challenge_is_fixed() {
    let mut world = filled();
    let mut contract = world.facts.contract.clone().unwrap();
    contract.revision = world.revision;
    contract.redeemed = world.paid;
    let entry = world.store(100, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    let mut seeds = vec![BlockHash([1; 32]), BlockHash([2; 32])];
    let proving = |seeds| ContractPhase::Proving { opened: Height(9), since: super::START, seeds };
    contract.phase = proving(seeds.clone());
    assert_eq!(world.host.due(&contract, world.facts.now, LEAD), Ok(None));
    seeds.push(BlockHash([3; 32]));
    contract.phase = proving(seeds);
    let due = world.host.due(&contract, world.facts.now, LEAD).unwrap();
    let Some(Action::ProveStorage { period, revision, voucher, proof, .. }) = due else {
        panic!("{due:?}")
    };
    assert_eq!(period, 0);
    assert_eq!(revision.map(|signed| signed.revision), Some(world.revision));
    assert_eq!(voucher.map(|signed| signed.voucher.total), Some(world.paid));
    let seed = contract.challenge().unwrap();
    let (root, size) = (world.revision.data_root, world.revision.size);
    assert_eq!(verify_storage_proof(&seed, &root, size, &proof), Ok(()));
}

#[test]
fn vouchers_of_an_empty_contract_are_redeemed_before_its_last_period_ends() {
    let mut world = World::new();
    world.store(1, 10).unwrap();
    let mut contract = world.facts.contract.clone().unwrap();
    world.pass(Millis::hours(9));
    assert_eq!(world.host.due(&contract, world.facts.now, LEAD), Ok(None));
    contract.period = 9;
    world.pass(Millis::hours(90));
    let due = world.host.due(&contract, world.facts.now, LEAD).unwrap();
    assert!(
        matches!(&due, Some(Action::UpdateContract { revision: None, voucher: Some(_), .. })),
        "{due:?}"
    );
}
