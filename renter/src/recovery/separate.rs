//! Whose contracts are whose, where two nodes have used the same words without knowing of one another.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::contract::ContractId;
use samara_protocol::signature::PublicKey;

/// A contract whose host answered, as far as it tells one lineage from another.
pub(super) struct Trace {
    pub(super) contract: ContractId,
    pub(super) host: PublicKey,
    /// The contracts that its head names; nothing if it has no head, or nothing was ever written
    /// under it: a head that such a contract shows was found under another.
    pub(super) named: Option<Vec<ContractId>>,
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

/// Tells the contracts of the words' owner from those of others, in the order of `traces`, which is the
/// chain's.
///
/// Heads of one journal name one another's contracts; heads of two journals have none in common. The
/// lineage whose record comes first in the chain owns the words. A contract that was never used is
/// used, unless the owner has another one with its host.
pub(super) fn separate(traces: &[Trace]) -> Vec<Lineage> {
    let mut groups = Groups::default();
    for trace in traces {
        let Some(named) = &trace.named else { continue };
        // A head on a contract that its base does not name yet belongs with the others it names.
        groups.join(trace.contract, named);
    }
    let owner = traces.iter().find(|trace| groups.0.contains_key(&trace.contract));
    let Some(owner) = owner.map(|trace| trace.contract) else {
        return vec![Lineage::Owner; traces.len()];
    };
    let is_owners = |trace: &Trace| groups.same(&owner, &trace.contract);
    let owned: BTreeSet<PublicKey> =
        traces.iter().filter(|trace| is_owners(trace)).map(|trace| trace.host).collect();
    let lineage = |trace: &Trace| {
        if is_owners(trace) {
            Lineage::Owner
        } else if groups.0.contains_key(&trace.contract) {
            Lineage::Other
        } else if owned.contains(&trace.host) {
            Lineage::Doubled
        } else {
            Lineage::Owner
        }
    };
    traces.iter().map(lineage).collect()
}

/// Contracts that heads name together.
#[derive(Default)]
struct Groups(BTreeMap<ContractId, usize>);

impl Groups {
    fn join(&mut self, own: ContractId, named: &[ContractId]) {
        let members = || std::iter::once(&own).chain(named);
        let present: BTreeSet<usize> = members().filter_map(|id| self.0.get(id)).copied().collect();
        let group = present.first().copied().unwrap_or(self.0.len());
        for known in self.0.values_mut().filter(|known| present.contains(known)) {
            *known = group;
        }
        self.0.extend(members().map(|id| (*id, group)));
    }

    fn same(&self, one: &ContractId, other: &ContractId) -> bool {
        one == other || self.0.get(one).is_some_and(|group| self.0.get(other) == Some(group))
    }
}
