//! `samara contracts`.

use std::collections::BTreeSet;
use std::time::Duration;

use samara_renter::rows::{ContractRow, RenewalState};

use super::display::{self, Align, Table, coins};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::ChainStatus;

/// The renter's contracts.
pub async fn contracts(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let rows: Vec<ContractRow> = client.get("/v1/contracts").await?;
    let chain: ChainStatus = client.get("/v1/chain").await?;
    session.output.answer(&rows, || contracts_text(&rows, chain.time));
    Ok(Exit::Ok)
}

fn contracts_text(rows: &[ContractRow], now: u64) -> String {
    let mut reasons: Vec<&String> = Vec::new();
    let mut terms = BTreeSet::new();
    let mut table = Table::new(&[
        ("host", Align::Left),
        ("operator", Align::Left),
        ("stored", Align::Right),
        ("funds", Align::Right),
        ("spent", Align::Right),
        ("ends", Align::Left),
        ("renewal", Align::Left),
    ]);
    for row in rows {
        let period = display::duration(Duration::from_millis(row.period));
        terms.insert(format!("{} x {period}", row.periods));
        let renewal = match &row.renewal {
            RenewalState::Lapses { reason } if now < row.ends => {
                let known = reasons.iter().position(|known| known == &reason);
                let number = known.unwrap_or_else(|| {
                    reasons.push(reason);
                    reasons.len() - 1
                });
                format!("none [{}]", number + 1)
            }
            _ => renewal(row, now),
        };
        table.row([
            display::short(&row.host),
            row.operator.clone(),
            display::size(row.bytes),
            coins(row.funds),
            coins(row.spent),
            display::moment(row.ends),
            renewal,
        ]);
    }
    if table.is_empty() {
        return "no contracts\n".to_owned();
    }
    // The ids are for programs; periods and reasons are most often those of all.
    let mut text = table.render();
    let terms: Vec<String> = terms.into_iter().collect();
    text.push_str(&format!("periods: {}\n", terms.join(", ")));
    for (number, reason) in reasons.iter().enumerate() {
        text.push_str(&format!("[{}] {}\n", number + 1, display::plain(reason)));
    }
    text
}

/// Whether and when a contract goes on.
fn renewal(row: &ContractRow, now: u64) -> String {
    match &row.renewal {
        _ if now >= row.ends => "ended".to_owned(),
        RenewalState::Planned { from } if now >= *from => "due now".to_owned(),
        RenewalState::Planned { from } => format!("from {}", display::moment(*from)),
        RenewalState::Agreed { .. } => "signed, waits for a block".to_owned(),
        RenewalState::Lapses { reason } => format!("none: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::Amount;

    use super::*;

    #[test]
    fn contracts_tell_when_they_end_and_whether_they_go_on() {
        let row = |reason: Option<&str>| ContractRow {
            contract: "a".into(),
            host: "b".into(),
            operator: "c".into(),
            bytes: 0,
            revision: 0,
            funds: Amount::ZERO,
            spent: Amount::ZERO,
            duration: 10,
            period: 1_000,
            periods: 10,
            ends: 86_400_000,
            renewal: match reason.map(str::to_owned) {
                Some(reason) => RenewalState::Lapses { reason },
                None => RenewalState::Planned { from: 43_200_000 },
            },
        };
        assert_eq!(renewal(&row(None), 0), "from 1970-01-01 12:00");
        assert_eq!(renewal(&row(None), 43_200_000), "due now");
        assert_eq!(renewal(&row(None), 86_400_000), "ended");
        assert_eq!(renewal(&row(Some("no money")), 0), "none: no money");
        let text = contracts_text(&[row(None)], 0);
        assert!(text.contains("1970-01-02 00:00  from 1970-01-01 12:00\n"), "{text}");
        assert!(text.ends_with("periods: 10 x 1.0 s\n"), "{text}");
        let mut wide = row(None);
        wide.host = "ab".repeat(32);
        wide.operator = "operator".into();
        wide.funds = Amount(12_345_678_900_000_000_000_000);
        assert!(contracts_text(&[wide], 0).lines().all(|line| line.len() <= 100));
    }
}
