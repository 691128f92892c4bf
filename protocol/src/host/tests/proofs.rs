//! Storage proofs and what is due on the chain.

use super::World;
use crate::chain::Action;
use crate::hash::{BlockHash, Digest};
use crate::host::message::Refusal;
use crate::host::prove::ProveError;
use crate::ledger::state::ContractPhase;
use crate::sector::verify_storage_proof;
use crate::units::{Height, Millis};

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
    let mut contract = world.facts.contract.clone().unwrap();
    contract.revision = world.revision;
    for seed in 0..20 {
        let seed = Digest([seed; 32]);
        let proof = world.host.prove(&contract, &seed).unwrap();
        let (root, size) = (world.revision.data_root, world.revision.size);
        assert_eq!(verify_storage_proof(&seed, &root, size, &proof), Ok(()));
    }
    for entry in &world.list {
        for group in 0..entry.size.groups() {
            assert!(world.store.corrupt(&entry.root, (group * entry.size.group()) as usize));
        }
    }
    let refused = world.host.prove(&contract, &Digest([1; 32]));
    assert!(matches!(refused, Err(ProveError::Sector { .. })), "{refused:?}");
    let unknown = super::secret(9).public();
    contract.terms.contract = unknown;
    let refused = world.host.prove(&contract, &Digest([1; 32]));
    assert_eq!(refused, Err(ProveError::UnknownContract(unknown)));
}

#[test]
fn the_first_revision_is_published_before_its_period_ends() {
    let mut world = filled();
    let contract = world.facts.contract.clone().unwrap();
    let due = |world: &World, contract| world.host.due(contract, world.facts.now).unwrap();
    assert_eq!(due(&world, &contract), None);
    world.pass(Millis::seconds(36_000 - 301));
    assert_eq!(due(&world, &contract), None);
    world.pass(Millis::seconds(1));
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
    let frozen = world.revision;
    let entry = world.store(100, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    let mut seeds = vec![BlockHash([1; 32]), BlockHash([2; 32])];
    let proving = |seeds| ContractPhase::Proving { opened: Height(9), since: super::START, seeds };
    contract.phase = proving(seeds.clone());
    assert_eq!(world.host.due(&contract, world.facts.now), Ok(None));
    seeds.push(BlockHash([3; 32]));
    contract.phase = proving(seeds);
    let due = world.host.due(&contract, world.facts.now).unwrap();
    let Some(Action::ProveStorage { period, voucher, proof, .. }) = due else { panic!("{due:?}") };
    assert_eq!(period, 0);
    assert_eq!(voucher.map(|signed| signed.voucher.total), Some(world.paid));
    let seed = contract.challenge().unwrap();
    let (root, size) = (frozen.data_root, frozen.size);
    assert_eq!(verify_storage_proof(&seed, &root, size, &proof), Ok(()));
}

#[test]
fn nothing_is_removed_between_publication_and_proof() {
    let mut world = filled();
    let mut contract = world.facts.contract.clone().unwrap();
    contract.revision = world.revision;
    world.facts.contract = Some(contract.clone());
    world.do_commit(&[], &[0], Vec::new()).unwrap();
    // The chain's revision cannot be proven any more, so the new one is published.
    world.pass(Millis::seconds(36_000 - 300));
    let due = world.host.due(&contract, world.facts.now).unwrap();
    let Some(Action::UpdateContract { revision: Some(revision), .. }) = due else {
        panic!("{due:?}")
    };
    assert_eq!(revision.revision, world.revision);
    let refused = world.do_commit(&[], &[0], Vec::new());
    assert!(matches!(refused, Err(Refusal::Busy(_))), "{refused:?}");
    contract.revision = world.revision;
    let seeds = vec![BlockHash([1; 32]); 3];
    contract.phase = ContractPhase::Proving { opened: Height(9), since: super::START, seeds };
    world.facts.contract = Some(contract.clone());
    let entry = world.store(100, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    assert!(matches!(world.do_commit(&[], &[0], Vec::new()), Err(Refusal::Busy(_))));
    let due = world.host.due(&contract, world.facts.now);
    assert!(matches!(due, Ok(Some(Action::ProveStorage { .. }))), "{due:?}");
    contract.phase = ContractPhase::Running;
    contract.period = 1;
    world.facts.contract = Some(contract);
    world.do_commit(&[], &[0], Vec::new()).unwrap();
}

#[test]
fn vouchers_of_an_empty_contract_are_redeemed_before_its_last_period_ends() {
    let mut world = World::new();
    world.store(1, 10).unwrap();
    let mut contract = world.facts.contract.clone().unwrap();
    world.pass(Millis::seconds(36_000 - 300));
    assert_eq!(world.host.due(&contract, world.facts.now), Ok(None));
    contract.period = 9;
    world.pass(Millis::hours(90));
    let due = world.host.due(&contract, world.facts.now).unwrap();
    assert!(
        matches!(&due, Some(Action::UpdateContract { revision: None, voucher: Some(_), .. })),
        "{due:?}"
    );
}
