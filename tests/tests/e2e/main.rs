//! End to end: real processes on a local network, driven by the command line as a person would.
//!
//! All scenarios of this binary share one network of validators and hosts; each has renters of its
//! own. Nothing sleeps: a scenario goes on when a command has answered or has told of an event.

mod network;
mod scenarios;
