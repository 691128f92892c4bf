//! `samara seed new` and `samara seed check`.

use std::io;
use std::path::PathBuf;

use samara_protocol::keys::{Phrase, PhraseError, phrase};
use serde::Serialize;
use zeroize::Zeroizing;

use super::console::{Console, ProcessConsole};
use super::private_file;
use super::source::{PassphraseSource, SEALING_PASSPHRASE_VARIABLE, SourceError, WordsArguments};
use super::store::{self, StoreError};

/// Words that a person must type back before the phrase counts as written down.
const CONFIRMED_WORDS: usize = 3;
/// Wrong answers after which the phrase counts as not written down.
const MAX_WRONG_ANSWERS: usize = 3;

/// Makes and checks the words from which everything grows.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum SeedCommand {
    /// Draw new words and show them, once.
    New(NewArguments),
    /// Say whether words are a phrase, and if not, which one is wrong.
    Check(WordsArguments),
}

/// Options of `seed new`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct NewArguments {
    /// How many words: 12 hold 128 bits, 24 hold 256.
    #[arg(long, value_enum, default_value_t)]
    pub words: WordCount,
    /// Also store the words in a new file, sealed under a passphrase.
    #[arg(long, value_name = "PATH", conflicts_with = "plain")]
    pub seal: Option<PathBuf>,
    /// Where the sealing passphrase is: prompt, environment (SAMARA_SEALING_PASSPHRASE) or file:PATH
    /// [default: prompt]
    #[arg(long, value_name = "SOURCE", requires = "seal")]
    pub sealing_passphrase_from: Option<PassphraseSource>,
    /// Also store the words unsealed in a new 0600 file. Whoever reads it owns everything.
    #[arg(long, value_name = "PATH")]
    pub plain: Option<PathBuf>,
    /// Do not ask for three of the words on a terminal.
    #[arg(long)]
    pub no_confirm: bool,
}

/// How many words a new phrase has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WordCount {
    /// 128 bits.
    #[default]
    #[value(name = "12")]
    Twelve,
    /// 256 bits.
    #[value(name = "24")]
    TwentyFour,
}

/// Why a seed command failed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The words or a passphrase were not read, or are not a phrase.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
    /// The two passphrases typed differ.
    #[error("the two passphrases differ; nothing was stored")]
    PassphrasesDiffer,
    /// Three words were not given back.
    #[error(
        "the words were not confirmed and nothing was stored; start again and write them down first"
    )]
    NotConfirmed,
    /// The words were not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing can be asked or shown.
    #[error("cannot use the terminal")]
    Console(#[from] io::Error),
}

/// Runs a seed command on this process's console. Blocks.
///
/// # Errors
/// [`SeedError`]. `seed check` also fails when the words are not a phrase, so that its exit code
/// says it; with `json` the report is on standard output all the same.
pub fn run(command: &SeedCommand, json: bool) -> Result<(), SeedError> {
    run_on(command, json, &mut ProcessConsole)
}

/// Runs a seed command on any console.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    command: &SeedCommand,
    json: bool,
    console: &mut dyn Console,
) -> Result<(), SeedError> {
    match command {
        SeedCommand::New(arguments) => new(arguments, json, console),
        SeedCommand::Check(arguments) => check(arguments, json, console),
    }
}

/// Draws a phrase from the system's randomness.
///
/// # Errors
/// [`SeedError::Random`].
pub fn draw(count: WordCount) -> Result<Phrase, SeedError> {
    let len = match count {
        WordCount::Twelve => 16,
        WordCount::TwentyFour => 32,
    };
    let mut entropy = Zeroizing::new(vec![0; len]);
    getrandom::fill(&mut entropy).map_err(SeedError::Random)?;
    Ok(Phrase::from_entropy(&entropy).expect("invariant: 16 and 32 bytes have a phrase"))
}

fn new(arguments: &NewArguments, json: bool, console: &mut dyn Console) -> Result<(), SeedError> {
    show_new(arguments, json, console)?.store(arguments, console)
}

/// Words that were drawn, shown and confirmed, and are not stored yet.
pub struct NewWords {
    phrase: Phrase,
    passphrase: Zeroizing<String>,
}

/// Draws words, shows them, and asks all that there is to ask. Everything that can fail without the words
/// comes before they are shown, and nothing is stored.
///
/// # Errors
/// [`SeedError`].
pub fn show_new(
    arguments: &NewArguments,
    json: bool,
    console: &mut dyn Console,
) -> Result<NewWords, SeedError> {
    for path in arguments.seal.iter().chain(&arguments.plain) {
        private_file::check_absent(path).map_err(StoreError::File)?;
    }
    let passphrase = match &arguments.seal {
        Some(_) => new_passphrase(arguments.sealing_passphrase_from.as_ref(), console)?,
        None => Zeroizing::default(),
    };
    let phrase = draw(arguments.words)?;
    if json {
        console.print(&json_line(&NewReport {
            count: phrase.word_count(),
            words: phrase.words().collect(),
        }))?;
    } else {
        console.print(&numbered(&phrase))?;
    }
    let person = console.stdin_is_terminal() && console.stdout_is_terminal();
    if person && !json && !arguments.no_confirm {
        console.notice("Write the words down in this order. They are not shown again.")?;
        confirm(&phrase, console)?;
    }
    Ok(NewWords { phrase, passphrase })
}

