//! `samara recover scan | list | cancel`: what the words own, found in the background.

use std::time::Duration;

use samara_renter::backup::BackupStatus;
use samara_renter::progress::{Phase, ProgressEvent, Unit};
use samara_renter::recovery::{
    FoundBackup, RecoveryScanOptions, RecoveryScanState, RecoveryScanStatus,
};

use super::arguments::RecoverScanArguments;
use super::bar::Progress;
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

/// Where the scan is in the API.
const SCAN: &str = "/v1/recovery-scan";
/// Time between two looks at it.
const LOOK: Duration = Duration::from_millis(300);

/// Starts a scan, and shows it until it has ended.
pub async fn scan(session: &Session, arguments: &RecoverScanArguments) -> Result<Exit, Failure> {
    let options = RecoveryScanOptions {
        restart: arguments.restart,
        maximum_age: arguments.maximum_age.map(|seconds| seconds.saturating_mul(1000)),
    };
    let begun: RecoveryScanStatus = session.client()?.post(SCAN, &options).await?;
    if arguments.detach {
        session.output.answer(&begun, || {
            session.for_this_node("the scan is under way; `samara recover status` shows how far\n")
        });
        return Ok(Exit::Ok);
    }
    let status = follow(session).await?;
    session.output.answer(&status, || session.for_this_node(&status_text(&status)));
    Ok(ended(&status))
}

/// Shows a scan until it has ended, with the backups as they appear.
///
/// # Errors
/// Why it failed, or that somebody has stopped it.
pub async fn follow(session: &Session) -> Result<RecoveryScanStatus, Failure> {
    let mut progress = Progress::new(session.output);
    let mut shown: Vec<FoundBackup> = Vec::new();
    let status = loop {
        let status: RecoveryScanStatus = session.client()?.get(SCAN).await?;
        let new = status.backups.iter().filter(|backup| !shown.contains(backup));
        for backup in new {
            // That a backup is no longer preliminary is said by the end itself.
            let known = shown.iter().any(|known| known.sid == backup.sid);
            if !known {
                progress.line(&backup_line(backup));
            }
            if let Ok(value) = serde_json::to_value(backup) {
                session.output.message("backup", value);
            }
        }
        shown.clone_from(&status.backups);
        if !status.state.is_open() {
            break status;
        }
        if let Some(event) = event(&status)
            && let Ok(value) = serde_json::to_value(event)
        {
            progress.take(value);
        }
        tokio::time::sleep(LOOK).await;
    };
    progress.finish();
    if let Some(error) = status.error.as_ref().filter(|_| status.state == RecoveryScanState::Failed)
    {
        let mut failure = Failure::new(Exit::of_code(&error.code), error.message.clone());
        failure.code.clone_from(&error.code);
        return Err(match &status.next {
            Some(next) => failure.with_hint(next),
            None => failure,
        });
    }
    if status.state == RecoveryScanState::Stopped {
        let message = "the scan was stopped; `samara recover scan` goes on from there";
        return Err(Failure::new(Exit::Interrupted, message));
    }
    Ok(status)
}

/// How far a scan is, as an event of an operation.
fn event(status: &RecoveryScanStatus) -> Option<ProgressEvent> {
    let (blocks, hosts) = (Unit::Blocks, Unit::Hosts);
    let (done, total, unit) = match status.phase? {
        Phase::Scanning => (status.blocks_done, status.blocks_known, blocks),
        Phase::Asking => (status.hosts_answered, Some(status.hosts_asked), hosts),
        _ => (status.hosts_answered, None, hosts),
    };
    let paced = unit == Unit::Blocks;
    Some(ProgressEvent::Advanced {
        phase: status.phase?,
        item: Some(display::count(status.contracts_found, "contract") + " found"),
        done,
        total,
        unit,
        rate: status.rate.filter(|_| paced),
        seconds_left: status.seconds_left.filter(|_| paced),
    })
}

