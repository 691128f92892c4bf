//! Sectors and their proofs.

use serde::{Deserialize, Serialize};

use crate::hash::{Digest, SectorRoot};

/// A sector in a contract's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorEntry {
    /// Root of the bytes.
    pub root: SectorRoot,
    /// Bytes.
    pub size: u32,
}

/// Range proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeProof {
    /// Siblings.
    pub siblings: Vec<[u8; 32]>,
}

/// Storage proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageProof {}

/// Root of no sectors.
#[must_use]
pub fn empty_data_root() -> Digest {
    Digest::ZERO
}

/// Why a proof is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The path leads to another data root.
    #[error("the path does not lead to the contract's data root")]
    DataRoot,
}

/// Checks a storage proof. Until proofs exist, none holds.
///
/// # Errors
/// [`ProofError`] always.
pub fn verify_storage_proof(
    _seed: &Digest,
    _data_root: &Digest,
    _total_size: u64,
    _proof: &StorageProof,
) -> Result<(), ProofError> {
    Err(ProofError::DataRoot)
}
