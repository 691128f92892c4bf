//! Sectors on disk: a file per sector in one or more folders with a byte limit each.
//!
//! ```text
//! <volume>/samara-volume     marker: the host's key, and the id of the store that knows its sectors
//! <volume>/ab/ab34...ef      a sector: its name is the BLAKE3 hash of its bytes, as b3sum prints it
//! <volume>/tmp/<n>           a sector being written
//! ```
//!
//! A sector is written to `tmp`, synced, renamed, and its folder is synced; many stores share the folder
//! syncs. So a name exists only with all its bytes, and is durable when [`Volumes::put`] returns. A full
//! disk leaves nothing behind. What is on disk is listed once at the start; a file of a length that no
//! sector has is a torn one and is removed, which the host then finds as lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use samara_protocol::hash::SectorRoot;
use samara_protocol::host::HostStoreError;
use samara_protocol::host::store::Space;
use samara_protocol::sector::{SectorEntry, SectorSize};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;

use super::config::VolumeConfig;
use super::direct::Scratch;
use super::group::Group;
use crate::data::write_private;
use crate::database::is_full;
use crate::disk::{make_folder, remove_if_there, sync_folder};

const MARKER: &str = "samara-volume";
const TEMPORARY: &str = "tmp";

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenVolumeError {
    /// The system refused.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder was a volume before and its marker is gone: most likely its disk is not mounted.
    #[error("{path} is not the volume it was: is its disk mounted?", path = .path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The folder belongs to another host.
    #[error("{path} is a volume of host {owner}", path = .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What its marker says.
        owner: String,
    },
    /// A folder is configured twice.
    #[error("{path} is configured twice", path = .path.display())]
    Twice {
        /// The folder.
        path: PathBuf,
    },
    /// No folder is configured.
    #[error("a host needs at least one volume")]
    None,
}

/// Id of a host's store, drawn when it is made.
pub type StoreId = [u8; 16];

/// Whose sectors a volume holds, as its marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The host.
    pub host: PublicKey,
    /// The store that knows the sectors.
    pub store: StoreId,
}

impl Owner {
    fn to_text(self) -> String {
        format!("{}\n{}\n", self.host, hex::encode(self.store))
    }
}

/// How a sector's bytes get into a file, durably.
type WriteFile = fn(&Scratch, &Path, &[u8]) -> io::Result<()>;

/// How a folder's names become durable.
type SyncFolder = fn(&Path) -> io::Result<()>;

/// All volumes of a host.
#[derive(Debug)]
pub struct Volumes {
    write_file: WriteFile,
    sync_folder: SyncFolder,
    volumes: Vec<Volume>,
    index: Mutex<BTreeMap<SectorRoot, Place>>,
    next_temporary: AtomicU64,
    scratch: Scratch,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    volume: usize,
    size: SectorSize,
}

