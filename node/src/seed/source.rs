//! Reading words and passphrases from where the operator says they are.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use samara_protocol::keys::{Phrase, PhraseError, Seed, phrase};
use zeroize::Zeroizing;

use super::console::Console;
use super::private_file::{self, PrivateFileError, Readers};
use super::store::{self, LoadError};

/// The variable that holds the words.
pub const WORDS_VARIABLE: &str = "SAMARA_WORDS";
/// The variable that holds the BIP39 passphrase that belongs to the words.
pub const SEED_PASSPHRASE_VARIABLE: &str = "SAMARA_SEED_PASSPHRASE";
/// The variable that holds the passphrase of a sealed file.
pub const SEALING_PASSPHRASE_VARIABLE: &str = "SAMARA_SEALING_PASSPHRASE";

/// Longest passphrase that a file or the environment may hold, in bytes.
const MAX_PASSPHRASE_LEN: usize = 1024;

/// Where the words are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedSource {
    /// A person types them; they are not shown.
    Prompt,
    /// Standard input.
    Stdin,
    /// [`WORDS_VARIABLE`].
    Environment,
    /// A plain file that is ours and for us alone.
    File(PathBuf),
    /// A file sealed under a passphrase.
    Sealed(PathBuf),
}

/// Where a passphrase is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseSource {
    /// There is none.
    None,
    /// A person types it; it is not shown.
    Prompt,
    /// The variable for passphrases of this kind.
    Environment,
    /// A plain file that is ours and for us alone; a line's end after it is dropped.
    File(PathBuf),
}

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ParseSourceError {
    expected: &'static str,
}

impl ParseSourceError {
    /// A text that is none of these.
    pub(crate) const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}

impl FromStr for SeedSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        match text.split_once(':') {
            None if text == "prompt" => Ok(Self::Prompt),
            None if text == "stdin" => Ok(Self::Stdin),
            None if text == "environment" => Ok(Self::Environment),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("sealed", path)) if !path.is_empty() => Ok(Self::Sealed(path.into())),
            _ => Err(ParseSourceError {
                expected: "prompt, stdin, environment, file:PATH or sealed:PATH",
            }),
        }
    }
}

impl FromStr for PassphraseSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "prompt" => Ok(Self::Prompt),
            None if text == "environment" => Ok(Self::Environment),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(ParseSourceError { expected: "none, prompt, environment or file:PATH" }),
        }
    }
}

impl fmt::Display for SeedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt => f.write_str("prompt"),
            Self::Stdin => f.write_str("stdin"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Sealed(path) => write!(f, "sealed:{}", path.display()),
        }
    }
}

/// Why words or a passphrase could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No terminal, or it was closed.
    #[error(
        "cannot ask on a terminal; --words-from, --sealing-passphrase-from and \
        --seed-passphrase-from name other sources"
    )]
    Prompt(#[source] io::Error),
    /// Standard input failed.
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    /// The operator said the environment, and nothing is there.
    #[error("the variable {variable} is not set")]
    NotSet {
        /// Its name.
        variable: &'static str,
    },
    /// Bytes that are not UTF-8 text.
    #[error("what {origin} gives is not UTF-8 text")]
    NotText {
        /// Where they came from.
        origin: String,
    },
    /// The words are not a phrase.
    #[error("the words from {origin} are not a phrase")]
    Phrase {
        /// Where they came from.
        origin: SeedSource,
        /// What is wrong with them.
        source: PhraseError,
    },
    /// A stored phrase was not read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A passphrase's file was not read.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A passphrase of many bytes.
    #[error("the passphrase is longer than {MAX_PASSPHRASE_LEN} bytes")]
    LongPassphrase,
}

impl SourceError {
    /// Whether words or passphrase were found and read, and are not the right ones.
    #[must_use]
    pub fn is_wrong_secret(&self) -> bool {
        self.phrase_error().is_some() || matches!(self, Self::Load(LoadError::Open { .. }))
    }

    /// What is wrong with the words, if they were found and read.
    #[must_use]
    pub fn phrase_error(&self) -> Option<&PhraseError> {
        match self {
            Self::Phrase { source, .. } | Self::Load(LoadError::Phrase { source, .. }) => {
                Some(source)
            }
            _ => None,
        }
    }
}

/// Options that say where the words are. There is none for the words themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct WordsArguments {
    /// Where the words are: prompt, stdin, environment (SAMARA_WORDS), file:PATH (mode 0600) or
    /// sealed:PATH [default: prompt on a terminal, else stdin]
    #[arg(long, value_name = "SOURCE")]
    pub words_from: Option<SeedSource>,
    /// Where the passphrase of a sealed file is: prompt, environment (SAMARA_SEALING_PASSPHRASE) or
    /// file:PATH [default: prompt]
    #[arg(long, value_name = "SOURCE")]
    pub sealing_passphrase_from: Option<PassphraseSource>,
}

