//! Whose contracts are whose, where two nodes have used the same words without knowing of one another.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::contract::ContractId;
use samara_protocol::signature::PublicKey;

/// A contract whose host answered, as far as it tells one lineage from another.
pub(super) struct Trace {
    pub(super) contract: ContractId,
    pub(super) host: PublicKey,
    /// Whether the words gave it up on the chain.
    pub(super) given_up: bool,
    /// Its head; nothing if it has none, or nothing was ever written under it: a head that such a
    /// contract shows was found under another.
    pub(super) head: Option<HeadTrace>,
}

/// What a head says of its lineage, sealed with keys of the words.
pub(super) struct HeadTrace {
    /// The contract under which its journal was first written.
    pub(super) origin: ContractId,
    /// The contracts that it names.
    pub(super) named: Vec<ContractId>,
}

/// To whom a contract belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lineage {
    /// To the owner of the words.
    Owner,
    /// To another node's journal.
    Other,
    /// To nobody that can be told, and the owner has another contract with its host.
    Doubled,
}

/// Tells the contracts of the words' owner from those of others, in the order of `traces`. `place` is
/// where the chain records a contract.
///
/// Heads of one journal have the same origin, whatever was renewed, given up or recovered since: that is
/// this seed's own sealed word, not a host's. So a host that was silent while the others were renewed
/// and taken over is met in its own lineage, where the higher epoch wins. Of several lineages the one
/// whose record comes first owns the words; contracts that were given up have no say in it, unless
/// there are no others. A contract that was never used is used, unless the owner has another one with
/// its host.
pub(super) fn separate(
    traces: &[Trace],
    place: impl Fn(&ContractId) -> Option<usize>,
) -> Vec<Lineage> {
    let rank = |trace: &Trace| {
        let origin = trace.head.as_ref()?.origin;
        let places = [place(&origin), place(&trace.contract)];
        let first = places.into_iter().flatten().min().unwrap_or(usize::MAX);
        Some((trace.given_up, first, origin))
    };
    let Some((.., owner)) = traces.iter().filter_map(rank).min() else {
        return vec![Lineage::Owner; traces.len()];
    };
    let mut named: BTreeMap<ContractId, BTreeSet<ContractId>> = BTreeMap::new();
    for head in traces.iter().filter_map(|trace| trace.head.as_ref()) {
        for contract in &head.named {
            named.entry(*contract).or_default().insert(head.origin);
        }
    }
    // What a head names is its journal's, whatever the named host shows or renews.
    let origin = |trace: &Trace| match named.get(&trace.contract) {
        Some(by) if by.contains(&owner) => Some(owner),
        by => trace.head.as_ref().map(|head| head.origin).or_else(|| by?.first().copied()),
    };
    let counts = |trace: &&Trace| origin(trace) == Some(owner) && !trace.given_up;
    let owned: BTreeSet<PublicKey> = traces.iter().filter(counts).map(|trace| trace.host).collect();
    let lineage = |trace: &Trace| match origin(trace) {
        Some(origin) if origin == owner => Lineage::Owner,
        Some(_) => Lineage::Other,
        None if owned.contains(&trace.host) => Lineage::Doubled,
        None => Lineage::Owner,
    };
    traces.iter().map(lineage).collect()
}
