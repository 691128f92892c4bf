//! The shape of a slab: how many sectors of which length, cut into which frames.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::sector::SectorSize;

/// Bytes of the authentication tag that ends each sealed frame.
pub const TAG: u32 = 16;
/// Longest frame, and the usual one: 64 KiB.
pub const MAX_FRAME: u32 = 64 << 10;
/// Shortest frame: 1 KiB.
pub const MIN_FRAME: u32 = 1 << 10;

/// k data and n-k parity sectors of one column length, and the length of a frame.
///
/// Encoded as four bytes: k, n, and the binary logarithms of column and frame.
///
/// ```text
/// data sector i = sealed frames [i * frames_per_column, (i + 1) * frames_per_column)
/// sealed frame  = ciphertext (frame - 16) || tag (16)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "EncodedGeometry", into = "EncodedGeometry")]
pub struct Geometry {
    data: u8,
    total: u8,
    column: SectorSize,
    frame: u32,
}

/// A geometry as four bytes.
#[derive(Serialize, Deserialize)]
struct EncodedGeometry {
    data: u8,
    total: u8,
    column: SectorSize,
    frame_log2: u8,
}

/// A shape that no slab has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// No data shard, or fewer shards than data shards.
    #[error("a slab of {total} shards cannot have {data} data shards")]
    Shards {
        /// Data shards, k.
        data: u8,
        /// All shards, n.
        total: u8,
    },
    /// A frame that is no power of two in its range, or longer than the column.
    #[error("a frame of {frame} bytes does not fit columns of {column}")]
    Frame {
        /// Length of the frame.
        frame: u64,
        /// Length of the column.
        column: SectorSize,
    },
}

/// Bytes or frames outside of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{start}..{end} is empty or reaches outside of the slab's {limit}")]
pub struct RangeError {
    /// First asked for.
    pub start: u64,
    /// First after it.
    pub end: u64,
    /// How many there are.
    pub limit: u64,
}

/// Where a sealed frame lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameLocation {
    /// Number of the data shard.
    pub shard: u8,
    /// Bytes in its sector. Align with [`crate::sector::align`] where frames are shorter than groups.
    pub range: Range<u32>,
}

/// Neighbouring frames in one shard: one request to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSpan {
    /// Number of the data shard.
    pub shard: u8,
    /// Bytes in its sector.
    pub range: Range<u32>,
    /// The slab's frames that these bytes are.
    pub frames: Range<u32>,
}

impl Geometry {
    /// A slab with `data` of `total` sectors of `column`, in frames of `frame` bytes.
    ///
    /// # Errors
    /// [`GeometryError::Shards`] unless `1 <= data <= total`; [`GeometryError::Frame`] unless `frame` is
    /// a power of two from 1 KiB to 64 KiB and no longer than the column.
    pub fn new(data: u8, total: u8, column: SectorSize, frame: u32) -> Result<Self, GeometryError> {
        if data == 0 || data > total {
            return Err(GeometryError::Shards { data, total });
        }
        let longest = MAX_FRAME.min(column.bytes());
        if !frame.is_power_of_two() || !(MIN_FRAME..=longest).contains(&frame) {
            return Err(GeometryError::Frame { frame: u64::from(frame), column });
        }
        Ok(Self { data, total, column, frame })
    }

    /// The shape with the usual frame: 64 KiB, or the column where it is smaller.
    ///
    /// # Errors
    /// [`GeometryError::Shards`] unless `1 <= data <= total`.
    pub fn with_column(data: u8, total: u8, column: SectorSize) -> Result<Self, GeometryError> {
        Self::new(data, total, column, MAX_FRAME.min(column.bytes()))
    }

    /// Data shards, k: as many as rebuild the slab.
    #[must_use]
    pub const fn data(&self) -> u8 {
        self.data
    }

    /// All shards, n.
    #[must_use]
    pub const fn total(&self) -> u8 {
        self.total
    }

    /// Parity shards, n - k.
    #[must_use]
    pub const fn parity(&self) -> u8 {
        self.total - self.data
    }

    /// Length of each sector.
    #[must_use]
    pub const fn column(&self) -> SectorSize {
        self.column
    }

    /// Bytes of a sealed frame.
    #[must_use]
    pub const fn frame(&self) -> u32 {
        self.frame
    }

    /// Plaintext bytes of a frame.
    #[must_use]
    pub const fn frame_plain(&self) -> u32 {
        self.frame - TAG
    }

    /// Frames in one sector.
    #[must_use]
    pub const fn frames_per_column(&self) -> u32 {
        self.column.bytes() / self.frame
    }

