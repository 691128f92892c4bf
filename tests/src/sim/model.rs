//! What must be true of the vaults, as far as the operations' answers tell.
//!
//! The model is a log of effects over a state that is certain. An acknowledged effect is certain; one
//! whose operation failed or was cut may have happened or not, but whole, and in its place in the
//! order. An observed state is right if it is what the log gives for some choice of the uncertain ones.

use std::collections::{BTreeMap, BTreeSet};

/// A file's content, by length and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub hash: blake3::Hash,
}

impl Content {
    /// The content that some bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, hash: blake3::hash(bytes) }
    }
}

/// Files by vault and path.
pub type Vaults = BTreeMap<String, BTreeMap<String, Content>>;

/// All vaults with their files, and the names of all backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Files by vault and path.
    pub vaults: Vaults,
    /// Names of backups.
    pub backups: BTreeSet<String>,
}

/// One change that is acknowledged as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A vault is made.
    CreateVault(String),
    /// A vault gets another name.
    RenameVault(String, String),
    /// A vault goes with all in it.
    RemoveVault(String),
    /// A file is put.
    Put {
        /// The vault.
        vault: String,
        /// The path.
        path: String,
        /// What is in it.
        content: Content,
    },
    /// Files are removed together.
    Remove {
        /// The vault.
        vault: String,
        /// Their paths.
        paths: Vec<String>,
    },
    /// A file gets another path.
    Move {
        /// The vault.
        vault: String,
        /// Path before.
        from: String,
        /// Path after.
        to: String,
    },
    /// A backup is made.
    CreateBackup(String),
    /// A backup is given up.
    DeleteBackup(String),
}

impl Names {
    /// Applies an effect; `false`, and nothing changed, if it cannot be.
    fn apply(&mut self, effect: &Effect) -> bool {
        match effect {
            Effect::CreateVault(name) => {
                !self.vaults.contains_key(name)
                    && self.vaults.insert(name.clone(), BTreeMap::new()).is_none()
            }
            Effect::RenameVault(from, to) => {
                if self.vaults.contains_key(to) {
                    return false;
                }
                let Some(files) = self.vaults.remove(from) else { return false };
                self.vaults.insert(to.clone(), files);
                true
            }
            Effect::RemoveVault(name) => self.vaults.remove(name).is_some(),
            Effect::Put { vault, path, content } => match self.vaults.get_mut(vault) {
                Some(files) => {
                    files.insert(path.clone(), *content);
                    true
                }
                None => false,
            },
            Effect::Remove { vault, paths } => {
                let Some(files) = self.vaults.get_mut(vault) else { return false };
                if !paths.iter().all(|path| files.contains_key(path)) {
                    return false;
                }
                paths.iter().for_each(|path| {
                    files.remove(path);
                });
                true
            }
            Effect::Move { vault, from, to } => {
                let Some(files) = self.vaults.get_mut(vault) else { return false };
                if files.contains_key(to) {
                    return false;
                }
                let Some(content) = files.remove(from) else { return false };
                files.insert(to.clone(), content);
                true
            }
            Effect::CreateBackup(name) => self.backups.insert(name.clone()),
            Effect::DeleteBackup(name) => self.backups.remove(name),
        }
    }

    /// The first thing in which an observed state differs.
    fn difference(&self, seen: &Self) -> String {
        for (vault, files) in &self.vaults {
            let Some(other) = seen.vaults.get(vault) else {
                return format!("vault '{vault}' with {} files is missing", files.len());
            };
            for (path, content) in files {
                match other.get(path) {
                    None => return format!("'{vault}/{path}' ({} B) is missing", content.size),
                    Some(seen) if seen != content => {
                        return format!(
                            "'{vault}/{path}' has {} bytes of hash {} instead of {} of {}",
                            seen.size, seen.hash, content.size, content.hash
                        );
                    }
                    Some(_) => {}
                }
            }
            if let Some(path) = other.keys().find(|path| !files.contains_key(*path)) {
                return format!("'{vault}/{path}' is listed and should not be");
            }
        }
        if let Some(vault) = seen.vaults.keys().find(|vault| !self.vaults.contains_key(*vault)) {
            return format!("vault '{vault}' is listed and should not be");
        }
        if let Some(name) = self.backups.difference(&seen.backups).next() {
            return format!("backup '{name}' is missing");
        }
        match seen.backups.difference(&self.backups).next() {
            Some(name) => format!("backup '{name}' is listed and should not be"),
            None => "nothing".to_owned(),
        }
    }
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    certain: Names,
    log: Vec<(Effect, bool)>,
    /// Effects acknowledged so far.
    pub acknowledged: u64,
}

