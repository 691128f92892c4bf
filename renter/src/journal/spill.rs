//! Older entries on their way from the heads into slabs.

use samara_protocol::encoding;
use samara_protocol::journal::Entry;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Segment;

use crate::transfer::{SlabClass, UploadError, Uploader};

/// Stores entries as a segment of metadata slabs.
pub(super) async fn store(
    uploader: &Uploader,
    from: JournalPoint,
    entries: Vec<Entry>,
) -> Result<Segment, UploadError> {
    let bytes = encoding::encode(&entries);
    let capacity = uploader.capacity(SlabClass::Metadata)?;
    let mut slabs = Vec::new();
    for part in bytes.chunks(usize::try_from(capacity).unwrap_or(usize::MAX).max(1)) {
        slabs.push(uploader.upload_slab(part.to_vec(), SlabClass::Metadata).await?.record);
    }
    Ok(Segment { from, entries: entries.len() as u64, length: bytes.len() as u64, slabs })
}
