//! `samara recover`: everything back from the words.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use samara_protocol::signature::PublicKey;
use samara_protocol::units::Amount;
use samara_renter::contract::Allowance;
use samara_renter::recovery::{
    RecoveryHost, RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryScanState,
    RecoveryScanStatus, RecoveryStatus,
};
use samara_renter::rows::{HostRow, RenterStatus};
use serde::Serialize;
use serde_json::json;

use super::arguments::{AllowanceArguments, RecoverArguments, RecoverCommand};
use super::display::{self, Lines};
use super::exit::Exit;
use super::failure::Failure;
use super::output::{agrees, ask, typed};
use super::session::Session;
use super::{recover_restore, recover_scan};
use crate::api::{AllowanceAnswer, AllowanceRequest, AnnouncedHost, Done, RecoveryAnswer};

/// How long a node may take to notice that nobody waits for its recovery.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is asked meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs one of the commands.
pub async fn run(session: &Session, command: RecoverCommand) -> Result<Exit, Failure> {
    match command {
        RecoverCommand::Start(arguments) => start(session, &arguments).await,
        RecoverCommand::Scan(arguments) => recover_scan::scan(session, &arguments).await,
        RecoverCommand::List => recover_scan::list(session).await,
        RecoverCommand::Cancel => recover_scan::cancel(session).await,
        RecoverCommand::Restore(arguments) => recover_restore::restore(session, arguments).await,
        RecoverCommand::Status => status(session).await,
        RecoverCommand::Stop => stop(session).await,
    }
}

async fn start(session: &Session, arguments: &RecoverArguments) -> Result<Exit, Failure> {
    let options = RecoveryOptions {
        restart: arguments.restart,
        read_only: arguments.read_only,
        maximum_age: arguments.maximum_age.map(|seconds| seconds.saturating_mul(1000)),
        give_up: hosts_meant(session, &arguments.give_up).await?,
        give_up_silent: arguments.give_up_silent,
    };
    let report: RecoveryReport = session.run("/v1/recovery", &options).await?;
    if let RecoveryPhase::NothingFound { .. } = report.outcome {
        return nothing_found(session, arguments, &report).await;
    }
    session
        .output
        .answer(&report, || session.for_this_node(&report_text(&report, arguments.read_only)));
    match report.outcome {
        RecoveryPhase::ReadOnly if is_as_asked(&report, arguments.read_only) => Ok(Exit::Ok),
        RecoveryPhase::ReadOnly => Ok(Exit::Partial),
        _ => {
            ask_for_allowance(session).await?;
            Ok(Exit::Ok)
        }
    }
}

/// The hosts that texts mean: what is given up cannot be taken back, so a text that means no known host is
/// refused.
async fn hosts_meant(session: &Session, texts: &[String]) -> Result<Vec<PublicKey>, Failure> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let client = session.client()?;
    let announced: Vec<AnnouncedHost> = client.get("/v1/chain/hosts").await?;
    let rows: Vec<HostRow> = client.get("/v1/hosts").await?;
    let status: RecoveryStatus = client.get("/v1/recovery").await?;
    let mut known: BTreeSet<String> = announced.into_iter().map(|host| host.host).collect();
    known.extend(rows.into_iter().map(|row| row.host));
    if let Some(report) = status.report {
        let hosts = report.hosts_silent.into_iter().chain(report.hosts_answered);
        known.extend(hosts.map(|host| host.host));
    }
    texts.iter().map(|text| host_meant(text, &known)).collect()
}

/// The one known host whose hex digits begin with a text.
fn host_meant(text: &str, known: &BTreeSet<String>) -> Result<PublicKey, Failure> {
    let wanted = text.to_lowercase();
    let mut found = known.iter().filter(|host| !wanted.is_empty() && host.starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(host), None) => host.parse().map_err(|error: samara_protocol::hash::ParseIdError| {
            Failure::new(Exit::Failure, format!("host {host}: {error}"))
        }),
        (Some(_), Some(_)) => {
            let message = format!("--give-up {text}: more than one host begins so");
            Err(Failure::new(Exit::Usage, message).with_hint("write more of its digits"))
        }
        (None, _) => {
            let message = format!("--give-up {text}: no such host is known");
            Err(Failure::new(Exit::NotFound, message)
                .with_hint("`samara recover start` without it names the hosts that are silent"))
        }
    }
}

