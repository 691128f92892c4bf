//! From plaintext to n hashed columns in one pass.
//!
//! The pass goes stripe by stripe: the same short range of all columns is sealed, coded and hashed
//! before the next is touched, so that each byte comes from memory once. Nothing is allocated but the
//! outboards; the columns are written to buffers of the caller, for example a pooled [`SlabBuffer`].

use std::fmt;

use super::erasure::{ErasureCode, ErasureError, code_for};
use super::geometry::Geometry;
use super::seal::{FrameCipher, FrameError};
use crate::hash::{SectorRoot, SlabId};
use crate::sector::{Outboard, OutboardBuilder, ProofError};

/// Bytes by which each shard is moved against the one before it.
///
/// Columns of a power of two, one behind the other, share the same cache sets and evict each other; a
/// page and a line of offset makes every kernel 1.5 to 2 times faster.
const STAGGER: usize = 4_096 + 64;

/// A column that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedShard {
    /// Its name.
    pub root: SectorRoot,
    /// Its inner hashes.
    pub outboard: Outboard,
}

/// Why a slab is not sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlabError {
    /// More plaintext than fits.
    #[error("slab {slab} takes {capacity} bytes, not {length}")]
    TooLong {
        /// The slab.
        slab: SlabId,
        /// Plaintext bytes.
        length: usize,
        /// What fits.
        capacity: u64,
    },
    /// Buffers that are not n columns.
    #[error("the buffers for slab {slab} are not {total} columns of {column} bytes")]
    Buffers {
        /// The slab.
        slab: SlabId,
        /// Columns needed, n.
        total: usize,
        /// Bytes of each.
        column: usize,
    },
    /// A frame was not sealed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The parity was not coded.
    #[error("coding slab {slab}")]
    Erasure {
        /// The slab.
        slab: SlabId,
        /// What the code says.
        #[source]
        source: ErasureError,
    },
    /// A column was not hashed.
    #[error("hashing slab {slab}")]
    Hash {
        /// The slab.
        slab: SlabId,
        /// What the hasher says.
        #[source]
        source: ProofError,
    },
}

/// Seals slabs of one geometry. Holds no key; can be shared by threads.
pub struct SlabSealer {
    geometry: Geometry,
    code: Box<dyn ErasureCode>,
}

