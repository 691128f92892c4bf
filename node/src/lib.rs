//! The samara daemon.

pub mod chain;
pub mod consensus;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
