//! A list of slab ranges as one stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use samara_protocol::journal::SlabRecord;

use super::download::{DownloadError, Downloader};

/// A range of one slab's plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabRange {
    /// The slab.
    pub record: Arc<SlabRecord>,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

/// Reads ranges in order, at most two ahead of the caller.
pub struct ExtentReader {
    downloader: Downloader,
    ranges: VecDeque<SlabRange>,
}

impl ExtentReader {
    pub(super) fn new(downloader: Downloader, ranges: Vec<SlabRange>) -> Self {
        Self { downloader, ranges: ranges.into() }
    }

    /// The next bytes; nothing at the end. After an error the reader is at its end.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let _ = (&self.downloader, &self.ranges);
        todo!()
    }
}
