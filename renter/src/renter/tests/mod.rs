//! The whole renter over real hosts.

mod garbage;
mod lineage;
mod recovery;
mod resume;
mod takeover;
mod vaults;
mod wire;
