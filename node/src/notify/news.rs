//! What there is to tell, and how it is said: one function for each kind and outcome.
//!
//! Invariant: what failed, or was done in part only, is said to have failed in the subject and in the first
//! line of the text, and is never an [`Severity::Info`].

use samara_protocol::units::{Amount, ChainTime};
use serde::{Deserialize, Serialize};

use super::notice::{Kind, Notice, NoticeId, Severity, one_line};
use super::settings::Secret;
use crate::api::codes;
use crate::cli::display;

/// Longest name that is told, in characters.
const MAX_NAME: usize = 96;
/// Longest reason that is told, in characters.
const MAX_REASON: usize = 1_000;

/// What is done with a vault, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Metadata is pinned at the hosts.
    Backup,
    /// Files or vaults are brought back.
    Restore,
    /// A vault becomes one file.
    Archive,
}

impl Work {
    const fn noun(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Archive => "archive",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Backup => "Backup",
            Self::Restore => "Restore",
            Self::Archive => "Archive",
        }
    }

    const fn started(self) -> Kind {
        match self {
            Self::Backup => Kind::BackupStarted,
            Self::Restore => Kind::RestoreStarted,
            Self::Archive => Kind::ArchiveStarted,
        }
    }

    const fn completed(self) -> Kind {
        match self {
            Self::Backup => Kind::BackupCompleted,
            Self::Restore => Kind::RestoreCompleted,
            Self::Archive => Kind::ArchiveCompleted,
        }
    }

    const fn failed(self) -> Kind {
        match self {
            Self::Backup => Kind::BackupFailed,
            Self::Restore => Kind::RestoreFailed,
            Self::Archive => Kind::ArchiveFailed,
        }
    }
}

/// Which backup, restore or archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its id.
    pub sid: String,
    /// Its name.
    pub name: String,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Where a finished archive can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The address; whoever knows it can download.
    pub url: Secret,
    /// Until when.
    pub expires: Option<ChainTime>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same again may go well.
    pub retryable: bool,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields are described at their types")]
pub enum News {
    /// It has begun.
    Started { work: Work, about: About },
    /// It is done, all of it. Nothing but a mail has the link.
    Completed { work: Work, about: About, counts: Counts, link: Option<Link> },
    /// Part of it is done, and so many files are not.
    Incomplete { work: Work, about: About, counts: Counts, missing: u64, problem: Problem },
    /// It is not done.
    Failed { work: Work, about: About, problem: Problem },
    /// It will delete itself.
    Expiring { work: Work, about: About, expires: ChainTime },
    /// Contracts end that it needs.
    RecoverableUntil { about: About, until: ChainTime },
    /// Money will not last.
    AllowanceLow { balance: Amount, poor: u64, unpaid: u64 },
    /// A drill brought everything back.
    DrillPassed { about: About, summary: String },
    /// A drill did not.
    DrillFailed { about: About, problem: Problem },
    /// What was due was not begun.
    MissedSchedule { schedule: String, due: ChainTime, problem: Option<Problem> },
    /// Somebody wants to know whether notices arrive.
    Test {},
}

/// What is said.
struct Said {
    kind: Kind,
    severity: Severity,
    subject: String,
    text: String,
}

impl News {
    /// The notice that tells it.
    #[must_use]
    pub fn notice(&self, id: NoticeId, time: ChainTime) -> Notice {
        let Said { kind, severity, subject, text } = self.said();
        let data = serde_json::to_value(self).unwrap_or_default();
        Notice { id, kind, time, severity, subject, text, data }.bounded()
    }

    fn said(&self) -> Said {
        match self {
            Self::Started { work, about } => started(*work, about),
            Self::Completed { work, about, counts, link } => {
                completed(*work, about, counts, link.as_ref())
            }
            Self::Incomplete { work, about, counts, missing, problem } => {
                incomplete(*work, about, counts, *missing, problem)
            }
            Self::Failed { work, about, problem } => failed(*work, about, problem),
            Self::Expiring { work, about, expires } => expiring(*work, about, *expires),
            Self::RecoverableUntil { about, until } => recoverable_until(about, *until),
            Self::AllowanceLow { balance, poor, unpaid } => allowance_low(*balance, *poor, *unpaid),
            Self::DrillPassed { about, summary } => drill_passed(about, summary),
            Self::DrillFailed { about, problem } => drill_failed(about, problem),
            Self::MissedSchedule { schedule, due, problem } => {
                missed_schedule(schedule, *due, problem.as_ref())
            }
            Self::Test {} => test(),
        }
    }
}

