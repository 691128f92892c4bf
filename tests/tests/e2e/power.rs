//! Power is lost, and disks hold what was synced.
//!
//! Every node runs under the shim of `samara_tests::power`. When it loses power it is killed at a moment of
//! a load, and starts again on the folder that its disk would hold. What was acknowledged must be there;
//! no height of the chain that was decided may get a second block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use samara_node::api::client::Client;
use samara_node::api::{FaucetRequest, Included, NodeStatus};
use samara_node::chain::Store;
use samara_node::config::NetworkFile;
use samara_node::seed::command::{WordCount, draw};
use samara_node::testnet::Layout;
use samara_protocol::chain::Genesis;
use samara_protocol::hash::BlockHash;
use samara_protocol::keys::Phrase;
use samara_protocol::units::{Amount, Height};
use samara_tests::power::{COMPLAINT, Disk, Luck, Shim, log_of, read_log};
use tokio::sync::{mpsc, watch};

use crate::load::{Load, Model, check, compare_files};
use crate::network::{HOSTS, Own, Renter, SAMARA, Shared, play_own, text};

/// Rounds; a longer run sets `SAMARA_POWER_ROUNDS`.
const ROUNDS: u64 = 1;
/// Changes between two losses of power, at most.
const BETWEEN: u64 = 40;
/// How long nothing may be acknowledged when all nodes have power. This only ends a test that hangs.
const STANDSTILL: Duration = Duration::from_secs(120);
/// How long one validator is waited for.
const ANSWER: Duration = Duration::from_secs(15);
const VALIDATORS: usize = 4;

type Disks = BTreeMap<String, Disk>;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Says which seed a failed test had.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SAMARA_POWER_SEED={}", self.0);
        }
    }
}

