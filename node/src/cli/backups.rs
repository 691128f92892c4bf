//! `samara backup`.

use std::io::Write as _;
use std::path::Path;

use futures::StreamExt as _;
use reqwest::Method;
use samara_protocol::units::Amount;
use samara_renter::backup::{
    BackupDetail, BackupDifference, BackupEdit, BackupFilter, BackupKind, BackupOrder, BackupPage,
    BackupPhase, BackupRequest, BackupRow, BackupStatus, QuoteRequest, QuoteRow, RestoreReport,
    RestoreRequest,
};
use samara_renter::checkpoint::DifferenceKind;
use samara_renter::error::details;
use samara_renter::vault::ListRow;
use serde_json::json;

use super::address::{Place, escape, segment};
use super::arguments::{
    BackupArguments, BackupCommand, BackupListArguments, BackupsBy, ListedBackups,
};
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::files::{get_exit, get_text, list_text, stage_name};
use super::links;
use super::money::parse_amount;
use super::password::{Purpose, passphrase};
use super::restores::restore_request;
use super::session::Session;
use super::span::parse_span;
use super::verify;
use crate::api::{BackupLimit, Done, PinRequest};

/// Runs one of the commands.
pub async fn run(session: &Session, command: BackupCommand) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Quote { vault, archive } => quote(session, vault, kind(archive)).await,
        BackupCommand::Create(arguments) => create(session, arguments).await,
        BackupCommand::List(arguments) => list(session, &arguments).await,
        BackupCommand::Show { name } => show(session, &name).await,
        BackupCommand::Ls { name, place, recursive } => {
            files(session, &name, &place, recursive).await
        }
        BackupCommand::Edit { name, rename, description, tags, expires } => {
            let expires_in = expires.map(|text| until(&text)).transpose()?;
            let edit =
                BackupEdit { name: rename, description, tags, expires_in, ..BackupEdit::default() };
            change(session, &name, &edit).await
        }
        BackupCommand::Download { name, target } => download(session, &name, &target).await,
        BackupCommand::Link(arguments) => links::run(session, arguments).await,
        BackupCommand::Pin { name, off } => pin(session, &name, !off).await,
        BackupCommand::Cancel { name } => cancel(session, &name).await,
        BackupCommand::Limit { limit } => set_limit(session, limit).await,
        BackupCommand::Diff { before, after, vault } => {
            compare(session, &before, &after, vault.as_deref()).await
        }
        BackupCommand::Restore { name, target, only, on_conflict, dry_run } => {
            let conflict = on_conflict.into();
            let request = restore_request(name, only.as_deref(), Some(&target), conflict)?;
            restore(session, &RestoreRequest { dry_run, ..request }).await
        }
        BackupCommand::Verify(arguments) => verify::run(session, &arguments).await,
        BackupCommand::Delete { name } => delete(session, &name).await,
    }
}

const fn kind(archive: bool) -> BackupKind {
    if archive { BackupKind::Archive } else { BackupKind::Network }
}

/// Seconds until a backup expires; zero for never.
fn until(text: &str) -> Result<u64, Failure> {
    if text == "never" { Ok(0) } else { parse_span(text) }
}

pub(super) fn path(name: &str, rest: &str) -> Result<String, Failure> {
    Ok(format!("/v1/backups/{}{rest}", segment(name)?))
}

async fn ask_price(
    session: &Session,
    vault: Option<String>,
    kind: BackupKind,
) -> Result<QuoteRow, Failure> {
    let request = QuoteRequest { kind, vault };
    Ok(session.client()?.post("/v1/backups/quote", &request).await?)
}

async fn quote(
    session: &Session,
    vault: Option<String>,
    kind: BackupKind,
) -> Result<Exit, Failure> {
    let quote = ask_price(session, vault, kind).await?;
    session.output.answer(&quote, || {
        format!(
            "at most {}: {}, {}, {}\n",
            display::coins(quote.price),
            display::count(quote.files, "file"),
            display::count(quote.versions, "version"),
            display::size(quote.file_size),
        )
    });
    Ok(Exit::Ok)
}

/// Prices that are asked for anew when they have changed before they were agreed to.
const QUOTES: u32 = 3;

