//! `samara drill`.

use std::time::Duration;

use samara_renter::backup::Trigger;

use super::address::segment;
use super::arguments::DrillCommand;
use super::bar::verb;
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::money::parse_amount;
use super::session::Session;
use super::span::parse_span;
use super::verify::parse_share;
use crate::drill::{DrillOptions, DrillReport, DrillRow, DrillSchedule, DrillScheduleRow};

/// Names that are shown to people one by one.
const SHOWN: usize = 50;

/// Runs one of the commands.
pub async fn run(session: &Session, command: DrillCommand) -> Result<Exit, Failure> {
    match command {
        DrillCommand::Run { share, max_cost } => {
            let max_price = max_cost.as_deref().map(parse_amount).transpose()?;
            let options = DrillOptions { share: parse_share(&share)?, max_price };
            let report: DrillReport = session.run("/v1/drills", &options).await?;
            Ok(answer(session, &report))
        }
        DrillCommand::List => list(session).await,
        DrillCommand::Show { id } => show(session, id).await,
        DrillCommand::Schedule { every, share, max_cost } => {
            schedule(session, every, share, max_cost).await
        }
    }
}

fn answer(session: &Session, report: &DrillReport) -> Exit {
    session.output.answer(report, || report_text(report));
    if report.row.passed { Exit::Ok } else { Exit::Partial }
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let rows: Vec<DrillRow> = session.client()?.get("/v1/drills").await?;
    session.output.answer(&rows, || list_text(&rows));
    Ok(Exit::Ok)
}

fn list_text(rows: &[DrillRow]) -> String {
    let mut table = Table::new(&[
        ("drill", Align::Left),
        ("made", Align::Left),
        ("by", Align::Left),
        ("", Align::Left),
        ("names", Align::Right),
        ("files", Align::Right),
        ("size", Align::Right),
        ("took", Align::Right),
        ("cost", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.id.clone(),
            display::moment(row.started),
            trigger_name(row.trigger).to_owned(),
            if row.passed { "passed" } else { "failed" }.to_owned(),
            format!("{}/{}", row.names_found, row.names_expected),
            display::thousands(row.files),
            display::size(row.bytes),
            took(row.took),
            display::coins(row.cost),
        ]);
    }
    if table.is_empty() { "no drills\n".to_owned() } else { table.render() }
}

const fn trigger_name(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Manual => "hand",
        Trigger::Schedule => "schedule",
    }
}

fn took(milliseconds: u64) -> String {
    display::duration(Duration::from_millis(milliseconds))
}

async fn show(session: &Session, id: Option<String>) -> Result<Exit, Failure> {
    let client = session.client()?;
    let id = match id {
        Some(id) => id,
        None => {
            let rows: Vec<DrillRow> = client.get("/v1/drills").await?;
            let newest = rows.into_iter().next();
            newest.ok_or_else(|| Failure::new(Exit::NotFound, "no drill was made yet"))?.id
        }
    };
    let report: DrillReport = client.get(&format!("/v1/drills/{}", segment(&id)?)).await?;
    Ok(answer(session, &report))
}

fn report_text(report: &DrillReport) -> String {
    let row = &report.row;
    let mut lines = Lines::default();
    lines.line("drill", &row.id);
    lines.line(
        "made",
        format!("{}, by {}", display::moment(row.started), trigger_name(row.trigger)),
    );
    lines.line("outcome", if row.passed { "passed" } else { "failed" });
    if let Some(problem) = &row.problem {
        lines.line("problem", &problem.message);
    }
    let mut names = format!("{} of {}", row.names_found, row.names_expected);
    if row.names_changed > 0 {
        names.push_str(&format!("; {} changed meanwhile", row.names_changed));
    }
    lines.line("names", names);
    let bytes = display::size(row.bytes);
    lines.line("files", format!("{} with {bytes} brought back", display::thousands(row.files)));
    if let Some(missing) = &report.may_be_missing {
        lines.line("perhaps", missing);
    }
    lines.line(
        "cost",
        format!("{}, at most {}", display::coins(row.cost), display::coins(row.price)),
    );
    lines.line("took", took(row.took));
    for part in &report.phases {
        lines.line(verb(part.phase), took(part.took));
    }
    let mut text = lines.render();
    for (what, names) in [("missing", &report.missing), ("different", &report.different)] {
        for name in names.iter().take(SHOWN) {
            text.push_str(&format!("{what}: {}\n", display::plain(name)));
        }
    }
    for bad in report.unreadable.iter().take(SHOWN) {
        let (file, reason) = (display::plain(&bad.file), display::plain(&bad.reason));
        text.push_str(&format!("not brought back: {file}: {reason}\n"));
    }
    if !row.passed {
        text.push_str(
            "  look at `samara hosts` and `samara health`, and make another drill when all hosts answer\n",
        );
    }
    text
}

async fn schedule(
    session: &Session,
    every: Option<String>,
    share: Option<String>,
    max_cost: Option<String>,
) -> Result<Exit, Failure> {
    let client = session.client()?;
    let row: DrillScheduleRow = match every {
        None => client.get("/v1/drill-schedule").await?,
        Some(every) => {
            let before = match client.get("/v1/drill-schedule").await {
                // It is being set anew.
                Err(error) if error.code == "drill_schedule_unreadable" => None,
                row => Some(row?),
            };
            let wanted = wanted(before, &every, share.as_deref(), max_cost.as_deref())?;
            client.put("/v1/drill-schedule", &wanted).await?
        }
    };
    session.output.answer(&row, || schedule_text(&row));
    Ok(Exit::Ok)
}

/// A schedule: what is not named stays as it was.
fn wanted(
    before: Option<DrillScheduleRow>,
    every: &str,
    share: Option<&str>,
    max_cost: Option<&str>,
) -> Result<DrillSchedule, Failure> {
    let share = share.map(parse_share).transpose()?;
    Ok(DrillSchedule {
        every: if every == "never" { 0 } else { parse_span(every)? },
        share: share.or(before.map(|row| row.share)),
        max_price: match max_cost {
            Some("none") => None,
            Some(coins) => Some(parse_amount(coins)?),
            None => before.and_then(|row| row.max_price),
        },
    })
}

fn schedule_text(row: &DrillScheduleRow) -> String {
    if row.every == 0 {
        return "no drills are made by themselves\n".to_owned();
    }
    let every = display::duration(Duration::from_secs(row.every));
    let mut text = format!(
        "every {every}: all names, and {}.{} % of the files",
        row.share / 10,
        row.share % 10
    );
    if let Some(most) = row.max_price {
        text.push_str(&format!(", for at most {}", display::coins(most)));
    }
    if let Some(next) = row.next {
        text.push_str(&format!("; the next one from {} on", display::moment(next)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::Amount;

    use super::*;

    #[test]
    fn what_a_schedule_does_not_name_stays() {
        let max_price = Some(Amount::coins(2));
        let before =
            DrillScheduleRow { every: 60, share: 100, max_price, last: None, next: Some(7) };
        let to = |share, max_cost| wanted(Some(before), "60d", share, max_cost).unwrap();
        let stays = DrillSchedule { every: 60 * 86_400, share: Some(100), max_price };
        assert_eq!(to(None, None), stays);
        let one = Some(Amount::coins(1));
        assert_eq!(
            to(Some("all"), Some("1")),
            DrillSchedule { share: Some(1_000), max_price: one, ..stays }
        );
        assert_eq!(to(None, Some("none")), DrillSchedule { max_price: None, ..stays });
        let first = wanted(None, "never", None, None).unwrap();
        assert_eq!(first, DrillSchedule::default());
    }
}
