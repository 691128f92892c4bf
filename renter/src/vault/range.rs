//! Ranges of one file: at once where they are short, as a stream whatever their length.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use samara_protocol::journal::{Content, StoredFile, StoredPath};

use super::Vaults;
use super::error::{GetError, VaultError};
use super::names::{find, version};
use super::plan::{Ranges, SlabTable};
use crate::garbage::ReadLease;
use crate::transfer::{ExtentReader, SlabClass, SlabRange};

/// Most bytes of one [`Vaults::read_range`].
const MAX_RANGE: u64 = 16 << 20;

impl Vaults {
    /// Bytes of one file, at most 16 MiB at once.
    pub(crate) async fn read_range(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
        range: Range<u64>,
    ) -> Result<Bytes, GetError> {
        let length = range.end.saturating_sub(range.start);
        let (ranges, _lease) = match self.locate(name, path, number, range, MAX_RANGE)? {
            Located::Inline(bytes) => return Ok(bytes),
            Located::Slabs(ranges, lease) => (ranges, lease),
        };
        let downloader = self.slabs.downloader(SlabClass::Data);
        let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        for part in ranges {
            let end = part.offset.saturating_add(part.length);
            let read = downloader.read(&part.record, part.offset..end).await;
            let read = read.map_err(|source| GetError::Download { path: path.into(), source })?;
            if read.len() as u64 == length {
                return Ok(read.into());
            }
            bytes.extend_from_slice(&read);
        }
        Ok(bytes.freeze())
    }

    /// A range of one file as a stream.
    pub(crate) fn stream_range(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
        range: Range<u64>,
    ) -> Result<FileStream, GetError> {
        let path = path.to_owned();
        Ok(match self.locate(name, &path, number, range, u64::MAX)? {
            Located::Inline(bytes) => {
                FileStream { path, inline: Some(bytes), reader: None, _lease: None }
            }
            Located::Slabs(ranges, lease) => {
                let reader = ExtentReader::new(self.slabs.downloader(SlabClass::Data), ranges);
                FileStream { path, inline: None, reader: Some(reader), _lease: Some(lease) }
            }
        })
    }

    /// Where a range of a file lies that has at most `longest` bytes.
    fn locate(
        &self,
        name: &str,
        path: &str,
        number: Option<u64>,
        range: Range<u64>,
        longest: u64,
    ) -> Result<Located, GetError> {
        let stored = StoredPath::new(path).map_err(VaultError::Path)?;
        let (file, ranges, lease) = self.journal.read(|state| {
            let (_, vault) = find(state, name)?;
            let file = version(vault, name, &stored, number)?.file.clone();
            let table = SlabTable::of(std::iter::once(&file), state, None);
            let lease = self.slabs.leases().read(table.slabs(), self.world.clock.now());
            let ranges = table.ranges(&file);
            Ok::<_, VaultError>((file, ranges, lease))
        })?;
        let Range { start, end } = range;
        if start > end || end > file.size || end - start > longest {
            return Err(GetError::Range { path: path.to_owned(), size: file.size, start, end });
        }
        let ranges = match ranges {
            Ranges::Inline => return Ok(Located::Inline(inline_range(&file, start, end))),
            Ranges::Unknown(slab) => {
                return Err(GetError::UnknownSlab { path: path.into(), slab: slab.to_string() });
            }
            Ranges::Slabs(ranges) => ranges,
        };
        let mut wanted = Vec::new();
        let mut at = 0u64;
        for part in ranges {
            let next = at.saturating_add(u64::from(part.length));
            let (from, to) = (start.max(at), end.min(next));
            if from < to {
                // Both lie within the part, whose length is 32 bits wide.
                let offset = part.offset.saturating_add((from - at) as u32);
                wanted.push(SlabRange { offset, length: (to - from) as u32, ..part });
            }
            at = next;
        }
        Ok(Located::Slabs(wanted, lease))
    }
}

/// Where bytes of a file are.
enum Located {
    Inline(Bytes),
    Slabs(Vec<SlabRange>, ReadLease),
}

/// A range of a file, piece by piece, read ahead within the byte budget of all downloads. Dropped, it
/// stops what is under way.
pub struct FileStream {
    path: String,
    inline: Option<Bytes>,
    reader: Option<ExtentReader>,
    /// Keeps the slabs meanwhile.
    _lease: Option<ReadLease>,
}

impl FileStream {
    /// The next bytes; nothing at the end.
    ///
    /// # Errors
    /// [`GetError::Download`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, GetError> {
        if let Some(bytes) = self.inline.take().filter(|bytes| !bytes.is_empty()) {
            return Ok(Some(bytes));
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let next = reader.next().await;
        next.map_err(|source| GetError::Download { path: self.path.clone(), source })
    }
}

/// Bytes of a file that lie in the journal itself.
pub(crate) fn inline_range(file: &StoredFile, start: u64, end: u64) -> Bytes {
    let Content::Inline(bytes) = &file.content else { return Bytes::new() };
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    Bytes::copy_from_slice(&bytes[at(start)..at(end)])
}
