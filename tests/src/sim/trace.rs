//! What happened in a run, in order: hashed always, printed on demand; and faults counted by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use samara_protocol::hash::SlabId;
use samara_protocol::sync::lock;
use tokio::time::Instant;

/// Events of one run above which something goes round in circles.
const MOST_EVENTS: u64 = 3_000_000;

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A request never reaches its host.
    RequestLost,
    /// A request is carried out, its answer never arrives.
    AnswerLost,
    /// A request arrives seconds late.
    RequestLate,
    /// A request arrives twice; the second answer is lost.
    RequestTwice,
    /// A request arrives after one that was sent later.
    Reordered,
    /// A request is lost because its machine is cut off from the host.
    Partitioned,
    /// A host that cannot be reached was called.
    HostUnreachable,
    /// A host lost power: what it had not synced is gone.
    HostCrash,
    /// A host's disk failed between two writes.
    HostDisk,
    /// A host lost power, and of what it had not synced a part is there.
    TornWrites,
    /// A host's disk is full for a while.
    HostFull,
    /// A byte of a stored sector is another one.
    BitRot,
    /// A host answers a read with other bytes.
    WrongBytes,
    /// A host signs that it has a head, and forgets it.
    FalseReceipt,
    /// A host is gone for good.
    HostLost,
    /// A host shows what it held at an earlier moment.
    HostLies,
    /// A host refuses for a promise that nobody claimed, and names one.
    ForgedClaims,
    /// A host shows the head of an earlier moment.
    OldHead,
    /// Silent hosts were given up.
    GivenUp,
    /// A renter died while it was idle.
    RenterCrash,
    /// A renter died inside an operation.
    RenterCrashInside,
    /// A renter's commit was under way when it died.
    CommitCut,
    /// An operation was dropped at an await.
    Cancelled,
    /// The chain did not answer.
    ChainSilent,
    /// A transaction was accepted and dropped.
    TransactionDropped,
    /// Another machine took over.
    TakeOver,
    /// An older copy of a machine's disk came to life.
    PutBack,
}

impl Fault {
    /// Kinds that some hundred runs must have seen.
    pub const USUAL: [Self; 24] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::RequestLate,
        Self::RequestTwice,
        Self::Reordered,
        Self::Partitioned,
        Self::HostUnreachable,
        Self::HostCrash,
        Self::HostDisk,
        Self::HostFull,
        Self::BitRot,
        Self::WrongBytes,
        Self::FalseReceipt,
        Self::HostLost,
        Self::HostLies,
        Self::ForgedClaims,
        Self::OldHead,
        Self::RenterCrash,
        Self::RenterCrashInside,
        Self::CommitCut,
        Self::Cancelled,
        Self::ChainSilent,
        Self::TakeOver,
        Self::PutBack,
    ];
}

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    inner: Mutex<Inner>,
    start: Instant,
    print: bool,
}

#[derive(Debug)]
struct Inner {
    hasher: blake3::Hasher,
    events: u64,
    faults: BTreeMap<Fault, u64>,
    violations: Vec<String>,
    /// What machines have drawn of 16 bytes: every slab id, and more.
    drawn: Vec<SlabId>,
}

impl Trace {
    /// An empty record; to be made inside the runtime whose clock is paused.
    #[must_use]
    pub fn new(print: bool) -> Self {
        let inner = Inner {
            hasher: blake3::Hasher::new(),
            events: 0,
            faults: BTreeMap::new(),
            violations: Vec::new(),
            drawn: Vec::new(),
        };
        Self { inner: Mutex::new(inner), start: Instant::now(), print }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Milliseconds of simulated time.
    #[must_use]
    pub fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes an event.
    ///
    /// # Panics
    /// When there are so many that the run goes round in circles.
    pub fn event(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>9} {what}", self.elapsed());
        if self.print {
            println!("{line}");
        }
        let mut inner = self.lock();
        inner.hasher.update(line.as_bytes());
        inner.hasher.update(b"\n");
        inner.events += 1;
        let circles = inner.events > MOST_EVENTS;
        drop(inner);
        assert!(!circles, "more than {MOST_EVENTS} events: the run goes round in circles");
    }

    /// Notes a fault.
    pub fn fault(&self, fault: Fault, detail: fmt::Arguments<'_>) {
        *self.lock().faults.entry(fault).or_default() += 1;
        self.event(format_args!("fault {fault:?} {detail}"));
    }

    /// Notes something that must never happen.
    pub fn violation(&self, what: String) {
        self.event(format_args!("VIOLATION {what}"));
        self.lock().violations.push(what);
    }

    /// A machine has drawn bytes that may become a slab's id.
    pub fn note_draw(&self, id: SlabId) {
        self.lock().drawn.push(id);
    }

    /// How many such draws there were.
    #[must_use]
    pub fn draws(&self) -> usize {
        self.lock().drawn.len()
    }

    /// These draws, from a number on.
    #[must_use]
    pub fn drawn(&self, from: usize) -> Vec<SlabId> {
        self.lock().drawn.get(from..).unwrap_or_default().to_vec()
    }

    /// What must never happen and did.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Faults so far.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Fault, u64> {
        self.lock().faults.clone()
    }

    /// Events so far, and the hash over them.
    #[must_use]
    pub fn hash(&self) -> (u64, blake3::Hash) {
        let inner = self.lock();
        (inner.events, inner.hasher.finalize())
    }
}
