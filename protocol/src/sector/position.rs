//! Proofs that a byte of a contract lies in a sector.

use serde::{Deserialize, Serialize};

use super::tree::{Node, split};
use super::{ProofError, SectorEntry, bounded_vec};
use crate::hash::Digest;

/// Most steps of a path: the height of a tree over 2^64 sectors.
const MAX_PATH: usize = 64;

/// One step from a node to its parent: the neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStep {
    /// Whether the neighbour is on the left, so that its bytes come before.
    pub left: bool,
    /// Its hash.
    pub hash: Digest,
    /// Bytes of all sectors below it.
    pub bytes: u64,
}

/// A sector of the contract and its path to the data root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorPositionProof {
    /// The sector.
    pub entry: SectorEntry,
    /// Steps from the sector up to the root; at most 64.
    #[serde(deserialize_with = "bounded_vec::<MAX_PATH, _, _>")]
    pub path: Vec<PathStep>,
}

/// The proof for one byte of the contract; see [`prove_positions`].
///
/// # Errors
/// [`ProofError::Position`] behind the last byte.
pub fn prove_position(
    entries: &[SectorEntry],
    byte_position: u64,
) -> Result<SectorPositionProof, ProofError> {
    let mut proofs = prove_positions(entries, &[byte_position])?;
    Ok(proofs.pop().expect("invariant: one proof for each position"))
}

/// The proofs for several bytes of the contract, in the order asked, in one pass over the list.
///
/// # Errors
/// [`ProofError::Position`] for a position behind the last byte.
pub fn prove_positions(
    entries: &[SectorEntry],
    byte_positions: &[u64],
) -> Result<Vec<SectorPositionProof>, ProofError> {
    let mut end = 0u64;
    let ends: Vec<u64> = entries
        .iter()
        .map(|entry| {
            end += u64::from(entry.size.bytes());
            end
        })
        .collect();
    let mut wanted = Vec::with_capacity(byte_positions.len());
    for (order, &position) in byte_positions.iter().enumerate() {
        let index = ends.partition_point(|&end| end <= position);
        let entry = *entries.get(index).ok_or(ProofError::Position(position))?;
        wanted.push(Wanted {
            index,
            order,
            proof: SectorPositionProof { entry, path: Vec::new() },
        });
    }
    wanted.sort_by_key(|wanted| wanted.index);
    if !wanted.is_empty() {
        climb(entries, 0, &mut wanted);
    }
    wanted.sort_by_key(|wanted| wanted.order);
    Ok(wanted.into_iter().map(|wanted| wanted.proof).collect())
}

/// Checks that a byte of a contract of `total_size` bytes lies in the proof's sector, and says where.
///
/// Every sum on the path is hashed, so the sums in front of the sector are the true ones if the root is.
///
/// # Errors
/// [`ProofError`]: another root, sums that overflow or do not give `total_size`, or a sector that does
/// not hold the position.
pub fn verify_position(
    data_root: &Digest,
    total_size: u64,
    byte_position: u64,
    proof: &SectorPositionProof,
) -> Result<u32, ProofError> {
    if proof.path.len() > MAX_PATH {
        return Err(ProofError::Path(proof.path.len()));
    }
    let mut node = Node::leaf(&proof.entry);
    let mut start = 0u64;
    for step in &proof.path {
        let neighbour = Node { hash: step.hash, bytes: step.bytes };
        let (left, right) = if step.left { (&neighbour, &node) } else { (&node, &neighbour) };
        let parent = Node::join(left, right).ok_or(ProofError::Sums(total_size))?;
        if step.left {
            start = start.checked_add(step.bytes).ok_or(ProofError::Sums(total_size))?;
        }
        node = parent;
    }
    if node.hash != *data_root {
        return Err(ProofError::DataRoot);
    }
    if node.bytes != total_size {
        return Err(ProofError::Sums(total_size));
    }
    let offset = byte_position.checked_sub(start).and_then(|offset| u32::try_from(offset).ok());
    offset
        .filter(|offset| *offset < proof.entry.size.bytes())
        .ok_or(ProofError::Position(byte_position))
}

/// A proof that is being made.
struct Wanted {
    index: usize,
    order: usize,
    proof: SectorPositionProof,
}

