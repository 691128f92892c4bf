//! What happens on the renter, as notices for people.

use samara_protocol::units::ChainTime;
use samara_renter::backup::{BackupKind, BackupRow, BackupStatus, JobProblem};
use samara_renter::news::News as Happened;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::clock;
use crate::notify::{About, Counts, News, Notices, NotifyError, Problem, Work};

/// A day in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Publishes what happens, for as long as the renter lives; first what a crash has kept from being told of
/// the backups that there are.
pub(super) async fn tell(
    backups: Vec<BackupRow>,
    mut happened: Receiver<Happened>,
    notices: Notices,
) {
    // Once somebody was not told of an archive, the mark stays before it: the next start tells.
    let mut behind = match tell_missed(backups, &notices).await {
        Ok(told) => !told,
        Err(error) => {
            tracing::warn!(%error, "it cannot be read which archives were told of");
            true
        }
    };
    loop {
        match happened.recv().await {
            Ok(happened) => {
                notices.job(&happened);
                let Some((event, news)) = news_of(&happened, clock::now()) else { continue };
                let told = notices.tell(&event, &news).await;
                if let Some(time) = whole_since(&happened) {
                    behind |= !told;
                    if !behind {
                        note_ended(time, &notices).await;
                    }
                }
            }
            Err(RecvError::Lagged(missed)) => {
                behind = true;
                tracing::warn!(missed, "some of what happened is not told; the lists have it");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells of archives that were whole before a crash, and of which nobody was told. Those that the crash has
/// cut are news of this start. Whether all were told; what comes after the first that was not is not tried.
async fn tell_missed(backups: Vec<BackupRow>, notices: &Notices) -> Result<bool, NotifyError> {
    let archives = backups.into_iter().filter(|row| row.kind == BackupKind::Archive);
    let mut whole: Vec<BackupRow> = archives.filter(|row| row.date_completed.is_some()).collect();
    whole.sort_by_key(|row| row.date_completed);
    let Some(told) = notices.ended().await? else {
        // Nobody has told of anything here: what there is, is no news.
        let last = whole.last().and_then(|row| row.date_completed).unwrap_or_default();
        notices.note_ended(last).await?;
        return Ok(true);
    };
    for row in whole.into_iter().filter(|row| row.date_completed > Some(told)) {
        let happened = Happened::BackupEnded(Box::new(row));
        let Some((event, news)) = news_of(&happened, clock::now()) else { continue };
        if !notices.tell(&event, &news).await {
            return Ok(false);
        }
        if let Some(time) = whole_since(&happened) {
            note_ended(time, notices).await;
        }
    }
    Ok(true)
}

/// When the archive was finished that this tells of.
fn whole_since(happened: &Happened) -> Option<u64> {
    match happened {
        Happened::BackupEnded(row) if row.kind == BackupKind::Archive => row.date_completed,
        _ => None,
    }
}

/// Notes that all were told of the archives that were finished up to then.
async fn note_ended(time: u64, notices: &Notices) {
    if let Err(error) = notices.note_ended(time).await {
        // It is told again after a restart, and is the same notice.
        tracing::debug!(%error, "it is not noted that an archive was told of");
    }
}

/// What there is to tell, and a name for it that never means anything else.
fn news_of(happened: &Happened, now: ChainTime) -> Option<(String, News)> {
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
            // The same numbers come again in a later spell: the day tells one from the other.
            let day = now.0 / DAY;
            (format!("allowance low {day} {balance} {poor} {unpaid}"), news)
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
    use std::sync::Arc;

    use samara_protocol::units::Amount;
    use serde_json::json;
    use tokio::sync::broadcast;

    use super::*;
    use crate::notify::settings::MemorySettings;
    use crate::notify::{Linked, Linker, NoticeId};

    struct NoLinks;

    impl Linker for NoLinks {
        fn link(&self, _: NoticeId, _: &str, _: u32) -> Linked {
            Linked::Nowhere
        }

        fn sent(&self, _: NoticeId) {}
    }

    fn archive(completed: u64) -> BackupRow {
        let row = json!({
            "sid": "00", "kind": BackupKind::Archive, "name": "n", "description": "", "tags": [],
            "vault": null, "status": BackupStatus::Completed, "phase": null, "progress": null,
            "error": null, "events": 1, "versions": 1, "files": 1, "file_size": 1,
            "stored_size": 1, "cost_quoted": "0", "cost_actual": null, "created_by": null,
            "trigger": "manual", "schedule": null, "pinned": false, "date_created": 1,
            "chain_time": 1, "date_completed": completed, "date_expired": null,
            "recoverable_until": null, "hosts_ok": 0, "hosts_needed": 0, "hosts_total": 0,
            "head_seq": 1, "head_hash": "00", "archive_hash": "00", "encrypted": false,
            "file_path": null,
        });
        serde_json::from_value(row).unwrap()
    }

    /// Tells of archives that end, as far as a queue of one has them, and stops.
    async fn run(backups: Vec<BackupRow>, ended: &[u64], notices: &Notices) {
        let (sender, happened) = broadcast::channel(1);
        for completed in ended {
            sender.send(Happened::BackupEnded(Box::new(archive(*completed)))).unwrap();
        }
        drop(sender);
        tell(backups, happened, notices.clone()).await;
    }

    #[tokio::test]
    async fn an_archive_that_was_not_told_of_is_told_of_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let channels = (&[][..], Arc::new(NoLinks) as Arc<_>);
        let settings = Arc::new(MemorySettings::default());
        let notices = Notices::start(folder.path(), settings, channels, clock::system());
        let notices = notices.await.unwrap();
        run(vec![archive(5)], &[6], &notices).await;
        let seen =
            async || (notices.list(0, 9).await.unwrap().len(), notices.ended().await.unwrap());
        assert_eq!(seen().await, (1, Some(6)));
        // The first of them is lost, and the mark stays before it.
        run(vec![archive(5), archive(6)], &[7, 8], &notices).await;
        assert_eq!(seen().await, (2, Some(6)));
        run([5, 6, 7, 8].map(archive).into(), &[], &notices).await;
        assert_eq!(seen().await, (3, Some(8)));
        notices.shutdown().await;
    }

    #[test]
    fn a_later_spell_of_low_allowance_is_another_event() {
        let low = Happened::AllowanceLow { balance: Amount::coins(1), poor: 2, unpaid: 0 };
        let [first, same, later] =
            [0, DAY - 1, DAY].map(|now| news_of(&low, ChainTime(now)).unwrap().0);
        assert_eq!(first, same);
        assert_ne!(first, later);
    }

    #[test]
    fn a_drill_that_did_not_pass_has_a_code_that_says_so() {
        let news = drill_news("7", false, "1 names are missing");
        let News::DrillFailed { problem, .. } = news else { panic!("{news:?}") };
        let code = crate::api::codes::find(&problem.code).unwrap();
        assert!(code.meaning.contains("did not pass"), "{}", code.meaning);
        assert_eq!(problem.message, "1 names are missing");
    }
}
