//! Gets: files back to disk, each verified before it has its name.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use samara_protocol::hash::Digest;
use samara_protocol::journal::{Content, JournalState, StoredFile, StoredPath};

use super::batch::update;
use super::error::{GetError, VaultError};
use super::names::{find, version};
use super::plan::{Chosen, Destination, Ranges, SlabTable, Wanted, Work, group, select};
use super::types::{Conflict, GetReport, GetRequest};
use super::{Vaults, item};
use crate::progress::{Meter, Phase, Progress, ProgressEvent, Unit};
use crate::transfer::{ExtentReader, SlabRange};
use crate::world::{FileError, FileKind, Naming, WriteFile};

/// Most bytes of one [`Vaults::read_range`].
const MAX_RANGE: u64 = 16 << 20;
/// Names tried for a file that is written beside an existing one.
const RENAMES: u32 = 10_000;

/// A time from which files are taken.
pub(crate) enum Source {
    /// What is acknowledged now.
    Now,
    /// What was at an earlier point.
    Then(Box<JournalState>),
}

/// What stands in the way of a file's name.
enum Place {
    Free(PathBuf),
    Replaces(PathBuf),
    Beside(PathBuf),
    Kept,
}

/// All that one restore is about.
pub(crate) struct Restore {
    /// The folder that the user named: below it no link is followed.
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<Wanted>,
    pub(crate) folders: Vec<PathBuf>,
}

/// What became of a file whose bytes are here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Whole,
    /// Something has its name since a moment ago, and was left alone.
    NameTaken,
}

impl Vaults {
    /// Fetches a file, a folder or a vault.
    pub(crate) async fn get(
        &self,
        request: &GetRequest,
        progress: &dyn Progress,
    ) -> Result<GetReport, GetError> {
        let source = match &request.backup {
            None => Source::Now,
            Some(backup) => Source::Then(Box::new(self.at_backup(backup).await?)),
        };
        let path = request.destination.as_path();
        let slash = path.to_str().is_some_and(|text| text.ends_with('/'));
        let is_folder = slash
            || self.world.files.stat(path).await?.is_some_and(|at| at.kind == FileKind::Folder);
        let destination = Destination { path, is_folder };
        let choose = |state: &JournalState| {
            let (_, vault) = find(state, &request.vault)?;
            select(vault, &request.vault, &request.path, request.version, &destination)
        };
        let wanted = self.wanted(&source, path, choose)?;
        if is_folder && !request.dry_run {
            self.check_target(path).await?;
        }
        self.fetch(wanted, request.conflict, request.dry_run, progress).await
    }

    /// Makes a folder to write to, so that what is wrong with it is said once and not for each file.
    pub(crate) async fn check_target(&self, folder: &Path) -> Result<(), FileError> {
        let folder = folder.components().as_path();
        self.world.files.create_folder(folder, folder).await
    }

    /// Chooses files from a time, to be written to `destination` or below it, and finds their slabs.
    pub(crate) fn wanted(
        &self,
        source: &Source,
        destination: &Path,
        choose: impl FnOnce(&JournalState) -> Result<Chosen, GetError>,
    ) -> Result<Restore, GetError> {
        self.journal.read(|now| {
            let older = match source {
                Source::Now => None,
                Source::Then(state) => Some(&**state),
            };
            let chosen = choose(older.unwrap_or(now))?;
            let table = SlabTable::of(chosen.files.iter().map(|(_, _, file)| file), now, older);
            let files = chosen.files.into_iter().map(|(path, target, file)| {
                let ranges = table.ranges(&file);
                Wanted { path, target, file, ranges }
            });
            let files: Vec<Wanted> = files.collect();
            // A single file may be given the destination as its name.
            let named = files.iter().any(|file| file.target == destination);
            let root = destination.parent().filter(|_| named).unwrap_or(destination);
            let root = root.components().as_path().to_owned();
            Ok(Restore { root, files, folders: chosen.folders })
        })
    }

