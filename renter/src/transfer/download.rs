//! Ranges of slabs back from their hosts.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::hash::Digest;
use samara_protocol::journal::SlabRecord;
use samara_protocol::sector::SectorSize;
use samara_protocol::signature::PublicKey;
use samara_protocol::slab::{FrameCipher, FrameError, Geometry, ShardSpan, SlabDescriptor};
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::choice::penalty;
use super::error::DownloadError;
use super::gather::{Gather, Shared};
use super::options::{SlabClass, TransferOptions, UNIT, units};
use crate::contract::{Budget, ContractBook, ContractHandle};
use crate::world::{World, compute};

/// Ranges above this are opened off the runtime's threads.
const INLINE_OPEN: usize = 128 << 10;

/// Reads slabs of one class. A cheap clone; all clones share one cache of descriptors, and all streams one
/// byte budget.
#[derive(Clone)]
pub struct Downloader(Arc<Inner>);

struct Inner {
    book: ContractBook,
    options: TransferOptions,
    descriptors: Mutex<Descriptors>,
    budget: Arc<Semaphore>,
    /// What reads share with each other.
    shared: Shared,
}

/// Opened descriptors by digest; the oldest goes first.
#[derive(Default)]
struct Descriptors {
    known: BTreeMap<Digest, Arc<SlabDescriptor>>,
    order: VecDeque<Digest>,
}

