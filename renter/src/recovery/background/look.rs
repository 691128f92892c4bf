//! A look at the hosts: what the newest head among them says of backups.
//!
//! It has a store, a table of contracts and transfers of its own, which end with it: nothing of this node is
//! touched, nothing is claimed, and a node that writes goes on. What the hosts answer is verified as in a
//! recovery, of which these are the first steps.

use std::sync::Arc;

use samara_protocol::recovery::FoundContract;
use samara_protocol::units::Epoch;

use super::catalogue::Catalogue;
use super::types::FoundBackup;
use crate::contract::{ContractBook, Writer};
use crate::memory::MemoryStore;
use crate::progress::{Meter, Phase, Progress, ProgressEvent, Silent, Unit};
use crate::recovery::adopt::{may_be_missing, moved_since, no_head};
use crate::recovery::claim::Claim;
use crate::recovery::progress::{Progress as Stored, Step};
use crate::recovery::types::{RecoveryOptions, RecoveryReport};
use crate::recovery::{Context, Recovery, RecoveryError, Shared};
use crate::world::World;

/// A recovery that keeps nothing.
pub(super) struct Look {
    recovery: Recovery,
    /// Contracts that were found, whether they live or not.
    found: Vec<FoundContract>,
}

/// What hosts have shown.
pub(super) struct Heads {
    claim: Claim,
    /// Hosts that were asked.
    pub(super) asked: u64,
    /// Hosts that have answered.
    pub(super) answered: u64,
    /// Whether none of them was ever written to.
    pub(super) blank: bool,
}

/// What the newest head says.
pub(super) struct Seen {
    pub(super) backups: Vec<FoundBackup>,
    /// What may be missing, in plain words.
    pub(super) may_be_missing: Option<String>,
}

/// Tells how many hosts have answered.
struct Answers<'a>(&'a (dyn Fn(u64, u64) + Send + Sync));

impl Progress for Answers<'_> {
    fn report(&self, event: ProgressEvent) {
        if let ProgressEvent::Advanced { phase: Phase::Claiming, done, total, .. } = event {
            (self.0)(done, total.unwrap_or(done));
        }
    }
}

impl Look {
    /// Begins a look at the hosts of contracts.
    pub(super) async fn new(
        whole: &Recovery,
        found: Vec<FoundContract>,
    ) -> Result<Self, RecoveryError> {
        let world = World { store: Arc::new(MemoryStore::default()), ..whole.world.clone() };
        let writer = Writer::new(Epoch::default());
        let book = ContractBook::open(world.clone(), whole.keys.clone(), writer).await?;
        let slabs = whole.slabs.over(book.clone());
        let shared = Arc::new(Shared::default());
        let recovery = Recovery { world, book, slabs, shared, ..whole.clone() };
        Ok(Self { recovery, found })
    }

    /// Asks the hosts of those contracts that live; nothing if none does.
    pub(super) async fn ask(
        &self,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Option<Heads>, RecoveryError> {
        let live = self.recovery.live(&self.found).await?;
        if live.is_empty() {
            return Ok(None);
        }
        let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
        let context = Context { options, progress: &Answers(tell) };
        let mut stored = Stored { found: self.found.clone(), ..Stored::default() };
        stored.enter(Step::Scanning);
        let asked = live.len() as u64;
        let claim = self.recovery.claim(&context, &mut stored, live).await?;
        let answered = claim.answered.len() as u64;
        let blank = claim.newest().is_none() && claim.is_blank();
        Ok(Some(Heads { claim, asked, answered, blank }))
    }

    /// Reads the backups that the newest of the heads leads to.
    pub(super) async fn read(
        &self,
        heads: &Heads,
        preliminary: bool,
    ) -> Result<Seen, RecoveryError> {
        let claim = &heads.claim;
        if heads.blank {
            return Ok(Seen { backups: Vec::new(), may_be_missing: None });
        }
        let Some(newest) = claim.newest() else { return Err(no_head(claim)) };
        let recovery = &self.recovery;
        let mut report = RecoveryReport::default();
        recovery.take_contracts(claim, &self.found, &newest.hosts(), &mut report).await?;
        let total = newest.base.segments.len() as u64;
        let now = recovery.world.clock.now();
        let mut meter = Meter::new(&Silent, Phase::Adopting, Unit::Segments, Some(total), now);
        let entries = recovery.entries_of(newest, &mut meter).await?;
        let mut catalogue = Catalogue::default();
        if let Some(name) = &newest.base.checkpoint {
            let (world, slabs) = (recovery.world.clone(), recovery.slabs.clone());
            let checkpoints = recovery.journal.checkpoints().over(world, slabs);
            let root = checkpoints.root(name, &moved_since(&entries)).await?;
            catalogue = Catalogue::of_root(name, root);
        }
        entries.iter().for_each(|entry| catalogue.take(entry));
        let data = recovery.slabs.redundancy().data;
        let backups = catalogue.rows(&claim.heads(), data, preliminary);
        let missing = may_be_missing(claim, Some(newest), claim.is_quorum(newest));
        Ok(Seen { backups, may_be_missing: missing })
    }
}
