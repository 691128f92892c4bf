//! A vault of this renter into an archive.
//!
//! ```text
//! snapshot (one look at the acknowledged state) -> events (checkpoint's tree, then the local journal)
//!    -> versions -> files (hosts) -> users, settings, table -> manifest -> signature -> the file has its name
//! ```
//!
//! What is written is the vault at one point of the journal, whatever others write meanwhile: its slabs and
//! those of the checkpoint are leased from that moment on. Dropped before its end, or after an error,
//! nothing remains. A byte that cannot be had, or is not the one that was put, is an error: nothing is
//! left out.

mod error;
mod events;
mod snapshot;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use samara_protocol::signature::SecretKey;

pub use self::error::ExportError;
use self::events::History;
use self::snapshot::Snapshot;
use super::error::WriteError;
use super::format::{ArchivedUser, ArchivedVersion, SettingsDocument, UsersDocument, VaultHead};
use super::seal::Seal;
use super::write::{ArchiveWriter, Written};
use crate::progress::{Meter, Phase, Progress, Unit};
use crate::transfer::{ExtentReader, SlabClass, SlabRange};
use crate::vault::{GetError, Ranges, Vaults, inline_range};
use crate::world::{Naming, WriteFile, compute};

/// Versions that are described, or read as one stream, at once.
const VERSIONS: usize = 512;
/// Bytes of neighbouring versions that are read as one stream.
const STREAM: u64 = 256 << 20;
/// Bytes packed on the runtime's own thread; more go to a compute thread.
const PACK_HERE: usize = 16 << 10;

/// A vault to be written into an archive.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Name of the vault.
    pub vault: String,
    /// The file to make. Nothing may be there.
    pub destination: PathBuf,
    /// Users that the archive tells of, in any order.
    pub users: Vec<ArchivedUser>,
    /// How it is encrypted, if it is.
    pub seal: Option<Seal>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportReport {
    /// The vault, as the archive calls it.
    pub vault: VaultHead,
    /// Counts, sizes and hashes.
    pub written: Written,
    /// Position of the journal that it shows.
    pub position: u64,
    /// Milliseconds that it took.
    pub elapsed: u64,
}

impl Vaults {
    /// Writes a vault as it is acknowledged now. `key` signs.
    pub(crate) async fn export(
        &self,
        request: ExportRequest,
        key: SecretKey,
        progress: &dyn Progress,
    ) -> Result<ExportReport, ExportError> {
        let started = self.world.clock.now();
        let ExportRequest { vault, destination, mut users, seal } = request;
        if self.world.files.stat(&destination).await?.is_some() {
            return Err(ExportError::Exists(destination));
        }
        users.sort();
        users.dedup_by(|a, b| a.id == b.id);
        let snapshot = self.snapshot(&vault)?;
        let (position, vault) = (snapshot.position, snapshot.head.clone());
        let out = self.begin_archive(&destination).await?;
        let head = vault.clone();
        // Where it is encrypted, this takes a while.
        let begin = move || ArchiveWriter::new(head, key, seal.as_ref());
        let writer = Some(compute(self.world.compute.as_ref(), begin).await?);
        let mut export = Export { vaults: self, snapshot, out, writer, progress };
        export.events().await?;
        export.versions().await?;
        export.files().await?;
        let (written, out) = export.end(UsersDocument { users }).await?;
        let now = self.world.clock.now();
        if !out.finish(now, false, Naming::IfFree).await? {
            return Err(ExportError::Exists(destination));
        }
        Ok(ExportReport { vault, written, position, elapsed: now.saturating_sub(started) })
    }

    async fn begin_archive(&self, path: &Path) -> Result<Box<dyn WriteFile>, ExportError> {
        let root = path.parent().unwrap_or(path).components().as_path();
        if let Err(error) = self.world.files.remove_unfinished(root, root).await {
            // They are in nobody's way.
            tracing::debug!(%error, "leftovers stay");
        }
        Ok(self.world.files.create(root, path).await?)
    }
}

