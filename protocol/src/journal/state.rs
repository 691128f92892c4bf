//! The fold of the journal: what exists now, or at any earlier point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backup::{BackupId, BackupLabel, BackupOrigin};
use super::checkpoint::CheckpointName;
use super::entry::{
    Change, Content, Entry, Extent, JournalPoint, MAX_NOTE, MAX_SETTING, MAX_SETTING_NAME,
    MAX_VAULT_NAME, MAX_VAULT_SETTING, MAX_VAULT_SETTINGS, StoredFile, UserId, VaultEvent, VaultId,
    chain, is_vault_name,
};
use super::path::StoredPath;
use super::slab_record::{HostIndex, SlabRecord};
use crate::hash::{Digest, SlabId};
use crate::signature::PublicKey;

/// Everything the journal says exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalState {
    /// Where in the journal this state holds.
    pub point: JournalPoint,
    /// Hosts by number.
    pub hosts: Vec<PublicKey>,
    /// Slabs that are stored.
    pub slabs: BTreeMap<SlabId, SlabUse>,
    /// Vaults that exist.
    pub vaults: BTreeMap<VaultId, VaultState>,
    /// Backups that exist.
    pub backups: BTreeMap<BackupId, Backup>,
    /// Settings.
    pub settings: BTreeMap<String, Vec<u8>>,
    /// Extents that only backups name.
    pub held: BTreeMap<HeldSpan, HeldExtents>,
    /// The latest checkpoint, which stands for an earlier point.
    pub checkpoint: Option<CheckpointName>,
    /// Slabs that nothing names.
    pub dead: BTreeSet<SlabId>,
    /// Slabs of files of which something, and less than half, is named.
    pub thin: BTreeSet<SlabId>,
}

/// A slab and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabUse {
    /// The slab.
    pub record: SlabRecord,
    /// Bytes that versions of files refer to, those that only backups hold included. Bytes that two
    /// versions share count twice.
    pub live: u64,
    /// Of these, bytes that only backups hold.
    pub held: u64,
    /// Checkpoints that lie in it: the latest one, and those of backups.
    pub pins: u32,
}

impl SlabUse {
    /// A slab that nothing names yet.
    const fn unused(record: SlabRecord) -> Self {
        Self { record, live: 0, held: 0, pins: 0 }
    }

    /// Whether it holds the journal's own metadata, not bytes of files.
    #[must_use]
    pub const fn is_metadata(&self) -> bool {
        self.pins > 0
    }
}

/// When a version named bytes that its vault has given up. An entry gives one version one place, so no two
/// of them begin at the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldSpan {
    /// Position of the entry that gave them up.
    pub until: u64,
    /// Position of the entry from which on the version named them.
    pub since: u64,
}

/// Where bytes lie that a vault has given up, and that a backup was made in time to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldExtents {
    /// The vault.
    pub vault: VaultId,
    /// Where they are.
    pub extents: Vec<Extent>,
}

/// A vault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultState {
    /// Its name.
    pub name: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
    /// Number of the next event.
    pub next: u64,
    /// Chain of its events' digests.
    pub chain: Digest,
    /// Files by path, deleted ones too as long as they have versions. Copies of a state share those that
    /// are the same in both.
    pub files: BTreeMap<StoredPath, Arc<FileState>>,
    /// Folders that exist by themselves, also with nothing in them.
    pub folders: BTreeSet<StoredPath>,
    /// Settings.
    pub settings: BTreeMap<String, Vec<u8>>,
    /// Whose it is; nobody's in particular, if whoever runs the node made it.
    pub owner: Option<UserId>,
    /// Whether its events are still being brought in: it is not to be listed, or changed otherwise.
    pub arriving: bool,
}

/// A file with its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// In the order in which they came to this path; the last is listed.
    pub versions: Vec<Version>,
    /// Whether it is no longer listed.
    pub deleted: bool,
}

/// One version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Number of the event that put it.
    pub number: u64,
    /// When it was put, milliseconds since the Unix epoch.
    pub time: u64,
    /// Position of the entry that put it, or gave its bytes their present place.
    pub since: u64,
    /// What it is.
    pub file: StoredFile,
}

