//! A backup's files back: to a folder, into their vaults, or both.

use std::collections::BTreeSet;
use std::path::Path;

use samara_protocol::journal::{Backup, JournalState, StoredFile, StoredPath, VaultEvent};

use super::types::{RestoreReport, RestoreRequest};
use super::{BackupError, Backups, scoped};
use crate::progress::Progress;
use crate::vault::{
    Chosen, Conflict, Destination, GetError, Source, VaultError, append_changes, check_file_place,
    check_folder_place, select, vault_event,
};
use crate::world::FileKind;

/// Names tried for a file that is listed beside another.
const RENAMES: u32 = 10_000;

impl Backups {
    /// Restores all of a backup or a part of it.
    pub(crate) async fn restore(
        &self,
        request: &RestoreRequest,
        progress: &dyn Progress,
    ) -> Result<RestoreReport, BackupError> {
        if request.destination.is_none() && !request.into_vault {
            return Err(BackupError::NoDestination);
        }
        let (_, backup) = self.find(&request.backup)?;
        let state = self.state_at(&backup).await?;
        let names = vault_names(&state, &backup, request)?;
        let mut report = RestoreReport::default();
        if request.into_vault {
            for name in &names {
                self.relist(&state, name, request, &mut report).await?;
            }
        }
        let Some(destination) = &request.destination else { return Ok(report) };
        let slash = destination.to_str().is_some_and(|text| text.ends_with('/'));
        let stat = || self.vaults.world.files.stat(destination);
        let is_folder = slash
            || request.vault.is_none()
            || stat().await.map_err(GetError::File)?.is_some_and(|at| at.kind == FileKind::Folder);
        let folders = folder_names(&names);
        let source = Source::Then(Box::new(state));
        let wanted = self.vaults.wanted(&source, destination, |state| {
            let mut all = Chosen::default();
            for (name, folder) in names.iter().zip(&folders) {
                let below;
                let path: &Path = if request.vault.is_some() {
                    destination
                } else {
                    below = destination.join(folder);
                    &below
                };
                let destination = Destination { path, is_folder };
                all.append(chosen(state, name, &request.path, &destination)?);
            }
            Ok(all)
        })?;
        let (conflict, dry_run) = (request.conflict, request.dry_run);
        if is_folder && !dry_run {
            self.vaults.check_target(destination).await.map_err(GetError::File)?;
        }
        report.files = self.vaults.fetch(wanted, conflict, dry_run, progress).await?;
        Ok(report)
    }

    /// Lists a vault's files again as they were.
    async fn relist(
        &self,
        state: &JournalState,
        name: &str,
        request: &RestoreRequest,
        report: &mut RestoreReport,
    ) -> Result<(), BackupError> {
        let nowhere = Destination { path: Path::new(""), is_folder: true };
        let Chosen { files, folders } = chosen(state, name, &request.path, &nowhere)?;
        let mut puts = Vec::new();
        for (path, _, file) in files {
            match self.place(name, &path, &file, request.conflict) {
                Place::At(path) => puts.push((path, file)),
                Place::Same => {}
                Place::Kept => report.relisting_kept.push(path.to_string()),
            }
        }
        report.relisted_files += puts.len() as u64;
        if request.dry_run || (puts.is_empty() && folders.is_empty()) {
            return Ok(());
        }
        let vault = self.vaults.find_or_create(name).await?;
        // Folders go where nothing is, so their targets are their paths.
        let folders = folders.iter().filter_map(|folder| StoredPath::new(folder.to_str()?).ok());
        let known = |path: &StoredPath| {
            self.vaults.journal.read(|now| {
                now.vaults.get(&vault).is_none_or(|now| {
                    now.folders.contains(path) || check_folder_place(now, name, path).is_err()
                })
            })
        };
        let folders = folders.filter(|path| !known(path));
        let puts = puts.into_iter().map(|(path, file)| VaultEvent::Put { path, file });
        let events = puts.chain(folders.map(|path| VaultEvent::FolderMade { path }));
        let changes: Vec<_> = events.map(|event| vault_event(vault, event)).collect();
        if !changes.is_empty() {
            append_changes(&self.vaults, changes).await?;
        }
        Ok(())
    }

