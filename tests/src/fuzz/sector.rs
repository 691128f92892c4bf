//! Proofs about stored bytes. Each has one accepted form, so one that holds is the one that an honest
//! host gives.

use samara_protocol::encoding::encode;
use samara_protocol::hash::Digest;
use samara_protocol::sector::{
    ChunkProof, Outboard, RangeProof, SectorPositionProof, SectorSize, StorageProof, StorageSample,
    data_root, locate_samples, prove_chunk, prove_position, prove_range, verify_chunk,
    verify_position, verify_range, verify_storage_proof,
};

use super::fixtures::{Sector, entries, sectors};
use super::{Fields, value};

/// The seed of the storage proof.
const SEED: Digest = Digest([6; 32]);

/// Range proofs: first group, last group, the proof.
pub fn range_proof(data: &[u8]) {
    let mut fields = Fields(data);
    let [start, end] = fields.array::<2>().map(|group| u32::from(group % 5) << 14);
    let Some(proof) = value::<RangeProof>(fields.0) else { return };
    let sector = &sectors()[0];
    let bytes = sector.bytes.get(start as usize..end as usize).unwrap_or_default();
    let (root, size) = (&sector.entry.root, sector.entry.size);
    if verify_range(root, size, start..end, bytes, &proof).is_ok() {
        assert_eq!(prove_range(&sector.outboard, start..end), Ok(proof));
    }
}

/// Chunk proofs: sector, chunk, the proof.
pub fn chunk_proof(data: &[u8]) {
    let mut fields = Fields(data);
    let sector = &sectors()[usize::from(fields.byte()) % sectors().len()];
    let chunk = u32::from(fields.byte());
    let Some(proof) = value::<ChunkProof>(fields.0) else { return };
    if verify_chunk(&sector.entry.root, sector.entry.size, chunk, &proof).is_ok() {
        assert_eq!(chunk_of(sector, chunk), Some(proof));
    }
}

/// An honest host's proof.
pub(super) fn chunk_of(sector: &Sector, chunk: u32) -> Option<ChunkProof> {
    let group = sector.entry.size.bytes().min(16 << 10);
    let first = (chunk.checked_mul(1 << 10)? / group * group) as usize;
    let bytes = sector.bytes.get(first..first + group as usize)?;
    prove_chunk(&sector.outboard, bytes, chunk).ok()
}

/// Position proofs: the position (`u64` little-endian), the proof.
pub fn position_proof(data: &[u8]) {
    let mut fields = Fields(data);
    let position = u64::from_le_bytes(fields.array());
    let Some(proof) = value::<SectorPositionProof>(fields.0) else { return };
    let entries = entries();
    let (root, total) = data_root(&entries);
    if verify_position(&root, total, position, &proof).is_ok() {
        assert_eq!(prove_position(&entries, position), Ok(proof));
    }
}

/// Storage proofs.
pub fn storage_proof(data: &[u8]) {
    let Some(proof) = value::<StorageProof>(data) else { return };
    let (root, total) = data_root(&entries());
    if verify_storage_proof(&SEED, &root, total, &proof).is_ok() {
        assert_eq!(encode(&proof), encode(&storage_proof_of()));
    }
}

/// An honest host's proof.
pub(super) fn storage_proof_of() -> StorageProof {
    let sample = |place: samara_protocol::sector::SampleLocation| {
        let root = place.position.entry.root;
        let sector = sectors().iter().find(|sector| sector.entry.root == root)?;
        let chunk = chunk_of(sector, place.chunk)?;
        Some(StorageSample { position: place.position, chunk })
    };
    let places = locate_samples(&SEED, &entries());
    StorageProof { samples: places.into_iter().filter_map(sample).collect() }
}

/// Outboards, as they lie on a host's disk: the size's logarithm, the bytes.
pub fn outboard(data: &[u8]) {
    let mut fields = Fields(data);
    let Ok(size) = SectorSize::from_log2(fields.byte()) else { return };
    if let Ok(outboard) = Outboard::from_bytes(size, fields.0) {
        assert_eq!(outboard.to_bytes(), fields.0);
        let _ = outboard.root();
    }
}
