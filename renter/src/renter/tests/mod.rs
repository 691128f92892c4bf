//! The whole renter over real hosts.

mod copies;
mod lineage;
mod recovery;
mod resume;
mod takeover;
mod vaults;
mod wire;