    /// Fetches files and writes them. One that fails is reported, and the rest goes on.
    pub(crate) async fn fetch(
        &self,
        wanted: Restore,
        conflict: Conflict,
        dry_run: bool,
        progress: &dyn Progress,
    ) -> Result<GetReport, GetError> {
        let started = self.world.clock.now();
        let mut report = GetReport { dry_run, ..GetReport::default() };
        self.make_folders(&wanted, &mut report).await?;
        let mut files = Vec::with_capacity(wanted.files.len());
        let mut taken = BTreeSet::new();
        for mut file in wanted.files {
            match self.place(&file.target, conflict, &mut taken).await {
                Ok(Place::Kept) => {
                    report.kept.push(file.path.to_string());
                    continue;
                }
                Ok(Place::Free(target)) => file.target = target,
                Ok(Place::Replaces(target)) => {
                    report.replaced_files += 1;
                    file.target = target;
                }
                Ok(Place::Beside(target)) => {
                    report.renamed.push(target.display().to_string());
                    file.target = target;
                }
                Err(error) => {
                    report.failed.push(item(file.path.as_str(), "file_failed", error));
                    continue;
                }
            }
            files.push(file);
        }
        let total = files.iter().map(|file| file.file.size).sum();
        if dry_run {
            report.restored_files = files.len() as u64;
            report.restored_bytes = total;
            return Ok(report);
        }
        self.clear_unfinished(&wanted.root, &files).await;
        let meter = Meter::new(progress, Phase::Restoring, Unit::Bytes, Some(total), started);
        let naming = match conflict {
            Conflict::Replace => Naming::Replacing,
            Conflict::Keep | Conflict::Rename => Naming::IfFree,
        };
        let root = wanted.root.as_path();
        let run = Run { vaults: self, root, files: &files, naming, meter: Mutex::new(meter) };
        let work = group(&files, self.options.shared_read);
        let tasks = work.into_iter().map(|work| run.work(work));
        let mut done = futures::stream::iter(tasks).buffer_unordered(self.options.parallel_reads);
        while let Some(results) = done.next().await {
            for (index, result) in results {
                let file = &files[index];
                let item = file.path.to_string();
                match result {
                    Ok(Written::NameTaken) if conflict == Conflict::Keep => report.kept.push(item),
                    Ok(Written::NameTaken) => {
                        let reason = "another file took its name while it was fetched; try again";
                        report.failed.push(super::item(item, "name_taken", reason));
                    }
                    Ok(Written::Whole) => {
                        report.restored_files += 1;
                        report.restored_bytes =
                            report.restored_bytes.saturating_add(file.file.size);
                        progress.report(ProgressEvent::Finished { phase: Phase::Restoring, item });
                    }
                    Err(error) => {
                        progress.report(ProgressEvent::Failed {
                            phase: Phase::Restoring,
                            item: item.clone(),
                            reason: error.to_string(),
                        });
                        report.failed.push(super::item(item, error.code(), error));
                    }
                }
            }
        }
        report.failed.sort_by(|a, b| a.path.cmp(&b.path));
        report.kept.sort();
        report.elapsed = self.world.clock.now().saturating_sub(started);
        Ok(report)
    }

    /// Makes the folders that exist by themselves.
    async fn make_folders(&self, wanted: &Restore, report: &mut GetReport) -> Result<(), GetError> {
        for folder in &wanted.folders {
            let existing = self.world.files.stat(folder).await?;
            if existing.is_some_and(|entry| entry.kind == FileKind::Folder) {
                continue;
            }
            if !report.dry_run
                && let Err(error) = self.world.files.create_folder(&wanted.root, folder).await
            {
                report.failed.push(item(folder.display().to_string(), "file_failed", error));
                continue;
            }
            report.restored_folders += 1;
        }
        Ok(())
    }

