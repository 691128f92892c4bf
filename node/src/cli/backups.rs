//! `samara backup`.

use samara_renter::backup::{
    BackupDetail, BackupDifference, BackupRequest, BackupRow, BackupState, RestoreReport,
    RestoreRequest,
};

use samara_renter::checkpoint::DifferenceKind;

use super::address::{Place, escape, segment};
use super::arguments::{BackupCommand, OnConflict};
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::files::{get_exit, get_text, stage_name};
use super::session::{Session, target_folder};
use crate::api::Done;

/// Runs one of the commands.
pub async fn run(session: &Session, command: BackupCommand) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Create { name, description, vault } => {
            create(session, BackupRequest { name, description, vault }).await
        }
        BackupCommand::List => list(session).await,
        BackupCommand::Show { name } => show(session, &name).await,
        BackupCommand::Diff { before, after, vault } => {
            compare(session, &before, &after, vault.as_deref()).await
        }
        BackupCommand::Restore { name, target, only, on_conflict, dry_run } => {
            let request = restore_request(name, &target, only.as_deref(), on_conflict, dry_run)?;
            restore(session, &request).await
        }
        BackupCommand::Delete { name } => delete(session, &name).await,
    }
}

async fn create(session: &Session, request: BackupRequest) -> Result<Exit, Failure> {
    session.renter_ready().await?;
    let row: BackupRow = session.run("/v1/backups", &request).await?;
    session.output.answer(&row, || created_text(&row));
    Ok(if row.state == BackupState::Completed { Exit::Ok } else { Exit::Partial })
}

fn created_text(row: &BackupRow) -> String {
    let held = format!("{} of {} hosts hold it", row.hosts_ok, row.hosts_total);
    match row.state {
        BackupState::Completed => format!("backup '{}' is complete: {held}\n", row.name),
        BackupState::InProgress | BackupState::Checking => format!(
            "backup '{}' is not complete yet: {held}, {} are needed\n",
            row.name, row.hosts_needed
        ),
        BackupState::Error => format!(
            "backup '{}' is not complete: {held}, {} are needed; it is tried again by itself\n  {}\n",
            row.name,
            row.hosts_needed,
            row.problem.as_deref().unwrap_or("the hosts do not answer")
        ),
        BackupState::Lost => format!(
            "backup '{}' is lost: {}\n",
            row.name,
            row.problem.as_deref().unwrap_or("delete it and make another")
        ),
    }
}

const fn state_name(state: BackupState) -> &'static str {
    match state {
        BackupState::InProgress => "in progress",
        BackupState::Completed => "completed",
        BackupState::Error => "error",
        BackupState::Checking => "checking",
        BackupState::Lost => "lost",
    }
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let rows: Vec<BackupRow> = session.client()?.get("/v1/backups").await?;
    session.output.answer(&rows, || {
        let mut table = Table::new(&[
            ("backup", Align::Left),
            ("made", Align::Left),
            ("state", Align::Left),
            ("hosts", Align::Right),
            ("names", Align::Left),
            ("vault", Align::Left),
            ("description", Align::Left),
        ]);
        for row in &rows {
            table.row([
                row.name.clone(),
                display::moment(row.created),
                state_name(row.state).to_owned(),
                format!("{}/{}", row.hosts_ok, row.hosts_total),
                stage_name(row.stage).to_owned(),
                row.vault.clone().unwrap_or_else(|| "all".to_owned()),
                row.description.clone(),
            ]);
        }
        if table.is_empty() { "no backups\n".to_owned() } else { table.render() }
    });
    Ok(Exit::Ok)
}

async fn show(session: &Session, name: &str) -> Result<Exit, Failure> {
    let detail: BackupDetail =
        session.client()?.get(&format!("/v1/backups/{}", segment(name)?)).await?;
    session.output.answer(&detail, || {
        let mut text = format!(
            "backup '{}' of {}, {}, {}: {}, {}, {}\n",
            detail.row.name,
            display::moment(detail.row.created),
            state_name(detail.row.state),
            stage_name(detail.row.stage),
            display::count(detail.files, "file"),
            display::size(detail.bytes),
            display::count(detail.versions, "version"),
        );
        if !detail.row.description.is_empty() {
            text.push_str(&format!("{}\n", detail.row.description));
        }
        let mut table =
            Table::new(&[("vault", Align::Left), ("files", Align::Right), ("size", Align::Right)]);
        for vault in &detail.vaults {
            table.row([
                vault.name.clone(),
                display::thousands(vault.files),
                display::size(vault.bytes),
            ]);
        }
        text.push_str(&table.render());
        text
    });
    Ok(Exit::Ok)
}

async fn compare(
    session: &Session,
    before: &str,
    after: &str,
    vault: Option<&str>,
) -> Result<Exit, Failure> {
    let mut path = format!("/v1/backups/{}/diff/{}", segment(before)?, segment(after)?);
    if let Some(vault) = vault {
        path.push_str(&format!("?vault={}", escape(vault)));
    }
    let found: BackupDifference = session.client()?.get(&path).await?;
    session.output.answer(&found, || difference_text(&found));
    Ok(Exit::Ok)
}

fn difference_text(found: &BackupDifference) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("file", Align::Left),
        ("before", Align::Right),
        ("after", Align::Right),
    ]);
    let size = |bytes: Option<u64>| bytes.map_or_else(String::new, display::size);
    for file in &found.files {
        let mark = match file.kind {
            DifferenceKind::Added => "+",
            DifferenceKind::Removed => "-",
            DifferenceKind::Changed => "~",
        };
        let name = format!("{}/{}", file.vault, file.path);
        table.row([mark.to_owned(), name, size(file.before), size(file.after)]);
    }
    let sum = format!(
        "from '{}' to '{}': {} added, {} removed, {} changed\n",
        found.before, found.after, found.added, found.removed, found.changed
    );
    if table.is_empty() { sum } else { table.render() + &sum }
}

fn restore_request(
    backup: String,
    target: &std::path::Path,
    only: Option<&str>,
    on_conflict: OnConflict,
    dry_run: bool,
) -> Result<RestoreRequest, Failure> {
    let only = only.map(Place::parse).transpose()?;
    let (vault, path) = only.map_or((None, String::new()), |place| (Some(place.vault), place.path));
    Ok(RestoreRequest {
        backup,
        vault,
        path,
        destination: Some(target_folder(target)?),
        into_vault: false,
        conflict: on_conflict.into(),
        dry_run,
    })
}

async fn restore(session: &Session, request: &RestoreRequest) -> Result<Exit, Failure> {
    let report: RestoreReport = session.run("/v1/restore", request).await?;
    session.output.answer(&report, || get_text(&report.files));
    Ok(get_exit(&report.files))
}

async fn delete(session: &Session, name: &str) -> Result<Exit, Failure> {
    let answer: Done = session.client()?.delete(&format!("/v1/backups/{}", segment(name)?)).await?;
    session.output.answer(&answer, || format!("backup '{name}' deleted\n"));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_vault_and_a_path_in_it() {
        let request = restore_request(
            "daily".into(),
            std::path::Path::new("/out"),
            Some("home/docs"),
            OnConflict::Rename,
            true,
        )
        .unwrap();
        assert_eq!(request.vault.as_deref(), Some("home"));
        assert_eq!(request.path, "docs");
        let destination = request.destination.as_deref().and_then(std::path::Path::to_str);
        assert_eq!(destination, Some("/out/"));
        assert!(request.dry_run && !request.into_vault);
    }
}
