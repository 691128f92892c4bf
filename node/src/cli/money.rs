//! `hosts`, `contracts`, `allowance` and `wallet`.

use std::time::Duration;

use samara_protocol::units::ParseAmountError;
use samara_renter::contract::{Allowance, PriceLimits};
use samara_renter::rows::{ContractRow, HostRow};
use samara_renter::transfer::Redundancy;
use serde_json::{Value, json};

use super::arguments::{AllowanceArguments, AllowanceCommand, WalletCommand};
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::{AllowanceAnswer, AllowanceRequest};

/// Hosts as the renter sees them; on a node without that role, as the chain announces them.
pub async fn hosts(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let rows: Vec<HostRow> = match client.get("/v1/hosts").await {
        Err(error) if error.code == "no_role" => {
            let listed: Value = client.get("/v1/chain/hosts").await?;
            session.output.answer(&listed, || display::fields(&listed));
            return Ok(Exit::Ok);
        }
        rows => rows?,
    };
    session.output.answer(&rows, || hosts_text(&rows));
    Ok(Exit::Ok)
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
            row.last_failure.clone().unwrap_or_default(),
        ]);
    }
    if table.is_empty() { "no hosts\n".to_owned() } else { table.render() }
}

/// The renter's contracts.
pub async fn contracts(session: &Session) -> Result<Exit, Failure> {
    let rows: Vec<ContractRow> = session.client()?.get("/v1/contracts").await?;
    session.output.answer(&rows, || {
        let mut table = Table::new(&[
            ("contract", Align::Left),
            ("host", Align::Left),
            ("operator", Align::Left),
            ("stored", Align::Right),
            ("revision", Align::Right),
            ("funds", Align::Right),
            ("spent", Align::Right),
        ]);
        for row in &rows {
            table.row([
                display::short(&row.contract),
                display::short(&row.host),
                row.operator.clone(),
                display::size(row.bytes),
                display::thousands(row.revision),
                coins(row.funds),
                coins(row.spent),
            ]);
        }
        if table.is_empty() { "no contracts\n".to_owned() } else { table.render() }
    });
    Ok(Exit::Ok)
}

/// An amount with at most four decimals, for tables.
fn coins(amount: samara_protocol::units::Amount) -> String {
    let text = amount.to_string();
    let Some((number, unit)) = text.split_once(' ') else { return text };
    match number.split_once('.') {
        Some(("0", decimals)) if decimals.starts_with("0000") => format!("<0.0001 {unit}"),
        Some((whole, decimals)) if decimals.len() > 4 => {
            format!("{whole}.{} {unit}", &decimals[..4])
        }
        _ => text,
    }
}

/// `samara allowance`.
pub async fn allowance(session: &Session, command: AllowanceCommand) -> Result<Exit, Failure> {
    match command {
        AllowanceCommand::Show => {
            let allowance: Option<Allowance> = session.client()?.get("/v1/allowance").await?;
            session.output.answer(&allowance, || {
                allowance.as_ref().map_or_else(
                    || "no allowance: set one with `samara allowance set`\n".to_owned(),
                    allowance_text,
                )
            });
            Ok(Exit::Ok)
        }
        AllowanceCommand::Set(arguments) => set_allowance(session, arguments).await,
    }
}

/// Sets the allowance and forms the contracts that it asks for.
pub async fn set_allowance(
    session: &Session,
    arguments: AllowanceArguments,
) -> Result<Exit, Failure> {
    let request = allowance_request(&arguments)?;
    let answer: AllowanceAnswer = session.run("/v1/allowance", &request).await?;
    session.output.result(&answer, || answer_text(&answer));
    let failed = answer.report.is_some_and(|report| !report.failed.is_empty());
    Ok(if failed { Exit::Partial } else { Exit::Ok })
}

/// An allowance for people.
fn allowance_text(set: &Allowance) -> String {
    let mut text = format!(
        "contracts with {} hosts, {} for a term of {} times {}; any {} of {} hosts bring a file back\n",
        set.hosts,
        set.funds,
        set.periods,
        display::duration(Duration::from_millis(set.period.0)),
        set.redundancy.data,
        set.redundancy.total,
    );
    let (limits, none) = (&set.limits, PriceLimits::NONE);
    let prices = [
        ("a byte and hour of storage", limits.storage, none.storage),
        ("a byte sent", limits.upload, none.upload),
        ("a byte fetched", limits.download, none.download),
        ("a request", limits.request, none.request),
    ];
    for (what, limit, none) in prices {
        if limit != none {
            text.push_str(&format!("  at most {limit} for {what}\n"));
        }
    }
    text
}

