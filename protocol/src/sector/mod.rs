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
