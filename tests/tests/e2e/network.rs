//! The shared network, and one renter on it as a person with a terminal sees it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use samara_node::demo::folder::Inventory;
use samara_node::seed::command::{WordCount, draw};
use samara_node::testnet::{Layout, Network, Plan, Role, Runner};
use samara_protocol::keys::Phrase;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::runtime::Runtime;

/// The binary under test.
pub const SAMARA: &str = env!("CARGO_BIN_EXE_samara-e2e");
/// Hosts of the network.
pub const HOSTS: usize = 5;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// The network, as long as a scenario uses it.
pub struct Shared {
    network: Arc<tokio::sync::Mutex<Network>>,
    folder: TempDir,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Processes that still write would leave files behind when the folder is removed.
        RUNTIME.block_on(async { self.network.lock().await.kill_all().await });
    }
}

/// Plays a scenario on the shared network.
pub fn play<F: Future<Output = ()>>(scenario: impl FnOnce(Arc<Shared>) -> F) {
    let shared = {
        let mut slot = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        slot.upgrade().unwrap_or_else(|| {
            let shared = Arc::new(RUNTIME.block_on(start()));
            *slot = Arc::downgrade(&shared);
            shared
        })
    };
    // The scenario's own reference ends inside of the runtime; this one, the last, outside.
    RUNTIME.block_on(scenario(Arc::clone(&shared)));
}

async fn start() -> Shared {
    let folder = tempfile::Builder::new().prefix("samara-e2e-").tempdir().unwrap();
    let plan = Plan::local(folder.path().join("network"), 1, HOSTS, 0);
    let layout = Layout::create(&plan).unwrap();
    let mut network = Network::new(layout, Runner::Processes(SAMARA.into()));
    network.start(|_| {}).await.unwrap();
    Shared { network: Arc::new(tokio::sync::Mutex::new(network)), folder }
}

impl Shared {
    /// A folder for one scenario's own files.
    pub fn scratch(&self) -> TempDir {
        TempDir::new_in(self.folder.path()).unwrap()
    }

    /// A renter with new words, money and contracts.
    pub async fn renter(self: &Arc<Self>) -> Renter {
        let words = draw(WordCount::Twelve).unwrap();
        let renter = self.machine(&words).await;
        let network = self.network.lock().await;
        network.fund(&renter.name).await.unwrap();
        network.equip(&renter.name, None).await.unwrap();
        renter
    }

    /// An empty machine with known words and nothing else.
    pub async fn machine(self: &Arc<Self>, words: &Phrase) -> Renter {
        let mut network = self.network.lock().await;
        let place = network.layout_mut().add_renter(words).unwrap();
        network.start_node(&place.name()).await.unwrap();
        Renter {
            network: Arc::clone(&self.network),
            name: place.name(),
            data: place.folder,
            words: words.clone(),
        }
    }

    /// The folders of all hosts.
    pub async fn hosts(&self) -> Vec<PathBuf> {
        let network = self.network.lock().await;
        network.layout().of(Role::Host).map(|place| place.folder.clone()).collect()
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    /// Exit code.
    pub code: i32,
    /// Its lines of JSON.
    pub lines: Vec<Value>,
}

impl Done {
    /// The last line: the result, or the error.
    pub fn last(&self) -> &Value {
        self.lines.last().expect("a command says something")
    }

    /// The result of a command that must have worked.
    pub fn ok(self) -> Value {
        assert_eq!(self.code, 0, "{:?}", self.lines.last());
        self.lines.into_iter().next_back().expect("a command says something")
    }
}

/// A renter's machine.
pub struct Renter {
    network: Arc<tokio::sync::Mutex<Network>>,
    name: String,
    data: PathBuf,
    /// Its words.
    pub words: Phrase,
}

impl Renter {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SAMARA);
        command
            .arg("--json")
            .arg("--data")
            .arg(&self.data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Done {
        self.run_until(arguments, |_| false).await.expect("a command ends")
    }

    /// Runs a command until a line of it is wanted; then it is killed, and nothing comes of it.
    pub async fn run_until(
        &self,
        arguments: &[&str],
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Option<Done> {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().await.unwrap() {
            let value: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let found = wanted(&value);
            lines.push(value);
            if found {
                child.kill().await.unwrap();
                return None;
            }
        }
        let code = child.wait().await.unwrap().code().expect("not killed");
        Some(Done { code, lines })
    }

    /// Kills the machine's node as a crash would.
    pub async fn crash(&self) {
        self.network.lock().await.kill(&self.name).await.unwrap();
    }

    /// Starts the machine's node again.
    pub async fn restart(&self) {
        self.network.lock().await.start_node(&self.name).await.unwrap();
    }

    /// Kills the node and deletes all that it had.
    pub async fn lose(&self) {
        self.crash().await;
        std::fs::remove_dir_all(&self.data).unwrap();
    }
}

/// Whether a line tells that bytes, hosts or blocks of a phase have been dealt with.
pub fn advanced(line: &Value, phase: &str) -> bool {
    line["event"] == "advanced" && line["phase"] == phase && line["done"].as_u64() > Some(0)
}

/// A folder with what makes trouble: empty files, odd names, sizes around the sectors'.
pub fn sample(folder: &Path, large: usize) -> Inventory {
    let files: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("ein Ordner/größe ☂ 日本.txt", b"hello".to_vec()),
        ("ein Ordner/a b.bin", noise(1, 4_096)),
        ("deep/er/and/deeper/x", noise(2, 65_537)),
        ("medium", noise(3, 700_000)),
        ("large", noise(4, large)),
    ];
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    Inventory::read(folder, &[]).unwrap()
}

/// Bytes that do not compress and are the same each time.
pub fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Asserts that a folder holds exactly what was there.
pub fn assert_same(expected: &Inventory, origin: &Path, restored: &Path) {
    let comparison = expected.compare(origin, restored).unwrap();
    assert!(comparison.is_whole(), "{comparison:?}");
}