/// Whether reading is all that was wanted, and nothing is known to be missing.
fn is_as_asked(report: &RecoveryReport, read_only: bool) -> bool {
    read_only && report.may_be_missing.is_none()
}

/// Words that own nothing are mistyped, or were never used. Only their owner knows.
async fn nothing_found(
    session: &Session,
    arguments: &RecoverArguments,
    report: &RecoveryReport,
) -> Result<Exit, Failure> {
    let never_owned = report.contracts_found == 0;
    let starts = arguments.start_new || {
        if !session.output.is_json() {
            session.output.say(&session.for_this_node(report_text(report, false).trim_end()));
        }
        never_owned && !arguments.read_only && may_ask(session) && typed(confirm_new).await
    };
    if !starts {
        if session.output.is_json() {
            session.output.answer(report, String::new);
        } else if !arguments.read_only {
            session.output.say(&session.for_this_node(start_new_advice(never_owned)));
        }
        return Ok(Exit::NothingFound);
    }
    let started: RenterStatus = session.client()?.post("/v1/renter/start", &Done {}).await?;
    let value = json!({ "recovery": report, "renter": started });
    session.output.answer(&value, || {
        session.for_this_node(
            "Started new with these words. Next: `samara wallet show`, `samara allowance set --hosts N --funds COINS`\n",
        )
    });
    Ok(Exit::Ok)
}

/// What is left to do with words under which nothing lives.
const fn start_new_advice(never_owned: bool) -> &'static str {
    if never_owned {
        "If the words were never used, start new with `samara recover start --start-new`."
    } else {
        "`samara recover start --start-new` starts new with these words and the money that is left. With \
         new words in another data folder nothing old is in the way; `samara wallet send` moves the money."
    }
}

fn may_ask(session: &Session) -> bool {
    std::io::stdin().is_terminal() && session.output.is_watched()
}

fn confirm_new() -> bool {
    agrees("Were these words never used, and shall this node start new with them?")
}

/// What a recovery came to, for people.
pub fn report_text(report: &RecoveryReport, read_only: bool) -> String {
    let took = display::duration(Duration::from_millis(report.elapsed));
    let mut lines = Lines::default();
    let (blocks, peers) = (display::count(report.blocks, "block"), report.peers);
    lines.line("scanned", format!("{blocks} of {}, {took}", display::count(peers, "peer")));
    let found = display::count(report.contracts_found, "contract");
    lines.line(
        "found",
        format!("{found}, {} of them live", display::thousands(report.contracts_live)),
    );
    if let RecoveryPhase::NothingFound { .. } = report.outcome {
        if report.contracts_found == 0 {
            lines.line("outcome", "the chain holds nothing for these words");
            lines.item("check the words, their passphrase (BIP39), and the network");
        } else {
            lines.line(
                "outcome",
                "all contracts of these words have ended: nothing can be brought back",
            );
            if let Some(next) = &report.next {
                lines.item(next);
            }
        }
        if peers < 2 {
            lines.item("only one peer was asked; another may know more");
        }
        return lines.render();
    }
    let counts = [
        display::count(report.files, "file"),
        display::size(report.bytes),
        display::count(report.vaults, "vault"),
        display::count(report.backups, "backup"),
    ];
    lines.line("names", counts.join(", "));
    hosts(&mut lines, "silent", &report.hosts_silent);
    hosts(&mut lines, "behind", &report.hosts_behind);
    hosts(&mut lines, "of a copy", &report.parted);
    if let Some(missing) = &report.may_be_missing {
        lines.line("missing", missing);
    }
    match report.outcome {
        RecoveryPhase::ReadOnly if is_as_asked(report, read_only) => {
            lines
                .line("outcome", "read-only, as asked; a node that writes for these words goes on");
        }
        RecoveryPhase::ReadOnly if report.may_be_missing.is_none() => {
            lines.line("outcome", "read-only: the newest state was found, and nothing was claimed");
        }
        RecoveryPhase::ReadOnly => {
            lines.line("outcome", "read-only: too few hosts answered to write");
        }
        _ => lines.line("outcome", "everything is this node's again"),
    }
    if let Some(next) = &report.next {
        lines.line("next", next);
    }
    lines.render()
}

