//! `samara restore`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use samara_renter::archive::Passphrase;
use samara_renter::backup::{JobProgress, RestoreRequest};
use samara_renter::progress::ProgressEvent;
use samara_renter::vault::Conflict;

use super::address::{Place, segment};
use super::arguments::{RestoreArguments, RestoreCommand};
use super::bar::Progress;
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::money::parse_amount;
use super::password::{Purpose, passphrase};
use super::session::{Session, target_folder};
use crate::api::{Done, GoOn};
use crate::restores::{NewRestore, Restore, RestoreSource, RestoreState, Restored};

/// Time between two looks at a restore.
const LOOK: Duration = Duration::from_millis(300);

/// Runs one of the commands.
pub async fn run(session: &Session, arguments: RestoreArguments) -> Result<Exit, Failure> {
    match arguments.command {
        Some(RestoreCommand::List) => list(session).await,
        Some(RestoreCommand::Status { id }) => status(session, &id).await,
        Some(RestoreCommand::Log { id }) => log(session, &id).await,
        Some(RestoreCommand::Cancel { id }) => {
            change(session, &id, "cancel", "is being cancelled").await
        }
        Some(RestoreCommand::Resume { id, passphrase_from }) => {
            let passphrase = passphrase(passphrase_from, Purpose::Known).await?;
            go_on(session, &id, "resume", passphrase).await
        }
        Some(RestoreCommand::Approve { id, passphrase_from }) => {
            let passphrase = passphrase(passphrase_from, Purpose::Known).await?;
            go_on(session, &id, "approve", passphrase).await
        }
        Some(RestoreCommand::Reject { id }) => change(session, &id, "reject", "is rejected").await,
        Some(RestoreCommand::Delete { id }) => delete(session, &id).await,
        None => restore(session, arguments).await,
    }
}

fn path(id: &str, rest: &str) -> Result<String, Failure> {
    Ok(format!("/v1/restores/{}{rest}", segment(id)?))
}

/// What is meant: an address, a file, or a backup by its name.
fn source(arguments: &RestoreArguments, what: &str) -> Result<RestoreSource, Failure> {
    if what.starts_with("http://") || what.starts_with("https://") {
        return Ok(RestoreSource::Url(what.to_owned()));
    }
    let file = PathBuf::from(what);
    if file.is_file() {
        let absolute = std::path::absolute(&file)
            .map_err(|error| Failure::new(Exit::Failure, format!("{}: {error}", file.display())))?;
        return Ok(RestoreSource::Path(absolute));
    }
    let (part, target) = (arguments.path.as_deref(), arguments.to.as_deref());
    let request = restore_request(what.to_owned(), part, target, arguments.on_conflict.into())?;
    Ok(RestoreSource::Backup(Box::new(request)))
}

/// Refuses what would be ignored: an archive becomes a new vault, and a network backup goes where files are.
fn check_options(arguments: &RestoreArguments, source: &RestoreSource) -> Result<(), Failure> {
    let unfit = match source {
        RestoreSource::Backup(_) => [
            ("--name", arguments.name.is_some()),
            ("--passphrase-from", arguments.passphrase_from.is_some()),
        ],
        _ => [("--path", arguments.path.is_some()), ("--to", arguments.to.is_some())],
    };
    let what = match source {
        RestoreSource::Backup(_) => "an archive, and this is a network backup",
        _ => "a network backup, and this is an archive",
    };
    match unfit.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::new(Exit::Usage, format!("{option} is for {what}"))),
        None => Ok(()),
    }
}

/// A part of a backup, or all of it, into a folder, or into the vaults if none is named.
pub(super) fn restore_request(
    backup: String,
    part: Option<&str>,
    target: Option<&Path>,
    conflict: Conflict,
) -> Result<RestoreRequest, Failure> {
    let place = part.map(Place::parse).transpose()?;
    let (vault, path) =
        place.map_or((None, String::new()), |place| (Some(place.vault), place.path));
    let destination = target.map(target_folder).transpose()?;
    Ok(RestoreRequest {
        backup,
        vault,
        path,
        into_vault: destination.is_none(),
        destination,
        conflict,
        dry_run: false,
    })
}