    /// Clears away what a killed process left where files are about to be written.
    async fn clear_unfinished(&self, root: &Path, files: &[Wanted]) {
        let folders: BTreeSet<&Path> =
            files.iter().filter_map(|file| file.target.parent()).collect();
        for folder in folders {
            match self.world.files.remove_unfinished(root, folder).await {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, folder = %folder.display(), "leftovers removed")
                }
                // They are in nobody's way.
                Err(error) => tracing::debug!(%error, "leftovers stay"),
            }
        }
    }

    /// Decides under which name a file is written.
    async fn place(
        &self,
        target: &Path,
        conflict: Conflict,
        taken: &mut BTreeSet<PathBuf>,
    ) -> Result<Place, FileError> {
        let refuse = |reason: &str| FileError {
            action: "replace",
            path: target.to_owned(),
            reason: reason.to_owned(),
        };
        // Two files of one restore may want one name: vaults `a/b` and `a_b` become one folder.
        let claimed = !taken.insert(target.to_owned());
        let existing = self.world.files.stat(target).await?;
        let kind = match existing {
            None if !claimed => return Ok(Place::Free(target.to_owned())),
            existing => existing.map(|entry| entry.kind),
        };
        match conflict {
            Conflict::Keep => Ok(Place::Kept),
            Conflict::Replace if claimed => {
                Err(refuse("another file of this restore has its name"))
            }
            Conflict::Replace if kind == Some(FileKind::File) => {
                Ok(Place::Replaces(target.to_owned()))
            }
            Conflict::Replace => Err(refuse("it is not a regular file")),
            Conflict::Rename => {
                for number in 1..=RENAMES {
                    let other = beside(target, number);
                    if !taken.contains(&other) && self.world.files.stat(&other).await?.is_none() {
                        taken.insert(other.clone());
                        return Ok(Place::Beside(other));
                    }
                }
                Err(refuse("too many restored copies lie beside it"))
            }
        }
    }

    /// Bytes of one file, at most 16 MiB at once.
    pub(crate) async fn read_range(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
        range: Range<u64>,
    ) -> Result<Bytes, GetError> {
        let length = range.end.saturating_sub(range.start);
        let ranges = match self.locate(name, path, number, range, MAX_RANGE)? {
            Located::Inline(bytes) => return Ok(bytes),
            Located::Slabs(ranges) => ranges,
        };
        let downloader = self.slabs.downloader();
        let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        for part in ranges {
            let end = part.offset.saturating_add(part.length);
            let read = downloader.read(&part.record, part.offset..end).await;
            let read = read.map_err(|source| GetError::Download { path: path.into(), source })?;
            if read.len() as u64 == length {
                return Ok(read.into());
            }
            bytes.extend_from_slice(&read);
        }
        Ok(bytes.freeze())
    }

    /// A range of one file as a stream.
    pub(crate) fn stream_range(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
        range: Range<u64>,
    ) -> Result<FileStream, GetError> {
        let path = path.to_owned();
        Ok(match self.locate(name, &path, number, range, u64::MAX)? {
            Located::Inline(bytes) => FileStream { path, inline: Some(bytes), reader: None },
            Located::Slabs(ranges) => {
                let reader = ExtentReader::new(self.slabs.downloader(), ranges);
                FileStream { path, inline: None, reader: Some(reader) }
            }
        })
    }

    /// Where a range of a file lies that has at most `longest` bytes.
    fn locate(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
        range: Range<u64>,
        longest: u64,
    ) -> Result<Located, GetError> {
        let stored = StoredPath::new(path).map_err(VaultError::Path)?;
        let (file, ranges) = self.journal.read(|state| {
            let (_, vault) = find(state, name)?;
            let file = version(vault, name, &stored, number)?.file.clone();
            let ranges = SlabTable::of(std::iter::once(&file), state, None).ranges(&file);
            Ok::<_, VaultError>((file, ranges))
        })?;
        let Range { start, end } = range;
        if start > end || end > file.size || end - start > longest {
            return Err(GetError::Range { path: path.to_owned(), size: file.size, start, end });
        }
        let ranges = match ranges {
            Ranges::Inline => return Ok(Located::Inline(inline_range(&file, start, end))),
            Ranges::Unknown(slab) => {
                return Err(GetError::UnknownSlab { path: path.into(), slab: slab.to_string() });
            }
            Ranges::Slabs(ranges) => ranges,
        };
        let mut wanted = Vec::new();
        let mut at = 0u64;
        for part in ranges {
            let next = at.saturating_add(u64::from(part.length));
            let (from, to) = (start.max(at), end.min(next));
            if from < to {
                // Both lie within the part, whose length is 32 bits wide.
                let offset = part.offset.saturating_add((from - at) as u32);
                wanted.push(SlabRange { offset, length: (to - from) as u32, ..part });
            }
            at = next;
        }
        Ok(Located::Slabs(wanted))
    }
}

/// Where bytes of a file are.
enum Located {
    Inline(Bytes),
    Slabs(Vec<SlabRange>),
}

/// A range of a file, piece by piece, read ahead within the byte budget of all downloads. Dropped, it
/// stops what is under way.
pub struct FileStream {
    path: String,
    inline: Option<Bytes>,
    reader: Option<ExtentReader>,
}

impl FileStream {
    /// The next bytes; nothing at the end.
    ///
    /// # Errors
    /// [`GetError::Download`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, GetError> {
        if let Some(bytes) = self.inline.take().filter(|bytes| !bytes.is_empty()) {
            return Ok(Some(bytes));
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let next = reader.next().await;
        next.map_err(|source| GetError::Download { path: self.path.clone(), source })
    }
}

fn inline_range(file: &StoredFile, start: u64, end: u64) -> Bytes {
    let Content::Inline(bytes) = &file.content else { return Bytes::new() };
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    Bytes::copy_from_slice(&bytes[at(start)..at(end)])
}

