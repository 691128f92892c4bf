//! Passwords and tokens on the command line: typed, from standard input or from a private file, and never an
//! argument, which every user of the machine could read.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use samara_renter::archive::Passphrase;

use super::exit::Exit;
use super::failure::Failure;
use super::output;
use crate::access::Secret;
use crate::seed::console::{Console, ProcessConsole};
use crate::seed::private_file::{self, Readers};
use crate::seed::source::ParseSourceError;

/// Longest password or token that is read, bytes. The node has its own bound.
const MAX: usize = 1024;
/// Typing errors after which nobody is asked again.
const SLIPS: usize = 3;

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A person types it, twice if it is new; it is not shown.
    Prompt,
    /// Standard input; a line's end after it is dropped.
    Stdin,
    /// A file that is ours and for us alone; likewise.
    File(PathBuf),
}

impl FromStr for PasswordSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        match text.split_once(':') {
            None if text == "prompt" => Ok(Self::Prompt),
            None if text == "stdin" => Ok(Self::Stdin),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(ParseSourceError::new("prompt, stdin or file:PATH")),
        }
    }
}

/// A new password, from the source that was named or the one that fits the console.
///
/// # Errors
/// When it cannot be read, or was typed differently twice.
pub async fn new_password(source: Option<PasswordSource>) -> Result<Secret, Failure> {
    typed(source, &NEW_PASSWORD).await
}

/// What the passphrase of an archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An archive is going to be sealed under it.
    New,
    /// It opens an archive that there is.
    Known,
}

/// The passphrase of an archive, if its source was named.
///
/// # Errors
/// As [`new_password`].
pub async fn passphrase(
    source: Option<PasswordSource>,
    purpose: Purpose,
) -> Result<Option<Passphrase>, Failure> {
    let Some(source) = source else { return Ok(None) };
    let question = match purpose {
        Purpose::New => &NEW_PASSPHRASE,
        Purpose::Known => &PASSPHRASE,
    };
    let secret = typed(Some(source), question).await?;
    Ok(Some(Passphrase::new(Zeroizing::new(secret.reveal().to_owned()))))
}

/// What a person is asked for.
struct Question {
    prompt: &'static str,
    /// Whether it is new: nobody can undo a typing error, so it is asked for twice.
    twice: bool,
    /// The option that names other sources.
    option: &'static str,
}

const NEW_PASSWORD: Question =
    Question { prompt: "New password: ", twice: true, option: "--password-from" };
const NEW_PASSPHRASE: Question = Question {
    prompt: "New passphrase of the archive: ",
    twice: true,
    option: "--passphrase-from",
};
const PASSPHRASE: Question =
    Question { prompt: "Passphrase of the archive: ", twice: false, option: "--passphrase-from" };

async fn typed(
    source: Option<PasswordSource>,
    question: &'static Question,
) -> Result<Secret, Failure> {
    let read = move || Some(read(source, question, &mut ProcessConsole));
    let stopped = || Err(Failure::new(Exit::Failure, "the password was not read"));
    output::typed(read).await.unwrap_or_else(stopped)
}

fn read(
    source: Option<PasswordSource>,
    question: &Question,
    console: &mut dyn Console,
) -> Result<Secret, Failure> {
    let fitting = match console.stdin_is_terminal() {
        true => PasswordSource::Prompt,
        false => PasswordSource::Stdin,
    };
    match source.unwrap_or(fitting) {
        PasswordSource::File(path) => of_file(&path),
        PasswordSource::Stdin => {
            let failed =
                |error| Failure::new(Exit::Failure, format!("cannot read standard input: {error}"));
            secret(&console.read_stdin(MAX).map_err(failed)?, "standard input")
        }
        PasswordSource::Prompt => asked(question, console),
    }
}

