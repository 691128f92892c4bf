//! What happens on the renter, as notices for people.

use samara_protocol::units::ChainTime;
use samara_renter::backup::{BackupKind, BackupRow, BackupStatus, JobProblem};
use samara_renter::news::News as Happened;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::notify::{About, Counts, News, Notices, NotifyError, Problem, Work};

/// Publishes what happens, for as long as the renter lives; first what a crash has kept from being told of
/// the backups that there are.
pub(super) async fn tell(
    backups: Vec<BackupRow>,
    mut happened: Receiver<Happened>,
    notices: Notices,
) {
    if let Err(error) = tell_missed(backups, &notices).await {
        tracing::warn!(%error, "it cannot be read which archives were told of");
    }
    loop {
        match happened.recv().await {
            Ok(happened) => {
                notices.job(&happened);
                if let Some((event, news)) = news_of(&happened) {
                    let told = notices.tell(&event, &news).await;
                    if let (true, Happened::BackupEnded(row)) = (told, &happened) {
                        note_ended(row, &notices).await;
                    }
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "some of what happened is not told; the lists have it");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells of archives that were whole before a crash, and of which nobody was told. Those that the crash has
/// cut are news of this start.
async fn tell_missed(backups: Vec<BackupRow>, notices: &Notices) -> Result<(), NotifyError> {
    let archives = backups.into_iter().filter(|row| row.kind == BackupKind::Archive);
    let mut whole: Vec<BackupRow> = archives.filter(|row| row.date_completed.is_some()).collect();
    whole.sort_by_key(|row| row.date_completed);
    let Some(told) = notices.ended().await? else {
        // Nobody has told of anything here: what there is, is no news.
        let last = whole.last().and_then(|row| row.date_completed).unwrap_or_default();
        return notices.note_ended(last).await;
    };
    for row in whole.into_iter().filter(|row| row.date_completed > Some(told)) {
        let happened = Happened::BackupEnded(Box::new(row));
        if let Some((event, news)) = news_of(&happened)
            && notices.tell(&event, &news).await
            && let Happened::BackupEnded(row) = &happened
        {
            note_ended(row, notices).await;
        }
    }
    Ok(())
}

/// Notes that all were told of the end of an archive.
async fn note_ended(row: &BackupRow, notices: &Notices) {
    let Some(time) = row.date_completed.filter(|_| row.kind == BackupKind::Archive) else { return };
    if let Err(error) = notices.note_ended(time).await {
        // It is told again after a restart, and is the same notice.
        tracing::debug!(%error, "it is not noted that an archive was told of");
    }
}

/// What there is to tell, and a name for it that never means anything else.
fn news_of(happened: &Happened) -> Option<(String, News)> {
    Some(match happened {
        Happened::BackupStarted(row) => {
            let (work, about) = (work(row), about(row));
            (format!("{} started {}", row.sid, row.date_created), News::Started { work, about })
        }
        Happened::BackupEnded(row) => {
            let ended = row.date_completed.unwrap_or(row.date_created);
            (format!("{} ended {ended}", row.sid), ended_news(row)?)
        }
        Happened::BackupDeleted { .. }
        | Happened::ScanAdvanced(_)
        | Happened::ScanFoundBackup(_)
        | Happened::ScanLostBackup { .. } => return None,
        Happened::ScheduleMissed { policy, due, .. } => {
            let (schedule, due) = (policy.clone(), ChainTime(*due));
            let news = News::MissedSchedule { schedule, due, problem: None };
            (format!("policy {policy} missed {}", due.0), news)
        }
        Happened::Expiring(row) => {
            let expires = ChainTime(row.date_expired?);
            let news = News::Expiring { work: work(row), about: about(row), expires };
            (format!("{} expires {}", row.sid, expires.0), news)
        }
        Happened::RecoverableNear(row) => {
            let until = ChainTime(row.recoverable_until?);
            let news = News::RecoverableUntil { about: about(row), until };
            (format!("{} recoverable until {}", row.sid, until.0), news)
        }
        Happened::AllowanceLow { balance, poor, unpaid } => {
            let news = News::AllowanceLow { balance: *balance, poor: *poor, unpaid: *unpaid };
            (format!("allowance low {balance} {poor} {unpaid}"), news)
        }
        Happened::DrillEnded { id, passed, summary } => {
            (format!("drill {id}"), drill_news(id, *passed, summary))
        }
    })
}

fn drill_news(id: &str, passed: bool, summary: &str) -> News {
    let about = About { sid: id.to_owned(), name: id.to_owned() };
    if passed {
        return News::DrillPassed { about, summary: summary.to_owned() };
    }
    let (code, message) = ("drill_failed".to_owned(), summary.to_owned());
    News::DrillFailed { about, problem: Problem { code, message, retryable: true } }
}

/// How a backup has ended; nothing while it goes on.
fn ended_news(row: &BackupRow) -> Option<News> {
    let (work, about) = (work(row), about(row));
    match (row.status, &row.error) {
        (BackupStatus::Completed, _) => {
            let counts = Counts { files: row.files, bytes: row.file_size };
            // Those who get a mail get a link; others have to log in.
            Some(News::Completed { work, about, counts, link: None })
        }
        (BackupStatus::Error, Some(problem)) => {
            Some(News::Failed { work, about, problem: problem_of(problem) })
        }
        _ => None,
    }
}

fn problem_of(problem: &JobProblem) -> Problem {
    let JobProblem { code, message, retryable } = problem.clone();
    Problem { code, message, retryable }
}

const fn work(row: &BackupRow) -> Work {
    match row.kind {
        BackupKind::Network => Work::Backup,
        BackupKind::Archive => Work::Archive,
    }
}

fn about(row: &BackupRow) -> About {
    About { sid: row.sid.clone(), name: row.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_that_did_not_pass_has_a_code_that_says_so() {
        let news = drill_news("7", false, "1 names are missing");
        let News::DrillFailed { problem, .. } = news else { panic!("{news:?}") };
        let code = crate::api::codes::find(&problem.code).unwrap();
        assert!(code.meaning.contains("did not pass"), "{}", code.meaning);
        assert_eq!(problem.message, "1 names are missing");
    }
}
