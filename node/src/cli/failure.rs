//! How a command fails: an exit code, a message, a hint.

use samara_renter::error::Details;
use serde_json::{Value, json};

use super::exit::Exit;
use crate::api::error::ApiError;
use crate::causes;
use crate::config::ConfigError;
use crate::daemon::{ChainRoleError, DaemonError, IdentityError};
use crate::data::DataError;
use crate::seed::command::SeedError;
use crate::seed::source::SourceError;

/// Why a command ended without doing what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// A stable word for programs.
    pub code: String,
    /// What was attempted, on what, and what went wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// What a program can use, by name: amounts, limits, the field that does not read.
    pub details: Option<Box<Details>>,
}

impl Failure {
    /// A failure without a code of the API.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Ok | Exit::Failure => "failed",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Refused => "refused",
            Exit::Unreachable => "unreachable",
            Exit::Partial => "partial",
            Exit::Fenced => "fenced",
            Exit::NothingFound => "nothing_found",
            Exit::Locked => "locked",
            Exit::WrongSecret => "wrong_secret",
            Exit::Interrupted => "interrupted",
        };
        Self { exit, code: code.to_owned(), message: message.into(), hint: None, details: None }
    }

    /// A failure as the API would have refused it.
    #[must_use]
    pub fn of_code(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), ..Self::new(Exit::of_code(code), message) }
    }

    /// A failure with everything that caused it, one after the other.
    #[must_use]
    pub fn of(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(exit, causes::with_causes(error))
    }

    /// The same with something to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with what a program can use of it.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = (!details.is_empty()).then(|| Box::new(details));
        self
    }

    /// For programs. As in the API's lines, there are details only where there is something to tell.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut line = json!({ "code": self.code, "message": self.message, "hint": self.hint });
        if let Some(details) = &self.details {
            line["details"] = json!(details);
        }
        line
    }

    /// The message without orders to a terminal; the lines of a log stay lines.
    fn plain_message(&self) -> String {
        let line = |line| super::display::rounded(&super::display::plain(line));
        self.message.split('\n').map(line).collect::<Vec<_>>().join("\n")
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("samara: {}\n  {hint}\n", self.plain_message()),
            None => format!("samara: {}\n", self.plain_message()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            exit: Exit::of_code(&error.code),
            code: error.code,
            message: error.message,
            hint: error.hint,
            details: error.details,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failure, format!("{error:#}"))
    }
}

impl From<crate::testnet::TestnetError> for Failure {
    fn from(error: crate::testnet::TestnetError) -> Self {
        use crate::testnet::TestnetError;
        let exit = match &error {
            TestnetError::Exists(_) | TestnetError::Running(_) | TestnetError::Up { .. } => {
                Exit::Refused
            }
            TestnetError::NoNetwork(_) | TestnetError::NoNode(_) => Exit::NotFound,
            TestnetError::Config(_) => Exit::Usage,
            TestnetError::Slow { .. } => Exit::Unreachable,
            TestnetError::Api { source, .. } => Exit::of_code(&source.code),
            _ => Exit::Failure,
        };
        Self::of(exit, &error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(Exit::Usage, &error)
    }
}

impl From<SeedError> for Failure {
    fn from(error: SeedError) -> Self {
        let exit = match &error {
            SeedError::Source(source) => words(source),
            _ => Exit::Failure,
        };
        Self::of(exit, &error)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::of(words(&error), &error)
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let exit = match &error {
            DaemonError::Data(DataError::Locked(_)) => Exit::Locked,
            DaemonError::Data(DataError::Version { .. }) => Exit::Refused,
            DaemonError::Config(_) | DaemonError::Chain(ChainRoleError::Config(_)) => Exit::Usage,
            DaemonError::Identity(error) => identity(error),
            _ => Exit::Failure,
        };
        Self::of(exit, &error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::of(identity(&error), &error)
    }
}

fn identity(error: &IdentityError) -> Exit {
    match error {
        IdentityError::Config(_) => Exit::Usage,
        IdentityError::Words(source) => words(source),
        IdentityError::Random(_) => Exit::Failure,
    }
}

/// Words that are no phrase, or a passphrase that opens nothing, were mistyped; everything else is in the way of
/// reading them.
fn words(error: &SourceError) -> Exit {
    if error.is_wrong_secret() { Exit::WrongSecret } else { Exit::Failure }
}

#[cfg(test)]
mod tests {
    use samara_protocol::keys::PhraseError;

    use super::*;
    use crate::seed::source::SeedSource;

    #[test]
    fn an_error_of_the_api_keeps_what_it_says() {
        let limit = || Details::from_iter([("limit".to_owned(), json!(3))]);
        let error = ApiError::new("limit", "too many").with_details(limit());
        let line = Failure::from(error).to_json();
        assert_eq!(line["details"], json!({ "limit": 3 }), "{line}");

        let failure = Failure::from(ApiError::new("fenced", "stopped writing"));
        assert!(failure.to_json().get("details").is_none());
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Fenced, "fenced"));
        assert!(failure.to_text().starts_with("samara: stopped writing\n  use the other node"));
    }

    #[test]
    fn words_that_are_no_phrase_make_no_sense() {
        let wrong = || SourceError::Phrase {
            origin: SeedSource::Stdin,
            source: PhraseError::WordCount { count: 3 },
        };
        assert_eq!(Failure::from(wrong()).exit, Exit::WrongSecret);
        assert_eq!(Failure::from(SeedError::from(wrong())).exit, Exit::WrongSecret);
        let missing = SourceError::NotSet { variable: "SAMARA_WORDS" };
        assert_eq!(Failure::from(SeedError::from(missing)).exit, Exit::Failure);
    }

    #[test]
    fn a_node_on_a_folder_in_use_is_refused() {
        let locked = DaemonError::Data(DataError::Locked("/d".into()));
        assert_eq!(Failure::from(locked).exit, Exit::Locked);
        let signals = DaemonError::Signals(std::io::Error::other("no"));
        assert_eq!(Failure::from(signals).exit, Exit::Failure);
    }
}
