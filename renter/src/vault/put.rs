//! Puts: a file, a folder, a stream.

use std::collections::BTreeSet;
use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};
use samara_protocol::journal::{JournalPoint, StoredFile, StoredPath, VaultEvent, VaultId};

use super::batch::{Batch, Taken, append};
use super::checkpoint::sweep;
use super::error::{PutError, VaultError};
use super::names::{check_file_place, check_folder_place, check_name, event, find};
use super::reading::{Candidate, hash_file};
use super::types::{FileRow, PutReport, PutRequest, PutStreamRequest};
use super::{Vaults, folder, item};
use crate::progress::{Meter, Phase, Progress, ProgressEvent, Unit};
use crate::world::{FileEntry, FileKind, ReadFile};

/// What is known of a file before it is read.
enum Judged {
    /// Its content is stored and nothing about it has changed.
    Unchanged,
    /// Its content is stored; time or mode have changed.
    Relist(StoredFile),
    /// It must be read.
    Store,
}

impl Vaults {
    /// Puts a file or a folder. Batches that were acknowledged stay if a later one fails, and are
    /// skipped as unchanged when the put is tried again.
    pub(crate) async fn put(
        &self,
        request: &PutRequest,
        progress: &dyn Progress,
    ) -> Result<PutReport, PutError> {
        let started = self.world.clock.now();
        let _turn = self.turns.take(request).await;
        self.settle_pending().await?;
        let mut report = PutReport { vault: request.vault.clone(), ..PutReport::default() };
        check_name(&request.vault)?;
        check_target(&request.target)?;
        if !request.create_vault {
            self.journal.read(|state| find(state, &request.vault).map(drop))?;
        }
        let Walked { candidates, folders } = self.walk(request, &mut report, progress).await?;
        let vault = self.find_or_create(&request.vault).await?;
        sweep(self, Some(&request.source)).await?;
        let total = candidates.iter().map(|candidate| candidate.entry.size).sum();
        let mut meter = Meter::new(progress, Phase::Storing, Unit::Bytes, Some(total), started);
        let mut run = Run { vaults: self, vault, report: &mut report, progress };
        let mut rest = candidates.into_iter().peekable();
        let mut full = Batch::default();
        let mut last = None;
        // While one batch is acknowledged, the next is read.
        while rest.peek().is_some() {
            let mut next = Batch::default();
            let commit = full.commit(self, vault);
            let fill = run.fill(&mut next, &mut rest, &mut meter, request.checksum);
            let (committed, filled) = futures::future::join(commit, fill).await;
            last = committed?.or(last);
            // What was read before a failure needs its slabs, which may be the ones that failed.
            filled?;
            full = next;
        }
        last = full.commit(self, vault).await?.or(last);
        last = self.put_folders(vault, folders, &mut report).await?.or(last);
        report.position = match last {
            Some(point) => point.position,
            None => self.journal.read(|state| state.point.position),
        };
        report.elapsed = self.world.clock.now().saturating_sub(started);
        Ok(report)
    }

    /// Puts a stream as one file.
    pub(crate) async fn put_stream(
        &self,
        request: &PutStreamRequest,
        source: &mut dyn ReadFile,
        progress: &dyn Progress,
    ) -> Result<FileRow, PutError> {
        let now = self.world.clock.now();
        self.journal.check_writable()?;
        let path = StoredPath::new(request.path.as_str()).map_err(VaultError::Path)?;
        if !request.create_vault {
            self.journal.read(|state| find(state, &request.vault).map(drop))?;
        }
        let vault = self.find_or_create(&request.vault).await?;
        self.journal.read(|state| match state.vaults.get(&vault) {
            Some(vault) => check_file_place(vault, &request.vault, &path),
            None => Ok(()),
        })?;
        let mut meter = Meter::new(progress, Phase::Storing, Unit::Bytes, None, now);
        let mut batch = Batch::default();
        let modified = request.modified.unwrap_or(now);
        let executable = request.executable;
        batch.take_stream(self, path, source, modified, executable, &mut meter).await?;
        batch.commit(self, vault).await?;
        Ok(self.file(&request.vault, &request.path, None)?)
    }

