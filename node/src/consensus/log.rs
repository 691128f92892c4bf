//! The engine's log, read before the engine does.
//!
//! The engine takes an empty file for a new log and a length that reaches past the end for an append that
//! never ended. It would vote again where it has voted. So the log is read here first, in the format of
//! `arc-malachitebft-wal` 0.8 (`log.rs`), all integers big endian:
//!
//! ```text
//! version: u32 = 1   sequence: u64   then entries: compressed: u8 = 0   length: u64   crc32: u32   data
//! ```
//!
//! The sequence is the height that the entries are of: the one the chain decides next, or its tip if the
//! node ended between a decision and the next height.
//!
//! A partial entry at the end is no damage. The engine (`arc-malachitebft-engine` 0.8, `consensus.rs`)
//! appends at `Effect::WalAppend` and syncs at `Effect::PublishConsensusMsg`, before it hands the message
//! to the network. So the message of a partial entry was never sent. An entry whose bytes are there, but
//! whose length says more, is damage. Entries that are missing as a whole leave no trace.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use samara_protocol::units::Height;

use crate::data::write_private;
use crate::disk::sync_folder;

/// The one version of the format there is.
const VERSION: u32 = 1;
/// Version and sequence, in bytes.
const HEADER: usize = 12;
/// What precedes an entry's data, in bytes.
const ENTRY_HEADER: usize = 13;
/// Most bytes that are read. A log holds the messages of one height; this is far more.
const MAX_LOG: u64 = 1 << 30;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogDamage {
    /// Nothing in it, or a part of the header.
    #[error("it is empty, or ends within its header")]
    Empty,
    /// Another version than the engine writes.
    #[error("its header is not that of a log")]
    Header,
    /// An entry that the engine never wrote so.
    #[error("entry {0} is damaged")]
    Entry(usize),
    /// Its entries are of a height that the chain does not decide now.
    #[error("it is of height {sequence}, and the chain's tip is {tip}")]
    OtherHeight {
        /// The log's.
        sequence: u64,
        /// The chain's.
        tip: Height,
    },
    /// Far longer than a log gets.
    #[error("it is too long to be a log")]
    TooLong,
}

/// The engine's log in its folder: its guard against voting twice.
#[must_use]
pub fn log_path(folder: &Path) -> PathBuf {
    folder.join("consensus.wal")
}

/// Makes a log without entries if there is none, as the engine would. The engine makes the file durable,
/// but not its name: after a loss of power the votes in it would be gone, with the log.
///
/// # Errors
/// The system's.
pub(super) fn make_log(folder: &Path) -> io::Result<()> {
    let path = log_path(folder);
    if path.exists() {
        // The engine of an earlier release may have made it.
        return sync_folder(folder);
    }
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&VERSION.to_be_bytes());
    write_private(&path, &header)
}

