//! A stream of bytes cut into slabs.

use samara_protocol::journal::SlabRecord;

use super::options::SlabClass;
use super::stream::SlabRange;
use super::upload::{StoredSlab, UploadError, Uploader};
use crate::world::ReadFile;

/// Where a part of what was written lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which slab of [`Packed::slabs`].
    pub slab: usize,
    /// First plaintext byte in it.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

/// All that went through a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// The slabs, in the order of the bytes.
    pub slabs: Vec<StoredSlab>,
}

impl Packed {
    /// The slab of a piece.
    #[must_use]
    pub fn record(&self, piece: &Piece) -> &SlabRecord {
        &self.slabs[piece.slab].record
    }

    /// A piece as a range that can be read.
    #[must_use]
    pub fn range(&self, piece: &Piece) -> SlabRange {
        SlabRange {
            record: std::sync::Arc::new(self.record(piece).clone()),
            offset: piece.offset,
            length: piece.length,
        }
    }
}

/// Packs bytes into slabs and stores them, at most two in flight. Many files may go through one.
pub struct SlabPipeline {
    uploader: Uploader,
    class: SlabClass,
}

impl SlabPipeline {
    pub(super) fn new(uploader: Uploader, class: SlabClass) -> Self {
        Self { uploader, class }
    }

    /// Appends bytes; returns where they lie. Waits while two slabs are in flight.
    ///
    /// # Errors
    /// [`UploadError`] of any slab so far.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, UploadError> {
        let _ = (bytes, &self.uploader, self.class);
        todo!()
    }

    /// Appends all that is left of a file; returns how much it was and where it lies.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`], and [`UploadError::File`].
    pub async fn write_file(
        &mut self,
        file: &mut dyn ReadFile,
    ) -> Result<(u64, Vec<Piece>), UploadError> {
        let _ = file;
        todo!()
    }

    /// Stores what is left and waits until every slab is acknowledged.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`].
    pub async fn finish(self) -> Result<Packed, UploadError> {
        todo!()
    }
}