fn hosts(lines: &mut Lines, label: &str, hosts: &[RecoveryHost]) {
    if hosts.is_empty() {
        return;
    }
    lines.line(label, display::count(hosts.len() as u64, "host"));
    for host in hosts {
        lines.item(format!("{}  {}", display::short(&host.host), host.reason));
    }
}

/// The renter spends nothing that was not allowed on this node, so it is asked here.
pub async fn ask_for_allowance(session: &Session) -> Result<(), Failure> {
    if session.output.is_json() {
        return Ok(());
    }
    if !may_ask(session) {
        session.output.say(&session.for_this_node(
            "Set what may be spent with `samara allowance set --hosts N --funds COINS`, so that contracts are renewed and new files stored.",
        ));
        return Ok(());
    }
    session.output.say("\nWhat may this node spend? An empty answer takes the suggestion.");
    // The journal remembers what was allowed before the loss.
    let wish = AllowanceRequest { dry_run: true, ..AllowanceRequest::default() };
    let before: AllowanceAnswer = session.client()?.run("/v1/allowance", &wish, drop).await?;
    let questions = typed(move || asked(&before.allowance, &mut ask));
    let answers = tokio::select! {
        biased;
        answers = questions => answers,
        _ = tokio::signal::ctrl_c() => {
            let left = "nothing was set; `samara allowance set --hosts N --funds COINS` does it later";
            return Err(Failure::new(Exit::Interrupted, left));
        }
    };
    let Some(arguments) = answers else {
        session.output.say(&session.for_this_node(
            "Nothing is set; `samara allowance set --hosts N --funds COINS` does it later.",
        ));
        return Ok(());
    };
    super::money::set_allowance(session, arguments).await.map(drop)
}

/// The answers of a person, or nothing when they end the input. What makes no sense is asked again.
fn asked(
    before: &Allowance,
    ask: &mut dyn FnMut(&str) -> Option<String>,
) -> Option<AllowanceArguments> {
    let least = u16::from(before.redundancy.total);
    let hosts =
        question(
            ask,
            "hosts to have contracts with",
            &before.hosts.to_string(),
            |text| match text.parse::<u16>() {
                Ok(hosts) if hosts >= least => Ok(hosts),
                Ok(_) => Err(format!("at least {least}, which is what one file needs")),
                Err(_) => Err("a number is wanted, as in 8".to_owned()),
            },
        )?;
    let funds = question(ask, "coins for one term", &before.funds.to_string(), |text| match text
        .parse::<Amount>(
    ) {
        Ok(amount) if amount > Amount::ZERO => Ok(amount),
        Ok(_) => Err("more than nothing is needed".to_owned()),
        Err(error) => Err(error.to_string()),
    })?;
    Some(AllowanceArguments {
        hosts: Some(hosts),
        funds: Some(funds.to_string()),
        ..AllowanceArguments::default()
    })
}

fn question<T>(
    ask: &mut dyn FnMut(&str) -> Option<String>,
    text: &str,
    suggestion: &str,
    check: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let mut prompt = format!("  {text} [{suggestion}]: ");
    loop {
        let answer = ask(&prompt)?;
        let answer = if answer.is_empty() { suggestion } else { &answer };
        match check(answer) {
            Ok(value) => return Some(value),
            Err(problem) => prompt = format!("  '{answer}': {problem}\n  {text} [{suggestion}]: "),
        }
    }
}

/// A recovery, and the scan beside it.
#[derive(Serialize)]
struct Both {
    #[serde(flatten)]
    recovery: RecoveryAnswer,
    scan: RecoveryScanStatus,
}

async fn status(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let recovery: RecoveryAnswer = client.get("/v1/recovery").await?;
    let scan: RecoveryScanStatus = client.get("/v1/recovery-scan").await?;
    let both = Both { recovery, scan };
    session.output.answer(&both, || {
        let Both { recovery, scan } = &both;
        let text = match (scan.state, recovery.status.progress == RecoveryPhase::Idle) {
            (RecoveryScanState::Idle, _) => status_text(recovery),
            (_, true) => recover_scan::status_text(scan),
            (_, false) => recover_scan::status_text(scan) + "\n" + &status_text(recovery),
        };
        session.for_this_node(&text)
    });
    Ok(Exit::Ok)
}

