//! Hosts: what they announce, the requests they answer, and the rules by which they answer them.
//!
//! The rules are here and pure, over a narrow store; the daemon gives them disks and the simulator
//! gives them disks that fail.

pub mod announcement;
pub mod message;

pub use announcement::{HostAnnouncement, Prices, SignedPrices};
