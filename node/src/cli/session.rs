//! What every command that talks to a daemon has at hand.

use std::path::PathBuf;
use std::time::Duration;

use samara_renter::contract::Allowance;
use samara_renter::rows::{RenterState, RenterStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Global;
use super::bar::Progress;
use super::failure::Failure;
use super::output::Output;
use super::password;
use crate::api::NodeStatus;
use crate::api::client::Client;
use crate::config::folders;

/// One run of the command line.
#[derive(Debug, Clone)]
pub struct Session {
    global: Global,
    /// Where results go.
    pub output: Output,
}

impl Session {
    /// A run with these options.
    #[must_use]
    pub fn new(global: Global) -> Self {
        let output = Output::new(global.json);
        Self { global, output }
    }

    /// The data folder that was named, or this user's.
    ///
    /// # Errors
    /// When there is no home folder to derive one from, or the current folder is gone.
    pub fn data(&self) -> Result<PathBuf, Failure> {
        match &self.global.data {
            Some(path) => absolute(path),
            None => Ok(folders::data()?),
        }
    }

    /// A text whose commands name the data folder as this one did: without it they would mean another node.
    #[must_use]
    pub fn for_this_node(&self, text: &str) -> String {
        let named = self.global.data.as_deref();
        let environment = std::env::var_os("SAMARA_DATA").map(PathBuf::from);
        match named.filter(|named| environment.as_deref() != Some(named)) {
            Some(named) => with_data(text, &named.display().to_string()),
            None => text.to_owned(),
        }
    }

    /// The filter for the log, if one was named.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.global.log.as_deref()
    }

    /// A client of the daemon that runs on the data folder, with the token of the file that was named.
    ///
    /// # Errors
    /// When none runs there, or the file holds no token or is for others as well.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Client::of_folder(&self.data()?)?;
        let Some(file) = &self.global.token_file else { return Ok(client) };
        let token = password::of_file(file)?;
        if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{} holds no token", file.display());
            return Err(Failure::new(super::exit::Exit::Usage, message));
        }
        Ok(client.with_token(&token, file))
    }

    /// Waits until the renter can store: it has started and has the contracts that a slab needs. Ends
    /// at once where waiting changes nothing, and after a minute in any case; the operation then says
    /// itself what it lacks.
    ///
    /// # Errors
    /// When no node runs, and none is starting.
    pub async fn renter_ready(&self) -> Result<(), Failure> {
        let progress = Progress::new(self.output);
        let waiting = async {
            loop {
                match self.look().await? {
                    Readiness::Ready => return Ok(()),
                    Readiness::Waits(text) => progress.say(&text),
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let outcome = tokio::time::timeout(TIMEOUT, waiting).await;
        progress.finish();
        outcome.unwrap_or(Ok(()))
    }

    async fn look(&self) -> Result<Readiness, Failure> {
        let status: Result<NodeStatus, Failure> = match self.client() {
            Ok(client) => client.get("/v1/status").await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let status = match status {
            Ok(status) => status,
            // The folder is held before the API is served.
            Err(failure) if self.may_pass(&failure) && crate::data::is_held(&self.data()?) => {
                return Ok(Readiness::Waits("waiting for the node to start".to_owned()));
            }
            Err(failure) => return Err(failure),
        };
        let Some(renter) = &status.renter else { return Ok(Readiness::Ready) };
        let allowance: Option<Allowance> = self.client()?.get("/v1/allowance").await?;
        Ok(readiness(renter, status.uptime, allowance.as_ref()))
    }

    /// Whether a node that starts may give another answer: it writes its address and its token last.
    fn may_pass(&self, failure: &Failure) -> bool {
        match failure.code.as_str() {
            "unreachable" => true,
            "unauthorized" => self.global.token_file.is_none(),
            _ => false,
        }
    }

    /// Runs a long operation of the daemon and shows how far it is.
    ///
    /// # Errors
    /// What the operation fails with.
    pub async fn run<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let mut progress = Progress::new(self.output);
        let answer = self.client()?.run(path, body, |event| progress.take(event)).await;
        progress.finish();
        Ok(answer?)
    }
}

/// Commands that work on no running node, or name its folder otherwise.
const ELSEWHERE: [&str; 5] = ["seed", "init", "testnet", "demo", "completions"];

/// The same with `--data` in each command between backticks that talks to a node.
fn with_data(text: &str, data: &str) -> String {
    let is_plain = |sign: char| sign.is_alphanumeric() || "/._-+~:".contains(sign);
    let data = match data.chars().all(is_plain) {
        true => data.to_owned(),
        false => format!("'{}'", data.replace('\'', "'\\''")),
    };
    let talks = |span: &str| {
        let command = span.strip_prefix("samara ").and_then(|rest| rest.split(' ').next());
        command.is_some_and(|word| !ELSEWHERE.contains(&word)) && !span.contains("--data")
    };
    let line = |line: &str| {
        let spans: Vec<&str> = line.split('`').collect();
        if spans.len().is_multiple_of(2) {
            // One is never closed: nobody can tell what is a command.
            return line.to_owned();
        }
        let spans = spans.into_iter().enumerate().map(|(number, span)| match number % 2 {
            1 if talks(span) => format!("{span} --data {data}"),
            _ => span.to_owned(),
        });
        spans.collect::<Vec<_>>().join("`")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// A folder to write to, as the daemon understands that a folder is meant.
///
/// # Errors
/// When a file is there.
pub fn target_folder(path: &std::path::Path) -> Result<PathBuf, Failure> {
    let mut folder = absolute(path)?;
    if folder.exists() && !folder.is_dir() {
        let message = format!("'{}' is a file: name a folder to write to", path.display());
        return Err(Failure::new(super::exit::Exit::Usage, message));
    }
    // Ends in a slash now.
    folder.push("");
    Ok(folder)
}

/// How long the renter may take until it can store.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long after its start a node may still be about to claim its words and be given an allowance,
/// milliseconds.
const YOUNG: u64 = 15_000;

/// Whether a renter can store.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    /// Yes, or waiting does not help.
    Ready,
    /// Not yet, and what is missing.
    Waits(String),
}

fn readiness(renter: &RenterStatus, uptime: u64, allowance: Option<&Allowance>) -> Readiness {
    let waits = |text: &str| Readiness::Waits(text.to_owned());
    match (&renter.state, allowance) {
        (RenterState::Fresh, _) if uptime < YOUNG => waits("waiting for the renter to start"),
        (RenterState::Active, None) if uptime < YOUNG => waits("waiting for an allowance"),
        (RenterState::Active, Some(allowance)) => {
            let shape = allowance.redundancy;
            let needed = u64::from(shape.data) + u64::from(shape.margin);
            // Without a contract on its way, the put itself knows best what it lacks.
            if renter.hosts >= needed || renter.forming == Some(0) {
                return Readiness::Ready;
            }
            Readiness::Waits(format!("waiting for contracts: {} of {needed}", renter.hosts))
        }
        _ => Readiness::Ready,
    }
}

/// A path that means the same to the daemon, which runs in another folder.
///
/// # Errors
/// When the path is empty or the current folder is gone.
pub fn absolute(path: &std::path::Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(super::exit::Exit::Usage, format!("'{}': {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use samara_protocol::chain::ChainParameters;
    use samara_protocol::units::Amount;

    use super::*;

    #[test]
    fn a_target_is_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let target = target_folder(&root.path().join("new")).unwrap();
        assert!(target.to_str().unwrap().ends_with("/new/"));
        std::fs::write(root.path().join("file"), "").unwrap();
        let failure = target_folder(&root.path().join("file")).unwrap_err();
        assert_eq!(failure.exit, crate::cli::exit::Exit::Usage);
    }

    #[test]
    fn commands_that_are_named_mean_the_same_node() {
        let text = "see `samara hosts`, or `samara testnet up`; `samara node --data b`\n`samara ls";
        let told = with_data(text, "a");
        let expected = "see `samara hosts --data a`, or `samara testnet up`; `samara node --data b`\n`samara ls";
        assert_eq!(told, expected);
        assert_eq!(with_data("`samara ls`", "my node"), "`samara ls --data 'my node'`");
    }

    #[test]
    fn only_what_comes_by_itself_is_waited_for() {
        let parameters = ChainParameters::default();
        let allowance = Allowance::for_network(8, Amount::coins(1), &parameters);
        let of = |state: RenterState, hosts, uptime, allowance: Option<&Allowance>| {
            readiness(&RenterStatus { state, hosts, ..RenterStatus::default() }, uptime, allowance)
        };
        let set = Some(&allowance);
        let waits = |readiness| matches!(readiness, Readiness::Waits(_));
        assert!(waits(of(RenterState::Fresh, 0, 100, None)));
        assert!(!waits(of(RenterState::Fresh, 0, 60_000, None)));
        assert!(waits(of(RenterState::Active, 0, 100, None)));
        assert!(!waits(of(RenterState::Active, 0, 60_000, None)));
        // Four of eight, and two more to acknowledge.
        let text = "waiting for contracts: 5 of 6".to_owned();
        assert_eq!(of(RenterState::Active, 5, 60_000, set), Readiness::Waits(text));
        assert!(!waits(of(RenterState::Active, 6, 0, set)));
        let settled = RenterStatus {
            state: RenterState::Active,
            hosts: 5,
            forming: Some(0),
            ..RenterStatus::default()
        };
        assert_eq!(readiness(&settled, 60_000, set), Readiness::Ready);
        assert!(!waits(of(RenterState::ReadOnly, 0, 0, set)));
    }
}
