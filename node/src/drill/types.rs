//! What is asked of a drill, and what it reports.

use samara_protocol::units::Amount;
use samara_renter::backup::{JobProblem, Trigger};
use samara_renter::progress::Phase;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a drill brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrillOptions {
    /// Files whose bytes are brought back, in per mille of all; at least one. Which, is drawn anew each time.
    pub share: u16,
    /// The most that it may cost; the price of the moment if none is given.
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
    pub max_price: Option<Amount>,
}

impl DrillOptions {
    /// Five per cent.
    const SHARE: u16 = 50;
}

impl Default for DrillOptions {
    fn default() -> Self {
        Self { share: Self::SHARE, max_price: None }
    }
}

/// A drill at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillRow {
    /// Its id.
    pub id: String,
    /// When it began, milliseconds since the Unix epoch on this node's clock.
    pub started: u64,
    /// The same by the chain's time.
    pub chain_time: u64,
    /// Milliseconds that it took.
    pub took: u64,
    /// What made it.
    pub trigger: Trigger,
    /// Files whose bytes were to be brought back, in per mille.
    pub share: u16,
    /// Whether all names came back, and all files that were compared.
    pub passed: bool,
    /// What kept it from its end.
    pub problem: Option<JobProblem>,
    /// Vaults, files and backups that this node has.
    pub names_expected: u64,
    /// Of them, those that came back as they are here.
    pub names_found: u64,
    /// Names that changed meanwhile, and were not compared.
    pub names_changed: u64,
    /// Files whose bytes came back and are right.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most that it might have cost.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub price: Amount,
    /// What it has cost.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub cost: Amount,
}

/// What a drill has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillReport {
    /// Version of this format.
    pub version: u8,
    /// At a glance.
    #[serde(flatten)]
    pub row: DrillRow,
    /// What it did, in order.
    pub phases: Vec<DrillPhase>,
    /// Journal position that came back.
    pub position: u64,
    /// Blocks of the chain that were checked.
    pub blocks: u64,
    /// Contracts that live, as the chain says.
    pub contracts: u64,
    /// Hosts that answered.
    pub hosts: u64,
    /// What the recovery says may be missing.
    pub may_be_missing: Option<String>,
    /// Names that did not come back: the first thousand.
    pub missing: Vec<String>,
    /// Names that came back with something else behind them, or that are not here: likewise.
    pub different: Vec<String>,
    /// Files whose bytes did not come back, and why: likewise.
    pub unreadable: Vec<Unreadable>,
}

/// A part of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillPhase {
    /// What was done.
    pub phase: Phase,
    /// Milliseconds that it took.
    pub took: u64,
}

/// A file that did not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unreadable {
    /// Vault and path.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// When drills are made by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrillSchedule {
    /// Seconds of chain time between two; 0 for none.
    pub every: u64,
    /// As [`DrillOptions`] have it; five per cent if none is given.
    pub share: Option<u16>,
    /// Likewise, for each of them.
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
    pub max_price: Option<Amount>,
}

/// The schedule, and what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillScheduleRow {
    /// Seconds of chain time between two; 0 for none.
    pub every: u64,
    /// Files whose bytes are brought back, in per mille.
    pub share: u16,
    /// The most that each may cost.
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
    pub max_price: Option<Amount>,
    /// When the last one began, by the chain's time.
    pub last: Option<u64>,
    /// When the next one is due.
    pub next: Option<u64>,
}

impl DrillReport {
    /// Version of this format.
    pub const VERSION: u8 = 1;
    /// Names and files that are told one by one.
    pub(super) const LISTED: usize = 1_000;

    /// One that has just begun. Until its end is known it is one that was interrupted: so it is read after a
    /// crash.
    pub(super) fn begun(started: u64, chain_time: u64, trigger: Trigger, share: u16) -> Self {
        let row = DrillRow {
            id: format!("{started:013}"),
            started,
            chain_time,
            took: 0,
            trigger,
            share,
            passed: false,
            problem: Some(JobProblem {
                code: "interrupted".to_owned(),
                message: "the node was stopped before the drill was done".to_owned(),
                retryable: true,
            }),
            names_expected: 0,
            names_found: 0,
            names_changed: 0,
            files: 0,
            bytes: 0,
            price: Amount::ZERO,
            cost: Amount::ZERO,
        };
        Self {
            version: Self::VERSION,
            row,
            phases: Vec::new(),
            position: 0,
            blocks: 0,
            contracts: 0,
            hosts: 0,
            may_be_missing: None,
            missing: Vec::new(),
            different: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// How it went, in plain words.
    #[must_use]
    pub fn summary(&self) -> String {
        let row = &self.row;
        if let Some(problem) = &row.problem {
            return format!("the drill did not come to its end: {}", problem.message);
        }
        let (found, expected, files) = (row.names_found, row.names_expected, row.files);
        let mut text =
            format!("{found} of {expected} names came back, and the bytes of {files} files");
        for (count, what) in [
            (self.missing.len(), "names are missing"),
            (self.different.len(), "names have something else behind them, or are not here"),
            (self.unreadable.len(), "files did not come back"),
        ] {
            let more = if count < Self::LISTED { "" } else { " or more" };
            if count > 0 {
                text.push_str(&format!("; {count}{more} {what}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_that_is_cut_off_reads_as_interrupted() {
        let report = DrillReport::begun(7, 7, Trigger::Schedule, 50);
        assert_eq!(
            (report.row.passed, report.row.problem.unwrap().code),
            (false, "interrupted".into())
        );
    }

    #[test]
    fn a_summary_says_what_did_not_come_back() {
        let mut report = DrillReport::begun(7, 7, Trigger::Manual, 50);
        report.row.problem = None;
        (report.row.names_expected, report.row.names_found, report.row.files) = (9, 6, 2);
        let passed = report.summary();
        assert_eq!(passed, "6 of 9 names came back, and the bytes of 2 files");
        report.missing = vec![String::new(); DrillReport::LISTED];
        assert_eq!(report.summary(), format!("{passed}; 1000 or more names are missing"));
        report.missing.truncate(2);
        report.different = vec![String::new()];
        report.unreadable = vec![Unreadable { file: String::new(), reason: String::new() }];
        assert_eq!(
            report.summary(),
            format!(
                "{passed}; 2 names are missing; 1 names have something else behind them, or are not here; \
                 1 files did not come back"
            )
        );
    }
}