    /// Changes of an earlier call that no quorum held yet are completed first, so that their files
    /// count as stored.
    async fn settle_pending(&self) -> Result<(), PutError> {
        self.journal.check_writable()?;
        let status = self.journal.status();
        if status.position > status.acknowledged {
            self.journal.confirm().await?;
        }
        Ok(())
    }

    /// Lists empty folders in the vault, as far as they are not there.
    async fn put_folders(
        &self,
        vault: VaultId,
        folders: Vec<StoredPath>,
        report: &mut PutReport,
    ) -> Result<Option<JournalPoint>, PutError> {
        let mut changes = Vec::new();
        for path in folders {
            let placed = self.journal.read(|state| {
                let Some(now) = state.vaults.get(&vault) else { return Ok(false) };
                let is_there = now.folders.contains(&path)
                    || now.listed().any(|(listed, _)| listed.is_below(path.as_str()));
                check_folder_place(now, &report.vault, &path).map(|()| !is_there)
            });
            match placed {
                Ok(true) => changes.push(event(vault, VaultEvent::FolderMade { path })),
                Ok(false) => {}
                Err(error) => report.failed.push(item(path.as_str(), error.code(), &error)),
            }
        }
        if changes.is_empty() {
            return Ok(None);
        }
        report.stored_folders += changes.len() as u64;
        Ok(Some(append(self, changes).await?))
    }

    /// Lists the files that the request is about.
    async fn walk(
        &self,
        request: &PutRequest,
        report: &mut PutReport,
        progress: &dyn Progress,
    ) -> Result<Walked, PutError> {
        let exclude = globs(&request.exclude)?;
        let source = &request.source;
        let root = self.world.files.stat(source).await?;
        let root = root.ok_or_else(|| PutError::NoSource(source.clone()))?;
        let mut found = Walked::default();
        // Files that somebody wants stored and that cannot be: not left out on purpose.
        let mut bad = Vec::new();
        let mut folders = Vec::new();
        // Whatever lies in a folder, it is not an empty one.
        let mut filled = BTreeSet::new();
        let mut skip = |path: &Path, code: &str, reason: &str| {
            let shown = path.display().to_string();
            progress.report(ProgressEvent::Skipped {
                phase: Phase::Walking,
                item: shown.clone(),
                reason: reason.to_owned(),
            });
            report.skipped.push(item(shown, code, reason));
        };
        if root.kind == FileKind::Other {
            skip(source, "not_a_file", "it is a link or a device");
            return Ok(found);
        }
        let entries = match root.kind {
            FileKind::File => vec![Ok(root)],
            _ => self.world.files.walk(source).await?,
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    if !excluded(&exclude, error.path.strip_prefix(source).unwrap_or(&error.path)) {
                        filled.insert(error.path.clone());
                        bad.push((
                            error.path.display().to_string(),
                            "file_failed",
                            error.to_string(),
                        ));
                    }
                    continue;
                }
            };
            let relative = entry.path.strip_prefix(source).unwrap_or(&entry.path);
            if excluded(&exclude, relative) {
                continue;
            }
            filled.extend(entry.path.parent().map(Path::to_owned));
            match entry.kind {
                FileKind::Folder if relative.as_os_str().is_empty() => continue,
                FileKind::Folder => {
                    if let Ok(path) = stored_path(&request.target, source, relative) {
                        folders.push((entry.path, path));
                    }
                    continue;
                }
                FileKind::Other => {
                    skip(&entry.path, "not_a_file", "it is a link or a device");
                    continue;
                }
                FileKind::File => {}
            }
            match stored_path(&request.target, source, relative) {
                Ok(path) => {
                    found.candidates.push(Candidate { source: entry.path.clone(), path, entry });
                }
                Err(reason) => bad.push((entry.path.display().to_string(), "bad_name", reason)),
            }
        }
        for (path, code, reason) in bad {
            progress.report(ProgressEvent::Failed {
                phase: Phase::Walking,
                item: path.clone(),
                reason: reason.clone(),
            });
            report.failed.push(item(path, code, reason));
        }
        let empty = folders.into_iter().filter(|(path, _)| !filled.contains(path));
        found.folders = empty.map(|(_, path)| path).collect();
        Ok(found)
    }

    /// Compares a file with the version that is listed.
    async fn judge(
        &self,
        vault: VaultId,
        candidate: &Candidate,
        checksum: bool,
    ) -> Result<Judged, crate::world::FileError> {
        let current = self.journal.read(|state| {
            let file = state.vaults.get(&vault)?.files.get(&candidate.path)?;
            Some(file.current()?.file.clone())
        });
        let entry = &candidate.entry;
        let Some(current) = current.filter(|current| current.size == entry.size) else {
            return Ok(Judged::Store);
        };
        // What is here and cannot be read there is stored again.
        if !self.slabs.can_read(&current) {
            return Ok(Judged::Store);
        }
        let same = current.modified == entry.modified && current.executable == entry.executable;
        if same && !checksum {
            return Ok(Judged::Unchanged);
        }
        if hash_file(self, &candidate.source).await? != current.hash {
            return Ok(Judged::Store);
        }
        // It may have changed while it was read; then its time has, too.
        if !self.is_same(entry).await? {
            return Ok(Judged::Store);
        }
        if same {
            return Ok(Judged::Unchanged);
        }
        let FileEntry { modified, executable, .. } = *entry;
        Ok(Judged::Relist(StoredFile { modified, executable, ..current }))
    }

    async fn is_same(&self, entry: &FileEntry) -> Result<bool, crate::world::FileError> {
        let now = self.world.files.stat(&entry.path).await?;
        Ok(now.is_some_and(|now| (now.size, now.modified) == (entry.size, entry.modified)))
    }
}