/// A named point of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// What people say of it.
    pub label: BackupLabel,
    /// How it came about.
    pub origin: BackupOrigin,
    /// The one vault it is about; all if none.
    pub scope: Option<VaultId>,
    /// What it holds: the journal up to this point.
    pub point: JournalPoint,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
    /// The checkpoint of that point, once it is stored.
    pub checkpoint: Option<CheckpointName>,
}

impl JournalState {
    /// Whether a backup never got a checkpoint and gets none any more: checkpoints are stored in order,
    /// and a later one is.
    #[must_use]
    pub fn is_without_checkpoint(&self, backup: &Backup) -> bool {
        let later = |name: &CheckpointName| name.point.position > backup.point.position;
        backup.checkpoint.is_none() && self.checkpoint.as_ref().is_some_and(later)
    }
}

impl Backup {
    /// Whether it shows what a vault held from the entry at `since` on, and until that at `until`.
    #[must_use]
    pub fn shows(&self, vault: VaultId, since: u64, until: u64) -> bool {
        let in_scope = self.scope.is_none_or(|scope| scope == vault);
        in_scope && since < self.point.position && self.point.position <= until
    }
}

impl FileState {
    /// Takes a version in behind those before. Most files have one, which gets no room for more.
    pub(crate) fn push(&mut self, version: Version) {
        if self.versions.is_empty() {
            self.versions.reserve_exact(1);
        }
        self.versions.push(version);
    }

    /// The version that is listed, if the file is.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        if self.deleted { None } else { self.versions.last() }
    }
}

impl VaultState {
    /// Files that are listed, by path.
    pub fn listed(&self) -> impl Iterator<Item = (&StoredPath, &Version)> {
        self.files.iter().filter_map(|(path, file)| Some((path, file.current()?)))
    }

    fn put(&mut self, path: &StoredPath, version: Version) {
        let state = Arc::make_mut(self.files.entry(path.clone()).or_default());
        state.deleted = false;
        state.push(version);
    }

    fn move_file(
        &mut self,
        position: u64,
        from: &StoredPath,
        to: &StoredPath,
    ) -> Result<(), FoldError> {
        if self.files.get(to).is_some_and(|file| file.current().is_some()) {
            return Err(FoldError::Exists { position, what: format!("file '{to}'") });
        }
        if self.files.get(from).is_none_or(|file| file.current().is_none()) {
            return Err(FoldError::Missing { position, what: format!("file '{from}'") });
        }
        if let Some(moved) = self.files.remove(from) {
            // What a deleted file at the target left stays as older versions, though some may have been
            // put later: the file that moved is the one that is listed.
            let target = Arc::make_mut(self.files.entry(to.clone()).or_default());
            target.versions.append(&mut Arc::unwrap_or_clone(moved).versions);
            target.deleted = false;
        }
        Ok(())
    }

    fn delete(&mut self, position: u64, path: &StoredPath) -> Result<(), FoldError> {
        let file = self.files.get_mut(path).filter(|file| !file.deleted);
        let what = || format!("file '{path}'");
        let file = file.ok_or_else(|| FoldError::Missing { position, what: what() })?;
        Arc::make_mut(file).deleted = true;
        Ok(())
    }

    fn remove_version(
        &mut self,
        position: u64,
        path: &StoredPath,
        version: u64,
    ) -> Result<Version, FoldError> {
        let missing = || {
            let what = format!("version {version} of file '{path}'");
            FoldError::Missing { position, what }
        };
        let file = self.files.get_mut(path).ok_or_else(missing)?;
        let index = file.versions.iter().position(|known| known.number == version);
        let index = index.ok_or_else(missing)?;
        let file = Arc::make_mut(file);
        let removed = file.versions.remove(index);
        if file.versions.is_empty() {
            self.files.remove(path);
        }
        Ok(removed)
    }

