//! Simulator and end-to-end test support.

pub mod synthetic;
