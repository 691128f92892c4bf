//! The whole renter over real hosts.

mod lineage;
mod recovery;
mod vaults;
mod wire;
