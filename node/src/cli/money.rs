//! `allowance` and `wallet`.

use std::time::Duration;

use samara_protocol::units::{Amount, ParseAmountError};
use samara_renter::contract::{Allowance, PriceLimits};

use super::arguments::{AllowanceArguments, AllowanceCommand, WalletCommand};
use super::display::{self, Lines, coins};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::{AllowanceAnswer, AllowanceRequest, FaucetRequest, Included, SendRequest, Wallet};
use crate::redundancy::Redundancy;

/// `samara allowance`.
pub async fn allowance(session: &Session, command: AllowanceCommand) -> Result<Exit, Failure> {
    match command {
        AllowanceCommand::Show => {
            let allowance: Option<Allowance> = session.client()?.get("/v1/allowance").await?;
            const NONE: &str =
                "no allowance: set one with `samara allowance set --hosts N --funds COINS`\n";
            session.output.answer(&allowance, || {
                allowance.as_ref().map_or_else(|| session.for_this_node(NONE), allowance_text)
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
    if request.is_empty() {
        let message =
            "nothing is to be set: name --hosts, --funds, --periods, --period or --redundancy";
        return Err(Failure::new(Exit::Usage, message)
            .with_hint("`samara allowance set --dry-run` shows what would suit"));
    }
    let answer: AllowanceAnswer = session.run("/v1/allowance", &request).await?;
    session.output.answer(&answer, || session.for_this_node(&answer_text(&answer)));
    let report = &answer.report;
    // What lacks something says so with its exit code, too.
    let poor = report.spend > report.balance || answer.allowance.funds < answer.least;
    let lacks = report.missing > 0 || (answer.dry_run && poor);
    Ok(if lacks || !report.failed.is_empty() { Exit::Partial } else { Exit::Ok })
}

/// An allowance for people.
fn allowance_text(set: &Allowance) -> String {
    let mut lines = Lines::default();
    let hosts = display::count(u64::from(set.hosts), "host");
    let shape = set.redundancy;
    lines
        .line("hosts", format!("{hosts}; any {} of {} bring a file back", shape.data, shape.total));
    let period = display::duration(Duration::from_millis(set.period.0));
    let term = Duration::from_millis(set.period.0.saturating_mul(u64::from(set.periods)));
    let periods = display::count(u64::from(set.periods), "period");
    lines.line("term", format!("{}: {periods} of {period}", display::duration(term)));
    lines.line("funds", format!("{} for one term", coins(set.funds)));
    let (limits, none) = (&set.limits, PriceLimits::NONE);
    let prices = [
        ("a byte and hour of storage", limits.storage, none.storage),
        ("a byte sent", limits.upload, none.upload),
        ("a byte fetched", limits.download, none.download),
        ("a request", limits.request, none.request),
    ];
    for (what, limit, none) in prices {
        if limit != none {
            lines.line("limit", format!("at most {limit} for {what}"));
        }
    }
    lines.render()
}

/// An allowance and what came of it, or would, for people.
fn answer_text(answer: &AllowanceAnswer) -> String {
    let report = &answer.report;
    let mut lines = Lines::default();
    let labelled = [("done", &report.done), ("would", &report.planned), ("failed", &report.failed)];
    for (label, steps) in labelled {
        for (number, step) in steps.iter().enumerate() {
            lines.line(if number == 0 { label } else { "" }, step);
        }
    }
    let unused: Vec<_> = report.hosts.iter().filter(|host| !is_used(&host.standing)).collect();
    for (number, host) in unused.iter().enumerate() {
        let name = format!("{} ({})", display::short(&host.host), host.operator);
        let label = if number == 0 { "not used" } else { "" };
        lines.line(label, format!("{name}: {}", host.standing));
    }
    if answer.dry_run {
        lines.line("cost", format!("at most {}, fees included", coins(report.spend)));
    }
    if answer.dry_run || report.spend > report.balance {
        lines.line("balance", coins(report.balance));
    }
    if report.spend > report.balance {
        let lacking = Amount(report.spend.0.saturating_sub(report.balance.0));
        lines.line(
            "missing",
            format!("{} in the account; see `samara wallet show`", coins(lacking)),
        );
    }
    if report.missing > 0 {
        let hosts = display::count(report.missing, "more host");
        lines.line("missing", format!("{hosts} that can be used; see `samara hosts`"));
    }
    for note in &report.notes {
        lines.line("note", note);
    }
    if answer.dry_run {
        lines.line("outcome", "nothing was set");
    }
    allowance_text(&answer.allowance) + &lines.render()
}

/// Whether a host has or gets a contract, by its standing.
fn is_used(standing: &str) -> bool {
    standing == "in use" || standing == "chosen"
}

/// What the API wants; what was not given is left to the node.
fn allowance_request(arguments: &AllowanceArguments) -> Result<AllowanceRequest, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let funds = arguments.funds.as_deref().map(str::parse).transpose();
    let redundancy = arguments.redundancy.as_deref().map(str::parse::<Redundancy>).transpose();
    Ok(AllowanceRequest {
        hosts: arguments.hosts,
        funds: funds.map_err(|error: ParseAmountError| usage(format!("--funds: {error}")))?,
        period: arguments.period,
        periods: arguments.periods,
        redundancy: redundancy
            .map_err(|error| usage(error.to_string()))?
            .map(Redundancy::with_margin),
        dry_run: arguments.dry_run,
    })
}

/// `samara wallet`.
pub async fn wallet(session: &Session, command: WalletCommand) -> Result<Exit, Failure> {
    let client = session.client()?;
    match command {
        WalletCommand::Show => {
            let wallet: Wallet = client.get("/v1/wallet").await?;
            session.output.answer(&wallet, || {
                let mut lines = Lines::default();
                lines.line("account", &wallet.account);
                lines.line("balance", coins(wallet.balance));
                lines.line("sent", display::count(wallet.nonce, "transaction"));
                if let Some(by) = &wallet.moved_by {
                    let epoch = display::epoch(by);
                    lines.line(
                        "moved",
                        format!(
                            "another node has taken over (epoch {epoch}): its account has the money"
                        ),
                    );
                }
                lines.render()
            });
        }
        WalletCommand::Send { to, amount } => {
            let body = SendRequest { to, amount: parse_amount(&amount)? };
            let sent: Included = client.post("/v1/wallet/send", &body).await?;
            session.output.answer(&sent, || included_text("sent", body.amount, &sent));
        }
        WalletCommand::Faucet { amount } => {
            let body = FaucetRequest { amount: parse_amount(&amount)? };
            let sent: Included = client.post("/v1/wallet/faucet", &body).await?;
            session.output.answer(&sent, || included_text("received", body.amount, &sent));
        }
    }
    Ok(Exit::Ok)
}

/// An amount of coins, more than nothing.
///
/// # Errors
/// A usage failure.
pub fn parse_amount(text: &str) -> Result<Amount, Failure> {
    match text.parse() {
        Ok(Amount::ZERO) => Err(Failure::new(Exit::Usage, "more than nothing is needed")),
        Ok(amount) => Ok(amount),
        Err(error) => Err(Failure::new(Exit::Usage, ParseAmountError::to_string(&error))),
    }
}

fn included_text(verb: &str, amount: Amount, sent: &Included) -> String {
    let height = display::thousands(sent.height);
    let mut lines = Lines::default();
    lines.line(verb, format!("{amount}, in block {height}"));
    lines.line("transaction", &sent.transaction);
    lines.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redundancy_is_checked_before_it_is_sent() {
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
    fn a_preview_shows_steps_cost_and_what_is_missing() {
        let parameters = samara_protocol::chain::ChainParameters::default();
        let host = |name: &str, standing: &str| samara_renter::rows::AllowanceHost {
            host: name.repeat(16),
            operator: "op".into(),
            score: Some(1),
            standing: standing.into(),
        };
        let report = samara_renter::rows::AllowanceReport {
            planned: vec!["form with a".into(), "form with b".into()],
            hosts: vec![host("ab", "chosen"), host("cd", "forms no contracts")],
            spend: Amount::coins(10),
            balance: Amount::coins(4),
            missing: 6,
            notes: vec!["hosts form contracts of at most 365 periods".into()],
            ..Default::default()
        };
        let allowance = Allowance::for_network(8, Amount::coins(10), &parameters);
        let text =
            answer_text(&AllowanceAnswer { allowance, report, least: Amount::ZERO, dry_run: true });
        let expected = "would        form with a\n             form with b\n\
                        not used     cdcdcdcdcdcd (op): forms no contracts\n\
                        cost         at most 10 SAM, fees included\n\
                        balance      4 SAM\n\
                        missing      6 SAM in the account; see `samara wallet show`\n\
                        missing      6 more hosts that can be used; see `samara hosts`\n\
                        note         hosts form contracts of at most 365 periods\n\
                        outcome      nothing was set\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.starts_with("hosts        8 hosts; any 4 of 8 bring a file back\n"), "{text}");
    }

    #[test]
    fn no_limit_is_null_for_programs() {
        let limits = PriceLimits { upload: Amount::coins(2), ..PriceLimits::NONE };
        let json = serde_json::json!(
            { "storage": null, "upload": "2 SAM", "download": null, "request": null }
        );
        assert_eq!(serde_json::to_value(limits).unwrap(), json);
        assert_eq!(serde_json::from_value::<PriceLimits>(json).unwrap(), limits);
    }

    #[test]
    fn nothing_is_no_amount_to_send() {
        assert_eq!(parse_amount("0").unwrap_err().exit, Exit::Usage);
        assert_eq!(parse_amount("0.5").unwrap(), Amount(Amount::COIN.0 / 2));
    }
}
