//! Sectors, and every proof about stored bytes.
//!
//! A sector is a column of 2^i bytes on one host, named by its [`SectorRoot`], the plain BLAKE3 hash of
//! its bytes. Because BLAKE3 is a Merkle tree itself, any range of a sector can be proven against that
//! name, and a host only keeps the chaining values of the 16 KiB groups beside the bytes (an
//! [`Outboard`], 32 bytes a group). A contract commits to its ordered sector list by the root of a
//! Merkle *sum* tree ([`SectorTree`]), so that a byte position of the whole contract leads to one
//! sector and nobody can lie about which.
//!
//! | proof | says | checked by |
//! | --- | --- | --- |
//! | [`RangeProof`] | these bytes are that range of the sector | [`verify_range`] |
//! | [`ChunkProof`] | this KiB is that chunk of the sector | [`verify_chunk`] |
//! | [`SectorPositionProof`] | that byte of the contract lies in this sector | [`verify_position`] |
//! | [`StorageProof`] | sixteen challenged chunks of the contract are stored | [`verify_storage_proof`] |
//!
//! Invariants: a proof has one accepted form (nothing left over, nothing missing); all sums are checked;
//! every decoder is bounded; nothing here panics on a peer's bytes (I7).

mod bounded;
mod chunk;
mod outboard;
mod position;
mod range;
mod storage;
mod tree;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::SectorRoot;

pub(crate) use bounded::bounded_vec;
pub use chunk::{ChunkProof, prove_chunk, verify_chunk};
pub use outboard::{Outboard, OutboardBuilder};
pub use position::{
    PathStep, SectorPositionProof, prove_position, prove_positions, verify_position,
};
pub use range::{RangeProof, align, prove_range, verify_range};
pub use storage::{
    SAMPLES, SampleLocation, StorageProof, StorageSample, challenge, locate_samples,
    verify_storage_proof,
};
pub use tree::{SectorTree, data_root, empty_data_root};

/// Bytes of a BLAKE3 chunk, the leaf of a sector's tree and the unit of a storage challenge.
pub const CHUNK: u32 = 1 << 10;

/// Bytes of a chunk group, the unit of range reads: 16 chunks.
pub const GROUP: u32 = 16 << 10;

/// Chunks in a group.
const GROUP_CHUNKS: u32 = GROUP / CHUNK;

/// Length of a sector: a power of two from 1 KiB to 4 MiB.
///
/// Encoded as one byte, its binary logarithm. Hosts take [`SectorSize::HOST_MIN`] and larger; smaller
/// ones let a simulator hold many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct SectorSize {
    log2: u8,
}

/// A number of bytes that no sector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectorSizeError {
    /// Not a power of two in the allowed range.
    #[error("a sector has a power of two from 1024 to 4194304 bytes, not {0}")]
    Bytes(u64),
    /// A binary logarithm outside the allowed range.
    #[error("a sector has 2^10 to 2^22 bytes, not 2^{0}")]
    Log2(u8),
}

impl SectorSize {
    /// Smallest: one chunk, 1 KiB.
    pub const MIN: Self = Self { log2: 10 };
    /// Smallest that hosts store: one group, 16 KiB.
    pub const HOST_MIN: Self = Self { log2: 14 };
    /// Largest: 4 MiB.
    pub const MAX: Self = Self { log2: 22 };

    /// The size of exactly `bytes` bytes.
    ///
    /// # Errors
    /// [`SectorSizeError::Bytes`] for anything but a power of two from 1 KiB to 4 MiB.
    pub fn new(bytes: u64) -> Result<Self, SectorSizeError> {
        let refused = SectorSizeError::Bytes(bytes);
        if !bytes.is_power_of_two() {
            return Err(refused);
        }
        let log2 = u8::try_from(bytes.trailing_zeros()).map_err(|_| refused)?;
        Self::from_log2(log2).map_err(|_| refused)
    }

    /// The size of `2^log2` bytes.
    ///
    /// # Errors
    /// [`SectorSizeError::Log2`] outside of 10 to 22.
    pub const fn from_log2(log2: u8) -> Result<Self, SectorSizeError> {
        if log2 < Self::MIN.log2 || log2 > Self::MAX.log2 {
            return Err(SectorSizeError::Log2(log2));
        }
        Ok(Self { log2 })
    }

    /// Binary logarithm of the length.
    #[must_use]
    pub const fn log2(self) -> u8 {
        self.log2
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << self.log2
    }

    /// Length in bytes, for slices.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no sector is empty")]
    pub const fn len(self) -> usize {
        1 << self.log2
    }

