//! How many hosts of a head set make an acknowledgement, and how many a recovery must hear.

use serde::{Deserialize, Serialize};

use super::slab_record::HostIndex;

/// Hosts whose heads make an acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSet {
    /// Grows with each change of the set.
    pub generation: u64,
    /// The hosts, at most [`HeadSet::MAX`], one per operator where there are enough.
    pub hosts: Vec<HostIndex>,
    /// While the set changes: the set before, whose quorum is needed as well.
    pub previous: Option<Vec<HostIndex>>,
}

impl HeadSet {
    /// Most hosts in a set.
    pub const MAX: usize = 9;

    /// Whether these hosts are a write quorum: of the set, and of the one before while it changes.
    #[must_use]
    pub fn is_written(&self, hosts: &[HostIndex]) -> bool {
        self.all(|quorum| quorum.write, hosts)
    }

    /// Whether these hosts are a read quorum: of the set, and of the one before while it changes.
    #[must_use]
    pub fn is_read(&self, hosts: &[HostIndex]) -> bool {
        self.all(|quorum| quorum.read, hosts)
    }

    fn all(&self, need: impl Fn(Quorum) -> usize, hosts: &[HostIndex]) -> bool {
        std::iter::once(&self.hosts).chain(&self.previous).all(|set| {
            let heard = set.iter().filter(|host| hosts.contains(host)).count();
            !set.is_empty() && heard >= need(Quorum::of(set.len()))
        })
    }
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

    #[test]
    fn a_changing_set_needs_both_quorums() {
        let hosts = |range: std::ops::Range<u16>| range.map(HostIndex).collect::<Vec<_>>();
        let set = HeadSet { generation: 2, hosts: hosts(0..3), previous: Some(hosts(3..6)) };
        assert!(!set.is_written(&hosts(0..3)));
        assert!(!set.is_written(&hosts(3..6)));
        assert!(set.is_written(&[HostIndex(0), HostIndex(1), HostIndex(4), HostIndex(5)]));
    }
}
