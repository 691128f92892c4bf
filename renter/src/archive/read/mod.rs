//! Reads archives from anywhere. Everything in them is somebody's word until it was checked.
//!
//! ```text
//! bytes -> Archive (directory read, structure checked) -> verify -> VerifiedArchive -> events, versions, users,
//!                                                                                      a file by its version
//! ```
//!
//! Reading blocks and takes processor time, so callers do it in `world.compute`; nothing here is held
//! across two calls but the archive itself, so a caller can go back and forth. What is kept of each entry
//! is where it is and its hash.
//!
//! The ZIP file is read by rules that leave no room: entries lie one behind the other from the first byte
//! on, the directory follows, its end record ends the file, and each entry has the one name that the format
//! gives it, at its place. So there is nothing hidden, nothing twice, and nothing that another
//! program would see otherwise.

mod directory;
mod entry;
mod fold;
mod layout;
mod manifest;
mod source;
mod verified;
mod verify;

use std::io::{Read, Seek};

use samara_protocol::hash::Digest;
use samara_protocol::journal::VaultId;
use serde::de::DeserializeOwned;

use self::directory::{Directory, LOCAL_LENGTH, Slot};
use self::entry::{EntryReader, Place};
use self::layout::{Layout, check_name};
use self::source::Source;
pub use self::verified::{Events, FileCursor, VerifiedArchive, Versions};
pub use self::verify::Signer;
use super::error::{ArchiveError, shown};
use super::format::{FormatDocument, KIND, VERSION, VaultHead};
use super::limits::ArchiveLimits;
use super::seal::Passphrase;

/// An archive whose directory was read and whose structure is that of the format. What its documents say
/// was not compared with anything.
pub struct Archive<R> {
    source: Source<R>,
    limits: ArchiveLimits,
    directory: Directory,
    slots: Vec<Slot>,
    /// What the manifest says, once that is known.
    hashes: Vec<Digest>,
    layout: Layout,
    format: FormatDocument,
}

/// What an archive's directory shows before anything is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Bytes of the archive, unsealed.
    pub size: u64,
    /// Entries.
    pub entries: u64,
    /// Events.
    pub events: u64,
    /// Versions with bytes.
    pub versions: u64,
    /// Bytes of all entries, unpacked.
    pub unpacked: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory. A passphrase is for an archive that is encrypted, and only for one.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(
        inner: R,
        passphrase: Option<&Passphrase>,
        limits: ArchiveLimits,
    ) -> Result<Self, ArchiveError> {
        let mut source = Source::open(inner, passphrase, &limits)?;
        let directory = Directory::find(&mut source, &limits)?;
        let mut walk = Walk { directory, at: directory.start, unpacked: 0, local_end: 0 };
        let Some((first, name)) = walk.next(&mut source, &limits)? else {
            return Err(ArchiveError::NoFormat);
        };
        let Some(layout) = Layout::begin(&name) else {
            return Err(walk.without_format(&mut source, &limits));
        };
        let second = walk.peek(&mut source, &limits)?.unwrap_or(directory.start);
        let document = Document { slot: first, name: &name, end: second, hash: None };
        let format: FormatDocument = document.read(&mut source, &limits)?;
        check_format(&format, layout.sid())?;
        let (slots, hashes) = (vec![first], Vec::new());
        let mut archive = Self { source, limits, directory, slots, hashes, layout, format };
        while let Some((slot, name)) = walk.next(&mut archive.source, &limits)? {
            archive.layout.take(&name)?;
            archive.slots.push(slot);
        }
        archive.layout.end()?;
        Ok(archive)
    }

    /// The vault, as the archive calls it.
    #[must_use]
    pub const fn vault(&self) -> &VaultHead {
        &self.format.vault
    }

    /// What its directory shows.
    #[must_use]
    pub fn outline(&self) -> Outline {
        Outline {
            size: self.source.length(),
            entries: self.slots.len() as u64,
            events: self.layout.events,
            versions: self.layout.versions.len() as u64,
            unpacked: self.slots.iter().map(|slot| slot.size).fold(0, u64::saturating_add),
        }
    }

    const fn vault_id(&self) -> VaultId {
        self.format.vault.sid
    }

    fn slot(&self, index: usize) -> Result<Slot, ArchiveError> {
        self.slots.get(index).copied().ok_or(ArchiveError::Structure("an entry is missing"))
    }

    /// The name that the directory has for an entry.
    fn name(&mut self, index: usize) -> Result<String, ArchiveError> {
        let slot = self.slot(index)?;
        let header = self.directory.header(&mut self.source, slot.header, &self.limits)?;
        let name = String::from_utf8(header.name);
        name.map_err(|_| ArchiveError::Structure("its directory has changed while it was read"))
    }

    /// Starts to read an entry.
    fn entry(&mut self, index: usize) -> Result<EntryReader, ArchiveError> {
        let (slot, name) = (self.slot(index)?, self.name(index)?);
        let next = self.slots.get(index + 1).map(|next| next.local);
        let (end, hash) = (next.unwrap_or(self.directory.start), self.hashes.get(index).copied());
        EntryReader::open(&mut self.source, Place { slot, name: name.as_bytes(), end, hash })
    }

    /// A document and the hash of its bytes.
    fn document<T: DeserializeOwned>(&mut self, index: usize) -> Result<(T, Digest), ArchiveError> {
        let name = self.name(index)?;
        let bytes = self.whole(index, &name)?;
        let hash = Digest(*blake3::hash(&bytes).as_bytes());
        Ok((parse(&name, &bytes)?, hash))
    }

    fn whole(&mut self, index: usize, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let size = self.slot(index)?.size;
        check_document(size, &self.limits)?;
        let mut reader = self.entry(index)?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next(&mut self.source)? {
            bytes.extend(piece);
        }
        debug_assert_eq!(bytes.len() as u64, size, "{name}");
        Ok(bytes)
    }
}

