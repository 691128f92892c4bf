//! The owner's part in checkpoints: when one is written, and how the heads come to name it.
//!
//! A checkpoint is cut at each backup's point, and where a replay would take too much. Cuts are written
//! one after another, each upon the one before. The entry that tells of a checkpoint and the base that
//! names it become durable here together, before any host sees either; so a head never names one that
//! its entries do not tell of, and no backup's point lies behind the base's checkpoint untold.

use samara_protocol::encoding;
use samara_protocol::journal::head::Segment;
use samara_protocol::journal::{Change, CheckpointName, SlabRecord};
use samara_protocol::sync::{lock, read};

use super::error::JournalError;
use super::local::{self, LocalBase};
use super::message::CheckpointCost;
use super::owner::{Outcome, Owner, SPILL_RETRY};
use crate::checkpoint::{CheckpointError, Cut, Made, places_in};

/// Attempts, ten seconds apart, before what cannot be had of an older checkpoint counts as lost.
const TRIES: u32 = 30;
/// Backups whose costs are remembered until somebody writes them down.
const COSTS: usize = 256;

impl Owner {
    /// Starts to write the next cut, if one is due.
    pub(super) fn start_checkpoint(&mut self) {
        let now = self.world.clock.now();
        let busy = self.checkpointing || self.made.is_some() || self.tidying;
        if busy || now < self.checkpoint_at {
            return;
        }
        while self.recorder.next().is_some_and(|cut| self.is_told(cut)) {
            self.recorder.done();
        }
        let options = &self.options;
        if self.recorder.next().is_none()
            && self.recorder.is_over(options.checkpoint_entries, options.checkpoint_bytes)
        {
            self.recorder.cut(&read(&self.shared.published), None);
        }
        let Some(cut) = self.recorder.next().cloned() else { return };
        self.checkpointing = true;
        let (checkpoints, before) = (self.checkpoints.clone(), self.base.checkpoint.clone());
        let known = before.as_ref().map(|name| places_in(&self.working, name)).unwrap_or_default();
        let without = self.checkpoint_failures >= TRIES;
        self.inflight.push(Box::pin(async move {
            let written = checkpoints.write(before.as_ref(), &known, &cut, without).await;
            Outcome::Checkpointed(written.map(Box::new))
        }));
    }

    /// Whether the base names the checkpoint of a backup's point, and no backup waits for it.
    fn is_told(&self, cut: &Cut) -> bool {
        let Some(id) = cut.backup else { return false };
        let open = self.working.backups.get(&id).is_some_and(|open| open.checkpoint.is_none());
        let named = self.base.checkpoint.as_ref().map(|checkpoint| checkpoint.point);
        named == Some(cut.point()) && !open
    }

    /// Takes what came of writing one.
    pub(super) fn checkpoint_written(&mut self, result: Result<Box<Made>, CheckpointError>) {
        self.checkpointing = false;
        match result {
            Ok(made) => {
                self.checkpoint_failures = 0;
                self.made = Some(made);
            }
            Err(error) => {
                self.retry_checkpoint(&error);
                if error.is_missing() {
                    self.checkpoint_failures = self.checkpoint_failures.saturating_add(1);
                }
                let hopeless = error.is_missing() && self.checkpoint_failures >= TRIES;
                if hopeless && self.recorder.has_whole() {
                    for backup in self.recorder.skip_to_whole() {
                        tracing::error!(%backup, "what a backup was to hold is lost at the hosts");
                    }
                }
            }
        }
    }

    fn retry_checkpoint(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "a checkpoint was not written; it is tried again");
        self.made = None;
        self.problem = Some(format!("a checkpoint was not written: {error}"));
        self.checkpoint_at = self.world.clock.now().saturating_add(SPILL_RETRY);
    }

    /// Names a checkpoint that was written, as soon as the heads have room for it.
    pub(super) async fn take_checkpoint(&mut self) -> Result<(), JournalError> {
        // A part of the journal that is on its way into a slab begins where the base ends.
        let now = self.world.clock.now();
        if self.spilling || self.made.is_none() || now < self.checkpoint_at {
            return Ok(());
        }
        let Some(cut) = self.recorder.next().cloned() else {
            // Another journal was adopted meanwhile.
            self.made = None;
            return Ok(());
        };
        let Some(made) = self.made.take_if(|made| made.name.point == cut.point()) else {
            self.made = None;
            return Ok(());
        };
        let (base, dropped) = self.base_upon(made.name.clone());
        let passed = base.point.position.saturating_sub(self.base.point.position);
        let passed = usize::try_from(passed).unwrap_or(usize::MAX).min(self.tail.len());
        let open = |id: &_| {
            self.working
                .backups
                .get(id)
                .is_some_and(|open| open.checkpoint.is_none() && open.point == cut.point())
        };
        let change = Change::Checkpointed {
            checkpoint: made.name.clone(),
            backup: cut.backup.filter(open),
            slabs: made.records().into_iter().chain(dropped).collect(),
        };
        let spent = CheckpointCost { paid: made.cost.clone(), bytes: made.bytes() };
        let entry = self.entry(change);
        let bytes = encoding::encode(&entry).len() + self.lengths[passed..].iter().sum::<usize>();
        if bytes > self.room_upon(&base) {
            // The tail goes into a slab first.
            self.made = Some(made);
            return Ok(());
        }
        let (mark, position) = (self.tail.len(), self.working.point.position);
        if let Err(error) = self.working.apply(&entry) {
            self.retry_checkpoint(&error);
            return Ok(());
        }
        let mut writes = vec![local::put_entry(position, &entry)];
        writes.extend(local::put_points(&base));
        writes.extend([local::put_base(&base), local::put_meta(&self.meta)]);
        self.push(entry);
        if let Err(error) = self.world.store.commit(writes).await {
            self.roll_back(mark);
            self.made = Some(made);
            return Err(error.into());
        }
        if let Some(backup) = cut.backup {
            let mut costs = lock(&self.shared.costs);
            costs.push_back((backup, spent));
            let over = costs.len().saturating_sub(COSTS);
            costs.drain(..over);
        }
        self.base = base;
        self.tail.drain(..passed);
        self.lengths.drain(..passed);
        self.publish_segments();
        self.recorder.done();
        let (checkpoints, made) = (self.checkpoints.clone(), std::sync::Arc::new(*made));
        self.told.push((position, made.clone()));
        self.tidying = true;
        self.inflight.push(Box::pin(async move {
            if let Err(error) = checkpoints.tidy(&made).await {
                tracing::debug!(%error, "old nodes stay in the store");
            }
            Outcome::Tidied
        }));
        Ok(())
    }

    /// The base with a checkpoint in the place of what led to it, and the slabs that it no longer names.
    fn base_upon(&self, name: CheckpointName) -> (LocalBase, Vec<SlabRecord>) {
        let mut base = self.base.clone();
        let point = name.point;
        let is_needed = |segment: &Segment| segment.end() > point.position;
        let (kept, dropped): (Vec<_>, Vec<_>) = base.segments.into_iter().partition(is_needed);
        base.segments = kept;
        base.number = base.number.saturating_add(1);
        if point.position > base.point.position {
            base.point = point;
        }
        base.checkpoint = Some(name);
        (base, dropped.into_iter().flat_map(|segment| segment.slabs).collect())
    }
}
