//! The renter's store in a redb database.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use samara_renter::world::{Store, StoreError, Write};

use crate::database::Reopening;
use crate::host::group::Group;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Version of the database's layout written by this program.
const VERSION: u32 = 1;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The database cannot be used, though nothing says that it is damaged.
    #[error("cannot open the renter's store {path}: {source}", path = .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What redb says.
        source: Box<redb::Error>,
    },
    /// What is in it is not what was written.
    #[error("the renter's store {path} is damaged: {reason}. It is a cache: if its disk is sound, delete the file, and start the node again; it is brought back from the words",
        path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// Written by a newer program.
    #[error("{path} has version {found}, this program reads {VERSION}: use a newer samara", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// One ordered map in one file; every commit is durable when it returns. Commits that come while one
/// is being made durable share the next transaction, in the order in which they came. After a full
/// disk the store works again as soon as there is room.
#[derive(Clone)]
pub struct DiskStore(Arc<Inner>);

struct Inner {
    database: Reopening,
    commits: Group<Vec<Write>, StoreError>,
}

/// Whether an error speaks of what the file holds, not of the disk, its rights or its use.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) => true,
        redb::Error::Io(error) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

impl DiskStore {
    /// Opens the file, making it if it is not there.
    ///
    /// # Errors
    /// [`OpenStoreError`].
    pub fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let damaged = |reason: String| OpenStoreError::Damaged { path: path.to_owned(), reason };
        let fail = |source: redb::Error| match source {
            source if is_damage(&source) => damaged(source.to_string()),
            source => OpenStoreError::Database { path: path.to_owned(), source: Box::new(source) },
        };
        // redb panics at pages that make no sense.
        let opening = || {
            let database = Reopening::file(path)?;
            let found = database.with(prepare)?;
            Ok((database, found))
        };
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(opening));
        let Ok(opened) = opened else {
            return Err(damaged("its pages make no sense".into()));
        };
        let (database, found) = opened.map_err(fail)?;
        if found > VERSION {
            return Err(OpenStoreError::Newer { path: path.to_owned(), found });
        }
        Ok(Self::new(database))
    }

    fn new(database: Reopening) -> Self {
        Self(Arc::new(Inner { database, commits: Group::new() }))
    }

    /// Cancelled when the disk under the rows failed: the process must end.
    #[must_use]
    pub fn broken(&self) -> tokio_util::sync::CancellationToken {
        self.0.database.broken()
    }

    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        job: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let outcome = tokio::task::spawn_blocking(move || inner.database.with(job)).await;
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError { action, reason: error.to_string() }),
            Err(error) => Err(StoreError { action, reason: error.to_string() }),
        }
    }
}

/// Makes the tables and returns the version that the file has.
fn prepare(database: &Database) -> Result<u32, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("version")?.map(|version| version.value());
        if let Some(newer) = found.filter(|found| *found > VERSION) {
            return Ok(newer);
        }
        if found.is_none() {
            meta.insert("version", VERSION)?;
        }
        transaction.open_table(ENTRIES)?;
        found.unwrap_or(VERSION)
    };
    transaction.commit()?;
    Ok(found)
}

#[async_trait]
impl Store for DiskStore {
    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key.to_vec();
        self.run("read", move |database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            Ok(table.get(key.as_slice())?.map(|value| value.value().to_vec()))
        })
        .await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let prefix = prefix.to_vec();
        let after = after.map(<[u8]>::to_vec);
        self.run("list", move |database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let start = after.as_deref().map_or(prefix.as_slice(), |after| after.max(&prefix));
            let mut found = Vec::new();
            for entry in table.range(start..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(&prefix) || found.len() == limit {
                    break;
                }
                if after.as_deref() != Some(key.value()) {
                    found.push((key.value().to_vec(), value.value().to_vec()));
                }
            }
            Ok(found)
        })
        .await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError { action: "write", reason };
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || {
            let broken = failed("another write of its round panicked".into());
            inner.commits.join(writes, broken, |batches| {
                let written = inner.database.with(|database| write(database, &batches));
                written.map_err(|error| failed(error.to_string()))
            })
        });
        joined.await.unwrap_or_else(|error| Err(failed(error.to_string())))
    }
}

/// One transaction for all batches.
fn write(database: &Database, batches: &[Vec<Write>]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for write in batches.iter().flatten() {
            match write {
                Write::Put(key, value) => {
                    table.insert(key.as_slice(), value.as_slice())?;
                }
                Write::Delete(key) => {
                    table.remove(key.as_slice())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::tests::FaultyDisk;

    fn put(key: &str, value: &str) -> Write {
        Write::Put(key.into(), value.into())
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = DiskStore::open(&path).unwrap();
        store.commit(vec![put("a/1", "x"), put("a/2", "y"), put("b/1", "z")]).await.unwrap();
        store.commit(vec![Write::Delete(b"a/1".to_vec())]).await.unwrap();
        drop(store);
        let store = DiskStore::open(&path).unwrap();
        assert_eq!(store.read(b"a/1").await.unwrap(), None);
        assert_eq!(store.read(b"a/2").await.unwrap(), Some(b"y".to_vec()));
    }

    #[test]
    fn only_what_is_damaged_is_said_to_be_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let damaged = DiskStore::open(&path).err().unwrap();
        assert!(matches!(damaged, OpenStoreError::Damaged { .. }), "{damaged}");
        let unusable = DiskStore::open(folder.path()).err().unwrap();
        assert!(matches!(unusable, OpenStoreError::Database { .. }), "{unusable}");
    }

    #[tokio::test]
    async fn a_full_disk_is_survived_without_a_restart() {
        let disk = FaultyDisk::default();
        let database = disk.database().unwrap();
        database.with(prepare).unwrap();
        let store = DiskStore::new(database);
        store.commit(vec![put("a", "kept")]).await.unwrap();
        disk.set_full(true);
        let large = "x".repeat(100_000);
        assert!(store.commit(vec![put("b", &large)]).await.is_err());
        assert!(store.commit(vec![put("b", &large)]).await.is_err());
        disk.set_full(false);
        store.commit(vec![put("c", "after")]).await.unwrap();
        assert_eq!(store.read(b"a").await.unwrap(), Some(b"kept".to_vec()));
        assert_eq!(store.read(b"b").await.unwrap(), None);
        assert_eq!(store.read(b"c").await.unwrap(), Some(b"after".to_vec()));
    }

    #[test]
    fn a_newer_store_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(DiskStore::open(&path).unwrap());
        let database = Database::create(&path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("version", VERSION + 1).unwrap();
        write.commit().unwrap();
        drop(database);
        for _ in 0..2 {
            let refused = DiskStore::open(&path).err().unwrap();
            assert!(matches!(refused, OpenStoreError::Newer { found, .. } if found == VERSION + 1));
        }
    }

    #[tokio::test]
    async fn a_scan_keeps_to_its_prefix_start_and_limit() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(&folder.path().join("store")).unwrap();
        let keys = ["a/1", "a/2", "a/3", "b/1"];
        store.commit(keys.map(|key| put(key, key)).to_vec()).await.unwrap();
        let found = async |after: Option<&[u8]>, limit| {
            let rows = store.scan(b"a/", after, limit).await.unwrap();
            rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found(None, 10).await, ["a/1", "a/2", "a/3"]);
        assert_eq!(found(Some(b"a/1"), 1).await, ["a/2"]);
        assert!(found(Some(b"a/3"), 10).await.is_empty());
    }
}
