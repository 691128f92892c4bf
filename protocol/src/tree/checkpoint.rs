//! Checkpoints: the state of the journal at one point, as four trees and a root record.
//!
//! What grows with the number of files is in the trees: files and folders in [`super::files`], the vaults'
//! histories in [`super::events`], slabs in [`super::slabs`], what only backups name in [`super::held`]. What is
//! small is in the [`CheckpointRoot`]: hosts, vaults, backups, settings, the roots of the trees, and the
//! records of the slabs in which nodes lie.
//!
//! From one checkpoint to the next, [`Changes`] collects what entries touch, and turns it into edits of
//! the trees with the state after them; so a checkpoint costs what changed. [`StateReader`] makes the
//! state again from the root and the items of three trees. The events are not needed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::apply::Edits;
use super::events::{Event, EventRecord};
use super::files::{FileItemError, FileReader, PathEntry, folder_prefix};
use super::held::{HeldItemError, HeldReader, edit_held};
use super::node::NodeRef;
use super::slabs::{self, SlabItemError};
use crate::encoding::{self, DecodeError};
use crate::hash::{Digest, SlabId, digest};
use crate::journal::{
    Backup, BackupId, Change, CheckpointName, Entry, FileState, FoldError, HeldSpan, JournalPoint,
    JournalState, SlabRecord, StoredPath, UserId, VaultEvent, VaultId, VaultState,
};
use crate::signature::PublicKey;

/// Most bytes of an encoded root: some ten thousand backups.
pub const MAX_ROOT: usize = 16 << 20;
/// Domain of a root's digest.
const DOMAIN: &str = "samara v1 checkpoint root";

/// The roots of the trees; none for an empty tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trees {
    /// Files.
    pub files: Option<NodeRef>,
    /// Events.
    pub events: Option<NodeRef>,
    /// The slab table.
    pub slabs: Option<NodeRef>,
    /// What only backups name.
    pub held: Option<NodeRef>,
}

impl Trees {
    /// Those that are not empty.
    pub fn iter(&self) -> impl Iterator<Item = &NodeRef> {
        [&self.files, &self.events, &self.slabs, &self.held].into_iter().flatten()
    }
}

/// A vault without its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultRow {
    /// Its name.
    pub name: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
    /// Number of the next event.
    pub next: u64,
    /// Chain of its events' digests.
    pub chain: Digest,
    /// Settings.
    pub settings: BTreeMap<String, ByteBuf>,
    /// Whose it is; nobody's in particular, if it is that of whoever runs the node.
    pub owner: Option<UserId>,
    /// Whether its events are still being brought in.
    pub arriving: bool,
}

/// All that a checkpoint is, but the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRoot {
    /// Version of this format: [`CheckpointRoot::VERSION`].
    pub version: u8,
    /// The journal's point that it stands for.
    pub point: JournalPoint,
    /// Hosts by number.
    pub hosts: Vec<PublicKey>,
    /// Vaults.
    pub vaults: BTreeMap<VaultId, VaultRow>,
    /// Backups.
    pub backups: BTreeMap<BackupId, Backup>,
    /// Settings.
    pub settings: BTreeMap<String, ByteBuf>,
    /// The checkpoint before.
    pub checkpoint: Option<CheckpointName>,
    /// The trees.
    pub trees: Trees,
    /// The slabs in which the trees' nodes lie.
    pub metadata: Vec<SlabRecord>,
}

