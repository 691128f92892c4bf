//! Fetching a file from a URL that somebody else has chosen.
//!
//! `target` reads the URL and finds its addresses, [`address`] says which of them may be dialled,
//! `transfer` follows redirects, takes the bytes within limits, and goes on where it was cut, `sink`
//! keeps them.
//!
//! Invariants: every address is checked before it is dialled, after each redirect and each time that a
//! transfer goes on, and none but a checked one is dialled; nothing of a transfer that failed, or whose
//! future was dropped, is left on the disk; memory does not grow with what a server sends.

pub mod address;
mod error;
mod sink;
mod target;
#[cfg(test)]
mod tests;
mod transfer;

pub use address::Network;
pub use error::FetchError;
pub use target::{Checked, Resolver, SystemResolver, Target};
pub use transfer::{Fetched, Fetcher, Limits, Progress, fetch};
