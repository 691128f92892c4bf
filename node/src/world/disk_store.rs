//! The renter's store in a redb database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use samara_renter::world::{Store, StoreError, Write};

use crate::host::group::Group;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Version of the database's layout written by this program.
const VERSION: u32 = 1;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The database cannot be used.
    #[error("cannot open the renter's store {path}: {source}", path = .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What redb says.
        source: Box<redb::Error>,
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
/// is being made durable share the next transaction, in the order in which they came.
#[derive(Clone)]
pub struct DiskStore(Arc<Inner>);

struct Inner {
    database: Database,
    commits: Group<Vec<Write>, StoreError>,
}

impl DiskStore {
    /// Opens the file, making it if it is not there.
    ///
    /// # Errors
    /// [`OpenStoreError`].
    pub fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let fail = |source: redb::Error| OpenStoreError::Database {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let database = Database::create(path).map_err(|error| fail(error.into()))?;
        let found = prepare(&database).map_err(fail)?;
        if found > VERSION {
            return Err(OpenStoreError::Newer { path: path.to_owned(), found });
        }
        Ok(Self(Arc::new(Inner { database, commits: Group::new() })))
    }

    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        job: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let outcome = tokio::task::spawn_blocking(move || job(&inner.database)).await;
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
        transaction.open_table(ENTRIES)?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("version")?.map(|version| version.value());
        match found {
            Some(version) => version,
            None => {
                meta.insert("version", VERSION)?;
                VERSION
            }
        }
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
            inner.commits.join(writes, |batches| {
                write(&inner.database, &batches).map_err(|error| failed(error.to_string()))
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