    /// Gives a version's bytes another place; returns since when they had the old one, and which.
    fn relocate(
        &mut self,
        position: u64,
        path: &StoredPath,
        version: u64,
        extents: &[Extent],
    ) -> Result<(u64, Vec<Extent>), FoldError> {
        let file = self.files.get_mut(path);
        let fits = |known: &Version| {
            let bytes = extents.iter().map(|extent| u64::from(extent.length));
            let bytes = bytes.fold(0u64, u64::saturating_add);
            let in_slabs = matches!(known.file.content, Content::Extents(_));
            known.number == version && in_slabs && bytes == known.file.size
        };
        let found = file.and_then(|file| {
            let index = file.versions.iter().position(fits)?;
            Arc::make_mut(file).versions.get_mut(index)
        });
        let Some(found) = found else {
            let what = format!("version {version} of file '{path}' with as many bytes in slabs");
            return Err(FoldError::Missing { position, what });
        };
        let since = std::mem::replace(&mut found.since, position);
        let moved = Content::Extents(extents.to_vec());
        match std::mem::replace(&mut found.file.content, moved) {
            Content::Extents(old) => Ok((since, old)),
            Content::Inline(_) | Content::Erased => Ok((since, Vec::new())),
        }
    }
}

/// Why an entry does not follow from the state before it. In a journal that opened under the seed's
/// keys this means a defect of the writer, or entries in a wrong order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A host number that is not the next.
    #[error("journal position {position}: host number {index} is not the next", index = .index.0)]
    HostNumber {
        /// Where.
        position: u64,
        /// The number given.
        index: HostIndex,
    },
    /// An id or name that exists already.
    #[error("journal position {position}: {what} exists already")]
    Exists {
        /// Where.
        position: u64,
        /// What.
        what: String,
    },
    /// Something that does not exist.
    #[error("journal position {position}: {what} does not exist")]
    Missing {
        /// Where.
        position: u64,
        /// What.
        what: String,
    },
    /// A slab that is released while something names it.
    #[error("journal position {position}: slab {slab} is in use")]
    InUse {
        /// Where.
        position: u64,
        /// The slab.
        slab: SlabId,
    },
    /// A name or description that is empty or longer than its bound.
    #[error("journal position {position}: {what} of {length} bytes, where 1 to {most} are allowed")]
    Length {
        /// Where.
        position: u64,
        /// What.
        what: &'static str,
        /// Its bytes.
        length: usize,
        /// Most bytes that it may have.
        most: usize,
    },
    /// A vault's name that could not be a folder's.
    #[error("journal position {position}: '{}' cannot be a vault's name", .name.escape_debug())]
    Name {
        /// Where.
        position: u64,
        /// The name.
        name: String,
    },
    /// A slab that was moved has another shape than before.
    #[error("journal position {position}: slab {slab} was moved into another shape")]
    Shape {
        /// Where.
        position: u64,
        /// The slab.
        slab: SlabId,
    },
    /// A vault's events are numbered with a gap.
    #[error("journal position {position}: event {given} of vault {vault} where {expected} follows")]
    EventNumber {
        /// Where.
        position: u64,
        /// The vault.
        vault: VaultId,
        /// The number given.
        given: u64,
        /// The number that follows.
        expected: u64,
    },
}

