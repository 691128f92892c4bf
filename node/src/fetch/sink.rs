//! The file that a transfer goes to. It is gone unless the transfer was finished.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::FetchError;

/// Bytes that are gathered before they go to the disk: few jobs, and little memory.
const GATHERED: usize = 1 << 20;

/// A new file of mode 0600, and the hash of what was written to it.
pub(super) struct Sink {
    path: PathBuf,
    /// None while a job has it, and after one that failed.
    inner: Option<Inner>,
    gathered: Vec<u8>,
    bytes: u64,
    finished: bool,
}

struct Inner {
    file: File,
    hasher: blake3::Hasher,
}

impl Sink {
    /// Makes the file. One that is there already is not touched.
    pub(super) fn create(path: &Path) -> Result<Self, FetchError> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = made.map_err(|source| FetchError::File { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            inner: Some(Inner { file, hasher: blake3::Hasher::new() }),
            gathered: Vec::with_capacity(GATHERED),
            bytes: 0,
            finished: false,
        })
    }

    /// Bytes that it has taken.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        for part in bytes.chunks(GATHERED) {
            if self.gathered.len() + part.len() > GATHERED {
                self.flush().await?;
            }
            self.gathered.extend_from_slice(part);
        }
        Ok(())
    }

    /// Forgets all it has taken.
    pub(super) async fn restart(&mut self) -> Result<(), FetchError> {
        self.gathered.clear();
        self.bytes = 0;
        self.with(|inner, _| {
            inner.hasher.reset();
            inner.file.set_len(0)?;
            inner.file.rewind()
        })
        .await
    }

    /// Makes the file durable; its length and hash.
    pub(super) async fn finish(mut self) -> Result<(u64, blake3::Hash), FetchError> {
        self.flush().await?;
        self.with(|inner, _| inner.file.sync_all()).await?;
        let Some(inner) = &self.inner else { return Err(self.failed(io::ErrorKind::Other.into())) };
        let hash = inner.hasher.finalize();
        self.finished = true;
        Ok((self.bytes, hash))
    }

    async fn flush(&mut self) -> Result<(), FetchError> {
        self.with(|inner, gathered| {
            inner.hasher.update(gathered);
            inner.file.write_all(gathered)?;
            gathered.clear();
            Ok(())
        })
        .await
    }

    /// Works on the file on a thread that may block.
    async fn with(
        &mut self,
        work: impl FnOnce(&mut Inner, &mut Vec<u8>) -> io::Result<()> + Send + 'static,
    ) -> Result<(), FetchError> {
        let Some(mut inner) = self.inner.take() else {
            return Err(self.failed(io::Error::other("writing failed before")));
        };
        let mut gathered = std::mem::take(&mut self.gathered);
        let job = tokio::task::spawn_blocking(move || {
            let done = work(&mut inner, &mut gathered);
            (inner, gathered, done)
        });
        let (inner, gathered, done) = job.await.map_err(|error| self.failed(error.into()))?;
        (self.inner, self.gathered) = (Some(inner), gathered);
        done.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::File { path: self.path.clone(), source }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%error, %path, "what was fetched in part is not removed");
        }
    }
}
