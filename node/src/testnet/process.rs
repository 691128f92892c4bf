//! One node's process or task: started, watched, asked to stop, killed.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::TestnetError;
use super::layout::NodePlace;
use crate::api::access::Access;
use crate::api::client::Client;
use crate::api::{Done, NodeStatus};
use crate::config::NodeConfig;
use crate::daemon::{self, DaemonError, DaemonOptions};
use crate::data::is_held;

/// How long a node may take to end in good order before it is killed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to answer after its start. Thirty of them start at once on two cores.
const START: Duration = Duration::from_secs(120);
/// How often files and addresses are looked at that nobody announces.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How the nodes of a local network run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// Each its own process of this program, which ends with this one.
    Processes(PathBuf),
    /// Each its own process of this program, which outlives this one.
    Detached(PathBuf),
    /// Each a task of this process.
    Tasks,
}

/// A node that has ended by itself.
#[derive(Clone, Debug)]
pub struct Death {
    /// Whose.
    pub place: NodePlace,
    /// Whether somebody had told it to stop, as `samara testnet down` does.
    pub in_order: bool,
    /// What it said last.
    pub said: String,
}

/// A node that was started here.
pub struct RunningNode {
    place: NodePlace,
    inner: Inner,
}

enum Inner {
    Process {
        child: Box<Child>,
        /// Held apart: waiting for a child closes the input that it still holds, and ends the node.
        input: Option<ChildStdin>,
    },
    Task {
        stop: CancellationToken,
        task: JoinHandle<Result<(), DaemonError>>,
    },
}

impl RunningNode {
    /// Starts a node.
    ///
    /// # Errors
    /// [`TestnetError`] when the program cannot be started or the configuration not be read.
    pub fn start(runner: &Runner, place: &NodePlace) -> Result<Self, TestnetError> {
        // Whatever else is wrong with the folder, the node says itself.
        if is_held(&place.folder) {
            return Err(TestnetError::Running(place.name()));
        }
        // An address left by an earlier run would be taken for this one's.
        let stale = place.folder.join(crate::api::access::FILE);
        if stale.exists() {
            std::fs::remove_file(&stale)
                .map_err(|source| TestnetError::File { path: stale, source })?;
        }
        let inner = match runner {
            Runner::Processes(program) => process(spawn(program, place, false)?),
            Runner::Detached(program) => process(spawn(program, place, true)?),
            Runner::Tasks => task(place)?,
        };
        Ok(Self { place: place.clone(), inner })
    }

    /// The id of its own process, while that runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.inner {
            Inner::Process { child, .. } => child.id(),
            Inner::Task { .. } => None,
        }
    }

    /// Waits until the node's API answers.
    ///
    /// # Errors
    /// [`TestnetError::Died`] with the end of its log when it ends before, and
    /// [`TestnetError::Slow`] after two minutes.
    pub async fn ready(&mut self) -> Result<Client, TestnetError> {
        let place = self.place.clone();
        let answers = async {
            loop {
                if let Ok(access) = Access::read(&place.folder) {
                    let client = Client::new(access);
                    if client.get::<NodeStatus>("/v1/status").await.is_ok() {
                        return client;
                    }
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            client = answers => Ok(client),
            death = self.died() => Err(TestnetError::Died { node: place.name(), log: death.said }),
            () = tokio::time::sleep(START) => Err(TestnetError::Slow {
                what: format!("{} to answer", place.name()),
                log: log_end(&place.log()),
            }),
        }
    }

    /// Waits until the node ends.
    pub async fn died(&mut self) -> Death {
        let (in_order, said) = match &mut self.inner {
            Inner::Process { child, .. } => {
                // An error means that there is no such process any more.
                let in_order = child.wait().await.is_ok_and(|status| status.success());
                (in_order, log_end(&self.place.log()))
            }
            Inner::Task { task, .. } => match task.await {
                Ok(Ok(())) => (true, "it was stopped".to_owned()),
                Ok(Err(error)) => (false, crate::causes::with_causes(&error)),
                Err(error) => (false, error.to_string()),
            },
        };
        Death { place: self.place.clone(), in_order, said }
    }

    /// Kills the process at once, as a crash would, and waits until it is gone. A task cannot crash
    /// alone: it is stopped.
    ///
    /// # Errors
    /// [`TestnetError::File`] when the system refuses.
    pub async fn kill(&mut self) -> Result<(), TestnetError> {
        match &mut self.inner {
            Inner::Process { child, .. } => child
                .kill()
                .await
                .map_err(|source| TestnetError::File { path: self.place.folder.clone(), source }),
            Inner::Task { stop, task } => {
                stop.cancel();
                if !task.is_finished() && tokio::time::timeout(TIMEOUT, &mut *task).await.is_err() {
                    task.abort();
                }
                Ok(())
            }
        }
    }

    /// Ends the node in good order, and kills it if it has not ended in ten seconds.
    ///
    /// # Errors
    /// [`TestnetError::File`] when the system refuses.
    pub async fn stop(mut self) -> Result<(), TestnetError> {
        if let Inner::Process { child, input } = &mut self.inner {
            match input.take() {
                // The node was started with `--until-input-ends`.
                Some(input) => drop(input),
                None => ask_to_stop(&self.place.folder).await,
            }
            if tokio::time::timeout(TIMEOUT, child.wait()).await.is_ok() {
                return Ok(());
            }
        }
        self.kill().await
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        if let Inner::Task { stop, .. } = &self.inner {
            stop.cancel();
        }
    }
}

/// A node that does not answer is ended otherwise.
pub(super) async fn ask_to_stop(folder: &Path) {
    if let Ok(client) = Client::of_folder(folder) {
        let asked = client.post::<_, Done>("/v1/shutdown", &Done {});
        let _ = tokio::time::timeout(TIMEOUT, asked).await;
    }
}

/// Unless detached the node ends with this process, however that ends: its standard input is a pipe
/// that only this process holds.
fn spawn(program: &Path, place: &NodePlace, detached: bool) -> Result<Child, TestnetError> {
    let fail = |path: PathBuf| move |source| TestnetError::File { path, source };
    let log = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(place.log())
        .map_err(fail(place.log()))?;
    let errors = log.try_clone().map_err(fail(place.log()))?;
    let mut command = Command::new(program);
    // A variable meant for the command that starts a network is not meant for each of its nodes.
    for variable in ["SAMARA_DATA", "SAMARA_CONFIG", "SAMARA_API", "SAMARA_LISTEN"] {
        command.env_remove(variable);
    }
    command
        .arg("node")
        .arg("--data")
        .arg(&place.folder)
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors))
        // Ctrl-C reaches the whole group of the terminal; here the parent decides who ends when.
        .process_group(0);
    if detached {
        command.stdin(Stdio::null());
    } else {
        command.arg("--until-input-ends").stdin(Stdio::piped()).kill_on_drop(true);
    }
    command.spawn().map_err(fail(program.to_owned()))
}

fn process(mut child: Child) -> Inner {
    let input = child.stdin.take();
    Inner::Process { child: Box::new(child), input }
}

fn task(place: &NodePlace) -> Result<Inner, TestnetError> {
    let config = NodeConfig::read(&place.folder.join("samara.toml"))?;
    let stop = CancellationToken::new();
    let options = DaemonOptions { until_input_ends: false, stop: Some(stop.clone()) };
    let task = tokio::spawn(daemon::run(place.folder.clone(), config, options));
    Ok(Inner::Task { stop, task })
}

/// The last lines of a log, for an error.
pub(super) fn log_end(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
