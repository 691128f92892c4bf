//! Exit codes: stable, documented, one meaning each. Where they fit they are those of restic: 3, 10, 11, 12, 130.

use std::process::ExitCode;

use crate::api::codes;

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
    /// A part was done: some files could not be stored or brought back; they are listed.
    Partial = 3,
    /// Refused: it exists already, is not allowed now, or a limit is reached.
    Refused = 4,
    /// The daemon, the chain or too many hosts cannot be reached.
    Unreachable = 5,
    /// Another node has taken over these words; this one no longer writes.
    Fenced = 7,
    /// The chain holds nothing for these words.
    NothingFound = 8,
    /// The vault, file, backup or host named does not exist.
    NotFound = 10,
    /// Another process uses the data folder.
    Locked = 11,
    /// The words or the passphrase are not the right ones, or make no sense.
    WrongSecret = 12,
    /// Stopped by the user.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, for `--help` and the documentation.
    pub const TABLE: [(Self, &'static str); 12] = [
        (Self::Ok, "done"),
        (Self::Failure, "failed; the message says at what and on what"),
        (Self::Usage, "the command line or a configuration makes no sense"),
        (Self::Partial, "done in part; what could not be read, stored or restored is listed"),
        (Self::Refused, "refused: it exists already, is not allowed now, or a limit is reached"),
        (Self::Unreachable, "the daemon, the chain or too many hosts cannot be reached"),
        (Self::Fenced, "another node has taken over these words"),
        (Self::NothingFound, "the chain holds nothing for these words"),
        (Self::NotFound, "the vault, file, backup or host named does not exist"),
        (Self::Locked, "another process uses the data folder"),
        (Self::WrongSecret, "the words or the passphrase are not the right ones, or make no sense"),
        (Self::Interrupted, "stopped by you (Ctrl-C) or by another command"),
    ];

    /// The exit for an error code of the API; the codes are listed in `docs/api.md`.
    #[must_use]
    pub fn of_code(code: &str) -> Self {
        let exit = codes::find(code).map(|code| code.exit);
        let found = Self::TABLE.iter().find(|(known, _)| exit == Some(*known as u8));
        found.map_or(Self::Failure, |(exit, _)| *exit)
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
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 130]);
    }

    #[test]
    fn codes_of_the_api_have_their_exits() {
        let cases = [
            ("no_vault", Exit::NotFound),
            ("partial", Exit::Partial),
            ("wrong_passphrase", Exit::WrongSecret),
            ("bad_path", Exit::Usage),
            ("bad_name", Exit::Usage),
            ("exists", Exit::Refused),
            ("no_quorum", Exit::Unreachable),
            ("fenced", Exit::Fenced),
            ("stopped", Exit::Interrupted),
            ("from the future", Exit::Failure),
        ];
        for (code, exit) in cases {
            assert_eq!(Exit::of_code(code), exit, "{code}");
        }
    }
}
