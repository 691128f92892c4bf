//! What checkpoints say: a whole state, the files of a backup, what differs between two.

use std::collections::BTreeSet;
use std::ops::ControlFlow::Continue;

use samara_protocol::journal::{
    Backup, CheckpointName, JournalState, StoredFile, StoredPath, VaultId,
};
use samara_protocol::tree::checkpoint::{CheckpointRoot, StateReader};
use samara_protocol::tree::events::{Event, EventReader};
use samara_protocol::tree::files::{FileReader, folder_prefix, key_path, path_prefix};
use samara_protocol::tree::{Diff, NodeRef, Scan, TreeKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use super::nodes::places;
use super::{Checkpoints, Places};

/// What became of a file between two backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// Only the second lists it.
    Added,
    /// Only the first lists it.
    Removed,
    /// Both list it, with other contents.
    Changed,
}

/// A file that two backups do not both list with the same contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDifference {
    /// What became of it.
    pub kind: DifferenceKind,
    /// Its vault, by the name that it has in the second, else in the first.
    pub vault: String,
    /// Its path.
    pub path: String,
    /// Bytes in the first.
    pub before: Option<u64>,
    /// Bytes in the second.
    pub after: Option<u64>,
}

/// A walk over the events of one vault in a checkpoint.
pub(crate) struct EventWalk {
    scan: Scan,
    places: Places,
    /// Nothing once all was given.
    reader: Option<EventReader>,
}

impl Checkpoints {
    /// Starts to read the events of a vault; `known` says where slabs lie now.
    pub(crate) async fn events(
        &self,
        name: &CheckpointName,
        known: &Places,
        vault: &VaultId,
    ) -> Result<EventWalk, CheckpointError> {
        let root = self.root(name, known).await?;
        let scan = Scan::new(TreeKind::Events, root.trees.events, vault.0.to_vec(), &[]);
        let (places, reader) = (places(&root, known), Some(EventReader::default()));
        Ok(EventWalk { scan, places, reader })
    }

    /// The next events in order; nothing behind the last.
    pub(crate) async fn next_events(
        &self,
        walk: &mut EventWalk,
    ) -> Result<Option<Vec<Event>>, CheckpointError> {
        let EventWalk { scan, places, reader } = walk;
        let Some(mut items) = reader.take() else { return Ok(None) };
        let mut events = Vec::new();
        if let Continue(part) = self.next(scan, places).await? {
            for (key, value) in part {
                events.extend(items.take(&key, value)?);
            }
            *reader = Some(items);
        } else {
            events.extend(items.finish()?);
        }
        Ok(Some(events))
    }

    /// The state that a checkpoint stands for; `known` says where slabs lie that have moved since.
    pub(crate) async fn state(
        &self,
        name: &CheckpointName,
        known: &Places,
    ) -> Result<JournalState, CheckpointError> {
        let root = self.root(name, known).await?;
        let places = places(&root, known);
        let mut reader = StateReader::new(&root);
        let mut slabs = Scan::new(TreeKind::Slabs, root.trees.slabs, Vec::new(), &[]);
        while let Continue(items) = self.next(&mut slabs, &places).await? {
            items.iter().try_for_each(|(key, value)| reader.take_slab(key, value))?;
        }
        self.read_files(&root, &places, Vec::new(), &mut reader).await?;
        let mut held = Scan::new(TreeKind::Held, root.trees.held, Vec::new(), &[]);
        while let Continue(items) = self.next(&mut held, &places).await? {
            items.into_iter().try_for_each(|(key, value)| reader.take_held(&key, value))?;
        }
        Ok(reader.finish()?)
    }

