//! Hosts: what they announce, the requests they answer, and the rules by which they answer them.
//!
//! The rules are here and pure, over a narrow store; the daemon gives them disks and the simulator
//! gives them disks that fail.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`announcement`], [`message`], [`claim`] | what travels |
//! | [`core`] | [`Host`]: one entrance for all requests, contracts in memory |
//! | `payment` | prices, and what vouchers pay for |
//! | `agree`, `commit`, `head`, `sectors` | the rules for each kind of request |
//! | `sector_index`, `lock` | who still needs which sector; what threads share |
//! | [`prove`], [`upkeep`] | storage proofs; following the chain, renewals, sweeping |
//! | [`store`], [`memory`] | what is kept, and a store in memory for tests and simulations |

mod agree;
pub mod claim;
mod commit;
pub mod core;
mod head;
pub mod memory;
pub mod message;
mod payment;
pub mod prove;
mod sector_index;
mod sectors;
pub mod store;
#[cfg(test)]
mod tests;
pub mod upkeep;

pub use crate::contract::announcement;
pub use announcement::{HostAnnouncement, Prices, SignedPrices};
pub use claim::EpochClaim;
pub use core::{ChainFacts, Host, HostRules};
pub use memory::MemoryStore;
pub use store::{HostStore, HostStoreError};
