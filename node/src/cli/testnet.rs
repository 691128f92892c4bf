//! `samara testnet`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::arguments::{TestnetCommand, UpArguments};
use super::bar::Progress;
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::{Session, absolute};
use crate::testnet::{
    self, Death, Layout, Network, NodePlace, NodeReport, NodeState, Plan, Role, Runner,
    TestnetError, signal,
};

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
    refuse_running(&layout).await?;
    let mut network = Network::new(layout, runner);
    let progress = Progress::new(session.output);
    let started = tokio::select! {
        biased;
        started = start(session, &mut network, &progress) => started,
        () = signal() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    progress.finish();
    if let Err(failure) = started {
        // Detached nodes that did start would be left behind.
        network.kill_all().await;
        return Err(failure);
    }
    let ready = Ready::of(&network);
    if arguments.detach {
        // Detached nodes live on when the network is dropped.
        session.output.answer(&ready, || ready.text());
        return Ok(Exit::Ok);
    }
    session.output.message("progress", json!({ "event": "ready", "network": ready }));
    session.output.say(&format!("{}Ctrl-C stops the network.", ready.text()));
    let crashed = watch(session, &mut network).await;
    let running = network.running();
    match running {
        0 if crashed > 0 => {
            return Err(Failure::new(Exit::Failure, "no node of the network is left"));
        }
        0 => session.output.say("the network was stopped from elsewhere"),
        _ => session.output.say("stopping"),
    }
    network.stop().await?;
    session.output.message("result", json!({ "stopped": running }));
    Ok(Exit::Ok)
}

/// Reports nodes that end, until somebody wants the network to stop or none is left, and gives how many of
/// them were not stopped on purpose. A network is there to lose nodes: the others go on.
async fn watch(session: &Session, network: &mut Network) -> usize {
    let mut crashed = 0;
    while network.running() > 0 {
        let death = tokio::select! {
            biased;
            () = signal() => return crashed,
            death = network.next_death() => death,
        };
        crashed += usize::from(!death.in_order);
        let left = network.running();
        let event = json!({
            "event": "node_ended", "node": death.place.name(), "log": death.place.log(),
            "in_order": death.in_order, "said": death.said, "running": left
        });
        session.output.message("progress", event);
        session.output.news(&death_text(&death, left));
    }
    crashed
}

/// A node that was stopped is no cause for alarm, one that crashed has a log.
fn death_text(death: &Death, left: usize) -> String {
    let (name, left) = (death.place.name(), display::count(left as u64, "other"));
    match death.in_order {
        true => format!("{name} was stopped, {left} left"),
        false => {
            format!("{name} ended by itself, {left} left; its log: {}", death.place.log().display())
        }
    }
}

/// Nodes that run already are told of, not started twice.
async fn refuse_running(layout: &Layout) -> Result<(), Failure> {
    let states = testnet::status(&layout.folder).await?;
    let runs =
        |state: &&NodeReport| !matches!(state.state, NodeState::Stopped | NodeState::Deleted);
    let running = states.iter().filter(runs).count();
    if running == 0 {
        return Ok(());
    }
    let (folder, nodes) = (layout.folder.clone(), states.len());
    Err(TestnetError::Up { folder, running, nodes }.into())
}

async fn start(
    session: &Session,
    network: &mut Network,
    progress: &Progress,
) -> Result<(), Failure> {
    let tell = |text: &str| {
        session.output.message("progress", json!({ "event": "starting", "doing": text }));
        progress.say(text);
    };
    network.start(tell).await?;
    let renters: Vec<String> =
        network.layout().of(Role::Renter).map(|place| place.name()).collect();
    for name in renters {
        tell(&format!("giving {name} an allowance"));
        network.equip(&name, None).await?;
    }
    Ok(())
}

/// A new network, or the one that is there.
fn layout(folder: &Path, arguments: &UpArguments) -> Result<Layout, Failure> {
    match Layout::find(folder) {
        Ok(layout) => Ok(layout),
        Err(_) => {
            check(arguments)?;
            let UpArguments { validators, hosts, renters, .. } = *arguments;
            Ok(Layout::create(&Plan::local(folder.to_owned(), validators, hosts, renters))?)
        }
    }
}

/// Refuses what can never be ready, before anything is written.
fn check(arguments: &UpArguments) -> Result<(), Failure> {
    if arguments.validators == 0 {
        return Err(Failure::new(Exit::Usage, "--validators 0: a chain has at least one"));
    }
    if arguments.hosts == 1 && arguments.renters > 0 {
        let message = "--hosts 1: nothing can be stored with one host";
        return Err(Failure::new(Exit::Usage, message)
            .with_hint("2 hosts at least; or --hosts 0, or --renters 0"));
    }
    Ok(())
}

