//! `samara testnet`.

use std::path::Path;

use serde_json::json;

use super::arguments::{TestnetCommand, UpArguments};
use super::bar::Progress;
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::{Session, absolute};
use crate::testnet::{self, Layout, Network, NodeState, Plan, Role, Runner, signal};

/// Runs one of the commands.
pub async fn run(session: &Session, command: TestnetCommand) -> Result<Exit, Failure> {
    match command {
        TestnetCommand::Up(arguments) => up(session, &arguments).await,
        TestnetCommand::Status { dir } => status(session, &absolute(&dir)?).await,
        TestnetCommand::Down { dir, delete } => down(session, &absolute(&dir)?, delete).await,
    }
}

async fn up(session: &Session, arguments: &UpArguments) -> Result<Exit, Failure> {
    let folder = absolute(&arguments.dir)?;
    let layout = layout(&folder, arguments)?;
    let runner = match (arguments.in_process, arguments.detach) {
        (true, _) => Runner::Tasks,
        (false, true) => Runner::Detached(program()?),
        (false, false) => Runner::Processes(program()?),
    };
    let mut network = Network::new(layout, runner);
    let progress = Progress::new(session.output);
    let started = tokio::select! {
        biased;
        started = start(&mut network, &progress) => started,
        () = signal() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    progress.finish();
    if let Err(failure) = started {
        // Detached nodes that did start would be left behind.
        network.kill_all().await;
        return Err(failure);
    }
    ready(session, &network);
    if arguments.detach {
        // Detached nodes live on when the network is dropped.
        return Ok(Exit::Ok);
    }
    session.output.say("Ctrl-C stops the network.");
    let ended = tokio::select! {
        biased;
        () = signal() => None,
        name = network.first_death() => Some(name),
    };
    session.output.say("stopping");
    network.stop().await?;
    match ended {
        Some(name) => Err(Failure::new(Exit::Failure, format!("{name} ended; see its log"))),
        None => Ok(Exit::Ok),
    }
}

async fn start(network: &mut Network, progress: &Progress) -> Result<(), Failure> {
    network.start(|text| progress.say(text)).await?;
    let renters: Vec<String> =
        network.layout().of(Role::Renter).map(|place| place.name()).collect();
    for name in renters {
        progress.say(&format!("giving {name} an allowance"));
        network.equip(&name, None).await?;
    }
    Ok(())
}

/// A new network, or the one that is there.
fn layout(folder: &Path, arguments: &UpArguments) -> Result<Layout, Failure> {
    match Layout::find(folder) {
        Ok(layout) => Ok(layout),
        Err(_) => Ok(Layout::create(&Plan::local(
            folder.to_owned(),
            arguments.validators,
            arguments.hosts,
            arguments.renters,
        ))?),
    }
}

/// The program that nodes run: this one.
///
/// # Errors
/// When the system does not know it.
pub fn program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failure, format!("where is this program? {error}")))
}

fn ready(session: &Session, network: &Network) {
    let layout = network.layout();
    let count = |role| layout.of(role).count();
    let renter = layout.of(Role::Renter).next();
    let value = json!({
        "folder": layout.folder,
        "validators": count(Role::Validator),
        "hosts": count(Role::Host),
        "renters": count(Role::Renter),
        "nodes": layout.nodes.iter().map(|place| json!({
            "name": place.name(),
            "data": place.folder,
            "pid": network.pid(&place.name()),
        })).collect::<Vec<_>>(),
    });
    session.output.result(&value, || {
        let named = |role, noun| display::count(count(role) as u64, noun);
        let mut text = format!(
            "{}, {} and {} run in {}\n",
            named(Role::Validator, "validator"),
            named(Role::Host, "host"),
            named(Role::Renter, "renter"),
            layout.folder.display()
        );
        if let Some(renter) = renter {
            text.push_str(&format!(
                "next:\n  export SAMARA_DATA={}\n  samara put FILE_OR_FOLDER\n  samara ls home\n  samara backup create first\n",
                renter.folder.display()
            ));
        }
        text
    });
}

async fn status(session: &Session, folder: &Path) -> Result<Exit, Failure> {
    let states = testnet::status(folder).await?;
    session.output.answer(&states, || {
        let mut table = Table::new(&[
            ("node", Align::Left),
            ("state", Align::Left),
            ("pid", Align::Right),
            ("api", Align::Left),
        ]);
        for state in &states {
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            table.row([
                state.name.clone(),
                state.state.to_string(),
                text(state.pid.map(|pid| pid.to_string())),
                text(state.api.map(|api| api.to_string())),
            ]);
        }
        table.render()
    });
    let all_run = states.iter().all(|state| state.state == NodeState::Running);
    Ok(if all_run { Exit::Ok } else { Exit::Unreachable })
}

async fn down(session: &Session, folder: &Path, delete: bool) -> Result<Exit, Failure> {
    let stopped = testnet::down(folder).await?;
    if delete {
        std::fs::remove_dir_all(folder).map_err(|error| {
            Failure::new(Exit::Failure, format!("cannot delete {}: {error}", folder.display()))
        })?;
    }
    let value = json!({ "stopped": stopped, "deleted": delete });
    session.output.answer(&value, || {
        let gone = if delete { ", folder deleted" } else { "" };
        format!("{} stopped{gone}\n", display::count(stopped as u64, "node"))
    });
    Ok(Exit::Ok)
}
