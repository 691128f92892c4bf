//! The directory of a ZIP file: its end record and its headers, read one by one and taken as few ways as
//! possible. What another program could read otherwise is refused.

use std::io::{Read, Seek};

use super::super::error::{ArchiveError, shown};
use super::super::limits::ArchiveLimits;
use super::source::{Fields, Lane, Source};

const END: u32 = 0x0605_4b50;
const END_LENGTH: u64 = 22;
const LOCATOR: u32 = 0x0706_4b50;
const LOCATOR_LENGTH: u64 = 20;
const END_64: u32 = 0x0606_4b50;
const END_64_LENGTH: u64 = 56;
const HEADER: u32 = 0x0201_4b50;
const HEADER_LENGTH: u64 = 46;
/// Bytes of an entry's own header, without name and extra fields.
pub(super) const LOCAL_LENGTH: u64 = 30;
/// What every ZIP file begins with, unless it is empty.
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// Longest comment, behind which an end record can hide.
const LONGEST_COMMENT: u64 = 0xffff;

/// Encryption, strong encryption, masked headers.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// Sizes stand behind the bytes.
const DESCRIPTOR: u16 = 1 << 3;
/// How well it was packed; sizes behind the bytes; the name is UTF-8.
const KNOWN_FLAGS: u16 = 0b110 | DESCRIPTOR | 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const EXTRA_64: u16 = 0x0001;
const EXTRA_UNICODE_NAME: u16 = 0x7075;

/// Where the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) entries: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What is kept of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Place of its header in the directory.
    pub(super) header: u64,
    /// Place of its own header.
    pub(super) local: u64,
    /// Bytes in the archive.
    pub(super) packed: u64,
    /// Bytes unpacked.
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) flags: u16,
    pub(super) deflated: bool,
}

impl Slot {
    pub(super) const fn has_descriptor(&self) -> bool {
        self.flags & DESCRIPTOR != 0
    }

    pub(super) const fn method(&self) -> u16 {
        if self.deflated { DEFLATED } else { STORED }
    }
}

/// A header in the directory.
pub(super) struct Header {
    pub(super) slot: Slot,
    pub(super) name: Vec<u8>,
    /// Place of the next.
    pub(super) next: u64,
}

impl Directory {
    /// Finds the directory, and checks how much is in it before any of it is read.
    pub(super) fn find<R: Read + Seek>(
        source: &mut Source<R>,
        limits: &ArchiveLimits,
    ) -> Result<Self, ArchiveError> {
        let length = source.length();
        if length < LOCAL.len() as u64 || source.array::<4>(Lane::Entries, 0)? != LOCAL {
            return Err(ArchiveError::NotZip);
        }
        let Some(at) = length.checked_sub(END_LENGTH) else {
            return Err(ArchiveError::Truncated("its directory is missing"));
        };
        let record = source.array::<{ END_LENGTH as usize }>(Lane::Directory, at)?;
        let mut fields = Fields(&record);
        if fields.u32() != END {
            return Err(no_end(source, at)?);
        }
        let disks = [fields.u16(), fields.u16()];
        let counts = [u64::from(fields.u16()), u64::from(fields.u16())];
        let (size, start) = (u64::from(fields.u32()), u64::from(fields.u32()));
        if disks != [0, 0] || counts[0] != counts[1] {
            return Err(ArchiveError::Structure("it is one of several parts"));
        }
        if fields.u16() != 0 {
            return Err(ArchiveError::Structure("it has a comment"));
        }
        let small = Self { entries: counts[0], start, end: start.saturating_add(size) };
        let (found, end) = match find_64(source, at)? {
            Some((large, at)) if small.agrees(&large) => (large, at),
            Some(_) => return Err(ArchiveError::Structure("its two end records differ")),
            None => (small, at),
        };
        if found.end != end {
            return Err(ArchiveError::Structure("something is between its directory and its end"));
        }
        let (what, limit) = ("a number of entries", limits.entries);
        if found.entries > limit {
            return Err(ArchiveError::Limit { what, found: found.entries, limit });
        }
        let least = found.entries.saturating_mul(HEADER_LENGTH);
        if found.start > found.end || least > found.end - found.start {
            return Err(ArchiveError::Structure("its directory is shorter than it says"));
        }
        Ok(found)
    }

