//! Names: what exists, and changes that move no bytes.

use std::collections::BTreeMap;

use samara_protocol::journal::entry::is_vault_name;
use samara_protocol::journal::{
    Change, FileState, JournalState, Made, StoredPath, VaultEvent, VaultId, VaultState, Version,
};

use super::Vaults;
use super::error::VaultError;
use super::types::{FileRow, ListOptions, ListRow, VaultRow, VersionRow};
use crate::rows::Stage;
use crate::world::random_bytes;

/// Events of one append; each has at most two paths of 4 KiB.
const EVENTS: usize = 40;

/// A change of a vault; the journal gives it its number, and says who made it and when.
pub(crate) fn event(vault: VaultId, event: VaultEvent) -> Change {
    Change::Vault { vault, number: 0, made: Made::default(), event }
}

/// Checks a vault's name.
pub(crate) fn check_name(name: &str) -> Result<(), VaultError> {
    if !is_vault_name(name) {
        // The message goes to a terminal.
        let shown =
            |c: char| if c.is_control() { c.escape_unicode().to_string() } else { c.into() };
        return Err(VaultError::Name(name.chars().take(80).map(shown).collect()));
    }
    Ok(())
}

/// A folder's path as users write it, without slashes at its ends.
pub(crate) fn folder(path: &str) -> &str {
    path.trim_matches('/')
}

pub(crate) fn version_row(version: &Version) -> VersionRow {
    VersionRow {
        version: version.number,
        stored: version.time,
        size: version.file.size,
        modified: version.file.modified,
        executable: version.file.executable,
        hash: version.file.hash.to_string(),
        position: version.since.saturating_add(1),
        stage: Stage::default(),
    }
}

fn file_row(path: &StoredPath, file: &FileState, versions: bool) -> Option<FileRow> {
    let newest = file.versions.last()?;
    Some(FileRow {
        path: path.to_string(),
        version: version_row(newest),
        deleted: file.deleted,
        versions: if versions { file.versions.iter().map(version_row).collect() } else { vec![] },
    })
}

pub(crate) fn vault_row(id: VaultId, vault: &VaultState) -> VaultRow {
    let (files, bytes) = totals(vault);
    VaultRow {
        id: id.to_string(),
        name: vault.name.clone(),
        created: vault.created,
        files,
        bytes,
        versions: vault.files.values().map(|file| file.versions.len() as u64).sum(),
        events: vault.next,
        owner: vault.owner.map(|user| user.to_string()),
    }
}

/// Listed files of a vault, and their bytes.
pub(crate) fn totals(vault: &VaultState) -> (u64, u64) {
    vault.listed().fold((0, 0), |(files, bytes), (_, version)| {
        (files + 1, bytes.saturating_add(version.file.size))
    })
}

/// The vault with a name.
pub(crate) fn find<'a>(
    state: &'a JournalState,
    name: &str,
) -> Result<(VaultId, &'a VaultState), VaultError> {
    state.vault_named(name).ok_or_else(|| VaultError::NoVault(name.to_owned()))
}

/// The rows of a listing.
pub(crate) fn list(
    state: &JournalState,
    name: &str,
    options: &ListOptions,
) -> Result<Vec<ListRow>, VaultError> {
    let (_, vault) = find(state, name)?;
    let folder = folder(&options.folder);
    let mut folders: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut files = Vec::new();
    let mut any = folder.is_empty();
    for (path, file) in &vault.files {
        if !path.is_below(folder) || (file.deleted && !options.versions) {
            continue;
        }
        any = true;
        let rest = path.as_str()[folder.len()..].trim_start_matches('/');
        match rest.split_once('/') {
            Some((first, _)) if !options.recursive => {
                let parent =
                    if folder.is_empty() { first.to_owned() } else { format!("{folder}/{first}") };
                let count = folders.entry(parent).or_default();
                if let Some(current) = file.current() {
                    count.0 += 1;
                    count.1 = count.1.saturating_add(current.file.size);
                }
            }
            _ => files.extend(file_row(path, file, options.versions).map(ListRow::File)),
        }
    }
    for path in vault.folders.iter().filter(|path| path.is_below(folder)) {
        any = true;
        let rest = path.as_str()[folder.len()..].trim_start_matches('/');
        let shown = match rest.split_once('/') {
            _ if rest.is_empty() => continue,
            Some((first, _)) if !options.recursive => first,
            _ => rest,
        };
        let parent = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        folders.entry(format!("{parent}{shown}")).or_default();
    }
    if !any {
        return Err(VaultError::NoFile { vault: name.to_owned(), path: folder.to_owned() });
    }
    let folders =
        folders.into_iter().map(|(path, (files, bytes))| ListRow::Folder { path, files, bytes });
    Ok(folders.chain(files).collect())
}