impl fmt::Debug for SlabSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlabSealer").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl SlabSealer {
    /// Prepares the code of a geometry.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, code: code_for(&geometry) }
    }

    /// The geometry.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The code, for rebuilding.
    #[must_use]
    pub fn code(&self) -> &dyn ErasureCode {
        &*self.code
    }

    /// Seals `plain` into `columns`, n buffers of one column each, data shards first.
    ///
    /// What `plain` leaves empty is filled with zeros before it is sealed. `key` must derive from `slab`,
    /// and `slab` must never have been used before, not even by an attempt that failed.
    ///
    /// # Errors
    /// [`SlabError`]; the columns are then worthless, and so is the id.
    pub fn seal(
        &self,
        key: &[u8; 32],
        slab: SlabId,
        plain: &[u8],
        columns: &mut [&mut [u8]],
    ) -> Result<Vec<SealedShard>, SlabError> {
        self.check(slab, plain, columns)?;
        let cipher = FrameCipher::new(key, slab, self.geometry);
        let size = self.geometry.column();
        let mut hashers: Vec<OutboardBuilder> =
            columns.iter().map(|_| OutboardBuilder::new(size)).collect();
        // A stripe holds whole frames and whole groups.
        let stripe = self.geometry.frame().max(size.group()) as usize;
        for start in (0..size.len()).step_by(stripe) {
            let (data, parity) = columns.split_at_mut(usize::from(self.geometry.data()));
            for (shard, column) in data.iter_mut().enumerate() {
                self.seal_stripe(&cipher, plain, shard, start, &mut column[start..start + stripe])?;
            }
            let data: Vec<&[u8]> =
                data.iter().map(|column| &column[start..start + stripe]).collect();
            let mut parity: Vec<&mut [u8]> =
                parity.iter_mut().map(|column| &mut column[start..start + stripe]).collect();
            self.code
                .encode(&data, &mut parity)
                .map_err(|source| SlabError::Erasure { slab, source })?;
            for (hasher, column) in hashers.iter_mut().zip(&*columns) {
                hasher
                    .update(&column[start..start + stripe])
                    .map_err(|source| SlabError::Hash { slab, source })?;
            }
        }
        let finish = |hasher: OutboardBuilder| match hasher.finish() {
            Ok((root, outboard)) => Ok(SealedShard { root, outboard }),
            Err(source) => Err(SlabError::Hash { slab, source }),
        };
        hashers.into_iter().map(finish).collect()
    }

    /// As [`SlabSealer::seal`], into a pooled buffer, which is made to fit.
    ///
    /// # Errors
    /// As [`SlabSealer::seal`].
    pub fn seal_into(
        &self,
        key: &[u8; 32],
        slab: SlabId,
        plain: &[u8],
        buffer: &mut SlabBuffer,
    ) -> Result<Vec<SealedShard>, SlabError> {
        buffer.fit(&self.geometry);
        self.seal(key, slab, plain, &mut buffer.columns_mut())
    }

    fn check(&self, slab: SlabId, plain: &[u8], columns: &[&mut [u8]]) -> Result<(), SlabError> {
        let (total, column) = (usize::from(self.geometry.total()), self.geometry.column().len());
        let capacity = self.geometry.capacity();
        if plain.len() as u64 > capacity {
            return Err(SlabError::TooLong { slab, length: plain.len(), capacity });
        }
        if columns.len() != total || columns.iter().any(|buffer| buffer.len() != column) {
            return Err(SlabError::Buffers { slab, total, column });
        }
        Ok(())
    }

    /// Fills and seals the frames of one stripe of one data shard.
    fn seal_stripe(
        &self,
        cipher: &FrameCipher,
        plain: &[u8],
        shard: usize,
        start: usize,
        stripe: &mut [u8],
    ) -> Result<(), FrameError> {
        let (frame, frame_plain) =
            (self.geometry.frame() as usize, self.geometry.frame_plain() as usize);
        let first = shard * self.geometry.frames_per_column() as usize + start / frame;
        for (index, bytes) in (first..).zip(stripe.chunks_exact_mut(frame)) {
            let from = (index * frame_plain).min(plain.len());
            let part = &plain[from..plain.len().min(from + frame_plain)];
            bytes[..part.len()].copy_from_slice(part);
            bytes[part.len()..].fill(0);
            // At most 255 * 4096 frames.
            cipher.seal(index as u32, bytes)?;
        }
        Ok(())
    }
}

/// One allocation for the n columns of a slab, to be used again for the next.
#[derive(Default)]
pub struct SlabBuffer {
    bytes: Vec<u8>,
    column: usize,
    total: usize,
}

impl fmt::Debug for SlabBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlabBuffer")
            .field("total", &self.total)
            .field("column", &self.column)
            .finish_non_exhaustive()
    }
}

impl SlabBuffer {
    /// A buffer without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory that the columns of a geometry need.
    #[must_use]
    pub fn memory_for(geometry: &Geometry) -> usize {
        usize::from(geometry.total()) * (geometry.column().len() + STAGGER)
    }

    /// Makes it fit a geometry; allocates only when it was smaller before. Old bytes stay in it.
    pub fn fit(&mut self, geometry: &Geometry) {
        self.column = geometry.column().len();
        self.total = usize::from(geometry.total());
        let needed = Self::memory_for(geometry);
        if self.bytes.is_empty() {
            // Fresh zeroed memory is not touched before it is used.
            self.bytes = vec![0; needed];
        }
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
    }

    /// Number of columns.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// A column; `None` behind the last.
    #[must_use]
    pub fn column(&self, shard: usize) -> Option<&[u8]> {
        let start = shard * (self.column + STAGGER);
        (shard < self.total).then(|| &self.bytes[start..start + self.column])
    }

