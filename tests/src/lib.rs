//! Simulator, lost power, fuzz targets, synthetic chains, benchmarks, and support for the end-to-end tests.

pub mod bench;
pub mod fuzz;
pub mod power;
pub mod sim;
pub mod synthetic;

/// Bytes that do not compress and are the same each time for a seed.
#[must_use]
pub fn noise(seed: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}
