//! `samara init`: a data folder for a node, from a network file and words.

use std::path::{Path, PathBuf};

use samara_protocol::keys::Phrase;
use serde::Serialize;
use zeroize::Zeroizing;

use super::arguments::{InitArguments, RoleName};
use super::display;
use super::exit::Exit;
use super::failure::Failure;
use super::session::{Session, absolute};
use crate::config::{ChainConfig, NetworkFile, NodeConfig, RenterConfig, WordsConfig};
use crate::data::{DataError, DataFolder, NEW_VALIDATOR, NEW_WORDS, write_private};
use crate::host::{ByteCount, HostConfig, HostConfigError, VolumeConfig};
use crate::seed::command::{NewArguments, NewWords, WordCount, draw, new_passphrase, show_new};
use crate::seed::console::ProcessConsole;
use crate::seed::source::PassphraseSource;
use crate::seed::store;

/// Bytes that a host offers when no capacity is named.
const CAPACITY: ByteCount = ByteCount(100_000_000_000);

/// What `init` prints for programs.
#[derive(Serialize)]
struct Report {
    data: PathBuf,
    network: String,
    genesis: String,
    /// Words that were drawn. Nothing prints them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<String>>,
}

/// Makes the folder. Nothing is overwritten: a folder that has a configuration is refused.
pub fn run(session: &Session, arguments: InitArguments) -> Result<Exit, Failure> {
    let data = session.data()?;
    let network = NetworkFile::read(&arguments.network)?;
    let genesis = network.genesis()?.hash();
    let config = configuration(&arguments, &network)?;
    // Absent, or empty.
    let existed = data.exists();
    let is_new = match std::fs::read_dir(&data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    // What is wrong with the folder is said before anything is asked. Whoever stops at a question leaves
    // nothing behind.
    let checked = open(&data);
    // What is not ours to lock is not ours to clear.
    if is_new && checked.is_ok() {
        remove_new(&data, existed);
    }
    checked?;
    let asked = ask(session, &arguments, &data)?;
    let folder = open(&data)?;
    let words = match asked.store(&data) {
        Ok(words) => words,
        Err(failure) => {
            if is_new {
                remove_new(&data, existed);
            }
            return Err(failure);
        }
    };
    let validator = config.chain.as_ref().is_some_and(|role| role.validator);
    let markers = [(config.renter.is_some(), NEW_WORDS), (validator, NEW_VALIDATOR)];
    for (_, name) in markers.into_iter().filter(|(wanted, _)| *wanted && !arguments.existing) {
        let marker = folder.join(name);
        write_private(&marker, b"")
            .map_err(|source| DataError::File { action: "write", path: marker, source })
            .map_err(|error| Failure::of(Exit::Failure, &error))?;
    }
    network.write(&folder.join("network.toml"))?;
    config.write(&folder.join("samara.toml"))?;
    let report = Report {
        data,
        network: network.name,
        genesis: genesis.to_string(),
        words: words.map(|phrase| phrase.words().map(str::to_owned).collect()),
    };
    let asks = [&config.words.sealing_passphrase, &config.words.seed_passphrase];
    let asks = asks.into_iter().any(|source| source == "prompt");
    session.output.answer(&report, || {
        let data = report.data.display();
        let genesis = display::short(&report.genesis);
        let ready =
            format!("{data} is ready for network '{}', genesis {genesis}\n", report.network);
        let unnamed = config.host.as_ref().is_some_and(|host| host.operator.is_empty());
        let host = if unnamed { host_steps(&report.data) } else { String::new() };
        ready + &next(&report, arguments.existing, config.renter.is_some(), asks) + &host
    });
    Ok(Exit::Ok)
}

/// Opens the folder, which must not be a node's yet.
fn open(data: &Path) -> Result<DataFolder, Failure> {
    let folder = DataFolder::open(data).map_err(|error| Failure::of(Exit::Refused, &error))?;
    if folder.join("samara.toml").exists() {
        let message = format!("{} has a samara.toml already", data.display());
        return Err(
            Failure::new(Exit::Refused, message).with_hint("name another folder with --data")
        );
    }
    Ok(folder)
}

/// Takes away what was made before the words were there: a folder that is no node's. What cannot be
/// removed is in nobody's way.
fn remove_new(data: &Path, existed: bool) {
    for name in ["lock", "version"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    if !existed {
        let _ = std::fs::remove_dir(data);
    }
}

/// What to do next.
fn next(report: &Report, existing: bool, renter: bool, asks: bool) -> String {
    let data = report.data.display();
    let mut text = if asks {
        format!(
            "next, in a terminal of its own, because it asks for a passphrase:\n  samara node --data {data}\n"
        )
    } else {
        format!("next:\n  samara node --data {data} &\n")
    };
    if existing && renter {
        text.push_str(&format!(
            "then:\n  samara recover start --data {data}\nThe recovery looks for what these words own. \
             If they were never used it finds nothing, and offers to start new.\n"
        ));
    }
    text
}

/// What a host needs besides running.
fn host_steps(data: &Path) -> String {
    let data = data.display();
    format!(
        "a host also needs:\n  coins for fees and collateral: `samara wallet show --data {data}` prints its \
         account; on a test network `samara wallet faucet 1000 --data {data}` gives some\n  a name: set \
         `operator` in {data}/samara.toml before the start. Hosts of one operator, also of none, count as \
         one, and renters take one of them for a file as long as there are others\n"
    )
}

/// Words that are not stored yet.
enum Asked {
    /// Drawn and shown to a person.
    Shown(NewArguments, NewWords),
    /// Typed, or drawn and not shown.
    Silent {
        phrase: Phrase,
        /// They are stored as they are if there is none.
        passphrase: Option<Zeroizing<String>>,
        /// Whether they were drawn here.
        drawn: bool,
    },
}

/// Asks for words or draws them, and asks for what protects them. Stores nothing.
fn ask(session: &Session, arguments: &InitArguments, data: &Path) -> Result<Asked, Failure> {
    if !arguments.existing && !session.output.is_json() {
        let new = NewArguments {
            words: WordCount::Twelve,
            seal: (!arguments.plain).then(|| data.join(SEALED)),
            sealing_passphrase_from: arguments.seed.words.sealing_passphrase_from.clone(),
            plain: arguments.plain.then(|| data.join(PLAIN)),
            no_confirm: false,
        };
        let words = show_new(&new, false, &mut ProcessConsole)?;
        return Ok(Asked::Shown(new, words));
    }
    let drawn = !arguments.existing;
    let phrase = if drawn {
        draw(WordCount::Twelve)?
    } else {
        arguments.seed.words.read_patiently(&mut ProcessConsole)?
    };
    let passphrase = (!arguments.plain).then(|| sealing_passphrase(arguments)).transpose()?;
    Ok(Asked::Silent { phrase, passphrase, drawn })
}

impl Asked {
    /// Stores the words; gives them back if they are new and have not been shown to a person.
    fn store(self, data: &Path) -> Result<Option<Phrase>, Failure> {
        match self {
            Self::Shown(arguments, words) => {
                words.store(&arguments, &mut ProcessConsole)?;
                Ok(None)
            }
            Self::Silent { phrase, passphrase, drawn } => {
                match passphrase {
                    None => store::store_plain(&data.join(PLAIN), &phrase)
                        .map_err(|error| Failure::of(Exit::Failure, &error))?,
                    Some(passphrase) => {
                        store::store_sealed(&data.join(SEALED), &phrase, &passphrase)
                            .map_err(|error| Failure::of(Exit::Failure, &error))?;
                    }
                }
                Ok(drawn.then_some(phrase))
            }
        }
    }
}

const SEALED: &str = "words.sealed";
const PLAIN: &str = "words";

fn sealing_passphrase(arguments: &InitArguments) -> Result<Zeroizing<String>, Failure> {
    let source = arguments.seed.words.sealing_passphrase_from.as_ref();
    Ok(new_passphrase(source, &mut ProcessConsole)?)
}

fn configuration(arguments: &InitArguments, network: &NetworkFile) -> Result<NodeConfig, Failure> {
    let has = |role| arguments.role.contains(&role);
    let validator = has(RoleName::Validator);
    let chain = (validator || has(RoleName::Chain)).then(|| ChainConfig {
        validator,
        consensus_peers: network.consensus_peers.clone(),
        ..ChainConfig::default()
    });
    let host = has(RoleName::Host).then(|| host(arguments)).transpose()?;
    if host.is_none() && (arguments.volume.is_some() || arguments.capacity.is_some()) {
        return Err(Failure::new(Exit::Usage, "--volume and --capacity go with --role host"));
    }
    Ok(NodeConfig {
        words: words_config(arguments)?,
        chain,
        host,
        renter: has(RoleName::Renter).then(RenterConfig::default),
        ..NodeConfig::default()
    })
}

fn host(arguments: &InitArguments) -> Result<HostConfig, Failure> {
    let volume = arguments.volume.as_deref().ok_or_else(|| {
        Failure::new(Exit::Usage, "a host needs a folder for sectors: --volume DIR")
    })?;
    let capacity = arguments.capacity.as_deref().map_or(Ok(CAPACITY), parse_size)?;
    Ok(HostConfig {
        volumes: vec![VolumeConfig { path: absolute(volume)?, limit: capacity }],
        ..HostConfig::default()
    })
}

fn words_config(arguments: &InitArguments) -> Result<WordsConfig, Failure> {
    let seed_passphrase = match &arguments.seed.seed_passphrase_from {
        Some(source) => source_text(source)?,
        None => "none".to_owned(),
    };
    if arguments.plain {
        return Ok(WordsConfig {
            from: format!("file:{PLAIN}"),
            sealing_passphrase: "none".to_owned(),
            seed_passphrase,
        });
    }
    let sealing = arguments.seed.words.sealing_passphrase_from.as_ref();
    Ok(WordsConfig {
        from: format!("sealed:{SEALED}"),
        sealing_passphrase: sealing.map_or(Ok("prompt".to_owned()), source_text)?,
        seed_passphrase,
    })
}

/// As the configuration spells a source.
fn source_text(source: &PassphraseSource) -> Result<String, Failure> {
    Ok(match source {
        PassphraseSource::None => "none".to_owned(),
        PassphraseSource::Prompt => "prompt".to_owned(),
        PassphraseSource::Environment => "environment".to_owned(),
        PassphraseSource::File(path) => format!("file:{}", absolute(path)?.display()),
    })
}

/// Bytes from a text with a unit, as the configuration reads it.
fn parse_size(text: &str) -> Result<ByteCount, Failure> {
    text.parse().map_err(|error: HostConfigError| Failure::new(Exit::Usage, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_depends_on_the_words() {
        let report = |existing, renter| {
            let data = PathBuf::from("/d");
            let (network, genesis) = (String::new(), String::new());
            next(&Report { data, network, genesis, words: None }, existing, renter, false)
        };
        assert!(!report(false, true).contains("recover"));
        assert!(!report(true, false).contains("recover"));
        let existing = report(true, true);
        assert!(existing.contains("samara recover start --data /d"), "{existing}");
        assert!(existing.contains("never used"), "{existing}");
        assert!(existing.contains("samara node --data /d &\n"), "{existing}");
    }

    #[test]
    fn a_host_is_told_of_coins_and_of_its_operator() {
        let text = host_steps(Path::new("/d"));
        assert!(text.contains("`samara wallet show --data /d`"), "{text}");
        assert!(text.contains("`operator` in /d/samara.toml"), "{text}");
    }

    #[test]
    fn a_node_that_asks_is_not_sent_to_the_background() {
        let (data, network, genesis) = (PathBuf::from("/d"), String::new(), String::new());
        let text = next(&Report { data, network, genesis, words: None }, false, true, true);
        assert!(text.contains("terminal of its own") && !text.contains('&'), "{text}");
    }

    #[test]
    fn a_folder_is_looked_at_before_anything_is_asked() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let held = open(&data).unwrap();
        assert_eq!(open(&data).unwrap_err().exit, Exit::Refused);
        drop(held);
        std::fs::write(data.join("samara.toml"), "").unwrap();
        assert!(open(&data).unwrap_err().message.ends_with("has a samara.toml already"));
    }

    #[test]
    fn a_folder_that_failed_is_taken_away_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        drop(DataFolder::open(&data).unwrap());
        std::fs::write(data.join("mine"), "").unwrap();
        remove_new(&data, false);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
        std::fs::remove_file(data.join("mine")).unwrap();
        drop(DataFolder::open(&data).unwrap());
        remove_new(&data, true);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
        remove_new(&data, false);
        assert!(!data.exists());
    }
}