impl WordsArguments {
    /// The source that was named, or the one that fits the console.
    fn source(&self, console: &dyn Console) -> SeedSource {
        self.words_from.clone().unwrap_or_else(|| {
            if console.stdin_is_terminal() { SeedSource::Prompt } else { SeedSource::Stdin }
        })
    }

    /// Reads the words.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(&self, console: &mut dyn Console) -> Result<Phrase, SourceError> {
        let origin = self.source(console);
        let text = match &origin {
            SeedSource::File(path) => return Ok(store::load_plain(path)?),
            SeedSource::Sealed(path) => {
                let passphrase = self.sealing_passphrase(console)?;
                return Ok(store::load_sealed(path, &passphrase)?);
            }
            SeedSource::Environment => variable(console, WORDS_VARIABLE)?
                .ok_or(SourceError::NotSet { variable: WORDS_VARIABLE })?,
            // Words typed into a terminal's standard input would be shown.
            SeedSource::Stdin if !console.stdin_is_terminal() => {
                let bytes = console.read_stdin(phrase::MAX_TEXT_LEN).map_err(SourceError::Stdin)?;
                text(&bytes, "standard input")?
            }
            SeedSource::Prompt | SeedSource::Stdin => {
                console.prompt_secret("Words: ").map_err(SourceError::Prompt)?
            }
        };
        Phrase::parse(&text).map_err(|source| SourceError::Phrase { origin, source })
    }

    /// Reads the words, and asks a person again for as long as what is typed is no phrase. The next line
    /// would otherwise be typed into the shell.
    ///
    /// # Errors
    /// As [`WordsArguments::read`].
    pub fn read_patiently(&self, console: &mut dyn Console) -> Result<Phrase, SourceError> {
        loop {
            match self.read(console) {
                Err(SourceError::Phrase {
                    origin: SeedSource::Prompt | SeedSource::Stdin,
                    source,
                }) if console.stdin_is_terminal() => {
                    console
                        .notice(&format!("{source}; type them again"))
                        .map_err(SourceError::Prompt)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn sealing_passphrase(
        &self,
        console: &mut dyn Console,
    ) -> Result<Zeroizing<String>, SourceError> {
        let source = self.sealing_passphrase_from.as_ref().unwrap_or(&PassphraseSource::Prompt);
        source.read(SEALING_PASSPHRASE_VARIABLE, "Passphrase of the sealed words: ", console)
    }
}

/// Options that say where the words and the passphrase that belongs to them are.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct SeedArguments {
    /// Where the words are.
    #[command(flatten)]
    pub words: WordsArguments,
    /// Where the BIP39 passphrase that belongs to the words is: none, prompt, environment
    /// (SAMARA_SEED_PASSPHRASE) or file:PATH [default: none; with words from the environment, the
    /// environment, where it may be missing]
    #[arg(long, value_name = "SOURCE")]
    pub seed_passphrase_from: Option<PassphraseSource>,
}

impl SeedArguments {
    /// Reads the words and their passphrase and gives the seed of both.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(&self, console: &mut dyn Console) -> Result<Seed, SourceError> {
        let phrase = self.words.read(console)?;
        let passphrase = match &self.seed_passphrase_from {
            Some(source) => {
                source.read(SEED_PASSPHRASE_VARIABLE, "Passphrase of the words: ", console)?
            }
            None if self.words.words_from == Some(SeedSource::Environment) => {
                variable(console, SEED_PASSPHRASE_VARIABLE)?.unwrap_or_default()
            }
            None => Zeroizing::default(),
        };
        Ok(phrase.seed(&passphrase))
    }
}

impl PassphraseSource {
    /// Reads a passphrase; `name` is the variable and `prompt` the question for its kind.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(
        &self,
        name: &'static str,
        prompt: &str,
        console: &mut dyn Console,
    ) -> Result<Zeroizing<String>, SourceError> {
        let passphrase = match self {
            Self::None => Zeroizing::default(),
            Self::Prompt => console.prompt_secret(prompt).map_err(SourceError::Prompt)?,
            Self::Environment => {
                variable(console, name)?.ok_or(SourceError::NotSet { variable: name })?
            }
            Self::File(path) => {
                let bytes = private_file::read(path, MAX_PASSPHRASE_LEN, Readers::OwnerOnly)?;
                let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                text(line, &path.display().to_string())?
            }
        };
        if passphrase.len() > MAX_PASSPHRASE_LEN {
            return Err(SourceError::LongPassphrase);
        }
        Ok(passphrase)
    }
}