/// Reads the log in a folder: nothing if there is none, else what is wrong with it beside a chain of
/// this height.
///
/// # Errors
/// The system's.
pub fn check_log(folder: &Path, tip: Height) -> io::Result<Option<Result<(), LogDamage>>> {
    let file = match File::open(log_path(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() > MAX_LOG {
        return Ok(Some(Err(LogDamage::TooLong)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes)?;
    Ok(Some(check(&bytes, tip)))
}

/// Renames a log that is damaged, so that the engine makes a new one. The one that was put aside before
/// it is lost.
///
/// # Errors
/// The system's.
pub fn put_log_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = folder.join("consensus.wal.damaged");
    std::fs::rename(log_path(folder), &aside)?;
    sync_folder(folder)?;
    Ok(aside)
}

fn check(bytes: &[u8], tip: Height) -> Result<(), LogDamage> {
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER) else {
        return Err(LogDamage::Empty);
    };
    if header[..4] != VERSION.to_be_bytes() {
        return Err(LogDamage::Header);
    }
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&header[4..]);
    let sequence = u64::from_be_bytes(sequence);
    let is_new = sequence == 0 && rest.is_empty();
    if !is_new && sequence != tip.0 && Some(sequence) != tip.0.checked_add(1) {
        return Err(LogDamage::OtherHeight { sequence, tip });
    }
    let mut number = 0;
    while let Some((header, data)) = rest.split_at_checked(ENTRY_HEADER) {
        let damage = LogDamage::Entry(number);
        let entry = EntryHeader::read(header).ok_or(damage)?;
        let Some((data, after)) = entry.length.and_then(|length| data.split_at_checked(length))
        else {
            return if entry.is_partial(data) { Ok(()) } else { Err(damage) };
        };
        if crc32fast::hash(data) != entry.crc {
            return Err(damage);
        }
        rest = after;
        number += 1;
    }
    Ok(())
}

struct EntryHeader {
    /// Nothing if no memory could hold it.
    length: Option<usize>,
    crc: u32,
}

impl EntryHeader {
    /// Nothing for what the engine never writes: it neither compresses nor appends nothing.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (compressed, bytes) = bytes.split_first()?;
        let (length, crc) = bytes.split_first_chunk::<8>()?;
        let length = u64::from_be_bytes(*length);
        let crc = u32::from_be_bytes(*crc.first_chunk()?);
        (*compressed == 0 && length > 0).then_some(Self { length: length.try_into().ok(), crc })
    }

    /// Whether `data`, shorter than the length says, can be the beginning of the entry. If a part of it
    /// has the checksum, then that part is the entry and the length is wrong.
    fn is_partial(&self, data: &[u8]) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        self.length.is_some_and(|length| length as u64 <= MAX_LOG)
            && data.iter().all(|byte| {
                hasher.update(std::slice::from_ref(byte));
                hasher.clone().finalize() != self.crc
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIP: Height = Height(6);

    fn log(sequence: u64, entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [&VERSION.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
        for data in entries {
            bytes.push(0);
            bytes.extend((data.len() as u64).to_be_bytes());
            bytes.extend(crc32fast::hash(data).to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn a_log_that_is_made_is_sound_and_one_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        make_log(folder.path()).unwrap();
        assert!(matches!(check_log(folder.path(), TIP), Ok(Some(Ok(())))));
        let bytes = log(7, &[b"a vote"]);
        std::fs::write(log_path(folder.path()), &bytes).unwrap();
        make_log(folder.path()).unwrap();
        assert_eq!(std::fs::read(log_path(folder.path())).unwrap(), bytes);
    }

    #[test]
    fn a_log_of_this_height_is_sound_with_a_partial_end_too() {
        let whole = log(7, &[b"first", b"second"]);
        for end in [HEADER, HEADER + 1, HEADER + ENTRY_HEADER + 5, whole.len() - 1, whole.len()] {
            assert_eq!(check(&whole[..end], TIP), Ok(()), "{end}");
        }
        assert_eq!(check(&log(6, &[b"the tip's"]), TIP), Ok(()));
        assert_eq!(check(&log(0, &[]), TIP), Ok(()));
    }

    #[test]
    fn a_log_without_its_header_is_damaged() {
        let whole = log(7, &[b"first"]);
        for end in 0..HEADER {
            assert_eq!(check(&whole[..end], TIP), Err(LogDamage::Empty));
        }
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let whole = log(7, &[b"the first entry", b"the second entry", b"the third"]);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Version 1 and heights 6 and 7 are all that fits; the flip from 7 to 6 is one bit.
            let other_height = bit == (HEADER - 1) * 8;
            assert_eq!(check(&bytes, TIP).is_ok(), other_height, "bit {bit}");
        }
    }

    #[test]
    fn entries_of_another_height_are_damage() {
        for sequence in [0, 5, 8, u64::MAX] {
            let found = check(&log(sequence, &[b"entry"]), TIP);
            assert_eq!(found, Err(LogDamage::OtherHeight { sequence, tip: TIP }));
        }
    }

    #[test]
    fn zeros_at_the_end_are_damage() {
        let mut bytes = log(7, &[b"entry"]);
        bytes.extend([0; 40]);
        assert_eq!(check(&bytes, TIP), Err(LogDamage::Entry(1)));
    }
}
