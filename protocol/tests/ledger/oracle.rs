//! Slow, obvious checks of a whole state.

use std::collections::BTreeSet;

use samara_protocol::chain::ValidatorSet;
use samara_protocol::encoding::{decode_canonical, encode};
use samara_protocol::host::HostAnnouncement;
use samara_protocol::ledger::state::{Account, Contract, StateKey, Totals};
use samara_protocol::ledger::{Deadline, MemoryState};

/// Money is conserved, the deadlines follow from the contracts, the root from the values.
pub fn check(state: &MemoryState) {
    let (mut balances, mut locked) = (0u128, 0u128);
    let mut totals = None;
    let mut deadlines = BTreeSet::new();
    for (key, bytes) in state.values() {
        match key {
            StateKey::Account(_) => {
                let account: Account = decode_canonical(bytes).unwrap();
                balances = balances.checked_add(account.balance.0).unwrap();
            }
            StateKey::Contract(id) => {
                let contract: Contract = decode_canonical(bytes).unwrap();
                assert_eq!(contract.terms.contract, *id);
                assert!(contract.period < contract.terms.periods);
                locked = locked.checked_add(contract.funds.0).unwrap();
                locked = locked.checked_add(contract.collateral.0).unwrap();
                deadlines.insert(Deadline { at: contract.due, contract: *id });
            }
            StateKey::Totals => totals = Some(decode_canonical::<Totals>(bytes).unwrap()),
            StateKey::Host(_) => drop(decode_canonical::<HostAnnouncement>(bytes).unwrap()),
            StateKey::Validators => drop(decode_canonical::<ValidatorSet>(bytes).unwrap()),
        }
    }
    let totals = totals.unwrap();
    assert_eq!((totals.balances.0, totals.locked.0), (balances, locked));
    let sum = balances.checked_add(locked).and_then(|sum| sum.checked_add(totals.burned.0));
    assert_eq!(sum, Some(totals.issued.0), "money is conserved");
    assert!(state.all_deadlines().eq(&deadlines), "the deadline index follows from the contracts");
    assert_eq!(state.root().0, root(state), "the root follows from the values");
}

/// The root of the sparse Merkle tree over all values, by its definition.
fn root(state: &MemoryState) -> [u8; 32] {
    let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    let mut leaves: Vec<([u8; 32], [u8; 32])> = state
        .values()
        .map(|(key, value)| {
            let place = hash(&encode(key));
            let leaf = [&b"JMT::LeafNode"[..], &place, &hash(value)].concat();
            (place, hash(&leaf))
        })
        .collect();
    leaves.sort();
    subtree(&leaves, 0)
}

fn subtree(leaves: &[([u8; 32], [u8; 32])], depth: usize) -> [u8; 32] {
    match leaves {
        [] => *b"SPARSE_MERKLE_PLACEHOLDER_HASH__",
        [(_, leaf)] => *leaf,
        _ => {
            let bit = |place: &[u8; 32]| place[depth / 8] >> (7 - depth % 8) & 1;
            let (left, right) = leaves.split_at(leaves.partition_point(|(p, _)| bit(p) == 0));
            let halves = [subtree(left, depth + 1), subtree(right, depth + 1)];
            *blake3::hash(&[&b"JMT::IntrnalNode"[..], &halves[0], &halves[1]].concat()).as_bytes()
        }
    }
}