    /// Whether a record with 64 bits says the same, as far as this one can.
    fn agrees(&self, large: &Self) -> bool {
        let entries = self.entries == large.entries || self.entries == 0xffff;
        let start = self.start == large.start || self.start == 0xffff_ffff;
        let size = |directory: &Self| directory.end.saturating_sub(directory.start);
        entries && start && (size(self) == size(large) || size(self) == 0xffff_ffff)
    }

    /// Reads a header.
    pub(super) fn header<R: Read + Seek>(
        &self,
        source: &mut Source<R>,
        at: u64,
        limits: &ArchiveLimits,
    ) -> Result<Header, ArchiveError> {
        let past = || ArchiveError::Structure("its directory has fewer entries than it says");
        let fixed_end = at.saturating_add(HEADER_LENGTH);
        if fixed_end > self.end {
            return Err(past());
        }
        let record = source.array::<{ HEADER_LENGTH as usize }>(Lane::Directory, at)?;
        let mut fields = Fields(&record);
        if fields.u32() != HEADER {
            return Err(ArchiveError::Structure("its directory has something that is no entry"));
        }
        let (_made_by, _needed) = (fields.u16(), fields.u16());
        let (flags, method) = (fields.u16(), fields.u16());
        let (_time, crc) = (fields.u32(), fields.u32());
        let (packed, size) = (fields.u32(), fields.u32());
        let (name, extra, comment) = (fields.u16(), fields.u16(), fields.u16());
        let (disk, _inner) = (fields.u16(), fields.u16());
        let (attributes, local) = (fields.u32(), fields.u32());
        let lengths = [name, extra, comment].map(u64::from);
        let next = fixed_end.saturating_add(lengths.iter().sum());
        if next > self.end {
            return Err(past());
        }
        let (what, limit) = ("an entry's name", limits.name as u64);
        if lengths[0] > limit {
            return Err(ArchiveError::Limit { what, found: lengths[0], limit });
        }
        let name = source.bytes(Lane::Directory, fixed_end, usize::from(name))?;
        let extra_at = fixed_end.saturating_add(lengths[0]);
        let extra = source.bytes(Lane::Directory, extra_at, usize::from(extra))?;
        let refused = |reason| ArchiveError::Entry { name: shown(&name), reason };
        if flags & ENCRYPTED != 0 {
            return Err(refused("it is encrypted by itself"));
        }
        if flags & !KNOWN_FLAGS != 0 {
            return Err(refused("it has features that are not known"));
        }
        if !matches!(method, STORED | DEFLATED) {
            return Err(refused("it is neither stored nor deflated"));
        }
        check_attributes(attributes).map_err(refused)?;
        if lengths[2] != 0 || disk != 0 {
            return Err(refused("it has a comment, or is in another part"));
        }
        let (size, packed, local) = sizes([size, packed, local], &extra).map_err(refused)?;
        let deflated = method == DEFLATED;
        let slot = Slot { header: at, local, packed, size, crc, flags, deflated };
        check_sizes(&slot, &name, limits)?;
        Ok(Header { slot, name, next })
    }
}

/// Why there is no end record at the end.
fn no_end<R: Read + Seek>(source: &mut Source<R>, at: u64) -> Result<ArchiveError, ArchiveError> {
    let from = at.saturating_sub(LONGEST_COMMENT);
    let length = usize::try_from(source.length() - from).unwrap_or(usize::MAX);
    let tail = source.bytes(Lane::Directory, from, length)?;
    let hidden =
        tail.windows(END_LENGTH as usize).any(|window| window.starts_with(&END.to_le_bytes()));
    Ok(match hidden {
        true => ArchiveError::Structure("something follows its end, or it has a comment"),
        false => ArchiveError::Truncated("its directory is missing"),
    })
}

