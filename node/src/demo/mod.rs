//! `samara demo`: the whole story on a local network of separate processes.
//!
//! A folder is stored and backed up, the machine it was stored from is lost (and, if asked, hosts and
//! a validator with it), and an empty node with nothing but the words brings every file back. Each
//! file is compared with the original by its BLAKE3.
//!
//! Everything lives in one folder below the system's temporary folder. It is removed on every way
//! out, after all processes have ended, unless it is to be kept.

pub mod folder;
mod story;
mod teller;
mod validator;

use std::path::PathBuf;

use serde_json::json;

use self::folder::LEFT_OUT;
use self::story::{Outcome, Story};
use self::teller::Teller;
use crate::cli::arguments::DemoArguments;
use crate::cli::display;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::session::{Session, absolute};
use crate::testnet::{Layout, Network, Plan, Redundancy, Runner, signal};

/// Fewest hosts with which a lost one is survived.
const MIN_HOSTS: usize = 3;

/// What to do, checked.
#[derive(Clone, Debug)]
struct Script {
    source: PathBuf,
    left_out: Vec<String>,
    validators: usize,
    hosts: usize,
    redundancy: Redundancy,
    kill_hosts: usize,
    kill_validator: bool,
}

/// Runs the demo and cleans up after it.
pub async fn run(session: &Session, arguments: DemoArguments) -> Result<Exit, Failure> {
    let mut script = script(&arguments)?;
    let teller = Teller::new(session.output);
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failure, format!("cannot make a folder for the demo: {error}"))
    };
    let (temporary, path) = folder::temporary().map_err(failed)?;
    let named: &[&str] = if arguments.dir.is_none() { &LEFT_OUT } else { &[] };
    script.left_out = folder::left_out(&script.source, named, &path);
    let layout =
        Layout::create(&Plan::local(path.join("network"), script.validators, script.hosts, 1))?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut network = Network::new(layout, Runner::Processes(program));
    let outcome = tokio::select! {
        biased;
        () = signal() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        outcome = Story::new(&script, &teller, &mut network, &path).tell() => outcome,
    };
    // What is kept is to be looked at and started again, so it ends in good order.
    if arguments.keep {
        let stopped = network.stop().await;
        let kept = temporary.keep();
        teller.say(&format!("\nThe network's folder is kept: {}", kept.display()));
        stopped?;
    } else {
        network.kill_all().await;
        temporary.close().map_err(|error| {
            Failure::new(Exit::Failure, format!("cannot remove {}: {error}", path.display()))
        })?;
    }
    conclude(&teller, &outcome?)
}

fn script(arguments: &DemoArguments) -> Result<Script, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    if arguments.hosts < MIN_HOSTS {
        return Err(usage(format!("--hosts {}: at least {MIN_HOSTS} are needed", arguments.hosts)));
    }
    if arguments.validators == 0 {
        return Err(usage("--validators 0: a chain needs at least one".to_owned()));
    }
    if arguments.kill_validator && arguments.validators < 4 {
        return Err(usage(
            "--kill-validator needs at least 4 validators: of fewer, none may be lost".to_owned(),
        ));
    }
    if arguments.kill_hosts > arguments.hosts {
        return Err(usage(format!(
            "--kill-hosts {}: there are {}",
            arguments.kill_hosts, arguments.hosts
        )));
    }
    let redundancy = match &arguments.redundancy {
        Some(text) => text.parse().map_err(|error| usage(format!("--redundancy: {error}")))?,
        None => default_redundancy(arguments.hosts),
    };
    if usize::from(redundancy.total) > arguments.hosts {
        return Err(usage(format!(
            "--redundancy {redundancy} needs {} hosts, and there are {}",
            redundancy.total, arguments.hosts
        )));
    }
    let source = absolute(arguments.dir.as_deref().unwrap_or(std::path::Path::new(".")))?;
    if !source.is_dir() {
        return Err(Failure::new(Exit::NotFound, format!("{} is no folder", source.display())));
    }
    Ok(Script {
        source,
        left_out: Vec::new(),
        validators: arguments.validators,
        hosts: arguments.hosts,
        redundancy,
        kill_hosts: arguments.kill_hosts,
        kill_validator: arguments.kill_validator,
    })
}

/// A third of the hosts is enough, as on a large network.
fn default_redundancy(hosts: usize) -> Redundancy {
    let total = u8::try_from(hosts).unwrap_or(u8::MAX).min(30);
    Redundancy { data: ((total + 1) / 3).max(1), total }
}

fn conclude(teller: &Teller, outcome: &Outcome) -> Result<Exit, Failure> {
    let comparison = &outcome.comparison;
    let took = outcome.took;
    let value = json!({
        "equal": comparison.equal,
        "missing": comparison.missing,
        "different": comparison.different,
        "unexpected": comparison.unexpected,
        "bytes": outcome.bytes,
        "seconds": teller::seconds(took),
    });
    if comparison.is_whole() {
        teller.output().answer(&value, || {
            format!(
                "\nAll {} are back, {}, each equal to the original. It took {}.\n",
                display::count(comparison.equal, "file"),
                display::size(outcome.bytes),
                display::duration(took)
            )
        });
        return Ok(Exit::Ok);
    }
    teller.output().answer(&value, || {
        let mut text =
            format!("\nOnly {} came back whole.\n", display::count(comparison.equal, "file"));
        let groups = [
            ("missing", &comparison.missing),
            ("different", &comparison.different),
            ("never stored", &comparison.unexpected),
        ];
        for (what, names) in groups {
            for name in names {
                text.push_str(&format!("  {what}: {name}\n"));
            }
        }
        text
    });
    Ok(Exit::Partial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> DemoArguments {
        DemoArguments {
            dir: None,
            validators: 4,
            hosts: 8,
            redundancy: None,
            kill_hosts: 0,
            kill_validator: false,
            keep: false,
        }
    }

    #[test]
    fn the_redundancy_fits_the_hosts() {
        for (hosts, redundancy) in
            [(3, "1/3"), (8, "3/8"), (12, "4/12"), (30, "10/30"), (90, "10/30")]
        {
            assert_eq!(default_redundancy(hosts).to_string(), redundancy);
        }
    }

    #[test]
    fn a_script_that_cannot_be_played_is_refused_before_anything_starts() {
        let bad = [
            DemoArguments { hosts: 2, ..arguments() },
            DemoArguments { validators: 0, ..arguments() },
            DemoArguments { validators: 3, kill_validator: true, ..arguments() },
            DemoArguments { kill_hosts: 9, ..arguments() },
            DemoArguments { redundancy: Some("10/30".into()), ..arguments() },
            DemoArguments { redundancy: Some("x".into()), ..arguments() },
        ];
        for arguments in bad {
            assert_eq!(script(&arguments).unwrap_err().exit, Exit::Usage, "{arguments:?}");
        }
        let missing = DemoArguments { dir: Some("/nonexistent/x".into()), ..arguments() };
        assert_eq!(script(&missing).unwrap_err().exit, Exit::NotFound);
    }
}
