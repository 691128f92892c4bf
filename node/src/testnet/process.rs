//! One node's process: started, watched, asked to stop, killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::layout::NodePlace;
use super::network::TestnetError;
use crate::api::access::Access;
use crate::api::client::Client;

/// A node that runs as a process of its own.
pub struct NodeProcess {
    place: NodePlace,
    child: Child,
}

impl NodeProcess {
    /// Starts a node. Unless detached it ends with this process, however that ends: its standard
    /// input is a pipe that only this process holds.
    ///
    /// # Errors
    /// [`TestnetError::File`] when the program cannot be started.
    pub fn start(program: &Path, place: &NodePlace, detached: bool) -> Result<Self, TestnetError> {
        let fail = |path: PathBuf| move |source| TestnetError::File { path, source };
        // An address left by an earlier run would be taken for this one's.
        let stale = place.folder.join(crate::api::access::FILE);
        if stale.exists() {
            std::fs::remove_file(&stale).map_err(fail(stale.clone()))?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.log())
            .map_err(fail(place.log()))?;
        let errors = log.try_clone().map_err(fail(place.log()))?;
        let mut command = Command::new(program);
        command
            .arg("node")
            .arg("--data")
            .arg(&place.folder)
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors));
        if detached {
            command.stdin(Stdio::null()).process_group(0);
        } else {
            command.arg("--until-input-ends").stdin(Stdio::piped()).kill_on_drop(true);
        }
        let child = command.spawn().map_err(fail(program.to_owned()))?;
        Ok(Self { place: place.clone(), child })
    }

    /// The node's place.
    #[must_use]
    pub fn place(&self) -> &NodePlace {
        &self.place
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the node's API answers.
    ///
    /// # Errors
    /// [`TestnetError::Died`] with the end of its log when the process ends before, and
    /// [`TestnetError::Slow`] after a minute.
    pub async fn ready(&mut self) -> Result<Client, TestnetError> {
        let place = self.place.clone();
        let answers = async {
            loop {
                if let Ok(access) = Access::read(&place.folder) {
                    let client = Client::new(access);
                    if client.get::<serde_json::Value>("/v1/status").await.is_ok() {
                        return client;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            biased;
            client = answers => Ok(client),
            _ = self.child.wait() => Err(TestnetError::Died {
                node: self.place.name(),
                log: log_end(&self.place.log()),
            }),
            () = tokio::time::sleep(Duration::from_secs(60)) => Err(TestnetError::Slow {
                what: format!("{} to answer", self.place.name()),
                log: log_end(&self.place.log()),
            }),
        }
    }

    /// Kills the process at once, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// [`TestnetError::File`] when the system refuses.
    pub async fn kill(&mut self) -> Result<(), TestnetError> {
        self.child
            .kill()
            .await
            .map_err(|source| TestnetError::File { path: self.place.folder.clone(), source })
    }

    /// Ends the node in good order: closes its input, and kills it if it has not ended in ten
    /// seconds.
    ///
    /// # Errors
    /// [`TestnetError::File`] when the system refuses.
    pub async fn stop(mut self) -> Result<(), TestnetError> {
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        if ended.is_err() {
            self.kill().await?;
        }
        Ok(())
    }
}

/// The last lines of a log, for an error.
pub(super) fn log_end(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
