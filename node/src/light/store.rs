//! Where a light client keeps its trusted point between two runs.
//!
//! Losing it costs time and no safety: the client begins at the genesis document again.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use samara_protocol::sync::lock;

use crate::disk::folder_of;

/// A place for the few kilobytes of a light client's state.
#[async_trait]
pub trait PointStore: Send + Sync + 'static {
    /// What was saved last; nothing if nothing was.
    ///
    /// # Errors
    /// If it exists and cannot be read.
    async fn load(&self) -> io::Result<Option<Vec<u8>>>;
    /// Replaces what was saved, all or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    async fn save(&self, bytes: Vec<u8>) -> io::Result<()>;
}

/// A file, replaced as a whole.
#[derive(Clone, Debug)]
pub struct FilePointStore(PathBuf);

impl FilePointStore {
    /// The file at this path; its folder must exist.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

#[async_trait]
impl PointStore for FilePointStore {
    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match tokio::fs::read(&self.0).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn save(&self, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.0.clone();
        tokio::task::spawn_blocking(move || replace(&path, &bytes)).await?
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Keeps the state as long as the process runs, for nodes that may begin anew.
#[derive(Debug, Default)]
pub struct MemoryPointStore(std::sync::Mutex<Option<Vec<u8>>>);

#[async_trait]
impl PointStore for MemoryPointStore {
    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.0).clone())
    }

    async fn save(&self, bytes: Vec<u8>) -> io::Result<()> {
        *lock(&self.0) = Some(bytes);
        Ok(())
    }
}
