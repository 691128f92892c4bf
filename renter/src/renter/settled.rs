//! What is settled of all that is acknowledged: what the heads of all contracts that count hold.
//!
//! A contract counts while it lives, unless its host was given up or is to be replaced. What was settled
//! once stays so: a contract that comes later gets its head within the next round of upkeep. Until every
//! contract that counts was looked at after a start, newer changes are being checked. Owner of what is
//! known is `Settled`; what it kept of the last run is below `settled` in the renter's store.
//!
//! A version says at which position it was put. A file that has moved, was deleted or has lost a version
//! since then is noted here, from the journal's entries after the settled position.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::encoding;
use samara_protocol::journal::{Change, StoredPath, VaultEvent, VaultId};
use samara_protocol::sync::lock;
use samara_protocol::units::Epoch;
use serde::{Deserialize, Serialize};

use crate::contract::{ContractBook, verdict};
use crate::journal::{Journal, JournalError, JournalStatus, Mode};
use crate::recovery::Recovery;
use crate::rows::Stage;
use crate::vault::{FileRow, ListRow};
use crate::world::{StoreError, World, Write};

const KEY: &[u8] = b"settled";

/// What the store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u8,
    /// Positions are those of this epoch's journal.
    epoch: Epoch,
    /// All contracts that counted have held the journal up to here.
    position: u64,
}

#[derive(Default)]
struct Seen {
    record: Record,
    saved: Record,
    /// Whether a contract that counts was not looked at yet.
    unclear: bool,
    /// Position after the last change of a file that is not in its versions.
    changed: BTreeMap<(VaultId, StoredPath), u64>,
    /// Entries before this position are in `changed`.
    read: u64,
    acknowledged: u64,
}

/// Knows what is settled. A cheap clone.
#[derive(Clone)]
pub(super) struct Settled {
    world: World,
    book: ContractBook,
    journal: Journal,
    recovery: Recovery,
    /// A leaf, held for no call.
    seen: Arc<Mutex<Seen>>,
}

impl Settled {
    /// Reads what was settled when the last run ended.
    pub(super) async fn open(
        book: ContractBook,
        journal: Journal,
        recovery: Recovery,
    ) -> Result<Self, StoreError> {
        let world = book.world().clone();
        let stored = world.store.read(KEY).await?;
        // One that does not decode is found anew.
        let record: Record = stored.and_then(|row| encoding::decode(&row).ok()).unwrap_or_default();
        let seen = Seen { record, saved: record, read: record.position, ..Seen::default() };
        Ok(Self { world, book, journal, recovery, seen: Arc::new(Mutex::new(seen)) })
    }

