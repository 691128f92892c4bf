//! What every command that talks to a daemon has at hand.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Global;
use super::bar::Progress;
use super::failure::Failure;
use super::output::Output;
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

    /// The filter for the log, if one was named.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.global.log.as_deref()
    }

    /// A client of the daemon that runs on the data folder.
    ///
    /// # Errors
    /// When none runs there.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::of_folder(&self.data()?)?)
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

/// A path that means the same to the daemon, which runs in another folder.
///
/// # Errors
/// When the path is empty or the current folder is gone.
pub fn absolute(path: &std::path::Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(super::exit::Exit::Usage, format!("'{}': {error}", path.display()))
    })
}
