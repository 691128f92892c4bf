//! The renter's view of the outside: narrow traits, one for each thing it cannot compute itself.
//!
//! The daemon implements them over libp2p, redb, the file system and tokio; the simulator over plain
//! structs with a seed. A [`World`] is a cheap clone of handles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::{Certificate, Genesis, Transaction, ValidatorSet};
use samara_protocol::contract::ContractId;
use samara_protocol::hash::TransactionId;
use samara_protocol::host::HostAnnouncement;
use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::ledger::state::{Account, Contract};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{ChainTime, Height, Millis};

/// All that a renter is given.
#[derive(Clone)]
pub struct World {
    /// The chain, verified.
    pub chain: Arc<dyn ChainView>,
    /// The hosts.
    pub hosts: Arc<dyn HostClient>,
    /// The renter's own durable cache.
    pub store: Arc<dyn Store>,
    /// The user's files.
    pub files: Arc<dyn Files>,
    /// Clock and timers.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Randomness>,
    /// Tasks.
    pub spawner: Arc<dyn Spawner>,
    /// Work that keeps a processor busy.
    pub compute: Arc<dyn Compute>,
}

/// Why the chain could not be asked or did not answer well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No peer could be reached.
    #[error("no chain peer answers: {0}")]
    Unreachable(String),
    /// A peer's answer does not verify.
    #[error("chain peer gave a false answer: {0}")]
    False(String),
    /// A transaction was refused.
    #[error("transaction refused: {0}")]
    Refused(String),
    /// A transaction was accepted and then dropped.
    #[error("transaction {0} was dropped before a block included it")]
    Dropped(TransactionId),
}

/// The chain as a light client sees it. Implementations verify before they answer, except
/// [`ChainView::batch`] and [`ChainView::decision`], whose caller verifies.
#[async_trait]
pub trait ChainView: Send + Sync {
    /// The pinned genesis document.
    fn genesis(&self) -> &Genesis;
    /// Time of the newest verified header that is known here; the genesis' before the first. Asks nobody.
    fn time(&self) -> ChainTime;
    /// The newest verified header; nothing before the first block.
    async fn tip(&self) -> Result<Option<Finalized>, ChainError>;
    /// Waits for a verified tip above `height`.
    async fn tip_above(&self, height: Height) -> Result<Finalized, ChainError>;
    /// An account; empty if it was never used.
    async fn account(&self, key: &PublicKey) -> Result<Account, ChainError>;
    /// A live contract.
    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, ChainError>;
    /// All announced hosts, ordered by key.
    async fn announced_hosts(&self) -> Result<Vec<(PublicKey, HostAnnouncement)>, ChainError>;
    /// Hands in a transaction.
    async fn submit(&self, transaction: Transaction) -> Result<TransactionId, ChainError>;
    /// Waits until a submitted transaction is in a block.
    async fn included(&self, id: &TransactionId) -> Result<Height, ChainError>;
    /// Headers and records of consecutive blocks; *not verified*. A caller that walks on finds the next
    /// ones fetched already, where that saves time; one that asks again is given another peer's answer.
    async fn batch(&self, from: Height, limit: u32) -> Result<Vec<ScannedBlock>, ChainError>;
    /// Validator set and certificate of a height; *not verified*.
    async fn decision(&self, height: Height) -> Result<(ValidatorSet, Certificate), ChainError>;
    /// How many chain peers answered lately: a seed that "owns nothing" needs more than one witness.
    async fn peers(&self) -> usize;
}

/// Why a host gave no usable answer. A refusal is an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostCallError {
    /// It could not be reached, or the connection broke.
    #[error("host {host} cannot be reached: {reason}", host = .host.short())]
    Unreachable {
        /// The host.
        host: PublicKey,
        /// What failed.
        reason: String,
    },
    /// It did not answer in time.
    #[error("host {host} did not answer in time", host = .host.short())]
    TimedOut {
        /// The host.
        host: PublicKey,
    },
    /// Its answer breaks the protocol, does not verify or goes back in time.
    #[error("host {host} gave a false answer: {reason}", host = .host.short())]
    False {
        /// The host.
        host: PublicKey,
        /// What is wrong with it.
        reason: String,
    },
}

