//! Real hosts over stores in memory, with faults. They answer at once unless a [`Fault`] says
//! otherwise; every call is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use samara_protocol::encoding;
use samara_protocol::hash::ContractNonce;
use samara_protocol::host::core::Host;
use samara_protocol::host::memory::MemoryStore;
use samara_protocol::host::message::{HostRequest, HostResponse, Refusal};
use samara_protocol::host::{EpochClaim, Prices};
use samara_protocol::signature::{PublicKey, SecretKey, Signature};
use samara_protocol::units::{ChainTime, Epoch};

use super::chain::TestChain;
use crate::world::{HostCallError, HostClient, Lane};

/// What goes wrong with a host's next calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It cannot be reached.
    Dead,
    /// It reads, but cannot be written to.
    Deaf,
    /// It takes no heads.
    Headless,
    /// It flips a bit in each range that it sends.
    Flips,
    /// It carries commits out and never says so, so many times.
    LosesCommits(u32),
    /// Commits never reach it, so many times.
    DropsCommits(u32),
    /// It says that it promised the highest epoch there is, with a forged claim, and refuses whatever is
    /// below.
    Fences,
    /// It waits so many milliseconds before it answers.
    Slow(u64),
}

/// A host with its disk and its faults.
pub(crate) struct TestHost {
    pub(crate) key: SecretKey,
    pub(crate) disk: Arc<MemoryStore>,
    host: Host<Arc<MemoryStore>>,
    fault: Mutex<Fault>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

impl TestHost {
    pub(super) fn new(
        key: SecretKey,
        disk: Arc<MemoryStore>,
        host: Host<Arc<MemoryStore>>,
    ) -> Self {
        Self { key, disk, host, fault: Mutex::new(Fault::None), calls: Mutex::default() }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn calls(&self, kind: &str) -> u64 {
        self.calls.lock().unwrap().get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn all_calls(&self) -> u64 {
        self.calls.lock().unwrap().values().sum()
    }

    pub(crate) fn offer(&self, prices: Prices) {
        self.offer_at(prices, ChainTime(u64::MAX / 2));
    }

    /// Changes prices; tables signed before bind for a while from then on.
    pub(crate) fn offer_at(&self, prices: Prices, now: ChainTime) {
        self.host.offer(prices, true, now).unwrap();
    }
}

/// All hosts, by key.
pub(super) struct TestHosts {
    chain: Arc<TestChain>,
    hosts: BTreeMap<PublicKey, Arc<TestHost>>,
}

impl TestHosts {
    pub(super) fn new(chain: Arc<TestChain>, all: &[Arc<TestHost>]) -> Self {
        let hosts = all.iter().map(|host| (host.key.public(), host.clone())).collect();
        Self { chain, hosts }
    }
}

#[async_trait]
impl HostClient for TestHosts {
    async fn call(
        &self,
        host: &PublicKey,
        _: Lane,
        request: HostRequest,
    ) -> Result<HostResponse, HostCallError> {
        let lost = |reason: &str| HostCallError::Unreachable { host: *host, reason: reason.into() };
        let Some(target) = self.hosts.get(host) else { return Err(lost("nobody is there")) };
        let kind = request.name();
        *target.calls.lock().unwrap().entry(kind).or_default() += 1;
        let fault = *target.fault.lock().unwrap();
        match fault {
            Fault::Dead => return Err(lost("it is dead")),
            Fault::Deaf if matches!(kind, "store" | "commit") => return Err(lost("it is deaf")),
            Fault::Headless if matches!(kind, "append head" | "put head") => {
                return Err(lost("it takes no heads"));
            }
            Fault::DropsCommits(left) if kind == "commit" && left > 0 => {
                target.set(Fault::DropsCommits(left - 1));
                return Err(HostCallError::TimedOut { host: *host });
            }
            Fault::Slow(span) => tokio::time::sleep(std::time::Duration::from_millis(span)).await,
            _ => tokio::task::yield_now().await,
        }
        let contract = Host::<Arc<MemoryStore>>::concerns(&request);
        let payer = Host::<Arc<MemoryStore>>::payer(&request);
        let facts = self.chain.facts(host, payer, contract);
        // The messages travel as bytes, as they do in earnest.
        let request = encoding::decode(&encoding::encode(&request)).unwrap();
        let lie = EpochClaim {
            nonce: ContractNonce([3; 16]),
            epoch: Epoch { counter: u64::MAX, writer: [0xff; 16] },
            signature: Signature([5; 64]),
        };
        if let (Fault::Fences, HostRequest::Contract(request)) = (fault, &request)
            && matches!(kind, "store" | "commit" | "promise" | "read")
        {
            let (given, promised) = (request.claim.epoch, Box::new(lie));
            return Ok(HostResponse::Refused(Refusal::Fenced { given, promised }));
        }
        let mut answer = target.host.handle(&facts, &PublicKey([200; 32]), request);
        if fault == Fault::Fences {
            match &mut answer {
                HostResponse::Latest(status) | HostResponse::Head { status, .. } => {
                    status.promised = lie;
                }
                _ => {}
            }
        }
        if let (Fault::Flips, HostResponse::Range { data, .. }) = (fault, &mut answer) {
            let mut flipped = data.to_vec();
            flipped[0] ^= 1;
            *data = flipped.into();
        }
        if let Fault::LosesCommits(left) = fault
            && kind == "commit"
            && left > 0
        {
            target.set(Fault::LosesCommits(left - 1));
            return Err(HostCallError::TimedOut { host: *host });
        }
        Ok(encoding::decode(&encoding::encode(&answer)).unwrap())
    }
}