/// Node over a part of the list, while the proofs for sectors in it take their neighbours.
fn climb(entries: &[SectorEntry], first: usize, wanted: &mut [Wanted]) -> Node {
    if let [entry] = entries {
        return Node::leaf(entry);
    }
    let middle = split(entries.len());
    let (lower, upper) = entries.split_at(middle);
    let cut = wanted.partition_point(|wanted| wanted.index < first + middle);
    let (in_lower, in_upper) = wanted.split_at_mut(cut);
    let left = climb(lower, first, in_lower);
    let right = climb(upper, first + middle, in_upper);
    for wanted in in_lower {
        wanted.proof.path.push(PathStep { left: false, hash: right.hash, bytes: right.bytes });
    }
    for wanted in in_upper {
        wanted.proof.path.push(PathStep { left: true, hash: left.hash, bytes: left.bytes });
    }
    Node::join_listed(&left, &right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{
        ProptestConfig, any, prop_assert, prop_assert_eq, prop_assume, proptest,
    };

    use super::*;
    use crate::encoding;
    use crate::hash::SectorRoot;
    use crate::sector::tree::tests::entries;
    use crate::sector::{SectorSize, data_root};

    /// Sector and offset of a position by walking the list.
    fn oracle(entries: &[SectorEntry], mut position: u64) -> (SectorEntry, u32) {
        for entry in entries {
            let bytes = u64::from(entry.size.bytes());
            if position < bytes {
                return (*entry, u32::try_from(position).unwrap());
            }
            position -= bytes;
        }
        panic!("the position is in the list");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn positions_lead_where_walking_leads(
            entries in entries(50), positions in proptest::collection::vec(any::<u64>(), 1..5),
        ) {
            prop_assume!(!entries.is_empty());
            let (root, total) = data_root(&entries);
            let positions: Vec<u64> = positions.iter().map(|position| position % total).collect();
            let proofs = prove_positions(&entries, &positions).unwrap();
            for (position, proof) in positions.iter().zip(&proofs) {
                let (entry, offset) = oracle(&entries, *position);
                prop_assert_eq!(proof.entry, entry);
                prop_assert_eq!(verify_position(&root, total, *position, proof), Ok(offset));
                prop_assert!(verify_position(&root, total + 1, *position, proof).is_err());
                let outside = position - u64::from(offset) + u64::from(entry.size.bytes());
                prop_assert!(verify_position(&root, total, outside, proof).is_err());
            }
        }

        #[test]
        fn a_host_cannot_shift_a_sector(
            entries in entries(20), position: u64, step: usize, delta in 1u64.., flip: bool,
        ) {
            prop_assume!(entries.len() > 1);
            let (root, total) = data_root(&entries);
            let position = position % total;
            let mut proof = prove_position(&entries, position).unwrap();
            let step = step % proof.path.len();
            if flip {
                proof.path[step].left = !proof.path[step].left;
            } else {
                proof.path[step].bytes = proof.path[step].bytes.wrapping_add(delta);
            }
            prop_assert!(verify_position(&root, total, position, &proof).is_err());
        }
    }

    #[test]
    fn each_changed_byte_is_refused() {
        let entry = |byte, log2| SectorEntry {
            root: SectorRoot([byte; 32]),
            size: SectorSize::from_log2(log2).unwrap(),
        };
        let entries = [entry(1, 22), entry(2, 14), entry(3, 10), entry(4, 20), entry(5, 16)];
        let (root, total) = data_root(&entries);
        let position = (4 << 20) + 5;
        let proof = prove_position(&entries, position).unwrap();
        assert_eq!(verify_position(&root, total, position, &proof), Ok(5));
        let bytes = encoding::encode(&proof);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let Ok(changed) = encoding::decode_canonical::<SectorPositionProof>(&changed) else {
                continue;
            };
            assert!(verify_position(&root, total, position, &changed).is_err(), "byte {index}");
        }
    }

    #[test]
    fn long_paths_and_positions_behind_the_end_are_refused() {
        let entry = SectorEntry { root: SectorRoot([1; 32]), size: SectorSize::MIN };
        assert_eq!(prove_position(&[entry], 1_024), Err(ProofError::Position(1_024)));
        assert_eq!(prove_position(&[], 0), Err(ProofError::Position(0)));
        let step = PathStep { left: true, hash: Digest::ZERO, bytes: u64::MAX };
        let proof = SectorPositionProof { entry, path: vec![step; 65] };
        assert_eq!(verify_position(&Digest::ZERO, 1, 0, &proof), Err(ProofError::Path(65)));
        assert!(encoding::decode::<SectorPositionProof>(&encoding::encode(&proof)).is_err());
        let proof = SectorPositionProof { entry, path: vec![step; 2] };
        assert_eq!(verify_position(&Digest::ZERO, 1, 0, &proof), Err(ProofError::Sums(1)));
    }
}
