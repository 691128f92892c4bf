//! One shard of a slab during one read: what came of it, what is asked of its host.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use samara_protocol::hash::SectorRoot;
use samara_protocol::signature::PublicKey;

use crate::contract::ContractHandle;

/// What is known of one shard during one read.
pub(super) struct Shard {
    pub(super) root: SectorRoot,
    pub(super) host: Option<PublicKey>,
    pub(super) contract: Option<ContractHandle>,
    /// Higher is asked later.
    pub(super) penalty: u32,
    /// Why it is not asked any more.
    pub(super) dead: Option<String>,
    /// Whether it lets others wait.
    pub(super) slow: bool,
    /// Ranges that came or were rebuilt, with their bytes.
    parts: Vec<(Range<u32>, Bytes)>,
    /// Ranges under way.
    asked: Vec<Range<u32>>,
}

impl Shard {
    /// A shard of which nothing has come. Without a contract it is dead at once.
    pub(super) fn new(
        root: SectorRoot,
        host: Option<PublicKey>,
        contract: Option<ContractHandle>,
        penalty: u32,
    ) -> Self {
        let dead = contract.is_none().then(|| "no live contract".to_owned());
        let (parts, asked) = (Vec::new(), Vec::new());
        Self { root, host, contract, penalty, dead, slow: false, parts, asked }
    }

    pub(super) const fn is_alive(&self) -> bool {
        self.dead.is_none()
    }

    /// Whether its bytes of a range are there.
    pub(super) fn has(&self, range: &Range<u32>) -> bool {
        let mut at = range.start;
        while at < range.end {
            let Some((part, _)) = self.parts.iter().find(|(part, _)| part.contains(&at)) else {
                return false;
            };
            at = part.end;
        }
        true
    }

    /// Its bytes of a range, if all are there; copied only where they came in more than one part.
    pub(super) fn part(&self, range: &Range<u32>) -> Option<Bytes> {
        let cut = |part: &Range<u32>, bytes: &Bytes, wanted: Range<u32>| {
            bytes.slice((wanted.start - part.start) as usize..(wanted.end - part.start) as usize)
        };
        if let Some((part, bytes)) = self.parts.iter().find(|(part, _)| covers(part, range)) {
            return Some(cut(part, bytes, range.clone()));
        }
        let mut joined = BytesMut::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let (part, bytes) = self.parts.iter().find(|(part, _)| part.contains(&at))?;
            let end = part.end.min(range.end);
            joined.extend_from_slice(&cut(part, bytes, at..end));
            at = end;
        }
        Some(joined.freeze())
    }

    /// Takes a range in, unless it is there.
    pub(super) fn put(&mut self, range: Range<u32>, bytes: Bytes) {
        if !range.is_empty() && !self.has(&range) {
            self.parts.push((range, bytes));
        }
    }

    pub(super) fn is_asked(&self, range: &Range<u32>) -> bool {
        self.asked.iter().any(|asked| covers(asked, range))
    }

    pub(super) const fn owes(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn ask(&mut self, range: Range<u32>) {
        self.asked.push(range);
    }

    /// A range is not asked any more.
    pub(super) fn asked_no_more(&mut self, range: &Range<u32>) {
        if let Some(index) = self.asked.iter().position(|asked| asked == range) {
            self.asked.swap_remove(index);
        }
    }
}

fn covers(outer: &Range<u32>, inner: &Range<u32>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_where_they_meet_and_not_across_a_gap() {
        let mut shard = Shard::new(SectorRoot([0; 32]), None, None, 0);
        let bytes = |range: Range<u32>| range.map(|at| at as u8).collect::<Bytes>();
        for range in [20..30, 0..10, 10..20, 40..50] {
            shard.put(range.clone(), bytes(range));
        }
        for range in [0..10, 3..7, 5..25, 0..30, 45..46] {
            assert_eq!(shard.part(&range), Some(bytes(range.clone())), "{range:?}");
            assert!(shard.has(&range));
        }
        for range in [29..31, 0..50, 30..40, 50..51] {
            assert_eq!(shard.part(&range), None, "{range:?}");
            assert!(!shard.has(&range));
        }
    }
}