/// The program that runs nodes under the shim.
fn under_shim(folder: &Path) -> PathBuf {
    let program = folder.join("samara-under-shim");
    Shim::build(folder).unwrap().wrap(Path::new(SAMARA), &program).unwrap();
    program
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The nodes of a network and their disks.
struct Site {
    shared: Arc<Shared>,
    disks: Mutex<Disks>,
    genesis: Genesis,
    random: ChaCha8Rng,
    /// Hash of each block that any validator had decided when it lost power.
    decided: BTreeMap<u64, BlockHash>,
    _seed: Seed,
}

/// Plays a scenario on a network whose nodes can lose power.
fn play<F: Future<Output = ()>>(validators: usize, hosts: usize, scenario: impl FnOnce(Site) -> F) {
    let seed = setting("SAMARA_POWER_SEED", 1);
    let before_start = Mutex::new(None);
    let prepare = |layout: &Layout| {
        let disks = layout.nodes.iter();
        let disks = disks.map(|place| (place.name(), Disk::read(&place.folder).unwrap()));
        let network = NetworkFile::read(&layout.network_file()).unwrap();
        *before_start.lock().unwrap() = Some((disks.collect(), network.genesis().unwrap()));
    };
    play_own(Own { validators, hosts, program: under_shim }, prepare, |shared| {
        let (disks, genesis): (Disks, Genesis) = before_start.lock().unwrap().take().unwrap();
        scenario(Site {
            shared,
            disks: Mutex::new(disks),
            genesis,
            random: ChaCha8Rng::seed_from_u64(seed),
            decided: BTreeMap::new(),
            _seed: Seed(seed),
        })
    });
}

impl Site {
    /// An empty machine of a renter.
    async fn machine(&self, words: &Phrase) -> Renter {
        let prepare = |folder: &Path| {
            let disk = Disk::read(folder).unwrap();
            self.disks.lock().unwrap().insert(name_of(folder), disk);
        };
        self.shared.machine_with(words, prepare).await
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    /// Nodes lose power at once, and start again with what their disks hold. No height of the chain that
    /// was told to anybody, `told` by node, may be lost.
    async fn lose_power(&mut self, names: &[String], told: &BTreeMap<String, u64>) {
        let lucks = [Luck::Nothing, Luck::Nothing, Luck::Some, Luck::Some, Luck::Everything];
        self.lose_power_with(&lucks, names, told).await;
    }

    /// As [`Site::lose_power`], with one of these lucks for each node.
    async fn lose_power_with(
        &mut self,
        lucks: &[Luck],
        names: &[String],
        told: &BTreeMap<String, u64>,
    ) {
        for name in names {
            self.shared.kill(name).await;
        }
        for name in names {
            let folder = self.shared.folder_of(name).await;
            let luck = lucks[usize::try_from(self.draw(lucks.len() as u64)).unwrap()];
            println!("{name} loses power, and of what it had not synced {luck:?}");
            tokio::task::block_in_place(|| {
                self.compare_chain(name, &folder);
                self.replace(name, &folder, luck);
                let kept = self.compare_chain(name, &folder);
                let told = told.get(name).copied().unwrap_or(0);
                assert!(told <= kept, "{name} told of height {told}, and its disk has {kept}");
            });
        }
        for name in names {
            self.shared.start_again(name).await;
        }
    }

    /// Puts what the disk of a node holds in the place of its folder.
    fn replace(&mut self, name: &str, folder: &Path, luck: Luck) {
        let said = std::fs::read(folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        if let Some(complaint) = text.lines().find(|line| line.contains(COMPLAINT)) {
            panic!("{name}: {complaint}");
        }
        let mut disk = self.disks.lock().unwrap().remove(name).unwrap();
        let mut records = 0;
        read_log(&log_of(folder), |record| {
            records += 1;
            disk.apply(record);
        })
        .unwrap();
        assert!(records > 0, "{name} was not watched");
        disk.lose_power(luck, &mut self.random);
        std::fs::remove_dir_all(folder).unwrap();
        std::fs::remove_file(log_of(folder)).unwrap();
        disk.write(folder).unwrap();
        std::fs::write(folder.join("log"), said).unwrap();
        self.disks.lock().unwrap().insert(name.to_owned(), Disk::read(folder).unwrap());
    }

    /// Compares a validator's chain with all blocks that were ever decided, and gives its height.
    fn compare_chain(&mut self, name: &str, folder: &Path) -> u64 {
        let path = folder.join("chain/chain.redb");
        if !path.exists() {
            return 0;
        }
        // To open a store is to write to it.
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(path, copy.path().join("chain.redb")).unwrap();
        let store = Store::open(copy.path(), &self.genesis).unwrap();
        let chain = store.snapshot().unwrap();
        let height = chain.height().unwrap().0;
        for height in 1..=height {
            let hash = chain.header(Height(height)).unwrap().unwrap().hash();
            let decided = *self.decided.entry(height).or_insert(hash);
            assert!(decided == hash, "{name} has a second block at height {height}");
        }
        height
    }
}

/// Waits for changes; nodes have power, so there must be some.
async fn changes(load: &mut Load, count: u64) {
    load.forget();
    let waited = tokio::time::timeout(STANDSTILL, load.changes(count)).await;
    waited.expect("changes are acknowledged when all nodes have power");
}

/// Who loses power.
#[derive(Clone, Copy, Debug)]
enum Victims {
    Host,
    Renter,
    Validator,
    Hosts,
    Everyone,
}

impl Victims {
    const ALL: [Self; 5] = [Self::Host, Self::Renter, Self::Validator, Self::Hosts, Self::Everyone];

    fn names(self, renter: &Renter, site: &mut Site) -> Vec<String> {
        let host = |number: u64| format!("host-{number}");
        let hosts = (0..HOSTS as u64).map(host);
        let validator = || "validator-0".to_owned();
        match self {
            Self::Host => vec![host(site.draw(HOSTS as u64))],
            Self::Renter => vec![renter.name.clone()],
            Self::Validator => vec![validator()],
            Self::Hosts => hosts.collect(),
            Self::Everyone => {
                [validator()].into_iter().chain(hosts).chain([renter.name.clone()]).collect()
            }
        }
    }

    fn with_renter(self) -> bool {
        matches!(self, Self::Renter | Self::Everyone)
    }
}

/// The greatest height that a follower of the chain knows, and so was told.
async fn told(site: &Site, renter: &Renter) -> BTreeMap<String, u64> {
    let mut told = 0;
    for name in ["host-0", &renter.name] {
        let status: NodeStatus = site.shared.client_of(name).await.get("/v1/status").await.unwrap();
        told = told.max(status.chain.height);
    }
    BTreeMap::from([("validator-0".to_owned(), told)])
}

/// Everybody loses power in turn, and at the end all at once; then all that was known of the paths.
async fn round(site: &mut Site, renter: &Renter, model: Model) -> Model {
    let mut load = Load::begin(renter, &mut site.random, &model);
    let mut turns = Victims::ALL;
    for last in (1..turns.len()).rev() {
        turns.swap(last, usize::try_from(site.draw(last as u64 + 1)).unwrap());
    }
    for victims in turns {
        let count = 1 + site.draw(BETWEEN);
        changes(&mut load, count).await;
        let told = told(site, renter).await;
        if victims.with_renter() {
            load.pause();
        }
        let names = victims.names(renter, site);
        site.lose_power(&names, &told).await;
        if victims.with_renter() {
            load.resume(renter);
        }
    }
    let count = 1 + site.draw(BETWEEN);
    changes(&mut load, count).await;
    let told = told(site, renter).await;
    load.pause();
    let names = Victims::Everyone.names(renter, site);
    site.lose_power(&names, &told).await;
    load.end().await
}

/// A command that gets files answers, and power is lost: the files are there, under their names.
async fn get_and_lose_power(site: &mut Site, renter: &Renter, model: &Model) {
    // Below the folder that is watched; nobody else has this name there.
    let target = site.shared.folder_of(&renter.name).await.join("got");
    renter.run(&["get", "home", text(&target)]).await.ok();
    let names = std::slice::from_ref(&renter.name);
    site.lose_power_with(&[Luck::Nothing], names, &BTreeMap::new()).await;
    compare_files(&target, model);
    std::fs::remove_dir_all(&target).unwrap();
}

#[test]
fn disks_that_lose_power_have_what_was_acknowledged() {
    play(1, HOSTS, |mut site| async move {
        let words = draw(WordCount::Twelve).unwrap();
        let mut renter = site.shared.equipped(site.machine(&words).await).await;
        renter.run(&["vault", "create", "home"]).await.ok();
        let mut model = Model::new();
        for number in 0..setting("SAMARA_POWER_ROUNDS", ROUNDS) {
            model = round(&mut site, &renter, model).await;
            // What the renter's own disk has is enough, and so are the words. Which of its last entries were
            // acknowledged a node learns from the hosts, before it acknowledges the next.
            renter.run(&["vault", "create", &format!("after-round-{number}")]).await.ok();
            model = check(&renter, &model).await;
            get_and_lose_power(&mut site, &renter, &model).await;
            renter.lose().await;
            renter = site.machine(&words).await;
            renter.run(&["recover", "start"]).await.ok();
            model = check(&renter, &model).await;
            println!("round {number}: {} paths as they were known", model.len());
        }
    });
}

/// Starts of one test in which power is lost; each takes as long as a start.
const STARTS: u64 = 4;

impl Site {
    /// Cuts the first start of a node short, at moments drawn from all changes that it made. Each time
    /// the next start must get by with what the disk has.
    async fn cut_first_start(&mut self, name: &str, cuts: u64) {
        self.shared.kill(name).await;
        let folder = self.shared.folder_of(name).await;
        let before = self.disks.lock().unwrap().remove(name).unwrap();
        let mut changes = Vec::new();
        read_log(&log_of(&folder), |record| changes.push(record)).unwrap();
        for _ in 0..cuts {
            let count = self.draw(changes.len() as u64 + 1);
            let luck = if self.draw(4) == 0 { Luck::Nothing } else { Luck::Some };
            println!("{name} loses power after {count} of {} changes: {luck:?}", changes.len());
            let mut disk = before.clone();
            let made = changes.iter().take(usize::try_from(count).unwrap());
            made.for_each(|record| disk.apply(record.clone()));
            disk.lose_power(luck, &mut self.random);
            std::fs::remove_dir_all(&folder).unwrap();
            disk.write(&folder).unwrap();
            self.shared.start_again(name).await;
            self.shared.kill(name).await;
        }
    }
}

#[test]
fn a_first_start_that_was_cut_short_by_a_loss_of_power_can_be_begun_again() {
    play(1, 1, |mut site| async move {
        let cuts = setting("SAMARA_POWER_ROUNDS", ROUNDS) * STARTS;
        let renter = site.machine(&draw(WordCount::Twelve).unwrap()).await;
        site.cut_first_start(&renter.name, cuts).await;
        site.cut_first_start("host-0", cuts).await;
        site.cut_first_start("validator-0", cuts).await;
    });
}

/// Asks validators for blocks, one after the other, until nobody listens.
async fn ask_for_blocks(
    mut clients: Vec<watch::Receiver<Option<Client>>>,
    told: Arc<[AtomicU64; VALIDATORS]>,
    made: mpsc::UnboundedSender<()>,
) {
    for number in (0..VALIDATORS).cycle() {
        if made.is_closed() {
            break;
        }
        if clients.iter().all(|client| client.borrow().is_none()) {
            let _ = clients[number].wait_for(Option::is_some).await;
        }
        let Some(client) = clients[number].borrow().clone() else { continue };
        let wish = FaucetRequest { amount: Amount::coins(1) };
        // A transfer that went down with a validator's pool is not answered for a long time: others go on.
        let asked = client.post::<_, Included>("/v1/wallet/faucet", &wish);
        if let Ok(Ok(included)) = tokio::time::timeout(ANSWER, asked).await {
            told[number].fetch_max(included.height, Ordering::Relaxed);
            let _ = made.send(());
        }
    }
}

#[test]
fn validators_that_lose_power_decide_no_height_twice_and_go_on() {
    play(VALIDATORS, 0, |mut site| async move {
        let told: Arc<[AtomicU64; VALIDATORS]> = Arc::default();
        let (sender, mut made) = mpsc::unbounded_channel();
        let mut senders = Vec::new();
        for number in 0..VALIDATORS {
            let client = site.shared.client_of(&format!("validator-{number}")).await;
            senders.push(watch::channel(Some(client)).0);
        }
        let clients = senders.iter().map(watch::Sender::subscribe).collect();
        let asker = tokio::spawn(ask_for_blocks(clients, Arc::clone(&told), sender));
        for number in 0..setting("SAMARA_POWER_ROUNDS", ROUNDS) * 3 {
            for count in [1 + site.draw(2), VALIDATORS as u64] {
                for _ in 0..1 + site.draw(6) {
                    let waited = tokio::time::timeout(STANDSTILL, made.recv()).await;
                    waited.expect("blocks are made when validators have power").unwrap();
                }
                let first = site.draw(VALIDATORS as u64);
                let numbers: Vec<usize> = (first..first + count)
                    .map(|number| usize::try_from(number).unwrap() % VALIDATORS)
                    .collect();
                let heights = numbers.iter().map(|number| {
                    senders[*number].send_replace(None);
                    (format!("validator-{number}"), told[*number].load(Ordering::Relaxed))
                });
                let heights: BTreeMap<_, _> = heights.collect();
                let names: Vec<_> = heights.keys().cloned().collect();
                site.lose_power(&names, &heights).await;
                for number in numbers {
                    let client = site.shared.client_of(&format!("validator-{number}")).await;
                    senders[number].send_replace(Some(client));
                }
                while made.try_recv().is_ok() {}
            }
            println!("round {number}: {} blocks, none twice", site.decided.len());
        }
        let waited = tokio::time::timeout(STANDSTILL, made.recv()).await;
        waited.expect("blocks are made when validators have power").unwrap();
        drop(made);
        asker.await.unwrap();
    });
}
