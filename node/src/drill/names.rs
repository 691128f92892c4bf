//! What a renter lists, and what differs between two lists.

use std::collections::BTreeMap;
use std::fmt;

use samara_renter::Renter;
use samara_renter::backup::BackupKind;
use samara_renter::vault::{ListOptions, ListRow, VaultError};

use super::types::DrillReport;

/// Something that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Vault(String),
    File { vault: String, path: String },
    Backup(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault(vault) => write!(f, "{vault}/"),
            Self::File { vault, path } => write!(f, "{vault}/{path}"),
            Self::Backup(name) => write!(f, "backup '{name}'"),
        }
    }
}

/// What is behind a name: of files their bytes and hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) hash: String,
}

/// Everything that a renter lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(pub(super) BTreeMap<Name, Content>);

impl Names {
    /// What a renter lists now.
    pub(super) async fn of(renter: &Renter) -> Result<Self, VaultError> {
        let mut names = BTreeMap::new();
        for vault in renter.vaults() {
            let options = ListOptions { recursive: true, ..ListOptions::default() };
            let rows = match renter.list(&vault.name, &options).await {
                // It was removed or renamed a moment ago.
                Err(VaultError::NoVault(_)) => continue,
                rows => rows?,
            };
            for row in rows {
                let ListRow::File(row) = row else { continue };
                let name = Name::File { vault: vault.name.clone(), path: row.path };
                let content = Content { size: row.version.size, hash: row.version.hash };
                names.insert(name, content);
            }
            names.insert(Name::Vault(vault.name), Content::default());
        }
        for backup in renter.backups() {
            // Those that the journal has: others are nowhere but here.
            if backup.kind == BackupKind::Network && backup.head_seq.is_some() {
                names.insert(Name::Backup(backup.name), Content::default());
            }
        }
        Ok(Self(names))
    }
}

/// Compares what came back with what was here before and after it was read: what changed meanwhile may be
/// either.
pub(super) fn compare(before: &Names, after: &Names, back: &Names, report: &mut DrillReport) {
    report.row.names_expected = before.0.len() as u64;
    let keep = |list: &mut Vec<String>, name: &Name| {
        if list.len() < DrillReport::LISTED {
            list.push(name.to_string());
        }
    };
    for (name, content) in &before.0 {
        if after.0.get(name) != Some(content) {
            report.row.names_changed += 1;
            continue;
        }
        match back.0.get(name) {
            Some(other) if other == content => report.row.names_found += 1,
            Some(_) => keep(&mut report.different, name),
            None => keep(&mut report.missing, name),
        }
    }
    for name in back.0.keys() {
        if !before.0.contains_key(name) && !after.0.contains_key(name) {
            keep(&mut report.different, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use samara_renter::backup::Trigger;

    use super::*;

    fn names(files: &[(&str, &str)]) -> Names {
        let file = |(path, hash): &(&str, &str)| {
            let name = Name::File { vault: "home".into(), path: (*path).to_owned() };
            (name, Content { size: 1, hash: (*hash).to_owned() })
        };
        Names(files.iter().map(file).collect())
    }

    #[test]
    fn what_changes_meanwhile_is_not_held_against_the_words() {
        let before = names(&[("same", "1"), ("gone", "1"), ("lost", "1"), ("bad", "1")]);
        let after = names(&[("same", "1"), ("new", "1"), ("lost", "1"), ("bad", "1")]);
        let back = names(&[("same", "1"), ("new", "1"), ("bad", "2"), ("odd", "1")]);
        let mut report = DrillReport::begun(0, 0, Trigger::Manual, 50);
        compare(&before, &after, &back, &mut report);
        assert_eq!(report.missing, ["home/lost"]);
        assert_eq!(report.different, ["home/bad", "home/odd"]);
        let row = &report.row;
        assert_eq!((row.names_expected, row.names_found, row.names_changed), (4, 1, 1));
    }
}