#[derive(Debug)]
struct Volume {
    path: PathBuf,
    limit: u64,
    /// Bytes of sectors, with those being written.
    used: AtomicU64,
    syncs: Group<PathBuf, HostStoreError>,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenVolumeError {
    let path = path.to_owned();
    move |source| OpenVolumeError::Io { action, path, source }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostStoreError {
    let path = path.display().to_string();
    move |error| HostStoreError::Failed { action, reason: format!("{path}: {error}") }
}

/// Why `needed` bytes could not be written. A full disk has nothing free, whatever the volume's limit
/// leaves.
fn not_written(
    action: &'static str,
    path: &Path,
    needed: u64,
) -> impl FnOnce(io::Error) -> HostStoreError {
    move |error| {
        if is_full(&error) {
            return HostStoreError::Full { needed, free: 0 };
        }
        failed(action, path)(error)
    }
}

impl Volumes {
    /// The first of the folders that is a volume of this host, but of another store. A volume of
    /// another host is left to [`Volumes::open`].
    ///
    /// # Errors
    /// [`OpenVolumeError::Io`] for a marker that cannot be read.
    pub fn of_another_store(
        configs: &[VolumeConfig],
        host: &PublicKey,
        store: &StoreId,
    ) -> Result<Option<PathBuf>, OpenVolumeError> {
        for config in configs {
            let Some((owner, marked)) = read_marker(&config.path)? else { continue };
            if owner == host.to_string() && marked != hex::encode(store) {
                return Ok(Some(config.path.clone()));
            }
        }
        Ok(None)
    }

    /// Opens or makes the volumes of `owner`. Those in `known` were opened before and must be there.
    ///
    /// # Errors
    /// [`OpenVolumeError`] for the first one that cannot be used.
    pub fn open(
        configs: &[VolumeConfig],
        owner: &Owner,
        known: &BTreeSet<PathBuf>,
    ) -> Result<Self, OpenVolumeError> {
        if configs.is_empty() {
            return Err(OpenVolumeError::None);
        }
        let mut paths = BTreeSet::new();
        if let Some(twice) = configs.iter().find(|config| !paths.insert(config.path.clone())) {
            return Err(OpenVolumeError::Twice { path: twice.path.clone() });
        }
        for path in known.difference(&paths) {
            tracing::warn!(path = %path.display(), "this volume is no longer configured");
        }
        let mut volumes = Vec::with_capacity(configs.len());
        let mut index = BTreeMap::new();
        for (number, config) in configs.iter().enumerate() {
            let path = &config.path;
            prepare(path, owner, known.contains(path))?;
            let mut used = 0;
            for (root, size) in scan(path)? {
                used += u64::from(size.bytes());
                index.insert(root, Place { volume: number, size });
            }
            volumes.push(Volume {
                path: path.clone(),
                limit: config.limit.0,
                used: AtomicU64::new(used),
                syncs: Group::new(),
            });
        }
        Ok(Self {
            write_file: Scratch::write,
            sync_folder,
            volumes,
            index: Mutex::new(index),
            next_temporary: AtomicU64::new(0),
            scratch: Scratch::default(),
        })
    }

    /// Writes files another way: as a full disk does.
    #[cfg(test)]
    pub(super) fn write_files_with(&mut self, write_file: WriteFile) {
        self.write_file = write_file;
    }

    /// Syncs folders another way: as a broken disk does.
    #[cfg(test)]
    pub(super) fn sync_folders_with(&mut self, sync_folder: SyncFolder) {
        self.sync_folder = sync_folder;
    }

    fn index(&self) -> MutexGuard<'_, BTreeMap<SectorRoot, Place>> {
        lock(&self.index)
    }

    /// Bytes offered and free in all volumes.
    pub fn space(&self) -> Space {
        self.volumes.iter().fold(Space { capacity: 0, free: 0 }, |space, volume| Space {
            capacity: space.capacity.saturating_add(volume.limit),
            free: space.free.saturating_add(volume.free()),
        })
    }

    /// All sectors, by root.
    pub fn entries(&self) -> Vec<SectorEntry> {
        let entry =
            |(root, place): (&SectorRoot, &Place)| SectorEntry { root: *root, size: place.size };
        self.index().iter().map(entry).collect()
    }

    /// Writes a sector, durable when it returns; in the volume with the most room, or in place of the
    /// sector's present file.
    ///
    /// # Errors
    /// [`HostStoreError::Full`] when no volume has room, or no disk has.
    pub fn put(&self, entry: &SectorEntry, data: &[u8]) -> Result<(), HostStoreError> {
        let present = self.index().get(&entry.root).copied();
        if let Some(place) = present {
            return self.write(place.volume, &entry.root, data);
        }
        let needed = u64::from(entry.size.bytes());
        let mut order: Vec<_> = (0..self.volumes.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(self.volumes[*number].free()));
        let mut full = HostStoreError::Full { needed, free: self.space().free };
        for number in order {
            let volume = &self.volumes[number];
            if !volume.reserve(needed) {
                continue;
            }
            match self.write(number, &entry.root, data) {
                Ok(()) => {
                    self.index().insert(entry.root, Place { volume: number, size: entry.size });
                    return Ok(());
                }
                // Renamed, but its folder is not synced: the file is there and takes its room.
                Err(error) if volume.file(&entry.root).exists() => {
                    self.index().insert(entry.root, Place { volume: number, size: entry.size });
                    return Err(error);
                }
                Err(error @ HostStoreError::Full { .. }) => {
                    volume.release(needed);
                    full = error;
                }
                Err(error) => {
                    volume.release(needed);
                    return Err(error);
                }
            }
        }
        Err(full)
    }

    fn write(&self, volume: usize, root: &SectorRoot, data: &[u8]) -> Result<(), HostStoreError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let write = |path: &Path| (self.write_file)(&self.scratch, path, data);
        self.volumes[volume].write(write, self.sync_folder, number, root, data.len() as u64)
    }

    /// Bytes of a sector; fewer where its file is too short, nothing if there is no such file.
    ///
    /// # Errors
    /// [`HostStoreError::Failed`] when the disk fails.
    pub fn read(
        &self,
        root: &SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        let Some(path) = self.path(root) else { return Ok(None) };
        match self.scratch.read(&path, offset.into(), length as usize) {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read a sector", &path)(error)),
        }
    }