fn name(about: &About) -> String {
    one_line(&about.name, MAX_NAME)
}

fn moment(time: ChainTime) -> String {
    format!("{} UTC", display::moment(time.0))
}

fn counted(counts: &Counts) -> String {
    format!("{}, {}", display::count(counts.files, "file"), display::size(counts.bytes))
}

/// The reason, what to do, whether trying again helps, and the id: the end of what tells a failure.
fn because(about: &About, problem: &Problem) -> String {
    let advice = if problem.retryable {
        "It may go well when it is started again."
    } else {
        "Started again as it is, it fails again: see to the reason first."
    };
    let hint = codes::find(&problem.code).and_then(|code| code.hint);
    let hint = hint.map_or_else(String::new, |hint| format!("What to do: {hint}.\n"));
    format!(
        "Reason: {} ({}).\n{hint}{advice}\n\nId: {}\n",
        one_line(&problem.message, MAX_REASON),
        one_line(&problem.code, MAX_NAME),
        one_line(&about.sid, MAX_NAME)
    )
}

/// Where more is said of work that failed.
fn log_of(work: Work, about: &About) -> String {
    let sid = one_line(&about.sid, MAX_NAME);
    match work {
        Work::Backup | Work::Archive => format!("`samara backup show {sid}` has its log.\n"),
        Work::Restore => format!("`samara restore log {sid}` has its log.\n"),
    }
}

fn started(work: Work, about: &About) -> Said {
    let (name, sid) = (name(about), one_line(&about.sid, MAX_NAME));
    Said {
        kind: work.started(),
        severity: Severity::Info,
        subject: format!("{} '{name}' has started", work.title()),
        text: format!(
            "The {} '{name}' has started. Another notice tells how it ended.\n\nId: {sid}\n",
            work.noun()
        ),
    }
}

fn completed(work: Work, about: &About, counts: &Counts, link: Option<&Link>) -> Said {
    let (name, sid) = (name(about), one_line(&about.sid, MAX_NAME));
    let mut text = format!("The {} '{name}' is complete: {}.\n", work.noun(), counted(counts));
    if let Some(link) = link {
        let until = link.expires.map_or(String::new(), |time| format!(" until {}", moment(time)));
        let url = one_line(link.url.reveal(), MAX_REASON);
        text.push_str(&format!("\nDownload it{until}; whoever has this link can:\n{url}\n"));
    } else if work == Work::Archive {
        text.push_str(&format!("\nSave it with `samara backup download {sid} FILE`.\n"));
    }
    text.push_str(&format!("\nId: {sid}\n"));
    Said {
        kind: work.completed(),
        severity: Severity::Info,
        subject: format!("{} '{name}' is complete", work.title()),
        text,
    }
}

fn incomplete(work: Work, about: &About, counts: &Counts, missing: u64, problem: &Problem) -> Said {
    let name = name(about);
    let missing = display::count(missing, "file");
    Said {
        kind: work.failed(),
        severity: Severity::Error,
        subject: format!("{} '{name}' failed in part: {missing} missing", work.title()),
        text: format!(
            "The {} '{name}' failed in part: {missing} missing. There are {}.\n{}",
            work.noun(),
            counted(counts),
            because(about, problem)
        ),
    }
}

fn failed(work: Work, about: &About, problem: &Problem) -> Said {
    let name = name(about);
    Said {
        kind: work.failed(),
        severity: Severity::Error,
        subject: format!("{} '{name}' failed", work.title()),
        text: format!(
            "The {} '{name}' failed.\n{}{}",
            work.noun(),
            because(about, problem),
            log_of(work, about)
        ),
    }
}