/// Ends as the scan has.
fn ended(status: &RecoveryScanStatus) -> Exit {
    match status.state {
        RecoveryScanState::NothingFound => Exit::NothingFound,
        _ => Exit::Ok,
    }
}

fn backup_line(backup: &FoundBackup) -> String {
    let of = backup.vault.as_ref().map(|vault| format!(" of {}", display::plain(vault)));
    format!(
        "backup '{}'{}, {}, {}, {}",
        display::plain(&backup.name),
        of.unwrap_or_default(),
        display::moment(backup.date_created),
        display::count(backup.files, "file"),
        display::size(backup.file_size)
    )
}

const fn state_name(state: RecoveryScanState) -> &'static str {
    match state {
        RecoveryScanState::Idle => "no scan was started",
        RecoveryScanState::Scanning => "reading the chain",
        RecoveryScanState::Asking => "asking hosts",
        RecoveryScanState::Reading => "reading the list of backups",
        RecoveryScanState::Found => "ended",
        RecoveryScanState::NothingFound => "ended: nothing lives",
        RecoveryScanState::Stopped => "stopped",
        RecoveryScanState::Failed => "failed",
    }
}

/// A scan, for people.
pub fn status_text(status: &RecoveryScanStatus) -> String {
    let mut lines = Lines::default();
    lines.line("scan", state_name(status.state));
    let known = status.blocks_known.map_or_else(|| "?".to_owned(), display::thousands);
    let mut blocks = format!("{} of {known}", display::thousands(status.blocks_done));
    if let Some(rate) = status.rate {
        blocks.push_str(&format!(", {}/s", display::thousands(rate)));
    }
    if let Some(left) = status.seconds_left {
        blocks.push_str(&format!(", {} left", display::duration(Duration::from_secs(left))));
    }
    lines.line("blocks", blocks);
    let mut contracts = format!(
        "{} found, {} of them live",
        display::thousands(status.contracts_found),
        display::thousands(status.contracts_live)
    );
    if status.contracts_known > 0 {
        let unknown = display::thousands(status.contracts_unknown);
        contracts.push_str(&format!(", {unknown} not known to this node"));
    }
    lines.line("contracts", contracts);
    if status.hosts_asked > 0 {
        let answered = display::thousands(status.hosts_answered);
        let asked = display::thousands(status.hosts_asked);
        lines.line("hosts", format!("{answered} of {asked} answered"));
    }
    let preliminary = status.backups.iter().any(|backup| backup.preliminary);
    let so_far = if preliminary { " so far" } else { "" };
    lines
        .line("backups", display::count(status.backups.len() as u64, "backup") + " found" + so_far);
    for backup in &status.backups {
        lines.item(backup_line(backup));
    }
    if let Some(missing) = &status.may_be_missing {
        lines.line("missing", missing);
    }
    if let Some(error) = &status.error {
        lines.line("problem", &error.message);
    }
    if let Some(next) = &status.next {
        lines.line("next", next);
    }
    lines.render()
}

/// Lists what was found so far.
pub async fn list(session: &Session) -> Result<Exit, Failure> {
    let status: RecoveryScanStatus = session.client()?.get(SCAN).await?;
    session.output.answer(&status.backups, || session.for_this_node(&list_text(&status)));
    Ok(ended(&status))
}

