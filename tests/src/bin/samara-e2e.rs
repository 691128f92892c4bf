//! The `samara` binary.

fn main() -> std::process::ExitCode {
    samara_node::cli::run()
}
