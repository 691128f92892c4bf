//! The samara daemon and command line.
//!
//! One binary with several roles. Everything here is a shell: it carries bytes between the network,
//! the disks and the pure rules of `samara-protocol`, and gives the renter of `samara-renter` its
//! world.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`daemon`] | one process: starts the roles, hands requests to them, stops them |
//! | [`consensus`], [`chain`] | the chain role: the engine, the store, the service |
//! | [`light`] | the chain as nodes without it follow and verify it |
//! | [`host`] | the host role: volumes, service, proofs |
//! | [`links`] | addresses under which archives are had without a login |
//! | [`drill`] | recoveries into a node that is thrown away, to see that the words suffice |
//! | [`world`] | the renter role's outside: disks, network, tokio |
//! | [`transport`] | connections to other nodes |
//! | [`access`] | users, roles, tokens: who may do what |
//! | [`api`], [`cli`] | the local HTTP API, and the commands that use it |
//! | [`config`], [`data`], [`seed`] | configuration, data folder, words |
//! | [`fetch`], [`tls`] | files from URLs that others have chosen, and whom to trust as a client |
//! | [`validators`] | changes of the validator set, as operators hand them on |
//! | [`causes`], [`redundancy`] | errors and redundancies as people read them |
//! | [`clock`], [`database`] | the wall clock, and databases that come back after a full disk |
//! | `open_files` | the process's limit of open files |
//! | `stretch` | Argon2id, of passphrases, passwords and tokens |
//! | `disk` | what several of them do to files and folders |
//! | [`testnet`], [`demo`] | local networks of separate processes, and the whole story on one |

pub mod access;
pub mod api;
pub mod causes;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consensus;
pub mod daemon;
pub mod data;
pub mod database;
pub mod demo;
mod disk;
pub mod drill;
pub mod fetch;
pub mod host;
pub mod light;
pub mod links;
pub mod notify;
mod open_files;
pub mod redundancy;
pub mod restores;
pub mod seed;
mod stretch;
pub mod testnet;
pub mod tls;
pub mod transport;
pub mod validators;
pub mod world;
