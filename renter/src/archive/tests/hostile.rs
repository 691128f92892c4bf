//! Archives from somebody who means harm, or from a bad disk: each refused for its own reason.

use std::io::{Cursor, Read, Seek, SeekFrom};

use serde_json::Value;

use super::super::{Archive, ArchiveError, ArchiveLimits};
use super::raw::{
    Ending, RawEntry, deflated, digest, entries, pack, pack_with, resigned, resigned_with,
};
use super::{VAULT, key, open, open_within, read_all, sample};

fn good() -> Vec<RawEntry> {
    entries(&sample().write(None).0)
}

/// The entry whose name contains a text.
fn at(entries: &[RawEntry], part: &str) -> usize {
    entries.iter().position(|entry| entry.text().contains(part)).unwrap()
}

fn refused(entries: &[RawEntry]) -> ArchiveError {
    read_all(&pack(entries)).expect_err("such an archive is not to be taken")
}

/// Changes a document, and leaves all others as they are.
fn edited(part: &str, edit: impl FnOnce(&mut Value)) -> Vec<RawEntry> {
    let mut all = good();
    let index = at(&all, part);
    let mut value: Value = serde_json::from_slice(&all[index].bytes).unwrap();
    edit(&mut value);
    all[index].bytes = serde_json::to_vec(&value).unwrap();
    all
}

/// Gives the events after a change the hashes of those before them.
fn rechained(mut all: Vec<RawEntry>) -> Vec<RawEntry> {
    let mut before = "0".repeat(64);
    for entry in all.iter_mut().filter(|entry| entry.text().contains("/events/")) {
        let mut value: Value = serde_json::from_slice(&entry.bytes).unwrap();
        value["prev_hash"] = Value::from(before);
        entry.bytes = serde_json::to_vec(&value).unwrap();
        before = digest(&entry.bytes).to_string();
    }
    all
}

fn renamed(mut all: Vec<RawEntry>, part: &str, name: &str) -> Vec<RawEntry> {
    let index = at(&all, part);
    all[index].name = name.into();
    all
}

#[test]
fn what_is_packed_by_hand_is_taken() {
    assert_eq!(read_all(&pack(&good())).unwrap().len(), 5);
    assert_eq!(read_all(&pack(&resigned(&good()))).unwrap().len(), 5);
}

#[test]
fn no_zip_and_half_a_zip() {
    for bytes in [&b""[..], b"PK", b"\x1f\x8b what is this", &[0; 100]] {
        assert_eq!(open(bytes).err(), Some(ArchiveError::NotZip));
    }
    // An end without entries is a ZIP file, but begins with nothing.
    assert_eq!(open(&pack(&[])).err(), Some(ArchiveError::NotZip));
    let whole = sample().write(None).0;
    for length in (4..whole.len()).step_by(977).chain([whole.len() - 1]) {
        let error = open(&whole[..length]).err().unwrap();
        assert!(matches!(error, ArchiveError::Truncated(_)), "{length}: {error}");
    }
}

#[test]
fn format_json_is_first_and_ours() {
    let mut all = good();
    let format = all.remove(0);
    assert_eq!(refused(&all), ArchiveError::NoFormat);
    all.push(format);
    assert_eq!(refused(&all), ArchiveError::FormatNotFirst);
    let set = |field: &str, value: Value| {
        refused(&resigned(&edited("format.json", |format| format[field] = value)))
    };
    assert_eq!(set("kind", "photo album".into()), ArchiveError::Kind("photo album".into()));
    let newer = ArchiveError::Newer { version: 1, oldest_reader: 2, known: 1 };
    assert_eq!(set("oldest_reader", 2.into()), newer);
    // A newer one that this reader can still read.
    let all = edited("format.json", |format| {
        format["version"] = 9.into();
        format["more"] = "of it".into();
    });
    assert!(read_all(&pack(&resigned(&all))).is_ok());
    let all = edited("format.json", |format| format["vault"]["name"] = "other".into());
    assert!(matches!(refused(&resigned(&all)), ArchiveError::Contradiction { .. }));
    let sid = VAULT.to_string();
    let all = edited("format.json", |format| {
        format["vault"]["sid"] = Value::from(sid.replace('a', "c"));
    });
    assert!(matches!(refused(&resigned(&all)), ArchiveError::Contradiction { .. }));
}

