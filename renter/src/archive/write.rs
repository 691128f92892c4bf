//! Writes an archive: fed with its parts in the format's order, drained of its bytes.
//!
//! ```text
//! event ... -> version ... -> (begin_file, file_bytes ..., end_file) ... -> meta -> record ... -> manifest -> finish
//! ```
//!
//! Nothing is awaited and nothing is looked up in between: an owner feeds a part, takes what has come of
//! it with [`ArchiveWriter::take`] and writes that wherever it goes. The same parts give the same bytes,
//! unless the archive is encrypted. What is kept of each entry until the end is its name twice, its size
//! and its hash: `docs/formats.md` has the bytes.

use std::io::Write as _;

use samara_protocol::hash::Digest;
use samara_protocol::journal::UserId;
use samara_protocol::signature::SecretKey;
use samara_protocol::units::ChainTime;
use serde::Serialize;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, System, ZIP64_BYTES_THR, ZipWriter};

use super::error::WriteError;
use super::format::{
    ArchivedChange, ArchivedEvent, ArchivedVersion, FormatDocument, HEADER, ManifestCounts,
    ManifestEntry, Names, SettingsDocument, SignatureDocument, UsersDocument, VERSION, VaultHead,
    row, sign_bytes,
};
use super::output::Output;
use super::seal::{Seal, Sink};

/// Entries of the manifest that are written at once.
const MANIFEST_PART: usize = 1_024;
/// Bytes of a manifest's entry beside its name, at most.
const MANIFEST_ENTRY: u64 = 128;

/// An event to be written; its number and its chain are the writer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// When it happened first, milliseconds since the Unix epoch.
    pub time: u64,
    /// Time of the newest block that its writer knew.
    pub chain_time: ChainTime,
    /// Who did it.
    pub actor: Option<UserId>,
    /// What happened.
    pub change: ArchivedChange,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What the manifest counts.
    pub counts: ManifestCounts,
    /// Entries, all of them.
    pub entries: u64,
    /// Bytes of the archive.
    pub size: u64,
    /// BLAKE3 of these, as `b3sum` prints it.
    pub hash: Digest,
}

/// How far an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Events,
    Versions,
    Files,
    Records,
    Manifest,
    Done,
}

/// Writes one archive.
pub struct ArchiveWriter {
    zip: ZipWriter<StreamWriter<Sink>>,
    output: Output,
    names: Names,
    key: SecretKey,
    stage: Stage,
    counts: ManifestCounts,
    files: u64,
    /// The entry that is open.
    open: Option<Open>,
    /// The version whose bytes it takes.
    version: Option<ArchivedVersion>,
    ledger: Ledger,
    /// Entries of the manifest that are written, and what is signed.
    listed: usize,
    signed: blake3::Hasher,
}

struct Open {
    name: String,
    size: u64,
    hasher: blake3::Hasher,
}

/// What the manifest says of the entries so far.
#[derive(Default)]
struct Ledger {
    /// All names, one behind the other.
    names: String,
    /// End of the name, bytes, hash.
    entries: Vec<(usize, u64, Digest)>,
}

impl Ledger {
    fn push(&mut self, name: &str, size: u64, hash: Digest) {
        self.names.push_str(name);
        self.entries.push((self.names.len(), size, hash));
    }

    fn entry(&self, index: usize) -> Option<ManifestEntry> {
        let (end, size, blake3) = *self.entries.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.entries.get(before));
        let start = before.map_or(0, |(end, ..)| *end);
        let name = self.names.get(start..end)?.to_owned();
        Some(ManifestEntry { name, size, blake3 })
    }
}

