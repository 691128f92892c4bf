//! One run: setting up, a schedule of operations and faults, and the last check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::chain::Action;
use samara_protocol::contract::ContractTerms;
use samara_protocol::hash::ContractNonce;
use samara_protocol::journal::HostIndex;
use samara_protocol::keys::phrase::Phrase;
use samara_protocol::keys::tree::KeyTree;
use samara_protocol::sector::SectorSize;
use samara_protocol::tree::Limits;
use samara_protocol::units::{Amount, Epoch, Millis};
use samara_renter::contract::{ContractBook, LineRates, Redundancy, Writer};
use samara_renter::garbage::GarbageOptions;
use samara_renter::journal::JournalOptions;
use samara_renter::progress::Silent;
use samara_renter::repair::RepairOptions;
use samara_renter::rows::RenterState;
use samara_renter::transfer::TransferOptions;
use samara_renter::vault::{Conflict, GetRequest, ListOptions, ListRow, VaultOptions};
use samara_renter::world::ChainView as _;
use samara_renter::{Renter, RenterConfig};
use zeroize::Zeroizing;

use super::chain::SimChain;
use super::chance::Chance;
use super::copies::Image;
use super::disk::Sabotage;
use super::files::SimFiles;
use super::hosts::SimHosts;
use super::machine::{Ended, Machine, Point};
use super::model::{Content, Effect, Model, Names, Vaults};
use super::setting::{Moods, OPERATORS, Setting};
use super::trace::{Fault, Trace};
use super::witness::Witness;

/// Simulated milliseconds after which an operation hangs.
pub(super) const LIMIT: u64 = 6 * 3_600_000;
/// Doubtful changes above which the run waits until all is certain.
const DOUBTS: usize = 6;
/// Looks at the hosts, two minutes apart, before what is too much there counts as forgotten. Audits find a
/// rotten byte after an hour or more; what its repair leaves behind takes two more audits. Hosts keep
/// what was stored and never committed for six hours.
const QUIET: usize = 240;
/// Bytes of a sealed frame.
pub(super) const FRAME: u32 = 1 << 10;
/// Attempts before a healthy network counts as stuck.
pub(super) const PATIENCE: usize = 30;

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Operations.
    pub operations: u64,
    /// Whether to print each event.
    pub trace: bool,
    /// A rule that hosts break.
    pub sabotage: Sabotage,
    /// Twelve hosts, of which three are lost at the end: then what is stored must become whole again.
    pub losses: bool,
    /// So many hosts, instead of what the seed draws.
    pub hosts: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        let sabotage = Sabotage::None;
        Self { operations: 25, trace: false, sabotage, losses: false, hosts: None }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What must never happen and did; nothing if all is well.
    pub violations: Vec<String>,
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Events.
    pub events: u64,
    /// Hash of all events: the same for the same seed.
    pub hash: blake3::Hash,
    /// Changes acknowledged.
    pub acknowledged: u64,
    /// Nodes of checkpoints in the last machine's store.
    pub nodes: u64,
}

/// Runs one seed.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let trace = Arc::new(Trace::new(options.trace));
        let inside = trace.clone();
        let work = async move {
            let mut run = Run::new(seed, options, inside).await;
            Box::pin(run.all(options.operations)).await;
            run.hosts.witness().finish();
            let nodes = run.machine.disk().into_keys();
            let nodes = nodes.filter(|key| key.starts_with(b"checkpoint/")).count() as u64;
            (run.model.acknowledged, nodes)
        };
        let work = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(work));
        let (acknowledged, nodes) = match work.await {
            Ok(done) => done,
            Err(panic) => {
                trace.violation(format!("panic: {}", super::panic_text(panic.as_ref())));
                (0, 0)
            }
        };
        let (events, hash) = trace.hash();
        let (violations, faults) = (trace.violations(), trace.faults());
        Outcome { seed, violations, faults, events, hash, acknowledged, nodes }
    })
}

