//! What becomes of backups by itself: one round in each of upkeep's.
//!
//! Backups that have expired go; those go that a policy gives up; policies that are due make theirs. All of
//! it follows from what there is at that moment, so a crash leaves it to the next round, and nothing is done
//! twice: a policy that has a backup in the making, or one that the journal may still come to name, waits.
//! Ages and slots count in the chain's time.

use samara_protocol::encoding;
use samara_protocol::journal::{BackupId, BackupOrigin};
use samara_protocol::units::{ChainTime, Millis};
use serde::{Deserialize, Serialize};

use super::make::label_of;
use super::policy::{Due, Policy};
use super::record::Record;
use super::rotation::{Run, judge};
use super::types::{BackupKind, BackupRequest, BackupStatus};
use super::warnings::Money;
use super::{BackupError, Backups, held_from, holders};
use crate::news::News;
use crate::world::{StoreError, Write, random_bytes};

/// What the keys of marks begin with in the renter's store.
const MARKS: &[u8] = b"policy/";
/// After this a run that failed for a passing reason is tried again.
const AGAIN: Millis = Millis::seconds(600);
/// Failed runs of a policy that stay listed, the newest.
const FAILED: usize = 10;

/// The last run of a policy, whatever has become of its backup since. Kept beside the backups, since one
/// that is deleted must not be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    version: u8,
    /// When it ran.
    pub(super) time: ChainTime,
    /// Runs before it that nobody made.
    pub(super) missed: u64,
    /// When the first of them was due.
    pub(super) since: ChainTime,
    /// When the newest complete backup was made after which the retention was carried out.
    rotated: ChainTime,
}

impl Mark {
    const VERSION: u8 = 1;

    /// Of a policy that has never run.
    const fn new() -> Self {
        let never = ChainTime(0);
        Self { version: Self::VERSION, time: never, missed: 0, since: never, rotated: never }
    }

    fn key(policy: &str) -> Vec<u8> {
        [MARKS, policy.as_bytes()].concat()
    }
}

impl Backups {
    /// One round. What fails is tried again in the next. `money` is what the contractor has last seen.
    pub(crate) async fn look_after(&self, money: Option<Money>) {
        // Another round is under way, or somebody changes a policy.
        let Ok(_turn) = self.shared.keeping.try_acquire() else { return };
        self.expire().await;
        for policy in self.stored_policies() {
            if let Err(error) = self.rotate(&policy).await {
                tracing::warn!(policy = policy.name, %error, "old backups cannot be deleted yet");
            }
            if let Err(error) = self.run_if_due(&policy).await {
                tracing::warn!(policy = policy.name, %error, "a scheduled backup");
            }
        }
        if let Err(error) = self.warn(money).await {
            tracing::debug!(%error, "what was warned of is not written down");
        }
    }

    /// Deletes backups whose time has come.
    async fn expire(&self) {
        let now = self.vaults.world.chain.time().0;
        for row in self.list() {
            let over = row.date_expired.is_some_and(|time| time <= now);
            if row.pinned || !over || row.status == BackupStatus::InProgress {
                continue;
            }
            let Ok(id) = row.sid.parse() else { continue };
            if let Err(error) = self.let_go(id, "it has expired").await {
                tracing::warn!(backup = %id, %error, "an expired backup cannot be deleted yet");
            }
        }
    }

    /// Once after each of a policy's backups, when enough hosts hold it: deletes those that the retention gives
    /// up. Other numbers alone delete nothing; the next backup does.
    async fn rotate(&self, policy: &Policy) -> Result<(), BackupError> {
        let runs = self.runs_of(&policy.name);
        let complete = runs.iter().filter(|run| run.is_complete());
        let newest = complete.max_by_key(|run| (run.time, run.id)).filter(|run| run.held);
        let mark = self.mark(&policy.name).await?.unwrap_or(Mark::new());
        if let Some(newest) = newest.filter(|newest| newest.time > mark.rotated) {
            for verdict in judge(&policy.retention, &runs).into_iter().filter(|v| !v.keep) {
                let reasons = verdict.reasons.join("; ");
                let reason = format!("policy '{}': {reasons}", policy.name);
                self.let_go(verdict.id, &reason).await?;
            }
            let time = mark.time.max(newest.time);
            self.set_mark(&policy.name, Mark { time, rotated: newest.time, ..mark }).await?;
        }
        self.tidy(policy, runs).await
    }