fn expiring(work: Work, about: &About, expires: ChainTime) -> Said {
    let (name, sid) = (name(about), one_line(&about.sid, MAX_NAME));
    let moment = moment(expires);
    Said {
        kind: Kind::Expiring,
        severity: Severity::Warning,
        subject: format!("{} '{name}' expires on {moment}", work.title()),
        text: format!(
            "The {} '{name}' expires on {moment}, and is deleted then. To keep it, pin it or give it \
             a later date.\n\nId: {sid}\n",
            work.noun()
        ),
    }
}

fn recoverable_until(about: &About, until: ChainTime) -> Said {
    let (name, sid) = (name(about), one_line(&about.sid, MAX_NAME));
    let moment = moment(until);
    Said {
        kind: Kind::RecoverableUntil,
        severity: Severity::Warning,
        subject: format!("'{name}' can be recovered until {moment} only"),
        text: format!(
            "Contracts that '{name}' needs end on {moment}. After that it cannot be recovered, unless \
             they are renewed: keep this node running, with an allowance and money (`samara status` \
             says what is missing).\n\nId: {sid}\n"
        ),
    }
}

fn allowance_low(balance: Amount, poor: u64, unpaid: u64) -> Said {
    let contracts = |count| display::count(count, "contract");
    let mut needs = Vec::new();
    if poor > 0 {
        needs.push(format!("{} cannot take more files", contracts(poor)));
    }
    if unpaid > 0 {
        needs.push(format!("{} could not be renewed", contracts(unpaid)));
    }
    let needs = if needs.is_empty() { "it is not enough".to_owned() } else { needs.join(", ") };
    Said {
        kind: Kind::AllowanceLow,
        severity: Severity::Warning,
        subject: "Money for storage runs low".to_owned(),
        text: format!(
            "The account has {balance}: {needs}.\n\
             Without money contracts end, and with them what they store. `samara wallet show` has the \
             account's address.\n"
        ),
    }
}

fn drill_passed(about: &About, summary: &str) -> Said {
    let (name, summary) = (name(about), one_line(summary, MAX_REASON));
    Said {
        kind: Kind::DrillPassed,
        severity: Severity::Info,
        subject: format!("Recovery drill '{name}' passed"),
        text: format!(
            "The recovery drill '{name}' brought back from the words what it should: {summary}\n"
        ),
    }
}

fn drill_failed(about: &About, problem: &Problem) -> Said {
    let name = name(about);
    Said {
        kind: Kind::DrillFailed,
        severity: Severity::Error,
        subject: format!("Recovery drill '{name}' failed"),
        text: format!("The recovery drill '{name}' failed.\n{}", because(about, problem)),
    }
}

fn missed_schedule(schedule: &str, due: ChainTime, problem: Option<&Problem>) -> Said {
    let (name, moment) = (one_line(schedule, MAX_NAME), moment(due));
    let reason = problem.map_or_else(
        || "This node did not run then.".to_owned(),
        |problem| format!("Reason: {}.", one_line(&problem.message, MAX_REASON)),
    );
    Said {
        kind: Kind::MissedSchedule,
        severity: Severity::Warning,
        subject: format!("Schedule '{name}' was missed"),
        text: format!(
            "The schedule '{name}' was missed: nothing was begun on {moment}. {reason}\n"
        ),
    }
}

