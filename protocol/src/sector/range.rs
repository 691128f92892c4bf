//! Ranges of a sector with proofs: verified streaming over BLAKE3's own tree.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::bounded::hashes;
use super::outboard::{ChainingValue, Outboard, join, join_root, subtree_value};
use super::{ProofError, SectorSize};
use crate::hash::SectorRoot;

/// The largest subtrees outside of a range, from left to right: at most 14 hashes for 4 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeProof {
    /// Their chaining values.
    #[serde(with = "hashes")]
    pub siblings: Vec<[u8; 32]>,
}

/// The smallest range of whole groups that contains `range`, within the sector.
///
/// `None` when `range` is empty or reaches outside of the sector.
#[must_use]
pub fn align(size: SectorSize, range: Range<u32>) -> Option<Range<u32>> {
    if range.is_empty() || range.end > size.bytes() {
        return None;
    }
    let group = size.group();
    Some(range.start / group * group..range.end.next_multiple_of(group))
}

/// The proof that a range of whole groups belongs to the sector.
///
/// # Errors
/// [`ProofError::Range`] when the range is empty, outside of the sector or not aligned.
pub fn prove_range(outboard: &Outboard, range: Range<u32>) -> Result<RangeProof, ProofError> {
    let groups = group_range(outboard.size(), &range)?;
    let mut siblings = Vec::new();
    collect(outboard, &groups, 0..outboard.size().groups(), &mut siblings);
    Ok(RangeProof { siblings })
}

/// Checks that `data` are the bytes of `range` in the sector named `root`.
///
/// # Errors
/// [`ProofError`]: an unaligned range, another length of `data`, siblings missing or left over, or
/// bytes and siblings that hash to another root.
pub fn verify_range(
    root: &SectorRoot,
    size: SectorSize,
    range: Range<u32>,
    data: &[u8],
    proof: &RangeProof,
) -> Result<(), ProofError> {
    let groups = group_range(size, &range)?;
    let expected = (range.end - range.start) as usize;
    if data.len() != expected {
        return Err(ProofError::Length { expected, actual: data.len() });
    }
    let expected = sibling_count(&groups, 0..size.groups());
    if proof.siblings.len() != expected {
        return Err(ProofError::Siblings { expected, actual: proof.siblings.len() });
    }
    let mut verifier = Verifier { groups, size, data, siblings: proof.siblings.iter() };
    let found = verifier.root();
    if found == Some(root.0) { Ok(()) } else { Err(ProofError::Sector(*root)) }
}

/// A byte range as a range of groups.
fn group_range(size: SectorSize, range: &Range<u32>) -> Result<Range<u32>, ProofError> {
    match align(size, range.clone()) {
        Some(aligned) if aligned == *range => {
            Ok(range.start / size.group()..range.end / size.group())
        }
        _ => Err(ProofError::Range { start: range.start, end: range.end, size }),
    }
}

/// How a subtree lies to the range that is proven.
enum Overlap {
    Outside,
    Inside,
    Partial,
}

fn overlap(groups: &Range<u32>, node: &Range<u32>) -> Overlap {
    if node.end <= groups.start || groups.end <= node.start {
        Overlap::Outside
    } else if groups.start <= node.start && node.end <= groups.end {
        Overlap::Inside
    } else {
        Overlap::Partial
    }
}

/// The two halves of a subtree of at least two groups.
fn halves(node: &Range<u32>) -> (Range<u32>, Range<u32>) {
    let middle = node.start.midpoint(node.end);
    (node.start..middle, middle..node.end)
}

fn collect(
    outboard: &Outboard,
    groups: &Range<u32>,
    node: Range<u32>,
    siblings: &mut Vec<ChainingValue>,
) {
    match overlap(groups, &node) {
        Overlap::Outside => siblings.push(outboard.subtree(node.start, node.end - node.start)),
        Overlap::Inside => {}
        Overlap::Partial => {
            let (left, right) = halves(&node);
            collect(outboard, groups, left, siblings);
            collect(outboard, groups, right, siblings);
        }
    }
}

fn sibling_count(groups: &Range<u32>, node: Range<u32>) -> usize {
    match overlap(groups, &node) {
        Overlap::Outside => 1,
        Overlap::Inside => 0,
        Overlap::Partial => {
            let (left, right) = halves(&node);
            sibling_count(groups, left) + sibling_count(groups, right)
        }
    }
}

/// Rebuilds the root in the order in which [`collect`] took the siblings.
struct Verifier<'a> {
    groups: Range<u32>,
    size: SectorSize,
    data: &'a [u8],
    siblings: std::slice::Iter<'a, ChainingValue>,
}

