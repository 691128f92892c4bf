//! Which hosts' heads make an acknowledgement.

use samara_protocol::journal::HostIndex;
use samara_protocol::journal::quorum::HeadSet;

/// With fewer operators than this, several hosts of one operator are better than fewer hosts.
const FEW_OPERATORS: usize = 5;

/// A host that could be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The host's number.
    pub index: HostIndex,
    /// Who runs it; hosts that do not say are each on their own.
    pub operator: String,
    /// Whether it has failed for a while.
    pub failing: bool,
}

/// Chooses a head set: members stay as long as they live and answer, free places go to the candidates
/// in their order, one for each operator. Few operators share the places that are left.
#[must_use]
pub fn choose(current: &[HostIndex], candidates: &[Candidate]) -> Vec<HostIndex> {
    let rank = |candidate: &&Candidate| {
        let place = current.iter().position(|member| *member == candidate.index);
        (candidate.failing, place.unwrap_or(usize::MAX))
    };
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by_key(rank);
    let mut chosen: Vec<&Candidate> = Vec::new();
    for candidate in &ordered {
        let own = candidate.operator.is_empty()
            || chosen.iter().all(|other| other.operator != candidate.operator);
        if own && chosen.len() < HeadSet::MAX {
            chosen.push(candidate);
        }
    }
    if chosen.len() < FEW_OPERATORS {
        for candidate in &ordered {
            if chosen.len() < HeadSet::MAX && chosen.iter().all(|c| c.index != candidate.index) {
                chosen.push(candidate);
            }
        }
    }
    let mut chosen: Vec<HostIndex> = chosen.into_iter().map(|candidate| candidate.index).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: u16, operator: &str) -> Candidate {
        Candidate { index: HostIndex(index), operator: operator.into(), failing: false }
    }

    fn indexes(numbers: &[u16]) -> Vec<HostIndex> {
        numbers.iter().copied().map(HostIndex).collect()
    }

    #[test]
    fn one_host_for_each_operator_and_members_stay() {
        let mut hosts: Vec<Candidate> =
            (0..20).map(|i| candidate(i, &format!("op{}", i / 2))).collect();
        assert_eq!(choose(&[], &hosts), indexes(&[0, 2, 4, 6, 8, 10, 12, 14, 16]));
        assert_eq!(
            choose(&indexes(&[19, 17, 1]), &hosts),
            indexes(&[1, 2, 4, 6, 8, 10, 12, 17, 19])
        );
        hosts[19].failing = true;
        assert!(!choose(&indexes(&[19, 17, 1]), &hosts).contains(&HostIndex(19)));
    }

    #[test]
    fn few_operators_share_the_places() {
        let hosts: Vec<Candidate> = (0..4).map(|i| candidate(i, "one")).collect();
        assert_eq!(choose(&[], &hosts), indexes(&[0, 1, 2, 3]));
        let silent: Vec<Candidate> = (0..12).map(|i| candidate(i, "")).collect();
        assert_eq!(choose(&[], &silent).len(), HeadSet::MAX);
    }
}
