//! The whole renter over real hosts.

mod recovery;
mod takeover;
mod vaults;