/// The program that nodes run: this one.
///
/// # Errors
/// When the system does not know it.
pub fn program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failure, format!("where is this program? {error}")))
}

/// A network that can be used.
#[derive(Serialize)]
struct Ready {
    folder: PathBuf,
    validators: usize,
    hosts: usize,
    renters: usize,
    nodes: Vec<ReadyNode>,
}

#[derive(Serialize)]
struct ReadyNode {
    name: String,
    data: PathBuf,
    pid: Option<u32>,
}

impl Ready {
    fn of(network: &Network) -> Self {
        let layout = network.layout();
        let count = |role| layout.of(role).count();
        let node = |place: &NodePlace| ReadyNode {
            name: place.name(),
            data: place.folder.clone(),
            pid: network.pid(&place.name()),
        };
        Self {
            folder: layout.folder.clone(),
            validators: count(Role::Validator),
            hosts: count(Role::Host),
            renters: count(Role::Renter),
            nodes: layout.nodes.iter().map(node).collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}, {} and {} run in {}\n",
            display::count(self.validators as u64, "validator"),
            display::count(self.hosts as u64, "host"),
            display::count(self.renters as u64, "renter"),
            self.folder.display()
        );
        let renter = format!("{}-0", Role::Renter.name());
        let renter = self.nodes.iter().find(|node| node.name == renter);
        if let Some(renter) = renter.filter(|_| self.hosts > 0) {
            text.push_str(&format!(
                "next:\n  export SAMARA_DATA={}\n  samara put FILE_OR_FOLDER\n  samara ls home\n  samara backup create first\n",
                renter.data.display()
            ));
        }
        text
    }
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
    // Those that are deleted are gone on purpose.
    let mut wanted = states.iter().filter(|state| state.state != NodeState::Deleted);
    let all_run = wanted.all(|state| state.state == NodeState::Running);
    Ok(if all_run { Exit::Ok } else { Exit::Unreachable })
}

async fn down(session: &Session, folder: &Path, delete: bool) -> Result<Exit, Failure> {
    let stopped = testnet::down(folder).await?;
    if delete {
        std::fs::remove_dir_all(folder).map_err(|error| {
            Failure::new(Exit::Failure, format!("cannot delete {}: {error}", folder.display()))
        })?;
    }
    let names: Vec<String> = stopped.iter().map(NodePlace::name).collect();
    let value = json!({ "stopped": names.len(), "nodes": names, "deleted": delete });
    session.output.answer(&value, || down_text(folder, &stopped, delete));
    Ok(Exit::Ok)
}

/// What was stopped, and how to have it back.
fn down_text(folder: &Path, stopped: &[NodePlace], deleted: bool) -> String {
    let folder = folder.display();
    let counts = [Role::Validator, Role::Host, Role::Renter].map(|role| {
        let count = stopped.iter().filter(|place| place.role == role).count() as u64;
        (count > 0).then(|| display::count(count, role.name()))
    });
    let text = match counts.into_iter().flatten().collect::<Vec<_>>().as_slice() {
        [] => "no node was running".to_owned(),
        nodes => format!("stopped {}", nodes.join(", ")),
    };
    match deleted {
        true => format!("{text}; {folder} is deleted\n"),
        false => format!("{text}; `samara testnet up --dir {folder}` starts the network again\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(role: Role, number: usize) -> NodePlace {
        NodePlace { role, number, folder: "/net/node".into() }
    }

    #[test]
    fn a_network_that_can_never_be_ready_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("net");
        for (validators, hosts) in [(4, 1), (0, 8)] {
            let (in_process, detach) = (false, false);
            let arguments =
                UpArguments { dir: dir.clone(), validators, hosts, renters: 1, in_process, detach };
            assert_eq!(layout(&dir, &arguments).unwrap_err().exit, Exit::Usage);
            assert!(!dir.exists());
        }
    }

    #[test]
    fn what_was_stopped_on_purpose_is_told_calmly() {
        let nodes = [place(Role::Validator, 0), place(Role::Host, 0), place(Role::Host, 1)];
        let text = down_text(Path::new("/net"), &nodes, false);
        let expected = "stopped 1 validator, 2 hosts; \
                        `samara testnet up --dir /net` starts the network again\n";
        assert_eq!(text, expected);
        let text = down_text(Path::new("/net"), &[], true);
        assert_eq!(text, "no node was running; /net is deleted\n");
        let death = |in_order| Death { place: place(Role::Host, 3), in_order, said: String::new() };
        assert_eq!(death_text(&death(true), 1), "host-3 was stopped, 1 other left");
        assert!(death_text(&death(false), 2).contains("its log: /net/node/log"));
    }
}