/// Agrees to the price of the moment, which is shown, and makes the backup.
async fn create(session: &Session, arguments: BackupArguments) -> Result<Exit, Failure> {
    session.renter_ready().await?;
    let most = arguments.max_cost.as_deref().map(parse_amount).transpose()?;
    let expires_in = arguments.expires.as_deref().map(parse_span).transpose()?;
    let kind = kind(arguments.archive);
    let sealed = passphrase(arguments.passphrase_from, Purpose::New).await?;
    if kind == BackupKind::Archive && sealed.is_none() {
        session.output.news("the archive is not encrypted: whoever has the file can read it");
    }
    let mut request = BackupRequest {
        kind,
        name: arguments.name,
        description: arguments.description,
        tags: arguments.tags,
        vault: arguments.vault,
        pinned: arguments.pin,
        expires_in,
        passphrase: sealed,
        ..BackupRequest::default()
    };
    let mut tries = 0;
    let row: BackupRow = loop {
        let quote = ask_price(session, request.vault.clone(), kind).await?;
        check_price(&quote, most)?;
        request.quote = Some(quote.id);
        let made = if arguments.detach {
            session.client()?.post("/v1/backups", &request).await.map_err(Failure::from)
        } else {
            session.run("/v1/backups", &request).await
        };
        match made {
            // The price has changed between the two requests.
            Err(failure) if failure.code == "stale_quote" && tries < QUOTES => tries += 1,
            made => break made?,
        }
    };
    session.output.answer(&row, || created_text(&row));
    Ok(match row.status {
        BackupStatus::Completed => Exit::Ok,
        BackupStatus::InProgress if arguments.detach => Exit::Ok,
        _ => Exit::Partial,
    })
}

fn check_price(quote: &QuoteRow, most: Option<Amount>) -> Result<(), Failure> {
    match most {
        Some(most) if quote.price > most => {
            let (price, allowed) = (display::coins(quote.price), display::coins(most));
            let message = format!("it costs up to {price}, more than the {allowed} of --max-cost");
            let amounts = [("price", json!(quote.price)), ("max_price", json!(most))];
            Err(Failure::of_code("quote_exceeded", message).with_details(details(amounts)))
        }
        _ => Ok(()),
    }
}

fn created_text(row: &BackupRow) -> String {
    let held = format!("{} of {} hosts hold it", row.hosts_ok, row.hosts_total);
    let price = format!("at most {}", display::coins(row.cost_quoted));
    match (row.status, row.kind) {
        (BackupStatus::Completed, BackupKind::Network) => {
            format!("backup '{}' is complete: {held}; {price}\n", row.name)
        }
        (BackupStatus::Completed, BackupKind::Archive) => format!(
            "archive '{}' is complete: {} of {}; fetch it with `samara backup download`\n",
            row.name,
            display::count(row.events, "event"),
            display::size(row.stored_size.unwrap_or_default()),
        ),
        (BackupStatus::InProgress, BackupKind::Network) => format!(
            "backup '{}' is not complete yet: {held}, {} are needed; {price}\n",
            row.name, row.hosts_needed
        ),
        (BackupStatus::InProgress, BackupKind::Archive) => {
            format!("archive '{}' is being written; {price}\n", row.name)
        }
        (BackupStatus::Error, _) => {
            format!("backup '{}' is not complete\n  {}\n", row.name, display::plain(problem(row)))
        }
    }
}

fn problem(row: &BackupRow) -> &str {
    row.error.as_ref().map_or("the reason is not known", |error| error.message.as_str())
}

/// How far a backup is, in words.
fn state_name(row: &BackupRow) -> String {
    match (row.status, row.phase) {
        (BackupStatus::Completed, _) => "completed".to_owned(),
        (BackupStatus::Error, _) => {
            let code = row.error.as_ref().map_or("", |error| error.code.as_str());
            format!("error ({code})")
        }
        (BackupStatus::InProgress, Some(BackupPhase::Queued)) => "in progress (queued)".to_owned(),
        (BackupStatus::InProgress, Some(BackupPhase::Checking)) => {
            "in progress (checking)".to_owned()
        }
        (BackupStatus::InProgress, _) => "in progress".to_owned(),
    }
}

pub(super) const fn kind_name(kind: BackupKind) -> &'static str {
    match kind {
        BackupKind::Network => "network",
        BackupKind::Archive => "archive",
    }
}