impl Model {
    /// An operation was acknowledged.
    pub fn acknowledge(&mut self, effect: Effect) {
        self.acknowledged += 1;
        self.log.push((effect, true));
        self.fold();
    }

    /// An operation failed or was cut.
    pub fn doubt(&mut self, effect: Effect) {
        self.log.push((effect, false));
    }

    /// Effects that may have happened or not.
    #[must_use]
    pub fn doubts(&self) -> usize {
        self.log.iter().filter(|(_, certain)| !certain).count()
    }

    /// Takes the certain effects at the log's start into the state.
    fn fold(&mut self) {
        let first = self.log.iter().position(|(_, certain)| !certain).unwrap_or(self.log.len());
        for (effect, _) in self.log.drain(..first) {
            // One that cannot be is found when the state is compared.
            if !self.certain.apply(&effect) {
                let text = format!("impossible: {effect:?}");
                self.certain.vaults.insert(text, BTreeMap::new());
            }
        }
    }

    /// The state if every doubtful effect happened that could.
    #[must_use]
    pub fn likely(&self) -> Names {
        let mut names = self.certain.clone();
        for (effect, _) in &self.log {
            names.apply(effect);
        }
        names
    }

    /// Whether a state is what the log gives for some choice.
    ///
    /// # Errors
    /// The difference from the state that is nearest to being certain.
    pub fn check(&self, seen: &Names) -> Result<(), String> {
        let doubts = self.doubts();
        let mut difference = None;
        for choice in 0..(1u64 << doubts.min(20)) {
            let Some(names) = self.choose(choice) else { continue };
            if names == *seen {
                return Ok(());
            }
            difference.get_or_insert_with(|| names.difference(seen));
        }
        let difference = difference.unwrap_or_else(|| "no choice is possible".to_owned());
        Err(format!("{difference}, whichever of {doubts} doubtful changes happened"))
    }

    /// The state for one choice of the doubtful effects; nothing if a certain one cannot follow.
    fn choose(&self, choice: u64) -> Option<Names> {
        let mut names = self.certain.clone();
        let mut doubt = 0;
        for (effect, certain) in &self.log {
            let happened = *certain || {
                doubt += 1;
                choice & (1 << (doubt - 1)) != 0
            };
            // A doubtful effect that cannot follow is one that did not happen: another choice.
            if happened && !names.apply(effect) {
                return None;
            }
        }
        Some(names)
    }

    /// Nothing is doubtful any more: this is the state.
    pub fn settle(&mut self, seen: Names) {
        self.certain = seen;
        self.log.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &str, bytes: &[u8]) -> Effect {
        Effect::Put { vault: "v".into(), path: path.into(), content: Content::of(bytes) }
    }

    fn names(files: &[(&str, &[u8])]) -> Names {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), Content::of(bytes)));
        let vaults = BTreeMap::from([("v".to_owned(), files.collect())]);
        Names { vaults, backups: BTreeSet::new() }
    }

    #[test]
    fn doubtful_changes_may_be_either_way_and_acknowledged_ones_may_not() {
        let mut model = Model::default();
        model.acknowledge(Effect::CreateVault("v".into()));
        model.acknowledge(put("a", b"1"));
        model.doubt(put("a", b"2"));
        model.acknowledge(put("b", b"3"));
        assert_eq!(model.check(&names(&[("a", b"1"), ("b", b"3")])), Ok(()));
        assert_eq!(model.check(&names(&[("a", b"2"), ("b", b"3")])), Ok(()));
        assert!(model.check(&names(&[("a", b"2")])).is_err());
        assert!(model.check(&names(&[("a", b"4"), ("b", b"3")])).is_err());
        assert!(model.check(&names(&[("a", b"1"), ("b", b"3"), ("c", b"")])).is_err());
    }

    #[test]
    fn a_move_is_never_seen_half() {
        let mut model = Model::default();
        model.acknowledge(Effect::CreateVault("v".into()));
        model.acknowledge(put("a", b"1"));
        let (from, to) = ("a".to_owned(), "b".to_owned());
        model.doubt(Effect::Move { vault: "v".into(), from, to });
        assert_eq!(model.check(&names(&[("a", b"1")])), Ok(()));
        assert_eq!(model.check(&names(&[("b", b"1")])), Ok(()));
        assert!(model.check(&names(&[("a", b"1"), ("b", b"1")])).is_err());
        assert!(model.check(&names(&[])).is_err());
    }
}