fn variable(
    console: &dyn Console,
    name: &'static str,
) -> Result<Option<Zeroizing<String>>, SourceError> {
    console
        .variable(name)
        .map(|value| value.into_string().map(Zeroizing::new))
        .transpose()
        .map_err(|_| SourceError::NotText { origin: name.to_owned() })
}

fn text(bytes: &[u8], origin: &str) -> Result<Zeroizing<String>, SourceError> {
    std::str::from_utf8(bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| SourceError::NotText { origin: origin.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::tests::{LEGAL, Script, legal};

    fn from(source: SeedSource) -> WordsArguments {
        WordsArguments { words_from: Some(source), sealing_passphrase_from: None }
    }

    #[test]
    fn sources_are_named_by_text() {
        for text in ["prompt", "stdin", "environment", "file:/a:b", "sealed:seed"] {
            assert_eq!(text.parse::<SeedSource>().unwrap().to_string(), text);
        }
        for text in ["", "file", "file:", "sealed:", "words:legal", LEGAL] {
            assert!(text.parse::<SeedSource>().is_err(), "{text}");
        }
        assert_eq!("none".parse(), Ok(PassphraseSource::None));
        assert_eq!("file:p".parse(), Ok(PassphraseSource::File("p".into())));
        assert!("hunter2".parse::<PassphraseSource>().is_err());
    }

    #[test]
    fn reads_the_prompt_on_a_terminal_and_stdin_otherwise() {
        let mut terminal = Script::terminal(|_, _| LEGAL.to_owned());
        assert_eq!(WordsArguments::default().read(&mut terminal).unwrap(), legal());
        // A terminal's own standard input would show the words.
        assert_eq!(from(SeedSource::Stdin).read(&mut terminal).unwrap(), legal());
        let mut pipe = Script { stdin: format!("{LEGAL}\n").into_bytes(), ..Script::default() };
        assert_eq!(WordsArguments::default().read(&mut pipe).unwrap(), legal());
        let mut binary = Script { stdin: vec![0xff; 10], ..Script::default() };
        let refused = WordsArguments::default().read(&mut binary);
        assert!(matches!(refused, Err(SourceError::NotText { .. })));
        let mut endless = Script { stdin: vec![b'a'; 1 << 20], ..Script::default() };
        let refused = WordsArguments::default().read(&mut endless).unwrap_err();
        assert!(matches!(refused.phrase_error(), Some(PhraseError::TooLong { .. })));
    }

    #[test]
    fn the_environment_counts_only_when_named() {
        let mut console = Script { stdin: b"nothing".to_vec(), ..Script::default() };
        console.variables.insert(WORDS_VARIABLE, LEGAL.into());
        assert!(WordsArguments::default().read(&mut console).is_err());
        assert_eq!(from(SeedSource::Environment).read(&mut console).unwrap(), legal());
        console.variables.clear();
        let missing = from(SeedSource::Environment).read(&mut console);
        assert!(matches!(missing, Err(SourceError::NotSet { variable: WORDS_VARIABLE })));
    }

    #[test]
    fn the_seed_passphrase_is_mixed_in() {
        let mut console = Script::default();
        console.variables.insert(WORDS_VARIABLE, LEGAL.into());
        let mut arguments =
            SeedArguments { words: from(SeedSource::Environment), seed_passphrase_from: None };
        let seed = arguments.read(&mut console).unwrap();
        assert_eq!(seed.as_bytes(), legal().seed("").as_bytes());
        console.variables.insert(SEED_PASSPHRASE_VARIABLE, "TREZOR".into());
        let seed = arguments.read(&mut console).unwrap();
        assert_eq!(seed.as_bytes(), legal().seed("TREZOR").as_bytes());
        arguments.seed_passphrase_from = Some(PassphraseSource::None);
        let seed = arguments.read(&mut console).unwrap();
        assert_eq!(seed.as_bytes(), legal().seed("").as_bytes());
    }

    #[test]
    fn files_are_read_plain_and_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));
        store::store_plain(&plain, &legal()).unwrap();
        store::store_sealed(&sealed, &legal(), "hunter2").unwrap();
        let secret = folder.path().join("passphrase");
        private_file::create(&secret, b"hunter2\r\n").unwrap();

        let mut console = Script::default();
        assert_eq!(from(SeedSource::File(plain)).read(&mut console).unwrap(), legal());
        let mut arguments = from(SeedSource::Sealed(sealed));
        arguments.sealing_passphrase_from = Some(PassphraseSource::File(secret));
        assert_eq!(arguments.read(&mut console).unwrap(), legal());
        arguments.sealing_passphrase_from = Some(PassphraseSource::Environment);
        console.variables.insert(SEALING_PASSPHRASE_VARIABLE, "hunter3".into());
        let wrong = arguments.read(&mut console);
        assert!(matches!(wrong, Err(SourceError::Load(LoadError::Open { .. }))));
    }
}
