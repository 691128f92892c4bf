//! The command line.
//!
//! Commands talk to the daemon of a data folder through its HTTP API (`docs/api.md`); only `node`,
//! `init`, `seed`, `testnet` and `demo` do work of their own. Each command gives an [`exit::Exit`]
//! or a [`failure::Failure`], which is shown here and nowhere else.

mod address;
pub mod arguments;
pub mod backups;
pub mod bar;
mod contracts;
pub mod display;
mod drills;
pub mod exit;
pub mod failure;
pub mod files;
mod garbage;
mod health;
mod help;
mod hosts;
mod init;
mod limits;
mod links;
mod logging;
pub mod money;
mod node;
mod notify;
pub mod output;
mod password;
pub mod policies;
pub mod policy_arguments;
pub mod recover;
pub mod recover_restore;
pub mod recover_scan;
mod restores;
pub mod session;
mod span;
mod status;
mod testnet;
pub mod tokens;
pub mod users;
mod validator;
mod verify;

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::arguments::{
    AllowanceCommand, BackupCommand, Cli, Command, DrillCommand, RecoverCommand, RestoreArguments,
    RestoreCommand,
};
use self::exit::Exit;
use self::failure::Failure;
use self::session::Session;
use crate::seed::command::{SeedCommand, SeedError};

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
                let text = error.to_string();
                let failure = Failure::new(Exit::Usage, text.trim().trim_start_matches("error: "));
                output::Output::new(true).failure(&failure);
                return Exit::Usage.into();
            }
            // Help and version are answers, not errors; printing fails only when nobody reads.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let session = Session::new(cli.global);
    match dispatch(&session, cli.command) {
        Ok(exit) => exit.into(),
        Err(mut failure) => {
            failure.message = session.for_this_node(&failure.message);
            failure.hint = failure.hint.map(|hint| session.for_this_node(&hint));
            session.output.failure(&failure);
            failure.exit.into()
        }
    }
}

fn dispatch(session: &Session, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Seed(command) => {
            match crate::seed::run(&command, session.output.is_json()) {
                Ok(()) => Ok(Exit::Ok),
                // The report says it already.
                Err(error @ SeedError::Source(_))
                    if session.output.is_json() && matches!(command, SeedCommand::Check(_)) =>
                {
                    Ok(Failure::from(error).exit)
                }
                Err(error) => Err(error.into()),
            }
        }
        Command::Init(arguments) => init::run(session, arguments),
        Command::Completions { shell } => {
            // The generator panics when nobody reads, so it writes into memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "samara", &mut script);
            session.output.raw(&script);
            Ok(Exit::Ok)
        }
        // These handle signals themselves: they have something to put in order first.
        Command::Node(arguments) => block_on(node::run(session, arguments)),
        Command::Testnet(command) => block_on(testnet::run(session, command)),
        Command::Demo(arguments) => block_on(crate::demo::run(session, arguments)),
        command @ Command::Recover(RecoverCommand::Start(_)) => {
            block_on(interruptible(call(session, command), recover::left(session)))
        }
        command => {
            let left = std::future::ready(when_interrupted(&command));
            block_on(interruptible(call(session, command), left))
        }
    }
}

/// Commands that only ask the daemon.
async fn call(session: &Session, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Put(arguments) => files::put(session, arguments).await,
        Command::Get(arguments) => files::get(session, arguments).await,
        Command::Ls(arguments) => files::list(session, arguments).await,
        Command::Mv(arguments) => files::move_file(session, arguments).await,
        Command::Rm(arguments) => files::remove(session, arguments).await,
        Command::Vault(command) => files::vault(session, command).await,
        Command::Backup(command) => backups::run(session, command).await,
        Command::Restore(arguments) => restores::run(session, *arguments).await,
        Command::Policy(command) => policies::run(session, command).await,
        Command::Schedule { command } => policies::schedule(session, command).await,
        Command::Recover(command) => recover::run(session, command).await,
        Command::Drill(command) => drills::run(session, command).await,
        Command::Hosts => hosts::hosts(session).await,
        Command::Health => health::health(session).await,
        Command::Contracts => contracts::contracts(session).await,
        Command::Garbage { now } => garbage::run(session, now).await,
        Command::Limits(arguments) => limits::run(session, &arguments).await,
        Command::Allowance(command) => money::allowance(session, command).await,
        Command::Wallet(command) => money::wallet(session, command).await,
        Command::Notify(command) => notify::run(session, command).await,
        Command::Validator(command) => validator::run(session, command).await,
        Command::User(command) => users::run(session, command).await,
        Command::Token(command) => tokens::run(session, command).await,
        Command::Whoami => tokens::whoami(session).await,
        Command::Status
        | Command::Seed(_)
        | Command::Init(_)
        | Command::Completions { .. }
        | Command::Node(_)
        | Command::Testnet(_)
        | Command::Demo(_) => status::run(session).await,
    }
}