impl Descriptors {
    fn keep(&mut self, digest: Digest, descriptor: Arc<SlabDescriptor>, limit: usize) {
        if self.known.insert(digest, descriptor).is_none() {
            self.order.push_back(digest);
        }
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// One range of one slab about to be read.
struct SlabReading {
    geometry: Geometry,
    spans: Vec<ShardSpan>,
    descriptor: Arc<SlabDescriptor>,
    cipher: Arc<FrameCipher>,
    range: Range<u64>,
}

impl SlabReading {
    fn gather<'a>(&'a self, downloader: &'a Downloader, record: &SlabRecord) -> Gather<'a> {
        let (inner, shared) = (&downloader.0, downloader.0.shared.clone());
        Gather::new(&inner.book, record, self.geometry, &self.descriptor, &self.spans, shared)
    }
}

impl Downloader {
    /// A downloader of files over the live contracts of a book.
    #[must_use]
    pub fn new(book: ContractBook, options: TransferOptions) -> Self {
        Self::of(SlabClass::Data, book, options)
    }

    /// A downloader of slabs of names, which wait for no file: neither for the line nor for memory.
    #[must_use]
    pub fn for_names(book: ContractBook, options: TransferOptions) -> Self {
        let budget = options.names_budget;
        let options =
            TransferOptions { download_budget: budget, rebuild_budget: budget, ..options };
        Self::of(SlabClass::Metadata, book, options)
    }

    fn of(class: SlabClass, book: ContractBook, options: TransferOptions) -> Self {
        let budget = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        let shared = Shared {
            class,
            room: budget(options.rebuild_budget),
            rebuild_budget: options.rebuild_budget,
            patience: options.read_patience,
        };
        let budget = budget(options.download_budget);
        Self(Arc::new(Inner { book, options, descriptors: Mutex::default(), budget, shared }))
    }

    /// The same downloader, paid out of this budget.
    #[must_use]
    pub fn within(&self, budget: Budget) -> Self {
        let Inner { book, options, budget: room, shared, .. } = self.0.as_ref();
        Self(Arc::new(Inner {
            book: book.within(budget),
            options: *options,
            descriptors: Mutex::default(),
            budget: Arc::clone(room),
            shared: shared.clone(),
        }))
    }

    pub(super) fn world(&self) -> &World {
        self.0.book.world()
    }

    /// Bytes of the budgets, that of streams and that of rebuilding, which are free now.
    #[must_use]
    pub fn budget_left(&self) -> u64 {
        let permits = self.0.budget.available_permits() + self.0.shared.room.available_permits();
        permits as u64 * UNIT
    }

    /// The longest range that a stream reads at once.
    pub(super) fn longest_range(&self) -> u32 {
        u32::try_from(self.0.options.download_budget / 2).unwrap_or(u32::MAX)
    }

    /// Takes room for a range of a stream out of the budget, if there is any.
    pub(super) fn reserve(&self, length: u32) -> Option<OwnedSemaphorePermit> {
        self.0.budget.clone().try_acquire_many_owned(units(length.into())).ok()
    }

    /// Plaintext bytes `range` of a slab.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn read(
        &self,
        record: &SlabRecord,
        range: Range<u32>,
    ) -> Result<Vec<u8>, DownloadError> {
        let length = range.end.saturating_sub(range.start) as usize;
        let mut plaintext = Vec::with_capacity(length);
        let Some(reading) = self.prepare(record, range).await? else { return Ok(plaintext) };
        let mut gather = reading.gather(self, record);
        for span in &reading.spans {
            let Some(piece) = gather.next().await? else { break };
            plaintext = self.open(&reading, span, piece, plaintext).await?;
        }
        Ok(plaintext)
    }

    /// As [`Downloader::read`], piece by piece into a channel; stops when its other end is closed.
    pub(super) async fn read_into(
        &self,
        record: &SlabRecord,
        range: Range<u32>,
        pieces: &mpsc::Sender<Result<Bytes, DownloadError>>,
    ) -> Result<(), DownloadError> {
        let Some(reading) = self.prepare(record, range).await? else { return Ok(()) };
        let mut gather = reading.gather(self, record);
        for span in &reading.spans {
            let Some(piece) = gather.next().await? else { break };
            let plaintext = Vec::with_capacity(piece.len());
            let plaintext = self.open(&reading, span, piece, plaintext).await?;
            // Hosts go on sending while the reader is slow, up to what was asked of them.
            let room = tokio::select! {
                biased;
                room = pieces.reserve() => room,
                () = gather.carry_on() => return Ok(()),
            };
            let Ok(room) = room else { return Ok(()) };
            room.send(Ok(plaintext.into()));
        }
        Ok(())
    }

    /// Checks a range and finds the slab's descriptor; nothing for an empty range.
    async fn prepare(
        &self,
        record: &SlabRecord,
        range: Range<u32>,
    ) -> Result<Option<SlabReading>, DownloadError> {
        if range.is_empty() {
            return Ok(None);
        }
        let slab = record.id;
        let geometry = geometry_of(record)?;
        let spans = spans(&geometry, &range).ok_or(DownloadError::Range {
            slab,
            start: range.start,
            end: range.end,
        })?;
        let first = usize::from(spans[0].shard);
        let descriptor = self.descriptor(record, &geometry, first).await?;
        let key = self.0.book.keys().slab(&slab);
        let cipher = Arc::new(FrameCipher::new(key.as_bytes(), slab, geometry));
        let range = u64::from(range.start)..u64::from(range.end);
        Ok(Some(SlabReading { geometry, spans, descriptor, cipher, range }))
    }

    /// Opens the frames of one span behind what was read before.
    async fn open(
        &self,
        reading: &SlabReading,
        span: &ShardSpan,
        sealed: Bytes,
        mut plaintext: Vec<u8>,
    ) -> Result<Vec<u8>, DownloadError> {
        let (cipher, wanted) = (reading.cipher.clone(), reading.range.clone());
        let (first, large) = (span.frames.start, sealed.len() > INLINE_OPEN);
        let open =
            move || cipher.open_onto(first, &sealed, &wanted, &mut plaintext).map(|()| plaintext);
        let opened =
            if large { compute(self.world().compute.as_ref(), open).await } else { open() };
        opened.map_err(|error| {
            let slab = match error {
                FrameError::Index { slab, .. }
                | FrameError::Length { slab, .. }
                | FrameError::Forged { slab, .. } => slab,
            };
            DownloadError::Malformed { slab, reason: error.to_string() }
        })
    }

    /// Whole sectors of a slab by shard number, for repair: each checked against the descriptor,
    /// rebuilt from others where its own host does not give it.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn sectors(
        &self,
        record: &SlabRecord,
        shards: &[u8],
    ) -> Result<Vec<Bytes>, DownloadError> {
        let geometry = geometry_of(record)?;
        let outside = shards.iter().find(|shard| **shard >= geometry.total());
        if let Some(shard) = outside {
            let reason = format!("there is no shard {shard}");
            return Err(DownloadError::Malformed { slab: record.id, reason });
        }
        let Some(first) = shards.first() else { return Ok(Vec::new()) };
        let descriptor = self.descriptor(record, &geometry, usize::from(*first)).await?;
        let spans: Vec<ShardSpan> = shards
            .iter()
            .map(|shard| ShardSpan {
                shard: *shard,
                range: 0..geometry.column().bytes(),
                frames: 0..0,
            })
            .collect();
        let shared = self.0.shared.clone();
        let mut gather = Gather::new(&self.0.book, record, geometry, &descriptor, &spans, shared);
        let mut sectors = Vec::with_capacity(spans.len());
        while let Some(sector) = gather.next().await? {
            sectors.push(sector);
        }
        Ok(sectors)
    }

    /// The most room that a repair can have.
    #[must_use]
    pub fn most_room(&self) -> u64 {
        self.0.options.download_budget
    }

