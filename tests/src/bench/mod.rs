//! Benchmarks: figures for people, never assertions.
//!
//! Each prints a table or one JSON object. Ratios inside one run are worth more than absolutes: the
//! coding benchmark times memcpy between its rounds, and the others name what the machine did besides.

pub mod coding;
pub mod names;
mod network;
pub mod puts;
pub mod report;
pub mod scan;
pub mod transfer;

/// A benchmark by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Benchmark {
    /// Seal, encode, rebuild and hash on one core, against memcpy
    Coding,
    /// Upload, download and first byte of one object on a local network
    Transfer,
    /// Acknowledged puts of 1 KiB by many writers on a local network
    Puts,
    /// A backup after one change among many files, and a recovery that lists them all
    Names,
    /// Recovery scan of a synthetic chain over loopback
    Scan,
}
