//! What people change of backups that exist: labels, and that they are deleted.

use samara_protocol::journal::{BackupId, BackupLabel, Change};
use samara_protocol::units::{ChainTime, Millis};

use super::make::check_label;
use super::types::{BackupEdit, BackupKind, BackupRow};
use super::{BackupError, Backups};
use crate::journal::JournalError;
use crate::news::News;

impl Backups {
    /// Changes what people say of a backup.
    pub(crate) async fn edit(
        &self,
        name: &str,
        edit: &BackupEdit,
    ) -> Result<BackupRow, BackupError> {
        let id = self.find_any(name)?;
        let known = self
            .vaults
            .journal
            .read(|state| state.backups.get(&id).map(|backup| backup.label.clone()));
        let label = known.clone().or_else(|| self.record(id).map(|record| record.label));
        let now = self.vaults.world.chain.time();
        let label = edited(label.unwrap_or_default(), edit, now);
        check_label(&label)?;
        self.check_name(&label.name, Some(id))?;
        if known.is_some() {
            let change = Change::BackupLabelled { id, label: Box::new(label.clone()) };
            self.vaults.journal.append(vec![change]).await?;
        }
        self.change(id, |record| record.label = label).await?;
        self.row(id)
    }

    /// Deletes a backup: what it alone holds is given up, and an archive's file with it. One that is being
    /// made is cancelled first.
    pub(crate) async fn delete(&self, name: &str, reason: &str) -> Result<(), BackupError> {
        self.delete_one(self.find_any(name)?, reason).await
    }

    /// Deletes the backup with an id.
    pub(super) async fn delete_one(&self, id: BackupId, reason: &str) -> Result<(), BackupError> {
        let row = self.row(id)?;
        if let Some(running) = self.running().get(&id) {
            running.cancel.send_replace(true);
        }
        let named = || self.vaults.journal.read(|state| state.backups.contains_key(&id));
        if row.kind == BackupKind::Network && !named() {
            // Hosts may come to hold it that have not answered yet: then the journal names it after all.
            self.vaults.journal.confirm().await?;
        }
        if named() {
            self.give_up(id).await?;
        }
        self.remove_archive(id).await?;
        self.forget(id).await?;
        let (sid, reason) = (row.sid, reason.to_owned());
        self.announce(News::BackupDeleted { sid, name: row.name, reason });
        Ok(())
    }

    /// Takes a backup out of the journal.
    async fn give_up(&self, id: BackupId) -> Result<(), JournalError> {
        self.vaults.journal.append(vec![Change::BackupDeleted(id)]).await.map(drop)
    }
}

fn edited(label: BackupLabel, edit: &BackupEdit, now: ChainTime) -> BackupLabel {
    BackupLabel {
        name: edit.name.clone().unwrap_or(label.name),
        description: edit.description.clone().unwrap_or(label.description),
        tags: edit.tags.clone().unwrap_or(label.tags),
        pinned: edit.pinned.unwrap_or(label.pinned),
        expires: match (edit.expires, edit.expires_in) {
            (Some(0), _) | (None, Some(0)) => None,
            (Some(time), _) => Some(ChainTime(time)),
            (None, Some(seconds)) => Some(now.plus(Millis::seconds(seconds))),
            (None, None) => label.expires,
        },
    }
}
