//! `samara hosts`.

use samara_renter::rows::HostRow;

use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::AnnouncedHost;

/// Hosts as the renter sees them; where it has no contracts yet, and on a node without that role, as the
/// chain announces them.
pub async fn hosts(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let rows: Vec<HostRow> = match client.get("/v1/hosts").await {
        Err(error) if error.code == "no_role" => Vec::new(),
        rows => rows?,
    };
    if rows.is_empty() {
        let listed: Vec<AnnouncedHost> = client.get("/v1/chain/hosts").await?;
        session.output.answer(&listed, || announced_text(&listed));
    } else {
        session.output.answer(&rows, || hosts_text(&rows));
    }
    Ok(Exit::Ok)
}

fn announced_text(hosts: &[AnnouncedHost]) -> String {
    let mut table = Table::new(&[
        ("host", Align::Left),
        ("operator", Align::Left),
        ("offers", Align::Right),
        ("accepting", Align::Left),
        ("address", Align::Left),
    ]);
    for AnnouncedHost { host, announcement } in hosts {
        table.row([
            display::short(host),
            announcement.operator.clone(),
            display::size(announcement.capacity),
            if announcement.accepting { "yes" } else { "no" }.to_owned(),
            announcement.addresses.first().cloned().unwrap_or_default(),
        ]);
    }
    if table.is_empty() { "no hosts\n".to_owned() } else { table.render() }
}

fn hosts_text(rows: &[HostRow]) -> String {
    let mut table = Table::new(&[
        ("host", Align::Left),
        ("operator", Align::Left),
        ("contract", Align::Left),
        ("latency", Align::Right),
        ("answered", Align::Right),
        ("failed", Align::Right),
        ("false", Align::Right),
        ("head", Align::Right),
        ("last failure", Align::Left),
    ]);
    for row in rows {
        let head = row.head_position.map_or("-".to_owned(), display::thousands);
        table.row([
            display::short(&row.host),
            row.operator.clone(),
            row.contract.as_deref().map_or("-".to_owned(), display::short),
            format!("{} ms", row.latency),
            display::thousands(row.answered),
            display::thousands(row.failed),
            display::thousands(row.false_answers),
            if row.in_head_set { format!("*{head}") } else { head },
            display::brief(&last_failure(row), 60),
        ]);
    }
    table.render() + LEGEND
}

/// What the columns count.
const LEGEND: &str = "\
answered, failed, false: calls that the host answered, did not answer, or answered with what does not verify
head: changes of names that it holds; * for hosts of the head set, a quorum of which makes a change safe
";

/// What went wrong with a host, first whether it is out of reach.
fn last_failure(row: &HostRow) -> String {
    let failure = row.last_failure.clone().unwrap_or_default();
    if row.unreachable { format!("unreachable: {failure}") } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_it_counts() {
        let row = HostRow {
            host: "ab".repeat(32),
            operator: "op".into(),
            contract: None,
            answered: 3,
            failed: 1,
            unreachable: true,
            false_answers: 0,
            lost_sectors: 0,
            latency: 5,
            last_failure: Some("no answer".into()),
            in_head_set: true,
            head_position: Some(12),
        };
        let text = hosts_text(&[row]);
        assert!(text.contains("*12  unreachable: no answer\n"), "{text}");
        assert!(text.ends_with(LEGEND), "{text}");
        assert_eq!(announced_text(&[]), "no hosts\n");
    }
}