/// A run under way.
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) trace: Arc<Trace>,
    pub(super) chain: SimChain,
    pub(super) hosts: SimHosts,
    pub(super) files: SimFiles,
    pub(super) keys: Arc<KeyTree>,
    pub(super) config: RenterConfig,
    pub(super) redundancy: Redundancy,
    pub(super) machine: Arc<Machine>,
    pub(super) machines: u32,
    pub(super) renter: Option<Renter>,
    pub(super) model: Model,
    /// Draws of what is done.
    pub(super) chance: Chance,
    /// Draws of what goes wrong.
    pub(super) trouble: Chance,
    /// Draws of partitions, disks and lies.
    pub(super) mischief: Chance,
    /// Draws of file contents.
    pub(super) content: Chance,
    /// Operations so far; makes names and times that differ.
    pub(super) number: u64,
    /// Hosts that every acknowledged slab may lose.
    pub(super) tolerance: usize,
    /// The host that shows old heads or forgets new ones now and then, where one may lie.
    pub(super) liar: Option<usize>,
    /// The host on whose disk bytes rot, where they do.
    pub(super) rotting: Option<usize>,
    /// Whether some have.
    pub(super) rotten: bool,
    /// Whether some operator runs several hosts.
    pub(super) shared: bool,
    pub(super) moods: Moods,
    pub(super) sabotage: Sabotage,
    /// See [`Options::losses`].
    pub(super) losses: bool,
    /// Whether the renter was opened again and has acknowledged nothing since.
    pub(super) restarted: bool,
    /// A disk as it once was.
    pub(super) image: Option<Image>,
    /// Changes that copies have tried; makes names that differ.
    pub(super) copied: u64,
    /// What backups were made of, where that was certain.
    pub(super) shown: BTreeMap<String, Vaults>,
}

impl Run {
    async fn new(seed: u64, options: Options, trace: Arc<Trace>) -> Self {
        let Options { sabotage, losses, .. } = options;
        let mut chance = Chance::new(seed, "operations");
        let usual = [3, 3, 3, 5, 5, 9][chance.index(6)];
        let setting = Setting::draw(seed, usual, &options);
        let count = setting.operators.len();
        let redundancy = setting.redundancy;
        let chain = SimChain::new(seed, trace.clone());
        let mut entropy = Zeroizing::new([0; 16]);
        Chance::new(seed, "words").fill(entropy.as_mut());
        let phrase = Phrase::from_entropy(&entropy).expect("16 bytes make words");
        let keys = Arc::new(KeyTree::new(&phrase.seed(""), &chain.genesis().hash()));
        let witness = Witness::new(keys.clone(), redundancy, trace.clone());
        let world = (chain.clone(), witness, trace.clone());
        let hosts = SimHosts::new(seed, &setting.operators, sabotage, world);
        chain.fund(keys.account(0).public(), Amount::coins(10_000));
        let machine = Machine::new(seed, 0, trace.clone());
        let mut trouble = Chance::new(seed, "trouble");
        // A host that lies is replaced for good; what three losses do is to be seen alone.
        let liar = (!losses && setting.liars() > 0).then(|| trouble.index(count));
        let mut mischief = Chance::new(seed, "mischief");
        // One bad host is enough: what slabs bear beyond it is lost in the end.
        let rotting = setting.moods.rot.then(|| liar.unwrap_or_else(|| mischief.index(count)));
        let run = Self {
            liar,
            rotting,
            rotten: false,
            shared: setting.is_shared(),
            moods: setting.moods,
            mischief,
            sabotage,
            losses,
            seed,
            chain,
            hosts,
            files: SimFiles::default(),
            keys,
            config: config(&setting, sabotage),
            redundancy,
            machine,
            machines: 1,
            renter: None,
            model: Model::default(),
            chance,
            trouble,
            content: Chance::new(seed, "content"),
            number: 0,
            restarted: false,
            image: None,
            copied: 0,
            shown: BTreeMap::new(),
            tolerance: usize::from(redundancy.margin),
            trace,
        };
        run.form().await;
        run
    }

    /// A contract with every host, in the first machine's table.
    async fn form(&self) {
        let mut nonces = Chance::new(self.seed, "nonces");
        let world = self.machine.world(&self.chain, &self.hosts, &self.files);
        let writer = Writer::new(Epoch::default());
        let book = ContractBook::open(world, self.keys.clone(), writer).await;
        let book = book.expect("a table in an empty store");
        let account = self.keys.account(0);
        for number in 0..self.hosts.count() {
            let host = self.hosts.key(number);
            let mut nonce = ContractNonce([0; 16]);
            nonces.fill(&mut nonce.0);
            let key = self.keys.contract(&nonce);
            let prices = super::hosts::prices();
            let terms = ContractTerms {
                contract: key.public(),
                nonce,
                tag: self.keys.recovery_tag().tag(&nonce, &host.public()),
                host: host.public(),
                refund: account.public(),
                period: Millis::hours(1_000),
                periods: 10,
                window: Millis::hours(1),
                window_blocks: 3,
                storage_price: prices.storage,
                collateral_rate: prices.collateral_rate,
                proof_fee: prices.proof_fee,
                funds: Amount::coins(1),
                collateral: Amount(100_000_000),
            };
            let contract = terms.contract;
            self.chain.send(&account, &[&key, host], Action::FormContract(Box::new(terms)));
            let index = HostIndex(u16::try_from(number).unwrap_or(u16::MAX));
            book.add_host(index, host.public(), self.hosts.operator_name(number))
                .await
                .expect("a free number");
            let contract = self.chain.contract_of(&contract).expect("it was just formed");
            book.formed(&contract).await.expect("a contract of these words");
        }
    }

