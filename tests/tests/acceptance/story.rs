//! What many tests begin with.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::network::{Renter, Shared, Stored, play, text};

/// A machine with a vault `home` that has files, a history, and two more vaults' worth of room.
pub struct Story {
    pub renter: Renter,
    pub scratch: TempDir,
    pub home: Stored,
    pub shared: Arc<Shared>,
}

impl Story {
    /// Tells the beginning, and then `rest`.
    pub fn tell<F: Future<Output = ()>>(rest: impl FnOnce(Self) -> F) {
        play(|shared: Arc<Shared>| async move { rest(Self::begin(shared).await).await });
    }

    /// Tells the beginning on a network.
    pub async fn begin(shared: Arc<Shared>) -> Self {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 300_000);
        renter.run(&home.put()).await.ok();
        Self { renter, scratch, home, shared }
    }

    /// Runs a command that must work.
    pub async fn ok(&self, arguments: &[&str]) -> Value {
        self.renter.run(arguments).await.ok()
    }

    /// Runs a command that must fail with a code, and end so.
    pub async fn refused(&self, arguments: &[&str], code: &str, exit: i32) -> Value {
        let done = self.renter.run(arguments).await;
        assert_eq!((done.code, &done.last()["code"]), (exit, &json!(code)), "{}", done.last());
        done.last().clone()
    }

    /// A path for a file of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Makes an archive of `home` and saves it.
    pub async fn archive(&self, name: &str) -> (Value, PathBuf) {
        let made = self.ok(&["backup", "create", name, "--vault", "home", "--archive"]).await;
        let file = self.path(&format!("{name}.zip"));
        self.ok(&["backup", "download", name, text(&file)]).await;
        (made, file)
    }

    /// The rows of `samara backup list` with more arguments.
    pub async fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let all = [&["backup", "list"], arguments].concat();
        self.ok(&all).await.as_array().unwrap().clone()
    }
}

/// The names of rows.
pub fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}
