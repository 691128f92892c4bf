//! What a history has led to, by the same rules as the journal's.

use samara_protocol::journal::{
    Change, Content, Entry, FoldError, JournalState, Made, StoredFile, VaultEvent, VaultId,
    VaultState, Version,
};

use super::super::error::{ArchiveError, shown};
use super::super::format::{
    ArchivedChange, ArchivedEvent, ArchivedVersion, PutFile, SettingsDocument, VersionAt,
};

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
        if let ArchivedChange::Relocated(at) = &event.change
            && self.version(at).is_none()
        {
            return Err(refused(format!("there is no version {} to put elsewhere", at.version)));
        }
        let (made, event) = (Made::default(), plain(event.change));
        let change = Change::Vault { vault: self.vault, number: seq, made, event };
        let entry = Entry { time, salt: [0; 16], change };
        self.state.apply(&entry).map_err(|error| refused(reason(error)))
    }

    fn vault(&self) -> Option<&VaultState> {
        self.state.vaults.get(&self.vault)
    }

    fn version(&self, at: &VersionAt) -> Option<&Version> {
        let file = self.vault()?.files.get(&at.path)?;
        file.versions.iter().find(|version| version.number == at.version)
    }

    /// The vault's name at the end.
    pub(super) fn name(&self) -> Option<&str> {
        self.vault().map(|vault| vault.name.as_str())
    }

    /// When the vault began.
    pub(super) fn created(&self) -> Option<u64> {
        self.vault().map(|vault| vault.created)
    }

    /// The vault's settings at the end.
    pub(super) fn settings(&self) -> SettingsDocument {
        self.vault().map(|vault| SettingsDocument::of(&vault.settings)).unwrap_or_default()
    }

    /// Versions whose bytes there must be.
    pub(super) fn versions(&self) -> Vec<u64> {
        let files = self.vault().into_iter().flat_map(|vault| vault.files.values());
        let versions = files.flat_map(|file| &file.versions);
        let kept = versions.filter(|version| version.file.content != Content::Erased);
        let mut numbers: Vec<u64> = kept.map(|version| version.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Why a version is not the one that the events have put, if so.
    pub(super) fn contradiction(&self, said: &ArchivedVersion) -> Option<&'static str> {
        let file = self.vault().and_then(|vault| vault.files.get(&said.path));
        let Some(file) = file else { return Some("no event has left such a file") };
        let known = file.versions.iter().find(|version| version.number == said.version);
        let Some(version) = known.filter(|known| known.file.content != Content::Erased) else {
            return Some("no event has left such a version");
        };
        let listed = file.current().is_some_and(|current| current.number == said.version);
        let expected = ArchivedVersion::new(&self.vault, &said.path, version, listed, file.deleted);
        // The entry's name is compared with the directory: which characters are letters changes.
        let expected = ArchivedVersion { file: said.file.clone(), ..expected };
        (expected != *said).then_some("the events say something else of it")
    }
}

/// The journal's event, with bytes that lie nowhere.
fn plain(change: ArchivedChange) -> VaultEvent {
    match change {
        ArchivedChange::Created(named) => VaultEvent::Created { name: named.name },
        ArchivedChange::Renamed(named) => VaultEvent::Renamed { name: named.name },
        ArchivedChange::Put(put) => {
            let PutFile { path, size, modified, executable, hash, erased } = put;
            let content = if erased { Content::Erased } else { Content::Extents(Vec::new()) };
            let file = StoredFile { size, modified, executable, hash, content };
            VaultEvent::Put { path, file }
        }
        ArchivedChange::Moved(moved) => VaultEvent::Moved { from: moved.from, to: moved.to },
        ArchivedChange::Deleted(at) => VaultEvent::Deleted { path: at.path },
        ArchivedChange::VersionRemoved(at) => {
            VaultEvent::VersionRemoved { path: at.path, version: at.version }
        }
        ArchivedChange::FolderMade(at) => VaultEvent::FolderMade { path: at.path },
        ArchivedChange::FolderRemoved(at) => VaultEvent::FolderRemoved { path: at.path },
        ArchivedChange::Set(setting) => {
            VaultEvent::Set { name: setting.name, value: setting.value }
        }
        ArchivedChange::Noted(note) => VaultEvent::Noted { text: note.text },
        // Where bytes are is nothing that an archive knows.
        ArchivedChange::Relocated(_) => VaultEvent::Noted { text: String::new() },
    }
}

/// Why an event does not follow, without the place in a journal that there is not.
fn reason(error: FoldError) -> String {
    let text = match error {
        FoldError::Exists { what, .. } => format!("{what} exists already"),
        FoldError::Missing { what, .. } => format!("{what} does not exist"),
        other => other.to_string(),
    };
    shown(text.as_bytes())
}
