//! Gets: files back to disk, each verified before it has its name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt as _;
use samara_protocol::hash::Digest;
use samara_protocol::journal::{JournalState, StoredFile, StoredPath};
use samara_protocol::sync::lock;

use super::error::GetError;
use super::names::find;
use super::place::Place;
use super::plan::{Chosen, Destination, Ranges, SlabTable, Wanted, Work, group, select};
use super::range::inline_range;
use super::reading::update;
use super::types::{Conflict, GetReport, GetRequest};
use super::{Vaults, item};
use crate::garbage::ReadLease;
use crate::progress::{Meter, Phase, Progress, ProgressEvent, Unit};
use crate::transfer::{ExtentReader, SlabClass};
use crate::world::{FileError, FileKind, Naming, WriteFile};

/// A time from which files are taken.
pub(crate) enum Source {
    /// What is acknowledged now.
    Now,
    /// What was at an earlier point.
    Then(Box<JournalState>),
}

/// All that one restore is about.
pub(crate) struct Restore {
    /// The folder that the user named: below it no link is followed.
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<Wanted>,
    pub(crate) folders: Vec<PathBuf>,
    /// Keeps the files' slabs meanwhile.
    lease: ReadLease,
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
            let lease = self.slabs.leases().read(table.slabs(), self.world.clock.now());
            Ok(Restore { root, files, folders: chosen.folders, lease })
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
        let _lease = wanted.lease;
        let mut files = Vec::with_capacity(wanted.files.len());
        let mut taken = BTreeSet::new();
        for mut file in wanted.files {
            match self.place(&file, conflict, &mut taken).await {
                Ok(Place::Same) => {
                    report.same_files += 1;
                    continue;
                }
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
                let read = self
                    .vaults
                    .slabs
                    .downloader(SlabClass::Data)
                    .read(&range.record, range.offset..end)
                    .await;
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
        let mut reader = ExtentReader::new(self.vaults.slabs.downloader(SlabClass::Data), ranges);
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
        let mut meter = lock(&self.meter);
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
