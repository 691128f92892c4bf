//! ZIP files that are none, that are cut, that hide something or that would grow: each refused for its own
//! reason.

use std::io::{Read, Seek, SeekFrom};

use super::super::{Archive, ArchiveError, ArchiveLimits};
use super::hostile::{at, good, refused};
use super::raw::{Ending, RawEntry, deflated, pack, pack_with};
use super::{open, open_within, read_all, sample};

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
fn only_plain_entries_are_read() {
    let with = |change: &dyn Fn(&mut RawEntry)| {
        let mut all = good();
        let index = at(&all, "/files/");
        change(&mut all[index]);
        refused(&all)
    };
    type Change<'a> = &'a dyn Fn(&mut RawEntry);
    let cases: [(&str, Change<'_>); 12] = [
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
    assert_eq!(refused(ArchiveLimits { paths: 200, ..limits }), "a length of all paths");
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
