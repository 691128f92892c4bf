//! A running local network.

use std::collections::BTreeMap;

use super::error::TestnetError;
use super::layout::{Layout, NodePlace, Role};
use super::process::{Death, Runner, RunningNode};
use super::ready;
use crate::api::client::Client;
use crate::redundancy::Redundancy;

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
        let plural = if idle.len() == 1 { "" } else { "s" };
        progress(&format!("starting {} {}{plural}", idle.len(), role.name()));
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
    pub async fn equip(
        &self,
        name: &str,
        redundancy: Option<Redundancy>,
    ) -> Result<(), TestnetError> {
        let hosts = self.layout.of(Role::Host).count();
        ready::equipped(name, &self.client(name)?, hosts, redundancy).await
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

    /// Waits until any node ends by itself, and forgets it.
    pub async fn next_death(&mut self) -> Death {
        let deaths = self
            .running
            .iter_mut()
            .map(|(name, (node, _))| Box::pin(async move { (name.clone(), node.died().await) }));
        let deaths: Vec<_> = deaths.collect();
        if deaths.is_empty() {
            return std::future::pending().await;
        }
        let (name, death) = futures::future::select_all(deaths).await.0;
        self.running.remove(&name);
        death
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
