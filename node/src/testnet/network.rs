//! A running local network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::layout::{Layout, NodePlace, Role};
use super::process::{Runner, RunningNode};
use super::ready;
use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::config::ConfigError;
use crate::shape::Shape;

/// Why a local network does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TestnetError {
    /// A file or program could not be used.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The folder holds a network already.
    #[error("{path} holds a network already; use another --dir, or `samara testnet down --dir {path} --delete`", path = .0.display())]
    Exists(PathBuf),
    /// The folder holds none.
    #[error("there is no network in {path}; start one with `samara testnet up --dir {path}`", path = .0.display())]
    NoNetwork(PathBuf),
    /// Words could not be drawn or stored.
    #[error("cannot make words for a node: {0}")]
    Words(String),
    /// A configuration cannot be made.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node ended while it was waited for.
    #[error("{node} ended unexpectedly; the end of its log:\n{log}")]
    Died {
        /// Its name.
        node: String,
        /// Its last lines.
        log: String,
    },
    /// Something took too long.
    #[error("waited too long for {what}; the end of the log:\n{log}")]
    Slow {
        /// What was waited for.
        what: String,
        /// Last lines of a log that may tell why.
        log: String,
    },
    /// A node's API refused.
    #[error("{node}: {source}")]
    Api {
        /// Its name.
        node: String,
        /// The error.
        source: ApiError,
    },
    /// A renter has not all the contracts that it should have.
    #[error("{node} could not form all of its contracts: {problem}")]
    Contracts {
        /// Its name.
        node: String,
        /// The first thing that failed.
        problem: String,
    },
    /// The node runs already.
    #[error("{0} runs already")]
    Running(String),
    /// Some of the network's nodes run already.
    #[error("the network in {folder} runs already, {running} of {nodes} nodes: see `samara testnet status --dir {folder}`, or stop it with `samara testnet down --dir {folder}`", folder = .folder.display())]
    Up {
        /// The network's folder.
        folder: PathBuf,
        /// Nodes that hold their folders.
        running: usize,
        /// Nodes there are.
        nodes: usize,
    },
    /// No such node.
    #[error("the network has no running node {0}")]
    NoNode(String),
}

/// A local network whose nodes this process owns. Dropped, all of them end, unless they are detached.
pub struct Network {
    layout: Layout,
    runner: Runner,
    // A node that was started and has not answered yet has no client.
    running: BTreeMap<String, (RunningNode, Option<Client>)>,
}

impl Network {
    /// A network on disk with nothing running yet.
    #[must_use]
    pub fn new(layout: Layout, runner: Runner) -> Self {
        Self { layout, runner, running: BTreeMap::new() }
    }

    /// The network on disk.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The network on disk, to add nodes to.
    #[must_use]
    pub fn layout_mut(&mut self) -> &mut Layout {
        &mut self.layout
    }

    /// Starts every node that is not running and waits until all of them answer, validators
    /// finalise blocks, hosts are funded and announced, and renters have money.
    ///
    /// # Errors
    /// [`TestnetError`] naming the node that failed.
    pub async fn start(&mut self, mut progress: impl FnMut(&str)) -> Result<(), TestnetError> {
        for role in [Role::Validator, Role::Host, Role::Renter] {
            self.start_role(role, &mut progress).await?;
        }
        let hosts = self.layout.of(Role::Host).count();
        if let Some(watcher) = self.layout.of(Role::Host).next().map(NodePlace::name) {
            progress(&format!("waiting for {hosts} hosts to announce themselves"));
            ready::announced(&self.client(&watcher)?, hosts).await?;
        }
        Ok(())
    }

    async fn start_role(
        &mut self,
        role: Role,
        progress: &mut impl FnMut(&str),
    ) -> Result<(), TestnetError> {
        let idle: Vec<NodePlace> = self
            .layout
            .of(role)
            .filter(|place| !self.running.contains_key(&place.name()))
            .cloned()
            .collect();
        if idle.is_empty() {
            return Ok(());
        }
        progress(&format!("starting {} {}s", idle.len(), role.name()));
        for place in &idle {
            let node = RunningNode::start(&self.runner, place)?;
            self.running.insert(place.name(), (node, None));
        }
        for place in &idle {
            self.await_node(&place.name()).await?;
        }
        if role == Role::Validator {
            return Ok(());
        }
        for (number, place) in idle.iter().enumerate() {
            progress(&format!("giving {}s money: {} of {}", role.name(), number + 1, idle.len()));
            ready::funded(&place.name(), &self.client(&place.name())?).await?;
        }
        Ok(())
    }