    /// Waits for room for so many bytes of a repair in the budget of all downloads, or for all of it.
    /// Nothing if the node is stopping.
    pub async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let most = units(self.0.options.download_budget);
        self.0.budget.clone().acquire_many_owned(units(bytes).min(most)).await.ok()
    }

    /// The descriptor of a slab, from the cache or any of its hosts.
    ///
    /// # Errors
    /// [`DownloadError::NoDescriptor`], [`DownloadError::Malformed`].
    pub async fn slab_descriptor(
        &self,
        record: &SlabRecord,
    ) -> Result<Arc<SlabDescriptor>, DownloadError> {
        let geometry = geometry_of(record)?;
        self.descriptor(record, &geometry, 0).await
    }

    /// Asks hosts one after the other, the `first` shard's host first and the next when one is slow.
    async fn descriptor(
        &self,
        record: &SlabRecord,
        geometry: &Geometry,
        first: usize,
    ) -> Result<Arc<SlabDescriptor>, DownloadError> {
        let known = self.cache().known.get(&record.descriptor).cloned();
        if let Some(descriptor) = known {
            return Ok(descriptor);
        }
        let mut missing = Vec::new();
        let mut hosts = self.hosts_of(record, first, &mut missing);
        let mut asked: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        loop {
            if let Some(contract) = hosts.pop_front() {
                asked.push(Box::pin(ask(self.0.book.clone(), contract, record.clone())));
            } else if asked.is_empty() {
                return Err(DownloadError::NoDescriptor { slab: record.id, missing });
            }
            let patience: Millis = self.0.options.read_patience;
            let late = async {
                if hosts.is_empty() {
                    std::future::pending::<()>().await;
                }
                self.world().clock.sleep(patience).await;
            };
            tokio::select! {
                biased;
                Some((host, answer)) = asked.next() => match answer {
                    Ok(descriptor) if descriptor.geometry == *geometry => {
                        let descriptor = Arc::new(descriptor);
                        let limit = self.0.options.descriptors;
                        self.cache().keep(record.descriptor, descriptor.clone(), limit);
                        return Ok(descriptor);
                    }
                    Ok(_) => {
                        let reason = "its descriptor has another shape than the record".into();
                        return Err(DownloadError::Malformed { slab: record.id, reason });
                    }
                    Err(reason) => missing.push((Some(host), reason)),
                },
                () = late => {}
            }
        }
    }

    /// The slab's contracts: that of the `first` shard, then the others, sound ones first.
    fn hosts_of(
        &self,
        record: &SlabRecord,
        first: usize,
        missing: &mut Vec<(Option<PublicKey>, String)>,
    ) -> VecDeque<ContractHandle> {
        let mut hosts = Vec::new();
        for (shard, index) in record.hosts.iter().enumerate() {
            match self.0.book.contract(*index) {
                Some(contract) => {
                    let health = self.0.book.reports().health(&contract.host());
                    hosts.push((penalty(&health), shard != first, shard, contract));
                }
                None => missing.push((self.0.book.host(*index), "no live contract".into())),
            }
        }
        hosts.sort_by_key(|(penalty, other, shard, _)| (*penalty, *other, *shard));
        hosts.into_iter().map(|(.., contract)| contract).collect()
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Descriptors> {
        // At worst a poisoned cache has one descriptor too many.
        lock(&self.0.descriptors)
    }
}

/// Who answered, and the descriptor or what is wrong.
type Answer = (PublicKey, Result<SlabDescriptor, String>);

/// Asks one host for a slab's descriptor and checks it against the record.
async fn ask(book: ContractBook, contract: ContractHandle, record: SlabRecord) -> Answer {
    let host = contract.host();
    let tags = contract.slab_tags(book.keys(), &record.id);
    let sealed: Vec<Vec<u8>> = match contract.descriptors(&tags).await {
        Ok(found) => found.into_iter().flatten().collect(),
        Err(error) => return (host, Err(error.to_string())),
    };
    let key = book.keys().slab(&record.id);
    let mut checked = Err("it has no descriptor".to_owned());
    for sealed in sealed {
        match SlabDescriptor::open(key.as_bytes(), &sealed) {
            // A repair files the new descriptor before the journal names it, and does not reach all hosts.
            // A slab is sealed once, so all its descriptors name the same sectors, and whose contract has
            // which says the record.
            Ok(descriptor) if descriptor.slab == record.id => return (host, Ok(descriptor)),
            Ok(_) => checked = Err("its descriptor is of another slab".to_owned()),
            Err(error) => checked = Err(error.to_string()),
        }
    }
    if let Err(reason) = &checked {
        tracing::info!(host = %host.short(), slab = %record.id.short(), reason, "no descriptor");
    }
    (host, checked)
}

/// The shape that a record describes.
fn geometry_of(record: &SlabRecord) -> Result<Geometry, DownloadError> {
    let malformed = |reason: String| DownloadError::Malformed { slab: record.id, reason };
    let total = u8::try_from(record.hosts.len())
        .map_err(|_| malformed(format!("{} shards are too many", record.hosts.len())))?;
    let column = SectorSize::from_log2(record.column).map_err(|e| malformed(e.to_string()))?;
    let frame = 1u32
        .checked_shl(u32::from(record.frame))
        .ok_or_else(|| malformed(format!("no frame has 2^{} bytes", record.frame)))?;
    Geometry::new(record.data, total, column, frame).map_err(|error| malformed(error.to_string()))
}

/// The parts of data shards that hold a range of plaintext; `None` outside of the slab.
fn spans(geometry: &Geometry, range: &Range<u32>) -> Option<Vec<ShardSpan>> {
    let frames = geometry.frames_for(u64::from(range.start)..u64::from(range.end)).ok()?;
    geometry.spans(frames).ok().filter(|spans| !spans.is_empty())
}
