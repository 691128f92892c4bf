//! A large file: it has slabs of its own, and goes on after those that an earlier put has stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use samara_protocol::hash::Digest;
use samara_protocol::journal::{Extent, SlabRecord, VaultId};

use super::Vaults;
use super::checkpoint::{Checkpoint, Prefix, SlabRow};
use super::error::PutError;
use super::reading::{Candidate, fill, join, update};
use crate::progress::Meter;
use crate::transfer::{Piece, SlabClass, SlabPipeline};
use crate::world::{FileEntry, ReadFile};

/// A large file on its way.
pub(super) struct Large {
    /// None if another put of the same path has it.
    checkpoint: Option<Checkpoint>,
    /// Slabs of earlier puts; they have the first bytes.
    resumed: Vec<SlabRow>,
    /// The slabs after those.
    pipeline: SlabPipeline,
    pieces: Vec<Piece>,
    /// The file's hash at the end of each slab that is not listed yet.
    prefixes: BTreeMap<usize, Prefix>,
}

/// How far a file was read.
struct Reading {
    hasher: blake3::Hasher,
    size: u64,
    /// Resumed slabs whose bytes the file still has.
    verified: usize,
}

impl Reading {
    fn prefix(&self) -> Prefix {
        Prefix { end: self.size, hash: Digest(*self.hasher.finalize().as_bytes()) }
    }
}

impl Large {
    /// Reads a file into slabs. Returns its size and hash besides.
    pub(super) async fn read(
        vaults: &Vaults,
        vault: VaultId,
        candidate: &Candidate,
        entry: &FileEntry,
        meter: &mut Meter<'_>,
    ) -> Result<(Self, u64, Digest), PutError> {
        let mut file = vaults.world.files.open(&candidate.source).await?;
        let (checkpoint, resumed) = match Checkpoint::open(vaults, vault, candidate, entry).await? {
            Some((checkpoint, resumed)) => (Some(checkpoint), resumed),
            None => (None, Vec::new()),
        };
        let pipeline = vaults.slabs.uploader().pipeline(SlabClass::Data);
        let (pieces, prefixes) = (Vec::new(), BTreeMap::new());
        let mut large = Self { checkpoint, resumed, pipeline, pieces, prefixes };
        let mark = meter.mark();
        let name = candidate.path.as_str();
        let whole = match large.pass(vaults, file.as_mut(), name, meter).await? {
            Some(whole) => whole,
            None => {
                // Other bytes behind the same size and time: nothing of what was stored counts.
                if let Some(checkpoint) = &mut large.checkpoint {
                    checkpoint.start_over(vaults).await?;
                }
                large.resumed.clear();
                meter.rewind(mark);
                file = vaults.world.files.open(&candidate.source).await?;
                let again = large.pass(vaults, file.as_mut(), name, meter).await?;
                again.expect("invariant: only resumed slabs can differ, and there are none")
            }
        };
        Ok((large, whole.end, whole.hash))
    }

    /// Bytes that earlier puts have stored.
    pub(super) fn resumed_bytes(&self) -> u64 {
        self.resumed.last().map_or(0, |slab| slab.end)
    }

