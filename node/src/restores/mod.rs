//! Restores as jobs: archives from an address, an upload or a path into new vaults, network backups back to
//! where they are wanted. Each is kept with its log until it is deleted. Of an archive that does not come in
//! whole nothing remains; of a network backup what was written whole stays.
//!
//! `state` has the states and the steps between them, `job` what is kept of one and `kept` all, `run` the
//! work. One runs at a time; others wait in the order in which they came.

mod error;
mod job;
mod kept;
mod run;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

pub use error::RestoreError;
pub use job::{Announced, NewRestore, Restore, RestorePhase, RestoreSource, Restored};
use kept::Kept;
use samara_protocol::journal::UserId;
use samara_protocol::sync::lock;
use samara_renter::Renter;
use samara_renter::archive::Passphrase;
use samara_renter::backup::JobProblem;
pub use state::{RestoreState, RestoreStep};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::AccessControl;
use crate::clock::Clock;
use crate::fetch::Network;
use crate::notify::Notices;

/// The restores of a node. A cheap clone.
#[derive(Clone)]
pub struct Restores(Arc<Inner>);

struct Inner {
    kept: Kept,
    renter: Renter,
    access: Arc<AccessControl>,
    /// Networks beside the public ones that archives may be fetched from.
    networks: Vec<Network>,
    notices: Notices,
    running: Mutex<BTreeMap<String, Running>>,
    turns: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A restore that somebody works on.
struct Running {
    cancel: CancellationToken,
    passphrase: Option<Passphrase>,
}

impl Restores {
    /// Reads those that are kept. What a restart has cut has failed, and can be resumed.
    ///
    /// # Errors
    /// [`RestoreError::Disk`].
    pub fn open(
        folder: PathBuf,
        renter: Renter,
        access: Arc<AccessControl>,
        networks: Vec<Network>,
        (notices, clock): (Notices, Clock),
        stop: CancellationToken,
    ) -> Result<Self, RestoreError> {
        let inner = Inner {
            kept: Kept::open(folder, clock)?,
            renter,
            access,
            networks,
            notices,
            running: Mutex::default(),
            turns: Semaphore::new(1),
            tasks: TaskTracker::new(),
            stop,
        };
        let restores = Self(Arc::new(inner));
        restores.end_interrupted()?;
        Ok(restores)
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Restore>> {
        self.0.kept.jobs()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        lock(&self.0.running)
    }

    fn now(&self) -> u64 {
        self.0.kept.now()
    }

    /// Where the archive of a restore is put when it has to be brought here.
    #[must_use]
    pub fn archive_path(&self, id: &str) -> PathBuf {
        self.0.kept.file(id, "archive")
    }

    /// What a restart has cut has failed; archives that no restore goes on with are removed.
    fn end_interrupted(&self) -> Result<(), RestoreError> {
        let open: Vec<String> = {
            let jobs = self.jobs();
            jobs.values().filter(|job| job.state.is_open()).map(|job| job.id.clone()).collect()
        };
        for id in open {
            if self.show(&id)?.opening.is_some() {
                self.find_out(id);
                continue;
            }
            let error = RestoreError::Interrupted;
            self.0.kept.change(&id, |job, now| fail(job, now, error.code(), &error.to_string()))?;
        }
        for entry in std::fs::read_dir(self.0.kept.folder())? {
            let path = entry?.path();
            let is_archive = path.extension().is_none_or(|ending| ending != "json");
            if is_archive && !self.goes_on_with(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Whether a restore that can be resumed needs a file: one that was sent cannot be had again.
    fn goes_on_with(&self, path: &Path) -> bool {
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let jobs = self.jobs();
        let job = jobs.get(id).filter(|job| job.source == RestoreSource::Upload);
        let resumable = [RestoreState::Failed, RestoreState::Waiting];
        job.is_some_and(|job| job.opening.is_some() || resumable.contains(&job.state))
    }

    /// An id for a restore whose archive is going to be sent.
    ///
    /// # Errors
    /// [`RestoreError::Random`].
    pub fn draw(&self) -> Result<String, RestoreError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| RestoreError::Random(error.to_string()))?;
        Ok(hex::encode(bytes))
    }

    /// Enters a restore: one that may start does, in the background.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn enter(
        &self,
        id: String,
        new: NewRestore,
        by: Option<UserId>,
        approved: bool,
    ) -> Result<Restore, RestoreError> {
        let state = if approved { RestoreState::Queued } else { RestoreState::Waiting };
        let text = if approved { "asked for" } else { "asked for; an operator has to approve it" };
        let now = self.now();
        let mut job = Restore::new(id.clone(), state, &new, now);
        job.created_by = by;
        job.say(now, text.to_owned());
        self.0.kept.add(&job)?;
        if approved {
            self.start(&id, new.passphrase);
        }
        Ok(job)
    }

    /// All, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Restore> {
        let mut jobs: Vec<Restore> = self.jobs().values().cloned().collect();
        jobs.sort_by(|a, b| (b.date_created, &b.id).cmp(&(a.date_created, &a.id)));
        jobs
    }

