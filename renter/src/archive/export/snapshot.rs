//! What an export shows: one vault at one point of the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use samara_protocol::hash::Digest;
use samara_protocol::journal::{
    CheckpointName, Content, FileState, JournalState, StoredFile, StoredPath, VaultId, Version,
};

use super::super::format::{ArchivedVersion, VaultHead};
use super::error::ExportError;
use crate::checkpoint::{Places, places_in};
use crate::garbage::ReadLease;
use crate::vault::{SlabTable, Vaults, find};

/// A vault as it was acknowledged, and all that is needed to read it.
pub(super) struct Snapshot {
    pub(super) head: VaultHead,
    /// The journal's position.
    pub(super) position: u64,
    /// Events of the vault.
    pub(super) events: u64,
    /// The chain of their digests.
    pub(super) chain: Digest,
    pub(super) settings: BTreeMap<String, Vec<u8>>,
    /// The checkpoint that has the older events, and where its slabs lie.
    pub(super) checkpoint: Option<(CheckpointName, Places)>,
    /// Versions with bytes, by number.
    pub(super) kept: Vec<Kept>,
    pub(super) table: SlabTable,
    /// Keeps the slabs meanwhile.
    pub(super) lease: ReadLease,
}

/// A version with bytes. It shares what the journal's state holds.
#[derive(Clone)]
pub(super) struct Kept {
    path: StoredPath,
    file: Arc<FileState>,
    number: u64,
}

impl Vaults {
    /// Looks at a vault, and keeps what it needs.
    pub(super) fn snapshot(&self, name: &str) -> Result<Snapshot, ExportError> {
        self.journal.read(|state| {
            let (sid, vault) = find(state, name)?;
            let kept = kept(state, &sid);
            let stored = kept.iter().filter_map(|kept| Some(&kept.version()?.file));
            let table = SlabTable::of(stored, state, None);
            let checkpoint = state.checkpoint.clone();
            let checkpoint = checkpoint.map(|name| {
                let places = places_in(state, &name);
                (name, places)
            });
            let mut slabs = table.slabs();
            slabs.extend(checkpoint.iter().flat_map(|(name, _)| name.slabs()));
            let lease = self.slabs.leases().read(slabs, self.world.clock.now());
            Ok(Snapshot {
                head: VaultHead { sid, name: vault.name.clone(), created: vault.created },
                position: state.point.position,
                events: vault.next,
                chain: vault.chain,
                settings: vault.settings.clone(),
                checkpoint,
                kept,
                table,
                lease,
            })
        })
    }
}

/// The versions of a vault that have bytes, by number.
fn kept(state: &JournalState, vault: &VaultId) -> Vec<Kept> {
    let files = state.vaults.get(vault).into_iter().flat_map(|vault| &vault.files);
    let of_file = |(path, file): (&StoredPath, &Arc<FileState>)| {
        let has_bytes = |version: &&Version| version.file.content != Content::Erased;
        let numbers = file.versions.iter().filter(has_bytes).map(|version| version.number);
        let kept = |number| Kept { path: path.clone(), file: file.clone(), number };
        numbers.map(kept).collect::<Vec<_>>()
    };
    let mut kept: Vec<Kept> = files.flat_map(of_file).collect();
    kept.sort_unstable_by_key(|kept| kept.number);
    kept
}

impl Kept {
    fn version(&self) -> Option<&Version> {
        self.file.versions.iter().find(|version| version.number == self.number)
    }

    /// Where its bytes are.
    pub(super) fn stored(&self) -> Option<&StoredFile> {
        self.version().map(|version| &version.file)
    }

    /// What an archive tells of it.
    pub(super) fn archived(&self, vault: &VaultId) -> Option<ArchivedVersion> {
        let version = self.version()?;
        let listed = self.file.current().is_some_and(|current| current.number == self.number);
        Some(ArchivedVersion::new(vault, &self.path, version, listed, self.file.deleted))
    }
}

impl Snapshot {
    /// What an archive tells of the versions from one on; none behind the last.
    pub(super) fn archived(&self, from: usize, most: usize) -> Vec<ArchivedVersion> {
        let part = self.kept.iter().skip(from).take(most);
        part.filter_map(|kept| kept.archived(&self.head.sid)).collect()
    }

    /// Bytes of all versions.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.kept.iter().filter_map(|kept| Some(kept.stored()?.size));
        sizes.fold(0, u64::saturating_add)
    }
}