/// A value of the API as it is written there.
fn word(value: &impl serde::Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

fn query(arguments: &BackupListArguments) -> String {
    let status = match arguments.status {
        ListedBackups::All => BackupFilter::All,
        ListedBackups::Completed => BackupFilter::Completed,
        ListedBackups::InProgress => BackupFilter::InProgress,
        ListedBackups::Error => BackupFilter::Error,
    };
    let order = match arguments.sort {
        BackupsBy::Created => BackupOrder::Created,
        BackupsBy::Name => BackupOrder::Name,
        BackupsBy::Size => BackupOrder::Size,
        BackupsBy::Status => BackupOrder::Status,
    };
    let mut query = format!(
        "limit=1000&status={}&order={}&descending={}&search={}",
        word(&status),
        word(&order),
        arguments.descending,
        escape(&arguments.search.join(" "))
    );
    if let Some(vault) = &arguments.vault {
        query.push_str(&format!("&vault={}", escape(vault)));
    }
    query
}

async fn list(session: &Session, arguments: &BackupListArguments) -> Result<Exit, Failure> {
    let page: BackupPage =
        session.client()?.get(&format!("/v1/backups?{}", query(arguments))).await?;
    session.output.answer(&page.backups, || list_backups_text(&page));
    Ok(Exit::Ok)
}

fn list_backups_text(page: &BackupPage) -> String {
    let mut table = Table::new(&[
        ("backup", Align::Left),
        ("kind", Align::Left),
        ("made", Align::Left),
        ("state", Align::Left),
        ("files", Align::Right),
        ("size", Align::Right),
        ("hosts", Align::Right),
        ("names", Align::Left),
        ("vault", Align::Left),
        ("description", Align::Left),
    ]);
    for row in &page.backups {
        let network = row.kind == BackupKind::Network;
        let hosts = format!("{}/{}", row.hosts_ok, row.hosts_total);
        table.row([
            if row.pinned { format!("{} *", row.name) } else { row.name.clone() },
            kind_name(row.kind).to_owned(),
            display::moment(row.date_created),
            state_name(row),
            display::thousands(row.files),
            display::size(row.file_size),
            if network { hosts } else { String::new() },
            if network { stage_name(row.stage).to_owned() } else { String::new() },
            row.vault.clone().unwrap_or_else(|| "all".to_owned()),
            row.description.clone(),
        ]);
    }
    match (table.is_empty(), page.all) {
        (false, _) => table.render(),
        (true, 0) => "no backups\n".to_owned(),
        (true, all) => format!("none of {} fits\n", display::count(all, "backup")),
    }
}

async fn show(session: &Session, name: &str) -> Result<Exit, Failure> {
    let detail: BackupDetail = session.client()?.get(&path(name, "")?).await?;
    session.output.answer(&detail, || detail_text(&detail));
    Ok(Exit::Ok)
}

fn detail_text(detail: &BackupDetail) -> String {
    let row = &detail.row;
    let mut lines = Lines::default();
    lines.line("backup", &row.name);
    lines.line("kind", kind_name(row.kind));
    lines.line("sid", &row.sid);
    if !row.description.is_empty() {
        lines.line("description", &row.description);
    }
    if !row.tags.is_empty() {
        lines.line("tags", row.tags.join(", "));
    }
    lines.line("status", state_name(row));
    if row.status == BackupStatus::Error {
        lines.line("problem", problem(row));
    }
    lines.line("vault", row.vault.as_deref().unwrap_or("all"));
    let counts = format!(
        "{}, {}, {}, {}",
        display::count(row.files, "file"),
        display::size(row.file_size),
        display::count(row.versions, "version"),
        display::count(row.events, "event"),
    );
    lines.line("contents", counts);
    if row.kind == BackupKind::Network {
        let held = format!("{} of {}, {} needed", row.hosts_ok, row.hosts_total, row.hosts_needed);
        lines.line("hosts", held);
        lines.line("names", stage_name(row.stage));
    }
    let cost = row.cost_actual.map_or_else(|| "not known yet".to_owned(), display::coins);
    lines.line("cost", format!("{cost}, at most {}", display::coins(row.cost_quoted)));
    if let Some(bytes) = row.stored_size {
        lines.line("stored", display::size(bytes));
    }
    lines.line("made", display::moment(row.date_created));
    let dates = [
        ("completed", row.date_completed),
        ("verified", row.date_verified),
        ("expires", row.date_expired),
        ("recoverable", row.recoverable_until),
    ];
    for (label, date) in dates {
        if let Some(date) = date {
            let until = if label == "recoverable" { "until " } else { "" };
            let unless = match label {
                "recoverable" => ", unless contracts are renewed",
                "verified" if row.verified_sound == Some(false) => ", and problems were found",
                _ => "",
            };
            lines.line(label, format!("{until}{}{unless}", display::moment(date)));
        }
    }
    if row.pinned {
        lines.line("pinned", "no rule and no date deletes it");
    }
    if let Some(path) = &row.file_path {
        lines.line("file", path);
    }
    let mut text = lines.render();
    let mut table =
        Table::new(&[("vault", Align::Left), ("files", Align::Right), ("size", Align::Right)]);
    for vault in &detail.vaults {
        table.row([
            vault.name.clone(),
            display::thousands(vault.files),
            display::size(vault.bytes),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.render());
    }
    for line in &detail.log {
        text.push_str(&format!("{}  {}\n", display::moment(line.time), display::plain(&line.text)));
    }
    text
}

async fn files(
    session: &Session,
    name: &str,
    place: &str,
    recursive: bool,
) -> Result<Exit, Failure> {
    let place = Place::parse(place)?;
    let query = format!(
        "/ls?vault={}&folder={}&recursive={recursive}",
        escape(&place.vault),
        escape(&place.path)
    );
    let rows: Vec<ListRow> = session.client()?.get(&path(name, &query)?).await?;
    session.output.answer(&rows, || list_text(&rows));
    Ok(Exit::Ok)
}

async fn change(session: &Session, name: &str, edit: &BackupEdit) -> Result<Exit, Failure> {
    let row: BackupRow = session.client()?.patch(&path(name, "")?, edit).await?;
    session.output.answer(&row, || format!("backup '{}' changed\n", row.name));
    Ok(Exit::Ok)
}

/// Fetches an archive, compares it with its hash, and gives it its name only then.
async fn download(session: &Session, name: &str, target: &Path) -> Result<Exit, Failure> {
    let client = session.client()?;
    let detail: BackupDetail = client.get(&path(name, "")?).await?;
    let response = client.send(client.request(Method::GET, &path(name, "/content")?)).await?;
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failure, format!("cannot write {}: {error}", target.display()))
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .map_err(|error| broken(&error))?;
    let mut pieces = response.bytes_stream();
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0u64);
    while let Some(piece) = pieces.next().await {
        let cut = |_| Failure::new(Exit::Unreachable, "the node broke off: try again");
        let piece = piece.map_err(cut)?;
        hasher.update(&piece);
        bytes = bytes.saturating_add(piece.len() as u64);
        file.write_all(&piece).map_err(|error| broken(&error))?;
    }
    if detail.row.archive_hash.as_deref() != Some(hasher.finalize().to_string().as_str()) {
        let message = "what came is not the archive that was made: try again";
        return Err(Failure::new(Exit::Failure, message));
    }
    file.as_file().sync_all().map_err(|error| broken(&error))?;
    file.persist_noclobber(target).map_err(|error| broken(&error.error))?;
    session.output.answer(&detail.row, || {
        format!(
            "{} in {}\n  `samara backup delete` ends what it takes up here\n",
            display::size(bytes),
            target.display()
        )
    });
    Ok(Exit::Ok)
}

