//! Nodes for tests of the whole renter: files in memory, a store that can die at any write. The world
//! around them is in [`world`].

pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::units::{Amount, Millis};

use crate::contract::Allowance;
use crate::progress::Silent;
use crate::renter::{Renter, RenterConfig};
use crate::testing::world::{TestNetwork, TestStore};
use crate::transfer::TransferOptions;
use crate::vault::{Conflict, GetReport, GetRequest, PutReport, PutRequest};
use crate::world::{
    FileEntry, FileError, FileKind, Files, Naming, ReadFile, SeekRead, Store, StoreError, World,
    Write, WriteFile,
};

/// A file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) modified: u64,
    pub(crate) executable: bool,
}

/// Files in memory. Folders exist where files are, and where they were made.
#[derive(Clone, Default)]
pub(crate) struct MemoryFiles(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, MemoryFile>,
    folders: BTreeSet<PathBuf>,
    /// What nobody may read.
    closed: BTreeSet<PathBuf>,
    /// A file that somebody else puts there as soon as one of ours is begun.
    intruder: Option<(PathBuf, MemoryFile)>,
}

impl MemoryFiles {
    pub(crate) fn put(&self, path: &str, bytes: &[u8], modified: u64) {
        let file = MemoryFile { bytes: bytes.to_vec(), modified, executable: false };
        self.lock().files.insert(path.into(), file);
    }

    /// Removes a file.
    pub(crate) fn take(&self, path: &str) -> Vec<u8> {
        self.lock().files.remove(Path::new(path)).unwrap().bytes
    }

    pub(crate) fn put_folder(&self, path: &str) {
        self.lock().folders.insert(path.into());
    }

    /// Makes a file or folder unreadable.
    pub(crate) fn close(&self, path: &str) {
        self.lock().closed.insert(path.into());
    }

    /// Has a file appear while the next one is being written.
    pub(crate) fn intrude(&self, path: &str, bytes: &[u8]) {
        let file = MemoryFile { bytes: bytes.to_vec(), modified: 0, executable: false };
        self.lock().intruder = Some((path.into(), file));
    }

    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().files.get(Path::new(path)).map(|file| file.bytes.clone())
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        self.lock().folders.contains(Path::new(path))
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }

    /// Files below a folder, by their path in it.
    pub(crate) fn below(&self, folder: &str) -> BTreeMap<String, MemoryFile> {
        let tree = self.lock();
        let below = tree.files.iter().filter_map(|(path, file)| {
            let path = path.strip_prefix(folder).ok()?;
            Some((path.to_str().unwrap().to_owned(), file.clone()))
        });
        below.collect()
    }

    fn entry(path: &Path, file: &MemoryFile) -> FileEntry {
        FileEntry {
            path: path.to_owned(),
            kind: FileKind::File,
            size: file.bytes.len() as u64,
            modified: file.modified,
            executable: file.executable,
        }
    }

    fn folder(path: &Path) -> FileEntry {
        let kind = FileKind::Folder;
        FileEntry { path: path.into(), kind, size: 0, modified: 0, executable: false }
    }

    fn refused(action: &'static str, path: &Path) -> FileError {
        FileError { action, path: path.into(), reason: "permission denied".into() }
    }
}

struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

#[async_trait]
impl ReadFile for Reader {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        let count = buffer.len().min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

struct Writer {
    files: MemoryFiles,
    path: PathBuf,
    bytes: Vec<u8>,
}

#[async_trait]
impl WriteFile for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), FileError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(
        self: Box<Self>,
        modified: u64,
        executable: bool,
        naming: Naming,
    ) -> Result<bool, FileError> {
        let file = MemoryFile { bytes: self.bytes, modified, executable };
        let mut files = self.files.lock();
        if naming == Naming::IfFree && files.files.contains_key(&self.path) {
            return Ok(false);
        }
        files.files.insert(self.path, file);
        Ok(true)
    }
}

#[async_trait]
impl Files for MemoryFiles {
    async fn walk(&self, root: &Path) -> Result<Vec<Result<FileEntry, FileError>>, FileError> {
        let tree = self.lock();
        let closed = |path: &Path| tree.closed.iter().find(|closed| path.starts_with(closed));
        let files = tree.files.iter().map(|(path, file)| Self::entry(path, file));
        let folders = tree.folders.iter().map(|path| Self::folder(path));
        let mut entries: Vec<FileEntry> = files
            .chain(folders)
            .filter(|entry| entry.path.starts_with(root) && closed(&entry.path).is_none())
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let errors = tree.closed.iter().filter(|path| path.starts_with(root));
        let errors = errors.map(|path| Err(Self::refused("list", path)));
        Ok(entries.into_iter().map(Ok).chain(errors).collect())
    }

    async fn stat(&self, path: &Path) -> Result<Option<FileEntry>, FileError> {
        let tree = self.lock();
        if let Some(file) = tree.files.get(path) {
            return Ok(Some(Self::entry(path, file)));
        }
        let mut known = tree.files.keys().chain(&tree.folders);
        Ok(known.any(|known| known.starts_with(path)).then(|| Self::folder(path)))
    }

    async fn open(&self, path: &Path) -> Result<Box<dyn ReadFile>, FileError> {
        match self.lock().files.get(path) {
            Some(file) => Ok(Box::new(Reader { bytes: file.bytes.clone(), at: 0 })),
            None => {
                Err(FileError { action: "open", path: path.into(), reason: "not there".into() })
            }
        }
    }

    async fn open_seekable(&self, path: &Path) -> Result<Box<dyn SeekRead>, FileError> {
        match self.lock().files.get(path) {
            Some(file) => Ok(Box::new(std::io::Cursor::new(file.bytes.clone()))),
            None => {
                Err(FileError { action: "open", path: path.into(), reason: "not there".into() })
            }
        }
    }