/// Why a checkpoint does not give a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Written by a newer program.
    #[error("the checkpoint has version {0}, this program reads {known}: use a newer one", known = CheckpointRoot::VERSION)]
    Version(u8),
    /// The root does not decode.
    #[error("the checkpoint's root: {0}")]
    Root(#[from] DecodeError),
    /// An item that is no slab.
    #[error(transparent)]
    Slab(#[from] SlabItemError),
    /// An item that is no file.
    #[error(transparent)]
    File(#[from] FileItemError),
    /// Items that are no held extents.
    #[error(transparent)]
    Held(#[from] HeldItemError),
    /// A file in a vault that the root does not have.
    #[error("'{path}' is in vault {vault}, which the checkpoint does not have")]
    Vault {
        /// The vault.
        vault: VaultId,
        /// The file.
        path: StoredPath,
    },
}

impl CheckpointRoot {
    /// Version written by this code.
    pub const VERSION: u8 = 2;

    /// The root of the checkpoint of `state`, whose trees have these roots and lie in these slabs.
    #[must_use]
    pub fn new(state: &JournalState, trees: Trees, metadata: Vec<SlabRecord>) -> Self {
        let row = |vault: &VaultState| VaultRow {
            name: vault.name.clone(),
            created: vault.created,
            next: vault.next,
            chain: vault.chain,
            settings: to_root(&vault.settings),
            owner: vault.owner,
            arriving: vault.arriving,
        };
        Self {
            version: Self::VERSION,
            point: state.point,
            hosts: state.hosts.clone(),
            vaults: state.vaults.iter().map(|(id, vault)| (*id, row(vault))).collect(),
            backups: state.backups.clone(),
            settings: to_root(&state.settings),
            checkpoint: state.checkpoint.clone(),
            trees,
            metadata,
        }
    }

    /// Reads a root.
    ///
    /// # Errors
    /// [`CheckpointError::Version`] and [`CheckpointError::Root`]; the latter also for more than [`MAX_ROOT`]
    /// bytes and for other forms than the canonical one.
    pub fn read(bytes: &[u8]) -> Result<Self, CheckpointError> {
        match bytes.first() {
            Some(version) if *version != Self::VERSION => {
                return Err(CheckpointError::Version(*version));
            }
            _ => {}
        }
        let limit = MAX_ROOT;
        if bytes.len() > limit {
            let what = "CheckpointRoot";
            return Err(DecodeError::TooLong { what, len: bytes.len(), limit }.into());
        }
        Ok(encoding::decode_canonical(bytes)?)
    }

    /// The digest by which a head names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(DOMAIN, self)
    }
}

fn to_root(settings: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, ByteBuf> {
    settings.iter().map(|(name, value)| (name.clone(), ByteBuf::from(value.clone()))).collect()
}

fn from_root(settings: &BTreeMap<String, ByteBuf>) -> BTreeMap<String, Vec<u8>> {
    settings.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect()
}

/// What changed since a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    paths: BTreeSet<(VaultId, StoredPath)>,
    removed: BTreeSet<VaultId>,
    slabs: BTreeSet<SlabId>,
    held: BTreeSet<HeldSpan>,
    events: Edits,
}

/// Edits of the trees.
#[derive(Clone, Debug, Default)]
pub struct TreeEdits {
    /// Of the files.
    pub files: Edits,
    /// Of the events.
    pub events: Edits,
    /// Of the slab table.
    pub slabs: Edits,
    /// Of what only backups name.
    pub held: Edits,
}

impl Changes {
    /// All of a state, for a first checkpoint, but its events: those are of the entries that led to it.
    #[must_use]
    pub fn all(state: &JournalState) -> Self {
        let mut changes = Self::default();
        changes.take_all(state);
        changes
    }

    /// Takes in all of a state but its events, beside what was taken in before.
    pub fn take_all(&mut self, state: &JournalState) {
        self.slabs.extend(state.slabs.keys());
        self.held.extend(state.held.keys());
        for (id, vault) in &state.vaults {
            let paths = vault.files.keys().chain(&vault.folders);
            self.paths.extend(paths.map(|path| (*id, path.clone())));
        }
    }

    /// Applies an entry to a state, and takes in what it touches.
    ///
    /// # Errors
    /// As [`JournalState::apply`]; then nothing is changed.
    pub fn apply(&mut self, state: &mut JournalState, entry: &Entry) -> Result<(), FoldError> {
        let position = state.point.position;
        let before: Vec<HeldSpan> = match entry.change {
            Change::BackupDeleted(_) => state.held.keys().copied().collect(),
            _ => Vec::new(),
        };
        state.apply(entry)?;
        self.held.extend(before.into_iter().filter(|span| !state.held.contains_key(span)));
        let given_up = HeldSpan { until: position, since: 0 }..;
        self.held.extend(state.held.range(given_up).map(|(span, _)| span));
        self.take(entry);
        Ok(())
    }

    fn take(&mut self, entry: &Entry) {
        match &entry.change {
            Change::SlabsStored(records) | Change::SlabsMoved(records) => {
                self.slabs.extend(records.iter().map(|r| r.id));
            }
            Change::Checkpointed { slabs, .. } => self.slabs.extend(slabs.iter().map(|r| r.id)),
            Change::SlabsReleased(ids) => self.slabs.extend(ids),
            Change::Vault { vault, event: VaultEvent::Removed, .. } => {
                self.removed.insert(*vault);
                self.events.remove_below(vault.0.to_vec());
            }
            Change::Vault { vault, number, event, .. } => {
                let record = EventRecord::Here(entry.clone());
                Event { vault: *vault, number: *number, record }.edit(&mut self.events);
                let paths = touched(event).into_iter().flatten();
                self.paths.extend(paths.map(|path| (*vault, path.clone())));
            }
            Change::HostAdded { .. }
            | Change::BackupCreated { .. }
            | Change::BackupDeleted(_)
            | Change::BackupLabelled { .. }
            | Change::VaultReserved { .. }
            | Change::VaultOpened { .. }
            | Change::Setting { .. } => {}
        }
    }

    /// The edits that bring the trees from where they were to `state`, which all entries have led to.
    #[must_use]
    pub fn edits(self, state: &JournalState) -> TreeEdits {
        let mut edits = TreeEdits { events: self.events, ..TreeEdits::default() };
        for vault in &self.removed {
            edits.files.remove_below(folder_prefix(vault, None));
        }
        for (id, path) in self.paths {
            let vault = state.vaults.get(&id);
            let file = vault.and_then(|vault| vault.files.get(&path));
            let file = file.map(|file| FileState::clone(file));
            let folder = vault.is_some_and(|vault| vault.folders.contains(&path));
            PathEntry { vault: id, path, file, folder }.edit(&mut edits.files);
        }
        for id in self.slabs {
            match state.slabs.get(&id) {
                Some(slab) => slabs::put_slab(&mut edits.slabs, &slab.record),
                None => slabs::remove_slab(&mut edits.slabs, &id),
            }
        }
        for span in self.held {
            edit_held(&mut edits.held, &span, state.held.get(&span));
        }
        edits
    }
}

/// The paths whose files or folders an event changes.
fn touched(event: &VaultEvent) -> [Option<&StoredPath>; 2] {
    match event {
        VaultEvent::Moved { from, to } => [Some(from), Some(to)],
        VaultEvent::Put { path, .. }
        | VaultEvent::Deleted { path }
        | VaultEvent::VersionRemoved { path, .. }
        | VaultEvent::Relocated { path, .. }
        | VaultEvent::FolderMade { path }
        | VaultEvent::FolderRemoved { path } => [Some(path), None],
        VaultEvent::Created { .. }
        | VaultEvent::Renamed { .. }
        | VaultEvent::Removed
        | VaultEvent::Set { .. }
        | VaultEvent::Noted { .. } => [None, None],
    }
}

/// Makes a state again: from the root, then the slabs, then the files and what is held.
#[derive(Debug)]
pub struct StateReader {
    state: JournalState,
    files: FileReader,
    held: HeldReader,
}

impl StateReader {
    /// Starts with a root.
    #[must_use]
    pub fn new(root: &CheckpointRoot) -> Self {
        let vault = |row: &VaultRow| VaultState {
            name: row.name.clone(),
            created: row.created,
            next: row.next,
            chain: row.chain,
            settings: from_root(&row.settings),
            owner: row.owner,
            arriving: row.arriving,
            ..VaultState::default()
        };
        let state = JournalState {
            point: root.point,
            hosts: root.hosts.clone(),
            vaults: root.vaults.iter().map(|(id, row)| (*id, vault(row))).collect(),
            backups: root.backups.clone(),
            settings: from_root(&root.settings),
            checkpoint: root.checkpoint.clone(),
            ..JournalState::default()
        };
        Self { state, files: FileReader::default(), held: HeldReader::default() }
    }

    /// Takes an item of the slab table; all of them come before the first file.
    ///
    /// # Errors
    /// [`CheckpointError::Slab`].
    pub fn take_slab(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        let record = slabs::read_slab(key, value)?;
        self.state.enter_slab(record);
        Ok(())
    }

    /// Takes the next item of the file tree.
    ///
    /// # Errors
    /// [`CheckpointError::File`], [`CheckpointError::Vault`].
    pub fn take_file(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), CheckpointError> {
        match self.files.take(key, value)? {
            Some(entry) => enter(&mut self.state, entry),
            None => Ok(()),
        }
    }

    /// Takes the next item of the tree of held extents.
    ///
    /// # Errors
    /// [`CheckpointError::Held`].
    pub fn take_held(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), CheckpointError> {
        if let Some((span, held)) = self.held.take(key, value)? {
            self.state.enter_held(span, held);
        }
        Ok(())
    }

    /// The state.
    ///
    /// # Errors
    /// As [`StateReader::take_file`] and [`StateReader::take_held`].
    pub fn finish(mut self) -> Result<JournalState, CheckpointError> {
        for entry in self.files.finish()? {
            enter(&mut self.state, entry)?;
        }
        if let Some((span, held)) = self.held.finish()? {
            self.state.enter_held(span, held);
        }
        self.state.pin_all();
        Ok(self.state)
    }
}

fn enter(state: &mut JournalState, entry: PathEntry) -> Result<(), CheckpointError> {
    let PathEntry { vault: id, path, file, folder } = entry;
    for version in file.iter().flat_map(|file| &file.versions) {
        // The writer releases no slab in use. Were one missing, all other files are still there.
        state.enter_extents(version.file.content.extents());
    }
    let Some(vault) = state.vaults.get_mut(&id) else {
        return Err(CheckpointError::Vault { vault: id, path });
    };
    if folder {
        vault.folders.insert(path.clone());
    }
    if let Some(file) = file {
        vault.files.insert(path, Arc::new(file));
    }
    Ok(())
}
