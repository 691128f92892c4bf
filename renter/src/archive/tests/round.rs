//! What was written is what is read.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::{ProptestConfig, Strategy as _, any};
use proptest::{prop_assert_eq, proptest};
use samara_protocol::hash::Digest;
use samara_protocol::journal::{Content, StoredFile, StoredPath, VaultEvent};
use samara_protocol::signature::SecretKey;
use zeroize::Zeroizing;

use super::super::format::{ArchivedChange, ArchivedVersion};
use super::super::{
    Archive, ArchiveError, ArchiveLimits, ArchiveWriter, Passphrase, Seal, Signer, WriteError,
};
use super::raw::{RawEntry, digest, entries, pack, resigned_with};
use super::{History, VAULT, key, open, path_of, read_all, sample};
use crate::archive::VaultHead;

/// BLAKE3 of the archive of [`sample`]. Whoever changes it can no longer read what was exported before.
const GOLDEN: &str = "5ef136982bc01fb29bb3b64841538d27a5b492e95e0899d4a9b0568c051e5cef";

#[test]
fn the_sample_has_the_same_bytes_for_ever() {
    let (archive, written) = sample().write(None);
    assert_eq!(written.size, archive.len() as u64);
    assert_eq!(written.hash, Digest(*blake3::hash(&archive).as_bytes()));
    assert_eq!(written.hash.to_string(), GOLDEN);
    assert_eq!(sample().write(None).0, archive);
    let names: Vec<String> = entries(&archive).iter().map(|entry| entry.text().into()).collect();
    assert_eq!(names.len() as u64, written.entries);
    let sid = VAULT.to_string();
    assert_eq!(names[0], format!("{sid}/format.json"));
    assert_eq!(names[1], format!("{sid}/events/0000/00000000.json"));
    assert_eq!(names.last(), Some(&format!("{sid}/manifest.sig")));
    assert!(names.iter().any(|name| name.ends_with("__été 日本.sh")));
}

#[test]
fn everything_comes_back() {
    let history = sample();
    let (bytes, written) = history.write(None);
    let mut archive = open(&bytes).unwrap();
    assert_eq!((archive.vault().sid, archive.vault().name.as_str()), (VAULT, "Fotos"));
    assert_eq!(archive.signer(), Signer::Ours);
    let counts = archive.counts().clone();
    assert_eq!(counts, written.counts);
    assert_eq!((counts.events, counts.versions, counts.files, counts.users), (15, 5, 3, 1));
    let events: Vec<_> = archive.events().map(Result::unwrap).collect();
    let changes: Vec<&ArchivedChange> = events.iter().map(|event| &event.change).collect();
    assert_eq!(changes, history.events.iter().map(|event| &event.change).collect::<Vec<_>>());
    assert_eq!(events[3].time, 1_003);
    let versions: Vec<_> = archive.versions().map(Result::unwrap).collect();
    assert_eq!(versions, history.versions());
    assert_eq!(archive.users().unwrap(), history.users);
    assert_eq!(archive.settings().unwrap().settings["tone"], "0102");
    assert!(archive.check_files(|_| true).unwrap());
    assert!(!archive.check_files(|_| false).unwrap());
    assert!(matches!(archive.open_file(3), Err(ArchiveError::NoVersion(3))));
    let all: BTreeMap<u64, Vec<u8>> = read_all(&bytes).unwrap().into_iter().collect();
    for (number, bytes) in &history.bytes {
        assert_eq!(all.get(number), Some(bytes).filter(|_| *number != 3), "{number}");
    }
}

#[test]
fn what_others_have_signed_is_told() {
    let entries = entries(&sample().write(None).0);
    let other = SecretKey::from_bytes(&Zeroizing::new([8; 32]));
    let archive = open(&pack(&resigned_with(&entries, &other, |_| {}))).unwrap();
    assert_eq!(archive.signer(), Signer::Other(other.public()));
}

#[test]
fn archives_that_were_packed_again_are_read() {
    let mut all = entries(&sample().write(None).0);
    all.iter_mut().for_each(|entry| entry.deflate = true);
    // Too well packed to be taken for files.
    let limits = ArchiveLimits { ratio: 1_000, ..ArchiveLimits::default() };
    let archive = Archive::open(Cursor::new(pack(&all)), None, limits).unwrap();
    let mut archive = archive.verify(None).unwrap();
    assert!(archive.check_files(|_| true).unwrap());
}

#[test]
fn an_empty_vault_is_an_archive() {
    let (bytes, written) = History::new("v").write(None);
    let mut archive = open(&bytes).unwrap();
    assert_eq!((written.counts.events, written.counts.files, written.entries), (1, 0, 7));
    assert_eq!(archive.versions().count(), 0);
    assert!(archive.check_files(|_| false).unwrap());
}

#[test]
fn versions_that_never_had_bytes_are_told_without_them() {
    let mut history = sample();
    let (size, hash, content) = (4, digest(b"gone"), Content::Erased);
    let file = StoredFile { size, modified: 1, executable: false, hash, content };
    let version = history.make(VaultEvent::Put { path: path_of("gone"), file });
    history.make(VaultEvent::VersionRemoved { path: path_of("gone"), version });
    let (bytes, written) = history.write(None);
    assert_eq!((written.counts.events, written.counts.versions), (17, 5));
    let mut archive = open(&bytes).unwrap();
    let event = archive.event(version).unwrap();
    assert!(matches!(event.change, ArchivedChange::Put(put) if put.erased));
}