    /// Where in its vault a file is listed again.
    fn place(&self, name: &str, path: &StoredPath, file: &StoredFile, conflict: Conflict) -> Place {
        let free = self.vaults.journal.read(|now| match now.vault_named(name) {
            Some((_, vault)) => check_file_place(vault, name, path).is_ok(),
            None => true,
        });
        if !free {
            return Place::Kept;
        }
        let current = |path: &StoredPath| {
            self.vaults.journal.read(|now| {
                let (_, vault) = now.vault_named(name)?;
                Some(vault.files.get(path)?.current()?.file.clone())
            })
        };
        match (current(path), conflict) {
            (None, _) => Place::At(path.clone()),
            (Some(now), _) if now == *file => Place::Same,
            (Some(_), Conflict::Replace) => Place::At(path.clone()),
            (Some(_), Conflict::Keep) => Place::Kept,
            (Some(_), Conflict::Rename) => (1..=RENAMES)
                .filter_map(|number| renamed(path, number))
                .find(|other| current(other).is_none())
                .map_or(Place::Kept, Place::At),
        }
    }
}

/// Where a file is listed again.
enum Place {
    At(StoredPath),
    /// The same content is listed there.
    Same,
    /// Something else is there, and stays.
    Kept,
}

/// Names then of the vaults to restore.
fn vault_names(
    state: &JournalState,
    backup: &Backup,
    request: &RestoreRequest,
) -> Result<Vec<String>, VaultError> {
    let names = scoped(state, backup.scope).map(|(_, vault)| vault.name.clone());
    let wanted = |name: &String| request.vault.as_ref().is_none_or(|vault| vault == name);
    let names: Vec<String> = names.filter(wanted).collect();
    match &request.vault {
        Some(vault) if names.is_empty() => Err(VaultError::NoVault(vault.clone())),
        _ => Ok(names),
    }
}

fn chosen(
    state: &JournalState,
    name: &str,
    path: &str,
    destination: &Destination<'_>,
) -> Result<Chosen, GetError> {
    let vault = state.vault_named(name).ok_or_else(|| VaultError::NoVault(name.to_owned()))?.1;
    select(vault, name, path, None, destination)
}

/// A folder's name for each vault, no two alike: also not where a file system ignores case.
fn folder_names(vaults: &[String]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut free = |name: &String| taken.insert(name.to_lowercase());
    let unlike = |vault: &String| {
        let others = (2_u64..).map(|number| format!("{vault} ({number})"));
        std::iter::once(vault.clone()).chain(others).find(&mut free).unwrap_or(vault.clone())
    };
    vaults.iter().map(unlike).collect()
}

/// `folder/name (restored).ext`.
fn renamed(path: &StoredPath, number: u32) -> Option<StoredPath> {
    let text = path.as_str();
    let (folder, name) = match text.rsplit_once('/') {
        Some((folder, name)) => (format!("{folder}/"), name),
        None => (String::new(), text),
    };
    let mark = if number == 1 { "restored".to_owned() } else { format!("restored {number}") };
    let name = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => format!("{stem} ({mark}).{extension}"),
        _ => format!("{name} ({mark})"),
    };
    StoredPath::new(format!("{folder}{name}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vaults_never_share_a_folder() {
        let vaults = ["a_b", "A_B", "a_b (2)", "vault"].map(str::to_owned);
        assert_eq!(folder_names(&vaults), ["a_b", "A_B (2)", "a_b (2) (2)", "vault"]);
    }

    #[test]
    fn names_beside_others_keep_their_extension() {
        let name = |path| renamed(&StoredPath::new(path).unwrap(), 2).unwrap().to_string();
        assert_eq!(name("a/b.txt"), "a/b (restored 2).txt");
        assert_eq!(name(".profile"), ".profile (restored 2)");
    }
}