impl JournalState {
    /// Takes one entry in. On an error the state is unchanged.
    ///
    /// # Errors
    /// [`FoldError`] when the entry does not follow from this state.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let position = self.point.position;
        let missing = |what: String| FoldError::Missing { position, what };
        let exists = |what: String| FoldError::Exists { position, what };
        check_lengths(position, &entry.change)?;
        match &entry.change {
            Change::HostAdded { index, host } => {
                if usize::from(index.0) != self.hosts.len() {
                    return Err(FoldError::HostNumber { position, index: *index });
                }
                self.hosts.push(*host);
            }
            Change::SlabsStored(records) => {
                if let Some(record) = records.iter().find(|r| self.slabs.contains_key(&r.id)) {
                    return Err(exists(format!("slab {}", record.id)));
                }
                records.iter().for_each(|record| self.enter_slab(record.clone()));
            }
            Change::SlabsReleased(ids) => {
                if let Some(id) = ids.iter().find(|id| !self.slabs.contains_key(*id)) {
                    return Err(missing(format!("slab {id}")));
                }
                if let Some(slab) = ids.iter().find(|id| !self.dead.contains(*id)) {
                    return Err(FoldError::InUse { position, slab: *slab });
                }
                for id in ids {
                    self.slabs.remove(id);
                    self.dead.remove(id);
                }
            }
            Change::Vault { vault, number, event, .. } => {
                self.apply_vault(*vault, *number, event, entry)?;
            }
            Change::VaultReserved { vault, name } => {
                self.create_vault(*vault, name, entry.time, None)?;
                if let Some(vault) = self.vaults.get_mut(vault) {
                    vault.arriving = true;
                }
            }
            Change::VaultOpened { vault, owner } => {
                let found = self.vaults.get_mut(vault).filter(|vault| vault.arriving);
                let found = found.ok_or_else(|| missing(format!("vault {vault} on its way")))?;
                found.arriving = false;
                found.owner = *owner;
            }
            Change::BackupCreated { id, scope, label, origin } => {
                self.check_backup_name_free(*id, &label.name)?;
                if self.backups.contains_key(id) {
                    return Err(exists(format!("backup {id}")));
                }
                let backup = Backup {
                    label: BackupLabel::clone(label),
                    origin: BackupOrigin::clone(origin),
                    scope: *scope,
                    point: self.point,
                    created: entry.time,
                    checkpoint: None,
                };
                self.backups.insert(*id, backup);
            }
            Change::BackupDeleted(id) => {
                let gone = self.backups.remove(id);
                let gone = gone.ok_or_else(|| missing(format!("backup {id}")))?;
                gone.checkpoint.iter().for_each(|name| self.pin(name, false));
                self.let_go();
            }
            Change::BackupLabelled { id, label } => {
                self.check_backup_name_free(*id, &label.name)?;
                let backup = self.backups.get_mut(id);
                let backup = backup.ok_or_else(|| missing(format!("backup {id}")))?;
                backup.label.clone_from(label);
            }
            Change::Setting { name, value } => set(&mut self.settings, name, value),
            Change::SlabsMoved(records) => self.move_slabs(records)?,
            Change::Checkpointed { checkpoint, backup, slabs } => {
                self.take_checkpoint(checkpoint, *backup, slabs)?;
            }
        }
        self.point = self.point.after(entry);
        Ok(())
    }

    fn move_slabs(&mut self, records: &[SlabRecord]) -> Result<(), FoldError> {
        let position = self.point.position;
        for record in records {
            let slab = record.id;
            let known = self
                .slabs
                .get(&slab)
                .ok_or_else(|| FoldError::Missing { position, what: format!("slab {slab}") })?;
            if !record.replaces(&known.record) {
                return Err(FoldError::Shape { position, slab });
            }
        }
        for record in records {
            if let Some(known) = self.slabs.get_mut(&record.id) {
                known.record = record.clone();
            }
        }
        Ok(())
    }

    /// A checkpoint is stored: it takes the place of the one before, and backups of its point keep it.
    fn take_checkpoint(
        &mut self,
        name: &CheckpointName,
        backup: Option<BackupId>,
        slabs: &[SlabRecord],
    ) -> Result<(), FoldError> {
        let position = self.point.position;
        let missing = |what: String| FoldError::Missing { position, what };
        if let Some(record) = slabs.iter().find(|record| self.slabs.contains_key(&record.id)) {
            let what = format!("slab {}", record.id);
            return Err(FoldError::Exists { position, what });
        }
        let given = |id: &SlabId| slabs.iter().any(|record| record.id == *id);
        if let Some(id) = name.slabs().find(|id| !self.slabs.contains_key(id) && !given(id)) {
            return Err(missing(format!("slab {id}")));
        }
        if name.point.position > position {
            return Err(missing(format!("position {}", name.point.position)));
        }
        let before = match backup {
            None => None,
            Some(id) => {
                let found = self.backups.get_mut(&id).filter(|found| found.point == name.point);
                let what = || format!("backup {id} of position {}", name.point.position);
                found.ok_or_else(|| missing(what()))?.checkpoint.replace(name.clone())
            }
        };
        slabs.iter().for_each(|record| self.enter_slab(record.clone()));
        self.pin(name, true);
        if backup.is_some() {
            self.pin(name, true);
        }
        let before = before.into_iter().chain(self.checkpoint.replace(name.clone()));
        for before in before.collect::<Vec<_>>() {
            self.pin(&before, false);
        }
        Ok(())
    }

    /// Counts that a checkpoint lies in its slabs, or no longer does.
    fn pin(&mut self, name: &CheckpointName, add: bool) {
        for id in name.slabs() {
            let Some(slab) = self.slabs.get_mut(&id) else { continue };
            slab.pins = if add { slab.pins.saturating_add(1) } else { slab.pins.saturating_sub(1) };
            self.sort(id);
        }
    }

    /// Counts what all checkpoints that are named lie in; for a state that was read from one.
    pub(crate) fn pin_all(&mut self) {
        let backups = self.backups.values().filter_map(|backup| backup.checkpoint.clone());
        for name in backups.chain(self.checkpoint.clone()).collect::<Vec<_>>() {
            self.pin(&name, true);
        }
    }

    /// Puts a slab among the dead, among the thin, or among neither.
    fn sort(&mut self, id: SlabId) {
        let Some(slab) = self.slabs.get(&id) else { return };
        let half = slab.record.capacity() / 2;
        let free = slab.pins == 0;
        let sets = [
            (&mut self.dead, free && slab.live == 0),
            (&mut self.thin, free && slab.live > 0 && slab.live < half),
        ];
        for (set, belongs) in sets {
            if belongs {
                set.insert(id);
            } else {
                set.remove(&id);
            }
        }
    }

    fn apply_vault(
        &mut self,
        id: VaultId,
        number: u64,
        event: &VaultEvent,
        entry: &Entry,
    ) -> Result<(), FoldError> {
        let position = self.point.position;
        let missing = |what: String| FoldError::Missing { position, what };
        let expected = self.vaults.get(&id).map_or(0, |vault| vault.next);
        let arriving = self.vaults.get(&id).is_some_and(|vault| vault.arriving);
        if number != expected {
            return Err(FoldError::EventNumber { position, vault: id, given: number, expected });
        }
        match event {
            VaultEvent::Created { .. } if arriving && number == 0 => {}
            VaultEvent::Created { name } => {
                self.create_vault(id, name, entry.occurred(), by(&entry.change))?;
            }
            VaultEvent::Renamed { name } if !arriving => self.check_name_free(name)?,
            VaultEvent::Removed => return self.remove_vault(id),
            _ => {}
        }
        let vault = self.vaults.get_mut(&id).ok_or_else(|| missing(format!("vault {id}")))?;
        match event {
            VaultEvent::Created { .. } => vault.created = entry.occurred(),
            VaultEvent::Removed | VaultEvent::Noted { .. } => {}
            // It has its name here already.
            VaultEvent::Renamed { .. } if arriving => {}
            VaultEvent::Renamed { name } => vault.name.clone_from(name),
            VaultEvent::Put { path, file } => {
                if let Some(extent) = file
                    .content
                    .extents()
                    .iter()
                    .find(|extent| !self.slabs.contains_key(&extent.slab))
                {
                    return Err(missing(format!("slab {}", extent.slab)));
                }
                let (time, since) = (entry.occurred(), position);
                vault.put(path, Version { number, time, since, file: file.clone() });
                self.count(file.content.extents(), Use::Named, true);
            }
            VaultEvent::Moved { from, to } => vault.move_file(position, from, to)?,
            VaultEvent::Deleted { path } => vault.delete(position, path)?,
            VaultEvent::VersionRemoved { path, version } => {
                let removed = vault.remove_version(position, path, *version)?;
                self.give_up(id, removed.since, removed.file.content.extents().to_vec());
            }
            VaultEvent::Relocated { path, version, extents } => {
                if let Some(extent) =
                    extents.iter().find(|extent| !self.slabs.contains_key(&extent.slab))
                {
                    return Err(missing(format!("slab {}", extent.slab)));
                }
                let (since, old) = vault.relocate(position, path, *version, extents)?;
                self.count(extents, Use::Named, true);
                self.give_up(id, since, old);
            }
            VaultEvent::FolderMade { path } => {
                vault.folders.insert(path.clone());
            }
            VaultEvent::FolderRemoved { path } => {
                vault.folders.remove(path);
            }
            VaultEvent::Set { name, value } => {
                let most = MAX_VAULT_SETTINGS;
                if vault.settings.len() >= most && !vault.settings.contains_key(name) {
                    let (what, length) = ("a vault's list of settings", vault.settings.len() + 1);
                    return Err(FoldError::Length { position, what, length, most });
                }
                set(&mut vault.settings, name, value);
            }
        }
        if let Some(vault) = self.vaults.get_mut(&id) {
            vault.next = number.saturating_add(1);
            vault.chain = chain(&vault.chain, entry.digest());
        }
        Ok(())
    }

    /// Takes a slab in that nothing names yet.
    pub(crate) fn enter_slab(&mut self, record: SlabRecord) {
        self.dead.insert(record.id);
        self.slabs.insert(record.id, SlabUse::unused(record));
    }

    /// Counts a version's extents. One in a slab that is not there is left out.
    pub(crate) fn enter_extents(&mut self, extents: &[Extent]) {
        self.count(extents, Use::Named, true);
    }

    /// Takes extents in that only backups name.
    pub(crate) fn enter_held(&mut self, span: HeldSpan, held: HeldExtents) {
        self.count(&held.extents, Use::Named, true);
        self.count(&held.extents, Use::Held, true);
        self.held.insert(span, held);
    }

    /// A vault names these extents no longer. They stay counted as long as a backup shows them.
    fn give_up(&mut self, vault: VaultId, since: u64, extents: Vec<Extent>) {
        if extents.is_empty() {
            return;
        }
        let until = self.point.position;
        if self.backups.values().any(|backup| backup.shows(vault, since, until)) {
            self.count(&extents, Use::Held, true);
            self.held.insert(HeldSpan { until, since }, HeldExtents { vault, extents });
        } else {
            self.count(&extents, Use::Named, false);
        }
    }

    /// A backup is gone: what it alone has held is not counted any more.
    fn let_go(&mut self) {
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.held).into_iter().partition(|(span, held)| {
                let shows = |backup: &Backup| backup.shows(held.vault, span.since, span.until);
                self.backups.values().any(shows)
            });
        self.held = kept;
        for held in gone.into_values() {
            self.count(&held.extents, Use::Held, false);
            self.count(&held.extents, Use::Named, false);
        }
    }

    /// Adds extents to, or takes them from, what is counted of their slabs.
    fn count(&mut self, extents: &[Extent], what: Use, add: bool) {
        for extent in extents {
            let Some(slab) = self.slabs.get_mut(&extent.slab) else { continue };
            let length = u64::from(extent.length);
            let counted = match what {
                Use::Named => &mut slab.live,
                Use::Held => &mut slab.held,
            };
            *counted =
                if add { counted.saturating_add(length) } else { counted.saturating_sub(length) };
            self.sort(extent.slab);
        }
    }

    fn check_name_free(&self, name: &str) -> Result<(), FoldError> {
        if self.vaults.values().any(|vault| vault.name == name) {
            let what = format!("vault '{name}'");
            return Err(FoldError::Exists { position: self.point.position, what });
        }
        Ok(())
    }

    fn check_backup_name_free(&self, id: BackupId, name: &str) -> Result<(), FoldError> {
        if self.backups.iter().any(|(other, backup)| *other != id && backup.label.name == name) {
            let what = format!("backup '{name}'");
            return Err(FoldError::Exists { position: self.point.position, what });
        }
        Ok(())
    }

    fn create_vault(
        &mut self,
        id: VaultId,
        name: &str,
        created: u64,
        owner: Option<UserId>,
    ) -> Result<(), FoldError> {
        self.check_name_free(name)?;
        if self.vaults.contains_key(&id) {
            let what = format!("vault {id}");
            return Err(FoldError::Exists { position: self.point.position, what });
        }
        let vault = VaultState { name: name.to_owned(), created, owner, ..VaultState::default() };
        self.vaults.insert(id, vault);
        Ok(())
    }

    fn remove_vault(&mut self, id: VaultId) -> Result<(), FoldError> {
        let Some(vault) = self.vaults.remove(&id) else {
            let what = format!("vault {id}");
            return Err(FoldError::Missing { position: self.point.position, what });
        };
        for version in vault.files.values().flat_map(|file| &file.versions) {
            self.give_up(id, version.since, version.file.content.extents().to_vec());
        }
        Ok(())
    }

    /// Vaults that are listed.
    pub fn listed_vaults(&self) -> impl Iterator<Item = (VaultId, &VaultState)> {
        self.vaults.iter().filter(|(_, vault)| !vault.arriving).map(|(id, vault)| (*id, vault))
    }

    /// The vault with a name, if it is listed.
    #[must_use]
    pub fn vault_named(&self, name: &str) -> Option<(VaultId, &VaultState)> {
        self.listed_vaults().find(|(_, vault)| vault.name == name)
    }

    /// The backup with a name, or with an id written in hex.
    #[must_use]
    pub fn backup_named(&self, name: &str) -> Option<(BackupId, &Backup)> {
        let id = name.parse::<BackupId>().ok();
        self.backups
            .iter()
            .find(|(key, backup)| backup.label.name == name || Some(**key) == id)
            .map(|(key, backup)| (*key, backup))
    }
}

