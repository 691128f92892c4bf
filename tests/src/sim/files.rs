//! The user's files, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::sync::lock;
use samara_renter::world::{
    FileEntry, FileError, FileKind, Files, Naming, ReadFile, SeekRead, WriteFile,
};

/// Files and folders in memory. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct SimFiles(Arc<Mutex<Tree>>);

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, File>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
struct File {
    bytes: Bytes,
    modified: u64,
    executable: bool,
}

fn error(action: &'static str, path: &Path, reason: &str) -> FileError {
    FileError { action, path: path.to_owned(), reason: reason.to_owned() }
}

impl SimFiles {
    fn lock(&self) -> MutexGuard<'_, Tree> {
        lock(&self.0)
    }

    /// Writes a file and makes its folders.
    pub fn put(&self, path: &Path, bytes: Bytes, modified: u64) {
        let mut tree = self.lock();
        tree.make_parents(path);
        tree.files.insert(path.to_owned(), File { bytes, modified, executable: false });
    }

    /// Everything below a folder, by path relative to it.
    #[must_use]
    pub fn contents(&self, folder: &Path) -> BTreeMap<String, Bytes> {
        let tree = self.lock();
        let below = tree.files.iter().filter_map(|(path, file)| {
            let relative = path.strip_prefix(folder).ok()?.to_str()?.to_owned();
            Some((relative, file.bytes.clone()))
        });
        below.collect()
    }

    /// Removes a folder and everything below.
    pub fn remove(&self, folder: &Path) {
        let mut tree = self.lock();
        tree.files.retain(|path, _| !path.starts_with(folder));
        tree.folders.retain(|path| !path.starts_with(folder));
    }
}

impl Tree {
    fn make_parents(&mut self, path: &Path) {
        self.folders.extend(path.ancestors().skip(1).map(Path::to_owned));
    }

    fn entry(&self, path: &Path) -> Option<FileEntry> {
        if let Some(file) = self.files.get(path) {
            return Some(FileEntry {
                path: path.to_owned(),
                kind: FileKind::File,
                size: file.bytes.len() as u64,
                modified: file.modified,
                executable: file.executable,
            });
        }
        self.folders.contains(path).then(|| FileEntry {
            path: path.to_owned(),
            kind: FileKind::Folder,
            size: 0,
            modified: 0,
            executable: false,
        })
    }
}

#[async_trait]
impl Files for SimFiles {
    async fn walk(&self, root: &Path) -> Result<Vec<Result<FileEntry, FileError>>, FileError> {
        let tree = self.lock();
        let mut paths: Vec<&PathBuf> = tree.files.keys().chain(&tree.folders).collect();
        paths.sort_unstable();
        let below = paths.into_iter().filter(|path| path.starts_with(root));
        let entries: Vec<Result<FileEntry, FileError>> = below
            .filter(|path| *path != root || tree.files.contains_key(*path))
            .filter_map(|path| tree.entry(path))
            .map(Ok)
            .collect();
        if entries.is_empty() && tree.entry(root).is_none() {
            return Err(error("list", root, "it does not exist"));
        }
        Ok(entries)
    }

    async fn stat(&self, path: &Path) -> Result<Option<FileEntry>, FileError> {
        Ok(self.lock().entry(path))
    }

    async fn open(&self, path: &Path) -> Result<Box<dyn ReadFile>, FileError> {
        let tree = self.lock();
        let file = tree.files.get(path).ok_or_else(|| error("open", path, "it does not exist"))?;
        Ok(Box::new(SimReader(file.bytes.clone())))
    }

    async fn open_seekable(&self, path: &Path) -> Result<Box<dyn SeekRead>, FileError> {
        let tree = self.lock();
        let file = tree.files.get(path).ok_or_else(|| error("open", path, "it does not exist"))?;
        Ok(Box::new(std::io::Cursor::new(file.bytes.clone())))
    }

    async fn remove_file(&self, _root: &Path, path: &Path) -> Result<bool, FileError> {
        Ok(self.lock().files.remove(path).is_some())
    }

    async fn create(&self, _root: &Path, path: &Path) -> Result<Box<dyn WriteFile>, FileError> {
        let mut tree = self.lock();
        if tree.folders.contains(path) {
            return Err(error("create", path, "it is a folder"));
        }
        tree.make_parents(path);
        Ok(Box::new(SimWriter { files: self.clone(), path: path.to_owned(), bytes: Vec::new() }))
    }

    async fn create_folder(&self, _root: &Path, path: &Path) -> Result<(), FileError> {
        let mut tree = self.lock();
        tree.make_parents(path);
        tree.folders.insert(path.to_owned());
        Ok(())
    }
}

/// Bytes that are read like a file: in pieces of odd sizes, with an await before each.
#[derive(Clone, Debug)]
pub struct SimReader(pub Bytes);

#[async_trait]
impl ReadFile for SimReader {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        tokio::task::yield_now().await;
        let length = buffer.len().min(self.0.len()).min(7_001);
        buffer[..length].copy_from_slice(&self.0.split_to(length));
        Ok(length)
    }
}

struct SimWriter {
    files: SimFiles,
    path: PathBuf,
    bytes: Vec<u8>,
}

#[async_trait]
impl WriteFile for SimWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), FileError> {
        tokio::task::yield_now().await;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(
        self: Box<Self>,
        modified: u64,
        executable: bool,
        naming: Naming,
    ) -> Result<bool, FileError> {
        tokio::task::yield_now().await;
        let Self { files, path, bytes } = *self;
        let mut tree = files.lock();
        if naming == Naming::IfFree && tree.entry(&path).is_some() {
            return Ok(false);
        }
        tree.files.insert(path, File { bytes: bytes.into(), modified, executable });
        Ok(true)
    }
}