async fn pin(session: &Session, name: &str, pinned: bool) -> Result<Exit, Failure> {
    let row: BackupRow =
        session.client()?.post(&path(name, "/pin")?, &PinRequest { pinned }).await?;
    let word = if pinned { "pinned" } else { "no longer pinned" };
    session.output.answer(&row, || format!("backup '{}' is {word}\n", row.name));
    Ok(Exit::Ok)
}

async fn cancel(session: &Session, name: &str) -> Result<Exit, Failure> {
    let row: BackupRow = session.client()?.post(&path(name, "/cancel")?, &()).await?;
    session.output.answer(&row, || format!("backup '{}' is cancelled\n", row.name));
    Ok(Exit::Ok)
}

async fn set_limit(session: &Session, limit: Option<u32>) -> Result<Exit, Failure> {
    let client = session.client()?;
    let now: BackupLimit = match limit {
        Some(limit) => client.put("/v1/backup-limit", &BackupLimit { limit }).await?,
        None => client.get("/v1/backup-limit").await?,
    };
    session.output.answer(&now, || format!("{} of each kind for a vault\n", now.limit));
    Ok(Exit::Ok)
}

async fn compare(
    session: &Session,
    before: &str,
    after: &str,
    vault: Option<&str>,
) -> Result<Exit, Failure> {
    let mut path = path(before, &format!("/diff/{}", segment(after)?))?;
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

async fn restore(session: &Session, request: &RestoreRequest) -> Result<Exit, Failure> {
    let report: RestoreReport = session.run("/v1/restore", request).await?;
    session.output.answer(&report, || get_text(&report.files));
    Ok(get_exit(&report.files))
}

async fn delete(session: &Session, name: &str) -> Result<Exit, Failure> {
    let answer: Done = session.client()?.delete(&path(name, "")?).await?;
    session.output.answer(&answer, || format!("backup '{name}' deleted\n"));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_that_is_too_high_is_refused_as_the_node_would() {
        let (price, less) = (Amount::coins(2), Amount::coins(1));
        let quote = QuoteRow {
            id: "1".into(),
            kind: BackupKind::Network,
            vault: None,
            price,
            moved: 0,
            events: 0,
            versions: 0,
            files: 0,
            file_size: 0,
            expires: 0,
        };
        assert!(check_price(&quote, None).is_ok() && check_price(&quote, Some(price)).is_ok());
        let refused = check_price(&quote, Some(less)).unwrap_err();
        assert_eq!((refused.exit, refused.code.as_str()), (Exit::Refused, "quote_exceeded"));
        assert_eq!(refused.to_json()["details"]["max_price"], json!(less));
    }
}
