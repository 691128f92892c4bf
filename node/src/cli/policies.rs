//! `samara policy` and `samara schedule`.

use samara_renter::backup::retention::Retention;
use samara_renter::backup::{
    BackupKind, BackupRow, BackupStatus, PolicyRequest, PolicyRow, PolicyVerdict,
};

use super::address::segment;
use super::backups::kind_name;
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::money::parse_amount;
use super::policy_arguments::{Keep, PolicyCommand, PolicySettings, ScheduleCommand};
use super::session::Session;
use super::span::{parse_span, parse_time, show_span, show_time};
use crate::api::{Done, PreviewRequest};

/// Runs one of the commands of `samara policy`.
pub async fn run(session: &Session, command: PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Create { name, settings } => create(session, name, &settings).await,
        PolicyCommand::List => list(session).await,
        PolicyCommand::Show { name } => show(session, &name).await,
        PolicyCommand::Edit { name, settings, enable, all_vaults } => {
            let row: PolicyRow = session.client()?.get(&path(&name, "")?).await?;
            let mut request = edited(row.policy, &settings)?;
            request.enabled |= enable;
            if all_vaults {
                request.vault = None;
            }
            change(session, &name, &request).await
        }
        PolicyCommand::Delete { name } => delete(session, &name).await,
        PolicyCommand::Preview { name, keep } => preview(session, &name, &keep).await,
    }
}

/// Shows what comes next, or makes a backup now.
pub async fn schedule(
    session: &Session,
    command: Option<ScheduleCommand>,
) -> Result<Exit, Failure> {
    match command {
        None => upcoming(session).await,
        Some(ScheduleCommand::Run { name }) => run_now(session, &name).await,
    }
}

fn path(name: &str, rest: &str) -> Result<String, Failure> {
    Ok(format!("/v1/policies/{}{rest}", segment(name)?))
}

async fn create(
    session: &Session,
    name: String,
    settings: &PolicySettings,
) -> Result<Exit, Failure> {
    let request = edited(PolicyRequest { name, ..PolicyRequest::default() }, settings)?;
    let row: PolicyRow = session.client()?.post("/v1/policies", &request).await?;
    session.output.answer(&row, || policy_text(&row));
    Ok(Exit::Ok)
}

async fn change(session: &Session, name: &str, request: &PolicyRequest) -> Result<Exit, Failure> {
    let client = session.client()?;
    let row: PolicyRow = client.put(&path(name, "")?, request).await?;
    session.output.answer(&row, || policy_text(&row));
    Ok(Exit::Ok)
}

async fn show(session: &Session, name: &str) -> Result<Exit, Failure> {
    let row: PolicyRow = session.client()?.get(&path(name, "")?).await?;
    session.output.answer(&row, || policy_text(&row));
    Ok(Exit::Ok)
}

async fn delete(session: &Session, name: &str) -> Result<Exit, Failure> {
    let answer: Done = session.client()?.delete(&path(name, "")?).await?;
    session.output.answer(&answer, || format!("policy '{name}' deleted; its backups stay\n"));
    Ok(Exit::Ok)
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let rows: Vec<PolicyRow> = session.client()?.get("/v1/policies").await?;
    session.output.answer(&rows, || list_text(&rows));
    Ok(Exit::Ok)
}

async fn preview(session: &Session, name: &str, keep: &Keep) -> Result<Exit, Failure> {
    let tried = retention(Retention::default(), keep)?;
    let request = PreviewRequest { retention: (!tried.keeps_all()).then_some(tried) };
    let verdicts: Vec<PolicyVerdict> =
        session.client()?.post(&path(name, "/preview")?, &request).await?;
    session.output.answer(&verdicts, || verdicts_text(&verdicts));
    Ok(Exit::Ok)
}

async fn upcoming(session: &Session) -> Result<Exit, Failure> {
    let mut rows: Vec<PolicyRow> = session.client()?.get("/v1/policies").await?;
    rows.sort_by_key(|row| (row.next.is_none(), row.next));
    session.output.answer(&rows, || schedule_text(&rows));
    Ok(Exit::Ok)
}

async fn run_now(session: &Session, name: &str) -> Result<Exit, Failure> {
    session.renter_ready().await?;
    let row: BackupRow = session.client()?.post(&path(name, "/run")?, &()).await?;
    session.output.answer(&row, || {
        let price = display::coins(row.cost_quoted);
        format!(
            "backup '{}' is being made, at most {price}; see `samara backup show '{0}'`\n",
            row.name
        )
    });
    Ok(Exit::Ok)
}