    async fn all(&mut self, operations: u64) {
        self.reopen().await;
        self.resolve().await;
        for _ in 0..operations {
            self.number += 1;
            self.trouble().await;
            self.operation().await;
            if self.model.doubts() > DOUBTS || self.chance.per_mille(40) {
                self.resolve().await;
            }
            if self.chance.per_mille(150) {
                self.look("now and then").await;
            }
            if !self.trace.violations().is_empty() {
                return;
            }
        }
        if self.losses {
            self.lose_hosts().await;
        } else {
            self.check_hosts().await;
            self.last_check().await;
        }
    }

    /// After some quiet time the hosts hold nothing beyond what the journal names.
    async fn check_hosts(&mut self) {
        self.resolve().await;
        let Some(renter) = self.renter.clone() else { return };
        if self.sabotage != Sabotage::None || !self.trace.violations().is_empty() {
            return self.check_head_set(&renter);
        }
        let mut problem = String::new();
        for _ in 0..QUIET {
            tokio::time::sleep(Duration::from_secs(120)).await;
            problem = match self.too_much(&renter).await {
                None => {
                    let report = renter.garbage();
                    let (freed, moved) = (report.freed_bytes, report.rewritten_bytes);
                    let text =
                        format_args!("hosts hold what is needed; {freed} B freed, {moved} B moved");
                    self.trace.event(text);
                    return self.check_head_set(&renter);
                }
                Some(problem) => problem,
            };
        }
        let report = renter.garbage();
        self.trace.violation(format!("garbage stays at hosts: {problem}; {report:?}"));
    }

    /// A head set has one host of each operator, where there are enough of them.
    fn check_head_set(&self, renter: &Renter) {
        // Hosts that were given up are no members any more, though their contracts are still listed.
        if self.trace.faults().contains_key(&Fault::GivenUp) {
            return;
        }
        let contracts = renter.contracts();
        let all = self.operators(contracts.iter().map(|row| &row.host));
        let set = renter.status().head_set;
        let operators = self.operators(set.iter().map(|row| &row.host));
        if all >= OPERATORS && operators < set.len() {
            let hosts = set.len();
            let what = format!("{hosts} hosts of {operators} operators make the head set");
            self.trace.violation(what);
        }
    }

