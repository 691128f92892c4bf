//! What the product must do, one test for each id of the requirements: the output of
//! `cargo test -p samara-tests --test acceptance` is the table of ids that hold.
//!
//! S: recovery of files from the words; L: backups that people manage; Q: archives that can be carried away; api: the form of the
//! HTTP API.
//! Everything is driven over the command line and the HTTP API of real processes on a local network.

mod api;
mod archives;
mod backups;
mod crashes;
mod hook;
mod hostile;
mod links;
mod mail;
#[path = "../e2e/network.rs"]
#[allow(dead_code)] // The scenarios use other parts of it.
mod network;
mod notices;
mod recovery;
mod scan;
mod story;
