//! How many hosts of a head set make an acknowledgement, and how many a recovery must hear.
//!
//! **Ended members.** A member whose contract has ended on the chain, or was given up there, never
//! counts toward a read quorum again, whatever its host still shows. That is why it may count as if it
//! held a new head where a set is left for another one: let E be the ended members of n, A those of the
//! others that hold the new head, and R any later read quorum. R has r members, all of them outside of
//! E, so it shares at least r + |A| - (n - |E|) members with A; that is more than f, because
//! |A| + |E| >= w and w + r > n + f. Without this rule a set that has lost its write quorum for good
//! could never be left. An acknowledgement itself counts living hosts only: it promises copies.

use serde::{Deserialize, Serialize};

use super::slab_record::HostIndex;

/// Hosts whose heads make an acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSet {
    /// Grows with each change of the set.
    pub generation: u64,
    /// The hosts, at most [`HeadSet::MAX`], one per operator where there are enough.
    pub hosts: Vec<HostIndex>,
    /// While the set changes: the sets that it leaves, each of which a recovery may hear alone. More
    /// than one if a recovery found a change under way.
    pub previous: Vec<Vec<HostIndex>>,
}

impl HeadSet {
    /// Most hosts in a set.
    pub const MAX: usize = 9;

    /// Whether a change that these hosts hold is acknowledged: they are a write quorum of the set, and
    /// with the `ended` members of each set that is left.
    #[must_use]
    pub fn is_written(&self, hosts: &[HostIndex], ended: &[HostIndex]) -> bool {
        let left = |set: &Vec<HostIndex>| is_left(set, hosts, ended);
        is_held(&self.hosts, hosts, ended) && self.previous.iter().all(left)
    }

    /// Whether these hosts, without the `ended` ones, are a read quorum of the set and of each that
    /// it leaves.
    #[must_use]
    pub fn is_read(&self, hosts: &[HostIndex], ended: &[HostIndex]) -> bool {
        self.all_sets()
            .all(|set| !set.is_empty() && count(set, hosts, ended) >= Quorum::of(set.len()).read)
    }

    /// Whether a takeover that these hosts hold may leave the set, and those that it leaves.
    #[must_use]
    pub fn is_left(&self, hosts: &[HostIndex], ended: &[HostIndex]) -> bool {
        self.all_sets().all(|set| is_left(set, hosts, ended))
    }

    /// Whether so many members have ended that no read quorum can come together any more.
    #[must_use]
    pub fn is_lost(&self, ended: &[HostIndex]) -> bool {
        !self.all_sets().all(|set| count(set, set, ended) >= Quorum::of(set.len()).read)
    }

    /// The set of `hosts` that takes over from this one.
    #[must_use]
    pub fn followed_by(&self, hosts: Vec<HostIndex>) -> Self {
        let mut previous: Vec<Vec<HostIndex>> = Vec::new();
        for set in self.all_sets() {
            if !set.is_empty() && !previous.contains(set) {
                previous.push(set.clone());
            }
        }
        // Nothing is left if it stays the same. In a change that was under way even an equal set is
        // noted: the change may end in yet another one, and some host may have seen this one alone.
        if previous.iter().all(|set| *set == hosts) {
            previous.clear();
        }
        Self { generation: self.generation.saturating_add(1), hosts, previous }
    }

    /// The set, and those that it leaves.
    pub fn all_sets(&self) -> impl Iterator<Item = &Vec<HostIndex>> {
        std::iter::once(&self.hosts).chain(&self.previous)
    }

    /// Whether a host is in the set or in one that it leaves.
    #[must_use]
    pub fn contains(&self, host: HostIndex) -> bool {
        self.all_sets().any(|set| set.contains(&host))
    }
}

/// Members of a set among these hosts that have not ended.
fn count(set: &[HostIndex], hosts: &[HostIndex], ended: &[HostIndex]) -> usize {
    set.iter().filter(|host| hosts.contains(host) && !ended.contains(host)).count()
}

/// Whether these hosts are a write quorum of a set.
fn is_held(set: &[HostIndex], hosts: &[HostIndex], ended: &[HostIndex]) -> bool {
    !set.is_empty() && count(set, hosts, ended) >= Quorum::of(set.len()).write
}

