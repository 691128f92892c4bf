//! The samara daemon.

pub mod consensus;
pub mod host;
pub mod seed;
pub mod transport;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