fn status_text(RecoveryAnswer { status, fenced_by }: &RecoveryAnswer) -> String {
    let mut text = match fenced_by {
        // What this node had brought back is another one's by now.
        Some(by) => format!("{}\nthe last recovery on this node:\n", taken_over(by)),
        None => phase_text(&status.progress),
    };
    if !status.running && status.progress != RecoveryPhase::Idle && !has_ended(&status.progress) {
        text.push_str("not running; `samara recover start` goes on from here\n");
        if may_have_claimed(&status.progress) && fenced_by.is_none() {
            text.push_str("hosts may refuse the old machine already, unless it was to read only\n");
        }
    }
    if let Some(problem) = &status.problem {
        text.push_str(&format!("the last run ended with: {problem}\n"));
    }
    match (&status.report, fenced_by) {
        (Some(report), _) => text.push_str(&report_text(report, false)),
        (None, Some(_)) => text.push_str(&phase_text(&status.progress)),
        (None, None) => {}
    }
    text
}

/// What to do on a node that another one has overtaken.
pub fn taken_over(by: &str) -> String {
    format!(
        "another node, or a copy of this folder, writes for these words since epoch {}: use that one. To \
         write here again, stop it and take over with `samara recover start`",
        display::epoch(by)
    )
}

/// Whether a recovery has come to its end.
const fn has_ended(phase: &RecoveryPhase) -> bool {
    matches!(
        phase,
        RecoveryPhase::Done | RecoveryPhase::ReadOnly | RecoveryPhase::NothingFound { .. }
    )
}

/// What Ctrl-C left of a recovery, as the node tells it. The node stops when its client goes, unless it had
/// come to the end by then, or somebody else has started the recovery.
pub async fn left(session: &Session) -> &'static str {
    let mut seen = None;
    let look = async {
        while let Ok(client) = session.client() {
            let Ok(status) = client.get::<RecoveryStatus>("/v1/recovery").await else { break };
            let runs = status.running;
            seen = Some(status);
            if !runs {
                break;
            }
            // The node sees in a moment that its client has gone.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    // Whatever was seen last counts.
    let _ = tokio::time::timeout(LOOK, look).await;
    left_text(seen.as_ref())
}

fn left_text(seen: Option<&RecoveryStatus>) -> &'static str {
    match seen {
        Some(status) if status.running => {
            "a recovery goes on in the node: `samara recover status` says how far it is, `samara recover \
             stop` stops it"
        }
        Some(status) if has_ended(&status.progress) => {
            "the recovery has come to its end in the node: `samara recover status` says what it found"
        }
        Some(status) if may_have_claimed(&status.progress) => CLAIMED,
        _ => {
            "stopped; `samara recover status` says how far it came, `samara recover start` goes on"
        }
    }
}

/// What a recovery leaves that stops once it asks for promises.
const CLAIMED: &str = "stopped; hosts may refuse the old machine already, unless this recovery was to read \
    only: finish with `samara recover start`";

/// Whether hosts may have promised the epoch of a recovery that has come so far and no further.
const fn may_have_claimed(phase: &RecoveryPhase) -> bool {
    use RecoveryPhase::{Adopting, Claiming, TakingOver};
    matches!(phase, Claiming { .. } | Adopting { .. } | TakingOver { .. })
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
            "nothing that lives was found for these words: {} checked, shown by {}\n",
            display::count(*blocks, "block"),
            display::count(*peers, "peer")
        ),
    }
}

