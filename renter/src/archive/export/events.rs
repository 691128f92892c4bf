//! The history of a vault, from the checkpoint's event tree and then from the local journal.

use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::{Change, Entry, VaultId};
use samara_protocol::tree::events::{Event, EventRecord};

use super::super::format::ArchivedChange;
use super::super::write::NewEvent;
use super::error::ExportError;
use super::snapshot::Snapshot;
use crate::checkpoint::EventWalk;
use crate::vault::Vaults;

/// Reads events in order, up to those of the snapshot.
pub(super) struct History<'a> {
    vaults: &'a Vaults,
    vault: VaultId,
    name: String,
    /// The chain of the events so far; its position is the number of the next.
    chain: JournalPoint,
    walk: Option<EventWalk>,
    /// Positions of the local journal that are still to be read.
    local: std::ops::Range<u64>,
}

impl<'a> History<'a> {
    pub(super) async fn begin(
        vaults: &'a Vaults,
        snapshot: &Snapshot,
    ) -> Result<Self, ExportError> {
        let vault = snapshot.head.sid;
        let (walk, from) = match &snapshot.checkpoint {
            Some((name, places)) => {
                let walk = vaults.journal.checkpoints().events(name, places, &vault).await?;
                (Some(walk), name.point.position)
            }
            None => (None, 0),
        };
        let (name, chain) = (snapshot.head.name.clone(), JournalPoint::default());
        Ok(Self { vaults, vault, name, chain, walk, local: from..snapshot.position })
    }

    /// The next events; nothing behind the last. All of them are of the vault, and none is missing
    /// between two.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<NewEvent>>, ExportError> {
        if let Some(walk) = &mut self.walk {
            let next = self.vaults.journal.checkpoints().next_events(walk).await?;
            let Some(events) = next else {
                self.walk = None;
                return Ok(Some(Vec::new()));
            };
            return events
                .into_iter()
                .map(|event| self.stored(event))
                .collect::<Result<_, _>>()
                .map(Some);
        }
        if self.local.is_empty() {
            return Ok(None);
        }
        let entries = self.vaults.journal.entries(self.local.start, self.local.end).await?;
        // Without a last one there are none left, and the count says what is missing.
        let after = entries.last().map(|(position, _)| position.saturating_add(1));
        self.local.start = after.unwrap_or(self.local.end);
        let mut events = Vec::new();
        for (_, entry) in entries {
            if matches!(&entry.change, Change::Vault { vault, .. } if *vault == self.vault) {
                events.push(self.event(&entry)?);
            }
        }
        Ok(Some(events))
    }

    /// All were given: none is missing at the end, and they are those that the journal has.
    pub(super) fn finish(&self, snapshot: &Snapshot) -> Result<(), ExportError> {
        if self.chain.position != snapshot.events {
            return Err(self.missing("is missing from the history that this node can reach"));
        }
        if self.chain.hash != snapshot.chain {
            return Err(self.missing("comes after others than the journal says"));
        }
        Ok(())
    }

    fn stored(&mut self, event: Event) -> Result<NewEvent, ExportError> {
        match event.record {
            EventRecord::Here(entry) if event.vault == self.vault => self.event(&entry),
            EventRecord::Erased(_) => Err(self.missing("was erased")),
            _ => Err(self.missing("is not where it should be")),
        }
    }

    fn event(&mut self, entry: &Entry) -> Result<NewEvent, ExportError> {
        let Change::Vault { number, made, event, .. } = &entry.change else {
            return Err(self.missing("is no event"));
        };
        if *number != self.chain.position {
            return Err(self.missing("is missing from the history that this node can reach"));
        }
        let change = ArchivedChange::of(event);
        let change = change.ok_or_else(|| self.missing("ends the vault, and there is more"))?;
        self.chain = self.chain.after(entry);
        let (time, chain_time, actor) = (entry.occurred(), made.chain_time, made.by);
        Ok(NewEvent { time, chain_time, actor, change })
    }

    fn missing(&self, reason: &'static str) -> ExportError {
        ExportError::History { vault: self.name.clone(), number: self.chain.position, reason }
    }
}
