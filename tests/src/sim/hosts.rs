//! The simulated hosts: the real host rules over stores that tell synced from unsynced writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::chain::Action;
use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::host::core::{Host, HostRules};
use samara_protocol::host::memory::{MemoryImage, MemoryStore};
use samara_protocol::host::message::{ContractCall, HostRequest, HostResponse, Refusal};
use samara_protocol::host::{HostAnnouncement, HostStore as _, HostStoreError, Prices};
use samara_protocol::sector::SectorSize;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime, Epoch, Millis};
use samara_renter::world::ChainView as _;

use super::chain::{EPOCH, SimChain, fixed_key};
use super::chance::Chance;
use super::disk::{Sabotage, SimDisk};
use super::lies::{Lie, answer};
use super::machine::Machine;
use super::network::{MachineHosts, Partitions, Weather};
use super::trace::{Fault, Trace};
use super::witness::Witness;

const CAPACITY: u64 = 1 << 30;

/// What all hosts ask for.
#[must_use]
pub fn prices() -> Prices {
    Prices {
        storage: Amount(1),
        upload: Amount(2),
        download: Amount(3),
        request: Amount(100),
        collateral_rate: Amount(1),
        maximum_collateral: Amount(1_000_000_000),
        proof_fee: Amount(10),
        maximum_duration: Millis::hours(100_000),
    }
}

/// The hosts and the network between. A cheap clone.
#[derive(Clone)]
pub struct SimHosts(Arc<Shared>);

struct Shared {
    chain: SimChain,
    trace: Arc<Trace>,
    keys: Vec<SecretKey>,
    operators: Vec<usize>,
    sabotage: Sabotage,
    witness: Witness,
    inner: Mutex<Inner>,
}

struct Inner {
    weather: Weather,
    partitions: Partitions,
    hosts: Vec<SimHost>,
    numbers: BTreeMap<PublicKey, usize>,
}

struct SimHost {
    disk: Arc<MemoryStore>,
    /// The disk at an earlier moment, to which a liar goes back.
    image: Option<MemoryImage>,
    /// Nothing while it is down.
    running: Option<Arc<Host<SimDisk>>>,
    lost: bool,
    /// What it lies about.
    lie: Lie,
    chance: Chance,
    /// Highest epoch that it has said to have promised, by contract.
    promised: BTreeMap<ContractId, Epoch>,
    /// Requests sent to it, and the latest of them that has arrived.
    sent: u64,
    arrived: u64,
}

