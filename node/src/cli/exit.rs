//! Exit codes: stable, documented, one meaning each.

use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed; the message says at what and on what.
    Failure = 1,
    /// The command line or a configuration makes no sense.
    Usage = 2,
    /// The vault, file, backup or host named does not exist.
    NotFound = 3,
    /// Refused: it exists already, is not allowed now, or a limit is reached.
    Refused = 4,
    /// The daemon, the chain or too many hosts cannot be reached.
    Unreachable = 5,
    /// A part was done: some files could not be stored or brought back; they are listed.
    Partial = 6,
    /// Another node has taken over these words; this one no longer writes.
    Fenced = 7,
    /// The chain holds nothing for these words.
    NothingFound = 8,
    /// Stopped by the user.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, for `--help` and the documentation.
    pub const TABLE: [(Self, &'static str); 10] = [
        (Self::Ok, "done"),
        (Self::Failure, "failed; the message says at what and on what"),
        (Self::Usage, "the command line or a configuration makes no sense"),
        (Self::NotFound, "the vault, file, backup or host named does not exist"),
        (Self::Refused, "refused: exists already, not allowed now, or a limit is reached"),
        (Self::Unreachable, "the daemon, the chain or too many hosts cannot be reached"),
        (Self::Partial, "done in part: the files that could not be stored or restored are listed"),
        (Self::Fenced, "another node has taken over these words"),
        (Self::NothingFound, "the chain holds nothing for these words"),
        (Self::Interrupted, "stopped by the user"),
    ];

    /// The exit for an error code of the API; the codes are listed in `docs/api.md`.
    #[must_use]
    pub fn of_code(code: &str) -> Self {
        match code {
            "not_found" | "no_vault" | "no_version" | "no_backup" | "no_source" => Self::NotFound,
            "exists"
            | "refused"
            | "conflict"
            | "read_only"
            | "no_allowance"
            | "no_role"
            | "invalid"
            | "bad_allowance"
            | "bad_description"
            | "bad_name"
            | "bad_path"
            | "bad_pattern"
            | "bad_range"
            | "no_destination"
            | "no_money"
            | "contract_out_of_money"
            | "too_large"
            | "not_started"
            | "started"
            | "active"
            | "recovering"
            | "running"
            | "transaction_refused" => Self::Refused,
            "unreachable" | "no_quorum" | "too_few_hosts" | "too_few_contracts" | "no_hosts"
            | "no_host_answers" | "chain_unreachable" => Self::Unreachable,
            "partial" => Self::Partial,
            "fenced" => Self::Fenced,
            "nothing_found" => Self::NothingFound,
            "interrupted" | "stopped" => Self::Interrupted,
            _ => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code_once() {
        let mut codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| *exit as u8).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }
}
