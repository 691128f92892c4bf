//! `put`, `get`, `ls`, `mv`, `rm` and `vault`.

use std::path::Path;
use std::time::Duration;

use samara_renter::rows::Stage;
use samara_renter::vault::{
    Conflict, FileRow, GetReport, GetRequest, ItemReport, ListRow, PutReport, PutRequest, VaultRow,
};

use super::address::{Place, escape, segment};
use super::arguments::{
    GetArguments, LsArguments, MvArguments, OnConflict, PutArguments, RmArguments, VaultCommand,
};
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::{Session, absolute, target_folder};
use crate::api::{Changed, Done, MoveRequest, NameRequest, RemoveRequest, VersionGivenUp};

/// The vault that `put` makes by itself.
const DEFAULT_VAULT: &str = "home";
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
        // A mistyped name must not become a vault.
        create_vault: place.vault == DEFAULT_VAULT,
        vault: place.vault,
        target: place.path,
        exclude: arguments.exclude,
        checksum: arguments.checksum,
    };
    session.renter_ready().await?;
    let report: PutReport = session.run("/v1/put", &request).await?;
    session.output.answer(&report, || put_text(&report));
    Ok(put_exit(&report, &request.source))
}

/// How a put ends. What lies in a folder and cannot be stored may be left out, but not what was named.
fn put_exit(report: &PutReport, source: &Path) -> Exit {
    let named = report.skipped.iter().filter(|item| Path::new(&item.path) == source);
    let done = report.stored_files + report.unchanged_files + report.stored_folders > 0;
    exit_of(done, report.failed.iter().chain(named))
}

/// How a command ends that goes from file to file: in part, once anything is done. If nothing is, the
/// cause that all failures share says more.
fn exit_of<'a>(done: bool, failed: impl IntoIterator<Item = &'a ItemReport>) -> Exit {
    let mut exits = failed.into_iter().map(|item| Exit::of_code(&item.code));
    match exits.next() {
        None => Exit::Ok,
        Some(first) if !done && exits.all(|exit| exit == first) => first,
        Some(_) => Exit::Partial,
    }
}

fn put_text(report: &PutReport) -> String {
    let mut lines = Lines::default();
    let place = format!(" in '{}'", report.vault);
    lines.line("stored", moved(report.stored_files, report.stored_bytes, &place, report.elapsed));
    if report.resumed_bytes > 0 {
        let resumed = display::size(report.resumed_bytes);
        lines.line("", format!("of these {resumed} by an earlier put that was cut"));
    }
    if report.stored_folders > 0 {
        lines.line("", format!("{}, empty", display::count(report.stored_folders, "folder")));
    }
    if report.unchanged_files > 0 {
        let files = display::count(report.unchanged_files, "file");
        lines.line("unchanged", format!("{files}, {}", display::size(report.unchanged_bytes)));
    }
    if report.hosts_total > 0 {
        lines.line("names", held(report));
    }
    items(&mut lines, "left out", &report.skipped);
    items(&mut lines, "not stored", &report.failed);
    lines.render()
}

/// How safe the names of a put's files are.
fn held(report: &PutReport) -> String {
    let hosts = format!("{} of {} hosts hold them", report.hosts_ok, report.hosts_total);
    match report.stage {
        Stage::Settled => format!("settled: {hosts}"),
        Stage::Acknowledged | Stage::Checking => {
            format!("acknowledged: {hosts}, the rest follows by itself")
        }
    }
}

/// `2 files, 3.0 MB in 'home', 1.5 s, 2.0 MB/s`.
fn moved(files: u64, bytes: u64, place: &str, elapsed: u64) -> String {
    let time = Duration::from_millis(elapsed);
    let files_and_bytes = (display::count(files, "file"), display::size(bytes));
    let mut text = format!("{}, {}{place}", files_and_bytes.0, files_and_bytes.1);
    if files > 0 {
        text.push_str(&format!(", {}", display::duration(time)));
        if let Some(rate) = display::rate(bytes, time) {
            text.push_str(&format!(", {rate}"));
        }
    }
    text
}