    /// The files that a backup is about, and no slabs; `known` says where slabs lie now.
    pub(crate) async fn backup(
        &self,
        backup: &Backup,
        name: &CheckpointName,
        known: &Places,
    ) -> Result<JournalState, CheckpointError> {
        let root = self.root(name, known).await?;
        let places = places(&root, known);
        let mut reader = StateReader::new(&root);
        let below = backup.scope.map(|vault| folder_prefix(&vault, None)).unwrap_or_default();
        self.read_files(&root, &places, below, &mut reader).await?;
        Ok(reader.finish()?)
    }

    async fn read_files(
        &self,
        root: &CheckpointRoot,
        places: &Places,
        below: Vec<u8>,
        reader: &mut StateReader,
    ) -> Result<(), CheckpointError> {
        let mut files = Scan::new(TreeKind::Files, root.trees.files, below, &[]);
        while let Continue(items) = self.next(&mut files, places).await? {
            items.into_iter().try_for_each(|(key, value)| reader.take_file(&key, value))?;
        }
        Ok(())
    }

    /// The files that two checkpoints do not both list with the same contents, in order: of vaults within
    /// both scopes, and of that name in either, if one is given; nothing if there is none. Only what differs is read.
    pub(crate) async fn compare(
        &self,
        names: [&CheckpointName; 2],
        scopes: [Option<VaultId>; 2],
        vault: Option<&str>,
        known: &Places,
    ) -> Result<Option<Vec<FileDifference>>, CheckpointError> {
        let [before, after] =
            [self.root(names[0], known).await?, self.root(names[1], known).await?];
        let mut all = places(&before, known);
        all.extend(places(&after, known));
        let [old, new] = [before.trees.files, after.trees.files];
        let mut paths = BTreeSet::new();
        let mut diff = Diff::new(TreeKind::Files, old, new);
        while let Continue(differences) = self.next(&mut diff, &all).await? {
            for difference in differences {
                paths.insert(key_path(&difference.key)?);
            }
        }
        let mut found = Vec::new();
        let named = |id: &VaultId| {
            let rows = [&before, &after].map(|root| root.vaults.get(id));
            rows.into_iter().flatten().any(|row| vault.is_none_or(|name| row.name == name))
        };
        let mut ids = before.vaults.keys().chain(after.vaults.keys());
        if vault.is_some() && !ids.any(named) {
            return Ok(None);
        }
        let about =
            |id: &VaultId| scopes.iter().all(|scope| scope.is_none_or(|scope| scope == *id));
        for (vault, path) in paths.into_iter().filter(|(id, _)| about(id) && named(id)) {
            let before_file = self.listed(old, &all, &vault, &path).await?;
            let after_file = self.listed(new, &all, &vault, &path).await?;
            let kind = match (&before_file, &after_file) {
                (None, Some(_)) => DifferenceKind::Added,
                (Some(_), None) => DifferenceKind::Removed,
                (Some(before), Some(after)) if before.hash != after.hash => DifferenceKind::Changed,
                _ => continue,
            };
            let row = after.vaults.get(&vault).or_else(|| before.vaults.get(&vault));
            found.push(FileDifference {
                kind,
                vault: row.map_or_else(|| vault.to_string(), |row| row.name.clone()),
                path: path.to_string(),
                before: before_file.map(|file| file.size),
                after: after_file.map(|file| file.size),
            });
        }
        Ok(Some(found))
    }

    /// The file that a tree lists under a path.
    async fn listed(
        &self,
        tree: Option<NodeRef>,
        places: &Places,
        vault: &VaultId,
        path: &StoredPath,
    ) -> Result<Option<StoredFile>, CheckpointError> {
        let mut reader = FileReader::default();
        let mut scan = Scan::new(TreeKind::Files, tree, path_prefix(vault, path), &[]);
        while let Continue(items) = self.next(&mut scan, places).await? {
            // All items are of one path, which is complete at the end.
            items.into_iter().try_for_each(|(key, value)| reader.take(&key, value).map(drop))?;
        }
        let file = reader.finish()?.pop().and_then(|entry| entry.file);
        Ok(file.and_then(|file| file.current().map(|version| version.file.clone())))
    }
}
