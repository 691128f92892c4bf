//! `put`, `get`, `ls`, `mv`, `rm` and `vault`.

use std::time::Duration;

use samara_renter::vault::{
    Conflict, FileRow, GetReport, GetRequest, ItemReport, ListRow, PutReport, PutRequest, VaultRow,
};
use serde_json::{Value, json};

use super::address::{Place, escape};
use super::arguments::{
    GetArguments, LsArguments, MvArguments, OnConflict, PutArguments, RmArguments, VaultCommand,
};
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::{Session, absolute};

/// Most items of a list of problems that are shown to people; programs get all.
const SHOWN: usize = 50;

impl From<OnConflict> for Conflict {
    fn from(policy: OnConflict) -> Self {
        match policy {
            OnConflict::Keep => Self::Keep,
            OnConflict::Replace => Self::Replace,
            OnConflict::Rename => Self::Rename,
        }
    }
}

/// Stores a file or folder.
pub async fn put(session: &Session, arguments: PutArguments) -> Result<Exit, Failure> {
    let place = Place::parse(&arguments.target)?;
    let request = PutRequest {
        source: absolute(&arguments.source)?,
        vault: place.vault,
        target: place.path,
        exclude: arguments.exclude,
        checksum: arguments.checksum,
    };
    let report: PutReport = session.run("/v1/put", &request).await?;
    session.output.result(&report, || put_text(&report));
    Ok(if report.failed.is_empty() { Exit::Ok } else { Exit::Partial })
}

fn put_text(report: &PutReport) -> String {
    let time = Duration::from_millis(report.elapsed);
    let mut text = format!(
        "{}, {} stored in '{}' in {}{}\n",
        display::count(report.stored_files, "file"),
        display::size(report.stored_bytes),
        report.vault,
        display::duration(time),
        paced(report.stored_bytes, time),
    );
    if report.unchanged_files > 0 {
        text.push_str(&format!(
            "{}, {} had not changed\n",
            display::count(report.unchanged_files, "file"),
            display::size(report.unchanged_bytes)
        ));
    }
    text.push_str(&items("left out", &report.skipped));
    text.push_str(&items("could not be stored", &report.failed));
    text
}

/// Brings files back.
pub async fn get(session: &Session, arguments: GetArguments) -> Result<Exit, Failure> {
    let place = Place::parse(&arguments.source)?;
    let request = GetRequest {
        vault: place.vault,
        path: place.path,
        version: arguments.version_number,
        backup: None,
        destination: absolute(&arguments.target)?,
        conflict: arguments.on_conflict.into(),
        dry_run: arguments.dry_run,
    };
    let report: GetReport = session.run("/v1/get", &request).await?;
    session.output.result(&report, || get_text(&report));
    Ok(get_exit(&report))
}

/// How a command ends that brought files back.
pub fn get_exit(report: &GetReport) -> Exit {
    if report.failed.is_empty() { Exit::Ok } else { Exit::Partial }
}

/// What was brought back, for people.
pub fn get_text(report: &GetReport) -> String {
    let time = Duration::from_millis(report.elapsed);
    let verb = if report.dry_run { "would be written" } else { "written and verified" };
    let mut text = format!(
        "{}, {} {verb} in {}{}\n",
        display::count(report.restored_files, "file"),
        display::size(report.restored_bytes),
        display::duration(time),
        paced(report.restored_bytes, time),
    );
    if report.replaced_files > 0 {
        text.push_str(&format!("{} replaced\n", display::count(report.replaced_files, "file")));
    }
    text.push_str(&names("kept as they were", &report.kept));
    text.push_str(&names("written under another name", &report.renamed));
    text.push_str(&items("could not be brought back", &report.failed));
    text
}

fn paced(bytes: u64, time: Duration) -> String {
    display::rate(bytes, time).map(|rate| format!(" ({rate})")).unwrap_or_default()
}

fn items(what: &str, items: &[ItemReport]) -> String {
    let lines: Vec<String> =
        items.iter().map(|item| format!("{}: {}", item.path, item.reason)).collect();
    names(what, &lines)
}

fn names(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let mut text = format!("{} {what}:\n", display::count(names.len() as u64, "file"));
    for name in names.iter().take(SHOWN) {
        text.push_str(&format!("  {}\n", display::plain(name)));
    }
    if names.len() > SHOWN {
        text.push_str(&format!("  and {} more; see --json\n", names.len() - SHOWN));
    }
    text
}

/// Lists vaults, or what is in one.
pub async fn list(session: &Session, arguments: LsArguments) -> Result<Exit, Failure> {
    let Some(path) = &arguments.path else { return vaults(session).await };
    let place = Place::parse(path)?;
    let route = format!(
        "/v1/vaults/{}/files?folder={}&recursive={}&versions={}",
        escape(&place.vault),
        escape(&place.path),
        arguments.recursive,
        arguments.versions
    );
    let rows: Vec<ListRow> = session.client()?.get(&route).await?;
    session.output.answer(&rows, || list_text(&rows));
    Ok(Exit::Ok)
}

fn list_text(rows: &[ListRow]) -> String {
    let mut table = Table::new(&[
        ("size", Align::Right),
        ("modified", Align::Left),
        ("name", Align::Left),
        ("", Align::Left),
    ]);
    for row in rows {
        match row {
            ListRow::Folder { path, files, bytes } => table.row([
                display::size(*bytes),
                "-".to_owned(),
                format!("{path}/"),
                display::count(*files, "file"),
            ]),
            ListRow::File(file) => file_rows(&mut table, file),
        }
    }
    if table.is_empty() { "empty\n".to_owned() } else { table.render() }
}