#[test]
fn the_passphrase_opens_and_no_other() {
    let passphrase = |text: &str| Passphrase::new(Zeroizing::new(text.to_owned()));
    let seal = Seal { passphrase: passphrase("right"), work_factor: 4 };
    let (sealed, written) = sample().write(Some(&seal));
    assert_eq!(written.hash, Digest(*blake3::hash(&sealed).as_bytes()));
    let open = |bytes: &[u8], passphrase: Option<&Passphrase>| {
        let limits = ArchiveLimits::default();
        Archive::open(Cursor::new(bytes.to_vec()), passphrase, limits)?.verify(None)
    };
    let mut archive = open(&sealed, Some(&seal.passphrase)).unwrap();
    assert!(archive.check_files(|_| true).unwrap());
    assert_eq!(archive.counts().events, 15);
    assert_eq!(open(&sealed, None).err(), Some(ArchiveError::Sealed));
    assert_eq!(open(&sealed, Some(&passphrase("wrong"))).err(), Some(ArchiveError::Passphrase));
    let plain = sample().write(None).0;
    assert_eq!(open(&plain, Some(&seal.passphrase)).err(), Some(ArchiveError::NotSealed));
    // Cut off, in its header, in the middle of a part, and behind one.
    for length in [10, 100, 300, 70_000, sealed.len() - 1] {
        let error = open(&sealed[..length], Some(&seal.passphrase)).err().unwrap();
        assert!(
            matches!(
                error,
                ArchiveError::NotZip
                    | ArchiveError::NotSealed
                    | ArchiveError::Seal(_)
                    | ArchiveError::Truncated(_)
            ),
            "{length}: {error}"
        );
    }
    // A changed byte is noticed where it is read.
    let mut changed = sealed.clone();
    changed[100_000] ^= 1;
    let result =
        open(&changed, Some(&seal.passphrase)).and_then(|mut all| all.check_files(|_| true));
    assert!(matches!(result, Err(ArchiveError::Read(_))), "{result:?}");
    // Too much work, and a header without an end.
    let limits = ArchiveLimits { work_factor: 3, ..ArchiveLimits::default() };
    let opened = Archive::open(Cursor::new(sealed), Some(&seal.passphrase), limits);
    assert!(matches!(opened.err(), Some(ArchiveError::Seal(_))));
    let endless = [b"age-encryption.org/v1\n".to_vec(), vec![b'x'; 10_000]].concat();
    assert!(matches!(open(&endless, Some(&seal.passphrase)).err(), Some(ArchiveError::Seal(_))));
    assert_eq!(format!("{seal:?}"), "Seal { passphrase: Passphrase(redacted), work_factor: 4 }");
}

#[test]
fn a_writer_refuses_what_does_not_fit() {
    let history = sample();
    let versions = history.versions();
    let begin = || {
        let head = VaultHead { sid: VAULT, name: "v".into(), created: 1 };
        ArchiveWriter::new(head, key(), None).unwrap()
    };
    let with_file = |version: &ArchivedVersion| {
        let mut writer = begin();
        writer.event(history.events[0].clone()).unwrap();
        writer.version(version).unwrap();
        writer.begin_file(version.clone()).unwrap();
        writer
    };
    let version = &versions[0];
    assert!(matches!(with_file(version).file_bytes(b"firstX"), Err(WriteError::Hash { .. })));
    let mut writer = with_file(version);
    writer.file_bytes(b"fir").unwrap();
    assert!(matches!(writer.end_file(), Err(WriteError::Hash { .. })));
    let mut writer = with_file(version);
    writer.file_bytes(b"worst").unwrap();
    assert!(matches!(writer.end_file(), Err(WriteError::Hash { .. })));
    let mut writer = with_file(version);
    assert!(matches!(writer.event(history.events[1].clone()), Err(WriteError::Order(_))));
    let mut writer = begin();
    writer.version(version).unwrap();
    assert!(matches!(
        writer.meta(&Default::default(), &Default::default()),
        Err(WriteError::Order(_))
    ));
    assert!(matches!(begin().manifest(), Err(WriteError::Order(_))));
    assert!(matches!(begin().finish(), Err(WriteError::Order(_))));
}

#[test]
fn the_table_has_a_row_for_each_version() {
    let all = entries(&sample().write(None).0);
    let find =
        |end: &str| all.iter().find(|entry: &&RawEntry| entry.text().ends_with(end)).unwrap();
    let table = String::from_utf8(find("records.csv").bytes.clone()).unwrap();
    let rows: Vec<&str> = table.trim_end().split("\r\n").collect();
    assert_eq!(rows.len(), 6);
    assert!(rows[1].contains(",1,c/=two.txt,5,77,false,"), "{}", rows[1]);
    for row in &rows[1..] {
        let file = row.rsplit(',').next().unwrap();
        assert!(all.iter().any(|entry| entry.text() == file), "{row}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_names_and_bytes_come_back(
        files in proptest::collection::btree_map(
            proptest::collection::vec(any::<char>(), 1..60).prop_map(String::from_iter),
            proptest::collection::vec(any::<u8>(), 0..300),
            0..12,
        )
    ) {
        let mut history = History::new("v");
        for (name, bytes) in &files {
            if StoredPath::new(name.as_str()).is_ok() {
                history.put(name, bytes);
            }
        }
        let read = read_all(&history.write(None).0).unwrap();
        prop_assert_eq!(read, history.bytes);
    }
}
