//! The network between machines and hosts: it delays, loses, doubles and reorders, and parts of it are cut
//! off from each other.
//!
//! A request travels on a task of the network: what a renter has sent may arrive after it died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use samara_protocol::encoding;
use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::signature::PublicKey;
use samara_renter::world::{HostCallError, HostClient, Lane};
use tokio::sync::oneshot;

use super::chance::Chance;
use super::hosts::SimHosts;
use super::machine::{Machine, Point};
use super::trace::Fault;

const CONTROL_DEADLINE: u64 = 15_000;
const BULK_DEADLINE: u64 = 60_000;
/// Longest wait of a request that others overtake, milliseconds.
const OVERTAKEN: u64 = 3_000;

/// How the network is, for all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Requests of 1,000 that never arrive.
    pub request_lost: u64,
    /// Answers of 1,000 that never arrive.
    pub answer_lost: u64,
    /// Requests of 1,000 that arrive seconds late.
    pub late: u64,
    /// Requests of 1,000 that arrive twice.
    pub twice: u64,
    /// Requests of 1,000 that wait while others pass.
    pub overtaken: u64,
    /// Longest usual delay each way, milliseconds.
    pub delay: u64,
}

impl Weather {
    /// Nothing is lost.
    pub const FAIR: Self =
        Self { request_lost: 0, answer_lost: 0, late: 0, twice: 0, overtaken: 0, delay: 20 };
}

/// Hosts that a machine cannot reach, by the machine's number.
pub(super) type Partitions = BTreeMap<u32, BTreeSet<usize>>;

/// What becomes of one request.
struct Fate {
    there: u64,
    back: u64,
    arrives: bool,
    answered: bool,
    /// Whether the caller hears at once that the connection broke.
    broken: bool,
    /// Milliseconds after which it arrives again.
    again: Option<u64>,
}

impl Fate {
    fn draw(weather: Weather, chance: &mut Chance, deadline: u64) -> (Self, bool) {
        let arrives = !chance.per_mille(weather.request_lost);
        let answered = arrives && !chance.per_mille(weather.answer_lost);
        let late = chance.per_mille(weather.late);
        let mut there =
            if late { chance.within(1_000, 2 * deadline) } else { chance.within(0, weather.delay) };
        let (back, broken) = (chance.within(0, weather.delay), chance.per_mille(500));
        if chance.per_mille(weather.overtaken) {
            there += chance.within(1, OVERTAKEN);
        }
        let again = chance
            .per_mille(weather.twice)
            .then(|| chance.within(0, 2 * deadline))
            .filter(|_| arrives);
        (Self { there, back, arrives, answered, broken, again }, late)
    }
}

/// The hosts as one machine reaches them.
pub struct MachineHosts {
    pub(super) hosts: SimHosts,
    pub(super) machine: Arc<Machine>,
}

impl MachineHosts {
    fn fate(&self, number: usize, deadline: u64) -> Fate {
        let (weather, mut chance) = self.hosts.weather_to(number);
        let (fate, late) = Fate::draw(weather, &mut chance, deadline);
        self.hosts.put_chance(number, chance);
        let trace = self.hosts.trace();
        if self.hosts.is_cut_off(self.machine.number(), number) {
            trace.fault(Fault::Partitioned, format_args!("from host {number}"));
            return Fate { arrives: false, answered: false, again: None, ..fate };
        }
        if !fate.arrives {
            trace.fault(Fault::RequestLost, format_args!("to host {number}"));
        } else if !fate.answered {
            trace.fault(Fault::AnswerLost, format_args!("of host {number}"));
        } else if late {
            let there = fate.there;
            trace.fault(Fault::RequestLate, format_args!("to host {number} by {there} ms"));
        }
        fate
    }
}

/// Carries a request to its host, and its answer back.
async fn carry(
    hosts: SimHosts,
    (number, machine, ticket): (usize, u32, u64),
    fate: Fate,
    body: Vec<u8>,
) -> Option<Vec<u8>> {
    tokio::time::sleep(Duration::from_millis(fate.there)).await;
    let mut answer = None;
    if fate.arrives {
        hosts.arrived(number, ticket);
        answer = hosts.deliver_safely(number, machine, &body);
    }
    if let Some(again) = fate.again {
        let hosts = hosts.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(again)).await;
            hosts.trace().fault(Fault::RequestTwice, format_args!("to host {number}"));
            let _ = hosts.deliver_safely(number, machine, &body);
        });
    }
    tokio::time::sleep(Duration::from_millis(fate.back)).await;
    if answer.is_some() && !fate.answered || answer.is_none() && !fate.broken {
        // Nobody says anything: the caller waits until its deadline.
        tokio::time::sleep(Duration::from_millis(2 * BULK_DEADLINE)).await;
    }
    answer.filter(|_| fate.answered)
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
        let Some(number) = self.hosts.number_of(host) else {
            return unreachable("nobody has this key");
        };
        let deadline = match lane {
            Lane::Control => CONTROL_DEADLINE,
            Lane::Bulk => BULK_DEADLINE,
        };
        let fate = self.fate(number, deadline);
        let way = (number, self.machine.number(), self.hosts.sent(number));
        // The messages travel as bytes, as they do in earnest.
        let body = encoding::encode(&request);
        let (sender, receiver) = oneshot::channel();
        let hosts = self.hosts.clone();
        tokio::spawn(async move {
            let _ = sender.send(carry(hosts, way, fate, body).await);
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