/// Settings with what the command line names in the place of what there was.
fn edited(mut request: PolicyRequest, settings: &PolicySettings) -> Result<PolicyRequest, Failure> {
    if let Some(vault) = &settings.vault {
        request.vault = Some(vault.clone());
    }
    if settings.archive {
        request.kind = BackupKind::Archive;
    }
    if let Some(every) = &settings.every {
        request.every = parse_span(every)?;
    }
    if let Some(at) = &settings.at {
        request.at = parse_time(at, request.every)?;
    }
    request.retention = retention(request.retention, &settings.keep)?;
    match settings.expires.as_deref() {
        Some("never") => request.expires_in = None,
        Some(span) => request.expires_in = Some(parse_span(span)?),
        None => {}
    }
    if let Some(tags) = &settings.tags {
        request.tags.clone_from(tags);
    }
    match settings.max_cost.as_deref() {
        Some("none") => request.max_price = None,
        Some(coins) => request.max_price = Some(parse_amount(coins)?),
        None => {}
    }
    request.enabled &= !settings.disable;
    Ok(request)
}

/// A retention with other numbers where some are named.
fn retention(before: Retention, keep: &Keep) -> Result<Retention, Failure> {
    let within = match keep.keep_within.as_deref() {
        Some("0") => 0,
        Some(span) => parse_span(span)?,
        None => before.within,
    };
    Ok(Retention {
        last: keep.keep_last.unwrap_or(before.last),
        hourly: keep.keep_hourly.unwrap_or(before.hourly),
        daily: keep.keep_daily.unwrap_or(before.daily),
        weekly: keep.keep_weekly.unwrap_or(before.weekly),
        monthly: keep.keep_monthly.unwrap_or(before.monthly),
        yearly: keep.keep_yearly.unwrap_or(before.yearly),
        within,
    })
}

fn kept(retention: &Retention) -> String {
    let numbers = [
        ("last", retention.last),
        ("hourly", retention.hourly),
        ("daily", retention.daily),
        ("weekly", retention.weekly),
        ("monthly", retention.monthly),
        ("yearly", retention.yearly),
    ];
    let set = numbers.iter().filter(|(_, number)| *number > 0);
    let mut rules: Vec<String> = set.map(|(name, number)| format!("{number} {name}")).collect();
    if retention.within > 0 {
        rules.push(format!("within {}", show_span(retention.within)));
    }
    if rules.is_empty() { "all".to_owned() } else { rules.join(", ") }
}

fn interval(policy: &PolicyRequest) -> String {
    format!("{} at {}", show_span(policy.every), show_time(policy.at, policy.every))
}

fn moment(time: Option<u64>, none: &str) -> String {
    time.map_or_else(|| none.to_owned(), display::moment)
}

/// What became of the last run, in words.
fn outcome(row: &PolicyRow) -> String {
    match (row.last_status, &row.last_error) {
        (Some(BackupStatus::Completed), _) => "completed".to_owned(),
        (Some(BackupStatus::InProgress), _) => "in progress".to_owned(),
        (Some(BackupStatus::Error), Some(error)) => format!("error ({})", error.code),
        (Some(BackupStatus::Error), None) => "error".to_owned(),
        (None, _) if row.last.is_some() => "deleted since".to_owned(),
        (None, _) => String::new(),
    }
}

/// What was missed, as a sentence.
fn missed(row: &PolicyRow) -> Option<String> {
    let since = row.missed_since.filter(|_| row.missed > 0)?;
    let runs = display::count(row.missed, "run");
    Some(format!("missed {runs} since {}: the node was not there", display::moment(since)))
}

fn policy_text(row: &PolicyRow) -> String {
    let policy = &row.policy;
    let mut lines = Lines::default();
    lines.line("policy", &policy.name);
    lines.line("kind", kind_name(policy.kind));
    lines.line("vault", policy.vault.as_deref().unwrap_or("all"));
    lines.line("every", format!("{}, UTC by the chain", interval(policy)));
    lines.line("keeps", kept(&policy.retention));
    if let Some(span) = policy.expires_in {
        lines.line("expires", format!("each in {}", show_span(span)));
    }
    if !policy.tags.is_empty() {
        lines.line("tags", policy.tags.join(", "));
    }
    if let Some(most) = policy.max_price {
        lines.line("pays", format!("at most {}", display::coins(most)));
    }
    lines.line("next", moment(row.next, "never: it is disabled"));
    let last = moment(row.last, "never");
    let outcome = outcome(row);
    lines.line("last", if outcome.is_empty() { last } else { format!("{last}, {outcome}") });
    if let Some(error) = &row.last_error {
        lines.line("problem", &error.message);
    }
    if let Some(missed) = missed(row) {
        lines.line("missed", missed);
    }
    lines.line("backups", display::thousands(row.kept));
    lines.render()
}