impl SimHosts {
    /// Hosts of these operators, funded and announced.
    ///
    /// # Panics
    /// When a host cannot be opened over its empty store.
    #[must_use]
    pub(super) fn new(
        seed: u64,
        operators: &[usize],
        sabotage: Sabotage,
        (chain, witness, trace): (SimChain, Witness, Arc<Trace>),
    ) -> Self {
        let count = operators.len();
        let numbers = 1..=u8::try_from(count).unwrap_or(200);
        let keys: Vec<SecretKey> = numbers.map(fixed_key).collect();
        let mut hosts = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            chain.fund(key.public(), Amount::coins(100));
            let announcement = HostAnnouncement {
                addresses: vec![format!("/memory/{number}")],
                operator: operator_name(sabotage, operators, number),
                capacity: CAPACITY,
                accepting: true,
                prices: prices(),
            };
            chain.send(key, &[], Action::AnnounceHost(announcement));
            let disk = Arc::new(MemoryStore::new(CAPACITY));
            let chance = Chance::new(seed, &format!("network to host {number}"));
            hosts.push(SimHost {
                disk,
                image: None,
                running: None,
                lost: false,
                lie: Lie::Nothing,
                chance,
                promised: BTreeMap::new(),
                sent: 0,
                arrived: 0,
            });
        }
        let by_key = keys.iter().enumerate().map(|(number, key)| (key.public(), number)).collect();
        let partitions = Partitions::new();
        let inner = Inner { weather: Weather::FAIR, partitions, hosts, numbers: by_key };
        let (operators, inner) = (operators.to_vec(), Mutex::new(inner));
        let shared = Shared { chain, trace, keys, operators, sabotage, witness, inner };
        let all = Self(Arc::new(shared));
        (0..count).for_each(|number| all.start(number));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0.inner)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.keys.len()
    }

    /// A host's key.
    #[must_use]
    pub fn key(&self, number: usize) -> &SecretKey {
        &self.0.keys[number]
    }

    /// Who runs a host.
    #[must_use]
    pub fn operator(&self, number: usize) -> usize {
        self.0.operators[number]
    }

    /// Who a host says that it is run by.
    #[must_use]
    pub fn operator_name(&self, number: usize) -> String {
        operator_name(self.0.sabotage, &self.0.operators, number)
    }

    pub(super) fn sabotage(&self) -> Sabotage {
        self.0.sabotage
    }

    /// The number of the host with a key.
    #[must_use]
    pub fn number_of(&self, host: &PublicKey) -> Option<usize> {
        self.lock().numbers.get(host).copied()
    }

    pub(super) fn witness(&self) -> &Witness {
        &self.0.witness
    }

    /// The same hosts as one machine reaches them.
    #[must_use]
    pub fn seen_by(&self, machine: Arc<Machine>) -> MachineHosts {
        MachineHosts { hosts: self.clone(), machine }
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        self.0.trace.event(format_args!("weather {weather:?}"));
        self.lock().weather = weather;
    }

    /// Starts a host over its disk, if it is down and not lost.
    ///
    /// # Panics
    /// When it cannot be opened: its store is healthy.
    pub fn start(&self, number: usize) {
        let mut inner = self.lock();
        let host = &mut inner.hosts[number];
        host.lie = Lie::Nothing;
        host.disk.set_capacity(CAPACITY);
        if host.running.is_some() || host.lost {
            return;
        }
        let opened = self.open(number, &host.disk).or_else(|_| {
            // The disk has failed: its machine is started anew.
            host.disk.crash();
            self.open(number, &host.disk)
        });
        let opened = opened.expect("a host opens over a healthy disk");
        host.running = Some(Arc::new(opened));
        drop(inner);
        self.0.trace.event(format_args!("host {number} starts"));
    }

    fn open(
        &self,
        number: usize,
        disk: &Arc<MemoryStore>,
    ) -> Result<Host<SimDisk>, HostStoreError> {
        let rules = HostRules { minimum_sector: SectorSize::MIN, ..HostRules::default() };
        let genesis = self.0.chain.genesis().hash();
        let now = ChainTime(EPOCH + self.0.trace.elapsed());
        let disk = SimDisk { store: disk.clone(), sabotage: self.0.sabotage };
        Host::open(disk, self.0.keys[number].clone(), genesis, rules, prices(), true, now)
    }

    /// A host refuses for promises that nobody has claimed, until it is started again.
    pub fn forge_claims(&self, number: usize) {
        self.trace().fault(Fault::ForgedClaims, format_args!("host {number}"));
        self.lock().hosts[number].lie = Lie::Claims;
    }

    /// A host shows the heads that were remembered of it, until it is started again. Whether something
    /// was.
    pub fn show_old_heads(&self, number: usize) -> bool {
        let image = self.lock().hosts[number].image.clone();
        let Some(image) = image else { return false };
        let disk = Arc::new(MemoryStore::new(CAPACITY));
        disk.restore(&image);
        let Ok(old) = self.open(number, &disk) else { return false };
        self.trace().fault(Fault::OldHead, format_args!("host {number}"));
        self.lock().hosts[number].lie = Lie::Heads(Arc::new(old));
        true
    }

    /// A host signs for heads that it will have forgotten when it is started again.
    pub fn forget_heads(&self, number: usize) {
        let disk = Arc::new(MemoryStore::new(CAPACITY));
        disk.restore(&self.lock().hosts[number].disk.image());
        let Ok(other) = self.open(number, &disk) else { return };
        self.trace().event(format_args!("host {number} is going to forget its heads"));
        self.lock().hosts[number].lie = Lie::Receipts(Arc::new(other));
    }

    /// A host answers reads with other bytes until it is started again.
    pub fn serve_wrong_bytes(&self, number: usize) {
        self.trace().event(format_args!("host {number} serves wrong bytes"));
        self.lock().hosts[number].lie = Lie::Bytes;
    }

    /// A host takes no more sectors until it is started again.
    pub fn fill(&self, number: usize) {
        self.trace().fault(Fault::HostFull, format_args!("host {number}"));
        self.lock().hosts[number].disk.set_capacity(0);
    }

    /// A byte rots on a host's disk, in a sector that is drawn. Whether there is one.
    ///
    /// # Panics
    /// Never: a store in memory reads.
    pub fn rot(&self, number: usize, chance: &mut Chance) -> bool {
        let disk = self.lock().hosts[number].disk.clone();
        let stored = disk.stored().expect("it reads");
        let Some(entry) = stored.get(chance.index(stored.len())) else { return false };
        let offset = chance.index(entry.size.bytes() as usize);
        self.trace().fault(Fault::BitRot, format_args!("host {number} {}", entry.root));
        disk.corrupt(&entry.root, offset)
    }

    /// A machine cannot reach some hosts until the partition is mended.
    pub fn cut_off(&self, machine: u32, hosts: BTreeSet<usize>) {
        self.trace().event(format_args!("m{machine} is cut off from hosts {hosts:?}"));
        self.lock().partitions.insert(machine, hosts);
    }

    /// All machines reach all hosts.
    pub fn mend_partitions(&self) {
        self.lock().partitions.clear();
    }

    pub(super) fn is_cut_off(&self, machine: u32, number: usize) -> bool {
        self.lock().partitions.get(&machine).is_some_and(|hosts| hosts.contains(&number))
    }

    /// A host cannot be reached until it is started again.
    pub fn stop(&self, number: usize) {
        self.lock().hosts[number].running = None;
        self.0.trace.event(format_args!("host {number} stops"));
    }

    /// A host loses power: what it had not synced is gone. It is down until it is started again.
    pub fn crash(&self, number: usize) {
        self.0.trace.fault(Fault::HostCrash, format_args!("host {number}"));
        let mut inner = self.lock();
        let host = &mut inner.hosts[number];
        host.running = None;
        host.disk.crash();
    }

    /// As [`SimHosts::crash`], and of what it had not synced a part is there.
    pub fn crash_torn(&self, number: usize, chance: &mut Chance) {
        let disk = {
            let mut inner = self.lock();
            let host = &mut inner.hosts[number];
            host.running = None;
            host.disk.clone()
        };
        let (batches, removals) = disk.unsynced();
        let kept = (chance.index(batches + 1), chance.index(removals + 1));
        let fault = if batches + removals > 0 { Fault::TornWrites } else { Fault::HostCrash };
        self.trace()
            .fault(fault, format_args!("host {number} keeps {kept:?} of {batches} and {removals}"));
        disk.crash_torn(kept.0, kept.1);
    }

    /// A host's disk takes so many more writes and fails until the host crashes.
    pub fn fail_disk(&self, number: usize, writes: u64) {
        self.0.trace.fault(Fault::HostDisk, format_args!("host {number} after {writes} writes"));
        self.lock().hosts[number].disk.fail_after(writes);
    }

    /// A host is gone for good.
    pub fn lose(&self, number: usize) {
        self.0.trace.fault(Fault::HostLost, format_args!("host {number}"));
        let mut inner = self.lock();
        inner.hosts[number].running = None;
        inner.hosts[number].lost = true;
    }

    /// Notes what a host's disk holds now.
    pub fn remember(&self, number: usize) {
        self.trace().event(format_args!("host {number} is remembered"));
        let mut inner = self.lock();
        let host = &mut inner.hosts[number];
        host.image = Some(host.disk.image());
    }

    /// A host goes back to what was remembered of it, and starts. Whether there was something.
    pub fn roll_back(&self, number: usize) -> bool {
        {
            let mut inner = self.lock();
            let host = &mut inner.hosts[number];
            let Some(image) = host.image.take().filter(|_| !host.lost) else { return false };
            host.running = None;
            host.promised.clear();
            host.disk.restore(&image);
        }
        self.trace().fault(Fault::HostLies, format_args!("host {number}"));
        self.start(number);
        true
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Whether a host runs and is of use.
    #[must_use]
    pub fn runs(&self, number: usize) -> bool {
        let inner = self.lock();
        let host = &inner.hosts[number];
        host.running.is_some() && !matches!(host.lie, Lie::Claims)
    }

    /// Whether a host is gone for good, by its key in hex.
    #[must_use]
    pub fn is_lost(&self, key: &str) -> bool {
        let inner = self.lock();
        let mut hosts = self.0.keys.iter().zip(&inner.hosts);
        hosts.any(|(known, host)| known.public().to_string() == key && host.lost)
    }

    /// Hosts that are not lost.
    #[must_use]
    pub fn surviving(&self) -> Vec<usize> {
        let inner = self.lock();
        (0..inner.hosts.len()).filter(|number| !inner.hosts[*number].lost).collect()
    }

    /// Bytes of the sectors that contracts hold at a host.
    ///
    /// # Panics
    /// Never: a store in memory reads.
    #[must_use]
    pub fn held(&self, number: usize) -> u64 {
        let disk = self.lock().hosts[number].disk.clone();
        let contracts = disk.contracts().expect("it reads");
        let lists = contracts.iter().flat_map(|id| disk.sectors(id).expect("it reads"));
        lists.map(|entry| u64::from(entry.size.bytes())).sum()
    }

    /// Brings every host back that is not lost; those with a failed disk lose power first.
    pub fn heal(&self) {
        self.set_weather(Weather::FAIR);
        self.mend_partitions();
        for number in self.surviving() {
            let mut inner = self.lock();
            let host = &mut inner.hosts[number];
            host.running = None;
            host.disk.crash();
            drop(inner);
            self.start(number);
        }
    }

    /// The weather on the way to a host, and its draws, which come back with [`SimHosts::put_chance`].
    pub(super) fn weather_to(&self, number: usize) -> (Weather, Chance) {
        let inner = self.lock();
        (inner.weather, inner.hosts[number].chance.clone())
    }

    pub(super) fn put_chance(&self, number: usize, chance: Chance) {
        self.lock().hosts[number].chance = chance;
    }

    /// A request is on its way to a host; returns which it is.
    pub(super) fn sent(&self, number: usize) -> u64 {
        let mut inner = self.lock();
        let host = &mut inner.hosts[number];
        host.sent += 1;
        host.sent
    }

    /// A request arrives.
    pub(super) fn arrived(&self, number: usize, ticket: u64) {
        let overtaken = {
            let mut inner = self.lock();
            let host = &mut inner.hosts[number];
            let overtaken = ticket < host.arrived;
            host.arrived = host.arrived.max(ticket);
            overtaken
        };
        if overtaken {
            self.trace().fault(Fault::Reordered, format_args!("at host {number}"));
        }
    }

    /// Hands a request to a host; nothing if it is down.
    fn deliver(&self, number: usize, machine: u32, body: &[u8]) -> Option<Vec<u8>> {
        let (host, lie, facts_of) = {
            let inner = self.lock();
            let host = &inner.hosts[number];
            (host.running.clone(), host.lie.clone(), self.0.keys[number].public())
        };
        let Some(host) = host else {
            self.0.trace.fault(Fault::HostUnreachable, format_args!("host {number}"));
            return None;
        };
        let request: HostRequest = encoding::decode(body).expect("the renter's own bytes");
        let name = request.name();
        let (payer, concerns) =
            (Host::<SimDisk>::payer(&request), Host::<SimDisk>::concerns(&request));
        let facts = self.0.chain.facts(&facts_of, payer, concerns);
        let from = PublicKey([u8::try_from(machine).unwrap_or(u8::MAX); 32]);
        let mut claim = None;
        if let HostRequest::Contract(request) = &request {
            self.0.witness.see(request);
            let promises = matches!(request.call, ContractCall::Promise);
            claim = Some((request.contract, request.claim.epoch, promises));
        }
        let (mut told, is_false) = answer(&host, &lie, &facts, &from, request.clone());
        if self.0.sabotage == Sabotage::LowerEpochs
            && matches!(told, HostResponse::Refused(Refusal::Fenced { .. }))
            && let Some(host) = self.forget_promises(number)
        {
            told = host.handle(&facts, &from, request);
        }
        if is_false {
            let bytes = matches!(lie, Lie::Bytes);
            let fault = if bytes { Fault::WrongBytes } else { Fault::FalseReceipt };
            self.trace().fault(fault, format_args!("of host {number}"));
        }
        if let Some(claim) = claim.filter(|_| matches!(lie, Lie::Nothing)) {
            self.check_epoch(number, claim, &told);
        }
        let answer = encoding::encode(&told);
        let answer_name = match encoding::decode(&answer) {
            Ok(HostResponse::Refused(refusal)) => format!("refused: {refusal}"),
            Ok(_) => format!("{} bytes", answer.len()),
            Err(error) => format!("no answer at all: {error}"),
        };
        self.0.trace.event(format_args!("m{machine} -> host {number} {name}: {answer_name}"));
        Some(answer)
    }

    /// A host that said that it promised an epoch takes no change of a lower one.
    fn check_epoch(
        &self,
        number: usize,
        (contract, epoch, promises): (ContractId, Epoch, bool),
        told: &HostResponse,
    ) {
        let mut inner = self.lock();
        let host = &mut inner.hosts[number];
        let promised = host.promised.entry(contract).or_default();
        let changed = matches!(told, HostResponse::HeadWritten(_) | HostResponse::Committed(_));
        if promises && matches!(told, HostResponse::Head { .. }) || changed {
            if changed && epoch < *promised && self.0.sabotage != Sabotage::ForgetPromises {
                let promised = *promised;
                drop(inner);
                let what = format!("host {number} takes epoch {epoch}, it promised {promised}");
                return self.0.trace.violation(what);
            }
            *promised = (*promised).max(epoch);
        }
    }

    /// A host starts anew over its disk, which forgets promises.
    fn forget_promises(&self, number: usize) -> Option<Arc<Host<SimDisk>>> {
        let disk = self.lock().hosts[number].disk.clone();
        let host = Arc::new(self.open(number, &disk).ok()?);
        self.lock().hosts[number].running = Some(host.clone());
        Some(host)
    }

    /// As [`SimHosts::deliver`]; a host that panics is a violation.
    pub(super) fn deliver_safely(
        &self,
        number: usize,
        machine: u32,
        body: &[u8],
    ) -> Option<Vec<u8>> {
        let call = std::panic::AssertUnwindSafe(|| self.deliver(number, machine, body));
        match std::panic::catch_unwind(call) {
            Ok(answer) => answer,
            Err(panic) => {
                let what = super::panic_text(panic.as_ref());
                self.0.trace.violation(format!("host {number} panicked: {what}"));
                None
            }
        }
    }
}

fn operator_name(sabotage: Sabotage, operators: &[usize], number: usize) -> String {
    let hidden = sabotage == Sabotage::HiddenOperators;
    format!("operator {}", if hidden { number } else { operators[number] })
}