fn list_text(status: &RecoveryScanStatus) -> String {
    let mut table = Table::new(&[
        ("backup", Align::Left),
        ("made", Align::Left),
        ("of", Align::Left),
        ("files", Align::Right),
        ("bytes", Align::Right),
        ("state", Align::Left),
    ]);
    for backup in &status.backups {
        let state = match backup.status {
            BackupStatus::Completed => "completed",
            BackupStatus::InProgress => "in progress",
            BackupStatus::Error => "error",
        };
        let preliminary = if backup.preliminary { ", preliminary" } else { "" };
        table.row([
            display::plain(&backup.name),
            display::moment(backup.date_created),
            backup.vault.as_deref().map_or_else(|| "all vaults".to_owned(), display::plain),
            display::thousands(backup.files),
            display::size(backup.file_size),
            format!("{state}{preliminary}"),
        ]);
    }
    let mut text = if table.is_empty() { "no backups\n".to_owned() } else { table.render() };
    match status.state {
        RecoveryScanState::Idle if status.backups.is_empty() => {
            text.push_str("no scan was started: `samara recover scan` looks for them\n");
        }
        state if state.is_open() => text.push_str("the scan has not ended: more may appear\n"),
        _ => {}
    }
    text
}

/// Stops a scan.
pub async fn cancel(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let before: RecoveryScanStatus = client.get(SCAN).await?;
    let status: RecoveryScanStatus = client.delete(SCAN).await?;
    session.output.answer(&status, || {
        session.for_this_node(match before.state.is_open() {
            true => "stopped; `samara recover scan` goes on from there\n",
            false => "no scan is running\n",
        })
    });
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(preliminary: bool) -> FoundBackup {
        FoundBackup {
            sid: "ab".repeat(16),
            name: "before".into(),
            description: String::new(),
            tags: Vec::new(),
            vault: Some("home".into()),
            status: BackupStatus::Completed,
            preliminary,
            pinned: false,
            events: 9,
            versions: 4,
            files: 3,
            file_size: 2_000_000,
            date_created: 1_700_000_000_000,
            chain_time: 1_700_000_000_000,
            date_expired: None,
            hosts_ok: 5,
            hosts_needed: 4,
            hosts_total: 5,
            head_seq: 12,
        }
    }

    #[test]
    fn a_scan_tells_how_far_it_is_and_what_it_has_found() {
        let status = RecoveryScanStatus {
            state: RecoveryScanState::Scanning,
            phase: Some(Phase::Scanning),
            blocks_done: 1_000,
            blocks_known: Some(5_000),
            rate: Some(2_000),
            seconds_left: Some(2),
            contracts_found: 2,
            contracts_live: 1,
            hosts_asked: 1,
            hosts_answered: 1,
            backups: vec![backup(true)],
            ..RecoveryScanStatus::default()
        };
        let text = status_text(&status);
        let begin = "scan         reading the chain\n\
                     blocks       1,000 of 5,000, 2,000/s, 2.0 s left\n\
                     contracts    2 found, 1 of them live\n\
                     hosts        1 of 1 answered\n\
                     backups      1 backup found so far\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("backup 'before' of home, ") && text.contains("3 files, 2.0 MB"));
        let listed = list_text(&status);
        assert!(listed.contains("completed, preliminary"), "{listed}");
        assert!(listed.ends_with("the scan has not ended: more may appear\n"), "{listed}");
        let event = event(&status).unwrap();
        let ProgressEvent::Advanced { done, total, unit, .. } = event else { panic!("{event:?}") };
        assert_eq!((done, total, unit), (1_000, Some(5_000), Unit::Blocks));
    }

    #[test]
    fn a_scan_that_has_ended_marks_nothing_and_words_that_own_nothing_end_with_a_code() {
        let ended_status = |state| RecoveryScanStatus {
            state,
            backups: vec![backup(false)],
            ..RecoveryScanStatus::default()
        };
        let status = ended_status(RecoveryScanState::Found);
        assert!(!list_text(&status).contains("preliminary"));
        assert!(status_text(&status).contains("1 backup found\n"));
        assert_eq!((ended(&status), event(&status)), (Exit::Ok, None));
        let status = ended_status(RecoveryScanState::NothingFound);
        assert_eq!(ended(&status), Exit::NothingFound);
        let idle = list_text(&RecoveryScanStatus::default());
        assert!(idle.contains("`samara recover scan` looks for them"), "{idle}");
    }
}
