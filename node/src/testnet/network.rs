//! A running local network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::layout::{Layout, NodePlace, Role};
use super::process::{NodeProcess, log_end};
use super::ready;
use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::config::ConfigError;

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
    /// No such node.
    #[error("the network has no running node {0}")]
    NoNode(String),
}

/// A local network whose processes this process owns. Dropped, all of them end.
pub struct Network {
    layout: Layout,
    program: PathBuf,
    detached: bool,
    running: BTreeMap<String, (NodeProcess, Client)>,
}

impl Network {
    /// A network on disk with nothing running yet. `program` is the samara binary.
    #[must_use]
    pub fn new(layout: Layout, program: PathBuf) -> Self {
        Self { layout, program, detached: false, running: BTreeMap::new() }
    }

    /// As [`Network::new`], with nodes that outlive this process; [`down`] ends them.
    #[must_use]
    pub fn detached(layout: Layout, program: PathBuf) -> Self {
        Self { detached: true, ..Self::new(layout, program) }
    }

    /// The network on disk.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Starts every node that is not running and waits until all of them answer, validators
    /// finalise blocks, hosts are funded and announced, and renters have money.
    ///
    /// # Errors
    /// [`TestnetError`] naming the node that failed.
    pub async fn start(&mut self, mut progress: impl FnMut(&str)) -> Result<(), TestnetError> {
        for role in [Role::Validator, Role::Host, Role::Renter] {
            let places: Vec<NodePlace> = self.layout.of(role).cloned().collect();
            if places.is_empty() {
                continue;
            }
            progress(&format!("starting {} {}s", places.len(), role.name()));
            let mut started = Vec::new();
            for place in places.iter().filter(|place| !self.running.contains_key(&place.name())) {
                started.push(NodeProcess::start(&self.program, place, self.detached)?);
            }
            for mut process in started {
                let client = process.ready().await?;
                self.running.insert(process.place().name(), (process, client));
            }
            for place in &places {
                let client = self.client(&place.name())?;
                if role != Role::Validator {
                    ready::funded(&place.name(), &client).await?;
                }
            }
        }
        let hosts = self.layout.of(Role::Host).count();
        if hosts > 0 {
            progress(&format!("waiting for {hosts} hosts to announce themselves"));
            let watcher = self.layout.of(Role::Host).next().map(NodePlace::name);
            let client = self.client(&watcher.unwrap_or_default())?;
            ready::announced(&client, hosts).await?;
        }
        Ok(())
    }

    /// Starts one node again, or for the first time, and waits until it answers.
    ///
    /// # Errors
    /// [`TestnetError`].
    pub async fn start_node(&mut self, name: &str) -> Result<Client, TestnetError> {
        let place = self.place(name)?;
        let mut process = NodeProcess::start(&self.program, &place, self.detached)?;
        let client = process.ready().await?;
        self.running.insert(name.to_owned(), (process, client.clone()));
        Ok(client)
    }

    /// Kills one node as a crash would.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`] when it does not run.
    pub async fn kill(&mut self, name: &str) -> Result<(), TestnetError> {
        let (mut process, _) =
            self.running.remove(name).ok_or_else(|| TestnetError::NoNode(name.to_owned()))?;
        process.kill().await
    }

    /// Stops one node in good order.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`] when it does not run.
    pub async fn stop_node(&mut self, name: &str) -> Result<(), TestnetError> {
        let (process, _) =
            self.running.remove(name).ok_or_else(|| TestnetError::NoNode(name.to_owned()))?;
        process.stop().await
    }

    /// Stops everything in good order.
    ///
    /// # Errors
    /// The first node's that could not be stopped; the others are stopped all the same.
    pub async fn stop(&mut self) -> Result<(), TestnetError> {
        let running = std::mem::take(&mut self.running);
        let stops = running.into_values().map(|(process, _)| process.stop());
        futures::future::join_all(stops).await.into_iter().collect()
    }

    /// A client of a running node.
    ///
    /// # Errors
    /// [`TestnetError::NoNode`].
    pub fn client(&self, name: &str) -> Result<Client, TestnetError> {
        self.running
            .get(name)
            .map(|(_, client)| client.clone())
            .ok_or_else(|| TestnetError::NoNode(name.to_owned()))
    }

    /// Process id of a running node.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running.get(name).and_then(|(process, _)| process.pid())
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

    /// Adds a folder for one more node to the layout.
    pub fn add_place(&mut self, place: NodePlace) {
        self.layout.nodes.push(place);
    }
}

/// Stops the nodes of a network that another process started.
///
/// # Errors
/// [`TestnetError`] for a folder without a network, or a node that does not end.
pub async fn down(folder: &Path) -> Result<usize, TestnetError> {
    let layout = Layout::find(folder)?;
    let mut stopped = 0;
    for place in &layout.nodes {
        let Ok(client) = Client::of_folder(&place.folder) else { continue };
        if client.post::<_, Value>("/v1/shutdown", &json!({})).await.is_err() {
            continue;
        }
        stopped += 1;
        wait_until_free(place).await?;
    }
    Ok(stopped)
}

async fn wait_until_free(place: &NodePlace) -> Result<(), TestnetError> {
    let free = async {
        // The lock goes with the process, whatever ends it.
        while crate::data::DataFolder::open(&place.folder).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free).await.map_err(|_| TestnetError::Slow {
        what: format!("{} to end", place.name()),
        log: log_end(&place.log()),
    })
}
