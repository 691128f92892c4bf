//! What a verified archive gives. Each entry's hash is checked again whenever it is read: the file under it
//! may change.

use std::io::{Read, Seek};

use samara_protocol::journal::VaultId;

use super::super::error::ArchiveError;
use super::super::format::{
    ArchivedEvent, ArchivedUser, ArchivedVersion, ManifestCounts, SettingsDocument, VaultHead,
};
use super::entry::EntryReader;
use super::verify::Signer;
use super::{Archive, Outline};

/// An archive whose documents are what its signer has written, and fit together. Files' bytes are checked
/// as they are read.
pub struct VerifiedArchive<R> {
    archive: Archive<R>,
    counts: ManifestCounts,
    signer: Signer,
}

/// Where the reading of one version's bytes is. It holds nothing of the archive.
pub struct FileCursor(EntryReader);

impl<R: Read + Seek> VerifiedArchive<R> {
    pub(super) const fn new(archive: Archive<R>, counts: ManifestCounts, signer: Signer) -> Self {
        Self { archive, counts, signer }
    }

    /// The vault.
    #[must_use]
    pub const fn vault(&self) -> &VaultHead {
        self.archive.vault()
    }

    /// The vault's id.
    #[must_use]
    pub const fn vault_id(&self) -> VaultId {
        self.archive.vault_id()
    }

    /// Who has signed.
    #[must_use]
    pub const fn signer(&self) -> Signer {
        self.signer
    }

    /// What the manifest counts; all of it was compared with what there is.
    #[must_use]
    pub const fn counts(&self) -> &ManifestCounts {
        &self.counts
    }

    /// What its directory shows.
    #[must_use]
    pub fn outline(&self) -> Outline {
        self.archive.outline()
    }

    /// An event.
    ///
    /// # Errors
    /// [`ArchiveError::Read`] and [`ArchiveError::Hash`], where the file has changed since it was opened;
    /// [`ArchiveError::Missing`] behind the last.
    pub fn event(&mut self, seq: u64) -> Result<ArchivedEvent, ArchiveError> {
        if seq >= self.counts.events {
            return Err(ArchiveError::Missing(self.archive.layout.names.event(seq)));
        }
        Ok(self.archive.event(seq)?.0)
    }

    /// All events in order.
    pub fn events(&mut self) -> Events<'_, R> {
        Events { archive: self, next: 0 }
    }

    /// What is said of a version, by its number.
    ///
    /// # Errors
    /// [`ArchiveError::NoVersion`] for one without bytes here, and as [`VerifiedArchive::event`].
    pub fn version(&mut self, version: u64) -> Result<ArchivedVersion, ArchiveError> {
        let position = self.archive.layout.position(version);
        self.archive.version_at(position.ok_or(ArchiveError::NoVersion(version))?)
    }

    /// All versions with bytes, in the order of their numbers.
    pub fn versions(&mut self) -> Versions<'_, R> {
        Versions { archive: self, next: 0 }
    }

    /// Users, by id.
    ///
    /// # Errors
    /// As [`VerifiedArchive::event`].
    pub fn users(&mut self) -> Result<Vec<ArchivedUser>, ArchiveError> {
        Ok(self.archive.users()?.users)
    }

    /// The vault's settings.
    ///
    /// # Errors
    /// As [`VerifiedArchive::event`].
    pub fn settings(&mut self) -> Result<SettingsDocument, ArchiveError> {
        self.archive.settings()
    }

    /// Starts to read the bytes of a version.
    ///
    /// # Errors
    /// As [`VerifiedArchive::version`].
    pub fn open_file(&mut self, version: u64) -> Result<FileCursor, ArchiveError> {
        let position = self.archive.layout.position(version);
        let position = position.ok_or(ArchiveError::NoVersion(version))?;
        self.archive.entry(self.archive.layout.file(position)).map(FileCursor)
    }

    /// The next bytes of a version, at most 64 KiB; nothing at the end. The last are given after all
    /// were compared with the hash, so what has come to its end is right, and what has not is nothing.
    ///
    /// # Errors
    /// As [`VerifiedArchive::version`].
    pub fn read_file(&mut self, cursor: &mut FileCursor) -> Result<Option<Vec<u8>>, ArchiveError> {
        cursor.0.next(&mut self.archive.source)
    }

    /// Reads the bytes of all versions and compares them with their hashes; `read` is told of each piece,
    /// and stops it by `false`. Returns whether it came to the end.
    ///
    /// # Errors
    /// As [`VerifiedArchive::version`].
    pub fn check_files(&mut self, mut read: impl FnMut(u64) -> bool) -> Result<bool, ArchiveError> {
        for position in 0..self.archive.layout.versions.len() {
            let mut cursor =
                self.archive.entry(self.archive.layout.file(position)).map(FileCursor)?;
            while let Some(piece) = self.read_file(&mut cursor)? {
                if !read(piece.len() as u64) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// The events of an archive. After an error it ends.
pub struct Events<'a, R> {
    archive: &'a mut VerifiedArchive<R>,
    next: u64,
}

impl<R: Read + Seek> Iterator for Events<'_, R> {
    type Item = Result<ArchivedEvent, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        let seq = self.next;
        if seq >= self.archive.counts.events {
            return None;
        }
        let event = self.archive.event(seq);
        self.next = if event.is_ok() { seq.saturating_add(1) } else { u64::MAX };
        Some(event)
    }
}

/// The versions of an archive. After an error it ends.
pub struct Versions<'a, R> {
    archive: &'a mut VerifiedArchive<R>,
    next: usize,
}

impl<R: Read + Seek> Iterator for Versions<'_, R> {
    type Item = Result<ArchivedVersion, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.next;
        if position >= self.archive.archive.layout.versions.len() {
            return None;
        }
        let version = self.archive.archive.version_at(position);
        self.next = if version.is_ok() { position.saturating_add(1) } else { usize::MAX };
        Some(version)
    }
}