    async fn remove_file(&self, _root: &Path, path: &Path) -> Result<bool, FileError> {
        Ok(self.lock().files.remove(path).is_some())
    }

    async fn create(&self, _root: &Path, path: &Path) -> Result<Box<dyn WriteFile>, FileError> {
        let mut tree = self.lock();
        if let Some((path, file)) = tree.intruder.take() {
            tree.files.insert(path, file);
        }
        Ok(Box::new(Writer { files: self.clone(), path: path.into(), bytes: Vec::new() }))
    }

    async fn create_folder(&self, _root: &Path, path: &Path) -> Result<(), FileError> {
        self.lock().folders.insert(path.into());
        Ok(())
    }
}

/// A store whose machine dies after so many more commits: nothing that comes later is kept.
#[derive(Clone)]
pub(crate) struct MortalStore {
    pub(crate) disk: Arc<TestStore>,
    commits: Arc<AtomicI64>,
}

impl MortalStore {
    pub(crate) fn immortal() -> Self {
        Self { disk: Arc::default(), commits: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    /// The same disk in a machine that dies after `commits` writes.
    pub(crate) fn dies_after(&self, commits: i64) -> Self {
        Self { disk: self.disk.clone(), commits: Arc::new(AtomicI64::new(commits)) }
    }

    /// Another disk with the same bytes.
    pub(crate) async fn copied(&self) -> Self {
        let copy = Self::immortal();
        let rows = self.disk.scan(b"", None, usize::MAX).await.unwrap();
        let writes = rows.into_iter().map(|(key, value)| Write::Put(key, value)).collect();
        copy.disk.commit(writes).await.unwrap();
        copy
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.commits.load(Ordering::SeqCst) < 0
    }
}

#[async_trait]
impl Store for MortalStore {
    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk.read(key).await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.disk.scan(prefix, after, limit).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if self.commits.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.commits.store(-1, Ordering::SeqCst);
            return Err(StoreError { action: "write", reason: "the machine is dead".into() });
        }
        self.disk.commit(writes).await
    }
}

/// A renter's machine among the hosts of a network.
pub(crate) struct Node {
    pub(crate) renter: Renter,
    pub(crate) files: MemoryFiles,
    pub(crate) store: MortalStore,
}

/// Small sectors, no upkeep and no collection by itself.
pub(crate) fn config() -> RenterConfig {
    let mut config = RenterConfig::default();
    config.transfer = TransferOptions {
        maximum_column: samara_protocol::sector::SectorSize::new(64 << 10).unwrap(),
        ..config.transfer
    };
    config.upkeep = Millis::hours(1_000);
    config.repair.interval = Millis::hours(1_000);
    config.garbage.interval = Millis::hours(1_000);
    config.garbage.compare = Millis(0);
    config
}

impl Node {
    /// A machine with this disk.
    pub(crate) async fn with(
        network: &TestNetwork,
        store: MortalStore,
        files: MemoryFiles,
        config: RenterConfig,
    ) -> Self {
        let world = World {
            store: Arc::new(store.clone()),
            files: Arc::new(files.clone()),
            ..network.world.clone()
        };
        let renter = Renter::open(world, network.keys.clone(), config).await.unwrap();
        Self { renter, files, store }
    }

    /// An empty machine.
    pub(crate) async fn blank(network: &TestNetwork) -> Self {
        Self::with(network, MortalStore::immortal(), MemoryFiles::default(), config()).await
    }

    /// A machine that has started fresh and has contracts with all hosts.
    pub(crate) async fn fresh(network: &TestNetwork) -> Self {
        let node = Self::blank(network).await;
        node.start(network).await;
        node
    }

    pub(crate) async fn start(&self, network: &TestNetwork) {
        self.renter.start_fresh().await.unwrap();
        let report = self.renter.set_allowance(allowance(network)).await.unwrap();
        assert_eq!(report.failed, Vec::<String>::new());
        assert_eq!(self.renter.contracts().len(), network.hosts.len());
    }

    pub(crate) async fn put(&self, source: &str, vault: &str) -> PutReport {
        let report = self.renter.put(put(source, vault), &Silent).await.unwrap();
        assert_eq!(report.failed, vec![]);
        report
    }

    pub(crate) async fn get(&self, vault: &str, to: &str, conflict: Conflict) -> GetReport {
        self.renter.get(get(vault, to, conflict), &Silent).await.unwrap()
    }

    /// Loses the machine, disk and all.
    pub(crate) async fn lose(self) {
        self.renter.shutdown().await;
    }
}

pub(crate) fn put(source: &str, vault: &str) -> PutRequest {
    PutRequest {
        source: source.into(),
        vault: vault.into(),
        target: String::new(),
        exclude: Vec::new(),
        checksum: false,
        create_vault: true,
    }
}

pub(crate) fn get(vault: &str, to: &str, conflict: Conflict) -> GetRequest {
    GetRequest {
        vault: vault.into(),
        path: String::new(),
        version: None,
        backup: None,
        destination: to.into(),
        conflict,
        dry_run: false,
    }
}

/// Contracts with every host of the network.
pub(crate) fn allowance(network: &TestNetwork) -> Allowance {
    let parameters = &network.world.chain.genesis().parameters;
    let funds = Amount::coins(1_000);
    let mut allowance = Allowance::for_network(network.hosts.len(), funds, parameters);
    allowance.hosts = u16::try_from(network.hosts.len()).unwrap();
    allowance
}

/// Bytes that look random and differ for each number.
pub(crate) fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
