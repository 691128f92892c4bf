//! `samara recover`: everything back from the words.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use samara_renter::contract::Allowance;
use samara_renter::recovery::{
    RecoveryHost, RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryStatus,
};
use serde_json::{Value, json};

use super::arguments::{AllowanceArguments, RecoverArguments, RecoverCommand};
use super::display;
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::{AllowanceAnswer, AllowanceRequest};

/// Runs one of the commands.
pub async fn run(session: &Session, command: RecoverCommand) -> Result<Exit, Failure> {
    match command {
        RecoverCommand::Start(arguments) => start(session, &arguments).await,
        RecoverCommand::Status => status(session).await,
        RecoverCommand::Stop => stop(session).await,
    }
}

async fn start(session: &Session, arguments: &RecoverArguments) -> Result<Exit, Failure> {
    let options = RecoveryOptions {
        restart: arguments.restart,
        read_only: arguments.read_only,
        maximum_age: arguments.maximum_age.map(|seconds| seconds.saturating_mul(1000)),
        give_up: arguments.give_up.clone(),
        give_up_silent: arguments.give_up_silent,
    };
    let report: RecoveryReport = session.run("/v1/recovery", &options).await?;
    session.output.result(&report, || report_text(&report));
    match report.outcome {
        RecoveryPhase::NothingFound { .. } => Ok(Exit::NothingFound),
        RecoveryPhase::ReadOnly => Ok(Exit::Partial),
        _ => {
            ask_for_allowance(session).await?;
            Ok(Exit::Ok)
        }
    }
}

/// What a recovery came to, for people.
pub fn report_text(report: &RecoveryReport) -> String {
    let took = display::duration(Duration::from_millis(report.elapsed));
    let mut text = format!(
        "{} checked in {took}, shown by {}: {} of these words, {} of them live\n",
        display::count(report.blocks, "block"),
        display::count(report.peers, "peer"),
        display::count(report.contracts_found, "contract"),
        display::thousands(report.contracts_live),
    );
    if let RecoveryPhase::NothingFound { .. } = report.outcome {
        text.push_str("the chain holds nothing for these words\n");
        if report.peers < 2 {
            text.push_str("only one peer was asked; another may know more\n");
        }
    } else {
        text.push_str(&format!(
            "{} in {}, {}, {}\n",
            display::count(report.files, "file"),
            display::count(report.vaults, "vault"),
            display::size(report.bytes),
            display::count(report.backups, "backup"),
        ));
    }
    if report.outcome == RecoveryPhase::ReadOnly {
        text.push_str("read only: too few hosts answered to write; files can be listed and read\n");
    }
    text.push_str(&hosts("did not answer", &report.hosts_silent));
    text.push_str(&hosts("showed an older state than others prove", &report.hosts_behind));
    for sentence in report.may_be_missing.iter().chain(&report.next) {
        text.push_str(sentence);
        text.push('\n');
    }
    text
}

fn hosts(what: &str, hosts: &[RecoveryHost]) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let mut text = format!("{} {what}:\n", display::count(hosts.len() as u64, "host"));
    for host in hosts {
        text.push_str(&format!("  {}  {}\n", display::short(&host.host), host.reason));
    }
    text
}

/// The renter spends nothing that was not allowed on this node, so it is asked here.
async fn ask_for_allowance(session: &Session) -> Result<(), Failure> {
    if session.output.is_json() {
        return Ok(());
    }
    let person = std::io::stdin().is_terminal() && session.output.is_watched();
    if !person {
        session.output.say(
            "set what may be spent with `samara allowance set`, so that contracts are renewed and new files stored",
        );
        return Ok(());
    }
    session.output.say("What may this node spend? An empty answer takes the suggestion.");
    // The journal remembers what was allowed before the loss.
    let wish = AllowanceRequest { dry_run: true, ..AllowanceRequest::default() };
    let before: AllowanceAnswer = session.client()?.run("/v1/allowance", &wish, drop).await?;
    let Some(arguments) = asked(&before.allowance) else {
        session.output.say("nothing set; `samara allowance set` does it later");
        return Ok(());
    };
    super::money::set_allowance(session, arguments).await.map(drop)
}

/// The answers of a person, or nothing when they end the input.
fn asked(before: &Allowance) -> Option<AllowanceArguments> {
    let hosts = question("hosts to have contracts with", &before.hosts.to_string())?;
    let funds = question("coins for one term", &before.funds.to_string())?;
    Some(AllowanceArguments {
        hosts: hosts.parse().ok(),
        funds: Some(funds),
        ..AllowanceArguments::default()
    })
}

