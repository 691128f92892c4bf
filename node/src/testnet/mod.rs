//! Local networks: any number of validators, hosts and renters, each its own process, in one folder.
//!
//! The library behind `samara testnet`, `samara demo`, the end-to-end tests and the benchmarks.
//! Ports are chosen freely; every node's words, configuration, data and log are in its folder below
//! the network's, so a node can be killed, wiped and started again like a real one.
//!
//! Nothing is left behind: the nodes of a [`Network`] end with the process that owns it, whatever ends
//! that, unless it was asked to leave them ([`Runner::Detached`]); then [`down`] ends them.

mod detached;
mod error;
mod layout;
mod network;
mod process;
mod ready;
#[cfg(test)]
mod tests;

pub use crate::redundancy::Redundancy;
pub use detached::{NodeReport, NodeState, down, status};
pub use error::TestnetError;
pub use layout::{Layout, NodePlace, Plan, Role};
pub use network::{Network, signal};
pub use process::{Death, Runner, RunningNode};