    /// Deletes failed runs of a policy, but for the last few.
    async fn tidy(&self, policy: &Policy, mut runs: Vec<Run>) -> Result<(), BackupError> {
        runs.retain(|run| run.has_failed() && !run.pinned);
        runs.sort_by_key(|run| std::cmp::Reverse((run.time, run.id)));
        for run in runs.iter().skip(FAILED) {
            let reason = format!("policy '{}': {FAILED} later runs have failed", policy.name);
            self.let_go(run.id, &reason).await?;
        }
        Ok(())
    }

    async fn let_go(&self, id: BackupId, reason: &str) -> Result<(), BackupError> {
        self.delete_one(id, reason).await?;
        tracing::info!(backup = %id, reason, "a backup was deleted by itself");
        Ok(())
    }

    /// Makes a policy's backup if its time has come.
    async fn run_if_due(&self, policy: &Policy) -> Result<(), BackupError> {
        let runs = self.runs_of(&policy.name);
        let last = runs.iter().max_by_key(|run| (run.time, run.id));
        let under_way = runs.iter().any(|run| run.status == BackupStatus::InProgress);
        if !policy.enabled || under_way || self.may_come(last) {
            return Ok(());
        }
        let mark = self.mark(&policy.name).await?;
        let now = self.vaults.world.chain.time();
        let ran = last.map(|run| run.time).max(mark.map(|mark| mark.time)).unwrap_or_default();
        let retried = last.filter(|run| run.time == ran);
        let mut mark = Mark { version: Mark::VERSION, time: now, ..mark.unwrap_or(Mark::new()) };
        match policy.due(ran.max(policy.since), now) {
            Some(Due { slot, missed }) => {
                (mark.missed, mark.since) = (missed, slot);
                if missed > 0 {
                    let (policy, due) = (policy.name.clone(), slot.0);
                    self.announce(News::ScheduleMissed { policy, due, missed });
                }
            }
            None if retried.is_some_and(|run| is_tried_again(run, now)) => {}
            None => return Ok(()),
        }
        let acting = self.acting(policy.by);
        let request = acting.request_of(policy, now)?;
        if let Err(error) = acting.begin(&request).await {
            acting.note_refused(policy, &request, &error, retried).await?;
        }
        self.set_mark(&policy.name, mark).await?;
        Ok(())
    }

    /// Whether a run that failed may still come true: its entry waits in the journal for hosts.
    fn may_come(&self, last: Option<&Run>) -> bool {
        let status = self.vaults.journal.status();
        last.is_some_and(Run::has_failed) && status.position != status.acknowledged
    }

    /// Keeps a run that failed before it began, and tells of it; one that fails for the same reason again, in
    /// the same slot, is noted only.
    async fn note_refused(
        &self,
        policy: &Policy,
        request: &BackupRequest,
        error: &BackupError,
        last: Option<&Run>,
    ) -> Result<(), BackupError> {
        let (chain_time, now) = (self.vaults.world.chain.time(), self.now());
        let problem = error.problem();
        let same = |run: &&Run| {
            let failed = run.problem.as_ref().filter(|_| run.has_failed());
            let again = failed.is_some_and(|failed| failed.code == problem.code);
            again && policy.is_same_slot(run.time, chain_time)
        };
        if let Some(run) = last.filter(same) {
            let again = |record: &mut Record| {
                record.origin.chain_time = chain_time;
                record.note(now, format!("tried again: {}", problem.message));
            };
            if self.change(run.id, again).await? {
                return Ok(());
            }
        }
        let schedule = Some(policy.name.clone());
        let origin = BackupOrigin { chain_time, by: self.by, schedule, ..BackupOrigin::default() };
        let scope = policy.vault.zip(request.vault.clone());
        let label = label_of(request, chain_time)?;
        let mut record = Record::new(policy.kind, scope, label, origin, now);
        record.fail(now, problem);
        let id = BackupId(random_bytes(self.vaults.world.random.as_ref()));
        self.enter(id, &record).await?;
        self.tell(id, News::BackupEnded);
        Ok(())
    }