/// Whether a path may become a file: no part of the way to it is a file, and it is no folder.
pub(crate) fn check_file_place(
    vault: &VaultState,
    name: &str,
    path: &StoredPath,
) -> Result<(), VaultError> {
    check_way(vault, name, path)?;
    let inside =
        vault.folders.range(path..).next().is_some_and(|next| next.is_below(path.as_str()));
    // No component is smaller than this one, so whatever is in the folder follows it.
    let first = StoredPath::new(format!("{path}/\u{1}"));
    let holds = |first: StoredPath| {
        let rest = vault.files.range(first..);
        rest.take_while(|(next, _)| next.is_below(path.as_str()))
            .any(|(_, file)| file.current().is_some())
    };
    if inside || first.is_ok_and(holds) {
        return Err(clash(name, path, path.as_str(), "folder"));
    }
    Ok(())
}

/// Whether a path may become a folder: neither it nor a part of the way to it is a file.
pub(crate) fn check_folder_place(
    vault: &VaultState,
    name: &str,
    path: &StoredPath,
) -> Result<(), VaultError> {
    if is_listed(vault, path) {
        return Err(clash(name, path, path.as_str(), "file"));
    }
    check_way(vault, name, path)
}

fn check_way(vault: &VaultState, name: &str, path: &StoredPath) -> Result<(), VaultError> {
    for (at, _) in path.as_str().match_indices('/') {
        let parent = &path.as_str()[..at];
        if StoredPath::new(parent).is_ok_and(|parent| is_listed(vault, &parent)) {
            return Err(clash(name, path, parent, "file"));
        }
    }
    Ok(())
}

fn clash(vault: &str, path: &StoredPath, taken: &str, kind: &'static str) -> VaultError {
    let (vault, path, taken) = (vault.to_owned(), path.to_string(), taken.to_owned());
    VaultError::Clash { vault, path, taken, kind }
}

/// The listed version of a file, or a given one.
pub(crate) fn version<'a>(
    vault: &'a VaultState,
    name: &str,
    path: &StoredPath,
    number: Option<u64>,
) -> Result<&'a Version, VaultError> {
    let missing = || VaultError::NoFile { vault: name.to_owned(), path: path.to_string() };
    let file = vault.files.get(path).ok_or_else(missing)?;
    match number {
        None => file.current().ok_or_else(missing),
        Some(number) => {
            file.versions.iter().find(|version| version.number == number).ok_or_else(|| {
                VaultError::NoVersion {
                    vault: name.to_owned(),
                    path: path.to_string(),
                    version: number,
                }
            })
        }
    }
}