/// The first document, which is read before the rest of the directory.
struct Document<'a> {
    slot: Slot,
    name: &'a str,
    end: u64,
    hash: Option<Digest>,
}

impl Document<'_> {
    fn read<R: Read + Seek, T: DeserializeOwned>(
        self,
        source: &mut Source<R>,
        limits: &ArchiveLimits,
    ) -> Result<T, ArchiveError> {
        let Self { slot, name, end, hash } = self;
        check_document(slot.size, limits)?;
        let mut reader =
            EntryReader::open(source, Place { slot, name: name.as_bytes(), end, hash })?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next(source)? {
            bytes.extend(piece);
        }
        parse(name, &bytes)
    }
}

const fn check_document(size: u64, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let (what, limit) = ("a document", limits.document);
    if size > limit { Err(ArchiveError::Limit { what, found: size, limit }) } else { Ok(()) }
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (name, reason) = (name.to_owned(), shown(error.to_string().as_bytes()));
        ArchiveError::Document { name, reason }
    })
}

fn check_format(format: &FormatDocument, sid: &str) -> Result<(), ArchiveError> {
    let FormatDocument { kind, version, oldest_reader, vault } = format;
    if kind != KIND {
        return Err(ArchiveError::Kind(shown(kind.as_bytes())));
    }
    if *oldest_reader > VERSION {
        let (version, oldest_reader) = (*version, *oldest_reader);
        return Err(ArchiveError::Newer { version, oldest_reader, known: VERSION });
    }
    if vault.sid.to_string() != sid {
        let (name, reason) = (format!("{sid}/format.json"), "it is of another vault");
        return Err(ArchiveError::Contradiction { name, reason });
    }
    Ok(())
}

/// One walk over the directory.
struct Walk {
    directory: Directory,
    at: u64,
    unpacked: u64,
    /// The least place at which the next entry can be.
    local_end: u64,
}

impl Walk {
    /// The next entry with its name.
    fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        limits: &ArchiveLimits,
    ) -> Result<Option<(Slot, String)>, ArchiveError> {
        if self.at == self.directory.end {
            return match self.directory.entries {
                0 => Ok(None),
                _ => Err(ArchiveError::Structure("its directory has fewer entries than it says")),
            };
        }
        if self.directory.entries == 0 {
            return Err(ArchiveError::Structure("its directory has more entries than it says"));
        }
        let header = self.directory.header(source, self.at, limits)?;
        let name = check_name(&header.name, limits)?.to_owned();
        let slot = header.slot;
        self.take(&slot, name.len() as u64, limits)?;
        self.directory.entries -= 1;
        self.at = header.next;
        Ok(Some((slot, name)))
    }

    /// Entries neither overlap nor are more than may be unpacked.
    fn take(&mut self, slot: &Slot, name: u64, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
        let first = self.at == self.directory.start;
        if slot.local < self.local_end {
            return Err(ArchiveError::Structure("entries overlap"));
        }
        if first && slot.local != 0 {
            return Err(ArchiveError::Structure("something is before its first entry"));
        }
        let least = slot.local.checked_add(LOCAL_LENGTH + name);
        let end = least.and_then(|least| least.checked_add(slot.packed));
        let end = end.filter(|end| *end <= self.directory.start);
        self.local_end =
            end.ok_or(ArchiveError::Structure("an entry reaches into the directory"))?;
        self.unpacked = self.unpacked.saturating_add(slot.size);
        let (what, found, limit) = ("an unpacked size", self.unpacked, limits.unpacked);
        if found > limit { Err(ArchiveError::Limit { what, found, limit }) } else { Ok(()) }
    }

    /// Where the next entry begins.
    fn peek<R: Read + Seek>(
        &self,
        source: &mut Source<R>,
        limits: &ArchiveLimits,
    ) -> Result<Option<u64>, ArchiveError> {
        if self.directory.entries == 0 {
            return Ok(None);
        }
        Ok(Some(self.directory.header(source, self.at, limits)?.slot.local))
    }

    /// Why the first entry is not the format.
    fn without_format<R: Read + Seek>(
        mut self,
        source: &mut Source<R>,
        limits: &ArchiveLimits,
    ) -> ArchiveError {
        loop {
            match self.next(source, limits) {
                Ok(Some((_, name))) if Layout::begin(&name).is_some() => {
                    return ArchiveError::FormatNotFirst;
                }
                Ok(Some(_)) => {}
                Ok(None) => return ArchiveError::NoFormat,
                Err(error) => return error,
            }
        }
    }
}