/// Asks for what is known once, for what is new twice, and again after a typing error.
fn asked(question: &Question, console: &mut dyn Console) -> Result<Secret, Failure> {
    for _ in 0..SLIPS {
        let mut ask = |prompt| {
            console.prompt_secret(prompt).map_err(|error| {
                Failure::new(Exit::Failure, format!("cannot ask on a terminal: {error}"))
                    .with_hint(format!("{} names other sources", question.option))
            })
        };
        let secret = ask(question.prompt)?;
        if !question.twice || secret == ask("Again: ")? {
            return Ok(Secret::new(secret));
        }
        // Nothing better can be done when nobody reads it.
        let _ = console.notice("The two differ. Once more, please.");
    }
    Err(Failure::new(Exit::Usage, "the two differ; nothing was changed"))
}

/// The secret in a file that is ours and for us alone.
///
/// # Errors
/// When the file cannot be read, is for others as well, or holds something else.
pub fn of_file(path: &Path) -> Result<Secret, Failure> {
    let bytes = private_file::read(path, MAX, Readers::OwnerOnly)
        .map_err(|error| Failure::of(Exit::Failure, &error))?;
    secret(&bytes, &path.display().to_string())
}

fn secret(bytes: &[u8], origin: &str) -> Result<Secret, Failure> {
    let refused = |what: &str| Err(Failure::new(Exit::Usage, format!("{origin} {what}")));
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        _ if bytes.len() > MAX => refused("holds more than a password"),
        Ok("") => refused("is empty"),
        Ok(text) => Ok(Secret::new(Zeroizing::new(text.to_owned()))),
        Err(_) => refused("is not UTF-8 text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::tests::Script;

    fn revealed(source: Option<&str>, console: &mut Script) -> Result<String, Failure> {
        let source = source.map(|text| text.parse().unwrap());
        read(source, &NEW_PASSWORD, console).map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn what_opens_an_archive_is_asked_for_once() {
        let mut person = Script::terminal(|_, _| "correct horse".to_owned());
        let secret = read(Some(PasswordSource::Prompt), &PASSPHRASE, &mut person).unwrap();
        assert_eq!(secret.reveal(), "correct horse");
        assert_eq!(person.prompts, ["Passphrase of the archive: "]);
        let nobody = read(Some(PasswordSource::Prompt), &PASSPHRASE, &mut Script::default());
        assert!(nobody.unwrap_err().hint.unwrap().starts_with("--passphrase-from "));
    }

    #[test]
    fn a_password_is_typed_twice_or_read_to_the_lines_end() {
        let mut slips = 2;
        let mut person = Script::terminal(move |prompt, _| {
            let slip = prompt == "Again: " && slips > 0;
            slips -= usize::from(slip);
            if slip { "other" } else { "correct horse" }.to_owned()
        });
        assert_eq!(revealed(None, &mut person).unwrap(), "correct horse");
        assert_eq!(person.prompts.len(), 6);

        let mut number = 0;
        let mut careless = Script::terminal(move |_, _| {
            number += 1;
            number.to_string()
        });
        assert_eq!(revealed(Some("prompt"), &mut careless).unwrap_err().exit, Exit::Usage);
        assert_eq!(careless.prompts.len(), 2 * SLIPS);

        let mut piped = Script { stdin: b"correct horse\r\n".to_vec(), ..Script::default() };
        assert_eq!(revealed(None, &mut piped).unwrap(), "correct horse");
        for bad in [&b"\n"[..], b"\xff", &[b'x'; MAX + 1]] {
            let mut piped = Script { stdin: bad.to_vec(), ..Script::default() };
            assert_eq!(revealed(Some("stdin"), &mut piped).unwrap_err().exit, Exit::Usage);
        }
    }

    #[test]
    fn a_file_is_read_only_when_it_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        private_file::create(&path, b"correct horse\n").unwrap();
        let source = format!("file:{}", path.display());
        let mut console = Script::default();
        assert_eq!(revealed(Some(&source), &mut console).unwrap(), "correct horse");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = revealed(Some(&source), &mut console).unwrap_err();
        assert!(refused.message.contains("chmod 600") && !refused.message.contains("horse"));
        assert!("correct horse".parse::<PasswordSource>().is_err());
    }
}
