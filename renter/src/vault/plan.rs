//! What a get is about: which files, where they go, and which of them share a read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{
    Content, JournalState, SlabRecord, StoredFile, StoredPath, VaultState,
};

use super::error::{GetError, VaultError};
use super::names::{folder, version};
use crate::transfer::SlabRange;

/// Bytes fetched in vain between two small files rather than asking twice.
const GAP: u32 = 64 << 10;
/// Longest range asked for at once, so that reading ahead stays bounded.
const RANGE: u32 = 8 << 20;

/// A file to restore.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Path in its vault.
    pub(crate) path: StoredPath,
    /// Where it goes.
    pub(crate) target: PathBuf,
    pub(crate) file: StoredFile,
    pub(crate) ranges: Ranges,
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Ranges {
    /// In these slabs.
    Slabs(Vec<SlabRange>),
    /// In the event itself.
    Inline,
    /// In a slab that is not known.
    Unknown(SlabId),
}

/// The slabs that files refer to: as they are now, else as they were.
pub(crate) struct SlabTable(BTreeMap<SlabId, Arc<SlabRecord>>);

impl SlabTable {
    /// The slabs of some files. `older` is asked for slabs that are not listed any more.
    pub(crate) fn of<'a>(
        files: impl Iterator<Item = &'a StoredFile>,
        now: &JournalState,
        older: Option<&JournalState>,
    ) -> Self {
        let mut table = BTreeMap::new();
        for extent in files.flat_map(|file| file.content.extents()) {
            let find = || {
                let older = older.and_then(|state| state.slabs.get(&extent.slab));
                now.slabs.get(&extent.slab).or(older).map(|slab| Arc::new(slab.record.clone()))
            };
            if !table.contains_key(&extent.slab)
                && let Some(record) = find()
            {
                table.insert(extent.slab, record);
            }
        }
        Self(table)
    }

    /// Takes in where slabs lie now that have moved since.
    pub(crate) fn refresh(&mut self, now: &JournalState) {
        for (id, known) in &mut self.0 {
            if let Some(slab) = now.slabs.get(id).filter(|slab| slab.record != **known) {
                *known = Arc::new(slab.record.clone());
            }
        }
    }

    /// The slabs.
    pub(crate) fn slabs(&self) -> BTreeSet<SlabId> {
        self.0.keys().copied().collect()
    }

    /// Where they lie.
    pub(crate) fn into_records(self) -> BTreeMap<SlabId, SlabRecord> {
        self.0.into_iter().map(|(id, record)| (id, Arc::unwrap_or_clone(record))).collect()
    }

    /// Where a file's bytes are.
    pub(crate) fn ranges(&self, file: &StoredFile) -> Ranges {
        if matches!(file.content, Content::Inline(_)) {
            return Ranges::Inline;
        }
        let mut ranges = Vec::new();
        for extent in file.content.extents() {
            let Some(record) = self.0.get(&extent.slab) else {
                return Ranges::Unknown(extent.slab);
            };
            let (mut offset, mut left) = (extent.offset, extent.length);
            while left > 0 {
                let length = left.min(RANGE);
                ranges.push(SlabRange { record: record.clone(), offset, length });
                offset = offset.saturating_add(length);
                left -= length;
            }
        }
        Ranges::Slabs(ranges)
    }
}

/// What was chosen to be restored.
#[derive(Default)]
pub(crate) struct Chosen {
    /// Files, with where they go.
    pub(crate) files: Vec<(StoredPath, PathBuf, StoredFile)>,
    /// Where folders go that exist by themselves.
    pub(crate) folders: Vec<PathBuf>,
}

impl Chosen {
    pub(crate) fn append(&mut self, mut other: Self) {
        self.files.append(&mut other.files);
        self.folders.append(&mut other.folders);
    }
}

