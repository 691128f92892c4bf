//! The bytes of an archive, read at places that were compared with its length before.

use std::io::{Read, Seek, SeekFrom};

use super::super::error::ArchiveError;
use super::super::limits::ArchiveLimits;
use super::super::seal::{Passphrase, Unsealed};

/// Bytes read at once.
const WINDOW: usize = 64 << 10;

/// What is read in order while something else is read in order too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The directory.
    Directory,
    /// Entries.
    Entries,
}

/// An archive's bytes.
pub(super) struct Source<R> {
    inner: Unsealed<R>,
    length: u64,
    windows: [Window; 2],
}

#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn copy(&self, at: u64, buffer: &mut [u8]) -> bool {
        let Some(offset) = at.checked_sub(self.start) else { return false };
        let Ok(offset) = usize::try_from(offset) else { return false };
        let Some(end) = offset.checked_add(buffer.len()) else { return false };
        let Some(part) = self.bytes.get(offset..end) else { return false };
        buffer.copy_from_slice(part);
        true
    }
}

impl<R: Read + Seek> Source<R> {
    /// Opens what may be encrypted.
    pub(super) fn open(
        inner: R,
        passphrase: Option<&Passphrase>,
        limits: &ArchiveLimits,
    ) -> Result<Self, ArchiveError> {
        let (inner, length) = Unsealed::open(inner, passphrase, limits)?;
        Ok(Self { inner, length, windows: <[Window; 2]>::default() })
    }

    /// All bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Fills a buffer from a place.
    pub(super) fn read_at(
        &mut self,
        lane: Lane,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<(), ArchiveError> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        let end = end.ok_or(ArchiveError::Truncated("an entry ends behind the end of the file"))?;
        let window = &mut self.windows[lane as usize];
        if window.copy(at, buffer) {
            return Ok(());
        }
        let failed = |error: std::io::Error| ArchiveError::Read(error.to_string());
        self.inner.seek(SeekFrom::Start(at)).map_err(failed)?;
        if buffer.len() >= WINDOW {
            return self.inner.read_exact(buffer).map_err(failed);
        }
        let ahead = (self.length - at).min(WINDOW as u64).max(end - at);
        window.start = at;
        window.bytes.resize(usize::try_from(ahead).unwrap_or(WINDOW), 0);
        let read = self.inner.read_exact(&mut window.bytes);
        if let Err(error) = read {
            window.bytes.clear();
            return Err(failed(error));
        }
        if window.copy(at, buffer) {
            Ok(())
        } else {
            Err(ArchiveError::Truncated("a read is short"))
        }
    }

    /// Bytes of a fixed number.
    pub(super) fn array<const N: usize>(
        &mut self,
        lane: Lane,
        at: u64,
    ) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.read_at(lane, at, &mut bytes)?;
        Ok(bytes)
    }

    /// Bytes of a number that is bounded already.
    pub(super) fn bytes(
        &mut self,
        lane: Lane,
        at: u64,
        length: usize,
    ) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = vec![0; length];
        self.read_at(lane, at, &mut bytes)?;
        Ok(bytes)
    }
}

/// Takes little-endian integers off the front of a record.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next two bytes; zero behind the end.
    pub(super) fn u16(&mut self) -> u16 {
        self.array().map_or(0, u16::from_le_bytes)
    }

    /// The next four bytes; zero behind the end.
    pub(super) fn u32(&mut self) -> u32 {
        self.array().map_or(0, u32::from_le_bytes)
    }

    /// The next eight bytes, if they are there.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
