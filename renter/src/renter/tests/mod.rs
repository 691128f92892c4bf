//! The whole renter over real hosts.

mod lineage;
mod recovery;
mod takeover;
mod vaults;
mod wire;