fn file_rows(table: &mut Table, file: &FileRow) {
    let note = if file.deleted { "removed" } else { "" };
    table.row([
        display::size(file.version.size),
        display::moment(file.version.modified),
        file.path.clone(),
        note.to_owned(),
    ]);
    for version in &file.versions {
        table.row([
            display::size(version.size),
            display::moment(version.modified),
            format!("  version {}", version.version),
            format!("stored {}", display::moment(version.stored)),
        ]);
    }
}

/// Moves a file.
pub async fn move_file(session: &Session, arguments: MvArguments) -> Result<Exit, Failure> {
    let from = Place::parse_inside(&arguments.from)?;
    let to = Place::parse_inside(&arguments.to)?;
    if from.vault != to.vault {
        let message =
            format!("'{}' and '{}' are in different vaults", arguments.from, arguments.to);
        return Err(Failure::new(Exit::Usage, message)
            .with_hint("get the file and put it into the other vault"));
    }
    let route = format!("/v1/vaults/{}/move", escape(&from.vault));
    let body = json!({ "from": from.path, "to": to.path });
    let answer: Value = session.client()?.post(&route, &body).await?;
    session.output.answer(&answer, || format!("{} is now {}\n", arguments.from, arguments.to));
    Ok(Exit::Ok)
}

/// Removes files or one version.
pub async fn remove(session: &Session, arguments: RmArguments) -> Result<Exit, Failure> {
    let place = Place::parse_inside(&arguments.path)?;
    let route = format!("/v1/vaults/{}/remove", escape(&place.vault));
    let body = json!({
        "path": place.path,
        "recursive": arguments.recursive,
        "version": arguments.version_number,
    });
    let answer: Value = session.client()?.post(&route, &body).await?;
    session.output.answer(&answer, || match arguments.version_number {
        Some(version) => format!("version {version} of {} is gone\n", arguments.path),
        None => {
            let files = answer["files"].as_u64().unwrap_or(1);
            format!("{} removed; versions are kept\n", display::count(files, "file"))
        }
    });
    Ok(Exit::Ok)
}

/// `samara vault`.
pub async fn vault(session: &Session, command: VaultCommand) -> Result<Exit, Failure> {
    let client = session.client()?;
    match command {
        VaultCommand::List => return vaults(session).await,
        VaultCommand::Create { name } => {
            let row: VaultRow = client.post("/v1/vaults", &json!({ "name": name })).await?;
            session.output.answer(&row, || format!("vault '{name}' made\n"));
        }
        VaultCommand::Rename { name, new_name } => {
            let route = format!("/v1/vaults/{}/rename", escape(&name));
            let answer: Value = client.post(&route, &json!({ "name": new_name })).await?;
            session.output.answer(&answer, || format!("vault '{name}' is now '{new_name}'\n"));
        }
        VaultCommand::Remove { name } => {
            let answer: Value = client.delete(&format!("/v1/vaults/{}", escape(&name))).await?;
            session.output.answer(&answer, || format!("vault '{name}' removed\n"));
        }
    }
    Ok(Exit::Ok)
}

async fn vaults(session: &Session) -> Result<Exit, Failure> {
    let rows: Vec<VaultRow> = session.client()?.get("/v1/vaults").await?;
    session.output.answer(&rows, || {
        let mut table = Table::new(&[
            ("vault", Align::Left),
            ("files", Align::Right),
            ("size", Align::Right),
            ("versions", Align::Right),
            ("made", Align::Left),
        ]);
        for row in &rows {
            table.row([
                row.name.clone(),
                display::thousands(row.files),
                display::size(row.bytes),
                display::thousands(row.versions),
                display::moment(row.created),
            ]);
        }
        if table.is_empty() { "no vaults\n".to_owned() } else { table.render() }
    });
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use samara_renter::vault::VersionRow;

    use super::*;

    #[test]
    fn a_put_tells_what_it_did_and_did_not() {
        let report = PutReport {
            vault: "home".into(),
            stored_files: 2,
            stored_bytes: 3_000_000,
            unchanged_files: 1,
            unchanged_bytes: 10,
            failed: vec![ItemReport {
                path: "a".into(),
                code: "file_failed".into(),
                reason: "not allowed".into(),
            }],
            elapsed: 1_500,
            ..PutReport::default()
        };
        let expected = "2 files, 3.0 MB stored in 'home' in 1.5 s (2.0 MB/s)\n\
                        1 file, 10 B had not changed\n\
                        1 file could not be stored:\n  a: not allowed\n";
        assert_eq!(put_text(&report), expected);
    }

    #[test]
    fn long_lists_are_cut_for_people() {
        let report = GetReport {
            kept: (0..60).map(|number| number.to_string()).collect(),
            ..GetReport::default()
        };
        let text = get_text(&report);
        assert!(text.contains("60 files kept as they were:\n  0\n"), "{text}");
        assert!(text.ends_with("  49\n  and 10 more; see --json\n"), "{text}");
        assert_eq!(get_exit(&report), Exit::Ok);
    }

    #[test]
    fn a_listing_shows_folders_files_and_versions() {
        let version = |number| VersionRow {
            version: number,
            stored: 0,
            size: 5,
            modified: 0,
            executable: false,
            hash: String::new(),
        };
        let rows = [
            ListRow::Folder { path: "docs".into(), files: 2, bytes: 1000 },
            ListRow::File(FileRow {
                path: "a.txt".into(),
                version: version(4),
                deleted: true,
                versions: vec![version(3)],
            }),
        ];
        let text = list_text(&rows);
        assert!(text.contains("1.0 kB  -                 docs/        2 files\n"), "{text}");
        assert!(text.contains("   5 B  1970-01-01 00:00  a.txt        removed\n"), "{text}");
        assert!(text.contains("  version 3  stored 1970-01-01 00:00\n"), "{text}");
    }
}