#[test]
fn events_have_no_gap_and_no_double() {
    let mut all = good();
    let fourth = at(&all, "/00000004.json");
    let removed = all.remove(fourth);
    assert_eq!(refused(&resigned(&all)), ArchiveError::Gap { missing: 4, found: 5 });
    all.insert(fourth, removed.clone());
    all.insert(fourth, removed.clone());
    assert_eq!(refused(&resigned(&all)), ArchiveError::Twice(removed.text().into()));
    // The same name elsewhere, too.
    let mut all = good();
    all.insert(at(&good(), "/meta/"), removed.clone());
    assert_eq!(refused(&resigned(&all)), ArchiveError::Twice(removed.text().into()));
    let mut all = good();
    all.swap(fourth, fourth + 1);
    assert!(matches!(refused(&resigned(&all)), ArchiveError::Gap { .. }));
    let all = rechained(edited("/00000004.json", |event| event["seq"] = 5.into()));
    assert_eq!(refused(&resigned(&all)), ArchiveError::Number { expected: 4, found: 5 });
    // In a folder that is not its own.
    let sid = VAULT.to_string();
    let all = renamed(good(), "/00000004.json", &format!("{sid}/events/0001/00000004.json"));
    assert!(matches!(refused(&all), ArchiveError::Name { .. }));
    // The last is missing: nothing but the manifest tells.
    let mut all = good();
    let last = at(&all, "/00000014.json");
    let removed = all.remove(last);
    assert_eq!(refused(&all), ArchiveError::Missing(removed.text().into()));
    let counts = resigned_with(&all, &key(), |_| {});
    assert!(matches!(refused(&counts), ArchiveError::Contradiction { .. }));
    // None at all.
    let all: Vec<_> = good().into_iter().filter(|e| !e.text().contains("/events/")).collect();
    assert!(matches!(refused(&resigned(&all)), ArchiveError::Missing(_)));
}

#[test]
fn the_chain_of_events_holds() {
    let all = edited("/00000004.json", |event| event["prev_hash"] = "0".repeat(64).into());
    assert_eq!(refused(&resigned(&all)), ArchiveError::Chain(4));
    let all = edited("/00000004.json", |event| event["time"] = 1.into());
    assert_eq!(refused(&resigned(&all)), ArchiveError::Chain(5));
    // Chained as it should be, and still not what the version says.
    assert!(matches!(refused(&resigned(&rechained(all))), ArchiveError::Contradiction { .. }));
}

#[test]
fn events_that_cannot_have_happened() {
    let change =
        |event: &str, edit: fn(&mut Value)| refused(&resigned(&rechained(edited(event, edit))));
    let cases: [(&str, fn(&mut Value)); 5] = [
        ("/00000008.json", |event| event["payload"]["path"] = "nothing".into()),
        ("/00000007.json", |event| event["payload"]["version"] = 9.into()),
        ("/00000013.json", |event| event["payload"]["name"] = "a/b".into()),
        ("/00000009.json", |event| event["kind"] = "created".into()),
        ("/00000000.json", |event| event["kind"] = "renamed".into()),
    ];
    for (event, edit) in cases {
        let error = change(event, edit);
        let ok = matches!(error, ArchiveError::Event { .. } | ArchiveError::Document { .. });
        assert!(ok, "{event}: {error}");
    }
    let error = change("/00000009.json", |event| event["kind"] = "vanished".into());
    assert!(matches!(error, ArchiveError::Document { .. }), "{error}");
    let error = change("/00000009.json", |event| event["payload"]["path"] = "../x".into());
    assert!(matches!(error, ArchiveError::Document { .. }), "{error}");
}

#[test]
fn the_manifest_lists_what_there_is() {
    // Changed bytes, a changed size, and a table that nobody has read.
    for (part, bytes) in [("__one", &b"FIRST"[..]), ("records.csv", b"uid,"), ("/00000003", b"{}")]
    {
        let mut all = good();
        let index = match part {
            "__one" => at(&all, "/files/"),
            part => at(&all, part),
        };
        let before = all[index].bytes.len();
        all[index].bytes = bytes.to_vec();
        let error = refused(&all);
        let name = all[index].text().to_owned();
        match before == bytes.len() {
            true => assert_eq!(error, ArchiveError::Hash(name)),
            false => assert!(matches!(error, ArchiveError::Size { .. }), "{error}"),
        }
    }
    let mut all = good();
    let index = at(&all, "/users.json");
    all[index].bytes[13] ^= 1;
    assert_eq!(refused(&all), ArchiveError::Hash(all[index].text().into()));
    // One more version, with its file, that fits to all but the manifest.
    let mut more = sample();
    more.put("more", b"more");
    let more = entries(&more.write(None).0);
    let mut all = good();
    let sid = VAULT.to_string();
    let extra: Vec<_> = more
        .iter()
        .filter(|entry| !all.iter().any(|known| known.name == entry.name))
        .cloned()
        .collect();
    assert_eq!(extra.len(), 3);
    all.insert(at(&all, "/versions/"), extra[0].clone());
    assert_eq!(refused(&all), ArchiveError::Additional(format!("{sid}/events/0000/00000015.json")));
    // What a document says of counts.
    for field in ["events", "versions", "files", "users", "bytes"] {
        let mut all = good();
        all = resigned_with(&all, &key(), |counts| match field {
            "events" => counts.events += 1,
            "versions" => counts.versions += 1,
            "files" => counts.files += 1,
            "users" => counts.users += 1,
            _ => counts.bytes += 1,
        });
        assert!(matches!(refused(&all), ArchiveError::Contradiction { .. }), "{field}");
    }
    let all = resigned_with(&good(), &key(), |counts| counts.head = digest(b"x"));
    assert!(matches!(refused(&all), ArchiveError::Contradiction { .. }));
}