fn question(text: &str, suggestion: &str) -> Option<String> {
    eprint!("  {text} [{suggestion}]: ");
    std::io::stderr().flush().ok()?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).ok()? == 0 {
        return None;
    }
    let answer = line.trim();
    Some(if answer.is_empty() { suggestion.to_owned() } else { answer.to_owned() })
}

async fn status(session: &Session) -> Result<Exit, Failure> {
    let status: RecoveryStatus = session.client()?.get("/v1/recovery").await?;
    session.output.answer(&status, || {
        let mut text = phase_text(&status.progress);
        if !status.running
            && !matches!(
                status.progress,
                RecoveryPhase::Idle
                    | RecoveryPhase::Done
                    | RecoveryPhase::ReadOnly
                    | RecoveryPhase::NothingFound { .. }
            )
        {
            text.push_str("not running; `samara recover start` goes on from here\n");
        }
        if let Some(problem) = &status.problem {
            text.push_str(&format!("the last run ended with: {problem}\n"));
        }
        if let Some(report) = &status.report {
            text.push_str(&report_text(report));
        }
        text
    });
    Ok(Exit::Ok)
}

fn phase_text(phase: &RecoveryPhase) -> String {
    match phase {
        RecoveryPhase::Idle => "no recovery was started\n".to_owned(),
        RecoveryPhase::Scanning {
            blocks_done,
            blocks_known,
            contracts_found,
            rate,
            seconds_left,
        } => {
            let known = blocks_known.map_or("?".to_owned(), display::thousands);
            let mut text = format!(
                "scanning: {} of {known} blocks, {} found",
                display::thousands(*blocks_done),
                display::count(*contracts_found, "contract")
            );
            if let Some(rate) = rate {
                text.push_str(&format!(", {} blocks/s", display::thousands(*rate)));
            }
            if let Some(left) = seconds_left {
                text.push_str(&format!(", {} left", display::duration(Duration::from_secs(*left))));
            }
            text + "\n"
        }
        RecoveryPhase::Claiming { hosts_answered, hosts_asked } => {
            format!("claiming: {hosts_answered} of {hosts_asked} hosts answered\n")
        }
        RecoveryPhase::Adopting { segments_done, segments_total } => {
            format!("reading names: {segments_done} of {segments_total} parts of the journal\n")
        }
        RecoveryPhase::TakingOver { hosts_written } => {
            format!("taking over: {} written\n", display::count(*hosts_written, "host"))
        }
        RecoveryPhase::Done => "done: everything is this node's again\n".to_owned(),
        RecoveryPhase::ReadOnly => "read only: files can be listed and read\n".to_owned(),
        RecoveryPhase::NothingFound { peers, blocks } => format!(
            "nothing found for these words: {} checked, shown by {}\n",
            display::count(*blocks, "block"),
            display::count(*peers, "peer")
        ),
    }
}

async fn stop(session: &Session) -> Result<Exit, Failure> {
    let answer: Value = session.client()?.post("/v1/recovery/stop", &json!({})).await?;
    session
        .output
        .answer(&answer, || "stopped; `samara recover start` goes on from there\n".to_owned());
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_silent_hosts_and_what_may_be_missing() {
        let report = RecoveryReport {
            outcome: RecoveryPhase::ReadOnly,
            peers: 4,
            blocks: 1200,
            contracts_found: 9,
            contracts_live: 8,
            hosts_silent: vec![RecoveryHost {
                host: "ab".repeat(32),
                contract: String::new(),
                reason: "no answer".into(),
            }],
            files: 3,
            vaults: 1,
            bytes: 2_000_000,
            may_be_missing: Some("changes after the last backup".into()),
            elapsed: 400,
            ..RecoveryReport::default()
        };
        let text = report_text(&report);
        assert!(
            text.starts_with(
                "1,200 blocks checked in 400 ms, shown by 4 peers: 9 contracts of these words, 8 of them live\n\
                 3 files in 1 vault, 2.0 MB, 0 backups\nread only"
            ),
            "{text}"
        );
        assert!(text.contains("1 host did not answer:\n  abababababab  no answer\n"), "{text}");
        assert!(text.ends_with("changes after the last backup\n"), "{text}");
    }

    #[test]
    fn a_scan_tells_how_long_it_takes() {
        let phase = RecoveryPhase::Scanning {
            blocks_done: 1_000,
            blocks_known: Some(5_000),
            contracts_found: 1,
            rate: Some(2_000),
            seconds_left: Some(2),
        };
        let expected =
            "scanning: 1,000 of 5,000 blocks, 1 contract found, 2,000 blocks/s, 2.0 s left\n";
        assert_eq!(phase_text(&phase), expected);
    }
}