fn test() -> Said {
    Said {
        kind: Kind::Test,
        severity: Severity::Info,
        subject: "Test: notices arrive".to_owned(),
        text: "This is a test. Notices of this node arrive here.\n".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn about(name: &str) -> About {
        About { sid: "4f2a".to_owned(), name: name.to_owned() }
    }

    pub fn url(text: &str) -> Secret {
        Secret::new(zeroize::Zeroizing::new(text.to_owned()))
    }

    pub fn problem(message: &str) -> Problem {
        Problem { code: "no_quorum".to_owned(), message: message.to_owned(), retryable: true }
    }

    /// One of each kind and outcome.
    pub fn all(about: &About) -> Vec<News> {
        let counts = Counts { files: 1_200, bytes: 2_000_000 };
        let problem = problem("too few hosts answer");
        let mut all = Vec::new();
        for work in [Work::Backup, Work::Restore, Work::Archive] {
            let (about, counts, problem) = (about.clone(), counts.clone(), problem.clone());
            let link = Link { url: url("https://a/b"), expires: Some(ChainTime(0)) };
            let link = (work == Work::Archive).then_some(link);
            all.extend([
                News::Started { work, about: about.clone() },
                News::Completed { work, about: about.clone(), counts: counts.clone(), link },
                News::Incomplete {
                    work,
                    about: about.clone(),
                    counts,
                    missing: 3,
                    problem: problem.clone(),
                },
                News::Failed { work, about: about.clone(), problem },
                News::Expiring { work, about, expires: ChainTime(0) },
            ]);
        }
        all.extend([
            News::RecoverableUntil { about: about.clone(), until: ChainTime(0) },
            News::AllowanceLow { balance: Amount::coins(1), poor: 2, unpaid: 1 },
            News::DrillPassed { about: about.clone(), summary: "9 files in 3 s".to_owned() },
            News::DrillFailed { about: about.clone(), problem: problem.clone() },
            News::MissedSchedule {
                schedule: about.name.clone(),
                due: ChainTime(0),
                problem: Some(problem),
            },
            News::Test {},
        ]);
        all
    }

    #[test]
    fn a_failure_never_reads_as_success() {
        let (mut failures, mut successes) = (0, 0);
        for news in all(&about("photos")) {
            let notice = news.notice(NoticeId([1; 16]), ChainTime(0));
            let first = notice.text.lines().next().unwrap().to_lowercase();
            let subject = notice.subject.to_lowercase();
            let is_failure = matches!(
                news,
                News::Failed { .. } | News::Incomplete { .. } | News::DrillFailed { .. }
            );
            let is_success = matches!(news, News::Completed { .. } | News::DrillPassed { .. });
            for said in [&subject, &first] {
                assert_eq!(said.contains("failed"), is_failure, "{said}");
                let glad = ["complete", "passed", "brought", "ready", "succe"];
                let glad = glad.iter().any(|word| said.contains(word));
                assert_eq!(glad, is_success, "{said}");
            }
            assert_eq!(notice.severity == Severity::Error, is_failure, "{subject}");
            assert_eq!(notice.kind.word().ends_with("failed"), is_failure, "{subject}");
            let well = ["completed", "passed"].iter().any(|w| notice.kind.word().ends_with(w));
            assert_eq!(well, is_success, "{subject}");
            if is_failure {
                failures += 1;
                assert!(notice.text.contains("too few hosts answer (no_quorum)"));
            }
            successes += usize::from(is_success);
        }
        assert_eq!((failures, successes), (7, 4));
    }

    #[test]
    fn every_kind_is_told() {
        use std::collections::BTreeSet;
        let told: BTreeSet<Kind> =
            all(&about("photos")).iter().map(|news| news.said().kind).collect();
        assert_eq!(told.len(), Kind::ALL.len());
    }

    #[test]
    fn names_of_others_stay_on_their_line() {
        for news in all(&about("x\r\nSubject: done\u{202e}\u{2028}")) {
            let notice = news.notice(NoticeId([1; 16]), ChainTime(0));
            assert!(!notice.subject.chars().any(char::is_control), "{}", notice.subject);
            assert!(!notice.text.contains("\nSubject"), "{}", notice.text);
            assert!(!notice.text.contains('\r') && !notice.text.contains('\u{202e}'));
        }
    }

    #[test]
    fn a_finished_archive_comes_with_its_link() {
        let link = Link { url: url("https://a/b"), expires: Some(ChainTime(86_400_000)) };
        let counts = Counts { files: 1, bytes: 5 };
        let work = Work::Archive;
        let news = News::Completed { work, about: about("photos"), counts, link: Some(link) };
        let notice = news.notice(NoticeId([1; 16]), ChainTime(0));
        assert!(notice.text.contains("\nhttps://a/b\n"), "{}", notice.text);
        assert!(notice.text.contains("until 1970-01-02 00:00 UTC"), "{}", notice.text);
        assert!(notice.text.contains("1 file, 5 B"), "{}", notice.text);
        assert_eq!(notice.data["counts"]["files"], 1);
    }
}