/// An allowance and what came of it, for people.
fn answer_text(answer: &AllowanceAnswer) -> String {
    let mut text = allowance_text(&answer.allowance);
    let Some(report) = &answer.report else {
        return text + "nothing was set\n";
    };
    for step in &report.done {
        text.push_str(&format!("  {step}\n"));
    }
    for problem in &report.failed {
        text.push_str(&format!("  failed: {problem}\n"));
    }
    if report.missing > 0 {
        text.push_str(&format!(
            "{} wanted, and no host for them; see `samara hosts`\n",
            display::count(report.missing, "more contract")
        ));
    }
    text
}

/// What the API wants; what was not given is left to the node.
fn allowance_request(arguments: &AllowanceArguments) -> Result<AllowanceRequest, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let funds = arguments.funds.as_deref().map(str::parse).transpose();
    let shape = arguments.redundancy.as_deref().map(str::parse::<Shape>).transpose();
    Ok(AllowanceRequest {
        hosts: arguments.hosts,
        funds: funds.map_err(|error: ParseAmountError| usage(format!("--funds: {error}")))?,
        period: arguments.period,
        periods: arguments.periods,
        redundancy: shape.map_err(usage)?.map(Shape::redundancy),
        dry_run: arguments.dry_run,
    })
}

/// Any `data` of `total` hosts bring a file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// K.
    pub data: u8,
    /// N.
    pub total: u8,
}

impl Shape {
    /// The same with a margin for acknowledgements of half of what may be lost.
    #[must_use]
    pub fn redundancy(self) -> Redundancy {
        let spare = self.total - self.data;
        Redundancy { data: self.data, total: self.total, margin: spare.div_ceil(2) }
    }

    /// The same where a slab counts as stored only once every one of its hosts has it.
    #[must_use]
    pub const fn strict(self) -> Redundancy {
        Redundancy { data: self.data, total: self.total, margin: self.total - self.data }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.data, self.total)
    }
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(data, total)| {
            Some(Self { data: data.trim().parse().ok()?, total: total.trim().parse().ok()? })
        });
        parsed.filter(|shape| shape.data >= 1 && shape.data < shape.total).ok_or_else(|| {
            format!("'{text}' is no redundancy: write K/N with K below N, as in 4/8")
        })
    }
}

/// `samara wallet`.
pub async fn wallet(session: &Session, command: WalletCommand) -> Result<Exit, Failure> {
    let client = session.client()?;
    match command {
        WalletCommand::Show => {
            let wallet: Value = client.get("/v1/wallet").await?;
            session.output.answer(&wallet, || display::fields(&wallet));
        }
        WalletCommand::Send { to, amount } => {
            let body = json!({ "to": to, "amount": amount });
            let sent: Value = client.post("/v1/wallet/send", &body).await?;
            session.output.answer(&sent, || format!("{amount} sent\n{}", display::fields(&sent)));
        }
        WalletCommand::Faucet { amount } => {
            let sent: Value =
                client.post("/v1/wallet/faucet", &json!({ "amount": amount })).await?;
            session
                .output
                .answer(&sent, || format!("{amount} received\n{}", display::fields(&sent)));
        }
    }
    Ok(Exit::Ok)
}

/// `samara status`.
pub async fn status(session: &Session) -> Result<Exit, Failure> {
    let status: Value = session.client()?.get("/v1/status").await?;
    session.output.answer(&status, || display::fields(&status));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redundancy_is_checked_before_it_is_sent() {
        assert_eq!("4/8".parse::<Shape>().unwrap(), Shape { data: 4, total: 8 });
        for text in ["8/8", "0/4", "4", "a/b", "10/300"] {
            let arguments = AllowanceArguments {
                redundancy: Some(text.to_owned()),
                ..AllowanceArguments::default()
            };
            assert_eq!(allowance_request(&arguments).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn only_what_was_given_is_asked_for() {
        let arguments = AllowanceArguments { hosts: Some(8), ..AllowanceArguments::default() };
        let request = allowance_request(&arguments).unwrap();
        assert_eq!((request.hosts, request.funds, request.dry_run), (Some(8), None, false));
        let arguments =
            AllowanceArguments { funds: Some("many".into()), ..AllowanceArguments::default() };
        assert_eq!(allowance_request(&arguments).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn amounts_in_tables_are_short() {
        let third = samara_protocol::units::Amount(333_333_333_333_333_333);
        assert_eq!(coins(third), "0.3333 SAM");
        assert_eq!(coins(samara_protocol::units::Amount(1)), "<0.0001 SAM");
        assert_eq!(coins(samara_protocol::units::Amount::coins(7)), "7 SAM");
    }
}
