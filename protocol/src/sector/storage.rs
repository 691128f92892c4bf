//! The storage proof of a contract: sixteen chunks that nobody could know before the seed.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    CHUNK, ChunkProof, ProofError, SectorEntry, SectorPositionProof, bounded_vec, prove_positions,
    verify_chunk, verify_position,
};
use crate::hash::Digest;

/// Chunks that a challenge asks for.
///
/// A host that lost a share x of the bytes passes with probability (1-x)^16: 0.03 at a fifth.
pub const SAMPLES: usize = 16;

/// Names the use of the seed among all keyed hashes.
const CHALLENGE: &[u8] = b"samara v1 storage challenge";

/// One challenged chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSample {
    /// Which sector holds the challenged byte.
    pub position: SectorPositionProof,
    /// The chunk in that sector.
    pub chunk: ChunkProof,
}

/// What a host publishes at a period's end: a sample for each challenged position, in their order.
///
/// A contract that holds no byte has nothing to show; its proof has no samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageProof {
    /// [`SAMPLES`] many, or none for an empty contract.
    #[serde(deserialize_with = "bounded_vec::<SAMPLES, _, _>")]
    pub samples: Vec<StorageSample>,
}

/// What a host reads from its disk for one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleLocation {
    /// Names the sector, whose outboard and group are needed.
    pub position: SectorPositionProof,
    /// Number of the chunk in the sector, for [`prove_chunk`](super::prove_chunk).
    pub chunk: u32,
    /// Bytes of the sector to read: the chunk's group.
    pub group: Range<u32>,
}

/// The challenged byte positions: starts of chunks, uniform over the contract, with repetition.
///
/// Drawn as 64-bit little-endian words from the output stream of BLAKE3 keyed by the seed over the
/// domain string and the size; a word at or above the largest multiple of the number of chunks is
/// skipped, so that no chunk is likelier than another. `None` when the contract holds no chunk.
#[must_use]
pub fn challenge(seed: &Digest, total_size: u64) -> Option<[u64; SAMPLES]> {
    let chunks = total_size / u64::from(CHUNK);
    if chunks == 0 {
        return None;
    }
    // 2^64 mod chunks words at the top belong to no full run of chunks.
    let surplus = (u64::MAX % chunks + 1) % chunks;
    let mut stream = blake3::Hasher::new_keyed(&seed.0)
        .update(CHALLENGE)
        .update(&total_size.to_le_bytes())
        .finalize_xof();
    Some(std::array::from_fn(|_| {
        loop {
            let mut word = [0; 8];
            stream.fill(&mut word);
            let word = u64::from_le_bytes(word);
            if word <= u64::MAX - surplus {
                break word % chunks * u64::from(CHUNK);
            }
        }
    }))
}

/// The sectors, chunks and groups that a challenge asks for, in the order of the proof.
///
/// For each location read the sector's outboard and the group's bytes and call
/// [`prove_chunk`](super::prove_chunk).
#[must_use]
pub fn locate_samples(seed: &Digest, entries: &[SectorEntry]) -> Vec<SampleLocation> {
    let total = entries.iter().map(|entry| u64::from(entry.size.bytes())).sum();
    let positions = challenge(seed, total);
    let positions = positions.as_ref().map_or(&[][..], |positions| &positions[..]);
    let proofs = prove_positions(entries, positions)
        .expect("invariant: challenged positions are below the sum of the sizes");
    let place = |(position, proof): (&u64, SectorPositionProof)| {
        let before: u64 = proof.path.iter().filter(|step| step.left).map(|step| step.bytes).sum();
        let offset = u32::try_from(position - before)
            .expect("invariant: the position was found in a sector of at most 4 MiB");
        let group = proof.entry.size.group();
        let start = offset / group * group;
        SampleLocation { position: proof, chunk: offset / CHUNK, group: start..start + group }
    };
    positions.iter().zip(proofs).map(place).collect()
}

