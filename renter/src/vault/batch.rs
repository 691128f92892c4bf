//! A batch of files on its way into slabs and the journal.

use bytes::Bytes;
use samara_protocol::encoding;
use samara_protocol::hash::Digest;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::{
    Change, Content, Extent, SlabRecord, StoredFile, StoredPath, VaultEvent, VaultId,
};

use super::Vaults;
use super::error::PutError;
use super::large::Large;
use super::names::event;
use super::reading::{Candidate, fill, join, update};
use crate::journal::JournalError;
use crate::progress::Meter;
use crate::transfer::{Packed, Piece, SlabClass, SlabPipeline};
use crate::world::{FileEntry, ReadFile};

/// Bytes of changes that one append takes; the journal allows more.
const APPEND: usize = 256 << 10;
/// Times that a file which changes under our hands is read.
const ATTEMPTS: u32 = 3;

/// A file that was read.
struct Draft {
    path: StoredPath,
    file: StoredFile,
    pieces: Vec<Piece>,
    /// The slabs of a large file.
    large: Option<Box<Large>>,
}

/// Files that are acknowledged together.
#[derive(Default)]
pub(super) struct Batch {
    drafts: Vec<Draft>,
    pipeline: Option<SlabPipeline>,
    inline: u64,
    pub(super) bytes: u64,
}

/// What happened to one file.
pub(super) enum Taken {
    /// It is in the batch.
    Stored {
        /// Its bytes.
        bytes: u64,
        /// Of these, those that an earlier put has sent.
        resumed: u64,
    },
    /// It changed each time while it was read.
    Changing,
    /// It could not be read.
    Failed(crate::world::FileError),
}

/// What a pass over a file's bytes gave.
struct Read {
    size: u64,
    hash: Digest,
    content: Reading,
}

enum Reading {
    Inline(Vec<u8>),
    Pieces(Vec<Piece>),
    Large(Box<Large>),
}

impl Batch {
    pub(super) fn files(&self) -> usize {
        self.drafts.len()
    }

    /// Takes a version whose content is stored already.
    pub(super) fn relist(&mut self, path: StoredPath, file: StoredFile) {
        self.drafts.push(Draft { path, file, pieces: Vec::new(), large: None });
    }

    /// Reads a file into the batch. Only an upload that fails ends the batch.
    pub(super) async fn take(
        &mut self,
        vaults: &Vaults,
        vault: VaultId,
        candidate: &Candidate,
        meter: &mut Meter<'_>,
    ) -> Result<Taken, PutError> {
        let mut entry = candidate.entry.clone();
        let start = meter.mark();
        for _ in 0..ATTEMPTS {
            meter.rewind(start);
            let read = match self.read_file(vaults, vault, candidate, &entry, meter).await {
                Ok(read) => read,
                Err(PutError::File(error)) => return Ok(Taken::Failed(error)),
                Err(error) => return Err(error),
            };
            let after = match vaults.world.files.stat(&candidate.source).await {
                Ok(Some(after)) => after,
                Ok(None) => return Ok(Taken::Changing),
                Err(error) => return Ok(Taken::Failed(error)),
            };
            if read.size == after.size
                && (after.size, after.modified) == (entry.size, entry.modified)
            {
                let (bytes, resumed) = (read.size, read.resumed());
                self.draft(candidate.path.clone(), read, after.modified, after.executable);
                return Ok(Taken::Stored { bytes, resumed });
            }
            entry = after;
        }
        Ok(Taken::Changing)
    }

