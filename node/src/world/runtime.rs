//! Clock, randomness, tasks and compute of the machine.

use std::time::Duration;

use futures::future::BoxFuture;
use samara_protocol::units::Millis;
use samara_renter::world::{Clock, Compute, Randomness, Spawner, TaskHandle};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// The system's clock and tokio's timers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        crate::clock::now().0
    }

    fn sleep(&self, span: Millis) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(span.0)))
    }
}

/// The operating system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandomness;

impl Randomness for OsRandomness {
    /// # Panics
    /// When the system gives no random bytes: nothing may be sealed with anything less.
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

/// Tasks of the tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSpawner;

struct TokioTask(Option<JoinHandle<()>>);

impl Drop for TokioTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl TaskHandle for TokioTask {
    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn detach(mut self: Box<Self>) {
        self.0 = None;
    }
}

impl Spawner for TokioSpawner {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Box<dyn TaskHandle> {
        let span = tracing::info_span!("task", name);
        Box::new(TokioTask(Some(tokio::spawn(task.instrument(span)))))
    }
}

/// Tokio's blocking threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingCompute;

impl Compute for BlockingCompute {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let job = tokio::task::spawn_blocking(job);
        Box::pin(async move {
            match job.await {
                Ok(()) => {}
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down; this task ends with it at its next await.
                    Err(_) => std::future::pending().await,
                },
            }
        })
    }
}