async fn stop(session: &Session) -> Result<Exit, Failure> {
    let status: RecoveryStatus = session.client()?.get("/v1/recovery").await?;
    if !status.running {
        session.output.answer(&Done {}, || "no recovery is running\n".to_owned());
        return Ok(Exit::Ok);
    }
    let answer: Done = session.client()?.post("/v1/recovery/stop", &Done {}).await?;
    let text = if may_have_claimed(&status.progress) {
        CLAIMED
    } else {
        "stopped; `samara recover start` goes on from there"
    };
    session.output.answer(&answer, || session.for_this_node(text) + "\n");
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
        let text = report_text(&report, true);
        let expected = "scanned      1,200 blocks of 4 peers, 400 ms\n\
                        found        9 contracts, 8 of them live\n\
                        names        3 files, 2.0 MB, 1 vault, 0 backups\n\
                        silent       1 host\n             abababababab  no answer\n\
                        missing      changes after the last backup\n\
                        outcome      read-only: too few hosts answered to write\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_recovery_for_reading_that_lacks_nothing_is_what_was_asked_for() {
        let outcome = RecoveryPhase::ReadOnly;
        let report = RecoveryReport { outcome, ..RecoveryReport::default() };
        assert!(report_text(&report, true).contains("read-only, as asked"));
        assert!(report_text(&report, false).contains("nothing was claimed"));
        let report = RecoveryReport { may_be_missing: Some("changes".into()), ..report };
        assert!(report_text(&report, false).contains("too few hosts"));
    }

    #[test]
    fn a_host_is_given_up_by_its_first_digits() {
        let known: BTreeSet<String> =
            ["ab".repeat(32), format!("ac{}", "00".repeat(31))].into_iter().collect();
        let meant = |text: &str| host_meant(text, &known);
        assert_eq!(meant("AB").unwrap().to_string(), "ab".repeat(32));
        assert_eq!(meant(&"ab".repeat(32)).unwrap().to_string(), "ab".repeat(32));
        assert_eq!(meant("a").unwrap_err().exit, Exit::Usage);
        for unknown in ["", "b", &"00".repeat(32)] {
            assert_eq!(meant(unknown).unwrap_err().exit, Exit::NotFound, "{unknown}");
        }
    }

    #[test]
    fn answers_that_make_no_sense_are_asked_again() {
        let parameters = samara_protocol::chain::ChainParameters::default();
        let before = Allowance::for_network(8, Amount::coins(5), &parameters);
        let mut answers = ["many", "-1", "2", "9", "all of it", "0", ""].into_iter();
        let mut prompts = Vec::new();
        let arguments = asked(&before, &mut |prompt| {
            prompts.push(prompt.to_owned());
            answers.next().map(str::to_owned)
        });
        let arguments = arguments.unwrap();
        assert_eq!((arguments.hosts, arguments.funds.as_deref()), (Some(9), Some("5 SAM")));
        assert!(prompts[1].starts_with("  'many': a number is wanted"), "{prompts:?}");
        assert!(prompts[3].contains("at least 8"), "{prompts:?}");
        assert_eq!(prompts.len(), 7);
        assert!(asked(&before, &mut |_| None).is_none());
    }

    #[test]
    fn words_whose_contracts_have_ended_are_not_said_to_own_nothing() {
        let nothing = RecoveryPhase::NothingFound { peers: 2, blocks: 90 };
        let next = Some("all 6 contracts of these words have ended".to_owned());
        let report = RecoveryReport { outcome: nothing, peers: 2, next, ..Default::default() };
        let text = report_text(&report, false);
        assert!(text.contains("the chain holds nothing for these words"), "{text}");
        let report = RecoveryReport { contracts_found: 6, ..report };
        let text = report_text(&report, false);
        assert!(text.contains("found        6 contracts, 0 of them live\n"), "{text}");
        assert!(text.contains("all contracts of these words have ended"), "{text}");
        assert!(!text.contains("holds nothing") && !text.contains("check the words"), "{text}");
        assert!(start_new_advice(false).contains("wallet send"));
    }

    #[test]
    fn a_node_that_was_taken_over_does_not_say_that_everything_is_its_own() {
        let status = RecoveryStatus { progress: RecoveryPhase::Done, ..Default::default() };
        let answer = RecoveryAnswer { status, fenced_by: Some("7.00ff".into()) };
        let text = status_text(&answer);
        assert!(text.starts_with("another node, or a copy of this folder, writes"), "{text}");
        assert!(text.contains("since epoch 7: use that one"), "{text}");
        assert!(text.contains("the last recovery on this node:\ndone"), "{text}");
        let before = RecoveryAnswer { fenced_by: None, ..answer };
        assert_eq!(status_text(&before), "done: everything is this node's again\n");
    }

    #[test]
    fn whoever_interrupts_a_recovery_is_told_what_becomes_of_it() {
        let left = |running, progress| {
            left_text(Some(&RecoveryStatus { running, progress, ..Default::default() }))
        };
        let phase = RecoveryPhase::TakingOver { hosts_written: 0 };
        assert!(left(true, phase.clone()).starts_with("a recovery goes on in the node"));
        assert!(left(false, phase).contains("may refuse the old machine already"));
        let scanning = RecoveryPhase::Idle;
        assert!(left(false, scanning).starts_with("stopped; `samara recover status`"));
        assert!(left(false, RecoveryPhase::Done).starts_with("the recovery has come to its end"));
        assert!(left_text(None).starts_with("stopped; "));
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