#[test]
fn the_signature_holds() {
    let all = edited("/manifest.json", |manifest| manifest["bytes"] = 1.into());
    assert_eq!(refused(&all), ArchiveError::Signature);
    let all = edited("/manifest.sig", |signature| signature["signature"] = "00".repeat(64).into());
    assert_eq!(refused(&all), ArchiveError::Signature);
    let all = edited("/manifest.sig", |signature| signature["signature"] = "xy".into());
    assert_eq!(refused(&all), ArchiveError::Signature);
    let mut all = good();
    let sid = VAULT.to_string();
    all.pop();
    assert_eq!(refused(&all), ArchiveError::Missing(format!("{sid}/manifest.sig")));
    all.pop();
    assert_eq!(refused(&all), ArchiveError::Missing(format!("{sid}/manifest.json")));
}

#[test]
fn every_version_has_its_file() {
    let mut all = good();
    let first = at(&all, "/files/");
    all.remove(first);
    assert_eq!(refused(&resigned(&all)), ArchiveError::NoFile { version: 1 });
    // And the last.
    let mut all = good();
    all.remove(at(&good(), "/meta/") - 1);
    assert_eq!(refused(&resigned(&all)), ArchiveError::NoFile { version: 14 });
    // Without its version either.
    let mut all = good();
    all.retain(|entry| !entry.text().contains("_14"));
    let all = resigned_with(&all, &key(), |counts| counts.versions -= 1);
    assert_eq!(refused(&all), ArchiveError::NoFile { version: 14 });
    // A file without a version.
    let mut all = good();
    let extra = RawEntry::new(&format!("{VAULT}/files/{}_99__x", "0".repeat(16)), b"x");
    all.insert(at(&all, "/meta/"), extra.clone());
    assert_eq!(refused(&resigned(&all)), ArchiveError::Additional(extra.text().into()));
    // A version that says something else than its event.
    for (field, value) in [
        ("path", Value::from("other")),
        ("hash", "0".repeat(64).into()),
        ("size", 4.into()),
        ("listed", true.into()),
        ("deleted", true.into()),
        ("put", 1.into()),
        ("file", "elsewhere".into()),
        ("version", 2.into()),
    ] {
        let all = resigned(&edited("/versions/", |version| version[field] = value));
        let error = refused(&all);
        assert!(matches!(error, ArchiveError::Contradiction { .. }), "{field}: {error}");
    }
}

#[test]
fn names_lead_nowhere() {
    let sid = VAULT.to_string();
    let deep = format!("{sid}/files/a/b/c/d");
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "C:/windows",
        "a\\b",
        "a\0b",
        "a\nb",
        "a//b",
        "a/./b",
        "",
        &format!("{sid}/files/"),
        &format!("{sid}/files/0011223344556677_1__..\\x"),
        &format!("{sid}/files/0011223344556677_1__a:b"),
        &format!("{sid}/files/0011223344556677_01__a"),
        &format!("{sid}/files/0011223344556677_1__"),
        &format!("{sid}/other.json"),
        &format!("{}/meta/users.json", "cd".repeat(16)),
    ] {
        let error = refused(&renamed(good(), "/users.json", name));
        assert!(matches!(error, ArchiveError::Name { .. }), "{name:?}: {error}");
    }
    let mut all = good();
    let users = at(&all, "/users.json");
    all[users].name = vec![b'a', 0xff];
    assert!(matches!(refused(&all), ArchiveError::Name { .. }));
    all[users].name = deep.into();
    assert!(matches!(refused(&all), ArchiveError::Limit { what: "an entry's nesting", .. }));
    all[users].name = vec![b'a'; 300];
    assert!(matches!(refused(&all), ArchiveError::Limit { what: "an entry's name", .. }));
    for name in [format!("{sid}/META/users.json"), format!("{sid}/meta/Users.json")] {
        assert_eq!(refused(&renamed(good(), "/users.json", &name)), ArchiveError::Case(name));
    }
    let mut all = good();
    all.insert(users, all[users].clone());
    assert!(matches!(refused(&all), ArchiveError::Twice(_)));
    all.remove(users);
    all.swap(users, users + 1);
    assert!(matches!(refused(&all), ArchiveError::Missing(_)));
}