async fn restore(session: &Session, arguments: RestoreArguments) -> Result<Exit, Failure> {
    let Some(what) = arguments.what.clone() else {
        return Err(Failure::new(
            Exit::Usage,
            "say what to restore: a backup, a file or an address",
        ));
    };
    session.renter_ready().await?;
    let source = source(&arguments, &what)?;
    check_options(&arguments, &source)?;
    let new = NewRestore {
        source,
        name: arguments.name.clone(),
        passphrase: passphrase(arguments.passphrase_from.clone(), Purpose::Known).await?,
        max_cost: arguments.max_cost.as_deref().map(parse_amount).transpose()?,
        announced: None,
        dry_run: arguments.dry_run,
    };
    let client = session.client()?;
    if new.dry_run {
        let looked: Restored = client.post("/v1/restores", &new).await?;
        session.output.answer(&looked, || {
            format!("nothing was changed; it would bring back:\n{}", restored_text(&looked))
        });
        return Ok(Exit::Ok);
    }
    let job: Restore = client.post("/v1/restores", &new).await?;
    if arguments.detach {
        session.output.answer(&job, || format!("restore {} is under way\n", job.id));
        return Ok(Exit::Ok);
    }
    follow(session, &job.id).await
}

/// Shows a restore until it has ended.
async fn follow(session: &Session, id: &str) -> Result<Exit, Failure> {
    let job = outcome(session, id).await?;
    session.output.answer(&job, || ended_text(&job));
    Ok(ended(&job))
}

/// Waits for a restore's end, and shows how far it is meanwhile.
///
/// # Errors
/// Why it failed, if it did.
pub async fn outcome(session: &Session, id: &str) -> Result<Restore, Failure> {
    let mut progress = Progress::new(session.output);
    let job: Restore = loop {
        let job: Restore = session.client()?.get(&path(id, "")?).await?;
        if !job.state.is_open() {
            break job;
        }
        if let Some(now) = job.progress
            && let Ok(event) = serde_json::to_value(event(&now))
        {
            progress.take(event);
        }
        tokio::time::sleep(LOOK).await;
    };
    progress.finish();
    let Some(error) = &job.error else { return Ok(job) };
    let mut failure = Failure::new(Exit::of_code(&error.code), error.message.clone());
    failure.code.clone_from(&error.code);
    Err(failure.with_hint(format!("`samara restore log {}` tells more", job.id)))
}

const fn event(progress: &JobProgress) -> ProgressEvent {
    let JobProgress { phase, done, total, unit, seconds_left } = *progress;
    ProgressEvent::Advanced { phase, item: None, done, total, unit, rate: None, seconds_left }
}

/// What a restore came to, for people.
pub fn ended_text(job: &Restore) -> String {
    let restored = job.restored.as_ref().map(restored_text).unwrap_or_default();
    format!("restored\n{restored}")
}

/// How a command ends that has restored.
pub fn ended(job: &Restore) -> Exit {
    let partial = job.restored.as_ref().is_some_and(|restored| restored.left_out > 0);
    if partial { Exit::Partial } else { Exit::Ok }
}

/// What a restore has brought back, or would.
pub fn restored_text(restored: &Restored) -> String {
    let mut lines = Lines::default();
    if let Some(vault) = &restored.vault {
        lines.line("vault", vault);
    }
    let counts = format!(
        "{}, {}, {}",
        display::count(restored.files, "file"),
        display::count(restored.versions, "version"),
        display::count(restored.events, "event")
    );
    lines.line("contents", counts);
    let bytes = format!(
        "{}; {} stored, {} shared with what is here",
        display::size(restored.bytes),
        display::size(restored.stored_bytes),
        display::size(restored.shared_bytes)
    );
    lines.line("bytes", bytes);
    lines.line(
        "cost",
        format!("{}, at most {}", display::coins(restored.cost), display::coins(restored.price)),
    );
    if restored.left_out > 0 {
        lines.line("left out", display::count(restored.left_out, "file"));
    }
    lines.render()
}