impl HostCallError {
    /// The host that was called.
    #[must_use]
    pub const fn host(&self) -> &PublicKey {
        match self {
            Self::Unreachable { host, .. } | Self::TimedOut { host } | Self::False { host, .. } => {
                host
            }
        }
    }
}

/// Which connection a request takes, so that bulk never delays an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Heads, revisions, prices: small, urgent.
    Control,
    /// Sectors.
    Bulk,
}

/// Requests to hosts.
#[async_trait]
pub trait HostClient: Send + Sync {
    /// Asks one host; bounded in time by the implementation.
    async fn call(
        &self,
        host: &PublicKey,
        lane: Lane,
        request: HostRequest,
    ) -> Result<HostResponse, HostCallError>;
}

/// The store failed: the disk is full or broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the renter's store failed to {action}: {reason}")]
pub struct StoreError {
    /// What was attempted.
    pub action: &'static str,
    /// What the store said.
    pub reason: String,
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Vec<u8>),
}

/// The renter's local store: an ordered map that survives crashes. A cache of what the network
/// holds, except for [durable progress](crate::world) of things under way.
#[async_trait]
pub trait Store: Send + Sync {
    /// The value of a key.
    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keys with a prefix, in order, with their values; at most `limit`, starting after `after`.
    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;
    /// Writes all or nothing, durable when it returns.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;
}

/// Rows of a store below a prefix, in order and a page at a time: no table is so long that it must fit
/// into memory at once. Rows that came may be deleted before the next page is asked for.
pub(crate) struct Pages<'a> {
    store: &'a dyn Store,
    prefix: &'a [u8],
    after: Option<Vec<u8>>,
    ended: bool,
}

/// Key and value.
pub(crate) type StoredRow = (Vec<u8>, Vec<u8>);

impl<'a> Pages<'a> {
    /// Most rows of a page.
    pub(crate) const ROWS: usize = 512;

    /// All rows below a prefix.
    pub(crate) fn below(store: &'a dyn Store, prefix: &'a [u8]) -> Self {
        Self { store, prefix, after: None, ended: false }
    }

    /// Only what comes after a key.
    pub(crate) fn after(self, key: Vec<u8>) -> Self {
        Self { after: Some(key), ..self }
    }

    /// The next rows; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<StoredRow>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.scan(self.prefix, self.after.as_deref(), Self::ROWS).await?;
        self.ended = page.len() < Self::ROWS;
        let Some((last, _)) = page.last() else { return Ok(None) };
        self.after = Some(last.clone());
        Ok(Some(page))
    }

    /// All that is left: for tables with a row for each host or contract.
    pub(crate) async fn collect(mut self) -> Result<Vec<StoredRow>, StoreError> {
        let mut rows = Vec::new();
        while let Some(page) = self.next().await? {
            rows.extend(page);
        }
        Ok(rows)
    }

    /// Removes all that is left, a page in a commit.
    pub(crate) async fn delete(mut self) -> Result<(), StoreError> {
        while let Some(page) = self.next().await? {
            let deletes = page.into_iter().map(|(key, _)| Write::Delete(key)).collect();
            self.store.commit(deletes).await?;
        }
        Ok(())
    }
}

/// A user's file or folder could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {path}: {reason}", path = .path.display())]
pub struct FileError {
    /// What was attempted.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub reason: String,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link or a device: never followed, never stored.
    Other,
}

/// One entry of a folder walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute path.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Last change, milliseconds since the Unix epoch.
    pub modified: u64,
    /// Whether the owner may execute it.
    pub executable: bool,
}

/// A file open for reading.
#[async_trait]
pub trait ReadFile: Send {
    /// Fills as much of `buffer` as the file has left; returns the bytes read, 0 at the end.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError>;
}