    /// The backups that a policy has made, in no order.
    pub(super) fn runs_of(&self, policy: &str) -> Vec<Run> {
        let of_policy = |origin: &BackupOrigin| origin.schedule.as_deref() == Some(policy);
        let mut ids: Vec<BackupId> = self.vaults.journal.read(|state| {
            let backups = state.backups.iter().filter(|(_, backup)| of_policy(&backup.origin));
            backups.map(|(id, _)| *id).collect()
        });
        let records = |id: &BackupId, record: &Record| of_policy(&record.origin).then_some(*id);
        ids.extend(self.records().iter().filter_map(|(id, record)| records(id, record)));
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.run(id)).collect()
    }

    fn run(&self, id: BackupId) -> Option<Run> {
        let row = self.row(id).ok()?;
        let named = self.vaults.journal.read(|state| {
            let backup = state.backups.get(&id)?;
            Some((backup.scope, held_from(backup)))
        });
        let recorded = || self.record(id).and_then(|record| record.scope).map(|(scope, _)| scope);
        let held = match (row.kind, named) {
            (BackupKind::Archive, _) => row.status == BackupStatus::Completed,
            (BackupKind::Network, None) => false,
            (BackupKind::Network, Some((_, position))) => {
                let status = self.vaults.journal.status();
                holders(&status, position) >= self.needed(status.hosts.len())
            }
        };
        Some(Run {
            id,
            kind: row.kind,
            scope: named.map_or_else(recorded, |(scope, _)| scope),
            time: ChainTime(row.chain_time),
            status: row.status,
            pinned: row.pinned,
            known: named.is_some(),
            held,
            problem: row.error,
        })
    }

    /// The mark of a policy; one that does not decode is none.
    pub(super) async fn mark(&self, policy: &str) -> Result<Option<Mark>, StoreError> {
        let stored = self.vaults.world.store.read(&Mark::key(policy)).await?;
        let mark = stored.and_then(|value| encoding::decode::<Mark>(&value).ok());
        Ok(mark.filter(|mark| mark.version == Mark::VERSION))
    }

    async fn set_mark(&self, policy: &str, mark: Mark) -> Result<(), StoreError> {
        let put = Write::Put(Mark::key(policy), encoding::encode(&mark));
        self.vaults.world.store.commit(vec![put]).await
    }

    pub(super) async fn forget_mark(&self, policy: &str) -> Result<(), StoreError> {
        self.vaults.world.store.commit(vec![Write::Delete(Mark::key(policy))]).await
    }
}

/// Whether a run that failed is tried again before the next slot: one that a restart has cut at once.
fn is_tried_again(run: &Run, now: ChainTime) -> bool {
    let Some(problem) = run.problem.as_ref().filter(|_| run.has_failed()) else { return false };
    problem.retryable && (problem.code == "interrupted" || now.since(run.time) >= AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::JobProblem;

    #[test]
    fn a_failed_run_is_tried_again_if_that_may_help_and_nobody_else_does() {
        let problem = |code: &str, retryable| {
            let (code, message) = (code.to_owned(), String::new());
            Some(JobProblem { code, message, retryable })
        };
        let run = Run {
            id: BackupId([1; 16]),
            kind: BackupKind::Network,
            scope: None,
            time: ChainTime(1_000),
            status: BackupStatus::Error,
            pinned: false,
            known: false,
            held: false,
            problem: problem("no_quorum", true),
        };
        let (soon, later) = (ChainTime(2_000), ChainTime(601_000));
        assert!(!is_tried_again(&run, soon));
        assert!(is_tried_again(&run, later));
        assert!(is_tried_again(
            &Run { problem: problem("interrupted", true), ..run.clone() },
            soon
        ));
        let lasting = Run { problem: problem("too_expensive", false), ..run.clone() };
        assert!(!is_tried_again(&lasting, later));
        // The journal names it: it is settled by itself.
        assert!(!is_tried_again(&Run { known: true, ..run.clone() }, later));
        assert!(!is_tried_again(&Run { status: BackupStatus::Completed, ..run }, later));
    }
}