    async fn read_file(
        &mut self,
        vaults: &Vaults,
        vault: VaultId,
        candidate: &Candidate,
        entry: &FileEntry,
        meter: &mut Meter<'_>,
    ) -> Result<Read, PutError> {
        if entry.size < vaults.options.batch_bytes {
            let mut file = vaults.world.files.open(&candidate.source).await?;
            return self.read(vaults, file.as_mut(), Some(entry.size), meter).await;
        }
        // This file closes the batch, so the memory of its last slab is not held meanwhile.
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.cut().await?;
        }
        let (large, size, hash) = Large::read(vaults, vault, candidate, entry, meter).await?;
        Ok(Read { size, hash, content: Reading::Large(Box::new(large)) })
    }

    /// Reads a stream of unknown length into the batch.
    pub(super) async fn take_stream(
        &mut self,
        vaults: &Vaults,
        path: StoredPath,
        source: &mut dyn ReadFile,
        modified: u64,
        executable: bool,
        meter: &mut Meter<'_>,
    ) -> Result<u64, PutError> {
        let read = self.read(vaults, source, None, meter).await?;
        let size = read.size;
        self.draft(path, read, modified, executable);
        Ok(size)
    }

    fn draft(&mut self, path: StoredPath, read: Read, modified: u64, executable: bool) {
        let Read { size, hash, content } = read;
        self.bytes = self.bytes.saturating_add(size);
        let (content, pieces, large) = match content {
            Reading::Inline(bytes) => {
                self.inline = self.inline.saturating_add(size);
                (Content::Inline(bytes), Vec::new(), None)
            }
            Reading::Pieces(pieces) => (Content::Extents(Vec::new()), pieces, None),
            Reading::Large(large) => (Content::Extents(Vec::new()), Vec::new(), Some(large)),
        };
        let file = StoredFile { size, modified, executable, hash, content };
        self.drafts.push(Draft { path, file, pieces, large });
    }

    async fn read(
        &mut self,
        vaults: &Vaults,
        file: &mut dyn ReadFile,
        expected: Option<u64>,
        meter: &mut Meter<'_>,
    ) -> Result<Read, PutError> {
        let options = &vaults.options;
        let room = options.inline_batch.saturating_sub(self.inline);
        let limit = options.inline.min(room);
        let mut hasher = blake3::Hasher::new();
        let mut held: Option<Vec<u8>> = expected.is_none_or(|size| size <= limit).then(Vec::new);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut size = 0u64;
        // A small file gets a small buffer.
        let chunk = expected.map_or(options.chunk, |size| {
            usize::try_from(size).unwrap_or(usize::MAX).clamp(4 << 10, options.chunk.max(4 << 10))
        });
        loop {
            let mut buffer = vec![0; chunk];
            let read = fill(file, &mut buffer).await?;
            buffer.truncate(read);
            let end = read < chunk;
            if read > 0 {
                size = size.saturating_add(read as u64);
                let bytes = Bytes::from(buffer);
                hasher = update(vaults, hasher, bytes.clone()).await;
                match &mut held {
                    Some(held) if size <= limit => held.extend_from_slice(&bytes),
                    _ => {
                        let before = held.take().unwrap_or_default();
                        for part in [&before[..], &bytes] {
                            let new = self.write(vaults, part).await?;
                            join(&mut pieces, new);
                        }
                    }
                }
                meter.done = meter.done.saturating_add(read as u64);
                meter.report(None, vaults.world.clock.now());
            }
            if end {
                break;
            }
        }
        let hash = Digest(*hasher.finalize().as_bytes());
        let content = held.map_or(Reading::Pieces(pieces), Reading::Inline);
        Ok(Read { size, hash, content })
    }

    async fn write(&mut self, vaults: &Vaults, bytes: &[u8]) -> Result<Vec<Piece>, PutError> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let pipeline =
            self.pipeline.get_or_insert_with(|| vaults.slabs.uploader().pipeline(SlabClass::Data));
        Ok(pipeline.write(bytes).await?)
    }

    /// Waits for the slabs, then has slabs and names acknowledged.
    pub(super) async fn commit(
        self,
        vaults: &Vaults,
        vault: VaultId,
    ) -> Result<Option<JournalPoint>, PutError> {
        if self.drafts.is_empty() {
            return Ok(None);
        }
        let packed = match self.pipeline {
            Some(pipeline) => pipeline.finish().await?,
            None => Packed::default(),
        };
        let mut changes = slab_changes(packed.slabs.iter().map(|slab| slab.record.clone()));
        let mut all = Vec::new();
        for draft in self.drafts {
            let Draft { path, mut file, pieces, large } = draft;
            if let Some(mut large) = large {
                let (records, extents) = large.settle(vaults).await?;
                changes.extend(slab_changes(records.into_iter()));
                file.content = Content::Extents(extents);
                all.push(large);
            } else if !pieces.is_empty() {
                let extent = |piece: &Piece| Extent {
                    slab: packed.record(piece).id,
                    offset: piece.offset,
                    length: piece.length,
                };
                file.content = Content::Extents(pieces.iter().map(extent).collect());
            }
            changes.push(event(vault, VaultEvent::Put { path, file }));
        }
        let point = append(vaults, changes).await?;
        for large in all {
            large.acknowledged(vaults).await?;
        }
        Ok(Some(point))
    }
}

impl Read {
    /// Bytes that an earlier put has sent.
    fn resumed(&self) -> u64 {
        match &self.content {
            Reading::Large(large) => large.resumed_bytes(),
            Reading::Inline(_) | Reading::Pieces(_) => 0,
        }
    }
}

/// Slabs as changes of a bounded size.
fn slab_changes(records: impl Iterator<Item = SlabRecord>) -> Vec<Change> {
    let records: Vec<SlabRecord> = records.collect();
    records.chunks(256).map(|part| Change::SlabsStored(part.to_vec())).collect()
}

/// Appends changes in order, in as few rounds as their sizes allow.
pub(crate) async fn append(
    vaults: &Vaults,
    changes: Vec<Change>,
) -> Result<JournalPoint, JournalError> {
    let mut part = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let length = encoding::encode(&change).len();
        if bytes + length > APPEND && !part.is_empty() {
            vaults.journal.append(std::mem::take(&mut part)).await?;
            bytes = 0;
        }
        bytes += length;
        part.push(change);
    }
    vaults.journal.append(part).await
}
