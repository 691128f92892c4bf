//! Archives as backups: files in one folder of this node, named by the backup's id.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_protocol::journal::BackupId;

use super::record::ArchiveFile;
use super::state::{BackupState, BackupStep};
use super::types::{BackupKind, BackupRow};
use super::{BackupError, Backups};
use crate::archive::{ArchivedUser, ExportReport, ExportRequest, Passphrase, Seal, Written};
use crate::contract::Budget;
use crate::progress::Progress;
use crate::vault::VaultError;
use crate::world::{FileError, FileKind};

/// Who is known by an id, for those who read an archive elsewhere.
pub type People = Arc<dyn Fn() -> Vec<ArchivedUser> + Send + Sync>;

/// Where archives are kept, and whom they tell of.
pub(super) struct Archives {
    pub(super) folder: PathBuf,
    pub(super) people: People,
}

impl Backups {
    /// Keeps archives in a folder from here on. What lies there of a backup that is not complete, because a
    /// crash came between, is removed. What belongs to no backup that is known stays: it may be the only copy.
    pub(crate) async fn keep_archives_in(
        &self,
        folder: PathBuf,
        people: People,
    ) -> Result<(), BackupError> {
        let files = &self.vaults.world.files;
        files.create_folder(&folder, &folder).await?;
        files.remove_unfinished(&folder, &folder).await?;
        for entry in files.walk(&folder).await?.into_iter().flatten() {
            if entry.kind != FileKind::File {
                continue;
            }
            let path = entry.path.display();
            match self.state_of_file(&entry.path) {
                Some(BackupState::Completed) => {}
                Some(_) => {
                    tracing::info!(%path, "what a crash has left of an archive is removed");
                    files.remove_file(&folder, &entry.path).await?;
                }
                None => {
                    tracing::warn!(%path, "this file is of no backup that is known: it is left alone")
                }
            }
        }
        *samara_protocol::sync::lock(&self.shared.archives) =
            Some(Arc::new(Archives { folder, people }));
        Ok(())
    }

    /// The state of the backup whose file this is.
    fn state_of_file(&self, path: &Path) -> Option<BackupState> {
        let name = path.file_name()?.to_str()?;
        let id: BackupId = name.split('.').next()?.parse().ok()?;
        self.record(id).map(|record| record.state)
    }

    pub(super) fn archives(&self) -> Result<Arc<Archives>, BackupError> {
        let archives = samara_protocol::sync::lock(&self.shared.archives).clone();
        archives.ok_or(BackupError::NoPlace)
    }

    /// The file of a backup.
    fn archive_path(archives: &Archives, id: BackupId, encrypted: bool) -> PathBuf {
        let ending = if encrypted { "zip.age" } else { "zip" };
        archives.folder.join(format!("{id}.{ending}"))
    }

    /// Writes an archive, and pays no more than was agreed to.
    pub(super) async fn make_archive(
        &self,
        id: BackupId,
        passphrase: Option<Passphrase>,
        progress: &dyn Progress,
    ) -> Result<(), BackupError> {
        let archives = self.archives()?;
        let Some(record) = self.record(id) else { return Ok(()) };
        let scope = record.scope.as_ref().map(|(vault, _)| *vault);
        let name = self.vaults.journal.read(|state| {
            let vault = scope.and_then(|id| state.vaults.get(&id));
            vault.map(|vault| vault.name.clone())
        });
        let gone = || VaultError::NoVault(record.scope.map(|(_, name)| name).unwrap_or_default());
        let vault = name.ok_or_else(gone)?;
        let encrypted = passphrase.is_some();
        let quoted = record.origin.quoted;
        let budget = Budget::new(quoted);
        let request = ExportRequest {
            vault,
            destination: Self::archive_path(&archives, id, encrypted),
            users: (archives.people)(),
            seal: passphrase.map(Seal::new),
        };
        let vaults = self.vaults.within(budget.clone());
        let key = vaults.slabs.book().keys().archive();
        let exported = vaults.export(request, key, progress).await;
        let spent = budget.spent();
        let report = exported.map_err(|error| match budget.is_exceeded() {
            true => BackupError::QuoteExceeded { quoted },
            false => BackupError::Export(error),
        })?;
        self.archived(id, report, encrypted, spent).await
    }

    /// Notes that an archive is whole.
    async fn archived(
        &self,
        id: BackupId,
        report: ExportReport,
        encrypted: bool,
        spent: samara_protocol::units::Amount,
    ) -> Result<(), BackupError> {
        let Written { counts, size, hash, .. } = report.written;
        let (events, head, now) = (counts.events, counts.head, self.now());
        self.change(id, |record| {
            record.archive = Some(ArchiveFile { bytes: size, hash, events, head, encrypted });
            record.origin.counts.events = counts.events;
            record.origin.counts.versions = counts.versions;
            record.origin.counts.files = counts.files;
            record.stored = Some(size);
            record.cost = Some(spent);
            record.take(BackupStep::Complete);
            record.completed = Some(now);
            record.note(now, format!("completed: {events} events, {size} bytes"));
        })
        .await?;
        Ok(())
    }

    /// The file of a whole archive, its bytes and its hash.
    pub(crate) fn archive_file(&self, name: &str) -> Result<(PathBuf, u64, String), BackupError> {
        let id = self.find_any(name)?;
        let row = self.row(id)?;
        let record = self.record(id).filter(|record| record.state == BackupState::Completed);
        let archive = record.and_then(|record| record.archive);
        let is = match row.kind {
            BackupKind::Network => "is on the network: there is no file of it",
            BackupKind::Archive => "is not complete: there is no file of it yet",
        };
        let archive = archive.ok_or(BackupError::Unfit { name: row.name, is })?;
        let path = Self::archive_path(self.archives()?.as_ref(), id, archive.encrypted);
        Ok((path, archive.bytes, archive.hash.to_string()))
    }

    /// A whole archive that may be handed to others: its vault is there, and it has not expired.
    pub(crate) fn shareable(&self, name: &str) -> Result<BackupRow, BackupError> {
        self.archive_file(name)?;
        let id = self.find_any(name)?;
        let row = self.row(id)?;
        let vault = self.record(id).and_then(|record| record.scope).map(|(vault, _)| vault);
        let there = vault
            .is_some_and(|id| self.vaults.journal.read(|state| state.vaults.contains_key(&id)));
        let now = self.vaults.world.chain.time().0;
        let over = !row.pinned && row.date_expired.is_some_and(|time| time <= now);
        let is = match (there, over) {
            (true, false) => return Ok(row),
            (false, _) => "is of a vault that was removed: it is handed to nobody else",
            (true, true) => "has expired: it is handed to nobody else",
        };
        Err(BackupError::Unfit { name: row.name, is })
    }

    /// Removes the file of an archive.
    pub(super) async fn remove_archive(&self, id: BackupId) -> Result<(), FileError> {
        let Ok(archives) = self.archives() else { return Ok(()) };
        for encrypted in [false, true] {
            let path = Self::archive_path(&archives, id, encrypted);
            self.vaults.world.files.remove_file(&archives.folder, &path).await?;
        }
        Ok(())
    }
}
