//! The whole renter over real hosts.

mod recovery;
mod vaults;
mod wire;
