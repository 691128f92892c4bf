//! Archives whose entries are not those of a vault, from somebody who means harm or from a bad disk: each
//! refused for its own reason.

use std::io::Cursor;

use serde_json::Value;

use super::super::{Archive, ArchiveError, ArchiveLimits};
use super::raw::{RawEntry, digest, entries, pack, resigned, resigned_with};
use super::{VAULT, key, open, read_all, sample};

pub(super) fn good() -> Vec<RawEntry> {
    entries(&sample().write(None).0)
}

/// The entry whose name contains a text.
pub(super) fn at(entries: &[RawEntry], part: &str) -> usize {
    entries.iter().position(|entry| entry.text().contains(part)).unwrap()
}

pub(super) fn refused(entries: &[RawEntry]) -> ArchiveError {
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
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit); 5] = [
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
fn a_damaged_file_does_not_come_to_its_end() {
    let (bytes, _) = sample().write(None);
    // In the middle of the run of fives.
    let run = bytes.windows(1_000).position(|window| window == [5; 1_000]).unwrap();
    let mut changed = bytes.clone();
    changed[run + 30_000] ^= 1;
    let mut archive = open(&changed).unwrap();
    let mut cursor = archive.open_file(14).unwrap();
    let mut read = 0;
    let error = loop {
        match archive.read_file(&mut cursor) {
            Ok(Some(piece)) => read += piece.len(),
            Ok(None) => panic!("it has ended"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ArchiveError::Hash(_)), "{error}");
    assert!(read < 200_000);
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
fn errors_have_codes_and_show_no_control_characters() {
    let error = refused(&renamed(good(), "/users.json", "\u{1b}[31m\n"));
    assert_eq!(error.code(), "archive_bad_name");
    assert!(!error.to_string().contains(char::is_control));
    let bytes = sample().write(None).0;
    let unverified = Archive::open(Cursor::new(bytes), None, ArchiveLimits::default()).unwrap();
    assert_eq!(unverified.outline().versions, 5);
}