/// Files and folders of a vault at or below a path, with where they go below `destination`.
pub(crate) fn select(
    vault: &VaultState,
    name: &str,
    path: &str,
    number: Option<u64>,
    destination: &Destination<'_>,
) -> Result<Chosen, GetError> {
    let path = folder(path);
    let single = StoredPath::new(path).ok().filter(|path| vault.files.contains_key(path));
    if let Some(single) = single {
        match version(vault, name, &single, number) {
            Ok(found) => {
                let target = destination.of_file(&single);
                let files = vec![(single, target, found.file.clone())];
                return Ok(Chosen { files, folders: Vec::new() });
            }
            // A deleted file whose name is a folder now.
            Err(VaultError::NoFile { .. }) if number.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if number.is_some() {
        let (vault, path) = (name.to_owned(), path.to_owned());
        return Err(VaultError::VersionOfFolder { vault, path }.into());
    }
    let target = |stored: &StoredPath| {
        let rest = stored.as_str()[path.len()..].trim_start_matches('/');
        let parts = rest.split('/').filter(|part| !part.is_empty());
        parts.fold(destination.path.to_owned(), |all, part| all.join(part))
    };
    let files = vault.listed().filter(|(stored, _)| stored.is_below(path));
    let files: Vec<_> = files
        .map(|(stored, version)| (stored.clone(), target(stored), version.file.clone()))
        .collect();
    let folders = vault.folders.iter().filter(|stored| stored.is_below(path));
    let folders: Vec<PathBuf> = folders.map(target).collect();
    if files.is_empty() && folders.is_empty() && !path.is_empty() {
        let (vault, path) = (name.to_owned(), path.to_owned());
        return Err(VaultError::NoFile { vault, path }.into());
    }
    Ok(Chosen { files, folders })
}

/// Where files go.
pub(crate) struct Destination<'a> {
    pub(crate) path: &'a Path,
    /// Whether it is a folder: it exists as one, or is written with a slash at its end.
    pub(crate) is_folder: bool,
}

impl Destination<'_> {
    fn of_file(&self, path: &StoredPath) -> PathBuf {
        let name = path.as_str().rsplit('/').next().unwrap_or(path.as_str());
        if self.is_folder { self.path.join(name) } else { self.path.to_owned() }
    }
}

/// Numbers of files, and where each is in a range read for all of them.
pub(crate) type Spans = Vec<(usize, Range<usize>)>;

/// Files that are fetched by one task.
#[derive(Debug)]
pub(crate) enum Work {
    /// Small files that lie side by side: one range, and where in it each file is.
    Shared { range: SlabRange, files: Spans },
    /// One file, piece by piece.
    Alone(usize),
}

/// Groups files so that neighbours share a read of at most `most` bytes.
pub(crate) fn group(wanted: &[Wanted], most: u32) -> Vec<Work> {
    let mut small: Vec<(usize, &SlabRange)> = Vec::new();
    let mut work = Vec::new();
    for (index, file) in wanted.iter().enumerate() {
        match &file.ranges {
            Ranges::Slabs(ranges) if ranges.len() == 1 && ranges[0].length < most => {
                small.push((index, &ranges[0]));
            }
            _ => work.push(Work::Alone(index)),
        }
    }
    small.sort_by_key(|(index, range)| (range.record.id, range.offset, *index));
    let mut open: Option<(SlabRange, Spans)> = None;
    for (index, range) in small {
        let end = range.offset.saturating_add(range.length);
        if let Some((shared, files)) = &mut open
            && shared.record.id == range.record.id
            && range.offset <= shared.offset.saturating_add(shared.length).saturating_add(GAP)
            && end.saturating_sub(shared.offset) <= most
        {
            shared.length = shared.length.max(end.saturating_sub(shared.offset));
            files.push((index, within(shared, range)));
            continue;
        }
        if let Some((range, files)) = open.take() {
            work.push(Work::Shared { range, files });
        }
        let files = vec![(index, within(range, range))];
        open = Some((range.clone(), files));
    }
    if let Some((range, files)) = open {
        work.push(Work::Shared { range, files });
    }
    work
}

fn within(shared: &SlabRange, range: &SlabRange) -> Range<usize> {
    let start = range.offset.saturating_sub(shared.offset) as usize;
    start..start + range.length as usize
}

#[cfg(test)]
mod tests {
    use samara_protocol::hash::Digest;

    use super::*;

    fn wanted(slab: u8, offset: u32, length: u32) -> Wanted {
        let record = Arc::new(SlabRecord {
            id: SlabId([slab; 16]),
            data: 1,
            column: 22,
            frame: 16,
            hosts: vec![],
            descriptor: Digest::ZERO,
        });
        Wanted {
            path: StoredPath::new("x").unwrap(),
            target: PathBuf::new(),
            file: StoredFile {
                size: u64::from(length),
                modified: 0,
                executable: false,
                hash: Digest::ZERO,
                content: Content::Extents(vec![]),
            },
            ranges: Ranges::Slabs(vec![SlabRange { record, offset, length }]),
        }
    }

    #[test]
    fn neighbours_share_a_read_within_its_bound() {
        let files = [
            wanted(2, 0, 100),
            wanted(1, 500, 100),
            wanted(1, 0, 400),
            wanted(1, 900_000, 10),
            wanted(1, 0, 2 << 20),
        ];
        let work = group(&files, 1 << 20);
        let shared: Vec<(u32, u32, Vec<usize>)> = work
            .iter()
            .filter_map(|work| match work {
                Work::Shared { range, files } => {
                    Some((range.offset, range.length, files.iter().map(|(i, _)| *i).collect()))
                }
                Work::Alone(_) => None,
            })
            .collect();
        assert_eq!(shared, vec![(0, 600, vec![2, 1]), (900_000, 10, vec![3]), (0, 100, vec![0])]);
        assert!(work.iter().any(|work| matches!(work, Work::Alone(4))));
    }
}
