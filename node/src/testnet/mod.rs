//! Local networks: any number of validators, hosts and renters, each its own process, in one folder.
//!
//! The library behind `samara testnet`, `samara demo`, the end-to-end tests and the benchmarks.
//! Ports are chosen freely; every node's words, configuration, data and log are in its folder below
//! the network's, so a node can be killed, wiped and started again like a real one.
//!
//! Nothing is left behind: the nodes of a [`Network`] end with the process that owns it, whatever ends
//! that, unless it was asked to leave them ([`Runner::Detached`]); then [`down`] ends them.

mod elsewhere;
mod layout;
mod network;
mod process;
mod ready;
#[cfg(test)]
mod tests;

pub use crate::shape::Shape;
pub use elsewhere::{NodeReport, NodeState, down, status};
pub use layout::{Layout, NodePlace, Plan, Role};
pub use network::{Network, TestnetError, signal};
pub use process::{Runner, RunningNode};
