//! What was seen of each host: answers, failures, lies. Scores are made from it, people read it.
//!
//! Counted in memory by everybody who calls hosts; the contractor writes it down now and then, because
//! losing a few counts in a crash changes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::hash::SlabId;
use samara_protocol::host::message::Refusal;
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use serde::{Deserialize, Serialize};

use crate::world::{Clock, HostCallError, Lane};

/// Shards kept that a call found missing or false, until repair looks at them.
const SUSPECTS: usize = 4_096;
/// Newest incidents kept for people to read.
const INCIDENTS: usize = 256;
/// Counts are halved when calls pass this number, so that an old record fades.
const FADE: u64 = 4_096;

/// What was seen of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHealth {
    /// Calls that were answered, refusals included.
    pub answered: u64,
    /// Calls that were not.
    pub failed: u64,
    /// Failures since the last answer.
    pub failing: u32,
    /// Refusals that speak against the host: full, busy, damaged, internal.
    pub refused: u64,
    /// Answers that broke the protocol; never fades.
    pub false_answers: u64,
    /// Sectors that it had signed for and does not give; never fades.
    pub lost_sectors: u64,
    /// Smoothed time of small answers, milliseconds.
    pub latency: u64,
    /// When it was first seen, milliseconds since the Unix epoch on this machine.
    pub first_seen: u64,
    /// When it answered last.
    pub last_answer: u64,
    /// Newest failure, for people.
    pub last_failure: Option<String>,
}

/// Failures in a row after which a host counts as out of reach.
const UNREACHABLE: u32 = 3;

impl HostHealth {
    /// Whether its last calls all failed.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        self.failing >= UNREACHABLE
    }
}

/// Something a host did that people may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The host.
    pub host: PublicKey,
    /// When, milliseconds since the Unix epoch on this machine.
    pub at: u64,
    /// What it did.
    pub what: String,
}

/// Collects what callers see of hosts. A cheap clone.
#[derive(Clone)]
pub struct Reports(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    health: BTreeMap<PublicKey, HostHealth>,
    /// Hosts whose last answer was that the contract has ended.
    expired: BTreeSet<PublicKey>,
    incidents: VecDeque<Incident>,
    suspects: BTreeSet<(SlabId, PublicKey)>,
}

impl Reports {
    /// A sink that starts from what was written down before.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, health: BTreeMap<PublicKey, HostHealth>) -> Self {
        let seen = Seen { health, ..Seen::default() };
        Self(Arc::new(Inner { clock, seen: Mutex::new(seen) }))
    }

    /// A host answered after `elapsed` milliseconds.
    pub fn answered(&self, host: &PublicKey, lane: Lane, elapsed: u64) {
        self.lock().expired.remove(host);
        self.with(host, |health, now| {
            health.answered += 1;
            health.failing = 0;
            health.last_answer = now;
            if lane == Lane::Control {
                let known = if health.latency == 0 { elapsed } else { health.latency };
                health.latency = (known.saturating_mul(7).saturating_add(elapsed)) / 8;
            }
        });
    }

    /// A call to a host failed.
    pub fn failed(&self, host: &PublicKey, error: &HostCallError) {
        let what = error.to_string();
        self.with(host, |health, _| {
            health.failed += 1;
            health.failing = health.failing.saturating_add(1);
            health.last_failure = Some(what.clone());
            if matches!(error, HostCallError::False { .. }) {
                health.false_answers += 1;
            }
        });
        self.incident(host, what);
    }

    /// A host refused a call. Refusals that are the caller's own fault leave no mark.
    pub fn refused(&self, host: &PublicKey, refusal: &Refusal) {
        let marks = matches!(
            refusal,
            Refusal::Full { .. }
                | Refusal::Busy(_)
                | Refusal::Internal(_)
                | Refusal::Damaged(_)
                | Refusal::UnknownSector(_)
                | Refusal::UnknownContract(_)
        );
        self.with(host, |health, now| {
            health.answered += 1;
            health.failing = 0;
            health.last_answer = now;
            if marks {
                health.refused += 1;
                health.last_failure = Some(refusal.to_string());
            }
        });
        if marks {
            self.incident(host, refusal.to_string());
        }
        let mut seen = self.lock();
        match refusal {
            Refusal::Expired { .. } => seen.expired.insert(*host),
            _ => seen.expired.remove(host),
        };
    }

    /// Whether a host's last answer was that the contract has ended.
    #[must_use]
    pub fn says_ended(&self, host: &PublicKey) -> bool {
        self.lock().expired.contains(host)
    }

    /// A host's answer does not verify.
    pub fn false_answer(&self, host: &PublicKey, reason: &str) {
        tracing::warn!(host = %host.short(), reason, "host gave a false answer");
        self.with(host, |health, _| {
            health.false_answers += 1;
            health.last_failure = Some(reason.to_owned());
        });
        self.incident(host, format!("false answer: {reason}"));
    }

    /// A host does not give a shard of a slab, or gives other bytes: repair looks closer.
    pub fn suspect(&self, slab: SlabId, host: &PublicKey) {
        let suspects = &mut self.lock().suspects;
        // Beyond the bound audits find it.
        if suspects.len() < SUSPECTS {
            suspects.insert((slab, *host));
        }
    }

    /// The shards that were [suspected](Reports::suspect) since the last call.
    #[must_use]
    pub fn take_suspects(&self) -> BTreeSet<(SlabId, PublicKey)> {
        std::mem::take(&mut self.lock().suspects)
    }

    /// A host has lost a sector that it had signed for.
    pub fn lost_sector(&self, host: &PublicKey, reason: &str) {
        tracing::warn!(host = %host.short(), reason, "host has lost a sector");
        self.with(host, |health, _| {
            health.lost_sectors += 1;
            health.last_failure = Some(reason.to_owned());
        });
        self.incident(host, format!("lost a sector: {reason}"));
    }

    /// What was seen of a host.
    #[must_use]
    pub fn health(&self, host: &PublicKey) -> HostHealth {
        self.lock().health.get(host).cloned().unwrap_or_default()
    }

    /// What was seen of all hosts.
    #[must_use]
    pub fn all(&self) -> BTreeMap<PublicKey, HostHealth> {
        self.lock().health.clone()
    }

    /// The newest incidents, oldest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.lock().incidents.iter().cloned().collect()
    }

    fn with(&self, host: &PublicKey, change: impl FnOnce(&mut HostHealth, u64)) {
        let now = self.0.clock.now();
        let mut seen = self.lock();
        let health = seen
            .health
            .entry(*host)
            .or_insert_with(|| HostHealth { first_seen: now, ..HostHealth::default() });
        change(health, now);
        if health.answered.saturating_add(health.failed) > FADE {
            health.answered /= 2;
            health.failed /= 2;
            health.refused /= 2;
        }
    }

    fn incident(&self, host: &PublicKey, what: String) {
        let at = self.0.clock.now();
        let mut seen = self.lock();
        if seen.incidents.len() == INCIDENTS {
            seen.incidents.pop_front();
        }
        seen.incidents.push_back(Incident { host: *host, at, what });
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Counters stay meaningful whatever a panicking holder left undone.
        lock(&self.0.seen)
    }
}