    /// Reads the file once; nothing if it does not begin with the bytes of the resumed slabs. Nothing is
    /// sent before it is known that it does.
    async fn pass(
        &mut self,
        vaults: &Vaults,
        file: &mut dyn ReadFile,
        name: &str,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Prefix>, PutError> {
        let chunk = vaults.options.chunk;
        let mut reading = Reading { hasher: blake3::Hasher::new(), size: 0, verified: 0 };
        loop {
            let mut buffer = vec![0; chunk];
            let read = fill(file, &mut buffer).await?;
            buffer.truncate(read);
            let mut bytes = Bytes::from(buffer);
            while !bytes.is_empty() {
                if reading.verified == self.resumed.len() {
                    reading = self.store(vaults, reading, &mut bytes, meter).await?;
                    continue;
                }
                let Some(on) = self.skip(vaults, reading, &mut bytes, meter).await else {
                    return Ok(None);
                };
                reading = on;
                if reading.verified == self.resumed.len() {
                    meter.resumed(name, reading.size);
                }
            }
            if read > 0 {
                meter.report(None, vaults.world.clock.now());
            }
            if read < chunk {
                let is_whole = reading.verified == self.resumed.len();
                return Ok(is_whole.then(|| reading.prefix()));
            }
        }
    }

    /// Takes bytes of the next resumed slab; nothing if the slab has others.
    async fn skip(
        &self,
        vaults: &Vaults,
        mut reading: Reading,
        bytes: &mut Bytes,
        meter: &mut Meter<'_>,
    ) -> Option<Reading> {
        let slab = self.resumed.get(reading.verified)?;
        let left = usize::try_from(slab.end.saturating_sub(reading.size)).unwrap_or(usize::MAX);
        let part = bytes.split_to(left.min(bytes.len()));
        let length = part.len() as u64;
        reading.hasher = update(vaults, reading.hasher, part).await;
        reading.size = reading.size.saturating_add(length);
        meter.skip(length);
        if reading.size == slab.end {
            if reading.prefix().hash != slab.prefix {
                return None;
            }
            reading.verified += 1;
        }
        Some(reading)
    }

    /// Takes as many bytes as go into the slab that is being filled.
    async fn store(
        &mut self,
        vaults: &Vaults,
        mut reading: Reading,
        bytes: &mut Bytes,
        meter: &mut Meter<'_>,
    ) -> Result<Reading, PutError> {
        let piece = match self.pipeline.write_part(bytes).await {
            Ok(piece) => piece,
            Err(error) => return Err(self.keep_what_landed(vaults, error.into()).await),
        };
        let part = bytes.split_to(piece.length as usize);
        reading.hasher = update(vaults, reading.hasher, part).await;
        reading.size = reading.size.saturating_add(u64::from(piece.length));
        meter.done = meter.done.saturating_add(u64::from(piece.length));
        self.prefixes.insert(piece.slab, reading.prefix());
        join(&mut self.pieces, vec![piece]);
        let collected = self.pipeline.collect();
        self.save(vaults).await?;
        collected?;
        Ok(reading)
    }

    async fn save(&mut self, vaults: &Vaults) -> Result<(), PutError> {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.save(vaults, self.pipeline.landed(), &mut self.prefixes).await?;
        }
        Ok(())
    }

    /// Lists what is stored before the put fails.
    async fn keep_what_landed(&mut self, vaults: &Vaults, error: PutError) -> PutError {
        // The first error says why; what is not listed is only sent again.
        let _ = self.save(vaults).await;
        error
    }

    /// Waits until all slabs are durable. Returns those that the journal does not list, and where the
    /// file's bytes are.
    pub(super) async fn settle(
        &mut self,
        vaults: &Vaults,
    ) -> Result<(Vec<SlabRecord>, Vec<Extent>), PutError> {
        if let Err(error) = self.pipeline.flush().await {
            return Err(self.keep_what_landed(vaults, error.into()).await);
        }
        self.save(vaults).await?;
        // An append that was cut may have listed slabs without the file.
        let mut records: Vec<SlabRecord> = vaults.journal.read(|state| {
            let new = self.resumed.iter().filter(|slab| !state.slabs.contains_key(&slab.record.id));
            new.map(|slab| slab.record.clone()).collect()
        });
        let whole =
            |slab: &SlabRow| Extent { slab: slab.record.id, offset: 0, length: slab.length };
        let mut extents: Vec<Extent> = self.resumed.iter().map(whole).collect();
        let landed = self.pipeline.landed();
        records.extend(landed.iter().map(|slab| slab.record.clone()));
        extents.extend(self.pieces.iter().map(|piece| Extent {
            slab: landed[piece.slab].record.id,
            offset: piece.offset,
            length: piece.length,
        }));
        Ok((records, extents))
    }

    /// Ends it when the file is acknowledged: late hosts are still waited for, the checkpoint goes.
    pub(super) async fn acknowledged(self, vaults: &Vaults) -> Result<(), PutError> {
        self.pipeline.finish().await?;
        if let Some(checkpoint) = self.checkpoint {
            // The file is stored. Rows that stay because the disk fails are dropped by a later put.
            if let Err(error) = checkpoint.remove(vaults).await {
                tracing::warn!(%error, "a checkpoint of a stored file was not removed");
            }
        }
        Ok(())
    }
}