/// Brings files back.
pub async fn get(session: &Session, arguments: GetArguments) -> Result<Exit, Failure> {
    let place = match arguments.version_number {
        // Only a file has versions.
        Some(_) => Place::parse_inside(&arguments.source)?,
        None => Place::parse(&arguments.source)?,
    };
    let request = GetRequest {
        vault: place.vault,
        path: place.path,
        version: arguments.version_number,
        backup: None,
        destination: target_folder(&arguments.target)?,
        conflict: arguments.on_conflict.into(),
        dry_run: arguments.dry_run,
    };
    let report: GetReport = session.run("/v1/get", &request).await?;
    session.output.answer(&report, || get_text(&report));
    Ok(get_exit(&report))
}

/// How a command ends that brought files back.
pub fn get_exit(report: &GetReport) -> Exit {
    let written = report.restored_files + report.restored_folders > 0;
    exit_of(written || !report.kept.is_empty(), &report.failed)
}

/// What was brought back, for people.
pub fn get_text(report: &GetReport) -> String {
    let mut lines = Lines::default();
    let files = moved(report.restored_files, report.restored_bytes, "", report.elapsed);
    match (report.dry_run, report.restored_files) {
        (true, files) => {
            let (files, bytes) = (display::count(files, "file"), report.restored_bytes);
            lines.line("would write", format!("{files}, {}", display::size(bytes)));
        }
        (false, 0) => lines.line("restored", files),
        (false, _) => lines.line("restored", format!("{files}, all verified")),
    }
    if report.restored_folders > 0 {
        lines.line("", format!("{}, empty", display::count(report.restored_folders, "folder")));
    }
    if report.replaced_files > 0 {
        lines.line("replaced", display::count(report.replaced_files, "file"));
    }
    if report.same_files > 0 {
        lines.line("unchanged", display::count(report.same_files, "file"));
    }
    names(&mut lines, "kept", "file", &report.kept);
    names(&mut lines, "renamed", "file", &report.renamed);
    items(&mut lines, "not written", &report.failed);
    lines.render()
}

fn items(lines: &mut Lines, label: &str, items: &[ItemReport]) {
    let texts: Vec<String> = items.iter().map(|item| told(&item.path, &item.reason)).collect();
    names(lines, label, "entry", &texts);
}

/// A path and what is wrong with it; a reason that names the path says it all.
fn told(path: &str, reason: &str) -> String {
    if reason.contains(&format!(" {path}: ")) {
        reason.to_owned()
    } else {
        format!("{path}: {reason}")
    }
}

fn names(lines: &mut Lines, label: &str, noun: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    lines.line(label, display::count(names.len() as u64, noun));
    for name in names.iter().take(SHOWN) {
        lines.item(name);
    }
    if names.len() > SHOWN {
        lines.item(format!(
            "and {} more; see --json",
            display::thousands((names.len() - SHOWN) as u64)
        ));
    }
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

pub(super) fn list_text(rows: &[ListRow]) -> String {
    let mut table = Table::new(&[
        ("size", Align::Right),
        ("modified", Align::Left),
        ("state", Align::Left),
        ("name", Align::Left),
        ("", Align::Left),
    ]);
    for row in rows {
        match row {
            ListRow::Folder { path, files, bytes } => table.row([
                display::size(*bytes),
                "-".to_owned(),
                String::new(),
                format!("{path}/"),
                display::count(*files, "file"),
            ]),
            ListRow::File(file) => file_rows(&mut table, file),
        }
    }
    if table.is_empty() { "empty\n".to_owned() } else { table.render() }
}

/// How safe something is, in a word.
pub const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Checking => "checking",
        Stage::Acknowledged => "acknowledged",
        Stage::Settled => "settled",
    }
}