impl ArchiveWriter {
    /// Begins the archive of a vault.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn new(vault: VaultHead, key: SecretKey, seal: Option<&Seal>) -> Result<Self, WriteError> {
        let output = Output::default();
        let zip = ZipWriter::new_stream(Sink::new(output.clone(), seal)?);
        let sid = vault.sid;
        let counts = ManifestCounts {
            version: VERSION,
            vault: sid,
            events: 0,
            versions: 0,
            files: 0,
            users: 0,
            bytes: 0,
            head: Digest::ZERO,
        };
        let mut writer = Self {
            zip,
            output,
            names: Names::new(sid),
            key,
            stage: Stage::Events,
            counts,
            files: 0,
            open: None,
            version: None,
            ledger: Ledger::default(),
            listed: 0,
            signed: sign_bytes(),
        };
        writer.document(writer.names.format(), &FormatDocument::new(vault))?;
        Ok(writer)
    }

    /// Takes what has come of the parts so far.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.output.take()
    }

    /// The next event.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn event(&mut self, event: NewEvent) -> Result<(), WriteError> {
        self.reach(Stage::Events)?;
        let seq = self.counts.events;
        let NewEvent { time, chain_time, actor, change } = event;
        let prev_hash = self.counts.head;
        let event = ArchivedEvent { seq, time, chain_time, change, actor, prev_hash };
        self.counts.head = self.document(self.names.event(seq), &event)?;
        self.counts.events = seq.saturating_add(1);
        Ok(())
    }

    /// The next version, in the order of their numbers.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn version(&mut self, version: &ArchivedVersion) -> Result<(), WriteError> {
        self.reach(Stage::Versions)?;
        self.document(self.names.version(version.uid, version.version), version)?;
        let counts = &mut self.counts;
        counts.versions = counts.versions.saturating_add(1);
        counts.files = counts.files.saturating_add(u64::from(version.listed));
        counts.bytes = counts.bytes.saturating_add(version.size);
        Ok(())
    }

    /// Begins with the bytes of a version, in the order of the versions.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn begin_file(&mut self, version: ArchivedVersion) -> Result<(), WriteError> {
        self.reach(Stage::Files)?;
        self.start(version.file.clone(), version.size)?;
        self.version = Some(version);
        Ok(())
    }

    /// The next bytes of the version.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn file_bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let (Some(open), Some(version)) = (&self.open, &self.version) else {
            return Err(WriteError::Order("bytes without a file"));
        };
        if open.size.saturating_add(bytes.len() as u64) > version.size {
            return Err(changed(version));
        }
        self.push(bytes)
    }

    /// The version's bytes are all there. They are compared with its hash.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn end_file(&mut self) -> Result<(), WriteError> {
        let version = self.version.take().ok_or(WriteError::Order("the end without a file"))?;
        let (size, hash) = self.end()?;
        if (size, hash) != (version.size, version.hash) {
            return Err(changed(&version));
        }
        self.files = self.files.saturating_add(1);
        Ok(())
    }

    /// Users and settings, after the last file.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn meta(
        &mut self,
        users: &UsersDocument,
        settings: &SettingsDocument,
    ) -> Result<(), WriteError> {
        if self.files != self.counts.versions {
            return Err(WriteError::Order("there are not as many files as versions"));
        }
        if self.stage >= Stage::Records {
            return Err(WriteError::Order("users and settings twice"));
        }
        self.reach(Stage::Records)?;
        self.counts.users = users.users.len() as u64;
        self.document(self.names.users(), users)?;
        self.document(self.names.settings(), settings)?;
        // A row has at most a path that is quoted, and some 500 bytes.
        let most = self.counts.versions.saturating_mul(9 << 10);
        self.start(self.names.records(), most)?;
        self.push(HEADER.as_bytes())
    }

    /// A version's row in the table, in the order of the versions.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn record(&mut self, version: &ArchivedVersion) -> Result<(), WriteError> {
        if self.stage != Stage::Records {
            return Err(WriteError::Order("a row of the table without its head"));
        }
        self.push(row(&self.names, version).as_bytes())
    }

    /// The next part of the manifest. Returns whether more is to come.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn manifest(&mut self) -> Result<bool, WriteError> {
        if self.stage == Stage::Records {
            self.end()?;
            self.reach(Stage::Manifest)?;
            let entries = self.ledger.entries.len() as u64;
            let most = self.ledger.names.len() as u64 + entries * MANIFEST_ENTRY + 1_024;
            self.start(self.names.manifest(), most)?;
            let mut head = json(&self.counts)?;
            // The counts are the first fields of the manifest's object.
            head.pop();
            head.extend_from_slice(b",\"entries\":[");
            self.sign_and_push(&head)?;
        }
        if self.stage != Stage::Manifest {
            return Err(WriteError::Order("the manifest without users and settings"));
        }
        let mut part = Vec::new();
        for _ in 0..MANIFEST_PART {
            let Some(entry) = self.ledger.entry(self.listed) else { break };
            if self.listed > 0 {
                part.push(b',');
            }
            part.extend(json(&entry)?);
            self.listed += 1;
        }
        let more = self.listed < self.ledger.entries.len();
        if !more {
            part.extend_from_slice(b"]}");
        }
        self.sign_and_push(&part)?;
        if !more {
            self.end_unlisted()?;
            self.reach(Stage::Done)?;
        }
        Ok(more)
    }

    /// The signature and the end of the ZIP file. What is left to take then is in the last bytes.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(mut self) -> Result<(Written, Vec<u8>), WriteError> {
        if self.stage != Stage::Done {
            return Err(WriteError::Order("the end before the manifest"));
        }
        let signature = self.key.sign(self.signed.finalize().as_bytes());
        let document = json(&SignatureDocument::new(self.key.public(), &signature))?;
        self.start(self.names.signature(), document.len() as u64)?;
        self.push(&document)?;
        self.end_unlisted()?;
        let entries = self.ledger.entries.len() as u64 + 2;
        let Self { zip, output, counts, .. } = self;
        zip.finish()?.into_inner().finish()?;
        let (size, hash) = output.end();
        Ok((Written { counts, entries, size, hash }, output.take()))
    }

    fn reach(&mut self, stage: Stage) -> Result<(), WriteError> {
        if self.open.is_some() || stage < self.stage {
            return Err(WriteError::Order("a part after its place"));
        }
        self.stage = stage;
        Ok(())
    }

    /// A whole entry of JSON; returns the hash of its bytes.
    fn document<T: Serialize>(&mut self, name: String, value: &T) -> Result<Digest, WriteError> {
        let bytes = json(value)?;
        self.start(name, bytes.len() as u64)?;
        self.push(&bytes)?;
        Ok(self.end()?.1)
    }

    /// Begins an entry of at most so many bytes.
    fn start(&mut self, name: String, most: u64) -> Result<(), WriteError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(0o644)
            .system(System::Unix)
            .large_file(most >= ZIP64_BYTES_THR);
        self.zip.start_file(name.as_str(), options)?;
        self.open = Some(Open { name, size: 0, hasher: blake3::Hasher::new() });
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let open = self.open.as_mut().ok_or(WriteError::Order("bytes without an entry"))?;
        open.size = open.size.saturating_add(bytes.len() as u64);
        open.hasher.update(bytes);
        Ok(self.zip.write_all(bytes)?)
    }

    fn sign_and_push(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.signed.update(bytes);
        self.push(bytes)
    }

    /// Ends an entry that the manifest lists.
    fn end(&mut self) -> Result<(u64, Digest), WriteError> {
        let Open { name, size, hasher } = self.end_unlisted()?;
        let hash = Digest(*hasher.finalize().as_bytes());
        self.ledger.push(&name, size, hash);
        Ok((size, hash))
    }

    /// The ZIP writer ends an entry by itself when the next begins.
    fn end_unlisted(&mut self) -> Result<Open, WriteError> {
        self.open.take().ok_or(WriteError::Order("the end without an entry"))
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, WriteError> {
    serde_json::to_vec(value).map_err(|error| WriteError::Zip(error.to_string()))
}

fn changed(version: &ArchivedVersion) -> WriteError {
    WriteError::Hash { path: version.path.to_string(), version: version.version }
}