/// What an interrupted command leaves behind. The node stops what its client no longer waits for, but for
/// backups, restores, drills, scans, and contracts that are being formed.
fn when_interrupted(command: &Command) -> &'static str {
    match command {
        Command::Put(_) => {
            "stopped; what was acknowledged stays, and the next put goes on from there"
        }
        Command::Get(_) | Command::Backup(BackupCommand::Restore { .. }) => {
            "stopped; files that were written whole stay, and nothing else"
        }
        Command::Backup(BackupCommand::Create { .. }) => {
            "the backup goes on in the background; `samara backup list` shows it once it is made"
        }
        Command::Recover(RecoverCommand::Scan(_)) => {
            "the scan goes on in the background; `samara recover status` says how far it is, `samara recover \
             cancel` stops it"
        }
        Command::Recover(RecoverCommand::Restore(_)) => {
            "a recovery that was under way has stopped, see `samara recover status`; a scan goes on in the \
             background, and so does a restore, see `samara restore list`"
        }
        Command::Restore(arguments) if begins_a_restore(arguments) => {
            "a restore that has begun goes on in the background; `samara restore list` shows it, `samara restore \
             cancel ID` stops it"
        }
        Command::Drill(DrillCommand::Run { .. }) => {
            "the drill goes on in the background; `samara drill list` shows it once it has ended"
        }
        Command::Allowance(AllowanceCommand::Set(_)) => {
            "the node goes on forming contracts; `samara contracts` shows them"
        }
        _ => "interrupted",
    }
}

/// Whether a command has the node restore something.
const fn begins_a_restore(arguments: &RestoreArguments) -> bool {
    match &arguments.command {
        None => !arguments.dry_run,
        Some(RestoreCommand::Resume { .. } | RestoreCommand::Approve { .. }) => true,
        Some(_) => false,
    }
}

/// Ends a command at Ctrl-C. With its connection gone, the daemon knows that nobody waits.
async fn interruptible(
    work: impl Future<Output = Result<Exit, Failure>>,
    left: impl Future<Output = &'static str>,
) -> Result<Exit, Failure> {
    tokio::select! {
        biased;
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, left.await)),
    }
}

fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(work);
    // A read of standard input may never return; nothing else is left to wait for.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes:") && help.contains("  7  another node"), "{help}");
    }

    #[test]
    fn an_interrupted_restore_says_that_it_goes_on() {
        let left = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["samara"], arguments].concat()).unwrap();
            when_interrupted(&cli.command)
        };
        for begins in [
            &["restore", "daily"][..],
            &["restore", "resume", "0a"],
            &["restore", "approve", "0a", "--passphrase-from", "prompt"],
        ] {
            assert!(left(begins).contains("goes on in the background"), "{begins:?}");
        }
        for ends in [&["restore", "daily", "--dry-run"][..], &["restore", "list"]] {
            assert_eq!(left(ends), "interrupted", "{ends:?}");
        }
    }

    #[test]
    fn json_is_an_option_of_every_command() {
        let cli = Cli::try_parse_from(["samara", "backup", "list", "--json"]).unwrap();
        assert!(cli.global.json);
        let cli = Cli::try_parse_from(["samara", "--json", "put", "x"]).unwrap();
        assert!(cli.global.json);
    }
}
