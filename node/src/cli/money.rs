//! `hosts`, `contracts`, `allowance` and `wallet`.

use samara_renter::rows::{ContractRow, HostRow};
use serde_json::{Value, json};

use super::arguments::{AllowanceArguments, AllowanceCommand, WalletCommand};
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

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
            let allowance: Value = session.client()?.get("/v1/allowance").await?;
            session.output.answer(&allowance, || match &allowance {
                Value::Null => "no allowance: set one with `samara allowance set`\n".to_owned(),
                set => display::fields(set),
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
    let plan: Value = session.run("/v1/allowance", &allowance_body(&arguments)?).await?;
    session.output.result(&plan, || display::fields(&plan));
    Ok(Exit::Ok)
}

/// What the API wants; what was not given is left to the node.
fn allowance_body(arguments: &AllowanceArguments) -> Result<Value, Failure> {
    let mut body = json!({ "dry_run": arguments.dry_run });
    let mut set = |key: &str, value: Value| body[key] = value;
    if let Some(hosts) = arguments.hosts {
        set("hosts", json!(hosts));
    }
    if let Some(funds) = &arguments.funds {
        set("funds", json!(funds));
    }
    if let Some(periods) = arguments.periods {
        set("periods", json!(periods));
    }
    if let Some(seconds) = arguments.period {
        set("period", json!(seconds));
    }
    if let Some(redundancy) = &arguments.redundancy {
        let shape: Shape = redundancy.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
        set("redundancy", json!(shape.to_string()));
    }
    Ok(body)
}

/// Any `data` of `total` hosts bring a file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// K.
    pub data: u8,
    /// N.
    pub total: u8,
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
            assert_eq!(allowance_body(&arguments).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn only_what_was_given_is_asked_for() {
        let arguments = AllowanceArguments { hosts: Some(8), ..AllowanceArguments::default() };
        assert_eq!(allowance_body(&arguments).unwrap(), json!({ "dry_run": false, "hosts": 8 }));
    }

    #[test]
    fn amounts_in_tables_are_short() {
        let third = samara_protocol::units::Amount(333_333_333_333_333_333);
        assert_eq!(coins(third), "0.3333 SAM");
        assert_eq!(coins(samara_protocol::units::Amount::coins(7)), "7 SAM");
    }
}