    /// Chunks of 1 KiB.
    #[must_use]
    pub const fn chunks(self) -> u32 {
        self.bytes() / CHUNK
    }

    /// Bytes of one group: 16 KiB, or the whole sector where it is smaller.
    #[must_use]
    pub const fn group(self) -> u32 {
        if self.bytes() < GROUP { self.bytes() } else { GROUP }
    }

    /// Groups, at least one.
    #[must_use]
    pub const fn groups(self) -> u32 {
        self.bytes() / self.group()
    }

    /// The next larger size, if there is one.
    #[must_use]
    pub const fn doubled(self) -> Option<Self> {
        if self.log2 < Self::MAX.log2 { Some(Self { log2: self.log2 + 1 }) } else { None }
    }
}

impl TryFrom<u8> for SectorSize {
    type Error = SectorSizeError;

    fn try_from(log2: u8) -> Result<Self, SectorSizeError> {
        Self::from_log2(log2)
    }
}

impl From<SectorSize> for u8 {
    fn from(size: SectorSize) -> Self {
        size.log2
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() >> 20 {
            0 => write!(f, "{} KiB", self.bytes() >> 10),
            mebibytes => write!(f, "{mebibytes} MiB"),
        }
    }
}

impl fmt::Debug for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SectorSize({self})")
    }
}

/// A sector in a contract's ordered list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorEntry {
    /// Name of the sector.
    pub root: SectorRoot,
    /// Its length.
    pub size: SectorSize,
}

/// The name of a sector with these bytes: their plain BLAKE3 hash.
#[must_use]
pub fn root(bytes: &[u8]) -> SectorRoot {
    SectorRoot(*blake3::hash(bytes).as_bytes())
}

/// Why a proof is not made or not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A range that is empty, outside of the sector, or not made of whole groups.
    #[error("bytes {start}..{end} are not whole groups of a sector of {size}")]
    Range {
        /// First byte.
        start: u32,
        /// First byte after it.
        end: u32,
        /// Size of the sector.
        size: SectorSize,
    },
    /// A chunk that the sector does not have.
    #[error("a sector of {size} has no chunk {index}")]
    Chunk {
        /// Number of the chunk.
        index: u32,
        /// Size of the sector.
        size: SectorSize,
    },
    /// Bytes of another length than the proof is about.
    #[error("{actual} bytes where the proof is about {expected}")]
    Length {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// Too few or too many sibling hashes.
    #[error("{actual} siblings where the proof has {expected}")]
    Siblings {
        /// Siblings needed.
        expected: usize,
        /// Siblings given.
        actual: usize,
    },
    /// The bytes and siblings hash to another sector.
    #[error("the proof does not lead to sector {0}")]
    Sector(SectorRoot),
    /// The path leads to another data root.
    #[error("the path does not lead to the contract's data root")]
    DataRoot,
    /// A path longer than any tree is high.
    #[error("a path of {0} steps is longer than any tree is high")]
    Path(usize),
    /// The byte sums of a path overflow or do not add up to the contract's size.
    #[error("the path's byte sums do not add up to {0} bytes")]
    Sums(u64),
    /// A position outside of the sector that was shown for it, or of the whole contract.
    #[error("byte {0} of the contract does not lie in the sector shown for it")]
    Position(u64),
    /// Another number of samples than the challenge asks for.
    #[error("{actual} samples where the challenge asks for {expected}")]
    Samples {
        /// Samples needed.
        expected: usize,
        /// Samples given.
        actual: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding;

    #[test]
    fn only_powers_of_two_in_range_are_sizes() {
        for log2 in 10..=22u8 {
            let size = SectorSize::new(1 << log2).expect("a class");
            assert_eq!(size.log2(), log2);
            assert_eq!(size.bytes(), size.group() * size.groups());
            assert_eq!(encoding::decode::<SectorSize>(&[log2]), Ok(size));
        }
        for bytes in [0, 1, 512, 1025, 3 << 10, 8 << 20, u64::MAX] {
            assert_eq!(SectorSize::new(bytes), Err(SectorSizeError::Bytes(bytes)));
        }
        for log2 in [0, 9, 23, 255] {
            assert!(encoding::decode::<SectorSize>(&[log2]).is_err());
        }
    }

    #[test]
    fn sizes_print_in_binary_units() {
        assert_eq!(SectorSize::HOST_MIN.to_string(), "16 KiB");
        assert_eq!(SectorSize::MAX.to_string(), "4 MiB");
    }
}
