//! Single chunks of a sector with proofs, as storage proofs publish them.

use serde::{Deserialize, Serialize};

use super::bounded::hashes;
use super::outboard::{ChainingValue, Outboard, join, join_root, subtree_value};
use super::{CHUNK, GROUP_CHUNKS, ProofError, SectorSize};
use crate::hash::SectorRoot;

/// A chunk of 1 KiB and its path to the sector's root: 1,408 bytes for 4 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkProof {
    /// The 1,024 bytes.
    #[serde(with = "serde_bytes")]
    pub chunk: Vec<u8>,
    /// Chaining values of the neighbours, from the chunk up to the root.
    #[serde(with = "hashes")]
    pub siblings: Vec<[u8; 32]>,
}

/// The proof for a chunk, from its group's bytes and the hashes of the others.
///
/// `group_bytes` are the whole group that holds the chunk (the whole sector where that is smaller than
/// a group).
///
/// # Errors
/// [`ProofError::Chunk`] for a chunk that the sector does not have, [`ProofError::Length`] for a group
/// of another length.
pub fn prove_chunk(
    outboard: &Outboard,
    group_bytes: &[u8],
    index: u32,
) -> Result<ChunkProof, ProofError> {
    let size = outboard.size();
    if index >= size.chunks() {
        return Err(ProofError::Chunk { index, size });
    }
    let expected = size.group() as usize;
    if group_bytes.len() != expected {
        return Err(ProofError::Length { expected, actual: group_bytes.len() });
    }
    let (group, in_group) = (index / GROUP_CHUNKS, index % GROUP_CHUNKS);
    let mut siblings = Vec::with_capacity(levels(size.chunks()));
    for level in 0..levels(size.chunks() / size.groups()) {
        let (start, count) = sibling(in_group, level);
        let first = start as usize * CHUNK as usize;
        let bytes = &group_bytes[first..first + count as usize * CHUNK as usize];
        let offset = u64::from(group * GROUP_CHUNKS + start) * u64::from(CHUNK);
        siblings.push(subtree_value(offset, bytes));
    }
    for level in 0..levels(size.groups()) {
        let (start, count) = sibling(group, level);
        siblings.push(outboard.subtree(start, count));
    }
    let first = in_group as usize * CHUNK as usize;
    Ok(ChunkProof { chunk: group_bytes[first..first + CHUNK as usize].to_vec(), siblings })
}

/// Checks that the proof's bytes are chunk `index` of the sector named `root`.
///
/// # Errors
/// [`ProofError`]: no such chunk, a wrong number of bytes or siblings, or another root.
pub fn verify_chunk(
    root: &SectorRoot,
    size: SectorSize,
    index: u32,
    proof: &ChunkProof,
) -> Result<(), ProofError> {
    if index >= size.chunks() {
        return Err(ProofError::Chunk { index, size });
    }
    if proof.chunk.len() != CHUNK as usize {
        return Err(ProofError::Length { expected: CHUNK as usize, actual: proof.chunk.len() });
    }
    let expected = levels(size.chunks());
    if proof.siblings.len() != expected {
        return Err(ProofError::Siblings { expected, actual: proof.siblings.len() });
    }
    if fold(index, proof) == root.0 { Ok(()) } else { Err(ProofError::Sector(*root)) }
}

/// Levels above the leaves of a full tree.
fn levels(leaves: u32) -> usize {
    leaves.trailing_zeros() as usize
}

/// First leaf and number of leaves of the subtree beside that of `leaf` at `level`.
fn sibling(leaf: u32, level: usize) -> (u32, u32) {
    (((leaf >> level) ^ 1) << level, 1 << level)
}

fn fold(index: u32, proof: &ChunkProof) -> [u8; 32] {
    let Some((top, below)) = proof.siblings.split_last() else {
        // A sector of one chunk has no tree: its chunk is finalised as the root.
        return *blake3::hash(&proof.chunk).as_bytes();
    };
    let ordered = |level: usize, value: ChainingValue, sibling: ChainingValue| {
        if (index >> level) & 1 == 0 { (value, sibling) } else { (sibling, value) }
    };
    let mut value = subtree_value(u64::from(index) * u64::from(CHUNK), &proof.chunk);
    for (level, sibling) in below.iter().enumerate() {
        let (left, right) = ordered(level, value, *sibling);
        value = join(&left, &right);
    }
    let (left, right) = ordered(below.len(), value, *top);
    join_root(&left, &right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::encoding;

    fn proof_for(log2: u8, index: u32) -> (SectorSize, SectorRoot, ChunkProof, Vec<u8>) {
        let size = SectorSize::from_log2(log2).unwrap();
        let bytes: Vec<u8> = (0..size.len()).map(|i| (i ^ (i >> 9) ^ (i >> 17)) as u8).collect();
        let (root, outboard) = Outboard::of(size, &bytes).unwrap();
        let group = (index * CHUNK / size.group() * size.group()) as usize;
        let group = &bytes[group..group + size.group() as usize];
        let proof = prove_chunk(&outboard, group, index).unwrap();
        let first = (index * CHUNK) as usize;
        (size, root, proof, bytes[first..first + CHUNK as usize].to_vec())
    }

    #[test]
    fn each_chunk_at_each_small_size_is_proven() {
        for log2 in 10..=16 {
            for index in 0..1 << (log2 - 10) {
                let (size, root, proof, chunk) = proof_for(log2, index);
                assert_eq!(proof.chunk, chunk);
                assert_eq!(verify_chunk(&root, size, index, &proof), Ok(()));
                assert!(verify_chunk(&root, size, index ^ 1, &proof).is_err());
                assert!(verify_chunk(&root, size, u32::MAX, &proof).is_err());
            }
        }
    }

    #[test]
    fn the_largest_proof_has_1408_bytes() {
        let (size, root, proof, _) = proof_for(22, 4095);
        assert_eq!(proof.chunk.len() + 32 * proof.siblings.len(), 1_408);
        assert_eq!(verify_chunk(&root, size, 4095, &proof), Ok(()));
        assert_eq!(encoding::decode(&encoding::encode(&proof)), Ok(proof));
    }

    #[test]
    fn each_changed_byte_is_refused() {
        let (size, root, proof, _) = proof_for(15, 19);
        for index in 0..proof.chunk.len() {
            let mut changed = proof.clone();
            changed.chunk[index] ^= 0x80;
            assert!(verify_chunk(&root, size, 19, &changed).is_err());
        }
        for index in 0..proof.siblings.len() * 32 {
            let mut changed = proof.clone();
            changed.siblings[index / 32][index % 32] ^= 1;
            assert!(verify_chunk(&root, size, 19, &changed).is_err());
        }
        for length in [0, 1_023, 1_025] {
            let mut changed = proof.clone();
            changed.chunk.resize(length, 0);
            assert!(verify_chunk(&root, size, 19, &changed).is_err());
        }
        let mut changed = proof.clone();
        changed.siblings.push([0; 32]);
        assert!(verify_chunk(&root, size, 19, &changed).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_chunk_is_proven_and_no_other_index_accepted(log2 in 10u8..=19, a: u32, b: u32) {
            let chunks = 1u32 << (log2 - 10);
            let (index, other) = (a % chunks, b % chunks);
            let (size, root, proof, _) = proof_for(log2, index);
            prop_assert_eq!(verify_chunk(&root, size, index, &proof), Ok(()));
            prop_assert!(other == index || verify_chunk(&root, size, other, &proof).is_err());
        }
    }
}