/// `name (restored).ext`, `name (restored 2).ext`, ...
fn beside(target: &Path, number: u32) -> PathBuf {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let (stem, extension) = (text(target.file_stem()), text(target.extension()));
    let mark = if number == 1 { "restored".to_owned() } else { format!("restored {number}") };
    let name = if extension.is_empty() {
        format!("{stem} ({mark})")
    } else {
        format!("{stem} ({mark}).{extension}")
    };
    target.with_file_name(name)
}

/// One fetch under way.
struct Run<'a> {
    vaults: &'a Vaults,
    root: &'a Path,
    files: &'a [Wanted],
    naming: Naming,
    meter: Mutex<Meter<'a>>,
}

impl Run<'_> {
    async fn work(&self, work: Work) -> Vec<(usize, Result<Written, GetError>)> {
        match work {
            Work::Alone(index) => vec![(index, self.alone(&self.files[index]).await)],
            Work::Shared { range, files } => {
                let end = range.offset.saturating_add(range.length);
                let read =
                    self.vaults.slabs.downloader().read(&range.record, range.offset..end).await;
                let mut results = Vec::with_capacity(files.len());
                match read {
                    Ok(bytes) => {
                        let bytes = Bytes::from(bytes);
                        for (index, span) in files {
                            let part = bytes.slice(span);
                            results.push((index, self.whole(&self.files[index], part).await));
                        }
                    }
                    // Each may still be readable alone: a part of a slab can outlive the rest.
                    Err(_) => {
                        for (index, _) in files {
                            results.push((index, self.alone(&self.files[index]).await));
                        }
                    }
                }
                results
            }
        }
    }

    /// Writes a file whose bytes are here.
    async fn whole(&self, file: &Wanted, bytes: Bytes) -> Result<Written, GetError> {
        let mut writer = self.vaults.world.files.create(self.root, &file.target).await?;
        let hasher = update(self.vaults, blake3::Hasher::new(), bytes.clone()).await;
        let size = bytes.len() as u64;
        check(file, size, &hasher)?;
        if size > 0 {
            writer.write(bytes).await?;
        }
        let written = self.finish(file, writer).await?;
        self.count(size, &file.path);
        Ok(written)
    }

    async fn finish(&self, file: &Wanted, writer: Box<dyn WriteFile>) -> Result<Written, GetError> {
        let StoredFile { modified, executable, .. } = file.file;
        let named = writer.finish(modified, executable, self.naming).await?;
        Ok(if named { Written::Whole } else { Written::NameTaken })
    }

    /// Fetches and writes one file, piece by piece.
    async fn alone(&self, file: &Wanted) -> Result<Written, GetError> {
        let ranges = match &file.ranges {
            Ranges::Inline => {
                let bytes = inline_range(&file.file, 0, file.file.size);
                return self.whole(file, bytes).await;
            }
            Ranges::Unknown(slab) => {
                let path = file.path.to_string();
                return Err(GetError::UnknownSlab { path, slab: slab.to_string() });
            }
            Ranges::Slabs(ranges) => ranges.clone(),
        };
        let mut writer = self.vaults.world.files.create(self.root, &file.target).await?;
        let mut reader = ExtentReader::new(self.vaults.slabs.downloader(), ranges);
        let mut hasher = blake3::Hasher::new();
        let mut size = 0u64;
        loop {
            let next = reader
                .next()
                .await
                .map_err(|source| GetError::Download { path: file.path.to_string(), source })?;
            let Some(bytes) = next else { break };
            let length = bytes.len() as u64;
            size = size.saturating_add(length);
            hasher = update(self.vaults, hasher, bytes.clone()).await;
            writer.write(bytes).await?;
            self.count(length, &file.path);
        }
        check(file, size, &hasher)?;
        self.finish(file, writer).await
    }

    fn count(&self, bytes: u64, path: &StoredPath) {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.done = meter.done.saturating_add(bytes);
        meter.report(Some(path.as_str()), self.vaults.world.clock.now());
    }
}

fn check(file: &Wanted, size: u64, hasher: &blake3::Hasher) -> Result<(), GetError> {
    let hash = Digest(*hasher.finalize().as_bytes());
    if size == file.file.size && hash == file.file.hash {
        Ok(())
    } else {
        Err(GetError::Hash(file.path.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_keep_their_extension() {
        let name = |path, number| beside(Path::new(path), number).display().to_string();
        assert_eq!(name("/a/b.txt", 1), "/a/b (restored).txt");
        assert_eq!(name("/a/b.tar.gz", 2), "/a/b.tar (restored 2).gz");
        assert_eq!(name("/a/Makefile", 1), "/a/Makefile (restored)");
    }
}