impl NewWords {
    /// Stores them as the arguments say.
    ///
    /// # Errors
    /// [`SeedError::Store`].
    pub fn store(
        &self,
        arguments: &NewArguments,
        console: &mut dyn Console,
    ) -> Result<(), SeedError> {
        if let Some(path) = &arguments.seal {
            store::store_sealed(path, &self.phrase, &self.passphrase)?;
            console.notice(&format!("Sealed in {}.", path.display()))?;
        }
        if let Some(path) = &arguments.plain {
            store::store_plain(path, &self.phrase).map_err(StoreError::File)?;
            console.notice(&format!("Stored unsealed in {}.", path.display()))?;
        }
        Ok(())
    }
}

/// The passphrase to seal with. A person types it twice, because nobody can undo a typing error, and is
/// asked again after one.
///
/// # Errors
/// [`SeedError`] of the source, or after too many slips.
pub fn new_passphrase(
    source: Option<&PassphraseSource>,
    console: &mut dyn Console,
) -> Result<Zeroizing<String>, SeedError> {
    let source = source.unwrap_or(&PassphraseSource::Prompt);
    let person = *source == PassphraseSource::Prompt;
    let mut slips = 0;
    loop {
        let mut ask = |prompt| source.read(SEALING_PASSPHRASE_VARIABLE, prompt, console);
        let passphrase = ask("New passphrase to seal the words with: ")?;
        let problem = if passphrase.is_empty() {
            SeedError::Store(StoreError::EmptyPassphrase)
        } else if person && ask("Again: ")? != passphrase {
            SeedError::PassphrasesDiffer
        } else {
            return Ok(passphrase);
        };
        slips += 1;
        if !person || slips == MAX_WRONG_ANSWERS {
            return Err(problem);
        }
        console.notice(&format!("{problem}. Once more, please."))?;
    }
}

fn numbered(phrase: &Phrase) -> Zeroizing<String> {
    // Room for 24 lines of a number and eight letters: growing would leave copies behind.
    let mut lines = Zeroizing::new(String::with_capacity(24 * 16));
    for (index, word) in phrase.words().enumerate() {
        let number = index + 1;
        if number < 10 {
            lines.push(' ');
        }
        lines.push_str(&number.to_string());
        lines.push_str(". ");
        lines.push_str(word);
        lines.push('\n');
    }
    lines
}

/// Asks for three words at random places.
fn confirm(phrase: &Phrase, console: &mut dyn Console) -> Result<(), SeedError> {
    let words: Vec<&str> = phrase.words().collect();
    let mut wrong = 0;
    for index in random_places(words.len())? {
        let number = index + 1;
        loop {
            let answer = console.prompt_secret(&format!("Word {number}: "))?;
            if phrase::normalize(answer.trim()).eq_ignore_ascii_case(words[index]) {
                break;
            }
            wrong += 1;
            if wrong == MAX_WRONG_ANSWERS {
                return Err(SeedError::NotConfirmed);
            }
            console.notice(&format!("That is not word {number}."))?;
        }
    }
    Ok(())
}

/// Three different indexes below `count`, in order, each as likely as any other.
fn random_places(count: usize) -> Result<Vec<usize>, SeedError> {
    let mut places: Vec<usize> = (0..count).collect();
    let mut chosen = Vec::with_capacity(CONFIRMED_WORDS);
    while chosen.len() < CONFIRMED_WORDS {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(SeedError::Random)?;
        let byte = usize::from(byte[0]);
        // Bytes beyond the last whole multiple would favour the first places.
        if byte < 256 - 256 % places.len() {
            chosen.push(places.swap_remove(byte % places.len()));
        }
    }
    chosen.sort_unstable();
    Ok(chosen)
}

fn check(
    arguments: &WordsArguments,
    json: bool,
    console: &mut dyn Console,
) -> Result<(), SeedError> {
    let outcome = arguments.read(console);
    if json {
        console.print(&json_line(&CheckReport::new(&outcome)))?;
    } else if let Ok(phrase) = &outcome {
        let count = phrase.word_count();
        console.print(&format!("The {count} words are a phrase: all known, checksum right.\n"))?;
    }
    outcome.map(drop).map_err(SeedError::from)
}

