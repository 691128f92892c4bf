//! End to end: real processes on a local network, driven by the command line as a person would.
//!
//! The scenarios share one network of validators and hosts; each has renters of its
//! own. Those that kill nodes of the network, or listen to what is sent, have a network of their own.
//! The demo makes a network itself. Nothing sleeps: a scenario goes on when a command has answered or has told of an event.

mod access;
mod demo;
mod faults;
mod health;
mod load;
mod network;
mod power;
mod scenarios;
mod trouble;
mod wire;
