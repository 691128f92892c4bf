//! Ranges of slabs back from their hosts.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::journal::SlabRecord;
use samara_protocol::sector::SectorSize;
use samara_protocol::signature::PublicKey;
use samara_protocol::slab::{FrameCipher, Geometry, ShardSpan, SlabDescriptor};
use samara_protocol::units::Millis;

use super::choice::penalty;
use super::gather::Gather;
use super::options::TransferOptions;
use super::stream::{ExtentReader, SlabRange};
use crate::contract::{ContractBook, ContractHandle};
use crate::world::{World, compute};

/// Ranges above this are opened off the runtime's threads.
const INLINE_OPEN: u32 = 128 << 10;

/// Why bytes of a slab could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DownloadError {
    /// Fewer than k hosts gave their part.
    #[error("slab {slab}: {answered} of the {needed} hosts needed gave their part; missing: {}",
        list_missing(.missing))]
    TooFewHosts {
        /// The slab.
        slab: SlabId,
        /// Hosts that answered.
        answered: usize,
        /// Hosts needed, k.
        needed: usize,
        /// Hosts that did not, and why.
        missing: Vec<(Option<PublicKey>, String)>,
    },
    /// No host has a descriptor that the record accepts.
    #[error("slab {slab}: no host has its descriptor; missing: {}", list_missing(.missing))]
    NoDescriptor {
        /// The slab.
        slab: SlabId,
        /// Hosts asked, and what they said.
        missing: Vec<(Option<PublicKey>, String)>,
    },
    /// The record does not describe a slab.
    #[error("slab {slab}: {reason}")]
    Malformed {
        /// The slab.
        slab: SlabId,
        /// What is wrong.
        reason: String,
    },
    /// The node is shutting down.
    #[error("reading slab {slab} was abandoned: the node is stopping")]
    Stopped {
        /// The slab.
        slab: SlabId,
    },
    /// A range outside of the slab.
    #[error("slab {slab} has no bytes {start}..{end}")]
    Range {
        /// The slab.
        slab: SlabId,
        /// First byte.
        start: u32,
        /// First byte after it.
        end: u32,
    },
}

fn list_missing(hosts: &[(Option<PublicKey>, String)]) -> String {
    let name = |host: &Option<PublicKey>| host.map_or("unknown host".into(), |host| host.short());
    hosts
        .iter()
        .map(|(host, reason)| format!("{}: {reason}", name(host)))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reads slabs. A cheap clone; all clones share one cache of descriptors.
#[derive(Clone)]
pub struct Downloader(Arc<Inner>);

struct Inner {
    book: ContractBook,
    options: TransferOptions,
    descriptors: Mutex<Descriptors>,
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

impl Downloader {
    /// A downloader over the live contracts of a book.
    #[must_use]
    pub fn new(book: ContractBook, options: TransferOptions) -> Self {
        Self(Arc::new(Inner { book, options, descriptors: Mutex::default() }))
    }

    pub(super) fn world(&self) -> &World {
        self.0.book.world()
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
        if range.is_empty() {
            return Ok(Vec::new());
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
        let pieces = self.gather(record, &geometry, &descriptor, &spans).await?;
        let key = self.0.book.keys().slab(&slab);
        let length = range.end - range.start;
        let open = move || {
            let cipher = FrameCipher::new(key.as_bytes(), slab, geometry);
            open_spans(&cipher, &geometry, &spans, pieces, &range)
        };
        let opened = if length > INLINE_OPEN {
            compute(self.world().compute.as_ref(), open).await
        } else {
            open()
        };
        opened.map_err(|reason| DownloadError::Malformed { slab, reason })
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
    ) -> Result<Vec<Vec<u8>>, DownloadError> {
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
        self.gather(record, &geometry, &descriptor, &spans).await
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

    /// A list of ranges as one stream of bytes, at most two read ahead.
    #[must_use]
    pub fn stream(&self, ranges: Vec<SlabRange>) -> ExtentReader {
        ExtentReader::new(self.clone(), ranges)
    }

    async fn gather(
        &self,
        record: &SlabRecord,
        geometry: &Geometry,
        descriptor: &SlabDescriptor,
        spans: &[ShardSpan],
    ) -> Result<Vec<Vec<u8>>, DownloadError> {
        let patience = self.0.options.read_patience;
        let gather = Gather::new(&self.0.book, record, *geometry, descriptor, spans, patience);
        Box::pin(gather.run()).await
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
        self.0.descriptors.lock().unwrap_or_else(PoisonError::into_inner)
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
            Ok(descriptor) if descriptor.hash() == record.descriptor => {
                return (host, Ok(descriptor));
            }
            Ok(_) => {
                checked = Err("its descriptor is not the one that the record names".to_owned());
            }
            Err(error) => checked = Err(error.to_string()),
        }
    }
    if let Err(reason) = &checked {
        // Old placements are left at hosts that a repair did not reach, so this alone is no lie.
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

/// Opens the frames of all spans and cuts the wanted bytes out.
fn open_spans(
    cipher: &FrameCipher,
    geometry: &Geometry,
    spans: &[ShardSpan],
    pieces: Vec<Vec<u8>>,
    range: &Range<u32>,
) -> Result<Vec<u8>, String> {
    let each = u64::from(geometry.frame_plain());
    let mut plain = Vec::with_capacity((range.end - range.start) as usize);
    for (span, mut piece) in spans.iter().zip(pieces) {
        let opened =
            cipher.open_run(span.frames.start, &mut piece).map_err(|error| error.to_string())?;
        // Where the wanted range begins and ends in this run of frames.
        let base = u64::from(span.frames.start) * each;
        let from = u64::from(range.start).saturating_sub(base);
        let to = u64::from(range.end).saturating_sub(base).min(opened.len() as u64);
        let part = opened.get(from as usize..to as usize).ok_or("a span outside of the range")?;
        plain.extend_from_slice(part);
    }
    Ok(plain)
}
