//! A list of slab ranges as one stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use samara_protocol::journal::SlabRecord;
use tokio::sync::oneshot;

use super::download::{DownloadError, Downloader};
use crate::world::TaskHandle;

/// Ranges that are read before the caller asks for them.
const AHEAD: usize = 2;

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

/// Reads ranges in order, at most two ahead of the caller, so at most three slabs' worth is in memory.
///
/// Dropped, it stops what is under way.
pub struct ExtentReader {
    downloader: Downloader,
    ranges: VecDeque<SlabRange>,
    reading: VecDeque<Reading>,
}

/// A range being read. Dropping it stops its task.
struct Reading {
    range: SlabRange,
    outcome: oneshot::Receiver<Result<Vec<u8>, DownloadError>>,
    _task: Box<dyn TaskHandle>,
}

impl ExtentReader {
    pub(super) fn new(downloader: Downloader, ranges: Vec<SlabRange>) -> Self {
        Self { downloader, ranges: join(ranges), reading: VecDeque::new() }
    }

    /// The next bytes, as many as their range has; nothing at the end. After an error the reader is at
    /// its end.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        self.read_ahead();
        let Some(first) = self.reading.front_mut() else { return Ok(None) };
        let outcome = (&mut first.outcome).await;
        let slab = first.range.record.id;
        self.reading.pop_front();
        match outcome.unwrap_or(Err(DownloadError::Stopped { slab })) {
            Ok(bytes) => {
                self.read_ahead();
                Ok(Some(bytes.into()))
            }
            Err(error) => {
                self.ranges.clear();
                self.reading.clear();
                Err(error)
            }
        }
    }

    fn read_ahead(&mut self) {
        while self.reading.len() < AHEAD {
            let Some(range) = self.ranges.pop_front() else { return };
            let (sender, outcome) = oneshot::channel();
            let (downloader, wanted) = (self.downloader.clone(), range.clone());
            let job = async move {
                let end = wanted.offset.saturating_add(wanted.length);
                let bytes = downloader.read(&wanted.record, wanted.offset..end).await;
                // The reader may be gone; then nobody waits for the bytes.
                let _ = sender.send(bytes);
            };
            let spawner = &self.downloader.world().spawner;
            let task = spawner.spawn("slab range", Box::pin(job));
            self.reading.push_back(Reading { range, outcome, _task: task });
        }
    }
}

/// Joins neighbours within one slab, drops empty ranges.
fn join(ranges: Vec<SlabRange>) -> VecDeque<SlabRange> {
    let mut joined: VecDeque<SlabRange> = VecDeque::new();
    for range in ranges.into_iter().filter(|range| range.length > 0) {
        match joined.back_mut() {
            Some(last)
                if last.record.id == range.record.id
                    && last.offset.checked_add(last.length) == Some(range.offset) =>
            {
                last.length = last.length.saturating_add(range.length);
            }
            _ => joined.push_back(range),
        }
    }
    joined
}