/// What a walk found.
#[derive(Default)]
struct Walked {
    candidates: Vec<Candidate>,
    /// Folders with nothing in them.
    folders: Vec<StoredPath>,
}

/// One put under way.
struct Run<'a> {
    vaults: &'a Vaults,
    vault: VaultId,
    report: &'a mut PutReport,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    /// Reads files into a batch until it is full or none is left.
    async fn fill(
        &mut self,
        batch: &mut Batch,
        rest: &mut std::iter::Peekable<std::vec::IntoIter<Candidate>>,
        meter: &mut Meter<'_>,
        checksum: bool,
    ) -> Result<(), PutError> {
        let options = &self.vaults.options;
        while batch.files() < options.batch_files && batch.bytes < options.batch_bytes {
            let Some(candidate) = rest.next() else { break };
            self.one(batch, &candidate, meter, checksum).await?;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        batch: &mut Batch,
        candidate: &Candidate,
        meter: &mut Meter<'_>,
        checksum: bool,
    ) -> Result<(), PutError> {
        let now = || self.vaults.world.clock.now();
        let name = candidate.path.as_str();
        let size = candidate.entry.size;
        let placed = self.vaults.journal.read(|state| match state.vaults.get(&self.vault) {
            Some(vault) => check_file_place(vault, &self.report.vault, &candidate.path),
            None => Ok(()),
        });
        if let Err(error) = placed {
            self.fail(candidate, error.code(), &error);
            return Ok(());
        }
        match self.vaults.judge(self.vault, candidate, checksum).await {
            Ok(Judged::Unchanged) => {
                self.report.unchanged_files += 1;
                self.report.unchanged_bytes += size;
                meter.done = meter.done.saturating_add(size);
                meter.report(Some(name), now());
            }
            Ok(Judged::Relist(file)) => {
                batch.relist(candidate.path.clone(), file);
                self.report.stored_files += 1;
                self.report.stored_bytes += size;
                meter.done = meter.done.saturating_add(size);
                meter.report(Some(name), now());
            }
            Ok(Judged::Store) => match batch.take(self.vaults, self.vault, candidate, meter).await?
            {
                Taken::Stored { bytes, resumed } => {
                    self.report.stored_files += 1;
                    self.report.stored_bytes += bytes;
                    self.report.resumed_bytes += resumed;
                    let item = name.to_owned();
                    self.progress.report(ProgressEvent::Finished { phase: Phase::Storing, item });
                }
                Taken::Changing => {
                    self.fail(candidate, "changing", &"it changes while it is read; try again");
                }
                Taken::Failed(error) => self.fail(candidate, "file_failed", &error),
            },
            Err(error) => self.fail(candidate, "file_failed", &error),
        }
        Ok(())
    }

    fn fail(&mut self, candidate: &Candidate, code: &str, reason: &dyn std::fmt::Display) {
        let shown = candidate.source.display().to_string();
        self.progress.report(ProgressEvent::Failed {
            phase: Phase::Storing,
            item: shown.clone(),
            reason: reason.to_string(),
        });
        self.report.failed.push(item(shown, code, reason));
    }
}

