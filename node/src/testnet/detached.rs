//! Nodes of a network that another process started: what they do, and how they are ended.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::error::TestnetError;
use super::layout::{Layout, NodePlace};
use super::process::{ask_to_stop, log_end};
use crate::api::NodeStatus;
use crate::api::access::Access;
use crate::api::client::Client;
use crate::data::is_held;

/// How long an answer may take before a node counts as silent.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a node may take to end in good order before it is killed.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often a folder's lock is tried; the system does not announce that it is free.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What a node is seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its API answers.
    Running,
    /// A process holds its folder, and its API does not answer.
    Silent,
    /// Nothing holds its folder.
    Stopped,
    /// It was made, and its folder is gone.
    Deleted,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Silent => "does not answer",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        })
    }
}

/// One node of a network on disk.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: NodeState,
    /// Its process.
    pub pid: Option<u32>,
    /// Where its API is.
    pub api: Option<SocketAddr>,
}

/// Looks at the nodes of a network.
///
/// # Errors
/// [`TestnetError::NoNetwork`].
pub async fn status(folder: &Path) -> Result<Vec<NodeReport>, TestnetError> {
    let layout = Layout::find(folder)?;
    let mut reports = Vec::new();
    for place in &layout.nodes {
        reports.push(look(place).await);
    }
    reports.extend(layout.deleted.iter().map(|place| NodeReport {
        name: place.name(),
        state: NodeState::Deleted,
        pid: None,
        api: None,
    }));
    Ok(reports)
}

async fn look(place: &NodePlace) -> NodeReport {
    let name = place.name();
    if !is_held(&place.folder) {
        return NodeReport { name, state: NodeState::Stopped, pid: None, api: None };
    }
    let access = Access::read(&place.folder).ok();
    let state = match &access {
        Some(access) => {
            let client = Client::new(access.clone());
            let asked = tokio::time::timeout(ANSWER, client.get::<NodeStatus>("/v1/status")).await;
            if matches!(asked, Ok(Ok(_))) { NodeState::Running } else { NodeState::Silent }
        }
        None => NodeState::Silent,
    };
    NodeReport {
        name,
        state,
        pid: access.as_ref().map(|access| access.pid),
        api: access.map(|access| access.address),
    }
}

/// Stops the nodes of a network that another process started, and gives those that ran.
///
/// # Errors
/// [`TestnetError`] for a folder without a network, or a node that does not end.
pub async fn down(folder: &Path) -> Result<Vec<NodePlace>, TestnetError> {
    let mut running = Layout::find(folder)?.nodes;
    running.retain(|place| is_held(&place.folder));
    futures::future::join_all(running.iter().map(|place| ask_to_stop(&place.folder))).await;
    for place in &running {
        end(place).await?;
    }
    Ok(running)
}

async fn end(place: &NodePlace) -> Result<(), TestnetError> {
    if tokio::time::timeout(TIMEOUT, until_free(place)).await.is_ok() {
        return Ok(());
    }
    let slow = || TestnetError::Slow {
        what: format!("{} to end", place.name()),
        log: log_end(&place.log()),
    };
    let access = Access::read(&place.folder).map_err(|_| slow())?;
    if !runs_node(access.pid, &place.folder) {
        return Err(slow());
    }
    kill(access.pid);
    tokio::time::timeout(TIMEOUT, until_free(place)).await.map_err(|_| slow())
}

/// Waits until no process holds the node's folder. The lock goes with the process, whatever ends it.
async fn until_free(place: &NodePlace) {
    while is_held(&place.folder) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Whether a process is the node of a folder: ids are given again, and what is killed is gone.
fn runs_node(pid: u32, folder: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let folder = folder.as_os_str().as_encoded_bytes();
    arguments.get(1).is_some_and(|argument| *argument == b"node".as_slice())
        && arguments.windows(2).any(|pair| pair[0] == b"--data".as_slice() && pair[1] == folder)
}

#[expect(unsafe_code, reason = "the standard library ends only processes that it started")]
fn kill(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    // SAFETY: kill reads two numbers and touches no memory of this process.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_node_of_the_folder_is_not_killed() {
        assert!(!runs_node(std::process::id(), Path::new("/tmp/x")));
        assert!(!runs_node(u32::MAX, Path::new("/tmp/x")));
    }

    #[tokio::test]
    async fn a_folder_without_a_network_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = down(folder.path()).await.unwrap_err();
        assert!(matches!(error, TestnetError::NoNetwork(ref path) if path == folder.path()));
    }
}
