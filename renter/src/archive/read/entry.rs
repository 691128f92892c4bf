//! One entry's bytes, piece by piece. What its own header says must be what the directory says, it must
//! end where the next begins, and its last bytes are given only if all of them are as they should be.

use std::io::{Read, Seek};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use samara_protocol::hash::Digest;

use super::super::error::{ArchiveError, shown};
use super::directory::{LOCAL_LENGTH, Slot, renames};
use super::source::{Fields, Lane, Source};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
/// Bytes given at once.
const PIECE: usize = 64 << 10;
/// Packed bytes read at once.
const PACKED: usize = 16 << 10;

/// Where an entry is.
pub(super) struct Place<'a> {
    pub(super) slot: Slot,
    /// Its name by the directory.
    pub(super) name: &'a [u8],
    /// Where the next begins, or the directory.
    pub(super) end: u64,
    /// The hash that the manifest has for it.
    pub(super) hash: Option<Digest>,
}

/// Reads one entry. It holds no part of the archive, so it can wait between two pieces.
pub(super) struct EntryReader {
    name: String,
    slot: Slot,
    at: u64,
    end: u64,
    packed_left: u64,
    left: u64,
    inflate: Option<Box<Inflate>>,
    crc: Crc,
    hasher: blake3::Hasher,
    expected: Option<Digest>,
    done: bool,
}

struct Inflate {
    state: Decompress,
    input: Vec<u8>,
    from: usize,
    ended: bool,
}

impl EntryReader {
    /// Reads an entry's own header.
    pub(super) fn open<R: Read + Seek>(
        source: &mut Source<R>,
        place: Place<'_>,
    ) -> Result<Self, ArchiveError> {
        let Place { slot, name, end, hash } = place;
        let shown = shown(name);
        let refused = |reason| ArchiveError::Entry { name: shown.clone(), reason };
        let header = source.array::<{ LOCAL_LENGTH as usize }>(Lane::Entries, slot.local)?;
        let mut fields = Fields(&header);
        if fields.u32() != LOCAL {
            return Err(refused("it is not where the directory says"));
        }
        let _needed = fields.u16();
        let (flags, method, _time) = (fields.u16(), fields.u16(), fields.u32());
        let numbers = [fields.u32(), fields.u32(), fields.u32()];
        let lengths = [fields.u16(), fields.u16()].map(u64::from);
        let name_at = slot.local.saturating_add(LOCAL_LENGTH);
        let data = name_at.saturating_add(lengths[0]).saturating_add(lengths[1]);
        if (flags, method) != (slot.flags, slot.method()) || lengths[0] != name.len() as u64 {
            return Err(refused("its two headers differ"));
        }
        let here = source.bytes(Lane::Entries, name_at, name.len())?;
        let extra_at = name_at.saturating_add(lengths[0]);
        let length = usize::try_from(lengths[1]).unwrap_or(0);
        let extra = source.bytes(Lane::Entries, extra_at, length)?;
        if here != name || renames(&extra) || !fits(&slot, numbers) {
            return Err(refused("its two headers differ"));
        }
        let reader = Self {
            name: shown.clone(),
            slot,
            at: data,
            end,
            packed_left: slot.packed,
            left: slot.size,
            inflate: slot.deflated.then(|| Box::new(Inflate::new())),
            crc: Crc::new(),
            hasher: blake3::Hasher::new(),
            expected: hash,
            done: false,
        };
        reader.check_end(source)?;
        Ok(reader)
    }

    /// Behind the bytes comes what describes them, if anything, and then the next entry.
    fn check_end<R: Read + Seek>(&self, source: &mut Source<R>) -> Result<(), ArchiveError> {
        let overlaps = || ArchiveError::Structure("entries overlap");
        let end = self.at.checked_add(self.slot.packed).ok_or_else(overlaps)?;
        let gap = self.end.checked_sub(end).ok_or_else(overlaps)?;
        if !self.slot.has_descriptor() {
            let tight = gap == 0;
            let hidden = ArchiveError::Structure("something is between two entries");
            return if tight { Ok(()) } else { Err(hidden) };
        }
        let length = usize::try_from(gap).ok().filter(|gap| matches!(gap, 12 | 16 | 20 | 24));
        let hidden = ArchiveError::Structure("something is between two entries");
        let Some(length) = length else { return Err(hidden) };
        let bytes = source.bytes(Lane::Entries, end, length)?;
        let mut fields = Fields(&bytes);
        let signed = matches!(length, 16 | 24);
        let signature = !signed || fields.u32() == DESCRIPTOR;
        let crc = fields.u32();
        let sizes = if length >= 20 {
            (fields.u64().unwrap_or(0), fields.u64().unwrap_or(0))
        } else {
            (u64::from(fields.u32()), u64::from(fields.u32()))
        };
        let fits = crc == self.slot.crc && sizes == (self.slot.packed, self.slot.size);
        match signature && fits {
            true => Ok(()),
            false => Err(self.size_error(sizes.1)),
        }
    }

