//! `samara recover restore`: a backup that the scan has found, from the words to its files.
//!
//! Each step leaves a whole: the scan goes on in the background, the recovery resumes, the restore is a job
//! of the node. Nothing is claimed before the backup is known to be there.

use samara_renter::contract::Allowance;
use samara_renter::recovery::{
    FoundBackup, RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryScanOptions,
    RecoveryScanState, RecoveryScanStatus,
};
use samara_renter::rows::{RenterState, RenterStatus};
use serde::Serialize;

use super::arguments::RecoverRestoreArguments;
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::{recover, recover_scan, restores};
use crate::restores::{NewRestore, Restore, RestoreSource, Restored};

/// What to do after a restore on a node that has no allowance.
const ALLOW: &str = "set what may be spent with `samara allowance set --hosts N --funds COINS`, so that \
                     contracts are renewed, downloads go on and new files can be stored";
/// The same on a node that only reads.
const READS: &str = "this node only reads: `samara recover start` takes over, then `samara allowance set --hosts N \
                     --funds COINS` says what may be spent";

/// What was done, or would be.
#[derive(Serialize)]
struct Answer {
    /// The backup.
    backup: FoundBackup,
    /// What the recovery came to, if one was needed.
    recovery: Option<RecoveryReport>,
    /// The restore, if there was one.
    restore: Option<Restore>,
    /// What a restore would bring back.
    would_restore: Option<Restored>,
    /// What to do next.
    next: Option<String>,
}

/// Brings one backup back.
pub async fn restore(
    session: &Session,
    arguments: RecoverRestoreArguments,
) -> Result<Exit, Failure> {
    let reads = arguments.to.is_some() || arguments.dry_run;
    let request = |backup: &str| {
        let (part, target) = (arguments.path.as_deref(), arguments.to.as_deref());
        let conflict = arguments.on_conflict.into();
        restores::restore_request(backup.to_owned(), part, target, conflict)
    };
    // What makes no sense is refused before anything is done.
    request(&arguments.what)?;
    let backup = find(session, &arguments.what).await?;
    let recovery = names(session, reads).await?;
    if let Some(report) = &recovery
        && !session.output.is_json()
    {
        let text = recover::report_text(report, reads);
        session.output.say(&session.for_this_node(text.trim_end()));
    }
    let new = NewRestore {
        source: RestoreSource::Backup(Box::new(request(&backup.sid)?)),
        name: None,
        passphrase: None,
        max_cost: None,
        announced: None,
        dry_run: arguments.dry_run,
    };
    let client = session.client()?;
    let mut answer =
        Answer { backup, recovery, restore: None, would_restore: None, next: next(session).await? };
    if arguments.dry_run {
        let looked: Restored = client.post("/v1/restores", &new).await?;
        let text = restores::restored_text(&looked);
        answer.would_restore = Some(looked);
        session
            .output
            .answer(&answer, || format!("nothing was restored; it would bring back:\n{text}"));
        return Ok(Exit::Ok);
    }
    let begun: Restore = client.post("/v1/restores", &new).await?;
    let job = restores::outcome(session, &begun.id).await?;
    let (text, exit) = (restores::ended_text(&job), restores::ended(&job));
    answer.restore = Some(job);
    session.output.answer(&answer, || text);
    lead(session, &answer).await?;
    Ok(exit)
}

/// The backup that is meant. If it is not known for certain yet, the scan is waited for.
async fn find(session: &Session, what: &str) -> Result<FoundBackup, Failure> {
    let client = session.client()?;
    let is_meant = |backup: &&FoundBackup| backup.name == what || backup.sid == what;
    let mut status: RecoveryScanStatus = client.get("/v1/recovery-scan").await?;
    let known = status.backups.iter().find(is_meant).is_some_and(|backup| !backup.preliminary);
    if !known {
        let options = RecoveryScanOptions::default();
        let _: RecoveryScanStatus = client.post("/v1/recovery-scan", &options).await?;
        status = recover_scan::follow(session).await?;
    }
    if let Some(backup) = status.backups.iter().find(is_meant) {
        return Ok(backup.clone());
    }
    if status.state == RecoveryScanState::NothingFound {
        let message = "the chain holds nothing that lives for these words";
        let next = status.next.unwrap_or_default();
        return Err(Failure::new(Exit::NothingFound, message).with_hint(next));
    }
    let mut failure = Failure::new(Exit::NotFound, format!("no backup '{what}' was found"));
    "no_backup".clone_into(&mut failure.code);
    Err(failure.with_hint("see `samara recover list`"))
}

async fn writes(session: &Session) -> Result<bool, Failure> {
    let status: RenterStatus = session.client()?.get("/v1/renter").await?;
    Ok(status.state == RenterState::Active)
}

/// Brings the names back, unless this node writes and has them: for reading only, or by taking over.
async fn names(session: &Session, reads: bool) -> Result<Option<RecoveryReport>, Failure> {
    let options = RecoveryOptions { read_only: reads, ..RecoveryOptions::default() };
    let report: RecoveryReport = match session.run("/v1/recovery", &options).await {
        Ok(report) => report,
        Err(failure) if failure.code == "active" => return Ok(None),
        Err(failure) => return Err(failure),
    };
    match report.outcome {
        RecoveryPhase::NothingFound { .. } => {
            let message = "the chain holds nothing that lives for these words";
            let next = report.next.unwrap_or_default();
            Err(Failure::new(Exit::NothingFound, message).with_hint(next))
        }
        RecoveryPhase::ReadOnly if !reads => {
            let message = "this node could not take over, so nothing can be restored into vaults: \
                           --to FOLDER restores into a folder";
            let mut failure = Failure::new(Exit::Refused, message);
            "read_only".clone_into(&mut failure.code);
            Err(failure.with_hint(report.next.unwrap_or_default()))
        }
        _ => Ok(Some(report)),
    }
}

/// What is left to do.
async fn next(session: &Session) -> Result<Option<String>, Failure> {
    let allowance: Option<Allowance> = session.client()?.get("/v1/allowance").await?;
    Ok(match (allowance, writes(session).await?) {
        (_, false) => Some(READS.to_owned()),
        (None, true) => Some(ALLOW.to_owned()),
        (Some(_), true) => None,
    })
}

/// Leads a person to what is left to do.
async fn lead(session: &Session, answer: &Answer) -> Result<(), Failure> {
    match answer.next.as_deref() {
        Some(ALLOW) => recover::ask_for_allowance(session).await,
        Some(next) => {
            session.output.say(&session.for_this_node(next));
            Ok(())
        }
        None => Ok(()),
    }
}
