//! An archive that is read off the runtime's threads.

use std::ops::Range;

use samara_protocol::hash::Digest;
use samara_protocol::signature::PublicKey;

use super::error::ArchiveError;
use super::format::{ArchivedEvent, ArchivedUser, ManifestCounts, VaultHead};
use super::limits::ArchiveLimits;
use super::read::{Archive, FileCursor, Signer, VerifiedArchive};
use super::seal::Passphrase;
use crate::world::{SeekRead, World, compute};

/// A version with bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The number of the event that put it.
    pub(crate) version: u64,
    pub(crate) size: u64,
    pub(crate) hash: Digest,
}

/// Bytes that are read at a time, about.
const PIECE: usize = 1 << 20;

type Verified = VerifiedArchive<Box<dyn SeekRead>>;

/// A verified archive. Each call takes it to a compute thread and back.
pub(crate) struct Shelf {
    world: World,
    archive: Option<Verified>,
    vault: VaultHead,
    counts: ManifestCounts,
    signer: Signer,
}

impl Shelf {
    /// Opens and verifies an archive: all of it but the bytes of files, which are checked as they are read.
    pub(crate) async fn open(
        world: World,
        file: Box<dyn SeekRead>,
        (passphrase, limits): (Option<Passphrase>, ArchiveLimits),
        ours: PublicKey,
    ) -> Result<Self, ArchiveError> {
        let verified = compute(world.compute.as_ref(), move || {
            Archive::open(file, passphrase.as_ref(), limits)?.verify(Some(&ours))
        });
        let archive = verified.await?;
        let (vault, counts, signer) =
            (archive.vault().clone(), archive.counts().clone(), archive.signer());
        Ok(Self { world, archive: Some(archive), vault, counts, signer })
    }

    pub(crate) const fn vault(&self) -> &VaultHead {
        &self.vault
    }

    pub(crate) const fn counts(&self) -> &ManifestCounts {
        &self.counts
    }

    pub(crate) const fn signer(&self) -> Signer {
        self.signer
    }

    async fn with<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Verified) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        // It is away only while a call is under way, and one that was dropped leaves nothing to read.
        let archive = self.archive.take();
        let mut archive =
            archive.ok_or_else(|| ArchiveError::Read("its reader was stopped".into()))?;
        let (done, archive) = compute(self.world.compute.as_ref(), move || {
            let done = job(&mut archive);
            (done, archive)
        })
        .await;
        self.archive = Some(archive);
        done
    }

    pub(crate) async fn users(&mut self) -> Result<Vec<ArchivedUser>, ArchiveError> {
        self.with(VerifiedArchive::users).await
    }

    /// All versions with bytes, in the order of their numbers.
    pub(crate) async fn versions(&mut self) -> Result<Vec<Wanted>, ArchiveError> {
        self.with(|archive| {
            let wanted = archive.versions().map(|version| {
                version.map(|known| Wanted {
                    version: known.version,
                    size: known.size,
                    hash: known.hash,
                })
            });
            wanted.collect()
        })
        .await
    }

    pub(crate) async fn events(
        &mut self,
        range: Range<u64>,
    ) -> Result<Vec<ArchivedEvent>, ArchiveError> {
        self.with(move |archive| range.map(|seq| archive.event(seq)).collect()).await
    }

    pub(crate) async fn open_file(&mut self, version: u64) -> Result<FileCursor, ArchiveError> {
        self.with(move |archive| archive.open_file(version)).await
    }

    /// The next bytes of a version, and the cursor behind them; no bytes at the end.
    pub(crate) async fn read(
        &mut self,
        mut cursor: FileCursor,
    ) -> Result<(Vec<u8>, FileCursor), ArchiveError> {
        self.with(move |archive| {
            let mut bytes = Vec::new();
            while bytes.len() < PIECE {
                match archive.read_file(&mut cursor)? {
                    Some(piece) => bytes.extend(piece),
                    None => break,
                }
            }
            Ok((bytes, cursor))
        })
        .await
    }
}
