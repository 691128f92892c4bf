//! The fold of the journal: what exists now, or at any earlier point.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entry::{
    BackupId, Change, Content, Entry, Extent, JournalPoint, MAX_BACKUP_NAME, MAX_DESCRIPTION,
    MAX_SETTING_NAME, MAX_VAULT_NAME, StoredFile, VaultEvent, VaultId, chain, is_vault_name,
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
    /// Extents that only backups name, in the order in which the vaults gave them up.
    pub held: Vec<HeldExtents>,
    /// Slabs that nothing names.
    pub dead: BTreeSet<SlabId>,
    /// Slabs of which something, and less than half, is named.
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
}

/// Where bytes lie that a vault has given up, and that a backup was made in time to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldExtents {
    /// The vault.
    pub vault: VaultId,
    /// Position of the entry from which on a version named them.
    pub since: u64,
    /// Position of the entry that gave them up.
    pub until: u64,
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
    /// Files by path, deleted ones too as long as they have versions.
    pub files: BTreeMap<StoredPath, FileState>,
    /// Folders that exist by themselves, also with nothing in them.
    pub folders: BTreeSet<StoredPath>,
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
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// The one vault it is about; all if none.
    pub scope: Option<VaultId>,
    /// What it holds: the journal up to this point.
    pub point: JournalPoint,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
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
        let state = self.files.entry(path.clone()).or_default();
        state.deleted = false;
        state.versions.push(version);
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
        if let Some(mut moved) = self.files.remove(from) {
            // What a deleted file at the target left stays as older versions, though some may have been
            // put later: the file that moved is the one that is listed.
            let target = self.files.entry(to.clone()).or_default();
            target.versions.append(&mut moved.versions);
            target.deleted = false;
        }
        Ok(())
    }

    fn delete(&mut self, position: u64, path: &StoredPath) -> Result<(), FoldError> {
        let file = self.files.get_mut(path).filter(|file| !file.deleted);
        let what = || format!("file '{path}'");
        file.ok_or_else(|| FoldError::Missing { position, what: what() })?.deleted = true;
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
        let removed = file.versions.remove(index.ok_or_else(missing)?);
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
        let found = file.and_then(|file| file.versions.iter_mut().find(|v| v.number == version));
        let fits = |version: &&mut Version| {
            let bytes = extents.iter().map(|extent| u64::from(extent.length));
            let bytes = bytes.fold(0u64, u64::saturating_add);
            matches!(version.file.content, Content::Extents(_)) && bytes == version.file.size
        };
        let Some(found) = found.filter(fits) else {
            let what = format!("version {version} of file '{path}' with as many bytes in slabs");
            return Err(FoldError::Missing { position, what });
        };
        let since = std::mem::replace(&mut found.since, position);
        let moved = Content::Extents(extents.to_vec());
        match std::mem::replace(&mut found.file.content, moved) {
            Content::Extents(old) => Ok((since, old)),
            Content::Inline(_) => Ok((since, Vec::new())),
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
            Change::Vault { vault, number, event } => {
                self.apply_vault(*vault, *number, event, entry)?;
            }
            Change::BackupCreated { id, name, description, scope } => {
                if self.backups.contains_key(id) || self.backups.values().any(|b| b.name == *name) {
                    return Err(exists(format!("backup '{name}'")));
                }
                let backup = Backup {
                    name: name.clone(),
                    description: description.clone(),
                    scope: *scope,
                    point: self.point,
                    created: entry.time,
                };
                self.backups.insert(*id, backup);
            }
            Change::BackupDeleted(id) => {
                self.backups.remove(id).ok_or_else(|| missing(format!("backup {id}")))?;
                self.let_go();
            }
            Change::Setting { name, value } => {
                self.settings.insert(name.clone(), value.clone());
            }
            Change::SlabsMoved(records) => self.move_slabs(records)?,
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
        if number != expected {
            return Err(FoldError::EventNumber { position, vault: id, given: number, expected });
        }
        match event {
            VaultEvent::Created { name } => self.create_vault(id, name, entry.time)?,
            VaultEvent::Renamed { name } => self.check_name_free(name)?,
            VaultEvent::Removed => return self.remove_vault(id),
            _ => {}
        }
        let vault = self.vaults.get_mut(&id).ok_or_else(|| missing(format!("vault {id}")))?;
        match event {
            VaultEvent::Created { .. } | VaultEvent::Removed => {}
            VaultEvent::Renamed { name } => vault.name.clone_from(name),
            VaultEvent::Put { path, file } => {
                if let Some(extent) =
                    extents(file).iter().find(|extent| !self.slabs.contains_key(&extent.slab))
                {
                    return Err(missing(format!("slab {}", extent.slab)));
                }
                let (time, since) = (entry.time, position);
                vault.put(path, Version { number, time, since, file: file.clone() });
                self.count(extents(file), Use::Named, true);
            }
            VaultEvent::Moved { from, to } => vault.move_file(position, from, to)?,
            VaultEvent::Deleted { path } => vault.delete(position, path)?,
            VaultEvent::VersionRemoved { path, version } => {
                let removed = vault.remove_version(position, path, *version)?;
                self.give_up(id, removed.since, extents(&removed.file).to_vec());
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
        self.slabs.insert(record.id, SlabUse { record, live: 0, held: 0 });
    }

    /// Counts a version's extents. One in a slab that is not there is left out.
    pub(crate) fn enter_extents(&mut self, extents: &[Extent]) {
        self.count(extents, Use::Named, true);
    }

    /// Takes extents in that only backups name.
    pub(crate) fn enter_held(&mut self, held: HeldExtents) {
        self.count(&held.extents, Use::Named, true);
        self.count(&held.extents, Use::Held, true);
        self.held.push(held);
    }

    /// A vault names these extents no longer. They stay counted as long as a backup shows them.
    fn give_up(&mut self, vault: VaultId, since: u64, extents: Vec<Extent>) {
        if extents.is_empty() {
            return;
        }
        let until = self.point.position;
        if self.backups.values().any(|backup| backup.shows(vault, since, until)) {
            self.count(&extents, Use::Held, true);
            self.held.push(HeldExtents { vault, since, until, extents });
        } else {
            self.count(&extents, Use::Named, false);
        }
    }

    /// A backup is gone: what it alone has held is not counted any more.
    fn let_go(&mut self) {
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| {
                let shows = |backup: &Backup| backup.shows(held.vault, held.since, held.until);
                self.backups.values().any(shows)
            });
        self.held = kept;
        for held in gone {
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
            let sets = [
                (&mut self.dead, slab.live == 0),
                (&mut self.thin, slab.live > 0 && slab.live < slab.record.capacity() / 2),
            ];
            for (set, belongs) in sets {
                if belongs {
                    set.insert(extent.slab);
                } else {
                    set.remove(&extent.slab);
                }
            }
        }
    }

    fn check_name_free(&self, name: &str) -> Result<(), FoldError> {
        if self.vaults.values().any(|vault| vault.name == name) {
            let what = format!("vault '{name}'");
            return Err(FoldError::Exists { position: self.point.position, what });
        }
        Ok(())
    }

    fn create_vault(&mut self, id: VaultId, name: &str, created: u64) -> Result<(), FoldError> {
        self.check_name_free(name)?;
        if self.vaults.contains_key(&id) {
            let what = format!("vault {id}");
            return Err(FoldError::Exists { position: self.point.position, what });
        }
        let vault = VaultState { name: name.to_owned(), created, ..VaultState::default() };
        self.vaults.insert(id, vault);
        Ok(())
    }

    fn remove_vault(&mut self, id: VaultId) -> Result<(), FoldError> {
        let Some(vault) = self.vaults.remove(&id) else {
            let what = format!("vault {id}");
            return Err(FoldError::Missing { position: self.point.position, what });
        };
        for version in vault.files.values().flat_map(|file| &file.versions) {
            self.give_up(id, version.since, extents(&version.file).to_vec());
        }
        Ok(())
    }

    /// The vault with a name.
    #[must_use]
    pub fn vault_named(&self, name: &str) -> Option<(VaultId, &VaultState)> {
        self.vaults.iter().find(|(_, vault)| vault.name == name).map(|(id, vault)| (*id, vault))
    }

    /// The backup with a name, or with an id written in hex.
    #[must_use]
    pub fn backup_named(&self, name: &str) -> Option<(BackupId, &Backup)> {
        let id = name.parse::<BackupId>().ok();
        self.backups
            .iter()
            .find(|(key, backup)| backup.name == name || Some(**key) == id)
            .map(|(key, backup)| (*key, backup))
    }
}

/// Bounds every text of a change, so that a replay holds no more than its writer was allowed.
fn check_lengths(position: u64, change: &Change) -> Result<(), FoldError> {
    let (what, text, least, most) = match change {
        Change::Vault {
            event: VaultEvent::Created { name } | VaultEvent::Renamed { name },
            ..
        } => ("a vault's name", name, 1, MAX_VAULT_NAME),
        Change::BackupCreated { name, description, .. } => {
            if description.len() > MAX_DESCRIPTION {
                ("a backup's description", description, 0, MAX_DESCRIPTION)
            } else {
                ("a backup's name", name, 1, MAX_BACKUP_NAME)
            }
        }
        Change::Setting { name, .. } => ("a setting's name", name, 1, MAX_SETTING_NAME),
        _ => return Ok(()),
    };
    let length = text.len();
    if !(least..=most).contains(&length) {
        return Err(FoldError::Length { position, what, length, most });
    }
    if matches!(change, Change::Vault { .. }) && !is_vault_name(text) {
        return Err(FoldError::Name { position, name: text.clone() });
    }
    Ok(())
}

fn extents(file: &StoredFile) -> &[Extent] {
    match &file.content {
        Content::Extents(extents) => extents,
        Content::Inline(_) => &[],
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
mod tests {
    use super::*;

    fn entry(change: Change) -> Entry {
        Entry { time: 5, salt: [1; 16], change }
    }

    fn vault(number: u64, event: VaultEvent) -> Entry {
        entry(Change::Vault { vault: VaultId([1; 16]), number, event })
    }

    fn path(text: &str) -> StoredPath {
        StoredPath::new(text).unwrap()
    }

    fn file(bytes: &[u8]) -> StoredFile {
        StoredFile {
            size: bytes.len() as u64,
            modified: 0,
            executable: false,
            hash: Digest(*blake3::hash(bytes).as_bytes()),
            content: Content::Inline(bytes.to_vec()),
        }
    }

    #[test]
    fn a_file_moves_with_its_history_and_a_deleted_one_keeps_its_versions() {
        let mut state = JournalState::default();
        let put = |text: &str, bytes| VaultEvent::Put { path: path(text), file: file(bytes) };
        let events = [
            VaultEvent::Created { name: "home".into() },
            put("a", b"1"),
            put("a", b"2"),
            VaultEvent::Moved { from: path("a"), to: path("b") },
            VaultEvent::Deleted { path: path("b") },
        ];
        for (number, event) in events.into_iter().enumerate() {
            state.apply(&vault(number as u64, event)).unwrap();
        }
        let home = state.vault_named("home").unwrap().1;
        assert_eq!(home.listed().count(), 0);
        assert_eq!(home.files[&path("b")].versions.len(), 2);
        assert_eq!(state.point.position, 5);
    }

    #[test]
    fn a_file_that_moves_is_listed_above_later_versions_of_a_deleted_one() {
        let mut state = JournalState::default();
        let put = |text: &str, bytes| VaultEvent::Put { path: path(text), file: file(bytes) };
        let events = [
            VaultEvent::Created { name: "home".into() },
            put("a", b"moved"),
            put("b", b"deleted"),
            VaultEvent::Deleted { path: path("b") },
            VaultEvent::Moved { from: path("a"), to: path("b") },
        ];
        for (number, event) in events.into_iter().enumerate() {
            state.apply(&vault(number as u64, event)).unwrap();
        }
        let home = state.vault_named("home").unwrap().1;
        let listed: Vec<_> = home.listed().map(|(path, version)| (path, &version.file)).collect();
        assert_eq!(listed, [(&path("b"), &file(b"moved"))]);
        assert_eq!(home.files[&path("b")].versions.len(), 2);
    }

    fn stored(id: u8, length: u32) -> StoredFile {
        let extent = Extent { slab: SlabId([id; 16]), offset: 0, length };
        let content = Content::Extents(vec![extent]);
        StoredFile { size: u64::from(length), content, ..file(b"") }
    }

    fn slab(id: u8) -> Entry {
        entry(Change::SlabsStored(vec![SlabRecord {
            id: SlabId([id; 16]),
            data: 1,
            column: 10,
            frame: 10,
            hosts: vec![],
            descriptor: Digest([id; 32]),
        }]))
    }

    fn release(id: u8) -> Entry {
        entry(Change::SlabsReleased(vec![SlabId([id; 16])]))
    }

    fn backup(id: u8, scope: Option<VaultId>) -> Entry {
        let name = format!("backup {id}");
        let id = BackupId([id; 16]);
        entry(Change::BackupCreated { id, name, description: String::new(), scope })
    }

    fn live(state: &JournalState, id: u8) -> (u64, u64) {
        let slab = &state.slabs[&SlabId([id; 16])];
        (slab.live, slab.held)
    }

    #[test]
    fn backups_hold_what_they_were_made_in_time_to_see() {
        let mut state = JournalState::default();
        let put = |id, length| VaultEvent::Put { path: path("a"), file: stored(id, length) };
        let gone = |version| VaultEvent::VersionRemoved { path: path("a"), version };
        for entry in [
            slab(1),
            slab(2),
            vault(0, VaultEvent::Created { name: "home".into() }),
            backup(1, None),
            vault(1, put(1, 100)),
            backup(2, Some(VaultId([1; 16]))),
            backup(3, Some(VaultId([9; 16]))),
            vault(2, put(2, 600)),
        ] {
            state.apply(&entry).unwrap();
        }
        assert_eq!((live(&state, 1), live(&state, 2)), ((100, 0), (600, 0)));
        assert!(state.thin.contains(&SlabId([1; 16])) && state.thin.len() == 1);
        state.apply(&vault(3, gone(1))).unwrap();
        state.apply(&vault(4, gone(2))).unwrap();
        // The first version is in the second backup alone, the second version in none.
        assert_eq!((live(&state, 1), live(&state, 2)), ((100, 100), (0, 0)));
        let refused = state.apply(&release(1)).unwrap_err();
        assert!(matches!(refused, FoldError::InUse { .. }), "{refused}");
        state.apply(&release(2)).unwrap();
        state.apply(&entry(Change::BackupDeleted(BackupId([1; 16])))).unwrap();
        state.apply(&entry(Change::BackupDeleted(BackupId([3; 16])))).unwrap();
        assert_eq!((live(&state, 1), state.held.len()), ((100, 100), 1));
        state.apply(&entry(Change::BackupDeleted(BackupId([2; 16])))).unwrap();
        assert_eq!((live(&state, 1), state.held.len()), ((0, 0), 0));
        state.apply(&release(1)).unwrap();
        assert!(state.slabs.is_empty() && state.dead.is_empty() && state.thin.is_empty());
    }

    #[test]
    fn bytes_that_moved_stay_where_a_backup_looks_for_them() {
        let mut state = JournalState::default();
        let place = |id: u8, length| vec![Extent { slab: SlabId([id; 16]), offset: 7, length }];
        let moved = |id, length, version| {
            let (path, extents) = (path("a"), place(id, length));
            VaultEvent::Relocated { path, version, extents }
        };
        for entry in [
            slab(1),
            slab(2),
            slab(3),
            vault(0, VaultEvent::Created { name: "home".into() }),
            vault(1, VaultEvent::Put { path: path("a"), file: stored(1, 100) }),
        ] {
            state.apply(&entry).unwrap();
        }
        let before = state.clone();
        for wrong in [moved(2, 99, 1), moved(2, 100, 0), moved(4, 100, 1)] {
            state.apply(&vault(2, wrong)).unwrap_err();
            assert_eq!(state, before);
        }
        state.apply(&vault(2, moved(2, 100, 1))).unwrap();
        assert_eq!((live(&state, 1), live(&state, 2)), ((0, 0), (100, 0)));
        state.apply(&backup(1, None)).unwrap();
        state.apply(&vault(3, moved(3, 100, 1))).unwrap();
        // The backup shows the second place, and nobody the first.
        assert_eq!((live(&state, 2), live(&state, 3)), ((100, 100), (100, 0)));
        state.apply(&release(1)).unwrap();
        state.apply(&entry(Change::BackupDeleted(BackupId([1; 16])))).unwrap();
        state.apply(&vault(4, VaultEvent::Removed)).unwrap();
        assert_eq!((live(&state, 2), live(&state, 3)), ((0, 0), (0, 0)));
    }

    #[test]
    fn folders_are_kept_and_given_up_however_often_they_are_named() {
        let mut state = JournalState::default();
        let made = || VaultEvent::FolderMade { path: path("a/b") };
        let gone = || VaultEvent::FolderRemoved { path: path("a/b") };
        state.apply(&vault(0, VaultEvent::Created { name: "home".into() })).unwrap();
        state.apply(&vault(1, made())).unwrap();
        state.apply(&vault(2, made())).unwrap();
        let folders = |state: &JournalState| state.vault_named("home").unwrap().1.folders.len();
        assert_eq!(folders(&state), 1);
        state.apply(&vault(3, gone())).unwrap();
        state.apply(&vault(4, gone())).unwrap();
        assert_eq!(folders(&state), 0);
    }

    #[test]
    fn texts_over_their_bounds_are_refused_in_a_replay() {
        let mut state = JournalState::default();
        state.apply(&vault(0, VaultEvent::Created { name: "x".repeat(64) })).unwrap();
        let backup = |name: usize, description: usize| Change::BackupCreated {
            id: BackupId([name as u8; 16]),
            name: "n".repeat(name),
            description: "d".repeat(description),
            scope: None,
        };
        let setting = |name: usize| Change::Setting { name: "s".repeat(name), value: vec![] };
        state.apply(&entry(backup(96, 4_096))).unwrap();
        state.apply(&entry(setting(64))).unwrap();
        let before = state.clone();
        let refused = [
            vault(1, VaultEvent::Renamed { name: "x".repeat(65) }),
            vault(1, VaultEvent::Renamed { name: String::new() }),
            entry(backup(97, 0)),
            entry(backup(0, 0)),
            entry(backup(1, 4_097)),
            entry(setting(65)),
        ];
        for refused in refused {
            let error = state.apply(&refused).unwrap_err();
            assert!(matches!(error, FoldError::Length { .. }), "{error}");
            assert_eq!(state, before);
        }
    }

    #[test]
    fn a_vault_is_named_as_a_folder_can_be() {
        let mut state = JournalState::default();
        for name in [".", "..", "a/b", "a\\b", "a:b", "a\nb"] {
            let refused = vault(0, VaultEvent::Created { name: name.into() });
            let error = state.apply(&refused).unwrap_err();
            assert_eq!(error, FoldError::Name { position: 0, name: name.into() });
        }
        for (number, name) in ["...", ".a", "a b", "vault"].into_iter().enumerate() {
            let name = name.to_owned();
            let event = match number {
                0 => VaultEvent::Created { name },
                _ => VaultEvent::Renamed { name },
            };
            state.apply(&vault(number as u64, event)).unwrap();
        }
    }

    #[test]
    fn a_moved_slab_keeps_its_uses_and_its_shape() {
        let record = |id: u8, hosts: &[u16]| SlabRecord {
            id: SlabId([id; 16]),
            data: 1,
            column: 14,
            frame: 14,
            hosts: hosts.iter().copied().map(HostIndex).collect(),
            descriptor: Digest([id; 32]),
        };
        let mut state = JournalState::default();
        state.apply(&entry(Change::SlabsStored(vec![record(1, &[0, 1])]))).unwrap();
        state.apply(&vault(0, VaultEvent::Created { name: "home".into() })).unwrap();
        let extent = super::super::entry::Extent { slab: SlabId([1; 16]), offset: 0, length: 9 };
        let file = StoredFile { content: Content::Extents(vec![extent]), ..file(b"") };
        state.apply(&vault(1, VaultEvent::Put { path: path("a"), file })).unwrap();
        let moved = SlabRecord { descriptor: Digest([7; 32]), ..record(1, &[0, 5]) };
        state.apply(&entry(Change::SlabsMoved(vec![moved.clone()]))).unwrap();
        let known = state.slabs[&SlabId([1; 16])].clone();
        assert_eq!((known.record, known.live), (moved, 9));
        let before = state.clone();
        for (refused, shape) in [
            (record(1, &[0, 1, 2]), true),
            (SlabRecord { data: 2, ..record(1, &[0, 1]) }, true),
            (SlabRecord { column: 15, ..record(1, &[0, 1]) }, true),
            (record(2, &[0, 1]), false),
        ] {
            let refused = entry(Change::SlabsMoved(vec![record(1, &[0, 6]), refused]));
            let error = state.apply(&refused).unwrap_err();
            assert_eq!(matches!(error, FoldError::Shape { .. }), shape, "{error}");
            assert_eq!(state, before);
        }
    }

    #[test]
    fn what_does_not_follow_changes_nothing() {
        let mut state = JournalState::default();
        state.apply(&vault(0, VaultEvent::Created { name: "home".into() })).unwrap();
        let before = state.clone();
        for refused in [
            vault(0, VaultEvent::Deleted { path: path("a") }),
            vault(1, VaultEvent::Deleted { path: path("a") }),
            vault(1, VaultEvent::Renamed { name: "home".into() }),
            vault(1, VaultEvent::Renamed { name: "..".into() }),
            entry(Change::HostAdded { index: HostIndex(1), host: PublicKey([0; 32]) }),
            entry(Change::BackupDeleted(BackupId([0; 16]))),
            entry(Change::SlabsReleased(vec![SlabId([0; 16])])),
        ] {
            assert!(state.apply(&refused).is_err(), "{refused:?}");
            assert_eq!(state, before);
        }
    }
}