/// What `seed new --json` prints.
#[derive(Serialize)]
struct NewReport {
    count: usize,
    words: Vec<&'static str>,
}

/// What `seed check --json` prints.
#[derive(Serialize)]
struct CheckReport<'a> {
    ok: bool,
    /// Words found, when they could be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    /// `word_count`, `unknown_words`, `checksum`, `too_long` or `unreadable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    /// The problem in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<UnknownReport<'a>>,
}

#[derive(Serialize)]
struct UnknownReport<'a> {
    position: usize,
    word: &'a str,
    near: &'a [&'static str],
}

impl<'a> CheckReport<'a> {
    fn new(outcome: &'a Result<Phrase, SourceError>) -> Self {
        let error = match outcome {
            Ok(phrase) => {
                let count = Some(phrase.word_count());
                return Self { ok: true, count, problem: None, message: None, unknown: Vec::new() };
            }
            Err(error) => error,
        };
        let (problem, count, unknown) = match error.phrase_error() {
            None => ("unreadable", None, Vec::new()),
            Some(PhraseError::TooLong { .. }) => ("too_long", None, Vec::new()),
            Some(PhraseError::WordCount { count }) => ("word_count", Some(*count), Vec::new()),
            Some(PhraseError::Checksum { count }) => ("checksum", Some(*count), Vec::new()),
            Some(PhraseError::UnknownWords { words }) => {
                let unknown = words.iter().map(|unknown| UnknownReport {
                    position: unknown.position,
                    word: &unknown.word,
                    near: &unknown.near,
                });
                ("unknown_words", None, unknown.collect())
            }
        };
        let message = match error.phrase_error() {
            Some(error) => error.to_string(),
            None => crate::causes::with_causes(error),
        };
        Self { ok: false, count, problem: Some(problem), message: Some(message), unknown }
    }
}

/// A report as every command prints it.
#[derive(Serialize)]
struct Line<'a, T> {
    message_type: &'static str,
    #[serde(flatten)]
    report: &'a T,
}

