//! Whose contracts are whose, where two nodes have used the same words without knowing of one another.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::chain::light::{Blame, Need, Rules};
use samara_protocol::contract::ContractId;
use samara_protocol::recovery::{FoundContract, Scan};
use samara_protocol::units::{Height, Millis};

use super::Recovery;
use super::claim::{Answered, Claim, host_row};
use super::error::RecoveryError;
use super::scan::{PATIENCE, Supply, WAIT};

impl Recovery {
    /// All records of these words in the chain, in its order, at least up to a block that is known to
    /// exist. Nothing is stored: it is asked once in a node's life.
    pub(crate) async fn records(&self, least: Height) -> Result<Vec<FoundContract>, RecoveryError> {
        let world = &self.world;
        let genesis = world.chain.genesis().clone();
        let mut scan = Scan::new(&genesis, Rules::walk(&genesis));
        let mut failures = Vec::new();
        loop {
            let need = scan.next();
            if need == Need::Done {
                break;
            }
            let outcome;
            (scan, outcome) = self.supply(scan, need).await;
            let Err(error) = outcome else {
                failures.clear();
                continue;
            };
            if let Supply::False(error) = &error
                && matches!(error.blame(), Blame::Tip | Blame::TipOrAnswer)
            {
                scan.seek();
            }
            failures.push(error.to_string());
            if failures.len() as u32 >= PATIENCE {
                return Err(RecoveryError::FalseChain(failures.join("; ")));
            }
            world.clock.sleep(Millis(WAIT << failures.len().min(8))).await;
        }
        let seen = scan.progress().blocks_certified;
        if seen < least.0 {
            let reason = format!("the chain ends at block {seen}, block {least} is known");
            return Err(RecoveryError::FalseChain(reason));
        }
        Ok(scan.found().to_vec())
    }
}

/// Leaves the contracts of one lineage in a claim, and puts those of others aside.
///
/// Heads of one journal name one another's contracts; heads of two journals have none in common. The
/// lineage whose record comes first in the chain owns the words. A contract that was never used is
/// used, unless the owner has another one with its host. `claim.answered` is in the chain's order.
pub(super) fn separate(claim: &mut Claim) {
    let mut groups = Groups::default();
    for answered in claim.answered.iter().filter(|answered| !is_unused(answered)) {
        let Some(head) = &answered.head else { continue };
        let named = head.base.revisions.iter().map(|(_, revision)| revision.contract);
        // A head on a contract that its base does not name yet belongs with the others it names.
        groups.join(id(answered), named);
    }
    let owner = claim.answered.iter().find(|answered| groups.0.contains_key(&id(answered)));
    let Some(owner) = owner.map(id) else { return };
    let of_owner = claim.answered.iter().filter(|answered| groups.same(&owner, &id(answered)));
    let owned: BTreeSet<_> = of_owner.map(|answered| answered.live.found.record.host).collect();
    for answered in std::mem::take(&mut claim.answered) {
        let alone = !groups.0.contains_key(&id(&answered));
        let doubled = owned.contains(&answered.live.found.record.host);
        if groups.same(&owner, &id(&answered)) || (alone && !doubled) {
            claim.answered.push(answered);
            continue;
        }
        let reason = match &answered.head {
            Some(head) if !alone => {
                let position = head.point.position;
                format!("another node's journal of {position} entries, begun with the same words")
            }
            _ => "it has no head, and its host has another contract of these words".to_owned(),
        };
        claim.others.push(host_row(&answered.live.found, reason));
    }
}

fn id(answered: &Answered) -> ContractId {
    answered.live.found.record.contract
}

/// Whether nothing was ever written under a contract. What head there is was found under another.
fn is_unused(answered: &Answered) -> bool {
    let revision = answered.status.revision.revision;
    (answered.status.slot.state.sequence, revision.number, revision.size) == (0, 0, 0)
}

/// Contracts that heads name together.
#[derive(Default)]
struct Groups(BTreeMap<ContractId, usize>);

impl Groups {
    fn join(&mut self, own: ContractId, named: impl Iterator<Item = ContractId>) {
        let members: Vec<ContractId> = std::iter::once(own).chain(named).collect();
        let present: BTreeSet<usize> =
            members.iter().filter_map(|id| self.0.get(id)).copied().collect();
        let group = present.first().copied().unwrap_or(self.0.len());
        for known in self.0.values_mut().filter(|known| present.contains(known)) {
            *known = group;
        }
        self.0.extend(members.into_iter().map(|id| (id, group)));
    }

    fn same(&self, one: &ContractId, other: &ContractId) -> bool {
        one == other || self.0.get(one).is_some_and(|group| self.0.get(other) == Some(group))
    }
}