fn file_rows(table: &mut Table, file: &FileRow) {
    let note = if file.deleted { "removed" } else { "" };
    table.row([
        display::size(file.version.size),
        display::moment(file.version.modified),
        stage_name(file.version.stage).to_owned(),
        file.path.clone(),
        note.to_owned(),
    ]);
    for version in &file.versions {
        table.row([
            display::size(version.size),
            display::moment(version.modified),
            stage_name(version.stage).to_owned(),
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
    let place = format!("{}/{}", to.vault, moved_to(&from.path, &to.path));
    let body = MoveRequest { from: from.path, to: to.path };
    let answer: Changed = session.client()?.post(&route, &body).await?;
    session.output.answer(&answer, || {
        let files = display::count(answer.files, "file");
        format!("moved {files}: {} is now {place}\n", arguments.from)
    });
    Ok(Exit::Ok)
}

/// Where something lies after a move: a target that ends in a slash is the folder that takes it.
fn moved_to(from: &str, to: &str) -> String {
    let name = from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() }
}

/// Removes files or one version.
pub async fn remove(session: &Session, arguments: RmArguments) -> Result<Exit, Failure> {
    let place = Place::parse_inside(&arguments.path).map_err(|failure| {
        let vault = arguments.path.trim_end_matches('/');
        failure.with_hint(format!("`samara vault remove {vault}` removes a whole vault"))
    })?;
    let route = format!("/v1/vaults/{}/remove", escape(&place.vault));
    let body = RemoveRequest {
        path: place.path,
        recursive: arguments.recursive,
        version: arguments.version_number,
    };
    let answer: Changed = session.client()?.post(&route, &body).await?;
    session.output.answer(&answer, || match &answer.given_up {
        Some(gone) => given_up_text(&display::plain(&arguments.path), gone),
        None => {
            let files = display::count(answer.files, "file");
            format!("removed {files}; all versions are kept\n")
        }
    });
    Ok(Exit::Ok)
}

/// What went with a version, and what is listed instead.
fn given_up_text(path: &str, gone: &VersionGivenUp) -> String {
    let VersionGivenUp { version, listed } = gone;
    let number = version.version;
    let (size, stored) = (display::size(version.size), display::moment(version.stored));
    let text = format!(
        "gave up version {number} of {path} for good, but for backups: {size}, stored {stored}\n"
    );
    match listed {
        None => text + "the file is not listed any more\n",
        Some(listed) if *listed < number => {
            text + &format!("version {listed} is the current one now\n")
        }
        Some(_) => text,
    }
}

/// `samara vault`.
pub async fn vault(session: &Session, command: VaultCommand) -> Result<Exit, Failure> {
    let client = session.client()?;
    match command {
        VaultCommand::List => return vaults(session).await,
        VaultCommand::Create { name } => {
            let row: VaultRow =
                client.post("/v1/vaults", &NameRequest { name: name.clone() }).await?;
            session.output.answer(&row, || format!("vault '{name}' made\n"));
        }
        VaultCommand::Rename { name, new_name } => {
            let route = format!("/v1/vaults/{}/rename", segment(&name)?);
            let answer: Done = client.post(&route, &NameRequest { name: new_name.clone() }).await?;
            session.output.answer(&answer, || format!("vault '{name}' is now '{new_name}'\n"));
        }
        VaultCommand::Remove { name, recursive } => {
            if !recursive {
                let rows: Vec<VaultRow> = client.get("/v1/vaults").await?;
                check_removal(&name, &rows)?;
            }
            let answer: Done = client.delete(&format!("/v1/vaults/{}", segment(&name)?)).await?;
            session.output.answer(&answer, || format!("vault '{name}' removed\n"));
        }
    }
    Ok(Exit::Ok)
}

/// A vault with something in it goes only when that is meant.
fn check_removal(name: &str, rows: &[VaultRow]) -> Result<(), Failure> {
    let Some(row) = rows.iter().find(|row| row.name == name && row.versions > 0) else {
        return Ok(());
    };
    let holds = [
        display::count(row.files, "file"),
        display::size(row.bytes),
        display::count(row.versions, "version"),
    ];
    let message = format!("vault '{name}' is not empty: {}", holds.join(", "));
    Err(Failure::new(Exit::Refused, message)
        .with_hint("add --recursive to remove it with all in it, for good but for backups"))
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
            resumed_bytes: 1_000_000,
            unchanged_files: 1,
            unchanged_bytes: 10,
            failed: vec![ItemReport {
                path: "a".into(),
                code: "file_failed".into(),
                reason: "not allowed".into(),
            }],
            elapsed: 1_500,
            stage: Stage::Acknowledged,
            hosts_ok: 5,
            hosts_total: 8,
            ..PutReport::default()
        };
        let expected = "stored       2 files, 3.0 MB in 'home', 1.5 s, 2.0 MB/s\n             \
                        of these 1.0 MB by an earlier put that was cut\n\
                        unchanged    1 file, 10 B\n\
                        names        acknowledged: 5 of 8 hosts hold them, the rest follows by itself\n\
                        not stored   1 entry\n             a: not allowed\n";
        assert_eq!(put_text(&report), expected);
    }

    fn item(path: &str, code: &str) -> ItemReport {
        ItemReport { path: path.into(), code: code.into(), reason: "for a reason".into() }
    }

    #[test]
    fn what_was_named_must_be_stored() {
        let skipped = vec![item("/a/b", "not_a_file")];
        let report = PutReport { skipped, ..PutReport::default() };
        assert_eq!(put_exit(&report, Path::new("/a/b")), Exit::Refused);
        assert_eq!(put_exit(&report, Path::new("/a")), Exit::Ok);
    }

    #[test]
    fn the_one_cause_of_all_failures_is_how_a_command_ends_that_did_nothing() {
        let get = |restored_files, codes: &[&str]| {
            let failed = codes.iter().map(|code| item("a", code)).collect();
            get_exit(&GetReport { restored_files, failed, ..GetReport::default() })
        };
        assert_eq!(get(0, &["too_few_hosts"]), Exit::Unreachable);
        assert_eq!(get(0, &["too_few_hosts", "too_few_hosts"]), Exit::Unreachable);
        assert_eq!(get(0, &["too_few_hosts", "hash_mismatch"]), Exit::Partial);
        assert_eq!(get(1, &["too_few_hosts"]), Exit::Partial);
        let kept = GetReport { kept: vec!["b".into()], ..GetReport::default() };
        let failed = vec![item("a", "name_taken")];
        assert_eq!(get_exit(&GetReport { failed, ..kept }), Exit::Partial);

        let put = |unchanged_files, code| {
            let failed = vec![item("/a", code)];
            let report = PutReport { unchanged_files, failed, ..PutReport::default() };
            put_exit(&report, Path::new("/a"))
        };
        assert_eq!(put(0, "name_clash"), Exit::Refused);
        assert_eq!(put(0, "file_failed"), Exit::Failure);
        assert_eq!(put(1, "name_clash"), Exit::Partial);
    }

    #[test]
    fn a_vault_with_files_is_removed_only_when_that_is_meant() {
        let row = |versions| VaultRow {
            id: String::new(),
            name: "home".into(),
            created: 0,
            files: 1,
            bytes: 2_000,
            versions,
            events: 0,
            owner: None,
        };
        let failure = check_removal("home", &[row(3)]).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.ends_with("1 file, 2.0 kB, 3 versions"), "{}", failure.message);
        assert!(check_removal("home", &[row(0)]).is_ok());
        assert!(check_removal("other", &[row(3)]).is_ok());
    }

    #[test]
    fn long_lists_are_cut_for_people() {
        let report = GetReport {
            kept: (0..60).map(|number| number.to_string()).collect(),
            ..GetReport::default()
        };
        let text = get_text(&report);
        assert!(text.contains("kept         60 files\n             0\n"), "{text}");
        assert!(text.ends_with(" 49\n             and 10 more; see --json\n"), "{text}");
        assert_eq!(get_exit(&report), Exit::Ok);
    }

    fn version(number: u64) -> VersionRow {
        VersionRow {
            version: number,
            stored: 0,
            size: 5,
            modified: 0,
            executable: false,
            hash: String::new(),
            position: number,
            stage: if number == 3 { Stage::Settled } else { Stage::Acknowledged },
        }
    }

    #[test]
    fn a_version_that_is_given_up_is_named() {
        let text =
            |listed| given_up_text("home/a.txt", &VersionGivenUp { version: version(4), listed });
        let gone = "gave up version 4 of home/a.txt for good, but for backups: 5 B, stored 1970-01-01 00:00\n";
        assert_eq!(text(Some(7)), gone);
        assert_eq!(text(Some(3)), format!("{gone}version 3 is the current one now\n"));
        assert_eq!(text(None), format!("{gone}the file is not listed any more\n"));
    }

    #[test]
    fn a_listing_shows_folders_files_and_versions() {
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
        assert!(
            text.contains("1.0 kB  -                               docs/        2 files\n"),
            "{text}"
        );
        assert!(
            text.contains("   5 B  1970-01-01 00:00  acknowledged  a.txt        removed\n"),
            "{text}"
        );
        assert!(text.contains("  settled         version 3  stored 1970-01-01 00:00\n"), "{text}");
    }
}
