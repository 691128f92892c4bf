//! The inner hashes of a sector that are kept beside its bytes.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::{ProofError, SectorSize};
use crate::hash::SectorRoot;

/// A node of the BLAKE3 tree below the root.
pub(super) type ChainingValue = [u8; 32];

/// Chaining values of a sector's groups, in order: 32 bytes for each 16 KiB, 8 KiB for 4 MiB.
///
/// A sector of a single group has no inner node that a proof could name; its one entry is the root
/// itself. So an outboard always determines the sector's root, see [`Outboard::root`].
#[derive(Clone, PartialEq, Eq)]
pub struct Outboard {
    size: SectorSize,
    groups: Vec<ChainingValue>,
}

impl fmt::Debug for Outboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outboard").field("size", &self.size).field("root", &self.root()).finish()
    }
}

impl Outboard {
    /// Hashes a whole sector once.
    ///
    /// # Errors
    /// [`ProofError::Length`] when `bytes` are not `size` many.
    pub fn of(size: SectorSize, bytes: &[u8]) -> Result<(SectorRoot, Self), ProofError> {
        let mut builder = OutboardBuilder::new(size);
        builder.update(bytes)?;
        builder.finish()
    }

    /// Size of the sector.
    #[must_use]
    pub fn size(&self) -> SectorSize {
        self.size
    }

    /// The sector's root, computed from the groups (255 compressions for 4 MiB).
    #[must_use]
    pub fn root(&self) -> SectorRoot {
        match self.groups.as_slice() {
            [root] => SectorRoot(*root),
            groups => {
                let (left, right) = groups.split_at(groups.len() / 2);
                SectorRoot(join_root(&join_all(left), &join_all(right)))
            }
        }
    }

    /// The bytes to store: the entries one after another.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.groups.as_flattened().to_vec()
    }

    /// Reads what [`Outboard::to_bytes`] wrote for a sector of this size.
    ///
    /// Compare [`Outboard::root`] with the sector's name to know that the bytes are sound.
    ///
    /// # Errors
    /// [`ProofError::Length`] for any other number of bytes.
    pub fn from_bytes(size: SectorSize, bytes: &[u8]) -> Result<Self, ProofError> {
        let expected = size.groups() as usize * 32;
        if bytes.len() != expected {
            return Err(ProofError::Length { expected, actual: bytes.len() });
        }
        Ok(Self { size, groups: bytes.as_chunks::<32>().0.to_vec() })
    }

    /// Chaining value of the subtree over `count` groups from `start`; a power of two, aligned, not all.
    pub(super) fn subtree(&self, start: u32, count: u32) -> ChainingValue {
        join_all(&self.groups[start as usize..(start + count) as usize])
    }
}

/// Hashes a sector piece by piece, so that bytes are hashed while they are still in the cache.
#[derive(Debug)]
pub struct OutboardBuilder {
    size: SectorSize,
    groups: Vec<ChainingValue>,
}

impl OutboardBuilder {
    /// Begins a sector.
    #[must_use]
    pub fn new(size: SectorSize) -> Self {
        Self { size, groups: Vec::with_capacity(size.groups() as usize) }
    }

    /// Hashes the next bytes: a whole number of groups.
    ///
    /// # Errors
    /// [`ProofError::Length`] for a partial group, or more than is left of the sector.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), ProofError> {
        let group = self.size.group() as usize;
        let left = (self.size.groups() as usize - self.groups.len()) * group;
        if !bytes.len().is_multiple_of(group) || bytes.len() > left {
            let expected = left.min(bytes.len().next_multiple_of(group));
            return Err(ProofError::Length { expected, actual: bytes.len() });
        }
        for piece in bytes.chunks_exact(group) {
            let value = if self.size.groups() == 1 {
                *blake3::hash(piece).as_bytes()
            } else {
                subtree_value(self.groups.len() as u64 * group as u64, piece)
            };
            self.groups.push(value);
        }
        Ok(())
    }

    /// Ends the sector.
    ///
    /// # Errors
    /// [`ProofError::Length`] when bytes are missing.
    pub fn finish(self) -> Result<(SectorRoot, Outboard), ProofError> {
        let actual = self.groups.len() * self.size.group() as usize;
        if actual != self.size.len() {
            return Err(ProofError::Length { expected: self.size.len(), actual });
        }
        let outboard = Outboard { size: self.size, groups: self.groups };
        Ok((outboard.root(), outboard))
    }
}

/// Chaining value of the subtree over `bytes`, which begin `offset` bytes into the sector.
pub(super) fn subtree_value(offset: u64, bytes: &[u8]) -> ChainingValue {
    blake3::Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// Parent of two subtrees.
pub(super) fn join(left: &ChainingValue, right: &ChainingValue) -> ChainingValue {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

/// Root over the two halves of a sector.
pub(super) fn join_root(left: &ChainingValue, right: &ChainingValue) -> [u8; 32] {
    *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
}

/// Joins a power of two of neighbours.
fn join_all(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        values => {
            let (left, right) = values.split_at(values.len() / 2);
            join(&join_all(left), &join_all(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sector::root;

    fn bytes(size: SectorSize) -> Vec<u8> {
        (0..size.len()).map(|i| (i * 31 + (i >> 10) * 7) as u8).collect()
    }

    #[test]
    fn the_root_is_the_plain_hash_at_every_size() {
        for log2 in 10..=22 {
            let size = SectorSize::from_log2(log2).unwrap();
            let bytes = bytes(size);
            let (name, outboard) = Outboard::of(size, &bytes).unwrap();
            assert_eq!(name, root(&bytes), "{size}");
            assert_eq!(Outboard::from_bytes(size, &outboard.to_bytes()), Ok(outboard));
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let size = SectorSize::new(256 << 10).unwrap();
        let bytes = bytes(size);
        let mut builder = OutboardBuilder::new(size);
        for piece in bytes.chunks(32 << 10) {
            builder.update(piece).unwrap();
        }
        assert_eq!(builder.finish(), Outboard::of(size, &bytes));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let size = SectorSize::new(32 << 10).unwrap();
        assert!(Outboard::of(size, &[0; 16 << 10]).is_err());
        assert!(Outboard::of(size, &[0; 48 << 10]).is_err());
        assert!(OutboardBuilder::new(size).update(&[0; 1000]).is_err());
        assert!(Outboard::from_bytes(size, &[0; 32]).is_err());
        assert!(Outboard::from_bytes(size, &[0; 65]).is_err());
    }
}
