//! Simulator, synthetic chains, benchmarks, and support for the end-to-end tests.

pub mod bench;
pub mod sim;
pub mod synthetic;