const fn state_name(state: RestoreState) -> &'static str {
    match state {
        RestoreState::Waiting => "waits for approval",
        RestoreState::Queued => "queued",
        RestoreState::Running => "running",
        RestoreState::Completed => "completed",
        RestoreState::Failed => "failed",
        RestoreState::Rejected => "rejected",
    }
}

fn source_name(source: &RestoreSource) -> String {
    match source {
        RestoreSource::Url(url) => url.clone(),
        RestoreSource::Path(path) => path.display().to_string(),
        RestoreSource::Upload => "an upload".to_owned(),
        RestoreSource::Backup(request) => format!("backup '{}'", request.backup),
    }
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let jobs: Vec<Restore> = session.client()?.get("/v1/restores").await?;
    session.output.answer(&jobs, || {
        let mut table = Table::new(&[
            ("restore", Align::Left),
            ("asked for", Align::Left),
            ("state", Align::Left),
            ("from", Align::Left),
            ("name", Align::Left),
        ]);
        for job in &jobs {
            table.row([
                job.id.clone(),
                display::moment(job.date_created),
                state_name(job.state).to_owned(),
                source_name(&job.source),
                job.name.clone().unwrap_or_default(),
            ]);
        }
        if table.is_empty() { "no restores\n".to_owned() } else { table.render() }
    });
    Ok(Exit::Ok)
}

async fn status(session: &Session, id: &str) -> Result<Exit, Failure> {
    let job: Restore = session.client()?.get(&path(id, "")?).await?;
    session.output.answer(&job, || {
        let mut lines = Lines::default();
        lines.line("restore", &job.id);
        lines.line("state", state_name(job.state));
        lines.line("from", source_name(&job.source));
        if let Some(announced) = job.announced {
            let text = format!(
                "{}, {}",
                display::count(announced.events, "event"),
                display::count(announced.files, "file")
            );
            lines.line("announced", text);
        }
        if let Some(error) = &job.error {
            lines.line("problem", &error.message);
        }
        let restored = job.restored.as_ref().map(restored_text).unwrap_or_default();
        lines.render() + &restored
    });
    Ok(Exit::Ok)
}

async fn log(session: &Session, id: &str) -> Result<Exit, Failure> {
    let job: Restore = session.client()?.get(&path(id, "")?).await?;
    session.output.answer(&job.log, || {
        let line = |line: &samara_renter::backup::LogLine| {
            format!("{}  {}\n", display::moment(line.time), display::plain(&line.text))
        };
        job.log.iter().map(line).collect()
    });
    Ok(Exit::Ok)
}

async fn go_on(
    session: &Session,
    id: &str,
    what: &str,
    passphrase: Option<Passphrase>,
) -> Result<Exit, Failure> {
    let _: Restore =
        session.client()?.post(&path(id, &format!("/{what}"))?, &GoOn { passphrase }).await?;
    follow(session, id).await
}

async fn change(session: &Session, id: &str, what: &str, done: &str) -> Result<Exit, Failure> {
    let job: Restore = session.client()?.post(&path(id, &format!("/{what}"))?, &()).await?;
    session.output.answer(&job, || format!("restore {} {done}\n", job.id));
    Ok(Exit::Ok)
}

async fn delete(session: &Session, id: &str) -> Result<Exit, Failure> {
    let done: Done = session.client()?.delete(&path(id, "")?).await?;
    session.output.answer(&done, || format!("restore {id} deleted\n"));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_vault_and_a_path_in_it() {
        let target = Some(Path::new("/out"));
        let part = Some("home/docs");
        let request = restore_request("daily".into(), part, target, Conflict::Rename).unwrap();
        assert_eq!((request.vault.as_deref(), request.path.as_str()), (Some("home"), "docs"));
        assert_eq!(request.destination.as_deref().and_then(Path::to_str), Some("/out/"));
        assert!(!request.into_vault);
        let all = restore_request("daily".into(), None, None, Conflict::Keep).unwrap();
        assert!(all.into_vault && all.vault.is_none() && all.path.is_empty());
    }
}
