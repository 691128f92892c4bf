//! What a policy's retention makes of its backups: a pure rule, shown before it is carried out.
//!
//! Backups of one kind and scope are judged together. Only those that are complete and that nobody pinned
//! can go, never the newest, and none before the newest is where it should be.

use std::collections::BTreeMap;

use samara_protocol::journal::{BackupId, VaultId};
use samara_protocol::units::ChainTime;

use super::retention::{Candidate, Retention, Verdict};
use super::types::{BackupKind, BackupStatus, JobProblem};

/// A backup that a policy made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) id: BackupId,
    pub(super) kind: BackupKind,
    pub(super) scope: Option<VaultId>,
    /// When it was made.
    pub(super) time: ChainTime,
    pub(super) status: BackupStatus,
    pub(super) pinned: bool,
    /// Whether the journal names it.
    pub(super) known: bool,
    /// Whether so many hosts hold it as must; of an archive, whether its file is whole.
    pub(super) held: bool,
    /// Why it failed, if it did.
    pub(super) problem: Option<JobProblem>,
}

impl Run {
    /// Whether it failed before the journal named it: nothing but its record is left.
    pub(super) fn has_failed(&self) -> bool {
        self.status == BackupStatus::Error && !self.known
    }

    pub(super) fn is_complete(&self) -> bool {
        self.status == BackupStatus::Completed
    }
}

/// What becomes of each backup; newest first.
pub(super) fn judge(retention: &Retention, runs: &[Run]) -> Vec<Verdict<BackupId>> {
    let mut groups: BTreeMap<(BackupKind, Option<VaultId>), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        groups.entry((run.kind, run.scope)).or_default().push(run);
    }
    let verdicts = groups.into_values().flat_map(|group| judge_group(retention, group));
    let mut verdicts: Vec<(ChainTime, Verdict<BackupId>)> = verdicts.collect();
    verdicts.sort_by(|(a, one), (b, other)| (b, other.id).cmp(&(a, one.id)));
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

fn judge_group(retention: &Retention, mut group: Vec<&Run>) -> Vec<(ChainTime, Verdict<BackupId>)> {
    // Of several that were made at one time the order is the same in every round.
    group.sort_by_key(|run| std::cmp::Reverse((run.time, run.id)));
    let newest = group.iter().find(|run| run.is_complete()).copied();
    let (judged, others): (Vec<&Run>, Vec<&Run>) =
        group.into_iter().partition(|run| run.is_complete() && !run.pinned);
    let times: BTreeMap<BackupId, ChainTime> =
        judged.iter().map(|run| (run.id, run.time)).collect();
    let candidates = judged.iter().map(|run| Candidate { id: run.id, time: run.time }).collect();
    let verdicts = retention.judge(candidates).into_iter().map(|verdict| {
        let time = times.get(&verdict.id).copied().unwrap_or_default();
        (time, spared(verdict, newest))
    });
    let spared = others.into_iter().map(|run| {
        let reasons = vec![why_not_judged(run).to_owned()];
        (run.time, Verdict { id: run.id, keep: true, reasons })
    });
    verdicts.chain(spared).collect()
}

/// A verdict that leaves what nothing can take the place of.
fn spared(verdict: Verdict<BackupId>, newest: Option<&Run>) -> Verdict<BackupId> {
    let reason = match newest {
        _ if verdict.keep => return verdict,
        Some(newest) if newest.id == verdict.id => "the newest is always kept",
        Some(newest) if newest.held => return verdict,
        _ => "no rule keeps it, and it goes once enough hosts hold the newest",
    };
    Verdict { keep: true, reasons: vec![reason.to_owned()], ..verdict }
}

const fn why_not_judged(run: &Run) -> &'static str {
    match run.status {
        _ if run.pinned => "it is pinned",
        BackupStatus::InProgress => "it is being made",
        BackupStatus::Error => "it is not complete: no rule is about it",
        BackupStatus::Completed => "no rule is about it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;

    fn run(number: u8) -> Run {
        Run {
            id: BackupId([number; 16]),
            kind: BackupKind::Network,
            scope: None,
            time: ChainTime(20_454 * DAY + u64::from(number) * DAY),
            status: BackupStatus::Completed,
            pinned: false,
            known: true,
            held: true,
            problem: None,
        }
    }

    fn gone(retention: &Retention, runs: &[Run]) -> Vec<u8> {
        let gone = judge(retention, runs).into_iter().filter(|verdict| !verdict.keep);
        gone.map(|verdict| verdict.id.0[0]).collect()
    }

    fn last(last: u32) -> Retention {
        Retention { last, ..Retention::default() }
    }

    #[test]
    fn those_that_no_rule_keeps_go_newest_first() {
        let runs: Vec<Run> = (0..5).map(run).collect();
        assert_eq!(gone(&last(2), &runs), [2, 1, 0]);
        assert_eq!(gone(&Retention::default(), &runs), Vec::<u8>::new());
        let verdicts = judge(&last(2), &runs);
        assert!(verdicts.iter().all(|verdict| !verdict.reasons.is_empty()));
        assert_eq!(verdicts.len(), 5);
    }

    #[test]
    fn nothing_goes_before_hosts_hold_the_newest() {
        let mut runs: Vec<Run> = (0..3).map(run).collect();
        runs[2].held = false;
        assert_eq!(gone(&last(1), &runs), Vec::<u8>::new());
        runs[2].status = BackupStatus::InProgress;
        assert_eq!(gone(&last(1), &runs), [0]);
        runs[1].held = false;
        assert_eq!(gone(&last(1), &runs), Vec::<u8>::new());
    }

    #[test]
    fn what_is_pinned_or_failed_neither_goes_nor_counts() {
        let mut runs: Vec<Run> = (0..5).map(run).collect();
        runs[0].pinned = true;
        runs[3].status = BackupStatus::Error;
        assert_eq!(gone(&last(2), &runs), [1]);
        // The newest of all is the successor, also if no rule may touch it.
        runs[4].pinned = true;
        assert_eq!(gone(&last(1), &runs), [1]);
        runs[4].held = false;
        assert_eq!(gone(&last(1), &runs), Vec::<u8>::new());
    }

    #[test]
    fn each_kind_and_scope_has_its_own_newest() {
        let mut runs: Vec<Run> = (0..4).map(run).collect();
        runs[0].scope = Some(VaultId([1; 16]));
        runs[1].scope = Some(VaultId([1; 16]));
        assert_eq!(gone(&last(1), &runs), [2, 0]);
        runs[2].kind = BackupKind::Archive;
        assert_eq!(gone(&last(1), &runs), [0]);
    }
}