    /// All columns, data shards first.
    pub fn columns_mut(&mut self) -> Vec<&mut [u8]> {
        let column = self.column;
        self.bytes
            .chunks_exact_mut(column + STAGGER)
            .take(self.total)
            .map(|padded| &mut padded[..column])
            .collect()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::*;
    use crate::sector::{SectorSize, root};

    fn plain(length: usize, salt: u8) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[salt]).finalize_xof().fill(&mut bytes);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_sealed_slab_opens_from_any_k_and_its_roots_are_true(
            data in 1u8..6, extra in 0u8..5, log2 in 10u8..=17, frame in 10u8..=16,
            part in 0u64..=100, lost in 0usize..10, salt: u8,
        ) {
            let column = SectorSize::from_log2(log2).unwrap();
            let frame = 1u32 << frame.min(log2);
            let geometry = Geometry::new(data, data + extra, column, frame).unwrap();
            let plain = plain(usize::try_from(geometry.capacity() * part / 100).unwrap(), salt);
            let (key, slab) = ([salt; 32], SlabId([salt; 16]));
            let sealer = SlabSealer::new(geometry);
            let mut buffer = SlabBuffer::new();
            let sealed = sealer.seal_into(&key, slab, &plain, &mut buffer).unwrap();
            for (shard, made) in sealed.iter().enumerate() {
                prop_assert_eq!(made.root, root(buffer.column(shard).unwrap()));
                prop_assert_eq!(made.outboard.root(), made.root);
            }
            let mut shards: Vec<Option<Vec<u8>>> =
                (0..buffer.total()).map(|shard| buffer.column(shard).map(<[u8]>::to_vec)).collect();
            for shard in lost..lost + usize::from(extra) {
                shards[shard % (usize::from(data + extra))] = None;
            }
            let wanted: Vec<usize> = (0..usize::from(data)).collect();
            sealer.code().reconstruct(&mut shards, &wanted).unwrap();
            let cipher = FrameCipher::new(&key, slab, geometry);
            let mut opened = Vec::new();
            for (shard, column) in shards.iter().take(usize::from(data)).enumerate() {
                let first = shard as u32 * geometry.frames_per_column();
                let (column, all) = (column.as_ref().unwrap(), 0..geometry.capacity());
                cipher.open_onto(first, column, &all, &mut opened).unwrap();
            }
            prop_assert_eq!(&opened[..plain.len()], &plain[..]);
            prop_assert_eq!(opened[plain.len()..].iter().filter(|byte| **byte != 0).count(), 0);
        }
    }

    #[test]
    fn an_old_buffer_gives_the_bytes_of_a_new_one() {
        let small = Geometry::with_column(2, 3, SectorSize::new(16 << 10).unwrap()).unwrap();
        let large = Geometry::with_column(3, 7, SectorSize::new(64 << 10).unwrap()).unwrap();
        let mut pooled = SlabBuffer::new();
        SlabSealer::new(large)
            .seal_into(&[1; 32], SlabId([1; 16]), &plain(100_000, 1), &mut pooled)
            .unwrap();
        let memory = pooled.memory();
        let mut fresh = SlabBuffer::new();
        let sealer = SlabSealer::new(small);
        let text = plain(20_000, 2);
        let made = sealer.seal_into(&[2; 32], SlabId([2; 16]), &text, &mut pooled);
        assert_eq!(made, sealer.seal_into(&[2; 32], SlabId([2; 16]), &text, &mut fresh));
        assert_eq!(pooled.memory(), memory);
        for shard in 0..4 {
            assert_eq!(pooled.column(shard), fresh.column(shard));
        }
        assert_eq!(pooled.column(3), None);
    }

    #[test]
    fn too_much_plaintext_and_wrong_buffers_are_refused() {
        let geometry = Geometry::with_column(1, 2, SectorSize::MIN).unwrap();
        let sealer = SlabSealer::new(geometry);
        let slab = SlabId([1; 16]);
        let long = vec![0; 1_009];
        let refused = SlabError::TooLong { slab, length: 1_009, capacity: 1_008 };
        let mut buffer = SlabBuffer::new();
        assert_eq!(sealer.seal_into(&[0; 32], slab, &long, &mut buffer), Err(refused));
        let refused = Err(SlabError::Buffers { slab, total: 2, column: 1_024 });
        let mut one = vec![0; 1_024];
        assert_eq!(sealer.seal(&[0; 32], slab, &[], &mut [&mut one]), refused);
        let mut short = vec![0; 1_023];
        assert_eq!(sealer.seal(&[0; 32], slab, &[], &mut [&mut one, &mut short]), refused);
    }
}
