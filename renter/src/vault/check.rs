//! Files read back and compared, and written nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt as _;
use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::journal::{Content, JournalState, SlabRecord, StoredFile, StoredPath};
use samara_protocol::sync::lock;

use super::Vaults;
use super::error::GetError;
use super::plan::{Ranges, SlabTable, Wanted, Work, group};
use super::range::inline_range;
use super::reading::update;
use crate::garbage::ReadLease;
use crate::progress::Meter;
use crate::transfer::{Downloader, ExtentReader, SlabClass};

/// Failures that are told one by one.
const FAILURES: usize = 1_000;

/// Contents to be read back: each once, however many files and versions have it.
pub(crate) struct Contents {
    files: Vec<Stored>,
    /// Where the slabs lie now.
    pub(crate) records: BTreeMap<SlabId, SlabRecord>,
    /// Plaintext bytes that files have in each slab.
    pub(crate) used: BTreeMap<SlabId, u64>,
    /// In so many pieces.
    pub(crate) pieces: BTreeMap<SlabId, u64>,
    /// Keeps the slabs meanwhile.
    _lease: ReadLease,
}

/// Contents and one of the files that have it.
struct Stored {
    vault: String,
    wanted: Wanted,
}

/// A file that is not as it was stored.
#[derive(Debug)]
pub(crate) struct BadFile {
    pub(crate) vault: String,
    pub(crate) path: String,
    pub(crate) error: GetError,
}

/// What came of reading files back.
#[derive(Debug, Default)]
pub(crate) struct FilesChecked {
    /// Contents that were read whole and have their hash.
    pub(crate) whole: u64,
    /// Plaintext bytes read.
    pub(crate) bytes: u64,
    /// What cannot be read or is not as it was stored: the first thousand.
    pub(crate) bad: Vec<BadFile>,
    /// All of these.
    pub(crate) failed: u64,
}

impl Contents {
    /// Contents of some files, by vault.
    pub(crate) fn of(
        vaults: &Vaults,
        then: &JournalState,
        files: &[(&str, &StoredPath, &StoredFile)],
    ) -> Self {
        vaults.journal.read(|now| {
            let each = files.iter().map(|(_, _, file)| *file);
            let table = SlabTable::of(each.clone(), now, Some(then));
            let lease = vaults.slabs.leases().read(table.slabs(), vaults.world.clock.now());
            let (mut used, mut pieces) = (BTreeMap::new(), BTreeMap::new());
            let mut seen = BTreeSet::new();
            let mut contents = Vec::new();
            for (vault, path, file) in files {
                if !seen.insert(identity(file)) {
                    continue;
                }
                let wanted = Wanted {
                    path: (*path).clone(),
                    target: PathBuf::new(),
                    file: (*file).clone(),
                    ranges: table.ranges(file),
                };
                contents.push(Stored { vault: (*vault).to_owned(), wanted });
                for extent in file.content.extents() {
                    let bytes: &mut u64 = used.entry(extent.slab).or_default();
                    *bytes = bytes.saturating_add(extent.length.into());
                    *pieces.entry(extent.slab).or_default() += 1;
                }
            }
            let records = table.into_records();
            Self { files: contents, records, used, pieces, _lease: lease }
        })
    }