/// An export under way.
struct Export<'a> {
    vaults: &'a Vaults,
    snapshot: Snapshot,
    out: Box<dyn WriteFile>,
    /// Elsewhere while a processor is busy with it.
    writer: Option<ArchiveWriter>,
    progress: &'a dyn Progress,
}

/// Versions that are read as one stream, with the bytes of those that lie in the journal itself.
#[derive(Default)]
struct Batch {
    files: Vec<(ArchivedVersion, Option<Bytes>)>,
    ranges: Vec<SlabRange>,
}

/// The bytes of a batch in their order.
struct Stream {
    reader: ExtentReader,
    /// What was read and is the next version's.
    rest: Bytes,
}

impl Export<'_> {
    /// Feeds the writer and writes what comes of it. What is much work is done off the runtime's threads.
    async fn feed<T: Send + 'static>(
        &mut self,
        heavy: bool,
        job: impl FnOnce(&mut ArchiveWriter) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, ExportError> {
        let writer = self.writer.take();
        let mut writer = writer.ok_or(WriteError::Order("a part after an error"))?;
        let run = move || {
            let done = job(&mut writer);
            let bytes = writer.take();
            (done, bytes, writer)
        };
        let (done, bytes, writer) =
            if heavy { compute(self.vaults.world.compute.as_ref(), run).await } else { run() };
        let done = done?;
        self.writer = Some(writer);
        if !bytes.is_empty() {
            self.out.write(Bytes::from(bytes)).await?;
        }
        Ok(done)
    }

    fn now(&self) -> u64 {
        self.vaults.world.clock.now()
    }

    async fn events(&mut self) -> Result<(), ExportError> {
        let mut history = History::begin(self.vaults, &self.snapshot).await?;
        let progress = self.progress;
        let (total, now) = (Some(self.snapshot.events), self.now());
        let mut meter = Meter::new(progress, Phase::Archiving, Unit::Events, total, now);
        while let Some(events) = history.next().await? {
            let count = events.len() as u64;
            let write = move |writer: &mut ArchiveWriter| {
                events.into_iter().try_for_each(|event| writer.event(event))
            };
            self.feed(true, write).await?;
            meter.done = meter.done.saturating_add(count);
            meter.report(None, self.now());
            self.snapshot.lease.renew(self.now());
        }
        history.finish(&self.snapshot)
    }

    /// What is known of all versions.
    async fn versions(&mut self) -> Result<(), ExportError> {
        self.each_part(|writer, version| writer.version(version)).await
    }

    /// Does something for every version, in their order.
    async fn each_part(
        &mut self,
        write: fn(&mut ArchiveWriter, &ArchivedVersion) -> Result<(), WriteError>,
    ) -> Result<(), ExportError> {
        for from in (0..self.snapshot.kept.len()).step_by(VERSIONS) {
            let part = self.snapshot.archived(from, VERSIONS);
            let each = move |writer: &mut ArchiveWriter| {
                part.iter().try_for_each(|version| write(writer, version))
            };
            self.feed(true, each).await?;
        }
        Ok(())
    }

    /// The bytes of all versions.
    async fn files(&mut self) -> Result<(), ExportError> {
        let (progress, total) = (self.progress, Some(self.snapshot.bytes()));
        let mut meter = Meter::new(progress, Phase::Archiving, Unit::Bytes, total, self.now());
        let mut from = 0;
        while let Some(batch) = self.batch(from)? {
            from = from.saturating_add(batch.files.len());
            let downloader = self.vaults.slabs.downloader(SlabClass::Data);
            let reader = ExtentReader::new(downloader, batch.ranges);
            let mut stream = Stream { reader, rest: Bytes::new() };
            for (version, inline) in batch.files {
                self.file(version, inline, &mut stream, &mut meter).await?;
            }
        }
        Ok(())
    }

    /// The versions from one on that are read as one stream; nothing behind the last.
    fn batch(&mut self, from: usize) -> Result<Option<Batch>, ExportError> {
        let now = self.now();
        let Snapshot { head, kept, table, lease, .. } = &mut self.snapshot;
        lease.renew(now);
        self.vaults.journal.read(|state| table.refresh(state));
        let mut batch = Batch::default();
        let mut bytes = 0u64;
        for kept in kept.iter().skip(from).take(VERSIONS) {
            let (Some(stored), Some(version)) = (kept.stored(), kept.archived(&head.sid)) else {
                break;
            };
            bytes = bytes.saturating_add(stored.size);
            if bytes > STREAM && !batch.files.is_empty() {
                break;
            }
            let inline = match table.ranges(stored) {
                Ranges::Inline => Some(inline_range(stored, 0, stored.size)),
                Ranges::Slabs(ranges) => {
                    batch.ranges.extend(ranges);
                    None
                }
                Ranges::Unknown(slab) => {
                    let (path, slab) = (version.path.to_string(), slab.to_string());
                    return Err(GetError::UnknownSlab { path, slab }.into());
                }
            };
            batch.files.push((version, inline));
        }
        Ok(Some(batch).filter(|batch| !batch.files.is_empty()))
    }

    /// The bytes of one version.
    async fn file(
        &mut self,
        version: ArchivedVersion,
        inline: Option<Bytes>,
        stream: &mut Stream,
        meter: &mut Meter<'_>,
    ) -> Result<(), ExportError> {
        let (path, size) = (version.path.clone(), version.size);
        let mut left = if inline.is_some() { 0 } else { size };
        self.feed(false, move |writer| writer.begin_file(version)).await?;
        if let Some(bytes) = inline {
            self.file_bytes(bytes).await?;
            meter.done = meter.done.saturating_add(size);
            meter.report(Some(path.as_str()), self.now());
        }
        while left > 0 {
            let bytes = stream.next(left).await;
            let bytes =
                bytes.map_err(|source| GetError::Download { path: path.to_string(), source })?;
            // Extents that end before the file does: its end finds that its hash differs.
            let Some(bytes) = bytes else { break };
            let length = bytes.len() as u64;
            left = left.saturating_sub(length);
            self.file_bytes(bytes).await?;
            meter.done = meter.done.saturating_add(length);
            meter.report(Some(path.as_str()), self.now());
            self.snapshot.lease.renew(self.now());
        }
        self.feed(false, ArchiveWriter::end_file).await
    }

    async fn file_bytes(&mut self, bytes: Bytes) -> Result<(), ExportError> {
        let heavy = bytes.len() > PACK_HERE;
        self.feed(heavy, move |writer| writer.file_bytes(&bytes)).await
    }

    /// Everything after the last file. The archive still has no name then.
    async fn end(
        mut self,
        users: UsersDocument,
    ) -> Result<(Written, Box<dyn WriteFile>), ExportError> {
        let settings = SettingsDocument::of(&self.snapshot.settings);
        self.feed(false, move |writer| writer.meta(&users, &settings)).await?;
        self.each_part(|writer, version| writer.record(version)).await?;
        while self.feed(true, ArchiveWriter::manifest).await? {}
        let writer = self.writer.take().ok_or(WriteError::Order("the end after an error"))?;
        let finish = move || writer.finish();
        let (written, rest) = compute(self.vaults.world.compute.as_ref(), finish).await?;
        self.out.write(Bytes::from(rest)).await?;
        Ok((written, self.out))
    }
}

impl Stream {
    /// The next bytes, at most so many.
    async fn next(&mut self, most: u64) -> Result<Option<Bytes>, crate::transfer::DownloadError> {
        while self.rest.is_empty() {
            match self.reader.next().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(None),
            }
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Ok(Some(self.rest.split_to(most)))
    }
}
