//! Simulator and end-to-end test support.

pub mod bench;
pub mod sim;
pub mod synthetic;
