//! Archives written, read back, and broken in every way that the reader must notice.

mod hostile;
mod raw;
mod round;

use std::io::Cursor;
use std::sync::Arc;

use samara_protocol::hash::Digest;
use samara_protocol::journal::{
    Change, Content, Entry, JournalState, Made, StoredFile, StoredPath, UserId, VaultEvent, VaultId,
};
use samara_protocol::signature::SecretKey;
use samara_protocol::units::ChainTime;
use zeroize::Zeroizing;

use super::format::{
    ArchivedChange, ArchivedUser, ArchivedVersion, SettingsDocument, UsersDocument, VaultHead,
};
use super::{
    Archive, ArchiveError, ArchiveLimits, ArchiveWriter, NewEvent, Seal, VerifiedArchive, Written,
};

pub(super) const VAULT: VaultId = VaultId([0xab; 16]);

pub(super) fn key() -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([7; 32]))
}

/// A vault with a history, and the bytes of all that was ever put.
#[derive(Default)]
pub(super) struct History {
    state: JournalState,
    events: Vec<NewEvent>,
    bytes: Vec<(u64, Vec<u8>)>,
    pub(super) users: Vec<ArchivedUser>,
}

impl History {
    pub(super) fn new(name: &str) -> Self {
        let mut history = Self::default();
        history.make(VaultEvent::Created { name: name.into() });
        history
    }

    pub(super) fn make(&mut self, event: VaultEvent) -> u64 {
        let number = self.events.len() as u64;
        let change = ArchivedChange::of(&event).unwrap();
        let made = Made { chain_time: ChainTime(500), by: Some(UserId([9; 8])), first: None };
        let (time, chain_time, actor) = (1_000 + number, made.chain_time, made.by);
        self.events.push(NewEvent { time, chain_time, actor, change });
        let change = Change::Vault { vault: VAULT, number, made, event };
        self.state.apply(&Entry { time, salt: [0; 16], change }).unwrap();
        number
    }

    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) -> u64 {
        let file = StoredFile {
            size: bytes.len() as u64,
            modified: 77,
            executable: path.ends_with(".sh"),
            hash: Digest(*blake3::hash(bytes).as_bytes()),
            content: Content::Inline(bytes.to_vec()),
        };
        let number = self.make(VaultEvent::Put { path: path_of(path), file });
        self.bytes.push((number, bytes.to_vec()));
        number
    }

    fn versions(&self) -> Vec<ArchivedVersion> {
        let files = &self.state.vaults[&VAULT].files;
        let mut versions = Vec::new();
        for (path, file) in files {
            for version in &Arc::clone(file).versions {
                let listed = file.current().is_some_and(|now| now.number == version.number);
                versions.push(ArchivedVersion::new(&VAULT, path, version, listed, file.deleted));
            }
        }
        versions.sort_by_key(|version| version.version);
        versions
    }

    pub(super) fn write(&self, seal: Option<&Seal>) -> (Vec<u8>, Written) {
        let vault = &self.state.vaults[&VAULT];
        let head = VaultHead { sid: VAULT, name: vault.name.clone(), created: vault.created };
        let mut writer = ArchiveWriter::new(head, key(), seal).unwrap();
        let mut archive = Vec::new();
        for event in &self.events {
            writer.event(event.clone()).unwrap();
            archive.extend(writer.take());
        }
        let versions = self.versions();
        versions.iter().for_each(|version| writer.version(version).unwrap());
        for version in &versions {
            writer.begin_file(version.clone()).unwrap();
            let (_, bytes) = self.bytes.iter().find(|(n, _)| *n == version.version).unwrap();
            for part in bytes.chunks(50_000) {
                writer.file_bytes(part).unwrap();
                archive.extend(writer.take());
            }
            writer.end_file().unwrap();
        }
        let users = UsersDocument { users: self.users.clone() };
        writer.meta(&users, &SettingsDocument::of(&vault.settings)).unwrap();
        versions.iter().for_each(|version| writer.record(version).unwrap());
        while writer.manifest().unwrap() {
            archive.extend(writer.take());
        }
        archive.extend(writer.take());
        let (written, rest) = writer.finish().unwrap();
        archive.extend(rest);
        (archive, written)
    }
}

pub(super) fn path_of(path: &str) -> StoredPath {
    StoredPath::new(path).unwrap()
}

/// A bit of everything that can happen to a vault.
pub(super) fn sample() -> History {
    let mut history = History::new("Fotos ä");
    history.put("a/one.txt", b"first");
    history.put("a/one.txt", b"second");
    let removed = history.put("a/one.txt", b"third");
    history.put("b/été 日本.sh", b"#!/bin/sh\n");
    history.put("empty", b"");
    history.make(VaultEvent::Moved { from: path_of("a/one.txt"), to: path_of("c/=two.txt") });
    let path = path_of("c/=two.txt");
    history.make(VaultEvent::VersionRemoved { path, version: removed });
    history.make(VaultEvent::Deleted { path: path_of("empty") });
    history.make(VaultEvent::FolderMade { path: path_of("d/e") });
    history.make(VaultEvent::FolderRemoved { path: path_of("d/e") });
    history.make(VaultEvent::Set { name: "tone".into(), value: vec![1, 2] });
    history.make(VaultEvent::Noted { text: "brought in".into() });
    history.make(VaultEvent::Renamed { name: "Fotos".into() });
    history.put(&"x".repeat(255), &[5; 200_000]);
    history.users.push(ArchivedUser { id: UserId([9; 8]), email: "a@example.org".into() });
    history
}

pub(super) type Opened = VerifiedArchive<Cursor<Vec<u8>>>;

pub(super) fn open(bytes: &[u8]) -> Result<Opened, ArchiveError> {
    open_within(bytes, ArchiveLimits::default())
}

pub(super) fn open_within(bytes: &[u8], limits: ArchiveLimits) -> Result<Opened, ArchiveError> {
    Archive::open(Cursor::new(bytes.to_vec()), None, limits)?.verify(Some(&key().public()))
}

/// Opens an archive and reads everything in it.
pub(super) fn read_all(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, ArchiveError> {
    let mut archive = open(bytes)?;
    archive.events().collect::<Result<Vec<_>, _>>()?;
    let versions = archive.versions().collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    for version in versions {
        let mut cursor = archive.open_file(version.version)?;
        let mut bytes = Vec::new();
        while let Some(piece) = archive.read_file(&mut cursor)? {
            bytes.extend(piece);
        }
        all.push((version.version, bytes));
    }
    Ok(all)
}
