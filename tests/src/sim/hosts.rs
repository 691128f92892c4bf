//! The simulated hosts: the real host rules over stores that tell synced from unsynced writes, behind
//! a network that delays, drops and reorders.
//!
//! A request travels on a task of the network: what a renter has sent may arrive after it died.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use samara_protocol::chain::Action;
use samara_protocol::encoding;
use samara_protocol::hash::ContractNonce;
use samara_protocol::host::core::{Host, HostRules};
use samara_protocol::host::memory::{MemoryImage, MemoryStore};
use samara_protocol::host::message::{
    ContractCall, ContractStatus, HostRequest, HostResponse, Refusal,
};
use samara_protocol::host::{EpochClaim, HostAnnouncement, HostStore as _, HostStoreError, Prices};
use samara_protocol::sector::SectorSize;
use samara_protocol::signature::{PublicKey, SecretKey, Signature};
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, ChainTime, Epoch, Millis};
use samara_renter::world::{ChainView as _, HostCallError, HostClient, Lane};
use tokio::sync::oneshot;

use super::chain::{EPOCH, SimChain, fixed_key};
use super::chance::Chance;
use super::disk::{Sabotage, SimDisk};
use super::machine::{Machine, Point};
use super::trace::{Fault, Trace};

const CONTROL_DEADLINE: u64 = 15_000;
const BULK_DEADLINE: u64 = 60_000;
const CAPACITY: u64 = 1 << 30;

/// How the network is, for all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Requests of 1,000 that never arrive.
    pub request_lost: u64,
    /// Answers of 1,000 that never arrive.
    pub answer_lost: u64,
    /// Requests of 1,000 that arrive seconds late.
    pub late: u64,
    /// Longest usual delay each way, milliseconds.
    pub delay: u64,
}

impl Weather {
    /// Nothing is lost.
    pub const FAIR: Self = Self { request_lost: 0, answer_lost: 0, late: 0, delay: 20 };
}

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
    sabotage: Sabotage,
    inner: Mutex<Inner>,
}

struct Inner {
    weather: Weather,
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
}

/// What a host lies about, until it is healed.
#[derive(Clone)]
enum Lie {
    Nothing,
    /// It says that it promised the last epoch there is, with a claim that nobody signed.
    Claims,
    /// It shows the heads that it had at an earlier moment.
    Heads(Arc<Host<SimDisk>>),
}

/// What becomes of one request.
struct Fate {
    there: u64,
    back: u64,
    arrives: bool,
    answered: bool,
    /// Whether the caller hears at once that the connection broke.
    broken: bool,
}

