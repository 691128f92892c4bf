//! The samara daemon.

pub mod light;
pub mod seed;
pub mod transport;
pub mod consensus;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