    /// What the journal's owner knows by now.
    fn look(&self) -> MutexGuard<'_, Seen> {
        let status = self.journal.status();
        let (reach, unclear) = match status.mode {
            // It writes no heads; the recovery saw them.
            Mode::ReadOnly => {
                let heads = self.recovery.heads();
                (heads.into_iter().collect::<Option<Vec<u64>>>(), false)
            }
            Mode::Fresh | Mode::Active => self.reach(&status),
        };
        let reach = reach.and_then(|held| held.into_iter().min());
        let mut seen = lock(&self.seen);
        if seen.record.epoch != status.epoch {
            let record = Record { version: 1, epoch: status.epoch, position: 0 };
            *seen = Seen { record, saved: seen.saved, ..Seen::default() };
        }
        seen.unclear = unclear;
        seen.acknowledged = status.acknowledged;
        let reach = reach.unwrap_or_default().min(status.acknowledged);
        if reach > seen.record.position {
            seen.record.position = reach;
            seen.read = seen.read.max(reach);
            seen.changed.retain(|_, position| *position > reach);
        }
        seen
    }

    /// What the contracts that count hold, if that is known of all; and whether it is not known yet.
    fn reach(&self, status: &JournalStatus) -> (Option<Vec<u64>>, bool) {
        let (now, ended) = (self.world.clock.now(), self.book.ended());
        let counts = |index| {
            let host = self.book.host(index).unwrap_or_default();
            !ended.contains(&index) && verdict(&self.book.reports().health(&host), now).is_none()
        };
        let counted = || status.hosts.iter().filter(|host| counts(host.index));
        let unclear = counted().any(|host| host.position.is_none() && host.problem.is_none());
        (counted().map(|host| host.position).collect(), unclear)
    }

    /// Reads the changes that came since the last call.
    pub(super) async fn follow(&self) -> Result<(), JournalError> {
        let (epoch, from, to) = {
            let seen = self.look();
            (seen.record.epoch, seen.read, seen.acknowledged)
        };
        if from >= to {
            return Ok(());
        }
        let mut changed = Vec::new();
        let take = |position: u64, change: Change| {
            if let Some(file) = touched(change) {
                changed.push((file, position.saturating_add(1)));
            }
        };
        self.journal.changes(from, to, take).await?;
        let mut seen = lock(&self.seen);
        if seen.record.epoch == epoch {
            let settled = seen.record.position;
            seen.changed.extend(changed.into_iter().filter(|(_, position)| *position > settled));
            seen.read = seen.read.max(to);
        }
        Ok(())
    }

    /// Writes down what is settled, if that is more than before.
    pub(super) async fn save(&self) -> Result<(), JournalError> {
        self.follow().await?;
        let record = {
            let seen = lock(&self.seen);
            if seen.record == seen.saved {
                return Ok(());
            }
            seen.record
        };
        self.world.store.commit(vec![Write::Put(KEY.to_vec(), encoding::encode(&record))]).await?;
        lock(&self.seen).saved = record;
        Ok(())
    }

    /// Up to where the journal is settled.
    pub(super) fn position(&self) -> u64 {
        self.look().record.position
    }

    /// How far the journal up to a position is.
    pub(super) fn stage(&self, position: u64) -> Stage {
        self.look().stage(position)
    }

    /// Says how far the files of a vault are. The rows are to be made before, so that nothing comes in
    /// between; those of an earlier point of the journal change no more.
    pub(super) async fn mark(
        &self,
        vault: VaultId,
        rows: &mut [ListRow],
        is_now: bool,
    ) -> Result<(), JournalError> {
        self.follow().await?;
        let seen = self.look();
        for row in rows {
            if let ListRow::File(file) = row {
                seen.mark(vault, file, is_now);
            }
        }
        Ok(())
    }

    /// Says how far a file is, as far as is known without the store.
    pub(super) fn mark_file(&self, vault: VaultId, file: &mut FileRow) {
        let seen = self.look();
        seen.mark(vault, file, true);
        if seen.read < seen.acknowledged && file.version.stage == Stage::Settled {
            file.version.stage = Stage::Checking;
        }
    }
}

impl Seen {
    fn stage(&self, position: u64) -> Stage {
        if position <= self.record.position {
            Stage::Settled
        } else if self.unclear {
            Stage::Checking
        } else {
            Stage::Acknowledged
        }
    }

    fn mark(&self, vault: VaultId, file: &mut FileRow, is_now: bool) {
        for version in &mut file.versions {
            version.stage = self.stage(version.position);
        }
        let mut position = file.version.position;
        if is_now && let Ok(path) = StoredPath::new(file.path.as_str()) {
            let changed = self.changed.get(&(vault, path)).copied();
            position = position.max(changed.unwrap_or_default());
        }
        file.version.stage = self.stage(position);
    }
}

/// The file that a change is about, if none of its versions tells when it came.
fn touched(change: Change) -> Option<(VaultId, StoredPath)> {
    let Change::Vault { vault, event, .. } = change else { return None };
    match event {
        VaultEvent::Moved { to: path, .. }
        | VaultEvent::Deleted { path }
        | VaultEvent::VersionRemoved { path, .. } => Some((vault, path)),
        VaultEvent::Created { .. }
        | VaultEvent::Renamed { .. }
        | VaultEvent::Put { .. }
        | VaultEvent::Removed
        | VaultEvent::FolderMade { .. }
        | VaultEvent::FolderRemoved { .. }
        | VaultEvent::Relocated { .. }
        | VaultEvent::Set { .. }
        | VaultEvent::Noted { .. } => None,
    }
}