/// Checks a contract's storage proof against the frozen revision's data root and size.
///
/// # Errors
/// [`ProofError`] of the first sample that fails, or [`ProofError::Samples`].
pub fn verify_storage_proof(
    seed: &Digest,
    data_root: &Digest,
    total_size: u64,
    proof: &StorageProof,
) -> Result<(), ProofError> {
    let positions = challenge(seed, total_size);
    let positions = positions.as_ref().map_or(&[][..], |positions| &positions[..]);
    if proof.samples.len() != positions.len() {
        let (expected, actual) = (positions.len(), proof.samples.len());
        return Err(ProofError::Samples { expected, actual });
    }
    for (position, sample) in positions.iter().zip(&proof.samples) {
        let offset = verify_position(data_root, total_size, *position, &sample.position)?;
        let entry = &sample.position.entry;
        verify_chunk(&entry.root, entry.size, offset / CHUNK, &sample.chunk)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::encoding;
    use crate::sector::{Outboard, SectorSize, data_root, empty_data_root, prove_chunk};

    /// A host's disk.
    fn sectors(log2s: &[u8]) -> Vec<(SectorEntry, Outboard, Vec<u8>)> {
        let sector = |(index, log2): (usize, &u8)| {
            let size = SectorSize::from_log2(*log2).unwrap();
            let mut bytes = vec![0; size.len()];
            blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut bytes);
            let (root, outboard) = Outboard::of(size, &bytes).unwrap();
            (SectorEntry { root, size }, outboard, bytes)
        };
        log2s.iter().enumerate().map(sector).collect()
    }

    fn prove(seed: &Digest, disk: &[(SectorEntry, Outboard, Vec<u8>)]) -> StorageProof {
        let entries: Vec<SectorEntry> = disk.iter().map(|(entry, ..)| *entry).collect();
        let sample = |place: SampleLocation| {
            let (_, outboard, bytes) =
                disk.iter().find(|(entry, ..)| entry.root == place.position.entry.root).unwrap();
            let group = &bytes[place.group.start as usize..place.group.end as usize];
            let chunk = prove_chunk(outboard, group, place.chunk).unwrap();
            StorageSample { position: place.position, chunk }
        };
        StorageProof { samples: locate_samples(seed, &entries).into_iter().map(sample).collect() }
    }

    fn roots(disk: &[(SectorEntry, Outboard, Vec<u8>)]) -> (Digest, u64) {
        data_root(&disk.iter().map(|(entry, ..)| *entry).collect::<Vec<_>>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_host_that_has_the_bytes_passes(
            log2s in proptest::collection::vec(10u8..=16, 0..12), seed: [u8; 32],
        ) {
            let disk = sectors(&log2s);
            let (root, total) = roots(&disk);
            let proof = prove(&Digest(seed), &disk);
            prop_assert_eq!(verify_storage_proof(&Digest(seed), &root, total, &proof), Ok(()));
            prop_assert_eq!(encoding::decode(&encoding::encode(&proof)), Ok(proof));
        }

        #[test]
        fn challenges_are_chunk_starts_inside(seed: [u8; 32], total in 1_024u64..) {
            let positions = challenge(&Digest(seed), total).unwrap();
            prop_assert!(positions.iter().all(|at| at % 1_024 == 0 && *at <= total - 1_024));
        }
    }

    #[test]
    fn another_seed_or_order_or_number_is_refused() {
        let disk = sectors(&[14, 12, 16, 10, 15]);
        let (root, total) = roots(&disk);
        let seed = Digest([7; 32]);
        let proof = prove(&seed, &disk);
        assert_eq!(verify_storage_proof(&seed, &root, total, &proof), Ok(()));
        assert!(verify_storage_proof(&Digest([8; 32]), &root, total, &proof).is_err());
        assert!(verify_storage_proof(&seed, &Digest::ZERO, total, &proof).is_err());
        assert!(verify_storage_proof(&seed, &root, total - 1_024, &proof).is_err());
        let mut swapped = proof.clone();
        swapped.samples.reverse();
        assert!(verify_storage_proof(&seed, &root, total, &swapped).is_err());
        let mut longer = proof.clone();
        longer.samples.push(proof.samples[0].clone());
        let refused = ProofError::Samples { expected: 16, actual: 17 };
        assert_eq!(verify_storage_proof(&seed, &root, total, &longer), Err(refused));
        assert!(encoding::decode::<StorageProof>(&encoding::encode(&longer)).is_err());
        let none = StorageProof::default();
        assert!(verify_storage_proof(&seed, &root, total, &none).is_err());
    }

    #[test]
    fn each_changed_byte_of_a_storage_proof_is_refused() {
        let disk = sectors(&[11, 10, 12]);
        let (root, total) = roots(&disk);
        let seed = Digest([3; 32]);
        let bytes = encoding::encode(&prove(&seed, &disk));
        for index in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let Ok(changed) = encoding::decode_canonical::<StorageProof>(&changed) else {
                continue;
            };
            let verdict = verify_storage_proof(&seed, &root, total, &changed);
            assert!(verdict.is_err(), "byte {index}");
        }
    }

    #[test]
    fn an_empty_contract_has_an_empty_proof() {
        let seed = Digest([1; 32]);
        assert_eq!(challenge(&seed, 0), None);
        assert!(locate_samples(&seed, &[]).is_empty());
        let proof = StorageProof::default();
        assert_eq!(verify_storage_proof(&seed, &empty_data_root(), 0, &proof), Ok(()));
    }

    #[test]
    fn every_chunk_is_challenged_about_as_often() {
        let mut hits = [0u32; 3];
        for round in 0..1_000u32 {
            let seed = Digest(*blake3::hash(&round.to_le_bytes()).as_bytes());
            for position in challenge(&seed, 3 * 1_024).unwrap() {
                hits[usize::try_from(position / 1_024).unwrap()] += 1;
            }
        }
        assert!(hits.iter().all(|hits| (5_000..5_700).contains(hits)), "{hits:?}");
    }
}
