//! A list of slab ranges as one stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::SlabRecord;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::download::Downloader;
use super::error::DownloadError;
use crate::world::TaskHandle;

/// Ranges that are read at once: one is handed out, the next comes meanwhile.
const AT_ONCE: usize = 2;
/// Bytes that a stream reads at once when the budget is used up.
const SMALL: u32 = 1 << 20;

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

/// Reads ranges in order, at most one ahead of the one that is handed out.
///
/// A range is read whole as far as the byte budget of all streams allows. A stream that finds nothing
/// left of it goes on in small pieces, so that a reader who has stopped reading never stops others.
/// Dropped, it stops what is under way.
pub struct ExtentReader {
    downloader: Downloader,
    ranges: VecDeque<SlabRange>,
    reading: VecDeque<Reading>,
}

/// A range being read. Dropping it stops its task.
struct Reading {
    slab: SlabId,
    /// Bytes that were not handed out yet.
    left: u32,
    pieces: mpsc::Receiver<Result<Bytes, DownloadError>>,
    _task: Box<dyn TaskHandle>,
}

impl ExtentReader {
    /// Starts to read when the first bytes are asked for.
    #[must_use]
    pub fn new(downloader: Downloader, ranges: Vec<SlabRange>) -> Self {
        Self { downloader, ranges: join(ranges), reading: VecDeque::new() }
    }

    /// The next bytes, at most a column; nothing at the end. After an error the reader is at its end.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        self.read_ahead();
        let Some(first) = self.reading.front_mut() else { return Ok(None) };
        let stopped = DownloadError::Stopped { slab: first.slab };
        match first.pieces.recv().await.unwrap_or(Err(stopped)) {
            Ok(bytes) => {
                first.left =
                    first.left.saturating_sub(u32::try_from(bytes.len()).unwrap_or(first.left));
                if first.left == 0 {
                    self.reading.pop_front();
                    self.read_ahead();
                }
                Ok(Some(bytes))
            }
            Err(error) => {
                self.ranges.clear();
                self.reading.clear();
                Err(error)
            }
        }
    }

    fn read_ahead(&mut self) {
        while self.reading.len() < AT_ONCE {
            let Some(mut range) = self.ranges.pop_front() else { return };
            let longest = self.downloader.longest_range();
            let rest = range.split_off(longest.max(SMALL));
            let permit = self.downloader.reserve(range.length);
            if let Some(rest) = rest {
                self.ranges.push_front(rest);
            }
            if permit.is_none() {
                if !self.reading.is_empty() {
                    self.ranges.push_front(range);
                    return;
                }
                let rest = range.split_off(SMALL);
                if let Some(rest) = rest {
                    self.ranges.push_front(rest);
                }
            }
            self.start(range, permit);
        }
    }

    fn start(&mut self, range: SlabRange, permit: Option<OwnedSemaphorePermit>) {
        let (sender, pieces) = mpsc::channel(1);
        let (slab, left) = (range.record.id, range.length);
        let downloader = self.downloader.clone();
        let job = async move {
            let _permit = permit;
            let end = range.offset.saturating_add(range.length);
            let read = downloader.read_into(&range.record, range.offset..end, &sender).await;
            if let Err(error) = read {
                // The reader may be gone; then nobody waits for the bytes.
                let _ = sender.send(Err(error)).await;
            }
        };
        let task = self.downloader.world().spawner.spawn("slab range", Box::pin(job));
        self.reading.push_back(Reading { slab, left, pieces, _task: task });
    }
}

impl SlabRange {
    /// Keeps the first `length` bytes and gives the rest, if there is any.
    fn split_off(&mut self, length: u32) -> Option<Self> {
        let rest = self.length.checked_sub(length).filter(|rest| *rest > 0)?;
        self.length = length;
        let offset = self.offset.saturating_add(length);
        Some(Self { record: self.record.clone(), offset, length: rest })
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
