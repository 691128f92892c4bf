//! The backups of a journal, read without its files: from the root of its checkpoint, and the entries
//! behind it.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::encoding;
use samara_protocol::journal::{
    Backup, BackupCounts, BackupId, Change, CheckpointName, Entry, JournalPoint, VaultEvent,
    VaultId,
};
use samara_protocol::tree::checkpoint::CheckpointRoot;

use super::types::FoundBackup;
use crate::backup::{BackupStatus, held_from, needed};
use crate::contract::Allowance;

/// What a journal says of backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    point: JournalPoint,
    backups: BTreeMap<BackupId, Backup>,
    /// Names of vaults.
    vaults: BTreeMap<VaultId, String>,
    /// Vaults whose events are still being brought in: they keep the name that they have.
    arriving: BTreeSet<VaultId>,
    checkpoint: Option<CheckpointName>,
    allowance: Option<Allowance>,
}

impl Catalogue {
    /// What a checkpoint says.
    pub(super) fn of_root(name: &CheckpointName, root: CheckpointRoot) -> Self {
        let arriving = root.vaults.iter().filter(|(_, row)| row.arriving).map(|(id, _)| *id);
        let allowance = root.settings.get(Allowance::SETTING);
        Self {
            point: root.point,
            arriving: arriving.collect(),
            allowance: allowance.and_then(|value| encoding::decode(value).ok()),
            vaults: root.vaults.into_iter().map(|(id, row)| (id, row.name)).collect(),
            backups: root.backups,
            checkpoint: Some(name.clone()),
        }
    }

    /// Takes in what an entry says of backups.
    pub(super) fn take(&mut self, entry: &Entry) {
        match &entry.change {
            Change::BackupCreated { id, scope, label, origin } => {
                let backup = Backup {
                    label: label.as_ref().clone(),
                    origin: origin.as_ref().clone(),
                    scope: *scope,
                    point: self.point,
                    created: entry.time,
                    checkpoint: None,
                };
                self.backups.insert(*id, backup);
            }
            Change::BackupDeleted(id) => {
                self.backups.remove(id);
            }
            Change::BackupLabelled { id, label } => {
                if let Some(backup) = self.backups.get_mut(id) {
                    backup.label.clone_from(label);
                }
            }
            Change::Checkpointed { checkpoint, backup, .. } => {
                if let Some(backup) = backup.and_then(|id| self.backups.get_mut(&id)) {
                    backup.checkpoint = Some(checkpoint.clone());
                }
                self.checkpoint = Some(checkpoint.clone());
            }
            Change::VaultReserved { vault, name } => {
                self.arriving.insert(*vault);
                self.vaults.insert(*vault, name.clone());
            }
            Change::VaultOpened { vault, .. } => {
                self.arriving.remove(vault);
            }
            Change::Vault { vault, event, .. } => self.take_event(*vault, event),
            Change::Setting { name, value } if name == Allowance::SETTING => {
                self.allowance = encoding::decode(value).ok();
            }
            Change::Setting { .. }
            | Change::HostAdded { .. }
            | Change::SlabsStored(_)
            | Change::SlabsMoved(_)
            | Change::SlabsReleased(_) => {}
        }
        self.point = self.point.after(entry);
    }

    fn take_event(&mut self, vault: VaultId, event: &VaultEvent) {
        match event {
            VaultEvent::Created { name } | VaultEvent::Renamed { name }
                if !self.arriving.contains(&vault) =>
            {
                self.vaults.insert(vault, name.clone());
            }
            VaultEvent::Removed => {
                self.arriving.remove(&vault);
                self.vaults.remove(&vault);
            }
            _ => {}
        }
    }

    /// The backups as lists show them, oldest first. `heads` are the positions of the heads that live
    /// contracts have shown, `data` is k where the journal does not say.
    pub(super) fn rows(
        &self,
        heads: &[Option<u64>],
        data: u8,
        preliminary: bool,
    ) -> Vec<FoundBackup> {
        let mut backups: Vec<_> = self.backups.iter().collect();
        backups.sort_by_key(|(_, backup)| (backup.point.position, backup.created));
        let data = self.allowance.map_or(data, |allowance| allowance.redundancy.data);
        let needed = needed(heads.len(), usize::from(data));
        let row = |(id, backup): (&BackupId, &Backup)| {
            let position = held_from(backup);
            let holders = heads.iter().flatten().filter(|at| **at >= position).count();
            let status = match (self.is_lost(backup), holders >= needed) {
                (true, _) => BackupStatus::Error,
                (false, true) => BackupStatus::Completed,
                (false, false) => BackupStatus::InProgress,
            };
            let BackupCounts { events, versions, files, bytes, .. } = backup.origin.counts;
            let (label, origin) = (backup.label.clone(), &backup.origin);
            FoundBackup {
                sid: id.to_string(),
                name: label.name,
                description: label.description,
                tags: label.tags,
                vault: backup.scope.map(|scope| self.vault_name(scope)),
                status,
                preliminary,
                pinned: label.pinned,
                events,
                versions,
                files,
                file_size: bytes,
                date_created: backup.created,
                chain_time: origin.chain_time.0,
                date_expired: label.expires.map(|time| time.0),
                hosts_ok: holders as u64,
                hosts_needed: needed as u64,
                hosts_total: heads.len() as u64,
                head_seq: position,
            }
        };
        backups.into_iter().map(row).collect()
    }

    fn vault_name(&self, id: VaultId) -> String {
        self.vaults.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Whether a backup never got a checkpoint and gets none any more.
    fn is_lost(&self, backup: &Backup) -> bool {
        let later = |name: &CheckpointName| name.point.position > backup.point.position;
        backup.checkpoint.is_none() && self.checkpoint.as_ref().is_some_and(later)
    }
}