#[test]
fn only_plain_entries_are_read() {
    let with = |change: &dyn Fn(&mut RawEntry)| {
        let mut all = good();
        let index = at(&all, "/files/");
        change(&mut all[index]);
        refused(&all)
    };
    let cases: [(&str, &dyn Fn(&mut RawEntry)); 12] = [
        ("link", &|entry| entry.attributes = 0o120_777 << 16),
        ("device", &|entry| entry.attributes = 0o060_666 << 16),
        ("folder", &|entry| entry.attributes = 0o040_755 << 16),
        ("setuid", &|entry| entry.attributes = 0o104_755 << 16),
        ("folder of DOS", &|entry| entry.attributes |= 0x10),
        ("encrypted", &|entry| entry.flags |= 1),
        ("strongly encrypted", &|entry| entry.flags |= 1 << 6),
        ("patched", &|entry| entry.flags |= 1 << 5),
        ("bzip2", &|entry| entry.method = Some(12)),
        ("comment", &|entry| entry.comment = b"x".to_vec()),
        ("two names", &|entry| entry.extra = [&[0x75, 0x70, 5, 0], &[1; 5][..]].concat()),
        ("another name", &|entry| {
            let name = entry.text().replace("files", "fIles");
            entry.local_name = Some(name.into());
        }),
    ];
    for (what, change) in cases {
        let error = with(change);
        assert!(matches!(error, ArchiveError::Entry { .. }), "{what}: {error}");
    }
    // One that says that it is larger than it is.
    let error = with(&|entry| entry.size = Some(6));
    assert!(matches!(error, ArchiveError::Size { .. }), "{error}");
    for size in [4, 6] {
        let error = with(&|entry| {
            entry.deflate = true;
            entry.size = Some(size);
        });
        assert!(matches!(error, ArchiveError::Size { .. }), "{size}: {error}");
    }
    // Damaged, and with something behind what it unpacks to.
    let damaged = with(&|entry| {
        entry.method = Some(8);
        entry.bytes = vec![0xff; 5];
        entry.size = Some(5);
    });
    assert!(matches!(damaged, ArchiveError::Entry { .. } | ArchiveError::Size { .. }), "{damaged}");
    let longer = with(&|entry| {
        entry.bytes = [&deflated(b"first"), &b"hidden"[..]].concat();
        entry.method = Some(8);
        entry.size = Some(5);
    });
    assert!(matches!(longer, ArchiveError::Entry { .. } | ArchiveError::Hash(_)), "{longer}");
}

#[test]
fn nothing_hides_between_entries_and_behind_the_end() {
    let all = good();
    let structure = |bytes: &[u8]| {
        let error = read_all(bytes).expect_err("such a structure is not to be taken");
        assert!(matches!(error, ArchiveError::Structure(_)), "{error}");
    };
    let ending = Ending::default();
    structure(&pack_with(&all, &Ending { comment: b"hello".to_vec(), ..ending.clone() }));
    structure(&pack_with(&all, &Ending { trailing: b"hello".to_vec(), ..ending.clone() }));
    structure(&pack_with(&all, &Ending { between: b"hello".to_vec(), ..ending.clone() }));
    for entries in [all.len() - 1, all.len() + 1, 0] {
        let entries = Some(entries as u16);
        structure(&pack_with(&all, &Ending { entries, ..ending.clone() }));
    }
    structure(&pack_with(&all, &Ending { start: Some(7), ..ending.clone() }));
    structure(&pack_with(&all, &Ending { start: Some(u32::MAX), ..ending }));
    for index in [0, 3, all.len() - 1] {
        let mut all = all.clone();
        all[index].before = b"hidden".to_vec();
        let packed = pack(&all);
        match index {
            // That is no ZIP file any more, to a reader that begins where a file begins.
            0 => assert_eq!(open(&packed).err(), Some(ArchiveError::NotZip)),
            _ => structure(&packed),
        }
    }
    // Two entries for the same bytes.
    let mut all = all;
    let file = at(&all, "/files/");
    all[file + 1].at_entry = Some(file);
    structure(&pack(&all));
}

