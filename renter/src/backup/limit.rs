//! How many backups a vault may have: a limit refuses, and never evicts.

use samara_protocol::journal::{BackupId, Change, VaultId};

use super::record::Record;
use super::state::BackupState;
use super::types::{BackupKind, BackupRequest};
use super::{BackupError, Backups};

/// Name of the setting that says how many backups of one kind a vault may have.
const LIMIT: &str = "backup-limit";
/// The same, where nobody has set it.
const DEFAULT_LIMIT: u32 = 10;

impl Backups {
    /// How many backups of one kind a vault may have.
    pub(crate) fn limit(&self) -> u32 {
        let set = self.vaults.journal.read(|state| state.settings.get(LIMIT).cloned());
        let set = set.and_then(|value| <[u8; 4]>::try_from(value).ok());
        set.map_or(DEFAULT_LIMIT, u32::from_le_bytes)
    }

    /// Sets it.
    pub(crate) async fn set_limit(&self, limit: u32) -> Result<(), BackupError> {
        let (name, value) = (LIMIT.to_owned(), limit.to_le_bytes().to_vec());
        self.vaults.journal.append(vec![Change::Setting { name, value }]).await?;
        Ok(())
    }

    /// Refuses one more than the limit. A scheduled one may exceed it by one, while its policy would have it
    /// take the place of another.
    pub(super) fn check_limit(
        &self,
        request: &BackupRequest,
        scope: Option<VaultId>,
    ) -> Result<(), BackupError> {
        let (kind, limit) = (request.kind, self.limit());
        let count = self.counted().filter(|other| *other == (kind, scope)).count();
        let rotates = |schedule: &String| self.would_rotate(schedule, kind, scope);
        let within = count < limit as usize;
        let replaced = || count == limit as usize && request.schedule.as_ref().is_some_and(rotates);
        if within || replaced() {
            return Ok(());
        }
        let what = match &request.vault {
            Some(name) => format!("vault '{name}'"),
            None => "all vaults together".to_owned(),
        };
        Err(BackupError::Limit { what, limit, kind })
    }

    /// Kind and scope of each backup that counts against a limit: those that exist or are being made.
    pub(super) fn counted(&self) -> impl Iterator<Item = (BackupKind, Option<VaultId>)> {
        let journal: Vec<(BackupId, Option<VaultId>)> = self
            .vaults
            .journal
            .read(|state| state.backups.iter().map(|(id, backup)| (*id, backup.scope)).collect());
        let known = |id: &BackupId| journal.iter().any(|(other, _)| other == id);
        let here: Vec<(BackupKind, Option<VaultId>)> = {
            let records = self.records();
            let open = records
                .iter()
                .filter(|(id, record)| record.state != BackupState::Failed && !known(id));
            let scope = |record: &Record| record.scope.as_ref().map(|(id, _)| *id);
            open.map(|(_, record)| (record.kind, scope(record))).collect()
        };
        journal.into_iter().map(|(_, scope)| (BackupKind::Network, scope)).chain(here)
    }
}
