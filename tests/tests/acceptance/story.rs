//! What many tests begin with.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::Method;
use samara_node::config::NodeConfig;
use samara_node::seed::command::{WordCount, draw};

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
        Self::tell_with(|_| {}, rest);
    }

    /// The same on a machine whose configuration is changed before its first start.
    pub fn tell_with<F: Future<Output = ()>>(
        change: fn(&mut NodeConfig),
        rest: impl FnOnce(Self) -> F,
    ) {
        play(|shared: Arc<Shared>| async move { rest(Self::begin(shared, change).await).await });
    }

    /// Tells the beginning on a network.
    pub async fn begin(shared: Arc<Shared>, change: fn(&mut NodeConfig)) -> Self {
        let words = draw(WordCount::Twelve).unwrap();
        let changed = |folder: &Path| {
            let path = folder.join("samara.toml");
            let mut config = NodeConfig::read(&path).unwrap();
            change(&mut config);
            config.write(&path).unwrap();
        };
        let renter = shared.equipped(shared.machine_with(&words, changed).await).await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 300_000);
        renter.run(&home.put()).await.ok();
        Self { renter, scratch, home, shared }
    }

    /// A configuration whose webhooks may be on this machine.
    pub fn reaching_this_machine(config: &mut NodeConfig) {
        let renter = config.renter.as_mut().unwrap();
        renter.allowed_networks = vec!["127.0.0.1/32".parse().unwrap()];
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

/// Writes a file that is for its owner alone.
pub fn private(path: &Path, contents: &str) {
    std::fs::write(path, contents).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits for what comes by itself: looks again at each event of the node, and when it says that there was none
/// for a while.
pub struct Watch(BoxStream<'static, reqwest::Result<Bytes>>);

impl Watch {
    /// Watches from now on.
    pub async fn of(story: &Story) -> Self {
        let client = story.renter.client();
        let stream = client.send(client.request(Method::GET, "/v1/events")).await.unwrap();
        Self(stream.bytes_stream().boxed())
    }

    /// Waits until there is something.
    pub async fn until<T>(&mut self, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            self.0.next().await.expect("the node runs").unwrap();
        }
    }
}