/// Who made a change of a vault.
const fn by(change: &Change) -> Option<UserId> {
    match change {
        Change::Vault { made, .. } => made.by,
        _ => None,
    }
}

/// An empty value takes a setting away.
fn set(settings: &mut BTreeMap<String, Vec<u8>>, name: &str, value: &[u8]) {
    if value.is_empty() {
        settings.remove(name);
    } else {
        settings.insert(name.to_owned(), value.to_vec());
    }
}

/// Bounds every text of a change, so that a replay holds no more than its writer was allowed.
fn check_lengths(position: u64, change: &Change) -> Result<(), FoldError> {
    if let Some((what, length, most)) = overlong(change) {
        return Err(FoldError::Length { position, what, length, most });
    }
    match change {
        Change::Vault {
            event: VaultEvent::Created { name } | VaultEvent::Renamed { name },
            ..
        }
        | Change::VaultReserved { name, .. }
            if !is_vault_name(name) =>
        {
            Err(FoldError::Name { position, name: name.clone() })
        }
        _ => Ok(()),
    }
}

/// The first text of a change that is too long, or empty where it must not be: what it is, its bytes, and
/// most bytes.
fn overlong(change: &Change) -> Option<(&'static str, usize, usize)> {
    let named =
        |what, length, most| (!(1..=most).contains(&length)).then_some((what, length, most));
    let valued = |what, length, most| (length > most).then_some((what, length, most));
    match change {
        Change::VaultReserved { name, .. } => named("a vault's name", name.len(), MAX_VAULT_NAME),
        Change::Vault { event, .. } => match event {
            VaultEvent::Created { name } | VaultEvent::Renamed { name } => {
                named("a vault's name", name.len(), MAX_VAULT_NAME)
            }
            VaultEvent::Set { name, value } => {
                named("a setting's name", name.len(), MAX_SETTING_NAME)
                    .or_else(|| valued("a vault's setting", value.len(), MAX_VAULT_SETTING))
            }
            VaultEvent::Noted { text } => valued("a note", text.len(), MAX_NOTE),
            _ => None,
        },
        Change::BackupCreated { label, origin, .. } => {
            label.overlong().or_else(|| origin.overlong())
        }
        Change::BackupLabelled { label, .. } => label.overlong(),
        Change::Setting { name, value } => named("a setting's name", name.len(), MAX_SETTING_NAME)
            .or_else(|| valued("a setting", value.len(), MAX_SETTING)),
        _ => None,
    }
}

/// What is counted of a slab.
#[derive(Clone, Copy)]
enum Use {
    /// Bytes that something names.
    Named,
    /// Bytes that only backups name.
    Held,
}

#[cfg(test)]
mod tests;