impl Verifier<'_> {
    /// `None` only if siblings are missing, which their count has ruled out.
    fn root(&mut self) -> Option<[u8; 32]> {
        let whole = 0..self.size.groups();
        if self.groups == whole {
            return Some(*blake3::hash(self.data).as_bytes());
        }
        let (left, right) = halves(&whole);
        let (left, right) = (self.value(left)?, self.value(right)?);
        Some(join_root(&left, &right))
    }

    fn value(&mut self, node: Range<u32>) -> Option<ChainingValue> {
        match overlap(&self.groups, &node) {
            Overlap::Outside => self.siblings.next().copied(),
            Overlap::Inside => {
                let group = self.size.group() as usize;
                let first = (node.start - self.groups.start) as usize * group;
                let length = (node.end - node.start) as usize * group;
                let bytes = self.data.get(first..first + length)?;
                Some(subtree_value(u64::from(node.start) * group as u64, bytes))
            }
            Overlap::Partial => {
                let (left, right) = halves(&node);
                let (left, right) = (self.value(left)?, self.value(right)?);
                Some(join(&left, &right))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::encoding;
    use crate::sector::GROUP;

    fn sector(log2: u8, salt: u8) -> (SectorSize, Vec<u8>, SectorRoot, Outboard) {
        let size = SectorSize::from_log2(log2).unwrap();
        let mut bytes = vec![0; size.len()];
        blake3::Hasher::new().update(&[salt]).finalize_xof().fill(&mut bytes);
        let (root, outboard) = Outboard::of(size, &bytes).unwrap();
        (size, bytes, root, outboard)
    }

    #[test]
    fn every_range_of_eight_groups_is_proven() {
        let (size, bytes, root, outboard) = sector(17, 1);
        for start in 0..size.groups() {
            for end in start + 1..=size.groups() {
                let range = start * GROUP..end * GROUP;
                let data = &bytes[range.start as usize..range.end as usize];
                let proof = prove_range(&outboard, range.clone()).unwrap();
                assert_eq!(verify_range(&root, size, range, data, &proof), Ok(()));
            }
        }
    }

    #[test]
    fn small_sectors_are_read_whole() {
        for log2 in 10..=14 {
            let (size, bytes, root, outboard) = sector(log2, 2);
            let proof = prove_range(&outboard, 0..size.bytes()).unwrap();
            assert!(proof.siblings.is_empty());
            assert_eq!(verify_range(&root, size, 0..size.bytes(), &bytes, &proof), Ok(()));
            assert_eq!(align(size, 1..2), Some(0..size.bytes()));
            assert!(prove_range(&outboard, 0..512).is_err());
        }
    }

    #[test]
    fn ranges_that_are_not_whole_groups_are_refused() {
        let (size, _, root, outboard) = sector(16, 3);
        #[expect(clippy::reversed_empty_ranges, reason = "hostile ranges are the point")]
        let ranges = [0..0, GROUP..0, 1..GROUP, 0..1, 0..5 * GROUP, u32::MAX - 1..u32::MAX];
        for range in ranges {
            assert!(prove_range(&outboard, range.clone()).is_err(), "{range:?}");
            let proof = RangeProof::default();
            assert!(verify_range(&root, size, range, &[], &proof).is_err());
        }
    }

    #[test]
    fn each_changed_byte_of_a_proof_is_refused() {
        let (size, bytes, root, outboard) = sector(18, 4);
        let range = 5 * GROUP..7 * GROUP;
        let data = &bytes[range.start as usize..range.end as usize];
        let proof = prove_range(&outboard, range.clone()).unwrap();
        for index in 0..proof.siblings.len() * 32 {
            let mut changed = proof.clone();
            changed.siblings[index / 32][index % 32] ^= 0x10;
            assert!(verify_range(&root, size, range.clone(), data, &changed).is_err());
        }
        let mut longer = proof.clone();
        longer.siblings.push([0; 32]);
        assert!(verify_range(&root, size, range.clone(), data, &longer).is_err());
        let mut shorter = proof.clone();
        shorter.siblings.pop();
        assert!(verify_range(&root, size, range.clone(), data, &shorter).is_err());
        let moved = range.start + GROUP..range.end + GROUP;
        assert!(verify_range(&root, size, moved, data, &proof).is_err());
    }

    #[test]
    fn a_proof_decodes_to_itself_and_never_to_more_than_its_bound() {
        let (_, _, _, outboard) = sector(20, 5);
        let proof = prove_range(&outboard, 0..GROUP).unwrap();
        assert_eq!(encoding::decode(&encoding::encode(&proof)), Ok(proof));
        let many = RangeProof { siblings: vec![[0; 32]; 25] };
        assert!(encoding::decode::<RangeProof>(&encoding::encode(&many)).is_err());
        assert!(encoding::decode::<RangeProof>(&[1, 0]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_range_is_accepted_and_any_changed_byte_refused(
            log2 in 10u8..=20, salt: u8, a: u32, b: u32, at: u64,
        ) {
            let (size, bytes, root, outboard) = sector(log2, salt);
            let (a, b) = (a % size.bytes(), b % size.bytes());
            let range = align(size, a.min(b)..a.max(b) + 1).unwrap();
            let mut data = bytes[range.start as usize..range.end as usize].to_vec();
            let proof = prove_range(&outboard, range.clone()).unwrap();
            prop_assert!(proof.siblings.len() <= 14);
            prop_assert_eq!(verify_range(&root, size, range.clone(), &data, &proof), Ok(()));
            let at = usize::try_from(at % data.len() as u64).unwrap();
            data[at] ^= 1;
            prop_assert!(verify_range(&root, size, range, &data, &proof).is_err());
        }

        #[test]
        fn hostile_proofs_never_panic(
            log2 in 10u8..=22, start: u32, end: u32, data: Vec<u8>,
            siblings in proptest::collection::vec(any::<[u8; 32]>(), 0..20),
        ) {
            let size = SectorSize::from_log2(log2).unwrap();
            let proof = RangeProof { siblings };
            let root = SectorRoot([0; 32]);
            prop_assert!(verify_range(&root, size, start..end, &data, &proof).is_err());
        }
    }
}
