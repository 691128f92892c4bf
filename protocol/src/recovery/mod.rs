//! Recovery: what the words alone bring back from the chain.
//!
//! [`scan`] finds the contracts. What follows (promises, heads, files) is driven by the renter.

pub mod scan;

pub use scan::{FoundContract, Scan, ScanError, ScanProgress, ScanState};