    /// Frames in the slab.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.data as u32 * self.frames_per_column()
    }

    /// Plaintext bytes that the slab takes.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.frames() as u64 * self.frame_plain() as u64
    }

    /// The frames that hold a range of plaintext bytes.
    ///
    /// # Errors
    /// [`RangeError`] when the range is empty or reaches beyond the capacity.
    pub fn frames_for(&self, plain: Range<u64>) -> Result<Range<u32>, RangeError> {
        let refused = RangeError { start: plain.start, end: plain.end, limit: self.capacity() };
        if plain.is_empty() || plain.end > self.capacity() {
            return Err(refused);
        }
        let each = u64::from(self.frame_plain());
        let first = u32::try_from(plain.start / each).map_err(|_| refused)?;
        let end = u32::try_from(plain.end.div_ceil(each)).map_err(|_| refused)?;
        Ok(first..end)
    }

    /// Where a frame lies.
    ///
    /// # Errors
    /// [`RangeError`] for a frame that the slab does not have.
    pub fn locate(&self, frame: u32) -> Result<FrameLocation, RangeError> {
        let end = frame.saturating_add(1);
        let mut spans = self.spans(frame..end)?;
        let refused = RangeError {
            start: u64::from(frame),
            end: u64::from(end),
            limit: u64::from(self.frames()),
        };
        let span = spans.pop().ok_or(refused)?;
        Ok(FrameLocation { shard: span.shard, range: span.range })
    }

    /// Cuts frames into one span for each shard, in order.
    ///
    /// # Errors
    /// [`RangeError`] when the range is empty or the slab does not have these frames.
    pub fn spans(&self, frames: Range<u32>) -> Result<Vec<ShardSpan>, RangeError> {
        if frames.is_empty() || frames.end > self.frames() {
            return Err(RangeError {
                start: u64::from(frames.start),
                end: u64::from(frames.end),
                limit: u64::from(self.frames()),
            });
        }
        let each = self.frames_per_column();
        let span = |shard: u8| {
            let base = u32::from(shard) * each;
            let first = frames.start.max(base);
            let end = frames.end.min(base + each);
            (first < end).then(|| ShardSpan {
                shard,
                range: (first - base) * self.frame..(end - base) * self.frame,
                frames: first..end,
            })
        };
        Ok((0..self.data).filter_map(span).collect())
    }
}

impl TryFrom<EncodedGeometry> for Geometry {
    type Error = GeometryError;

    fn try_from(encoded: EncodedGeometry) -> Result<Self, GeometryError> {
        let EncodedGeometry { data, total, column, frame_log2 } = encoded;
        let frame = 1u32
            .checked_shl(u32::from(frame_log2))
            .ok_or(GeometryError::Frame { frame: u64::MAX, column })?;
        Self::new(data, total, column, frame)
    }
}

impl From<Geometry> for EncodedGeometry {
    fn from(geometry: Geometry) -> Self {
        let Geometry { data, total, column, frame } = geometry;
        // At most 16: a frame is a power of two of at most 64 KiB.
        let frame_log2 = frame.trailing_zeros() as u8;
        Self { data, total, column, frame_log2 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::encoding;

    fn size(log2: u8) -> SectorSize {
        SectorSize::from_log2(log2).unwrap()
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let column = SectorSize::HOST_MIN;
        assert!(Geometry::with_column(0, 3, column).is_err());
        assert!(Geometry::with_column(4, 3, column).is_err());
        for frame in [0, 16, 512, 3_072, 32 << 10] {
            assert!(Geometry::new(1, 1, column, frame).is_err(), "{frame}");
        }
        assert!(Geometry::new(1, 1, SectorSize::MAX, 128 << 10).is_err());
        for bytes in [[0, 3, 14, 14], [4, 3, 14, 14], [1, 2, 9, 9], [1, 2, 14, 15], [1, 2, 14, 32]]
        {
            assert!(encoding::decode::<Geometry>(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_full_slab_has_the_documented_numbers() {
        let geometry = Geometry::with_column(10, 30, SectorSize::MAX).unwrap();
        assert_eq!(geometry.frames(), 640);
        assert_eq!(geometry.capacity(), 640 * 65_520);
        assert_eq!(encoding::encode(&geometry), [10, 30, 22, 16]);
        assert_eq!(geometry.frames_for(65_519..65_521), Ok(0..2));
        let location = FrameLocation { shard: 1, range: 65_536..131_072 };
        assert_eq!(geometry.locate(65), Ok(location));
        assert!(geometry.locate(640).is_err());
        assert!(geometry.locate(u32::MAX).is_err());
        assert!(geometry.frames_for(0..geometry.capacity() + 1).is_err());
        assert!(geometry.frames_for(5..5).is_err());
    }

    proptest! {
        #[test]
        fn spans_hold_each_frame_once_and_in_order(
            data in 1u8..8, log2 in 10u8..=18, frame in 10u8..=16, a: u64, b: u64,
        ) {
            let frame = 1u32 << frame.min(log2);
            let geometry = Geometry::new(data, data + 2, size(log2), frame).unwrap();
            let (a, b) = (a % geometry.capacity(), b % geometry.capacity());
            let plain = a.min(b)..a.max(b) + 1;
            let frames = geometry.frames_for(plain.clone()).unwrap();
            let each = u64::from(geometry.frame_plain());
            prop_assert!(u64::from(frames.start) * each <= plain.start);
            prop_assert!(u64::from(frames.start + 1) * each > plain.start);
            prop_assert!(u64::from(frames.end) * each >= plain.end);
            prop_assert!(u64::from(frames.end - 1) * each < plain.end);
            let spans = geometry.spans(frames.clone()).unwrap();
            let listed: Vec<u32> = spans.iter().flat_map(|span| span.frames.clone()).collect();
            prop_assert_eq!(listed, frames.collect::<Vec<u32>>());
            for span in spans {
                let first = geometry.locate(span.frames.start).unwrap();
                prop_assert_eq!((first.shard, first.range.start), (span.shard, span.range.start));
                let bytes = (span.frames.end - span.frames.start) * frame;
                prop_assert_eq!(span.range.end - span.range.start, bytes);
            }
        }

        #[test]
        fn any_four_bytes_are_a_shape_or_an_error(bytes in any::<[u8; 4]>()) {
            if let Ok(geometry) = encoding::decode::<Geometry>(&bytes) {
                prop_assert_eq!(encoding::encode(&geometry), bytes);
            }
        }
    }
}