/// Bytes that can be read from any place; used off the runtime's threads.
pub trait SeekRead: std::io::Read + std::io::Seek + Send {}

impl<T: std::io::Read + std::io::Seek + Send> SeekRead for T {}

/// A file being written: invisible under its final name until [`WriteFile::finish`].
#[async_trait]
pub trait WriteFile: Send {
    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> Result<(), FileError>;
    /// Makes it durable and gives it its name. Returns whether it has it: one that is taken stays as
    /// it is, unless it is to be replaced. Dropped unfinished or without its name, nothing remains.
    async fn finish(
        self: Box<Self>,
        modified: u64,
        executable: bool,
        naming: Naming,
    ) -> Result<bool, FileError>;
}

/// What a finished file does about something that has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// It takes the name only if it is free at that very moment.
    IfFree,
    /// It replaces what is there.
    Replacing,
}

/// The user's files.
#[async_trait]
pub trait Files: Send + Sync {
    /// Everything below a folder (or the one file), sorted by path; links are listed, not followed.
    /// What cannot be looked at is an error among the entries, and the rest is listed all the same.
    async fn walk(&self, root: &Path) -> Result<Vec<Result<FileEntry, FileError>>, FileError>;
    /// What is at a path; nothing if there is nothing.
    async fn stat(&self, path: &Path) -> Result<Option<FileEntry>, FileError>;
    /// Opens for reading.
    async fn open(&self, path: &Path) -> Result<Box<dyn ReadFile>, FileError>;
    /// Opens for reading from any place.
    async fn open_seekable(&self, path: &Path) -> Result<Box<dyn SeekRead>, FileError>;
    /// Removes a file below `root`; whether there was one. A link is removed, not followed.
    async fn remove_file(&self, root: &Path, path: &Path) -> Result<bool, FileError>;
    /// Starts a file below `root`, making its parent folders. `root` may be a link; a link below it is
    /// refused and not followed, here and in the methods that follow.
    async fn create(&self, root: &Path, path: &Path) -> Result<Box<dyn WriteFile>, FileError>;
    /// Makes a folder, which is `root` or below it, and its parents. One that is there must be writable.
    async fn create_folder(&self, root: &Path, path: &Path) -> Result<(), FileError>;
    /// Removes what an earlier process that was killed left of unfinished files in a folder. Returns how
    /// many; nothing where a crash leaves nothing.
    async fn remove_unfinished(&self, _root: &Path, _folder: &Path) -> Result<u64, FileError> {
        Ok(0)
    }
}

/// Clock and timers of the renter's machine. Contract terms run in chain time, never in this.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> u64;
    /// Completes after a span.
    fn sleep(&self, span: Millis) -> BoxFuture<'static, ()>;
}

/// Random bytes fit for keys.
pub trait Randomness: Send + Sync {
    /// Fills a buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// Random bytes as an array.
pub fn random_bytes<const N: usize>(random: &dyn Randomness) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// A running task; dropped, it is stopped.
pub trait TaskHandle: Send + Sync {
    /// Whether it has ended.
    fn is_finished(&self) -> bool;
    /// Lets the task run on without its handle.
    fn detach(self: Box<Self>);
}

/// Starts tasks.
pub trait Spawner: Send + Sync {
    /// Starts a task that is stopped when its handle is dropped.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle>;
}

/// Runs work that keeps a processor busy (sealing, coding, hashing) off the runtime's threads.
pub trait Compute: Send + Sync {
    /// Runs a job to its end; its panic is not swallowed.
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// Runs a closure on a [`Compute`] and returns its value.
pub async fn compute<T: Send + 'static>(
    compute: &dyn Compute,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    compute
        .run(Box::new(move || {
            // The receiver lives in this very call; it is gone only if the caller was cancelled.
            let _ = sender.send(job());
        }))
        .await;
    receiver.await.expect("invariant: a job that ran to its end has sent its value")
}
