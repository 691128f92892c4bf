//! The file tree: every file of every vault with its versions, and the folders that were made.
//!
//! ```text
//! key   = vault (16) || path || 0 || number of the version, ordered        a version
//!       = vault (16) || path || 0 || 16                                    a mark
//! value = version: time (vi) || since (vi) || file as in a put event
//!       = mark: folder (1) || deleted (1) || list of version numbers (vi)
//! ```
//!
//! No path has a zero byte, so keys have the order of vault and path, and a path's items are neighbours.
//! Ordered numbers and pieces of long values (a file of many extents) are those of all trees: a number
//! is its length in bytes and its bytes in big endian, without leading zeros; a value over 8 KiB has
//! further pieces under its key and their number.
//!
//! A path has a mark only if it is a folder that was made, or a file that is deleted, or one whose
//! versions do not stand in the order of their numbers, as after a move onto a deleted file: then
//! the mark lists them. Files name slabs by their ids only, so repair changes no file tree.

use serde::{Deserialize, Serialize};

use super::apply::Edits;
use super::pieces::{self, Assembly};
use crate::encoding::{self, DecodeError};
use crate::journal::{FileState, StoredFile, StoredPath, VaultId, Version};

/// Ends a path within a key.
const END: u8 = 0;
/// Stands where a version's number begins, and is longer than any.
const MARK: u8 = 16;

/// What a path has beside versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMark {
    /// Whether a folder was made here.
    pub folder: bool,
    /// Whether the file is no longer listed.
    pub deleted: bool,
    /// The versions in their order, if that is not the order of their numbers.
    pub order: Vec<u64>,
}

/// A version as it is stored; its number is in the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// When it was put, milliseconds since the Unix epoch.
    pub time: u64,
    /// Position of the entry that put it, or gave its bytes their present place.
    pub since: u64,
    /// What it is.
    pub file: StoredFile,
}

/// All that the tree has under one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathEntry {
    /// The vault.
    pub vault: VaultId,
    /// The path.
    pub path: StoredPath,
    /// The file, if there is one.
    pub file: Option<FileState>,
    /// Whether a folder was made here.
    pub folder: bool,
}

/// Why items are no files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileItemError {
    /// A key of another form.
    #[error("the file tree has a key that is none: {0}")]
    Key(String),
    /// Pieces of a value that do not follow each other.
    #[error("the file tree misses a part of '{path}' in vault {vault}")]
    Piece {
        /// The vault.
        vault: VaultId,
        /// The path.
        path: String,
    },
    /// A value that does not decode.
    #[error("'{path}' in vault {vault}: {source}")]
    Value {
        /// The vault.
        vault: VaultId,
        /// The path.
        path: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// A mark that does not fit the versions.
    #[error("'{path}' in vault {vault} is marked as something that it is not")]
    Mark {
        /// The vault.
        vault: VaultId,
        /// The path.
        path: String,
    },
}

/// What all keys of a path start with.
#[must_use]
pub fn path_prefix(vault: &VaultId, path: &StoredPath) -> Vec<u8> {
    let mut key = Vec::with_capacity(VaultId::LEN + path.as_str().len() + 12);
    key.extend_from_slice(&vault.0);
    key.extend_from_slice(path.as_str().as_bytes());
    key.push(END);
    key
}

/// The key of one version.
#[must_use]
pub fn version_key(vault: &VaultId, path: &StoredPath, number: u64) -> Vec<u8> {
    let mut key = path_prefix(vault, path);
    pieces::put_ordered(&mut key, number);
    key
}

/// What all keys of a vault, or of what lies in a folder of it, start with. Names that begin like the
/// folder's are not among them.
#[must_use]
pub fn folder_prefix(vault: &VaultId, folder: Option<&StoredPath>) -> Vec<u8> {
    let mut key = vault.0.to_vec();
    if let Some(folder) = folder {
        key.extend_from_slice(folder.as_str().as_bytes());
        key.push(b'/');
    }
    key
}

impl PathEntry {
    /// The items of this path, in order; none if it is neither file nor folder.
    #[must_use]
    pub fn items(&self) -> Vec<super::Item> {
        let mut items = Vec::new();
        let mut mark = PathMark { folder: self.folder, ..PathMark::default() };
        if let Some(file) = &self.file {
            let mut versions: Vec<&Version> = file.versions.iter().collect();
            versions.sort_by_key(|version| version.number);
            for version in &versions {
                let Version { time, since, .. } = **version;
                let value = FileVersion { time, since, file: version.file.clone() };
                let key = version_key(&self.vault, &self.path, version.number);
                items.extend(pieces::pieces(&key, &value));
            }
            mark.deleted = file.deleted;
            if !file.versions.is_sorted_by_key(|version| version.number) {
                mark.order = file.versions.iter().map(|version| version.number).collect();
            }
        }
        if mark != PathMark::default() {
            let mut key = path_prefix(&self.vault, &self.path);
            key.push(MARK);
            items.extend(pieces::pieces(&key, &mark));
        }
        items
    }

