//! The machine under a renter: no files, a paused clock, the same random bytes in every run.

use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::BoxFuture;
use samara_protocol::units::Millis;

use crate::world::{
    Clock, Compute, FileEntry, FileError, Files, Randomness, ReadFile, SeekRead, Spawner,
    TaskHandle, WriteFile,
};

/// There are no files here.
pub(super) struct NoFiles;

fn no_file<T>(path: &Path) -> Result<T, FileError> {
    Err(FileError { action: "open", path: path.into(), reason: "there are no files here".into() })
}

#[async_trait]
impl Files for NoFiles {
    async fn walk(&self, root: &Path) -> Result<Vec<Result<FileEntry, FileError>>, FileError> {
        no_file(root)
    }

    async fn stat(&self, path: &Path) -> Result<Option<FileEntry>, FileError> {
        no_file(path)
    }

    async fn open(&self, path: &Path) -> Result<Box<dyn ReadFile>, FileError> {
        no_file(path)
    }

    async fn open_seekable(&self, path: &Path) -> Result<Box<dyn SeekRead>, FileError> {
        no_file(path)
    }

    async fn remove_file(&self, _root: &Path, path: &Path) -> Result<bool, FileError> {
        no_file(path)
    }

    async fn create(&self, _root: &Path, path: &Path) -> Result<Box<dyn WriteFile>, FileError> {
        no_file(path)
    }

    async fn create_folder(&self, _root: &Path, path: &Path) -> Result<(), FileError> {
        no_file(path)
    }
}

/// Tokio's paused clock: time passes when nobody can go on.
pub(super) struct TestClock(tokio::time::Instant);

impl TestClock {
    pub(super) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        1_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn sleep(&self, span: Millis) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(std::time::Duration::from_millis(span.0)))
    }
}

/// The same bytes in every run.
#[derive(Default)]
pub(super) struct TestRandom(Mutex<u64>);

impl Randomness for TestRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut count = self.0.lock().unwrap();
        *count += 1;
        // Nothing secret: the protocol's digest serves as a generator.
        for (index, part) in (0u64..).zip(buffer.chunks_mut(32)) {
            let bytes = samara_protocol::hash::digest("samara test random", &(*count, index)).0;
            part.copy_from_slice(&bytes[..part.len()]);
        }
    }
}

pub(super) struct TestSpawner;

struct TestTask(Option<tokio::task::JoinHandle<()>>);

impl TaskHandle for TestTask {
    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }

    fn detach(mut self: Box<Self>) {
        self.0.take();
    }
}

impl Drop for TestTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Spawner for TestSpawner {
    #[expect(clippy::disallowed_methods, reason = "this is the world's spawner")]
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        Box::new(TestTask(Some(tokio::spawn(task))))
    }
}

pub(super) struct Inline;

impl Compute for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        job();
        Box::pin(std::future::ready(()))
    }
}
