//! What a history has led to, by the same rules as the journal's.

use samara_protocol::journal::{
    Change, Content, Entry, FoldError, JournalState, StoredFile, StoredPath, VaultEvent, VaultId,
    Version,
};

use super::super::error::ArchiveError;
use super::super::format::{ArchivedChange, ArchivedEvent, ArchivedVersion, PutFile, VersionAt};

/// The state of the one vault of an archive. Bytes lie nowhere in it.
pub(super) struct Fold {
    vault: VaultId,
    state: JournalState,
}

impl Fold {
    pub(super) fn new(vault: VaultId) -> Self {
        Self { vault, state: JournalState::default() }
    }

    /// Takes the next event in.
    pub(super) fn take(&mut self, event: ArchivedEvent) -> Result<(), ArchiveError> {
        let (seq, time) = (event.seq, event.time);
        let refused = |reason: String| ArchiveError::Event { seq, reason };
        if (seq == 0) != matches!(event.change, ArchivedChange::Created(_)) {
            return Err(refused("a vault begins once, with its first event".into()));
        }
        let event = match event.change {
            ArchivedChange::Relocated(at) => {
                // Where the bytes are is nothing that an archive knows.
                let known = self.version(&at.path, at.version).is_some();
                let missing = || refused(format!("there is no version {} to relocate", at.version));
                known.then_some(()).ok_or_else(missing)?;
                VaultEvent::FolderRemoved { path: self.unused() }
            }
            change => plain(change),
        };
        let change = Change::Vault { vault: self.vault, number: seq, event };
        let entry = Entry { time, salt: [0; 16], change };
        self.state.apply(&entry).map_err(|error| refused(reason(&error)))
    }

    /// A folder that is never made, so that giving it up changes nothing.
    fn unused(&self) -> StoredPath {
        todo!()
    }

    fn version(&self, path: &StoredPath, number: u64) -> Option<&Version> {
        let file = self.state.vaults.get(&self.vault)?.files.get(path)?;
        file.versions.iter().find(|version| version.number == number)
    }

    /// The vault's name at the end.
    pub(super) fn name(&self) -> Option<&str> {
        self.state.vaults.get(&self.vault).map(|vault| vault.name.as_str())
    }

    /// Versions that have bytes, and of them those that are listed.
    pub(super) fn counts(&self) -> (u64, u64) {
        let Some(vault) = self.state.vaults.get(&self.vault) else { return (0, 0) };
        let versions = vault.files.values().map(|file| file.versions.len() as u64).sum();
        (versions, vault.listed().count() as u64)
    }

    /// Why a version is not the one that the events have put, if so.
    pub(super) fn contradicts(&self, said: &ArchivedVersion) -> Option<&'static str> {
        let vault = self.state.vaults.get(&self.vault)?;
        let Some(file) = vault.files.get(&said.path) else {
            return Some("no event has left such a file");
        };
        let Some(version) = file.versions.iter().find(|known| known.number == said.version) else {
            return Some("no event has left such a version");
        };
        let listed = file.current().is_some_and(|current| current.number == said.version);
        let expected = ArchivedVersion::new(&self.vault, &said.path, version, listed, file.deleted);
        // The entry's name is compared with the directory: which characters are letters changes.
        let expected = ArchivedVersion { file: said.file.clone(), ..expected };
        (expected != *said).then_some("the events say something else of it")
    }
}
