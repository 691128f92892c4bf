//! Archives of vaults, and the documents in them.

use std::io::Cursor;

use samara_protocol::hash::Digest;
use samara_protocol::journal::{
    Content, StoredFile, StoredPath, UserId, VaultEvent, VaultId, Version,
};
use samara_protocol::units::ChainTime;
use samara_renter::archive::{
    Archive, ArchiveError, ArchiveLimits, ArchiveWriter, ArchivedChange, ArchivedUser,
    ArchivedVersion, NewEvent, SettingsDocument, UsersDocument, VaultHead, WriteError, hostile,
};

use super::Fields;
use super::fixtures::secret;

/// What is looked at of an archive here.
const LIMITS: ArchiveLimits = ArchiveLimits {
    total: 1 << 20,
    unpacked: 1 << 20,
    entry: 1 << 20,
    entries: 1_000,
    paths: 10_000,
    ratio: 100,
    name: 255,
    nesting: 4,
    document: 16 << 10,
    work_factor: 2,
};

/// A whole archive: directory, signature, manifest, history, files. What is encrypted is another crate's to
/// open.
pub fn archive(data: &[u8]) {
    let read = || -> Result<(), ArchiveError> {
        let archive = Archive::open(Cursor::new(data), None, LIMITS)?;
        let outline = archive.outline();
        let mut archive = archive.verify(None)?;
        // What counts has been compared with what is there.
        let counts = archive.counts().clone();
        assert_eq!((outline.events, outline.versions), (counts.events, counts.versions));
        let events = archive.events().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(events.len() as u64, counts.events);
        let mut bytes = 0;
        archive.check_files(|read| {
            bytes += read;
            true
        })?;
        assert_eq!(bytes, counts.bytes);
        Ok(())
    };
    if let Err(error) = read() {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
    }
}

/// Documents of an archive: which, then JSON.
pub fn archive_documents(data: &[u8]) {
    let mut fields = Fields(data);
    let which = fields.byte();
    hostile::document(which, fields.0);
}

/// A small archive: a file with two versions, of which one is given up, and a setting.
pub(super) fn sample() -> Result<Vec<u8>, WriteError> {
    let sid = VaultId([0xab; 16]);
    let head = VaultHead { sid, name: "home".into(), created: 5 };
    let mut writer = ArchiveWriter::new(head, secret(9), None)?;
    let bytes = b"what is kept";
    let stored = StoredFile {
        size: bytes.len() as u64,
        modified: 7,
        executable: false,
        hash: Digest(*blake3::hash(bytes).as_bytes()),
        content: Content::Extents(Vec::new()),
    };
    let Ok(path) = StoredPath::new("a/b.txt") else { return Ok(Vec::new()) };
    let put = VaultEvent::Put { path: path.clone(), file: stored.clone() };
    let events = [
        VaultEvent::Created { name: "home".into() },
        put.clone(),
        put,
        VaultEvent::VersionRemoved { path: path.clone(), version: 1 },
        VaultEvent::Set { name: "tone".into(), value: vec![1] },
    ];
    for change in events.iter().filter_map(ArchivedChange::of) {
        let (chain_time, actor) = (ChainTime(6), Some(UserId([1; 8])));
        writer.event(NewEvent { time: 5, chain_time, actor, change })?;
    }
    let version = Version { number: 2, time: 5, since: 0, file: stored };
    let version = ArchivedVersion::new(&sid, &path, &version, true, false);
    writer.version(&version)?;
    writer.begin_file(version.clone())?;
    writer.file_bytes(bytes)?;
    writer.end_file()?;
    let user = ArchivedUser { id: UserId([1; 8]), email: "a@example.org".into() };
    let settings = SettingsDocument { settings: [("tone".into(), "01".into())].into() };
    writer.meta(&UsersDocument { users: vec![user] }, &settings)?;
    writer.record(&version)?;
    while writer.manifest()? {}
    let mut archive = writer.take();
    archive.extend(writer.finish()?.1);
    Ok(archive)
}
