//! The shared network, and one renter on it as a person with a terminal sees it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use samara_node::api::client::Client;
use samara_node::demo::folder::Inventory;
use samara_node::redundancy::Redundancy;
use samara_node::seed::command::{WordCount, draw};
use samara_node::testnet::{Layout, Network, NodePlace, Plan, Role, Runner};
use samara_protocol::keys::Phrase;
use samara_protocol::sync::lock;
use samara_tests::noise;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
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
        let mut slot = lock(&SHARED);
        slot.upgrade().unwrap_or_else(|| {
            let shared = Arc::new(RUNTIME.block_on(start(Own::with_hosts(HOSTS), |_| {})));
            *slot = Arc::downgrade(&shared);
            shared
        })
    };
    // The scenario's own reference ends inside of the runtime; this one, the last, outside.
    RUNTIME.block_on(scenario(Arc::clone(&shared)));
}

/// Runs a task beside the scenarios, to the end of the tests at most.
pub fn background(task: impl Future<Output = ()> + Send + 'static) {
    RUNTIME.spawn(task);
}

/// Plays a scenario on a network of its own, whose nodes may be changed before they start and killed
/// while they run.
pub fn play_alone<F: Future<Output = ()>>(
    prepare: impl FnOnce(&Layout),
    scenario: impl FnOnce(Arc<Shared>) -> F,
) {
    play_among(HOSTS, prepare, scenario);
}

/// As [`play_alone`], with so many hosts.
pub fn play_among<F: Future<Output = ()>>(
    hosts: usize,
    prepare: impl FnOnce(&Layout),
    scenario: impl FnOnce(Arc<Shared>) -> F,
) {
    play_own(Own::with_hosts(hosts), prepare, scenario);
}

/// What a network of a scenario's own consists of.
pub struct Own {
    pub validators: usize,
    pub hosts: usize,
    /// Makes the program that runs the nodes, in a folder of its own.
    pub program: fn(&Path) -> PathBuf,
}

impl Own {
    fn with_hosts(hosts: usize) -> Self {
        Self { validators: 1, hosts, program: |_| SAMARA.into() }
    }
}

/// As [`play_alone`], on such a network.
pub fn play_own<F: Future<Output = ()>>(
    own: Own,
    prepare: impl FnOnce(&Layout),
    scenario: impl FnOnce(Arc<Shared>) -> F,
) {
    let shared = Arc::new(RUNTIME.block_on(start(own, prepare)));
    RUNTIME.block_on(scenario(Arc::clone(&shared)));
}

async fn start(own: Own, prepare: impl FnOnce(&Layout)) -> Shared {
    let folder = tempfile::Builder::new().prefix("samara-e2e-").tempdir().unwrap();
    let plan = Plan::local(folder.path().join("network"), own.validators, own.hosts, 0);
    let layout = Layout::create(&plan).unwrap();
    prepare(&layout);
    let program = (own.program)(folder.path());
    let mut network = Network::new(layout, Runner::Processes(program));
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
        self.equipped(self.machine(&words).await).await
    }

    /// Gives a machine whose words are new money and contracts.
    pub async fn equipped(&self, renter: Renter) -> Renter {
        self.equipped_for(renter, None).await
    }

    /// The same, with slabs of another redundancy than fits the hosts.
    pub async fn equipped_for(&self, renter: Renter, redundancy: Option<Redundancy>) -> Renter {
        let network = self.network.lock().await;
        network.fund(&renter.name).await.unwrap();
        network.equip(&renter.name, redundancy).await.unwrap();
        renter
    }

    /// An empty machine with known words and nothing else.
    pub async fn machine(self: &Arc<Self>, words: &Phrase) -> Renter {
        self.machine_with(words, |_| {}).await
    }

    /// An empty machine whose configuration is changed before its first start.
    pub async fn machine_with(&self, words: &Phrase, change: impl FnOnce(&Path)) -> Renter {
        let mut network = self.network.lock().await;
        let place = network.layout_mut().add_renter(words).unwrap();
        change(&place.folder);
        network.start_node(&place.name()).await.unwrap();
        Renter {
            network: Arc::clone(&self.network),
            name: place.name(),
            data: place.folder,
            words: words.clone(),
        }
    }

    /// Kills a node as a crash would.
    pub async fn kill(&self, name: &str) {
        self.network.lock().await.kill(name).await.unwrap();
    }

    /// The folder of a node.
    pub async fn folder_of(&self, name: &str) -> PathBuf {
        self.network.lock().await.place(name).unwrap().folder
    }

    /// A client of a running node.
    pub async fn client_of(&self, name: &str) -> Client {
        self.network.lock().await.client(name).unwrap()
    }

    /// Kills a node and deletes all that it had.
    pub async fn destroy(&self, name: &str) {
        let mut network = self.network.lock().await;
        network.kill(name).await.unwrap();
        let mut places = network.layout().of(Role::Host);
        let place = places.find(|place| place.name() == name).expect("a host of the network");
        std::fs::remove_dir_all(&place.folder).unwrap();
    }

    /// Starts a node that was killed.
    pub async fn start_again(&self, name: &str) {
        self.network.lock().await.start_node(name).await.unwrap();
    }

    /// Halts all hosts but one where they are, so that no slab can be acknowledged and a put cannot end.
    /// For a network that no other scenario uses.
    pub async fn halt_hosts_but(&self, spared: &str) {
        self.signal_hosts("STOP", |name| name != spared).await;
    }

    /// Lets halted hosts go on.
    pub async fn resume_hosts(&self) {
        self.signal_hosts("CONT", |_| true).await;
    }

    /// Sends a signal to the hosts that run and are meant.
    async fn signal_hosts(&self, signal: &str, meant: impl Fn(&str) -> bool) {
        let network = self.network.lock().await;
        let names = network.layout().of(Role::Host).map(NodePlace::name);
        for pid in names.filter(|name| meant(name)).filter_map(|name| network.pid(&name)) {
            let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
            assert!(sent.await.unwrap().success(), "{signal} to {pid}");
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
        let mut last = self.lines.into_iter().next_back().expect("a command says something");
        assert_eq!(last["message_type"], "result", "{last}");
        // A list is its items.
        last.get_mut("items").map(Value::take).unwrap_or(last)
    }
}

