//! `samara backup verify`.

use samara_renter::backup::{
    BackupKind, VerifyOptions, VerifyProblem, VerifyProblemKind, VerifyReport,
};

use super::arguments::VerifyArguments;
use super::backups::path;
use super::display;
use super::exit::Exit;
use super::failure::Failure;
use super::money::parse_amount;
use super::password::{Purpose, passphrase};
use super::session::Session;

/// All of it, in per mille.
const ALL: u16 = 1_000;
/// Problems that are shown to people one by one.
const SHOWN: usize = 50;

/// Has a backup read back, and shows what was wrong.
pub async fn run(session: &Session, arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let options = VerifyOptions {
        read_data: parse_share(&arguments.read_data)?,
        every_shard: arguments.every_shard,
        dry_run: arguments.dry_run,
        max_price: arguments.max_cost.as_deref().map(parse_amount).transpose()?,
        passphrase: passphrase(arguments.passphrase_from.clone(), Purpose::Known).await?,
    };
    let report: VerifyReport = session.run(&path(&arguments.name, "/verify")?, &options).await?;
    session.output.answer(&report, || text(&report));
    Ok(if report.dry_run || report.sound { Exit::Ok } else { Exit::Partial })
}

/// A share as people write it, in per mille: at least one unless it is zero.
pub(super) fn parse_share(text: &str) -> Result<u16, Failure> {
    let wrong = || {
        let message = format!("'{text}' is no share: write 5%, 0.5% or all");
        Failure::new(Exit::Usage, message)
    };
    if text == "all" {
        return Ok(ALL);
    }
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str, most: usize| {
        let fits = (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| fits)
    };
    let share = digits(whole, 3).zip(digits(tenth, 1)).map(|(whole, tenth)| whole * 10 + tenth);
    share.filter(|share| *share <= ALL).ok_or_else(wrong)
}

fn text(report: &VerifyReport) -> String {
    if report.dry_run {
        return format!("at most {}; nothing was read\n", display::coins(report.price));
    }
    let mut text = match report.kind {
        BackupKind::Network => network_text(report),
        BackupKind::Archive => archive_text(report),
    };
    for problem in report.problems.iter().take(SHOWN) {
        text.push_str(&problem_text(problem));
    }
    let hidden = report.problems_total.saturating_sub(report.problems.len().min(SHOWN) as u64);
    if hidden > 0 {
        text.push_str(&format!("and {} more; --json shows the first thousand\n", hidden));
    }
    for advice in advice(report) {
        text.push_str(&format!("  {advice}\n"));
    }
    text.push_str(match report.sound {
        true => "nothing is wrong\n",
        false => "something is wrong\n",
    });
    text
}

fn archive_text(report: &VerifyReport) -> String {
    let mut text = format!(
        "archive '{}': {} read back",
        display::plain(&report.name),
        display::size(report.file_bytes)
    );
    if report.events > 0 {
        let (events, files) = (report.events, report.files);
        let counts = [display::count(events, "event"), display::count(files, "version")];
        text.push_str(&format!("; {} in it have their hashes", counts.join(" and ")));
    } else if report.sound {
        text.push_str("; it is encrypted, and --passphrase-from also reads what is in it");
    }
    text.push('\n');
    text
}

fn network_text(report: &VerifyReport) -> String {
    let mut text = format!(
        "backup '{}': {} of {} hosts hold it, {} needed; {} of metadata; {} of {} with {} read back",
        display::plain(&report.name),
        report.heads_ok,
        report.heads_total,
        report.heads_needed,
        display::count(report.nodes, "node"),
        display::thousands(report.slabs),
        display::count(report.slabs_total, "slab"),
        display::size(report.slab_bytes),
    );
    if report.shards > 0 {
        text.push_str(&format!("; {}", display::count(report.shards, "shard")));
    }
    text.push_str(&format!("; {}\n", display::coins(report.cost)));
    text
}

fn problem_text(problem: &VerifyProblem) -> String {
    let what = match problem.kind {
        VerifyProblemKind::Heads => "heads",
        VerifyProblemKind::Metadata => "metadata",
        VerifyProblemKind::File => "file",
        VerifyProblemKind::Shard => "shard",
        VerifyProblemKind::Archive => "archive",
    };
    let about = problem.file.clone().or_else(|| problem.slab.as_deref().map(display::short));
    let about = about.map(|about| format!(" {}", display::plain(&about))).unwrap_or_default();
    format!("{what}{about}: {}\n", display::plain(&problem.message))
}

/// What to do, each thing once.
fn advice(report: &VerifyReport) -> Vec<&str> {
    let mut all: Vec<&str> =
        report.problems.iter().map(|problem| problem.advice.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_in_per_mille() {
        for (text, share) in [("0%", 0), ("5%", 50), ("0.5%", 5), ("100%", 1_000), ("all", 1_000)] {
            assert_eq!(parse_share(text).unwrap(), share);
        }
        for text in ["", "5", "%", "101%", "100.1%", "-1%", "1.23%", "+5%", "99999999999%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_followed_by_what_to_do() {
        let problem = VerifyProblem {
            kind: VerifyProblemKind::File,
            file: Some("home/a\u{1b}[2J.txt".into()),
            slab: None,
            hosts: Vec::new(),
            message: "it does not have\u{7} its hash".into(),
            advice: "put it again".into(),
        };
        let report = VerifyReport {
            problems: vec![problem.clone(), problem],
            problems_total: 2,
            ..VerifyReport::default()
        };
        let text = text(&report);
        // What others have named gives no orders to the terminal.
        let line = r"file home/a\u{1b}[2J.txt: it does not have\u{7} its hash";
        assert_eq!(text.matches(line).count(), 2, "{text}");
        assert_eq!(text.matches("put it again").count(), 1, "{text}");
        assert!(text.ends_with("something is wrong\n"));
    }
}
