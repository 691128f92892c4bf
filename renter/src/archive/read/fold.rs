//! What a history has led to, by the same rules as the journal's.

use samara_protocol::journal::{
    Change, Content, Entry, FoldError, JournalState, Made, VaultId, VaultState, Version,
};

use super::super::error::{ArchiveError, shown};
use super::super::format::{
    ArchivedChange, ArchivedEvent, ArchivedVersion, SettingsDocument, VersionAt,
};

/// The state of the one vault of an archive. Bytes lie nowhere in it.
pub(in super::super) struct Fold {
    vault: VaultId,
    state: JournalState,
    /// Bytes of all paths so far, and most of them.
    paths: u64,
    most_paths: u64,
}

impl Fold {
    /// The bytes of all paths are at most so many.
    pub(in super::super) fn new(vault: VaultId, paths: u64) -> Self {
        Self { vault, state: JournalState::default(), paths: 0, most_paths: paths }
    }

    /// Takes the next event in.
    pub(in super::super) fn take(&mut self, event: ArchivedEvent) -> Result<(), ArchiveError> {
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
        self.count_path(&event.change)?;
        let event = event.change.into_event(|put| match put.erased {
            true => Content::Erased,
            false => Content::Extents(Vec::new()),
        });
        let made = Made::default();
        let change = Change::Vault { vault: self.vault, number: seq, made, event };
        let entry = Entry { time, salt: [0; 16], change };
        self.state.apply(&entry).map_err(|error| refused(reason(error)))
    }

    /// Counts a path that is new. One that is given up later is not taken off.
    fn count_path(&mut self, change: &ArchivedChange) -> Result<(), ArchiveError> {
        let path = match change {
            ArchivedChange::Put(put) => &put.path,
            ArchivedChange::Moved(moved) => &moved.to,
            ArchivedChange::FolderMade(at) => &at.path,
            _ => return Ok(()),
        };
        let known = |vault: &VaultState| vault.files.contains_key(path);
        if !self.vault().is_some_and(known) {
            self.paths = self.paths.saturating_add(path.as_str().len() as u64);
        }
        let (what, found, limit) = ("a length of all paths", self.paths, self.most_paths);
        if found > limit { Err(ArchiveError::Limit { what, found, limit }) } else { Ok(()) }
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
    pub(in super::super) fn versions(&self) -> Vec<u64> {
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

/// Why an event does not follow, without the place in a journal that there is not.
fn reason(error: FoldError) -> String {
    let text = match error {
        FoldError::Exists { what, .. } => format!("{what} exists already"),
        FoldError::Missing { what, .. } => format!("{what} does not exist"),
        other => other.to_string(),
    };
    shown(text.as_bytes())
}
