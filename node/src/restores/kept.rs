//! The restores as they are kept: in memory, and one file each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use samara_protocol::sync::lock;

use super::error::RestoreError;
use super::job::Restore;
use super::state::{RestoreState, RestoreStep};
use crate::clock::Clock;
use crate::data::write_private;

/// Restores that are kept; to make another, old ones are deleted first.
const MOST: usize = 1_000;
/// Requests that may wait for somebody to decide.
const MOST_WAITING: usize = 100;

/// The restores that there are.
pub(super) struct Kept {
    folder: PathBuf,
    clock: Clock,
    /// A leaf. Steps are judged, written down and taken under it.
    jobs: Mutex<BTreeMap<String, Restore>>,
}

impl Kept {
    /// Reads those in a folder, which is made if it is not there.
    pub(super) fn open(folder: PathBuf, clock: Clock) -> std::io::Result<Self> {
        crate::data::make_private_folder(&folder)?;
        let mut jobs = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json")
                && let Some(job) = Restore::read(&std::fs::read(&path)?)
            {
                jobs.insert(job.id.clone(), job);
            }
        }
        Ok(Self { folder, clock, jobs: Mutex::new(jobs) })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self, id: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{id}.{ending}"))
    }

    pub(super) fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Restore>> {
        lock(&self.jobs)
    }

    pub(super) fn now(&self) -> u64 {
        (self.clock)().0
    }

    fn write(&self, job: &Restore) -> std::io::Result<()> {
        let mut kept = job.clone();
        kept.progress = None;
        let text = serde_json::to_vec(&kept).map_err(std::io::Error::other)?;
        write_private(&self.file(&job.id, "json"), &text)
    }

    /// Takes in a new one.
    pub(super) fn add(&self, job: &Restore) -> Result<(), RestoreError> {
        let mut jobs = self.jobs();
        let is_waiting = |job: &Restore| job.state == RestoreState::Waiting;
        let waiting = jobs.values().filter(|job| is_waiting(job)).count();
        if jobs.len() >= MOST || (is_waiting(job) && waiting >= MOST_WAITING) {
            return Err(RestoreError::Full);
        }
        self.write(job)?;
        jobs.insert(job.id.clone(), job.clone());
        Ok(())
    }

    /// Changes a restore once that is written down; what fails changes nothing.
    pub(super) fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Restore, u64),
    ) -> Result<Restore, RestoreError> {
        self.try_change(id, |job, now| {
            change(job, now);
            Ok(())
        })
    }

    /// Takes a step, and changes what else that means.
    pub(super) fn step(
        &self,
        id: &str,
        step: RestoreStep,
        change: impl FnOnce(&mut Restore, u64),
    ) -> Result<Restore, RestoreError> {
        self.try_change(id, |job, now| {
            let state = job.state;
            let after = state.after(step);
            job.state = after.ok_or_else(|| RestoreError::Unfit { id: id.to_owned(), state })?;
            change(job, now);
            Ok(())
        })
    }

    fn try_change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Restore, u64) -> Result<(), RestoreError>,
    ) -> Result<Restore, RestoreError> {
        let now = self.now();
        let mut jobs = self.jobs();
        let job = jobs.get_mut(id).ok_or_else(|| RestoreError::Unknown(id.to_owned()))?;
        let mut changed = job.clone();
        change(&mut changed, now)?;
        self.write(&changed)?;
        job.clone_from(&changed);
        Ok(changed)
    }

    /// Forgets one that has ended.
    pub(super) fn remove(&self, id: &str) -> Result<(), RestoreError> {
        let mut jobs = self.jobs();
        let job = jobs.get(id).ok_or_else(|| RestoreError::Unknown(id.to_owned()))?;
        let state = job.state;
        if state.is_open() {
            return Err(RestoreError::Unfit { id: id.to_owned(), state });
        }
        std::fs::remove_file(self.file(id, "json"))?;
        jobs.remove(id);
        Ok(())
    }

    /// Changes a restore because of what has happened, which is so whether it can be written down or not.
    pub(super) fn note(&self, id: &str, change: impl FnOnce(&mut Restore, u64)) {
        let now = self.now();
        let mut jobs = self.jobs();
        let Some(job) = jobs.get_mut(id) else { return };
        change(job, now);
        if let Err(error) = self.write(job) {
            tracing::warn!(%error, restore = id, "a restore is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use samara_protocol::units::ChainTime;

    use super::super::job::{NewRestore, RestoreSource};
    use super::*;

    fn kept(folder: &Path) -> Kept {
        Kept::open(folder.join("restores"), Arc::new(|| ChainTime(7))).unwrap()
    }

    fn job(id: &str, state: RestoreState) -> Restore {
        let new = NewRestore {
            source: RestoreSource::Url("https://example.org/a".to_owned()),
            name: None,
            passphrase: None,
            max_cost: None,
            announced: None,
            dry_run: false,
        };
        Restore::new(id.to_owned(), state, &new, 1)
    }

    fn state(kept: &Kept, id: &str) -> RestoreState {
        kept.jobs()[id].state
    }

    #[test]
    fn of_many_who_take_a_step_one_does() {
        let root = tempfile::tempdir().unwrap();
        let kept = kept(root.path());
        for (step, from) in [
            (RestoreStep::Approve, RestoreState::Waiting),
            (RestoreStep::Resume, RestoreState::Failed),
            (RestoreStep::Start, RestoreState::Queued),
        ] {
            let id = format!("{step:?}");
            kept.add(&job(&id, from)).unwrap();
            let took = std::thread::scope(|scope| {
                let take = || kept.step(&id, step, |_, _| ());
                let takers: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
                let taken = takers.into_iter().map(|taker| taker.join().unwrap());
                taken.filter(Result::is_ok).count()
            });
            assert_eq!(took, 1, "{step:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_down_has_not_changed() {
        let root = tempfile::tempdir().unwrap();
        let kept = kept(root.path());
        kept.add(&job("a", RestoreState::Waiting)).unwrap();
        std::fs::remove_dir_all(kept.folder()).unwrap();
        let failed = kept.step("a", RestoreStep::Approve, |_, _| ());
        assert!(matches!(failed, Err(RestoreError::Disk(_))), "{failed:?}");
        assert_eq!(state(&kept, "a"), RestoreState::Waiting);
        assert!(matches!(kept.add(&job("b", RestoreState::Queued)), Err(RestoreError::Disk(_))));
        assert_eq!(kept.jobs().len(), 1);

        // What has happened, has.
        kept.note("a", |job, _| job.state = RestoreState::Failed);
        assert_eq!(state(&kept, "a"), RestoreState::Failed);

        // Once it can be written down, it may be tried again.
        std::fs::create_dir(kept.folder()).unwrap();
        kept.step("a", RestoreStep::Resume, |_, _| ()).unwrap();
        let again = Kept::open(kept.folder().to_owned(), kept.clock.clone()).unwrap();
        assert_eq!(state(&again, "a"), RestoreState::Queued);
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let root = tempfile::tempdir().unwrap();
        let kept = kept(root.path());
        let fill = |from: usize, to: usize, state: RestoreState| {
            let mut jobs = kept.jobs();
            jobs.extend((from..to).map(|id| (id.to_string(), job(&id.to_string(), state))));
        };
        fill(0, MOST_WAITING, RestoreState::Waiting);
        let full = kept.add(&job("a", RestoreState::Waiting)).unwrap_err();
        assert_eq!(full.code(), "too_many");
        kept.add(&job("a", RestoreState::Queued)).unwrap();
        fill(MOST_WAITING, MOST - 1, RestoreState::Completed);
        let full = kept.add(&job("b", RestoreState::Queued)).unwrap_err();
        assert_eq!(full.code(), "too_many");
        assert!(full.to_string().contains("samara restore delete"), "{full}");
    }
}
