//! Simulator and end-to-end test support.

pub mod sim;
pub mod bench;
pub mod synthetic;
