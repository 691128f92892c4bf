//! Why a local network does not do what was asked.

use std::path::PathBuf;

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
