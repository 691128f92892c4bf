//! The renter of Samara: what an owner of files runs.
//!
//! Everything here reaches the outside through the traits of [`world`], so the same code runs in the
//! daemon and in the seeded simulator. Rules that keep it deterministic: `select! { biased }` only, no
//! task spawned but through [`world::Spawner`], no clock or random byte but the world's, no iteration
//! over a `HashMap`.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`renter`] | the facade: everything that a daemon, a command line or a simulator calls |
//! | [`contract`], [`transfer`] | contracts with hosts, and slabs on their way to them and back |
//! | [`journal`] | the owner of all names: acknowledges changes, keeps the heads at the hosts |
//! | [`vault`] | files in and out |
//! | [`checkpoint`] | what the journal has led to, in trees at the hosts |
//! | [`backup`] | named points of the journal |
//! | [`garbage`] | what nothing needs any more goes from the hosts |
//! | [`recovery`] | everything back from the words, and the scan that only looks for it |
//! | [`repair`] | the health of slabs, and missing shards put on other hosts |
//! | [`rows`], [`progress`], [`error`] | what reports and errors look like from outside; [`schema`] how their texts are described |

mod account;
pub mod archive;
pub mod backup;
mod bucket;
pub mod checkpoint;
pub mod contract;
pub mod error;
pub mod garbage;
pub mod journal;
mod memory;
pub mod news;
pub mod progress;
pub mod recovery;
pub mod renter;
pub mod repair;
pub mod rows;
pub mod schema;
mod slabs;
pub mod transfer;
pub mod vault;
pub mod world;

#[cfg(test)]
mod testing;

pub use renter::{OpenError, Renter, RenterConfig, RenterError, transfer as transfer_money};