impl Vaults {
    /// All vaults, ordered by name.
    pub(crate) fn vaults(&self) -> Vec<VaultRow> {
        let mut rows: Vec<VaultRow> = self
            .journal
            .read(|state| state.listed_vaults().map(|(id, vault)| vault_row(id, vault)).collect());
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// Lists a folder, now or at a backup's point.
    pub(crate) async fn list(
        &self,
        name: &str,
        options: &ListOptions,
    ) -> Result<Vec<ListRow>, VaultError> {
        match &options.backup {
            None => self.journal.read(|state| list(state, name, options)),
            Some(backup) => list(&self.at_backup(backup).await?, name, options),
        }
    }

    /// Everything as it was at a backup's point.
    pub(crate) async fn at_backup(&self, name: &str) -> Result<JournalState, VaultError> {
        let missing = || VaultError::NoBackup(name.to_owned());
        let named = |state: &JournalState| state.backup_named(name).map(|(_, b)| b.clone());
        let backup = self.journal.read(named).ok_or_else(missing)?;
        let state = self.journal.at_backup(&backup).await?;
        state.ok_or_else(|| VaultError::NoHistory(name.to_owned()))
    }

    /// One file, or one of its versions.
    pub(crate) fn file(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
    ) -> Result<FileRow, VaultError> {
        let path = StoredPath::new(path)?;
        self.journal.read(|state| {
            let (_, vault) = find(state, name)?;
            let found = version(vault, name, &path, number)?;
            Ok(FileRow {
                path: path.to_string(),
                version: version_row(found),
                deleted: vault.files.get(&path).is_some_and(|file| file.deleted),
                versions: Vec::new(),
            })
        })
    }

    /// Makes a vault.
    pub(crate) async fn create(&self, name: &str) -> Result<VaultRow, VaultError> {
        check_name(name)?;
        if self.journal.read(|state| state.vault_named(name).is_some()) {
            return Err(VaultError::Exists(format!("vault '{name}'")));
        }
        let id = VaultId(random_bytes(self.world.random.as_ref()));
        self.journal.append(vec![event(id, VaultEvent::Created { name: name.into() })]).await?;
        self.journal.read(|state| {
            let (id, vault) = find(state, name)?;
            Ok(vault_row(id, vault))
        })
    }

    /// The id of a vault, which is made if it does not exist.
    pub(crate) async fn find_or_create(&self, name: &str) -> Result<VaultId, VaultError> {
        let known = || self.journal.read(|state| state.vault_named(name).map(|(id, _)| id));
        if let Some(id) = known() {
            return Ok(id);
        }
        match self.create(name).await {
            Ok(_) => {}
            // Another caller was faster.
            Err(VaultError::Exists(_)) => {}
            Err(error) if error.code() == "exists" => {}
            Err(error) => return Err(error),
        }
        known().ok_or_else(|| VaultError::NoVault(name.to_owned()))
    }

    /// Gives a vault another name.
    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<(), VaultError> {
        check_name(to)?;
        let id = self.journal.read(|state| find(state, from).map(|(id, _)| id))?;
        if self.journal.read(|state| state.vault_named(to).is_some()) {
            return Err(VaultError::Exists(format!("vault '{to}'")));
        }
        self.journal.append(vec![event(id, VaultEvent::Renamed { name: to.into() })]).await?;
        Ok(())
    }

    /// Gives a vault and everything in it up.
    pub(crate) async fn remove_vault(&self, name: &str) -> Result<(), VaultError> {
        let id = self.journal.read(|state| find(state, name).map(|(id, _)| id))?;
        self.journal.append(vec![event(id, VaultEvent::Removed)]).await?;
        Ok(())
    }

    /// Moves a file, or a folder with all in it; returns how many files moved. Into `to/` if it ends
    /// in a slash.
    pub(crate) async fn move_file(
        &self,
        name: &str,
        from: &str,
        to: &str,
    ) -> Result<u64, VaultError> {
        let from = folder(from);
        let last = from.rsplit('/').next().unwrap_or(from);
        let to = if to.ends_with('/') || to.is_empty() {
            StoredPath::new(format!("{to}{last}"))?
        } else {
            StoredPath::new(to)?
        };
        let below = self.below(name, from)?;
        if to.as_str() == from {
            return Err(VaultError::Unmoved { vault: name.to_owned(), path: from.to_owned() });
        }
        if to.is_below(from) {
            let (vault, from, to) = (name.to_owned(), from.to_owned(), to.to_string());
            return Err(VaultError::IntoItself { vault, from, to });
        }
        let target =
            |path: &StoredPath| StoredPath::new(format!("{to}{}", &path.as_str()[from.len()..]));
        let mut moves = Vec::with_capacity(below.files.len());
        for path in &below.files {
            let target = target(path)?;
            self.journal.read(|state| {
                let Some(vault) = state.vaults.get(&below.vault) else { return Ok(()) };
                if is_listed(vault, &target) {
                    return Err(VaultError::Exists(format!("file '{target}'")));
                }
                check_file_place(vault, name, &target)
            })?;
            let moved = VaultEvent::Moved { from: path.clone(), to: target };
            moves.push(event(below.vault, moved));
        }
        for path in &below.folders {
            let target = target(path)?;
            self.journal.read(|state| {
                let vault = state.vaults.get(&below.vault);
                vault.map_or(Ok(()), |vault| check_folder_place(vault, name, &target))
            })?;
            let made = VaultEvent::FolderMade { path: target };
            let gone = VaultEvent::FolderRemoved { path: path.clone() };
            moves.extend([event(below.vault, made), event(below.vault, gone)]);
        }
        self.append_all(moves).await?;
        Ok(below.files.len() as u64)
    }

    /// Takes a file off the list, or a folder with all in it; its versions stay. Returns how many.
    pub(crate) async fn remove(
        &self,
        name: &str,
        path: &str,
        recursive: bool,
    ) -> Result<u64, VaultError> {
        let path = folder(path);
        let below = self.below(name, path)?;
        if !below.is_file(path) && !recursive {
            let (vault, path) = (name.to_owned(), path.to_owned());
            return Err(VaultError::Folder { vault, path });
        }
        let count = below.files.len() as u64;
        let files = below.files.into_iter().map(|path| VaultEvent::Deleted { path });
        let folders = below.folders.into_iter().map(|path| VaultEvent::FolderRemoved { path });
        let events = files.chain(folders).map(|change| event(below.vault, change));
        self.append_all(events.collect()).await?;
        Ok(count)
    }

    /// Gives one version of a file up for good.
    pub(crate) async fn remove_version(
        &self,
        name: &str,
        path: &str,
        number: u64,
    ) -> Result<(), VaultError> {
        let path = StoredPath::new(path)?;
        let id = self.journal.read(|state| {
            let (id, vault) = find(state, name)?;
            version(vault, name, &path, Some(number)).map(|_| id)
        })?;
        let removed = VaultEvent::VersionRemoved { path, version: number };
        self.journal.append(vec![event(id, removed)]).await?;
        Ok(())
    }

    /// What is listed at or below a path.
    fn below(&self, name: &str, path: &str) -> Result<Below, VaultError> {
        self.journal.read(|state| {
            let (id, vault) = find(state, name)?;
            let listed = vault.listed().map(|(listed, _)| listed);
            let files: Vec<StoredPath> = listed.filter(|p| p.is_below(path)).cloned().collect();
            let folders = vault.folders.iter().filter(|p| p.is_below(path));
            let folders: Vec<StoredPath> = folders.cloned().collect();
            if files.is_empty() && folders.is_empty() {
                let path = path.to_owned();
                return Err(VaultError::NoFile { vault: name.to_owned(), path });
            }
            Ok(Below { vault: id, files, folders })
        })
    }

    async fn append_all(&self, changes: Vec<Change>) -> Result<(), VaultError> {
        for part in changes.chunks(EVENTS) {
            self.journal.append(part.to_vec()).await?;
        }
        Ok(())
    }
}

/// What is listed at or below a path.
struct Below {
    vault: VaultId,
    files: Vec<StoredPath>,
    /// Folders that exist by themselves.
    folders: Vec<StoredPath>,
}

impl Below {
    /// Whether the path itself is a file, and so all there is.
    fn is_file(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.as_str() == path)
    }
}

fn is_listed(vault: &VaultState, path: &StoredPath) -> bool {
    vault.files.get(path).is_some_and(|file| file.current().is_some())
}