impl SimHosts {
    /// So many hosts, funded and announced.
    ///
    /// # Panics
    /// When a host cannot be opened over its empty store.
    #[must_use]
    pub fn new(
        seed: u64,
        count: usize,
        sabotage: Sabotage,
        chain: SimChain,
        trace: Arc<Trace>,
    ) -> Self {
        let numbers = 1..=u8::try_from(count).unwrap_or(200);
        let keys: Vec<SecretKey> = numbers.map(fixed_key).collect();
        let mut hosts = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            chain.fund(key.public(), Amount::coins(100));
            let announcement = HostAnnouncement {
                addresses: vec![format!("/memory/{number}")],
                operator: format!("operator {number}"),
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
            });
        }
        let by_key = keys.iter().enumerate().map(|(number, key)| (key.public(), number)).collect();
        let inner = Inner { weather: Weather::FAIR, hosts, numbers: by_key };
        let all = Self(Arc::new(Shared { chain, trace, keys, sabotage, inner: Mutex::new(inner) }));
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
            host.disk.restore(&image);
        }
        self.trace().fault(Fault::HostLies, format_args!("host {number}"));
        self.start(number);
        true
    }

    fn trace(&self) -> &Trace {
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
        for number in self.surviving() {
            let mut inner = self.lock();
            let host = &mut inner.hosts[number];
            host.running = None;
            host.disk.crash();
            drop(inner);
            self.start(number);
        }
    }

    fn fate(&self, number: usize, deadline: u64) -> Fate {
        let mut inner = self.lock();
        let weather = inner.weather;
        let chance = &mut inner.hosts[number].chance;
        let arrives = !chance.per_mille(weather.request_lost);
        let answered = arrives && !chance.per_mille(weather.answer_lost);
        let late = chance.per_mille(weather.late);
        let there =
            if late { chance.within(1_000, 2 * deadline) } else { chance.within(0, weather.delay) };
        let (back, broken) = (chance.within(0, weather.delay), chance.per_mille(500));
        drop(inner);
        let trace = &self.0.trace;
        if !arrives {
            trace.fault(Fault::RequestLost, format_args!("to host {number}"));
        } else if !answered {
            trace.fault(Fault::AnswerLost, format_args!("of host {number}"));
        } else if late {
            trace.fault(Fault::RequestLate, format_args!("to host {number} by {there} ms"));
        }
        Fate { there, back, arrives, answered, broken }
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
        let truth = host.handle(&facts, &from, request.clone());
        let answer = match lie {
            Lie::Nothing => truth,
            Lie::Claims => forged(&request, truth),
            Lie::Heads(old) => with_head_of(&old.handle(&facts, &from, request), truth),
        };
        let answer = encoding::encode(&answer);
        let answer_name = match encoding::decode(&answer) {
            Ok(HostResponse::Refused(refusal)) => format!("refused: {refusal}"),
            Ok(_) => format!("{} bytes", answer.len()),
            Err(error) => format!("no answer at all: {error}"),
        };
        self.0.trace.event(format_args!("m{machine} -> host {number} {name}: {answer_name}"));
        Some(answer)
    }

    /// As [`SimHosts::deliver`]; a host that panics is a violation.
    fn deliver_safely(&self, number: usize, machine: u32, body: &[u8]) -> Option<Vec<u8>> {
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

/// The same answer under a promise that nobody has claimed.
fn forged(request: &HostRequest, truth: HostResponse) -> HostResponse {
    let epoch = Epoch { counter: u64::MAX, writer: [0xff; 16] };
    let lie = EpochClaim { nonce: ContractNonce([7; 16]), epoch, signature: Signature([9; 64]) };
    match (request, truth) {
        (_, HostResponse::Latest(status)) => {
            HostResponse::Latest(Box::new(ContractStatus { promised: lie, ..*status }))
        }
        (HostRequest::Contract(request), HostResponse::Head { status, head }) => {
            if matches!(request.call, ContractCall::Promise) {
                let (given, promised) = (request.claim.epoch, Box::new(lie));
                return HostResponse::Refused(Refusal::Fenced { given, promised });
            }
            let status = Box::new(ContractStatus { promised: lie, ..*status });
            HostResponse::Head { status, head }
        }
        (HostRequest::Contract(request), HostResponse::HeadWritten(_) | HostResponse::Stored) => {
            let (given, promised) = (request.claim.epoch, Box::new(lie));
            HostResponse::Refused(Refusal::Fenced { given, promised })
        }
        (_, truth) => truth,
    }
}

/// The same answer with the head that the host had before: slot and receipt are truly signed.
fn with_head_of(old: &HostResponse, truth: HostResponse) -> HostResponse {
    match (old, truth) {
        (HostResponse::Head { status: old, head }, HostResponse::Head { status, .. }) => {
            let status = ContractStatus { slot: old.slot, receipt: old.receipt, ..*status };
            HostResponse::Head { status: Box::new(status), head: head.clone() }
        }
        (_, truth) => truth,
    }
}

/// The hosts as one machine reaches them.
pub struct MachineHosts {
    hosts: SimHosts,
    machine: Arc<Machine>,
}

#[async_trait]
impl HostClient for MachineHosts {
    async fn call(
        &self,
        host: &PublicKey,
        lane: Lane,
        request: HostRequest,
    ) -> Result<HostResponse, HostCallError> {
        self.machine.point(Point::Call).await;
        let unreachable = |reason: &str| {
            Err(HostCallError::Unreachable { host: *host, reason: reason.to_owned() })
        };
        let number = self.hosts.lock().numbers.get(host).copied();
        let Some(number) = number else { return unreachable("nobody has this key") };
        let deadline = match lane {
            Lane::Control => CONTROL_DEADLINE,
            Lane::Bulk => BULK_DEADLINE,
        };
        let fate = self.hosts.fate(number, deadline);
        // The messages travel as bytes, as they do in earnest.
        let body = encoding::encode(&request);
        let (sender, receiver) = oneshot::channel();
        let (hosts, machine) = (self.hosts.clone(), self.machine.number());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(fate.there)).await;
            let answer =
                if fate.arrives { hosts.deliver_safely(number, machine, &body) } else { None };
            tokio::time::sleep(Duration::from_millis(fate.back)).await;
            if answer.is_some() && !fate.answered || answer.is_none() && !fate.broken {
                // Nobody says anything: the caller waits until its deadline.
                tokio::time::sleep(Duration::from_millis(2 * BULK_DEADLINE)).await;
            }
            let _ = sender.send(answer.filter(|_| fate.answered));
        });
        let answer =
            tokio::time::timeout(Duration::from_millis(deadline), receiver.map(Result::ok));
        let answer = match answer.await {
            Ok(Some(Some(answer))) => answer,
            Ok(_) => return unreachable("the connection broke"),
            Err(_) => return Err(HostCallError::TimedOut { host: *host }),
        };
        encoding::decode(&answer)
            .map_err(|error| HostCallError::False { host: *host, reason: error.to_string() })
    }
}