    /// One.
    ///
    /// # Errors
    /// [`RestoreError::Unknown`].
    pub fn show(&self, id: &str) -> Result<Restore, RestoreError> {
        self.jobs().get(id).cloned().ok_or_else(|| RestoreError::Unknown(id.to_owned()))
    }

    /// Takes a step that somebody asks for.
    fn step(
        &self,
        id: &str,
        step: RestoreStep,
        by: Option<UserId>,
        text: &str,
    ) -> Result<Restore, RestoreError> {
        self.0.kept.step(id, step, |job, now| {
            job.decided_by = by.or(job.decided_by);
            if matches!(step, RestoreStep::Resume | RestoreStep::Approve) {
                (job.error, job.date_ended) = (None, None);
            } else {
                job.date_ended = Some(now);
            }
            job.say(now, text.to_owned());
        })
    }

    /// Lets a restore go on that waits for it.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn approve(
        &self,
        id: &str,
        by: Option<UserId>,
        passphrase: Option<Passphrase>,
    ) -> Result<Restore, RestoreError> {
        let job = self.step(id, RestoreStep::Approve, by, "approved")?;
        self.start(id, passphrase);
        Ok(job)
    }

    /// Refuses a restore that waits.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn reject(&self, id: &str, by: Option<UserId>) -> Result<Restore, RestoreError> {
        let job = self.step(id, RestoreStep::Reject, by, "rejected")?;
        self.remove_archive(id);
        Ok(job)
    }

    /// Tries one that failed again.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn resume(
        &self,
        id: &str,
        passphrase: Option<Passphrase>,
    ) -> Result<Restore, RestoreError> {
        let gone =
            self.show(id)?.source == RestoreSource::Upload && !self.archive_path(id).exists();
        if gone {
            return Err(RestoreError::Gone(id.to_owned()));
        }
        let job = self.step(id, RestoreStep::Resume, None, "resumed")?;
        self.start(id, passphrase);
        Ok(job)
    }

    /// Stops one that is under way.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn cancel(&self, id: &str) -> Result<Restore, RestoreError> {
        let job = self.show(id)?;
        match self.running().get(id) {
            Some(running) if self.show(id)?.opening.is_none() => running.cancel.cancel(),
            _ => return Err(RestoreError::Unfit { id: id.to_owned(), state: job.state }),
        }
        Ok(job)
    }

    /// Deletes one that has ended, with its log.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn remove(&self, id: &str) -> Result<(), RestoreError> {
        self.0.kept.remove(id)?;
        self.remove_archive(id);
        Ok(())
    }

    /// The archive of a restore is removed with this, unless somebody takes it over before.
    #[must_use]
    pub fn leftover(&self, id: &str) -> Leftover {
        Leftover { restores: self.clone(), id: id.to_owned(), taken_over: false }
    }

    fn remove_archive(&self, id: &str) {
        match std::fs::remove_file(self.archive_path(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, restore = id, "the archive of a restore stays");
            }
            _ => {}
        }
    }

    /// Waits until no restore runs, after the node's token was cancelled.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// An archive that was brought here and that no restore has taken over, also of a future that was dropped.
pub struct Leftover {
    restores: Restores,
    id: String,
    taken_over: bool,
}

impl Leftover {
    /// A restore has it now.
    pub fn taken_over(mut self) {
        self.taken_over = true;
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if !self.taken_over {
            self.restores.remove_archive(&self.id);
        }
    }
}

/// Ends a restore that has brought all back.
fn complete(job: &mut Restore, now: u64, restored: Restored) {
    let Some(state) = job.state.after(RestoreStep::Complete) else { return };
    job.state = state;
    (job.phase, job.progress, job.opening, job.date_ended) = (None, None, None, Some(now));
    job.say(now, format!("completed: {} events, {} files", restored.events, restored.files));
    job.restored = Some(restored);
}

/// Ends a restore with a reason.
fn fail(job: &mut Restore, now: u64, code: &str, message: &str) {
    let Some(state) = job.state.after(RestoreStep::Fail) else { return };
    job.state = state;
    (job.phase, job.progress, job.opening, job.date_ended) = (None, None, None, Some(now));
    job.say(now, format!("failed: {message}"));
    let retryable = code != "cancelled";
    job.error = Some(JobProblem { code: code.to_owned(), message: message.to_owned(), retryable });
}
