//! Clock, randomness, tasks and compute of the machine.

use std::time::Duration;

use futures::future::BoxFuture;
use samara_protocol::units::Millis;
use samara_renter::world::{Clock, Compute, Randomness, Spawner, TaskHandle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
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

/// Tasks of the tokio runtime for one renter. Clones count and end the same tasks.
#[derive(Clone, Debug, Default)]
pub struct TokioSpawner {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl TokioSpawner {
    /// Drops every task where it is, detached ones too, and waits until the last is gone, and with it
    /// the last job of [`TokioSpawner::compute`]. What is spawned later ends at once.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Blocking threads whose jobs [`TokioSpawner::shutdown`] waits for.
    #[must_use]
    pub fn compute(&self) -> BlockingCompute {
        BlockingCompute(self.tasks.clone())
    }
}

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
        let stop = self.stop.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        };
        Box::new(TokioTask(Some(self.tasks.spawn(task.instrument(span)))))
    }
}

/// Tokio's blocking threads.
#[derive(Clone, Debug)]
pub struct BlockingCompute(TaskTracker);

impl Compute for BlockingCompute {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let job = self.0.spawn_blocking(job);
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A task that waits for ever; the channel closes when it is dropped.
    fn endless(spawner: &TokioSpawner) -> (Box<dyn TaskHandle>, oneshot::Receiver<()>) {
        let (held, dropped) = oneshot::channel();
        let task = Box::pin(async move {
            let _held = held;
            std::future::pending().await
        });
        (spawner.spawn("endless", task), dropped)
    }

    #[tokio::test]
    async fn no_task_outlives_a_shutdown() {
        let spawner = TokioSpawner::default();
        let (kept, mut kept_dropped) = endless(&spawner);
        let (detached, mut detached_dropped) = endless(&spawner);
        detached.detach();
        let (started, running) = std::sync::mpsc::channel();
        let (finish, finished) = std::sync::mpsc::channel();
        let job = spawner.compute().run(Box::new(move || {
            started.send(()).unwrap();
            finished.recv().unwrap();
        }));
        drop(job);
        running.recv().unwrap();
        let mut shutdown = Box::pin(spawner.shutdown());
        assert!(futures::poll!(&mut shutdown).is_pending(), "the job still runs");
        finish.send(()).unwrap();
        shutdown.await;
        assert!(kept_dropped.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
        assert!(
            detached_dropped.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
        );
        drop(kept);
        let (_late, late_dropped) = endless(&spawner);
        assert!(late_dropped.await.is_err());
    }
}