    /// Puts this entry in the place of whatever the tree has under the path.
    pub fn edit(&self, edits: &mut Edits) {
        edits.remove_below(path_prefix(&self.vault, &self.path));
        self.items().into_iter().for_each(|(key, value)| edits.put(key, value));
    }
}

/// Which value of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ValueKey {
    vault: VaultId,
    path: StoredPath,
    /// The version; none for the mark.
    number: Option<u64>,
}

impl ValueKey {
    /// Splits a key into a value's and the number of the piece.
    fn parse(key: &[u8]) -> Option<(Self, u16)> {
        let (vault, rest) = key.split_first_chunk::<{ VaultId::LEN }>()?;
        let end = rest.iter().position(|byte| *byte == END)?;
        let path = std::str::from_utf8(&rest[..end]).ok()?;
        let path = StoredPath::new(path).ok()?;
        let (number, rest) = match rest[end + 1..].split_first()? {
            (&MARK, rest) => (None, rest),
            _ => {
                let (number, rest) = pieces::ordered(&rest[end + 1..])?;
                (Some(number), rest)
            }
        };
        Some((Self { vault: VaultId(*vault), path, number }, pieces::piece_number(rest)?))
    }
}

/// The vault and path that a key of the file tree is about.
///
/// # Errors
/// [`FileItemError::Key`].
pub fn key_path(key: &[u8]) -> Result<(VaultId, StoredPath), FileItemError> {
    let parsed = ValueKey::parse(key).map(|(key, _)| (key.vault, key.path));
    parsed.ok_or_else(|| FileItemError::Key(hex::encode(key)))
}

/// Makes paths of items that come in order.
#[derive(Debug)]
pub struct FileReader {
    values: Assembly<ValueKey>,
    entry: Option<PathEntry>,
}

impl Default for FileReader {
    fn default() -> Self {
        Self { values: Assembly::new(), entry: None }
    }
}

impl FileReader {
    /// Takes the next item; gives the path before it, if that is complete.
    ///
    /// # Errors
    /// [`FileItemError`] for items that are no files.
    pub fn take(&mut self, key: &[u8], value: Vec<u8>) -> Result<Option<PathEntry>, FileItemError> {
        let parsed = ValueKey::parse(key);
        let (key, piece) = parsed.ok_or_else(|| FileItemError::Key(hex::encode(key)))?;
        let (vault, path) = (key.vault, key.path.to_string());
        match self.values.take(key, piece, value) {
            Ok(None) => Ok(None),
            Ok(Some((key, bytes))) => self.value(key, &bytes),
            Err(pieces::OutOfOrder) => Err(FileItemError::Piece { vault, path }),
        }
    }

    /// The last paths, in order.
    ///
    /// # Errors
    /// As [`FileReader::take`].
    pub fn finish(mut self) -> Result<Vec<PathEntry>, FileItemError> {
        let mut entries = Vec::new();
        if let Some((key, bytes)) = self.values.finish() {
            entries.extend(self.value(key, &bytes)?);
        }
        if let Some(last) = self.entry.take() {
            entries.push(last);
        }
        Ok(entries)
    }

    /// Takes a whole value in.
    fn value(&mut self, key: ValueKey, bytes: &[u8]) -> Result<Option<PathEntry>, FileItemError> {
        let (vault, path) = (key.vault, key.path);
        let failed = |source| FileItemError::Value { vault, path: path.to_string(), source };
        let same = |entry: &PathEntry| entry.vault == vault && entry.path == path;
        let done = if self.entry.as_ref().is_some_and(same) { None } else { self.entry.take() };
        let entry = self.entry.get_or_insert_with(|| PathEntry {
            vault,
            path: path.clone(),
            file: None,
            folder: false,
        });
        match key.number {
            Some(number) => {
                let FileVersion { time, since, file } = encoding::decode(bytes).map_err(failed)?;
                let state = entry.file.get_or_insert_default();
                state.push(Version { number, time, since, file });
            }
            None => {
                let mark: PathMark = encoding::decode(bytes).map_err(failed)?;
                let fits = mark_entry(entry, mark);
                let refused = FileItemError::Mark { vault, path: path.to_string() };
                fits.ok_or(refused)?;
            }
        }
        Ok(done)
    }
}

/// Makes an entry what its mark says. None if that cannot be.
fn mark_entry(entry: &mut PathEntry, mark: PathMark) -> Option<()> {
    entry.folder = mark.folder;
    let Some(file) = &mut entry.file else {
        return (!mark.deleted && mark.order.is_empty()).then_some(());
    };
    file.deleted = mark.deleted;
    if mark.order.is_empty() {
        return Some(());
    }
    let mut sorted = mark.order.clone();
    sorted.sort_unstable();
    if !sorted.iter().eq(file.versions.iter().map(|version| &version.number)) {
        return None;
    }
    let mut versions = Vec::with_capacity(mark.order.len());
    for number in &mark.order {
        let index = file.versions.binary_search_by_key(number, |version| version.number).ok()?;
        versions.push(file.versions[index].clone());
    }
    file.versions = versions;
    Some(())
}