    /// How many operators run these hosts.
    pub(super) fn operators<'a>(&self, hosts: impl Iterator<Item = &'a String>) -> usize {
        let operator = |host: &String| {
            (0..self.hosts.count())
                .find(|number| self.hosts.key(*number).public().to_string() == *host)
                .map(|number| self.hosts.operator(number))
        };
        hosts.map(operator).collect::<BTreeSet<_>>().len()
    }

    /// What is at hosts and should not be.
    async fn too_much(&self, renter: &Renter) -> Option<String> {
        let needed = match renter.needed_bytes().await {
            Ok(needed) => needed,
            Err(error) => return Some(error.to_string()),
        };
        let used: BTreeSet<String> = renter.contracts().into_iter().map(|row| row.host).collect();
        for number in 0..self.hosts.count() {
            let host = self.hosts.key(number).public().to_string();
            let (held, needed) = (self.hosts.held(number), needed.get(&host).copied());
            if held > needed.unwrap_or_default() && used.contains(&host) {
                return Some(format!("host {number} holds {held} bytes of {needed:?} needed"));
            }
        }
        let report = renter.garbage();
        let waits = report.unused > 0 || !report.waiting.is_empty();
        waits.then(|| "some of it waits".to_owned())
    }

    /// Lets the renter's machine die, if anything runs on it.
    pub(super) async fn die(&mut self) {
        self.machine.crash().await;
        self.renter = None;
        tokio::task::yield_now().await;
    }

    /// Opens the renter on its machine again, through crashes if they are planned.
    pub(super) async fn reopen(&mut self) {
        for attempt in 0..4 {
            let world = self.machine.world(&self.chain, &self.hosts, &self.files);
            if attempt < 3 && self.trouble.per_mille(100) {
                let (point, after) = self.crash_point(8);
                self.machine.plan_crash(point, after);
            }
            let opening = async {
                let renter = Renter::open(world, self.keys.clone(), self.config)
                    .await
                    .map_err(|error| error.to_string())?;
                if renter.status().state == RenterState::Fresh {
                    renter.start_fresh().await.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(renter)
            };
            let machine = self.machine.clone();
            match machine.attempt(None, LIMIT, opening).await {
                Ended::Done(Ok(renter)) => {
                    self.machine.forget_plan();
                    self.trace.event(format_args!("m{} open", self.machine.number()));
                    self.renter = Some(renter);
                    self.restarted = true;
                    return;
                }
                Ended::Done(Err(error)) => {
                    self.trace.violation(format!("the renter does not open again: {error}"));
                    return;
                }
                Ended::Crashed | Ended::Cancelled => {
                    self.trace.fault(Fault::RenterCrashInside, format_args!("while it opens"));
                    self.die().await;
                }
                Ended::Hung => self.trace.violation("the renter hangs while it opens".into()),
            }
        }
    }

    /// A moment at which a machine may die.
    pub(super) fn crash_point(&mut self, most: u64) -> (Point, u64) {
        let point = [Point::Call, Point::BeforeCommit, Point::AfterCommit][self.trouble.index(3)];
        (point, self.trouble.below(most))
    }

    /// What a renter lists.
    pub(super) async fn observe(&self, renter: &Renter) -> Result<Names, String> {
        let mut names = Names::default();
        for vault in renter.vaults() {
            let files = listed(renter, &vault.name, None).await?;
            names.vaults.insert(vault.name, files);
        }
        // What failed is listed too, and the journal does not name it.
        let named = renter.backups().into_iter().filter(|row| row.head_seq.is_some());
        names.backups.extend(named.map(|row| row.name));
        Ok(names)
    }

    /// Compares what backups show with what was there when they were made.
    pub(super) async fn check_backups(&self, when: &str, seen: &Names) {
        let Some(renter) = &self.renter else { return };
        for (backup, vaults) in self.shown.iter().filter(|(name, _)| seen.backups.contains(*name)) {
            for (vault, expected) in vaults {
                let problem = match listed(renter, vault, Some(backup)).await {
                    Ok(files) if files == *expected => continue,
                    Ok(files) => format!("{} files, {} were there", files.len(), expected.len()),
                    Err(error) => error,
                };
                let what = format!("{when}: '{backup}' does not show vault '{vault}': {problem}");
                self.trace.violation(what);
            }
        }
        let shown = self.shown.keys().filter(|name| seen.backups.contains(*name)).count();
        self.trace.event(format_args!("{shown} backups show what they should"));
    }

    /// Compares what the renter lists with the model.
    pub(super) async fn look(&mut self, when: &str) -> Option<Names> {
        let renter = self.renter.clone()?;
        // After a restart it is not known locally what a quorum held: the listing may lag until the
        // next change is acknowledged.
        if self.restarted && renter.status().unacknowledged > 0 {
            return None;
        }
        self.restarted = false;
        let seen = match self.observe(&renter).await {
            Ok(seen) => seen,
            Err(error) => {
                self.trace.violation(format!("{when}: cannot list: {error}"));
                return None;
            }
        };
        let files: usize = seen.vaults.values().map(BTreeMap::len).sum();
        self.trace
            .event(format_args!("look {when}: {files} files, {} doubts", self.model.doubts()));
        if let Err(difference) = self.model.check(&seen) {
            self.trace.violation(format!("{when}: {difference}"));
            return None;
        }
        Some(seen)
    }

    /// Reads everything that is listed and compares the bytes with the hashes of the listing.
    pub(super) async fn read_all(&mut self, when: &str, seen: &Names) {
        let Some(renter) = self.renter.clone() else { return };
        let machine = self.machine.clone();
        for (vault, listed) in &seen.vaults {
            let mut problem = String::new();
            for attempt in 0..4 {
                let folder = PathBuf::from(format!("/read/{}/{attempt}", self.number));
                let request = GetRequest {
                    vault: vault.clone(),
                    path: String::new(),
                    version: None,
                    backup: None,
                    destination: folder.clone(),
                    conflict: Conflict::Replace,
                    dry_run: false,
                };
                if listed.is_empty() {
                    break;
                }
                let got = machine.attempt(None, LIMIT, renter.get(request, &Silent)).await;
                problem = match got {
                    Ended::Done(Ok(report)) if report.failed.is_empty() => String::new(),
                    Ended::Done(Ok(report)) => format!("{:?}", report.failed),
                    Ended::Done(Err(error)) => error.to_string(),
                    other => format!("{:?}", std::mem::discriminant(&other)),
                };
                let files = self.files.contents(&folder);
                self.files.remove(&folder);
                for (path, bytes) in &files {
                    if listed.get(path) != Some(&Content::of(bytes)) {
                        let what = format!("{when}: '{vault}/{path}' was read with other bytes");
                        self.trace.violation(what);
                    }
                }
                if problem.is_empty() && files.len() != listed.len() {
                    problem = format!("{} of {} files came", files.len(), listed.len());
                }
                if problem.is_empty() {
                    break;
                }
            }
            if !problem.is_empty() {
                self.trace.violation(format!("{when}: vault '{vault}' cannot be read: {problem}"));
            }
        }
    }

    /// Heals everything and waits until nothing is doubtful any more.
    pub(super) async fn resolve(&mut self) {
        self.trace.event(format_args!("resolve {} doubts", self.model.doubts()));
        self.hosts.heal();
        self.chain.set_faults(0, 0);
        let mut problem = String::new();
        for attempt in 0..PATIENCE {
            match self.marker().await {
                Ok(()) => {
                    if let Some(seen) = self.look("when all is acknowledged").await {
                        self.model.settle(seen);
                    }
                    self.check_money().await;
                    return;
                }
                Err(error) if attempt == 0 => {
                    self.doubt_marker();
                    problem = error;
                }
                Err(error) => problem = error,
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        self.trace.violation(format!("stuck though all hosts are well: {problem}"));
    }
}

/// The files that a renter lists in a vault, now or in a backup.
async fn listed(
    renter: &Renter,
    vault: &str,
    backup: Option<&str>,
) -> Result<BTreeMap<String, Content>, String> {
    let backup = backup.map(str::to_owned);
    let options = ListOptions { recursive: true, backup, ..ListOptions::default() };
    let rows = renter.list(vault, &options).await.map_err(|error| error.to_string())?;
    let mut files = BTreeMap::new();
    for row in rows {
        let ListRow::File(row) = row else { continue };
        let hash = blake3::Hash::from_hex(&row.version.hash)
            .map_err(|error| format!("'{}' is no hash: {error}", row.version.hash))?;
        files.insert(row.path, Content { size: row.version.size, hash });
    }
    Ok(files)
}

/// Small slabs and short waits.
fn config(setting: &Setting, sabotage: Sabotage) -> RenterConfig {
    let mut config = sound_config(setting.redundancy);
    config.journal.checkpoint_entries = setting.checkpoints;
    if matches!(sabotage, Sabotage::ForgetPromises | Sabotage::LowerEpochs) {
        // What a node does by itself tells it soon that it was taken over, also where promises are
        // forgotten. Here it has to learn from its next write.
        config.upkeep = Millis::seconds(600);
        config.repair.interval = Millis::hours(1_000);
        config.garbage.interval = Millis::hours(1_000);
    }
    config
}

fn sound_config(redundancy: Redundancy) -> RenterConfig {
    let size = |bytes| SectorSize::new(bytes).expect("a power of two");
    let transfer = TransferOptions {
        minimum_column: size(1 << 10),
        maximum_column: size(16 << 10),
        frame: FRAME,
        ..TransferOptions::new(redundancy)
    };
    RenterConfig {
        transfer,
        journal: JournalOptions {
            spill: 5 << 10,
            // A node fits into the largest slab.
            nodes: Limits::new(6 << 10, 12 << 10).expect("the one is half of the other"),
            ..JournalOptions::default()
        },
        vault: VaultOptions {
            inline: 1 << 10,
            inline_batch: 3 << 10,
            batch_files: 2,
            batch_bytes: 96 << 10,
            chunk: 8 << 10,
            ..VaultOptions::default()
        },
        line: LineRates::default(),
        upkeep: Millis::seconds(10),
        repair: RepairOptions::default(),
        garbage: GarbageOptions {
            interval: Millis::seconds(20),
            reader: Millis::seconds(600),
            compare: Millis::seconds(30),
            audit: Millis::seconds(900),
            orphan: Millis::seconds(1_200),
            rewrite_rate: 1 << 20,
        },
    }
}

/// The effect of the file that says that everything before is acknowledged.
pub(super) fn marker_effect(content: Content) -> Effect {
    Effect::Put { vault: "markers".into(), path: "marker".into(), content }
}