    /// The next bytes; nothing at the end. The last are given after all were checked.
    pub(super) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        if self.done {
            return Ok(None);
        }
        let piece = match self.inflate.take() {
            None => self.stored(source)?,
            Some(mut inflate) => {
                let piece = self.inflated(source, &mut inflate)?;
                self.inflate = Some(inflate);
                piece
            }
        };
        self.left -= piece.len() as u64;
        self.crc.update(&piece);
        self.hasher.update(&piece);
        if self.left == 0 {
            self.finish(source)?;
            self.done = true;
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    fn stored<R: Read + Seek>(&mut self, source: &mut Source<R>) -> Result<Vec<u8>, ArchiveError> {
        let length = self.left.min(PIECE as u64) as usize;
        let piece = source.bytes(Lane::Entries, self.at, length)?;
        self.at = self.at.saturating_add(length as u64);
        self.packed_left -= length as u64;
        Ok(piece)
    }

    /// Unpacks a piece, and never more than the entry may have.
    fn inflated<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        inflate: &mut Inflate,
    ) -> Result<Vec<u8>, ArchiveError> {
        let mut piece = vec![0; self.left.min(PIECE as u64) as usize];
        let mut filled = 0;
        while filled < piece.len() {
            self.refill(source, inflate)?;
            let (read, written) = inflate.step(&mut piece[filled..]).ok_or_else(|| self.bad())?;
            filled += written;
            if read == 0 && written == 0 {
                // It has ended, or its packed bytes have, before it has all its bytes.
                return Err(self.size_error(self.slot.size - self.left + filled as u64));
            }
        }
        Ok(piece)
    }

    fn refill<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        inflate: &mut Inflate,
    ) -> Result<(), ArchiveError> {
        if inflate.from < inflate.input.len() || self.packed_left == 0 {
            return Ok(());
        }
        let length = self.packed_left.min(PACKED as u64) as usize;
        inflate.input = source.bytes(Lane::Entries, self.at, length)?;
        inflate.from = 0;
        self.at = self.at.saturating_add(length as u64);
        self.packed_left -= length as u64;
        Ok(())
    }

    fn finish<R: Read + Seek>(&mut self, source: &mut Source<R>) -> Result<(), ArchiveError> {
        if let Some(mut inflate) = self.inflate.take() {
            self.end_inflating(source, &mut inflate)?;
        }
        if self.crc.sum() != self.slot.crc {
            return Err(ArchiveError::Hash(self.name.clone()));
        }
        match self.expected {
            Some(expected) if expected != self.hash() => Err(ArchiveError::Hash(self.name.clone())),
            _ => Ok(()),
        }
    }

    /// Packed bytes must end where the entry does, and unpack to no more.
    fn end_inflating<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        inflate: &mut Inflate,
    ) -> Result<(), ArchiveError> {
        let mut more = [0];
        while !inflate.ended {
            self.refill(source, inflate)?;
            let (read, written) = inflate.step(&mut more).ok_or_else(|| self.bad())?;
            if written > 0 {
                return Err(self.size_error(self.slot.size.saturating_add(1)));
            }
            if read == 0 && !inflate.ended {
                return Err(self.bad());
            }
        }
        let unread = inflate.from < inflate.input.len() || self.packed_left > 0;
        if unread { Err(self.bad()) } else { Ok(()) }
    }

    /// The hash of what was read so far.
    pub(super) fn hash(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    fn size_error(&self, found: u64) -> ArchiveError {
        let (name, said) = (self.name.clone(), self.slot.size);
        ArchiveError::Size { name, said, found }
    }

    fn bad(&self) -> ArchiveError {
        let (name, reason) = (self.name.clone(), "its packed bytes are damaged");
        ArchiveError::Entry { name, reason }
    }
}

impl Inflate {
    fn new() -> Self {
        Self { state: Decompress::new(false), input: Vec::new(), from: 0, ended: false }
    }

    /// Bytes taken and made; nothing for bytes that do not unpack.
    fn step(&mut self, output: &mut [u8]) -> Option<(usize, usize)> {
        if self.ended {
            return Some((0, 0));
        }
        let before = (self.state.total_in(), self.state.total_out());
        let input = self.input.get(self.from..)?;
        let status = self.state.decompress(input, output, FlushDecompress::None).ok()?;
        self.ended = status == Status::StreamEnd;
        let read = usize::try_from(self.state.total_in() - before.0).ok()?;
        let written = usize::try_from(self.state.total_out() - before.1).ok()?;
        self.from += read;
        Some((read, written))
    }
}

/// Whether CRC and sizes in an entry's own header are those of the directory, or stand elsewhere.
fn fits(slot: &Slot, [crc, packed, size]: [u32; 3]) -> bool {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let same = |field: u32, value: u64| field == narrow(value) || field == u32::MAX;
    if slot.has_descriptor() {
        let later = |field: u32, value| field == 0 || same(field, value);
        return (crc == 0 || crc == slot.crc)
            && later(packed, slot.packed)
            && later(size, slot.size);
    }
    crc == slot.crc && same(packed, slot.packed) && same(size, slot.size)
}
