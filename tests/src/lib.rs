//! Simulator, fuzz targets, synthetic chains, benchmarks, and support for the end-to-end tests.

pub mod bench;
pub mod fuzz;
pub mod sim;
pub mod synthetic;
