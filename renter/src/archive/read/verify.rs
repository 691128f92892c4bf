//! From an archive that anybody could have written to one that its signer has.
//!
//! The signature covers the manifest, the manifest every entry before it, and the events everything that is
//! said of versions. So the steps are: signature, manifest against directory, events one by one
//! through the journal's own rules, versions against what those have led to.

use std::io::{Read, Seek};

use samara_protocol::hash::Digest;
use samara_protocol::signature::PublicKey;

use super::super::error::{ArchiveError, shown};
use super::super::format::{
    ArchivedEvent, ArchivedVersion, ManifestCounts, ManifestEntry, SettingsDocument,
    SignatureDocument, UsersDocument, sign_bytes,
};
use super::Archive;
use super::fold::Fold;
use super::manifest::{ManifestReader, Part};
use super::verified::VerifiedArchive;

/// Who has signed an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The words of this node.
    Ours,
    /// Other words. Whether they are to be trusted is the caller's to say.
    Other(PublicKey),
}

impl<R: Read + Seek> Archive<R> {
    /// Checks everything but the bytes of files, which are checked as they are read: see
    /// [`VerifiedArchive::check_files`]. `ours` is the archive key of this node's words.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn verify(mut self, ours: Option<&PublicKey>) -> Result<VerifiedArchive<R>, ArchiveError> {
        let signer = self.check_signature(ours)?;
        let counts = self.read_manifest()?;
        let fold = self.check_events(&counts)?;
        self.check_versions(&fold, &counts)?;
        self.check_meta(&fold, &counts)?;
        Ok(VerifiedArchive::new(self, counts, signer))
    }

    fn check_signature(&mut self, ours: Option<&PublicKey>) -> Result<Signer, ArchiveError> {
        let manifest = self.layout.users() + 3;
        let (signature, _) = self.document::<SignatureDocument>(manifest + 1)?;
        let mut signed = sign_bytes();
        let mut reader = self.entry(manifest)?;
        while let Some(piece) = reader.next(&mut self.source)? {
            signed.update(&piece);
        }
        if !signature.holds(signed.finalize().as_bytes()) {
            return Err(ArchiveError::Signature);
        }
        let key = signature.key;
        Ok(if ours == Some(&key) { Signer::Ours } else { Signer::Other(key) })
    }

    /// Compares the manifest with the directory, and keeps its hashes.
    fn read_manifest(&mut self) -> Result<ManifestCounts, ArchiveError> {
        let index = self.layout.users() + 3;
        let name = self.name(index)?;
        let mut manifest = ManifestReader::new(name.clone());
        let mut reader = self.entry(index)?;
        let mut counts = None;
        let mut hashes = Vec::new();
        while let Some(piece) = reader.next(&mut self.source)? {
            let mut parts = Vec::new();
            manifest.feed(&piece, |part| {
                parts.push(part);
                Ok(())
            })?;
            for part in parts {
                match part {
                    Part::Counts(found) => counts = Some(found),
                    Part::Entry(entry) => {
                        self.check_entry(hashes.len(), index, counts.as_ref(), &entry)?;
                        hashes.push(entry.blake3);
                    }
                }
            }
        }
        manifest.finish()?;
        if hashes.len() < index {
            return Err(ArchiveError::Additional(self.name(hashes.len())?));
        }
        let counts = counts.ok_or(ArchiveError::Missing(name.clone()))?;
        let found = (self.layout.events, self.layout.versions.len() as u64, self.vault_id());
        if (counts.events, counts.versions, counts.vault) != found {
            let reason = "it counts other events or versions than there are";
            return Err(ArchiveError::Contradiction { name, reason });
        }
        self.hashes = hashes;
        Ok(counts)
    }

    /// Compares an entry of the manifest with that of the directory at its place.
    fn check_entry(
        &mut self,
        at: usize,
        entries: usize,
        counts: Option<&ManifestCounts>,
        entry: &ManifestEntry,
    ) -> Result<(), ArchiveError> {
        let missing = || ArchiveError::Missing(shown(entry.name.as_bytes()));
        if at >= entries {
            return Err(missing());
        }
        let name = self.name(at)?;
        if name != entry.name {
            let (events, versions) = counts.map_or((0, 0), |c| (c.events, c.versions));
            let found = (self.layout.events, self.layout.versions.len() as u64);
            return Err(if (events, versions) > found {
                missing()
            } else {
                ArchiveError::Additional(name)
            });
        }
        let found = self.slot(at)?.size;
        if found != entry.size {
            return Err(ArchiveError::Size { name, said: entry.size, found });
        }
        Ok(())
    }

    fn check_events(&mut self, counts: &ManifestCounts) -> Result<Fold, ArchiveError> {
        // The format's own bytes, which were read before there was a manifest.
        self.drain(0)?;
        let mut fold = Fold::new(self.vault_id());
        let mut before = Digest::ZERO;
        for seq in 0..self.layout.events {
            let (event, hash) = self.event(seq)?;
            if event.prev_hash != before {
                return Err(ArchiveError::Chain(seq));
            }
            fold.take(event)?;
            before = hash;
        }
        let vault = &self.format.vault;
        let same =
            fold.name() == Some(vault.name.as_str()) && fold.created() == Some(vault.created);
        let contradiction = |name: String, reason| ArchiveError::Contradiction { name, reason };
        if !same {
            let reason = "the vault's events give it another name or another beginning";
            return Err(contradiction(self.layout.names.format(), reason));
        }
        if before != counts.head {
            let reason = "its head is not the hash of the last event";
            return Err(contradiction(self.layout.names.manifest(), reason));
        }
        Ok(fold)
    }

    /// An event and the hash of its bytes.
    pub(super) fn event(&mut self, seq: u64) -> Result<(ArchivedEvent, Digest), ArchiveError> {
        let found = self.document::<ArchivedEvent>(self.layout.event(seq))?;
        match found.0.seq == seq {
            true => Ok(found),
            false => Err(ArchiveError::Number { expected: seq, found: found.0.seq }),
        }
    }

    fn check_versions(&mut self, fold: &Fold, counts: &ManifestCounts) -> Result<(), ArchiveError> {
        let expected = fold.versions();
        let present: Vec<u64> = self.layout.versions.iter().map(|(_, version)| *version).collect();
        if let Some(version) = expected.iter().find(|n| present.binary_search(n).is_err()) {
            return Err(ArchiveError::NoFile { version: *version });
        }
        let (mut files, mut bytes) = (0u64, 0u64);
        for position in 0..present.len() {
            let version = self.version_at(position)?;
            let name = self.name(self.layout.version(position))?;
            let contradiction =
                |reason| Err(ArchiveError::Contradiction { name: name.clone(), reason });
            if let Some(reason) = fold.contradiction(&version) {
                return contradiction(reason);
            }
            let file = self.layout.file(position);
            if self.name(file)? != version.file {
                return contradiction("it names another entry for its bytes");
            }
            if self.hashes.get(file) != Some(&version.hash) {
                return contradiction("the manifest has another hash for its bytes");
            }
            let (said, found) = (version.size, self.slot(file)?.size);
            if said != found {
                return Err(ArchiveError::Size { name: version.file, said, found });
            }
            files = files.saturating_add(u64::from(version.listed));
            bytes = bytes.saturating_add(version.size);
        }
        if (files, bytes) != (counts.files, counts.bytes) {
            let (name, reason) = (self.layout.names.manifest(), "it counts other files or bytes");
            return Err(ArchiveError::Contradiction { name, reason });
        }
        Ok(())
    }

    /// What is said of a version, by its place among them.
    pub(super) fn version_at(&mut self, position: usize) -> Result<ArchivedVersion, ArchiveError> {
        let index = self.layout.version(position);
        let (version, _) = self.document::<ArchivedVersion>(index)?;
        let expected = self.layout.versions.get(position);
        if expected != Some(&(version.uid, version.version)) {
            let (name, reason) = (self.name(index)?, "it is of another version than its name says");
            return Err(ArchiveError::Contradiction { name, reason });
        }
        Ok(version)
    }

    fn check_meta(&mut self, fold: &Fold, counts: &ManifestCounts) -> Result<(), ArchiveError> {
        let users = self.users()?;
        let names = self.layout.names;
        let sorted = users.users.windows(2).all(|pair| pair[0].id < pair[1].id);
        if users.users.len() as u64 != counts.users || !sorted {
            let reason = "the manifest counts others, or they are not in order";
            return Err(ArchiveError::Contradiction { name: names.users(), reason });
        }
        if self.settings()? != fold.settings() {
            let reason = "the events have left other settings";
            return Err(ArchiveError::Contradiction { name: names.settings(), reason });
        }
        self.drain(self.layout.users() + 2)
    }

    pub(super) fn users(&mut self) -> Result<UsersDocument, ArchiveError> {
        Ok(self.document(self.layout.users())?.0)
    }

    pub(super) fn settings(&mut self) -> Result<SettingsDocument, ArchiveError> {
        Ok(self.document(self.layout.users() + 1)?.0)
    }

    /// Reads an entry to its end, so that its hash is checked.
    pub(super) fn drain(&mut self, index: usize) -> Result<(), ArchiveError> {
        let mut reader = self.entry(index)?;
        while reader.next(&mut self.source)?.is_some() {}
        Ok(())
    }
}
