//! A stream of bytes cut into slabs.

use std::collections::VecDeque;
use std::sync::Arc;

use samara_protocol::journal::SlabRecord;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::buffers::{GRANULE, Plaintext};
use super::options::SlabClass;
use super::stream::SlabRange;
use super::upload::{StoredSlab, UploadError, Uploader};
use crate::world::TaskHandle;

/// Slabs of one pipeline that are on their way at once.
const IN_FLIGHT: usize = 2;

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
            record: Arc::new(self.record(piece).clone()),
            offset: piece.offset,
            length: piece.length,
        }
    }
}

/// Packs bytes into slabs and stores them, at most two in flight. Many files may go through one.
///
/// Dropped before [`SlabPipeline::finish`], it stops what is under way; hosts drop it in time.
pub struct SlabPipeline {
    uploader: Uploader,
    class: SlabClass,
    /// Plaintext of the slab that is being filled.
    filling: Plaintext,
    /// How much goes into it; fixed when its first byte comes.
    capacity: usize,
    flying: VecDeque<Flying>,
    stored: Vec<StoredSlab>,
}

impl Drop for SlabPipeline {
    fn drop(&mut self) {
        // Those that have ended well meanwhile would go on to late hosts.
        let landed = self.flying.iter_mut().filter_map(|slab| slab.outcome.try_recv().ok()?.ok());
        for slab in landed.chain(self.stored.drain(..)) {
            slab.settled.abandon();
        }
    }
}

/// A slab on its way. Dropping it stops its task.
struct Flying {
    outcome: oneshot::Receiver<Result<StoredSlab, UploadError>>,
    _task: Box<dyn TaskHandle>,
}

impl SlabPipeline {
    pub(super) fn new(uploader: Uploader, class: SlabClass) -> Self {
        Self {
            uploader,
            class,
            filling: Plaintext::default(),
            capacity: 0,
            flying: VecDeque::new(),
            stored: Vec::new(),
        }
    }

    /// Appends bytes; returns where they lie. Waits while two slabs are in flight, and for the budget.
    ///
    /// # Errors
    /// [`UploadError`] of any slab so far; the pipeline is then of no more use.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, UploadError> {
        let mut pieces = Vec::new();
        let mut left = bytes;
        while !left.is_empty() {
            let piece = self.write_part(left).await?;
            left = &left[piece.length as usize..];
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// Appends as many bytes as go into the slab that is being filled: at least one, if there is one.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`].
    pub async fn write_part(&mut self, bytes: &[u8]) -> Result<Piece, UploadError> {
        let room = self.room().await?;
        let part = &bytes[..room.min(bytes.len())];
        let piece = self.piece(part.len());
        self.filling.bytes.extend_from_slice(part);
        self.send_if_full().await?;
        Ok(piece)
    }

    /// Stores what is left and waits until every slab is acknowledged.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`].
    pub async fn finish(mut self) -> Result<Packed, UploadError> {
        self.flush().await?;
        Ok(Packed { slabs: std::mem::take(&mut self.stored) })
    }

    /// Stores what is left and waits until every slab so far is acknowledged; more may follow.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`].
    pub async fn flush(&mut self) -> Result<(), UploadError> {
        self.cut().await?;
        while !self.flying.is_empty() {
            self.land().await?;
        }
        Ok(())
    }

    /// Sends what is left; the next bytes go into another slab.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`].
    pub async fn cut(&mut self) -> Result<(), UploadError> {
        if self.filling.bytes.is_empty() { Ok(()) } else { self.send().await }
    }

    /// Takes in the slabs that have ended meanwhile, without waiting.
    ///
    /// # Errors
    /// As [`SlabPipeline::write`].
    pub fn collect(&mut self) -> Result<(), UploadError> {
        while let Some(oldest) = self.flying.front_mut() {
            let outcome = match oldest.outcome.try_recv() {
                Ok(outcome) => outcome,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => Err(UploadError::Stopped),
            };
            self.flying.pop_front();
            self.stored.push(outcome?);
        }
        Ok(())
    }

    /// The slabs that are known to be acknowledged, in the order of the bytes, without a gap.
    #[must_use]
    pub fn landed(&self) -> &[StoredSlab] {
        &self.stored
    }

    /// Bytes that still go into the slab that is being filled; never 0. A slab that finds no room for
    /// more plaintext is sent as it is.
    async fn room(&mut self) -> Result<usize, UploadError> {
        loop {
            if self.filling.bytes.is_empty() {
                self.capacity = self.uploader.capacity(self.class)? as usize;
            }
            let filled = self.filling.bytes.len();
            let permitted = self.capacity.min(self.filling.permitted());
            if permitted > filled {
                return Ok(permitted - filled);
            }
            if filled > GRANULE {
                // All of it at once: growing by and by would copy it.
                self.filling.bytes.reserve_exact(self.capacity - filled);
            }
            if !self.uploader.grow(&mut self.filling).await? {
                self.send().await?;
            }
        }
    }

    /// Where the next bytes will lie.
    fn piece(&self, length: usize) -> Piece {
        let slab = self.stored.len() + self.flying.len();
        // Both are at most a slab's capacity.
        Piece { slab, offset: self.filling.bytes.len() as u32, length: length as u32 }
    }

    async fn send_if_full(&mut self) -> Result<(), UploadError> {
        if self.filling.bytes.len() == self.capacity { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), UploadError> {
        if self.flying.len() >= IN_FLIGHT {
            self.land().await?;
        }
        let plaintext = std::mem::take(&mut self.filling);
        let (uploader, class) = (self.uploader.clone(), self.class);
        let (sender, outcome) = oneshot::channel();
        let job = async move {
            // The pipeline may be gone; then nobody waits for the outcome.
            let _ = sender.send(uploader.upload(plaintext, class).await);
        };
        let task = self.uploader.world().spawner.spawn("slab upload", Box::pin(job));
        self.flying.push_back(Flying { outcome, _task: task });
        Ok(())
    }

    /// Waits for the oldest slab in flight.
    async fn land(&mut self) -> Result<(), UploadError> {
        if let Some(oldest) = self.flying.front_mut() {
            let outcome = (&mut oldest.outcome).await;
            self.flying.pop_front();
            self.stored.push(outcome.map_err(|_| UploadError::Stopped)??);
        }
        Ok(())
    }
}
