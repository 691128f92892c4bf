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

/// Leaves the contracts of one lineage in a claim, and puts those of others aside. `found` are all
/// records of the words, in the chain's order.
///
/// Heads of one journal have the same origin, whatever was renewed, given up or recovered since: that is
/// this seed's own sealed word, not a host's. So a host that was silent while the others were renewed
/// and taken over is met in its own lineage, where the higher epoch wins. Of several lineages the one
/// whose record comes first owns the words; contracts that were given up have no say in it, unless
/// there are no others. A contract that was never used is used, unless the owner has another one with
/// its host.
pub(super) fn separate(claim: &mut Claim, found: &[FoundContract]) {
    let place = |id: &ContractId| found.iter().position(|f| f.record.contract == *id);
    let rank = |answered: &Answered| {
        let origin = origin(answered)?;
        let places = [place(&origin), place(&id(answered))];
        let first = places.into_iter().flatten().min().unwrap_or(usize::MAX);
        Some((answered.live.given_up, first, origin))
    };
    let Some((.., owner)) = claim.answered.iter().filter_map(rank).min() else { return };
    let mut named: BTreeMap<ContractId, BTreeSet<ContractId>> = BTreeMap::new();
    for answered in &claim.answered {
        let (Some(origin), Some(shown)) = (origin(answered), &answered.head) else { continue };
        for (_, revision) in &shown.head.base.revisions {
            named.entry(revision.contract).or_default().insert(origin);
        }
    }
    // What a head names is its journal's, whatever the named host shows or renews.
    let lineage = |answered: &Answered| match named.get(&id(answered)) {
        Some(by) if by.contains(&owner) => Some(owner),
        by => origin(answered).or_else(|| by?.first().copied()),
    };
    let counts = |answered: &&Answered| lineage(answered) == Some(owner) && !answered.live.given_up;
    let owned: BTreeSet<_> =
        claim.answered.iter().filter(counts).map(|a| a.live.found.record.host).collect();
    for answered in std::mem::take(&mut claim.answered) {
        let (host, lineage) = (answered.live.found.record.host, lineage(&answered));
        if lineage == Some(owner) || (lineage.is_none() && !owned.contains(&host)) {
            claim.answered.push(answered);
            continue;
        }
        let reason = match &answered.head {
            Some(shown) if lineage.is_some() => {
                let position = shown.head.point.position;
                format!("another node's journal of {position} entries, begun with the same words")
            }
            _ => "it has no head, and its host has another contract of these words".to_owned(),
        };
        claim.others.push(host_row(&answered.live.found, reason));
        if !answered.live.given_up {
            claim.aside.insert(host);
        }
    }
}

/// The origin of the journal that was written under a contract, or under the one that it renewed.
fn origin(answered: &Answered) -> Option<ContractId> {
    let shown = answered.head.as_ref().filter(|_| !is_unused(answered))?;
    Some(shown.head.base.origin)
}

fn id(answered: &Answered) -> ContractId {
    answered.live.found.record.contract
}

/// Whether nothing was ever written under a contract. What head there is was found under another.
fn is_unused(answered: &Answered) -> bool {
    let revision = answered.status.revision.revision;
    (answered.status.slot.state.sequence, revision.number, revision.size) == (0, 0, 0)
}