/// Whether every later read quorum of a set must meet these hosts.
fn is_left(set: &[HostIndex], hosts: &[HostIndex], ended: &[HostIndex]) -> bool {
    let gone = set.iter().filter(|host| ended.contains(host)).count();
    count(set, hosts, ended) + gone >= Quorum::of(set.len()).write
}

/// Sizes of quorums in a set of n hosts: any write and any read quorum share more than f hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Hosts that must hold a head before its change counts, w.
    pub write: usize,
    /// Hosts that a recovery must hear, r.
    pub read: usize,
    /// Hosts that may lie, f.
    pub liars: usize,
}

impl Quorum {
    /// Quorums for a set of `n` hosts: `w + r > n + f` with f = 1 from five hosts on, else 0, and w as
    /// small as a majority allows (n = 9: w = 6, r = 5, f = 1).
    #[must_use]
    pub const fn of(n: usize) -> Self {
        let liars = if n >= 5 { 1 } else { 0 };
        let write = (n + liars + 2) / 2;
        Self { write, read: n + liars + 1 - write, liars }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_meet_in_more_than_the_liars() {
        for n in 1..=HeadSet::MAX {
            let q = Quorum::of(n);
            assert!(q.write + q.read > n + q.liars, "{n}: {q:?}");
            assert!(q.write <= n && q.read <= n && q.read >= 1, "{n}: {q:?}");
        }
        assert_eq!(Quorum::of(9), Quorum { write: 6, read: 5, liars: 1 });
        assert_eq!(Quorum::of(3), Quorum { write: 2, read: 2, liars: 0 });
        assert_eq!(Quorum::of(1), Quorum { write: 1, read: 1, liars: 0 });
    }

    fn hosts(range: std::ops::Range<u16>) -> Vec<HostIndex> {
        range.map(HostIndex).collect()
    }

    #[test]
    fn a_changing_set_needs_both_quorums() {
        let set = HeadSet { generation: 2, hosts: hosts(0..3), previous: vec![hosts(3..6)] };
        assert!(!set.is_written(&hosts(0..3), &[]));
        assert!(!set.is_written(&hosts(3..6), &[]));
        assert!(set.is_written(&[HostIndex(0), HostIndex(1), HostIndex(4), HostIndex(5)], &[]));
        // The set before is left with its ended members; the set itself is never held by them.
        assert!(set.is_written(&[HostIndex(0), HostIndex(1), HostIndex(4)], &[HostIndex(5)]));
        assert!(!set.is_written(&[HostIndex(0), HostIndex(4), HostIndex(5)], &[HostIndex(1)]));
        assert!(!set.is_read(&hosts(0..5), &hosts(4..6)), "ended members are not heard");
    }

    #[test]
    fn sets_that_are_left_follow_until_the_change_is_done() {
        let first = HeadSet { generation: 1, hosts: hosts(0..3), previous: vec![] };
        let second = first.followed_by(hosts(1..4));
        assert_eq!(second.previous, vec![hosts(0..3)]);
        assert_eq!(second.followed_by(hosts(2..5)).previous, vec![hosts(1..4), hosts(0..3)]);
        assert_eq!(second.followed_by(hosts(0..3)).previous, vec![hosts(1..4), hosts(0..3)]);
        assert_eq!(first.followed_by(hosts(0..3)).previous, Vec::<Vec<HostIndex>>::new());
    }

    /// The proof above, by all sets: whoever leaves a set is met by every read quorum that can still
    /// come together.
    #[test]
    fn whoever_leaves_a_set_is_met_by_every_later_read_quorum() {
        let chosen = |bits: u32| -> Vec<HostIndex> {
            (0..16).filter(|at| bits >> at & 1 == 1).map(HostIndex).collect()
        };
        for n in 1..=7u16 {
            let set = HeadSet { generation: 1, hosts: hosts(0..n), previous: vec![] };
            let (all, liars) = (1u32 << n, Quorum::of(usize::from(n)).liars);
            for ended in 0..all {
                let gone = chosen(ended);
                for held in (0..all).filter(|held| held & ended == 0) {
                    if !set.is_left(&chosen(held), &gone) {
                        continue;
                    }
                    for heard in (0..all).filter(|heard| set.is_read(&chosen(*heard), &gone)) {
                        let met = (heard & held & !ended).count_ones() as usize;
                        assert!(met > liars, "{n}: {ended:b} {held:b} {heard:b}");
                    }
                }
            }
        }
    }
}