    /// What is to be read if these slabs are: contents whole, or in part, or nothing of them.
    fn within(&self, chosen: &BTreeSet<SlabId>) -> (Vec<&str>, Vec<Wanted>, Vec<bool>) {
        let (mut vaults, mut files, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for Stored { vault, wanted } in &self.files {
            let mut wanted = wanted.clone();
            let mut is_whole = true;
            if let Ranges::Slabs(ranges) = &mut wanted.ranges {
                let count = ranges.len();
                ranges.retain(|range| chosen.contains(&range.record.id));
                is_whole = ranges.len() == count;
                if ranges.is_empty() && count > 0 {
                    continue;
                }
            }
            vaults.push(vault.as_str());
            files.push(wanted);
            whole.push(is_whole);
        }
        (vaults, files, whole)
    }
}

/// What tells contents apart: hash, and where the bytes lie.
fn identity(file: &StoredFile) -> (Digest, Vec<(SlabId, u32, u32)>) {
    let extents = match &file.content {
        Content::Inline(_) => Vec::new(),
        content => content.extents().iter().map(|e| (e.slab, e.offset, e.length)).collect(),
    };
    (file.hash, extents)
}

impl Vaults {
    /// Reads what files have in the chosen slabs, so that every seal is opened, and compares the hash of
    /// those that are read whole. One that fails is noted, and the rest goes on.
    pub(crate) async fn check(
        &self,
        contents: &Contents,
        chosen: &BTreeSet<SlabId>,
        meter: Meter<'_>,
    ) -> FilesChecked {
        let (vaults, files, whole) = contents.within(chosen);
        let hosts = self.slabs.downloader(SlabClass::Data);
        let meter = Mutex::new(meter);
        let check = Check { vaults: self, hosts, files: &files, whole: &whole, meter };
        let work = group(&files, self.options.shared_read);
        let tasks = work.into_iter().map(|work| check.work(work));
        let mut done = futures::stream::iter(tasks).buffer_unordered(self.options.parallel_reads);
        let mut checked = FilesChecked::default();
        while let Some(results) = done.next().await {
            for (index, result) in results {
                match result {
                    Ok(bytes) => {
                        checked.bytes = checked.bytes.saturating_add(bytes);
                        checked.whole += u64::from(whole[index]);
                    }
                    Err(error) => {
                        let (vault, path) =
                            (vaults[index].to_owned(), files[index].path.to_string());
                        checked.failed += 1;
                        if checked.bad.len() < FAILURES {
                            checked.bad.push(BadFile { vault, path, error });
                        }
                    }
                }
            }
        }
        checked.bad.sort_by(|a, b| (&a.vault, &a.path).cmp(&(&b.vault, &b.path)));
        checked
    }
}

/// One check under way.
struct Check<'a> {
    vaults: &'a Vaults,
    hosts: Downloader,
    files: &'a [Wanted],
    /// Which of them are read whole.
    whole: &'a [bool],
    meter: Mutex<Meter<'a>>,
}

impl Check<'_> {
    async fn work(&self, work: Work) -> Vec<(usize, Result<u64, GetError>)> {
        match work {
            Work::Alone(index) => vec![(index, self.alone(index).await)],
            Work::Shared { range, files } => {
                let end = range.offset.saturating_add(range.length);
                let read = self.hosts.read(&range.record, range.offset..end).await;
                let mut results = Vec::with_capacity(files.len());
                let bytes = read.map(Bytes::from);
                for (index, span) in files {
                    let result = match &bytes {
                        Ok(bytes) => self.compare(index, bytes.slice(span)).await,
                        // Each may still be readable alone: a part of a slab can outlive the rest.
                        Err(_) => self.alone(index).await,
                    };
                    results.push((index, result));
                }
                results
            }
        }
    }

    /// Reads one content, piece by piece.
    async fn alone(&self, index: usize) -> Result<u64, GetError> {
        let file = &self.files[index];
        let ranges = match &file.ranges {
            Ranges::Inline => {
                return self.compare(index, inline_range(&file.file, 0, file.file.size)).await;
            }
            Ranges::Unknown(slab) => {
                let path = file.path.to_string();
                return Err(GetError::UnknownSlab { path, slab: slab.to_string() });
            }
            Ranges::Slabs(ranges) => ranges.clone(),
        };
        let mut reader = ExtentReader::new(self.hosts.clone(), ranges);
        let mut hasher = blake3::Hasher::new();
        let mut size = 0u64;
        loop {
            let next = reader.next().await;
            let next =
                next.map_err(|source| GetError::Download { path: file.path.to_string(), source })?;
            let Some(bytes) = next else { break };
            let length = bytes.len() as u64;
            size = size.saturating_add(length);
            if self.whole[index] {
                hasher = update(self.vaults, hasher, bytes).await;
            }
            self.count(length, &file.path);
        }
        self.judge(index, size, &hasher)
    }

    /// Compares bytes that are here.
    async fn compare(&self, index: usize, bytes: Bytes) -> Result<u64, GetError> {
        let size = bytes.len() as u64;
        let hasher = update(self.vaults, blake3::Hasher::new(), bytes).await;
        self.count(size, &self.files[index].path);
        self.judge(index, size, &hasher)
    }

    fn judge(&self, index: usize, size: u64, hasher: &blake3::Hasher) -> Result<u64, GetError> {
        let Wanted { file, path, .. } = &self.files[index];
        let hash = Digest(*hasher.finalize().as_bytes());
        if self.whole[index] && (size, hash) != (file.size, file.hash) {
            return Err(GetError::Hash(path.to_string()));
        }
        Ok(size)
    }

    fn count(&self, bytes: u64, path: &StoredPath) {
        let mut meter = lock(&self.meter);
        meter.done = meter.done.saturating_add(bytes);
        meter.report(Some(path.as_str()), self.vaults.world.clock.now());
    }
}
