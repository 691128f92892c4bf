//! Texts of `--help` that are made, not written.

use super::exit::Exit;

/// The exit codes as a table.
pub fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for (exit, meaning) in Exit::TABLE {
        text.push_str(&format!("  {:>3}  {meaning}\n", exit as u8));
    }
    text
}
