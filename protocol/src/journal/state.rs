//! The fold of the journal: what exists now, or at any earlier point.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entry::{
    BackupId, Change, Content, Entry, JournalPoint, MAX_BACKUP_NAME, MAX_DESCRIPTION,
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
}

/// A slab and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabUse {
    /// The slab.
    pub record: SlabRecord,
    /// Bytes that versions of files refer to.
    pub live: u64,
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
                for record in records {
                    self.slabs.insert(record.id, SlabUse { record: record.clone(), live: 0 });
                }
            }
            Change::SlabsReleased(ids) => {
                if let Some(id) = ids.iter().find(|id| !self.slabs.contains_key(*id)) {
                    return Err(missing(format!("slab {id}")));
                }
                for id in ids {
                    self.slabs.remove(id);
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
            }
            Change::Setting { name, value } => {
                self.settings.insert(name.clone(), value.clone());
            }
        }
        self.point = self.point.after(entry);
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
                vault.put(path, Version { number, time: entry.time, file: file.clone() });
                count(&mut self.slabs, file, true);
            }
            VaultEvent::Moved { from, to } => vault.move_file(position, from, to)?,
            VaultEvent::Deleted { path } => vault.delete(position, path)?,
            VaultEvent::VersionRemoved { path, version } => {
                let removed = vault.remove_version(position, path, *version)?;
                count(&mut self.slabs, &removed.file, false);
            }
            VaultEvent::FolderMade { path } => {
                vault.folders.insert(path.clone());
            }
            VaultEvent::FolderRemoved { path } => {
                vault.folders.remove(path);
            }
        }
        vault.next = number.saturating_add(1);
        vault.chain = chain(&vault.chain, entry.digest());
        Ok(())
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
            count(&mut self.slabs, &version.file, false);
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

fn extents(file: &StoredFile) -> &[super::entry::Extent] {
    match &file.content {
        Content::Extents(extents) => extents,
        Content::Inline(_) => &[],
    }
}

/// Adds a version's bytes to, or takes them from, the live bytes of its slabs.
fn count(slabs: &mut BTreeMap<SlabId, SlabUse>, file: &StoredFile, add: bool) {
    for extent in extents(file) {
        if let Some(slab) = slabs.get_mut(&extent.slab) {
            let length = u64::from(extent.length);
            slab.live = if add {
                slab.live.saturating_add(length)
            } else {
                slab.live.saturating_sub(length)
            };
        }
    }
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