fn list_text(rows: &[PolicyRow]) -> String {
    let mut table = Table::new(&[
        ("policy", Align::Left),
        ("kind", Align::Left),
        ("vault", Align::Left),
        ("every", Align::Left),
        ("keeps", Align::Left),
        ("backups", Align::Right),
        ("last", Align::Left),
        ("outcome", Align::Left),
    ]);
    for row in rows {
        let disabled = if row.policy.enabled { "" } else { " (disabled)" };
        table.row([
            format!("{}{disabled}", row.policy.name),
            kind_name(row.policy.kind).to_owned(),
            row.policy.vault.clone().unwrap_or_else(|| "all".to_owned()),
            interval(&row.policy),
            kept(&row.policy.retention),
            display::thousands(row.kept),
            moment(row.last, "never"),
            outcome(row),
        ]);
    }
    if table.is_empty() { "no policies\n".to_owned() } else { table.render() }
}

fn schedule_text(rows: &[PolicyRow]) -> String {
    let mut table = Table::new(&[
        ("next", Align::Left),
        ("policy", Align::Left),
        ("every", Align::Left),
        ("last", Align::Left),
        ("outcome", Align::Left),
    ]);
    for row in rows {
        table.row([
            moment(row.next, "disabled"),
            row.policy.name.clone(),
            interval(&row.policy),
            moment(row.last, "never"),
            outcome(row),
        ]);
    }
    if table.is_empty() {
        return "nothing is scheduled: see `samara policy create --help`\n".to_owned();
    }
    let mut text = table.render();
    for row in rows {
        if let Some(missed) = missed(row) {
            text.push_str(&format!("warning: '{}' {missed}\n", display::plain(&row.policy.name)));
        }
    }
    text
}

fn verdicts_text(verdicts: &[PolicyVerdict]) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("backup", Align::Left),
        ("made", Align::Left),
        ("why", Align::Left),
    ]);
    for verdict in verdicts {
        table.row([
            if verdict.keep { "keep" } else { "delete" }.to_owned(),
            verdict.name.clone(),
            display::moment(verdict.chain_time),
            verdict.reasons.join("; "),
        ]);
    }
    let gone = verdicts.iter().filter(|verdict| !verdict.keep).count() as u64;
    let sum = format!(
        "{} would be deleted after the next one; nothing was\n",
        display::count(gone, "backup")
    );
    if table.is_empty() { "it has no backups\n".to_owned() } else { table.render() + &sum }
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::Amount;

    use super::*;

    fn row() -> PolicyRow {
        PolicyRow {
            policy: PolicyRequest { name: "nightly".into(), ..PolicyRequest::default() },
            made: 0,
            created_by: None,
            next: Some(1_767_225_600_000),
            last: None,
            last_backup: None,
            last_status: None,
            last_error: None,
            missed: 0,
            missed_since: None,
            kept: 0,
        }
    }

    #[test]
    fn only_what_is_named_is_changed() {
        let settings = PolicySettings {
            vault: Some("home".into()),
            every: Some("1w".into()),
            at: Some("sun 02:30".into()),
            keep: Keep { keep_daily: Some(7), keep_within: Some("30d".into()), ..Keep::default() },
            max_cost: Some("2".into()),
            expires: Some("90d".into()),
            disable: true,
            ..PolicySettings::default()
        };
        let request = edited(row().policy, &settings).unwrap();
        assert_eq!((request.every, request.at), (604_800, 3 * 86_400 + 9_000));
        assert_eq!((request.retention.daily, request.retention.within), (7, 30 * 86_400));
        assert_eq!((request.max_price, request.enabled), (Some(Amount::coins(2)), false));
        assert_eq!(edited(request.clone(), &PolicySettings::default()).unwrap(), request);
        let clear = PolicySettings {
            expires: Some("never".into()),
            max_cost: Some("none".into()),
            keep: Keep { keep_within: Some("0".into()), ..Keep::default() },
            ..PolicySettings::default()
        };
        let cleared = edited(request, &clear).unwrap();
        assert_eq!((cleared.expires_in, cleared.max_price), (None, None));
        assert_eq!(kept(&cleared.retention), "7 daily");
    }

    #[test]
    fn a_schedule_warns_of_what_was_missed() {
        let mut row = row();
        assert!(!schedule_text(std::slice::from_ref(&row)).contains("warning"));
        (row.missed, row.missed_since) = (3, Some(1_767_225_600_000));
        let text = schedule_text(std::slice::from_ref(&row));
        assert!(text.contains("2026-01-01 00:00  nightly"), "{text}");
        let warning = "warning: 'nightly' missed 3 runs since 2026-01-01 00:00";
        assert!(text.contains(warning), "{text}");
    }
}
