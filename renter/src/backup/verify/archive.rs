//! An archive read back: its file as it was written, and what is in it as an import would read it.

use std::path::Path;

use bytes::BytesMut;
use samara_protocol::journal::BackupId;

use super::types::{ALL, VerifyOptions, VerifyProblem, VerifyProblemKind, VerifyReport};
use crate::archive::{ArchiveError, ArchiveLimits, Shelf};
use crate::backup::{BackupError, BackupKind, Backups};
use crate::progress::{Meter, Phase, Progress, Unit};
use crate::vault::update_hash;
use crate::world::FileError;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;
/// What to do where an archive's file is no good.
const ARCHIVE: &str = "make another archive with `samara backup create --archive`, or go back to a copy that you have downloaded; \
     then give this one up with `samara backup delete`";

/// How the reading of an archive's file failed.
enum Broken {
    /// The archive is not what it was.
    Damaged(String),
    /// It cannot be said.
    Failed(BackupError),
}

impl From<FileError> for Broken {
    fn from(error: FileError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ArchiveError> for Broken {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Passphrase | ArchiveError::NotSealed | ArchiveError::Read(_) => {
                Self::Failed(error.into())
            }
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl Backups {
    /// Reads an archive's file back. It costs nothing: the file is this node's.
    pub(super) async fn verify_archive(
        &self,
        id: BackupId,
        options: &VerifyOptions,
        progress: &dyn Progress,
    ) -> Result<VerifyReport, BackupError> {
        let (path, size, hash) = self.archive_file(&id.to_string())?;
        let started = self.now();
        let mut report = VerifyReport {
            sid: id.to_string(),
            name: self.row(id)?.name,
            kind: BackupKind::Archive,
            dry_run: options.dry_run,
            share: ALL,
            ..VerifyReport::default()
        };
        if options.dry_run {
            return Ok(report);
        }
        let _turn = self.shared.verifying.acquire().await.ok();
        let read = async {
            self.compare_file(&path, (size, &hash), &mut report, progress).await?;
            self.read_contents(&path, options, &mut report, progress).await
        };
        match read.await {
            Ok(()) => {}
            Err(Broken::Failed(error)) => return Err(error),
            Err(Broken::Damaged(message)) => report.note(VerifyProblem {
                kind: VerifyProblemKind::Archive,
                file: None,
                slab: None,
                hosts: Vec::new(),
                message,
                advice: ARCHIVE.to_owned(),
            }),
        }
        report.sound = report.problems_total == 0;
        report.elapsed = self.now().saturating_sub(started);
        self.note_verified(id, &report).await?;
        Ok(report)
    }

    /// Compares the file with what was noted when it was written.
    async fn compare_file(
        &self,
        path: &Path,
        (size, hash): (u64, &str),
        report: &mut VerifyReport,
        progress: &dyn Progress,
    ) -> Result<(), Broken> {
        let now = self.now();
        let mut meter = Meter::new(progress, Phase::VerifyingData, Unit::Bytes, Some(size), now);
        let files = &self.vaults.world.files;
        if files.stat(path).await?.is_none() {
            return Err(Broken::Damaged(format!("{} is gone", path.display())));
        }
        let mut file = files.open(path).await?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let mut piece = BytesMut::zeroed(PIECE);
            let count = file.read(&mut piece).await?;
            if count == 0 {
                break;
            }
            hasher = update_hash(&self.vaults, hasher, piece.split_to(count).freeze()).await;
            report.file_bytes = report.file_bytes.saturating_add(count as u64);
            meter.done = report.file_bytes;
            meter.report(None, self.now());
        }
        let found = hasher.finalize().to_hex();
        if (report.file_bytes, found.as_str()) == (size, hash) {
            return Ok(());
        }
        let (shown, found_size) = (path.display(), report.file_bytes);
        Err(Broken::Damaged(format!(
            "{shown} is not what was written: it has {found_size} bytes with the BLAKE3 {found}, and \
             should have {size} bytes with {hash}"
        )))
    }

    /// Reads all that is in it, as an import would: signature, events, and the bytes of each version.
    async fn read_contents(
        &self,
        path: &Path,
        options: &VerifyOptions,
        report: &mut VerifyReport,
        progress: &dyn Progress,
    ) -> Result<(), Broken> {
        let world = &self.vaults.world;
        let file = world.files.open_seekable(path).await?;
        let how = (options.passphrase.clone(), ArchiveLimits::default());
        let ours = self.vaults.slabs.book().keys().archive().public();
        let mut shelf = match Shelf::open(world.clone(), file, how, ours).await {
            // Its bytes are what was written, which is all that can be said without the passphrase.
            Err(ArchiveError::Sealed) => return Ok(()),
            opened => opened?,
        };
        report.events = shelf.counts().events;
        let (total, now) = (shelf.counts().bytes, self.now());
        let mut meter = Meter::new(progress, Phase::VerifyingData, Unit::Bytes, Some(total), now);
        for wanted in shelf.versions().await? {
            let mut cursor = shelf.open_file(wanted.version).await?;
            loop {
                // What has come to its end has its hash.
                let (bytes, next) = shelf.read(cursor).await?;
                if bytes.is_empty() {
                    break;
                }
                cursor = next;
                meter.done = meter.done.saturating_add(bytes.len() as u64);
                meter.report(None, self.now());
            }
            report.files = report.files.saturating_add(1);
        }
        Ok(())
    }
}