/// A target that no file could be put at is refused before any file is looked at.
fn check_target(target: &str) -> Result<(), VaultError> {
    let target = target.strip_prefix('/').unwrap_or(target);
    let target = target.strip_suffix('/').unwrap_or(target);
    if !target.is_empty() {
        StoredPath::new(target)?;
    }
    Ok(())
}

fn globs(patterns: &[String]) -> Result<GlobSet, PutError> {
    let bad = |glob: &str, error: &globset::Error| PutError::Glob {
        glob: glob.to_owned(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| bad(pattern, &error))?);
    }
    set.build().map_err(|error| bad(&patterns.join(", "), &error))
}

/// Whether a path, or a folder that it lies in, matches: by its whole path or by its last name.
fn excluded(globs: &GlobSet, relative: &Path) -> bool {
    relative.ancestors().filter(|part| !part.as_os_str().is_empty()).any(|part| {
        globs.is_match(part) || part.file_name().is_some_and(|name| globs.is_match(name))
    })
}

/// Where a file goes in the vault.
fn stored_path(target: &str, source: &Path, relative: &Path) -> Result<StoredPath, String> {
    let utf8 = |path: &Path| path.to_str().map(str::to_owned).ok_or("its name is not UTF-8");
    let into = folder(target);
    let path = if relative.as_os_str().is_empty() {
        let name = source.file_name().ok_or("it has no name")?;
        let name = utf8(Path::new(name))?;
        match (into.is_empty(), target.ends_with('/')) {
            (true, _) => name,
            (false, true) => format!("{into}/{name}"),
            (false, false) => into.to_owned(),
        }
    } else {
        let parts: Result<Vec<String>, &str> =
            relative.components().map(|part| utf8(Path::new(part.as_os_str()))).collect();
        let relative = parts?.join("/");
        if into.is_empty() { relative } else { format!("{into}/{relative}") }
    };
    StoredPath::new(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_folders_or_files() {
        let path = |target, source: &str, relative: &str| {
            stored_path(target, Path::new(source), Path::new(relative)).map(String::from)
        };
        assert_eq!(path("", "/d/a.txt", "").unwrap(), "a.txt");
        assert_eq!(path("b.txt", "/d/a.txt", "").unwrap(), "b.txt");
        assert_eq!(path("in/", "/d/a.txt", "").unwrap(), "in/a.txt");
        assert_eq!(path("/in/", "/d", "x/y").unwrap(), "in/x/y");
        assert_eq!(path("", "/d", "x/y").unwrap(), "x/y");
        assert!(path("", "/d", "x\\y").is_err());
    }

    #[test]
    fn exclusions_match_whole_paths_and_names_of_folders() {
        let set = globs(&["target".into(), "*.tmp".into(), "a/b/**".into()]).unwrap();
        for path in ["target", "x/target/y", "k.tmp", "d/k.tmp", "a/b/c"] {
            assert!(excluded(&set, Path::new(path)), "{path}");
        }
        for path in ["targets", "a/c", "tmp"] {
            assert!(!excluded(&set, Path::new(path)), "{path}");
        }
        assert!(globs(&["[".into()]).is_err());
    }
}