/// The end record with 64 bits before the plain one at `end`, and where it begins.
fn find_64<R: Read + Seek>(
    source: &mut Source<R>,
    end: u64,
) -> Result<Option<(Directory, u64)>, ArchiveError> {
    let Some(at) = end.checked_sub(LOCATOR_LENGTH) else { return Ok(None) };
    let locator = source.array::<{ LOCATOR_LENGTH as usize }>(Lane::Directory, at)?;
    let mut fields = Fields(&locator);
    if fields.u32() != LOCATOR {
        return Ok(None);
    }
    let bad = ArchiveError::Structure("its end record with 64 bits is not accepted");
    let (disk, record_at, disks) = (fields.u32(), fields.u64(), fields.u32());
    let Some(expected) = at.checked_sub(END_64_LENGTH) else { return Err(bad) };
    if disk != 0 || disks > 1 || record_at != Some(expected) {
        return Err(bad);
    }
    let record = source.array::<{ END_64_LENGTH as usize }>(Lane::Directory, expected)?;
    let mut fields = Fields(&record);
    let (signature, length) = (fields.u32(), fields.u64());
    let (_versions, disks) = (fields.u32(), [fields.u32(), fields.u32()]);
    let numbers = [fields.u64(), fields.u64(), fields.u64(), fields.u64()];
    let [Some(here), Some(entries), Some(size), Some(start)] = numbers else { return Err(bad) };
    if signature != END_64 || length != Some(END_64_LENGTH - 12) || disks != [0, 0] {
        return Err(bad);
    }
    if here != entries {
        return Err(ArchiveError::Structure("it is one of several parts"));
    }
    Ok(Some((Directory { entries, start, end: start.saturating_add(size) }, expected)))
}

/// A plain file's attributes, whichever system they are of.
const fn check_attributes(attributes: u32) -> Result<(), &'static str> {
    let mode = attributes >> 16;
    if !matches!(mode & 0o170_000, 0 | 0o100_000) {
        return Err("it is no plain file but a link, a folder or a device");
    }
    if mode & 0o7_000 != 0 {
        return Err("it would run as somebody else");
    }
    if attributes & 0x18 != 0 {
        return Err("it is a folder or a label");
    }
    Ok(())
}

/// Size, packed size and place, each with 64 bits where 32 say that they are not enough.
fn sizes(fields: [u32; 3], extra: &[u8]) -> Result<(u64, u64, u64), &'static str> {
    let mut large: Option<Fields<'_>> = None;
    let mut rest = Fields(extra);
    while !rest.0.is_empty() {
        if rest.0.len() < 4 {
            return Err("its extra fields are cut off");
        }
        let (id, length) = (rest.u16(), usize::from(rest.u16()));
        let Some((field, after)) = rest.0.split_at_checked(length) else {
            return Err("its extra fields are cut off");
        };
        match id {
            EXTRA_64 if large.is_some() => return Err("it has two sizes"),
            EXTRA_64 => large = Some(Fields(field)),
            EXTRA_UNICODE_NAME => return Err("it has two names"),
            _ => {}
        }
        rest = Fields(after);
    }
    let mut wide = |field: u32| match (field, &mut large) {
        (u32::MAX, Some(large)) => large.u64().ok_or("its size is cut off"),
        (u32::MAX, None) => Err("its size is missing"),
        (field, _) => Ok(u64::from(field)),
    };
    let [size, packed, local] = fields;
    Ok((wide(size)?, wide(packed)?, wide(local)?))
}

fn check_sizes(slot: &Slot, name: &[u8], limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let Slot { size, packed, deflated, .. } = *slot;
    let (what, limit) = ("an entry", limits.entry);
    if size > limit {
        return Err(ArchiveError::Limit { what, found: size, limit });
    }
    if !deflated && size != packed {
        return Err(ArchiveError::Size { name: shown(name), said: size, found: packed });
    }
    if !limits.allows_ratio(packed, size) {
        return Err(ArchiveError::Ratio { name: shown(name), packed, unpacked: size });
    }
    Ok(())
}

/// Whether extra fields of an entry's own header give it another name.
pub(super) fn renames(extra: &[u8]) -> bool {
    sizes([0; 3], extra).is_err()
}
