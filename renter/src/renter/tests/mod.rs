//! The whole renter over real hosts.

mod lineage;
mod recovery;
mod resume;
mod takeover;
mod vaults;
mod wire;