fn json_line<T: Serialize>(report: &T) -> Zeroizing<String> {
    let mut line = serde_json::to_string(&Line { message_type: "result", report })
        .expect("invariant: reports are structs of texts, numbers and lists");
    line.push('\n');
    Zeroizing::new(line)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory as _, Parser};
    use serde_json::Value;

    use super::*;
    use crate::seed::source::{SeedArguments, SeedSource};
    use crate::seed::tests::{LEGAL, Script, legal};

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: SeedCommand,
    }

    fn parse(line: &str) -> SeedCommand {
        Line::try_parse_from(line.split(' ')).unwrap().command
    }

    /// Answers the question `Word n: ` from the numbered list printed before.
    fn written_down(prompt: &str, output: &str) -> String {
        let number = prompt.trim_start_matches("Word ").trim_end_matches(": ");
        let line = output.lines().find(|line| line.trim_start().starts_with(&format!("{number}.")));
        line.unwrap().split(". ").nth(1).unwrap().to_uppercase()
    }

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
        let expected = NewArguments { words: WordCount::TwentyFour, ..NewArguments::default() };
        assert_eq!(parse("seed new --words 24"), SeedCommand::New(expected));
        let SeedCommand::Check(check) = parse("seed check --words-from sealed:x") else { panic!() };
        assert_eq!(check.words_from, Some(SeedSource::Sealed("x".into())));
        for line in ["seed new --words 15", "seed check legal", "seed new --seal a --plain b"] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    /// A command that takes the words, as others do.
    #[derive(Parser)]
    struct Daemon {
        #[command(flatten)]
        seed: SeedArguments,
    }

    #[test]
    fn options_keep_the_descriptions_of_their_commands() {
        let about = |command: &clap::Command| command.get_about().unwrap().to_string();
        assert_eq!(about(&Daemon::command()), "A command that takes the words, as others do");
        let line = Line::command();
        let check = line.find_subcommand("check").unwrap();
        assert!(about(check).starts_with("Say whether words are a phrase"));
        assert!(about(line.find_subcommand("new").unwrap()).starts_with("Draw new words"));
        let daemon = Daemon::try_parse_from(["daemon", "--words-from", "stdin"]).unwrap();
        assert_eq!(daemon.seed.words.words_from, Some(SeedSource::Stdin));
    }

    #[test]
    fn new_words_are_numbered_and_are_a_phrase() {
        for (words, count) in [("12", 12), ("24", 24)] {
            let mut console = Script::default();
            run_on(&parse(&format!("seed new --words {words}")), false, &mut console).unwrap();
            assert_eq!(Phrase::parse(&console.output).unwrap().word_count(), count);
            assert!(console.output.contains(" 1. "));
            assert_eq!(console.output.lines().count(), count);
        }
    }

    #[test]
    fn new_words_as_json() {
        let mut console = Script::terminal(|_, _| panic!("json asks nothing"));
        run_on(&parse("seed new"), true, &mut console).unwrap();
        let report: Value = serde_json::from_str(&console.output).unwrap();
        let words: Vec<&str> =
            report["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!((report["count"].as_u64(), words.len()), (Some(12), 12));
        assert!(Phrase::parse(&words.join(" ")).is_ok());
    }

    #[test]
    fn a_person_confirms_three_words_before_anything_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        let command = parse(&format!("seed new --plain {}", path.display()));

        let mut forgetful = Script::terminal(|_, _| "zoo?".to_owned());
        let outcome = run_on(&command, false, &mut forgetful);
        assert!(matches!(outcome, Err(SeedError::NotConfirmed)));
        assert_eq!(forgetful.prompts.len(), MAX_WRONG_ANSWERS);
        assert!(!path.exists());

        let mut careful = Script::terminal(written_down);
        run_on(&command, false, &mut careful).unwrap();
        assert_eq!(careful.prompts.len(), CONFIRMED_WORDS);
        assert_eq!(store::load_plain(&path).unwrap(), Phrase::parse(&careful.output).unwrap());

        let mut again = Script::terminal(written_down);
        assert!(matches!(run_on(&command, false, &mut again), Err(SeedError::Store(_))));
        assert!(again.output.is_empty(), "words that cannot be stored are not shown");
    }

    #[test]
    fn new_words_are_sealed_under_a_passphrase_typed_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let command = parse(&format!("seed new --no-confirm --seal {}", path.display()));

        let mut slip = Script::terminal(|prompt, _| prompt.to_owned());
        assert!(matches!(run_on(&command, false, &mut slip), Err(SeedError::PassphrasesDiffer)));
        let mut nothing = Script::terminal(|_, _| String::new());
        assert!(matches!(
            run_on(&command, false, &mut nothing),
            Err(SeedError::Store(StoreError::EmptyPassphrase))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // One slip is asked again.
        let mut answers = ["one", "two", "", "three", "three"].into_iter();
        let mut mended =
            Script::terminal(move |_, _| answers.next().unwrap_or_default().to_owned());
        let source = Some(&PassphraseSource::Prompt);
        assert_eq!(*new_passphrase(source, &mut mended).unwrap(), "three");

        let mut console = Script::terminal(|_, _| "hunter2".to_owned());
        run_on(&command, false, &mut console).unwrap();
        let stored = store::load_sealed(&path, "hunter2").unwrap();
        assert_eq!(stored, Phrase::parse(&console.output).unwrap());
    }

    #[test]
    fn places_are_different_and_in_range() {
        for _ in 0..100 {
            let places = random_places(12).unwrap();
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(places.len() == CONFIRMED_WORDS && places[2] < 12);
        }
    }

    fn checked(words: &str) -> (Result<(), SeedError>, Value) {
        let mut console = Script { stdin: words.as_bytes().to_vec(), ..Script::default() };
        let outcome = run_on(&parse("seed check"), true, &mut console);
        (outcome, serde_json::from_str(&console.output).unwrap())
    }

    #[test]
    fn check_says_what_is_wrong() {
        let (outcome, report) = checked(LEGAL);
        assert!(outcome.is_ok());
        let expected = serde_json::json!({"message_type": "result", "ok": true, "count": 12});
        assert_eq!(report, expected);

        let (outcome, report) = checked(&LEGAL.replace("wave", "waev"));
        assert!(matches!(outcome, Err(SeedError::Source(SourceError::Phrase { .. }))));
        assert_eq!(report["problem"], "unknown_words");
        assert_eq!(report["unknown"][0]["position"], 5);
        assert_eq!(report["unknown"][0]["near"][0], "wave");

        let (_, report) = checked(&LEGAL.replace("yellow", "zoo"));
        assert_eq!(report["problem"], "checksum");
        let (_, report) = checked("legal winner");
        assert_eq!((&report["problem"], &report["count"]), (&"word_count".into(), &2.into()));
    }

    #[test]
    fn check_says_when_a_file_is_not_private_or_missing() {
        let mut console = Script::default();
        let command = parse("seed check --words-from file:/nonexistent/words");
        assert!(run_on(&command, true, &mut console).is_err());
        let report: Value = serde_json::from_str(&console.output).unwrap();
        assert_eq!((&report["ok"], &report["problem"]), (&false.into(), &"unreadable".into()));
        assert!(report["message"].as_str().unwrap().contains("/nonexistent/words"));
    }

    #[test]
    fn check_never_shows_the_words() {
        let mut console = Script::terminal(|_, _| LEGAL.to_owned());
        run_on(&parse("seed check"), false, &mut console).unwrap();
        assert!(legal().words().all(|word| !console.output.contains(word)), "{}", console.output);
    }
}