    /// Starts one node again, or for the first time, and waits until it answers.
    ///
    /// # Errors
    /// [`TestnetError`].
    pub async fn start_node(&mut self, name: &str) -> Result<Client, TestnetError> {
        if self.running.contains_key(name) {
            return Err(TestnetError::Running(name.to_owned()));
        }
        let place = self.place(name)?;
        let node = RunningNode::start(&self.runner, &place)?;
        self.running.insert(name.to_owned(), (node, None));
        self.await_node(name).await
    }

    async fn await_node(&mut self, name: &str) -> Result<Client, TestnetError> {
        let Some((node, client)) = self.running.get_mut(name) else {
            return Err(TestnetError::NoNode(name.to_owned()));
        };
        match node.ready().await {
            Ok(answers) => Ok(client.insert(answers).clone()),
            Err(error) => {
                // It is no use to anybody, and must not be left behind.
                self.take(name)?.kill().await?;
                Err(error)
            }
        }
    }

    /// Gives a node money, unless it has some.
    ///
    /// # Errors
    /// [`TestnetError`].
    pub async fn fund(&self, name: &str) -> Result<(), TestnetError> {
        ready::funded(name, &self.client(name)?).await
    }

    /// Makes a renter with new words ready to store: claims its first epoch and sets an allowance
    /// that fits the network. A renter that has one already is left alone.
    ///
    /// # Errors
    /// [`TestnetError`].
    pub async fn equip(&self, name: &str, shape: Option<Shape>) -> Result<(), TestnetError> {
        let hosts = self.layout.of(Role::Host).count();
        ready::equipped(name, &self.client(name)?, hosts, shape).await
    }

    /// Kills one node as a crash would.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`] when it does not run.
    pub async fn kill(&mut self, name: &str) -> Result<(), TestnetError> {
        self.take(name)?.kill().await
    }

    /// Stops one node in good order.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`] when it does not run.
    pub async fn stop_node(&mut self, name: &str) -> Result<(), TestnetError> {
        self.take(name)?.stop().await
    }

    fn take(&mut self, name: &str) -> Result<RunningNode, TestnetError> {
        let taken = self.running.remove(name);
        taken.map(|(node, _)| node).ok_or_else(|| TestnetError::NoNode(name.to_owned()))
    }

    /// Stops everything in good order: renters first, validators last.
    ///
    /// # Errors
    /// The first node's that could not be stopped; the others are stopped all the same.
    pub async fn stop(&mut self) -> Result<(), TestnetError> {
        let mut outcome = Ok(());
        for role in [Role::Renter, Role::Host, Role::Validator] {
            let names: Vec<String> = self.layout.of(role).map(NodePlace::name).collect();
            let nodes = names.iter().filter_map(|name| self.running.remove(name));
            let stops: Vec<_> = nodes.map(|(node, _)| node.stop()).collect();
            for stopped in futures::future::join_all(stops).await {
                outcome = outcome.and(stopped);
            }
        }
        outcome
    }

    /// Kills everything, also what has not answered yet, and waits until it is gone.
    pub async fn kill_all(&mut self) {
        let nodes = std::mem::take(&mut self.running).into_values();
        let kills = nodes.map(|(mut node, _)| async move { node.kill().await });
        for killed in futures::future::join_all(kills).await {
            if let Err(error) = killed {
                tracing::warn!(%error, "a node could not be killed");
            }
        }
    }

    /// Waits until any node ends by itself, and forgets it. Gives its place, and what it said last.
    pub async fn next_death(&mut self) -> (NodePlace, String) {
        let deaths = self.running.iter_mut().map(|(name, (node, _))| {
            Box::pin(async move {
                let last = node.died().await;
                (name.clone(), node.place().clone(), last)
            })
        });
        let deaths: Vec<_> = deaths.collect();
        if deaths.is_empty() {
            return std::future::pending().await;
        }
        let (name, place, last) = futures::future::select_all(deaths).await.0;
        self.running.remove(&name);
        (place, last)
    }

    /// A client of a running node.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`].
    pub fn client(&self, name: &str) -> Result<Client, TestnetError> {
        self.running
            .get(name)
            .and_then(|(_, client)| client.clone())
            .ok_or_else(|| TestnetError::NoNode(name.to_owned()))
    }

    /// How many nodes run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Process id of a running node.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running.get(name).and_then(|(node, _)| node.pid())
    }

    /// A node's place, running or not.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`].
    pub fn place(&self, name: &str) -> Result<NodePlace, TestnetError> {
        self.layout
            .nodes
            .iter()
            .find(|place| place.name() == name)
            .cloned()
            .ok_or_else(|| TestnetError::NoNode(name.to_owned()))
    }
}

/// Waits until somebody wants this process to end: Ctrl-C, a closed terminal, or SIGTERM.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            // Without a handler the signal ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}