#[test]
fn caps_hold_before_anything_is_read() {
    let bytes = sample().write(None).0;
    let limits = ArchiveLimits::default();
    let refused = |limits| match open_within(&bytes, limits).err() {
        Some(ArchiveError::Limit { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(ArchiveLimits { total: 1_000, ..limits }), "a size");
    assert_eq!(refused(ArchiveLimits { entries: 20, ..limits }), "a number of entries");
    assert_eq!(refused(ArchiveLimits { unpacked: 100_000, ..limits }), "an unpacked size");
    assert_eq!(refused(ArchiveLimits { entry: 100_000, ..limits }), "an entry");
    assert_eq!(refused(ArchiveLimits { name: 50, ..limits }), "an entry's name");
    assert_eq!(refused(ArchiveLimits { nesting: 1, ..limits }), "an entry's nesting");
    assert_eq!(refused(ArchiveLimits { document: 100, ..limits }), "a document");
    // A number of entries that no directory of that size can have.
    let many = Ending { entries: Some(60_000), ..Ending::default() };
    let error = open(&pack_with(&good(), &many)).err().unwrap();
    assert!(matches!(error, ArchiveError::Structure(_)), "{error}");
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = vec![0; 3 << 20];
    let mut all = good();
    let index = at(&all, "/files/");
    all[index] = RawEntry { deflate: true, bytes: zeros, ..all[index].clone() };
    let packed = pack(&all);
    assert!(packed.len() < 300_000);
    let error = open(&packed).err().unwrap();
    assert!(matches!(error, ArchiveError::Ratio { .. }), "{error}");
    // One that says that it is small stops where it says.
    all[index].size = Some(5);
    let error = read_all(&pack(&all)).expect_err("it is larger than it says");
    assert!(matches!(error, ArchiveError::Size { .. }), "{error}");
}

/// A file that is larger than any disk, of zeros but for its ends.
struct Sparse {
    length: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    at: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let tail = self.length - self.tail.len() as u64;
        let length = buffer.len().min((self.length - self.at) as usize);
        for (offset, byte) in buffer[..length].iter_mut().enumerate() {
            let at = self.at + offset as u64;
            *byte = match at.checked_sub(tail) {
                Some(at) => self.tail[at as usize],
                None => self.head.get(at as usize).copied().unwrap_or(0),
            };
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.length.saturating_add_signed(by),
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

#[test]
fn ends_with_64_bits_are_believed_as_far_as_they_fit() {
    let end = |entries: u64, size: u64, start: u64, length: u64| {
        let mut tail = b"PK\x06\x06".to_vec();
        tail.extend(44u64.to_le_bytes());
        tail.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [entries, entries, size, start] {
            tail.extend(number.to_le_bytes());
        }
        tail.extend(b"PK\x06\x07\0\0\0\0");
        tail.extend((length - 98).to_le_bytes());
        tail.extend([1, 0, 0, 0]);
        tail.extend(b"PK\x05\x06\0\0\0\0");
        tail.extend([0xff; 12]);
        tail.extend([0, 0]);
        let head = b"PK\x03\x04".to_vec();
        let file = Sparse { length, head, tail, at: 0 };
        Archive::open(file, None, ArchiveLimits::default()).err().unwrap()
    };
    let length = 6 << 30;
    let limit = end(u64::MAX, length - 98, 0, length);
    assert!(matches!(limit, ArchiveError::Limit { what: "a number of entries", .. }), "{limit}");
    for (entries, size, start) in
        [(1_000_000, 46, length - 144), (2, u64::MAX, 5), (2, 500, length), (2, 98, 0)]
    {
        let error = end(entries, size, start, length);
        assert!(matches!(error, ArchiveError::Structure(_)), "{error}");
    }
    // A directory of zeros.
    let error = end(1_000, 1 << 30, length - 98 - (1 << 30), length);
    assert!(matches!(error, ArchiveError::Structure(_)), "{error}");
}

#[test]
fn errors_have_codes_and_show_no_control_characters() {
    let error = refused(&renamed(good(), "/users.json", "\u{1b}[31m\n"));
    assert_eq!(error.code(), "archive_bad_name");
    assert!(!error.to_string().contains(char::is_control));
    let bytes = sample().write(None).0;
    let unverified = Archive::open(Cursor::new(bytes), None, ArchiveLimits::default()).unwrap();
    assert_eq!(unverified.outline().versions, 5);
}