    /// Removes a sector's file, if there is one. Not durable by itself.
    ///
    /// # Errors
    /// [`HostStoreError::Failed`] when the disk fails; the sector is still there.
    pub fn remove(&self, root: &SectorRoot) -> Result<(), HostStoreError> {
        let Some(path) = self.path(root) else { return Ok(()) };
        remove_if_there(&path).map_err(failed("remove a sector", &path))?;
        if let Some(place) = self.index().remove(root) {
            self.volumes[place.volume].release(u64::from(place.size.bytes()));
        }
        Ok(())
    }

    /// The file of a sector.
    pub fn path(&self, root: &SectorRoot) -> Option<PathBuf> {
        let place = self.index().get(root).copied()?;
        Some(self.volumes[place.volume].file(root))
    }
}

impl Volume {
    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes room if there is enough.
    fn reserve(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn release(&self, bytes: u64) {
        let give = |used: u64| Some(used.saturating_sub(bytes));
        // The closure never refuses.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    fn folder(&self, root: &SectorRoot) -> PathBuf {
        self.path.join(format!("{:02x}", root.0[0]))
    }

    fn file(&self, root: &SectorRoot) -> PathBuf {
        self.folder(root).join(root.to_string())
    }

    fn write(
        &self,
        write: impl FnOnce(&Path) -> io::Result<()>,
        sync_folder: SyncFolder,
        number: u64,
        root: &SectorRoot,
        length: u64,
    ) -> Result<(), HostStoreError> {
        let temporary = self.path.join(TEMPORARY).join(number.to_string());
        let (folder, target) = (self.folder(root), self.file(root));
        let written = write(&temporary).and_then(|()| fs::rename(&temporary, &target));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(not_written("write a sector", &target, length)(error));
        }
        let action = "sync the folder";
        let broken = HostStoreError::Failed { action, reason: "its round panicked".into() };
        self.syncs.join(folder, broken, |folders| {
            let folders: BTreeSet<_> = folders.into_iter().collect();
            folders.iter().try_for_each(|folder| {
                let full = not_written("sync the folder", folder, length);
                sync_folder(folder).map_err(full)
            })
        })
    }
}

/// What a volume's marker says: host and store, as text.
fn read_marker(path: &Path) -> Result<Option<(String, String)>, OpenVolumeError> {
    let marker = path.join(MARKER);
    match fs::read_to_string(&marker) {
        Ok(text) => {
            let mut lines = text.lines().map(|line| line.trim().to_owned());
            Ok(Some((lines.next().unwrap_or_default(), lines.next().unwrap_or_default())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read the marker", &marker)(error)),
    }
}

/// Makes folders and marker, or checks them, and clears what was being written.
fn prepare(path: &Path, owner: &Owner, known: bool) -> Result<(), OpenVolumeError> {
    match read_marker(path)? {
        Some((host, _)) if host == owner.host.to_string() => {}
        Some((host, _)) => {
            return Err(OpenVolumeError::Foreign { path: path.to_owned(), owner: host });
        }
        None if known => return Err(OpenVolumeError::Missing { path: path.to_owned() }),
        None => {
            make(path).map_err(io_error("make the volume", path))?;
            // The marker comes last: a volume that has it has all its folders.
            let marker = path.join(MARKER);
            write_private(&marker, owner.to_text().as_bytes())
                .map_err(io_error("write the marker", &marker))?;
        }
    }
    let temporary = path.join(TEMPORARY);
    for file in fs::read_dir(&temporary).map_err(io_error("list", &temporary))? {
        let file = file.map_err(io_error("list", &temporary))?.path();
        fs::remove_file(&file).map_err(io_error("remove", &file))?;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    make_folder(path)?;
    fs::create_dir_all(path.join(TEMPORARY))?;
    for byte in 0..=u8::MAX {
        fs::create_dir_all(path.join(format!("{byte:02x}")))?;
    }
    sync_folder(path)
}

/// Lists the sectors of a volume.
fn scan(path: &Path) -> Result<Vec<(SectorRoot, SectorSize)>, OpenVolumeError> {
    let mut found = Vec::new();
    for byte in 0..=u8::MAX {
        let folder = path.join(format!("{byte:02x}"));
        for file in fs::read_dir(&folder).map_err(io_error("list", &folder))? {
            let file = file.map_err(io_error("list", &folder))?;
            let Some(root) = file.file_name().to_str().and_then(|name| name.parse().ok()) else {
                // Not ours; the operator's business.
                continue;
            };
            let path = file.path();
            let length = file.metadata().map_err(io_error("look at", &path))?.len();
            if let Ok(size) = SectorSize::new(length) {
                found.push((root, size));
            } else {
                tracing::warn!(path = %path.display(), length, "removing a torn sector");
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
    }
    Ok(found)
}