/// A command that has not ended.
pub struct RunningCommand {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    lines: Vec<Value>,
}

impl RunningCommand {
    /// Waits for a line that is wanted; false if the command ended without one.
    pub async fn reach(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> bool {
        while let Some(line) = self.output.next_line().await.unwrap() {
            let value: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let found = wanted(&value);
            self.lines.push(value);
            if found {
                return true;
            }
        }
        false
    }

    /// Waits for the command's end.
    pub async fn end(mut self) -> Done {
        self.reach(|_| false).await;
        let code = self.child.wait().await.unwrap().code().expect("not killed");
        Done { code, lines: self.lines }
    }
}

/// A renter's machine.
pub struct Renter {
    network: Arc<tokio::sync::Mutex<Network>>,
    /// Its node's name.
    pub name: String,
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
        wanted: impl FnMut(&Value) -> bool,
    ) -> Option<Done> {
        let mut running = self.begin(arguments);
        if running.reach(wanted).await {
            running.child.kill().await.unwrap();
            return None;
        }
        Some(running.end().await)
    }

    /// Starts a command.
    pub fn begin(&self, arguments: &[&str]) -> RunningCommand {
        let mut child = self.command(arguments).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        RunningCommand { child, output, lines: Vec::new() }
    }

    /// A client of the API of the node as it runs now.
    pub fn client(&self) -> Client {
        Client::of_folder(&self.data).unwrap()
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        &self.data
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

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder of files on a renter's machine, put into a vault.
pub struct Stored {
    source: PathBuf,
    /// What it holds.
    pub files: Inventory,
    vault: String,
}

impl Stored {
    /// Makes the folder; nothing is put yet.
    pub fn prepare(scratch: &Path, vault: &str, large: usize) -> Self {
        let source = scratch.join("source").join(vault);
        let files = sample(&source, large);
        Self { source, files, vault: vault.to_owned() }
    }

    /// A small folder that is safe in a vault of its own before something happens.
    pub async fn safe(renter: &Renter, scratch: &Path) -> Self {
        let safe = Self::prepare(scratch, "safe", 100_000);
        renter.run(&["vault", "create", "safe"]).await.ok();
        renter.run(&safe.put()).await.ok();
        safe
    }

    /// The command that puts it.
    pub fn put(&self) -> [&str; 3] {
        ["put", text(&self.source), &self.vault]
    }

    /// Asserts that a machine gets back exactly what was put.
    pub async fn assert_back(&self, renter: &Renter, scratch: &Path) {
        let target = tempfile::Builder::new().tempdir_in(scratch).unwrap().keep().join("target");
        renter.run(&["get", &self.vault, text(&target)]).await.ok();
        assert_same(&self.files, &self.source, &target);
    }

    /// The same, out of a backup.
    pub async fn assert_in_backup(&self, renter: &Renter, backup: &str, scratch: &Path) {
        let target = tempfile::Builder::new().tempdir_in(scratch).unwrap().keep().join("target");
        let vault: &str = &self.vault;
        renter.run(&["backup", "restore", backup, text(&target), "--only", vault]).await.ok();
        assert_same(&self.files, &self.source, &target);
    }
}

/// A folder with what makes trouble: empty files, odd names, sizes around the sectors'.
pub fn sample(folder: &Path, large: usize) -> Inventory {
    let files: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("ein Ordner/größe ☂ 日本.txt", b"hello".to_vec()),
        ("ein Ordner/a b.bin", noise(&[1], 4_096)),
        ("deep/er/and/deeper/x", noise(&[2], 65_537)),
        ("medium", noise(&[3], 700_000)),
        ("large", noise(&[4], large)),
    ];
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    Inventory::read(folder, &[]).unwrap()
}

/// Asserts that a folder holds exactly what was there.
pub fn assert_same(expected: &Inventory, origin: &Path, restored: &Path) {
    let comparison = expected.compare(origin, restored).unwrap();
    assert!(comparison.is_whole(), "{comparison:?}");
}
