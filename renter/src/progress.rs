//! Progress of long operations, for people and programs.
//!
//! Events are hints: any of them may be dropped without harm. An operation's result is what it
//! returns, never an event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Receives the events of one operation. Called from inside the operation: it must not block.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn report(&self, event: ProgressEvent);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _event: ProgressEvent) {}
}

impl<F: Fn(ProgressEvent) + Send + Sync> Progress for F {
    fn report(&self, event: ProgressEvent) {
        self(event);
    }
}

/// What an operation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Listing what there is on disk.
    Walking,
    /// Sealing and sending bytes to hosts.
    Storing,
    /// Waiting for the head set to hold the change.
    Acknowledging,
    /// Writing the head to hosts beyond the head set.
    Settling,
    /// Reading the chain for the seed's contracts.
    Scanning,
    /// Asking hosts for their heads, and claiming nothing.
    Asking,
    /// Reading what the newest head says of backups.
    Reading,
    /// Claiming the right to write, and asking hosts for their heads.
    Claiming,
    /// Taking the newest head over.
    Adopting,
    /// Writing the head under the new epoch, taking over contracts and money.
    TakingOver,
    /// Fetching bytes from hosts and writing files.
    Restoring,
    /// Writing a vault's history and files into an archive.
    Archiving,
    /// Bringing the events of an archive in.
    Replaying,
    /// Asking hosts for what they hold of a backup, and reading its metadata.
    VerifyingNames,
    /// Reading bytes back and comparing them.
    VerifyingData,
}

/// What `done` and `total` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Plaintext bytes.
    Bytes,
    /// Blocks of the chain.
    Blocks,
    /// Files.
    Files,
    /// Hosts.
    Hosts,
    /// Parts of the journal.
    Segments,
    /// Events of a vault.
    Events,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ProgressEvent {
    /// A phase is so far.
    Advanced {
        /// Which.
        phase: Phase,
        /// What is being worked on, if it has a name.
        item: Option<String>,
        /// How much is done.
        done: u64,
        /// Of how much, if that is known.
        total: Option<u64>,
        /// What both count.
        unit: Unit,
        /// Units a second, as of late.
        rate: Option<u64>,
        /// Seconds that the rest will take at that rate.
        seconds_left: Option<u64>,
    },
    /// A part of one item was stored by an earlier run that was cut; this one goes on after it.
    Resumed {
        /// In which phase.
        phase: Phase,
        /// Its name.
        item: String,
        /// How much was done.
        done: u64,
        /// What that counts.
        unit: Unit,
    },
    /// One item is done.
    Finished {
        /// In which phase.
        phase: Phase,
        /// Its name.
        item: String,
    },
    /// One item was left out, and why.
    Skipped {
        /// In which phase.
        phase: Phase,
        /// Its name.
        item: String,
        /// Why.
        reason: String,
    },
    /// One item failed; the operation goes on.
    Failed {
        /// In which phase.
        phase: Phase,
        /// Its name.
        item: String,
        /// Why.
        reason: String,
    },
    /// Contracts found by a scan so far.
    ContractsFound {
        /// How many.
        count: u64,
    },
    /// Names can be listed from here on.
    NamesAvailable {
        /// Files that are listed.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
}

/// A place of a [`Meter`] to go back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    first: u64,
    done: u64,
}

/// Counts one phase and reports it, with rate and time left from the clock's readings.
pub(crate) struct Meter<'a> {
    progress: &'a dyn Progress,
    phase: Phase,
    unit: Unit,
    started: u64,
    first: u64,
    /// How much is done.
    pub(crate) done: u64,
    /// Of how much.
    pub(crate) total: Option<u64>,
}

impl<'a> Meter<'a> {
    /// A meter that starts at `now` milliseconds.
    pub(crate) fn new(
        progress: &'a dyn Progress,
        phase: Phase,
        unit: Unit,
        total: Option<u64>,
        now: u64,
    ) -> Self {
        Self { progress, phase, unit, started: now, first: 0, done: 0, total }
    }

    /// Counts what an earlier run has done; it is not part of the rate.
    pub(crate) fn resume_at(&mut self, done: u64) {
        self.first = done;
        self.done = done;
    }

    /// Counts what an earlier run has done, before some of the rest is done; it is not part of the rate.
    pub(crate) fn skip(&mut self, count: u64) {
        self.first = self.first.saturating_add(count);
        self.done = self.done.saturating_add(count);
    }

    /// Where it is, for [`Meter::rewind`].
    pub(crate) fn mark(&self) -> Mark {
        Mark { first: self.first, done: self.done }
    }

    /// Goes back, because what was done since does not count.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        Mark { first: self.first, done: self.done } = mark;
    }

    /// Reports that so much of an item was done by an earlier run.
    pub(crate) fn resumed(&self, item: &str, done: u64) {
        let (phase, unit, item) = (self.phase, self.unit, item.to_owned());
        self.progress.report(ProgressEvent::Resumed { phase, item, done, unit });
    }

    /// Units a second since the start, once there is something to divide.
    pub(crate) fn rate(&self, now: u64) -> Option<u64> {
        let span = now.saturating_sub(self.started);
        let done = self.done.saturating_sub(self.first);
        (span > 0 && done > 0).then(|| done.saturating_mul(1_000) / span)
    }

    /// Seconds that the rest takes at this rate.
    pub(crate) fn seconds_left(&self, now: u64) -> Option<u64> {
        let rate = self.rate(now).filter(|rate| *rate > 0)?;
        Some(self.total?.saturating_sub(self.done).div_ceil(rate))
    }

    /// Sets the count and reports it.
    pub(crate) fn report(&self, item: Option<&str>, now: u64) {
        self.progress.report(ProgressEvent::Advanced {
            phase: self.phase,
            item: item.map(str::to_owned),
            done: self.done,
            total: self.total,
            unit: self.unit,
            rate: self.rate(now),
            seconds_left: self.seconds_left(now),
        });
    }
}
