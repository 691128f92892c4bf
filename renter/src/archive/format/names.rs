//! Names of an archive's entries. All are made here, from numbers and ids; of what a file was called only a
//! cleaned part stands at the end of one name. Nothing reads a path out of a name.

use std::fmt;

use samara_protocol::hash::digest;
use samara_protocol::journal::{StoredPath, VaultId};
use serde::{Deserialize, Serialize};

/// Events in one folder.
const EVENTS_IN_FOLDER: u64 = 10_000;
/// Most bytes of a cleaned name.
const LONGEST: usize = 100;
/// Most bytes of an extension that is kept when a name is cut, with its dot.
const LONGEST_EXTENSION: usize = 16;

/// What one file of a vault is called in its archive: the first 8 bytes of
/// `digest("samara v1 archive object", (vault id, path))`, with the path that it has at the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectUid([u8; 8]);

impl ObjectUid {
    /// That of a vault's file.
    #[must_use]
    pub fn new(vault: &VaultId, path: &StoredPath) -> Self {
        let digest = digest("samara v1 archive object", &(vault, path));
        let mut first = [0; 8];
        first.copy_from_slice(&digest.0[..8]);
        Self(first)
    }

    /// Reads 16 hex digits, lower case.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes)).filter(|uid| uid.to_string() == text)
    }
}

impl fmt::Display for ObjectUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ObjectUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectUid({self})")
    }
}

impl Serialize for ObjectUid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectUid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| serde::de::Error::custom("a uid has 16 hex digits"))
    }
}

/// The names of one archive's entries. All begin with the vault's id, as the one folder.
#[derive(Clone, Copy, Debug)]
pub struct Names(VaultId);

impl Names {
    /// Names below a vault's id.
    #[must_use]
    pub const fn new(vault: VaultId) -> Self {
        Self(vault)
    }

    /// The first entry.
    #[must_use]
    pub fn format(&self) -> String {
        self.below("format.json")
    }

    /// An event.
    #[must_use]
    pub fn event(&self, seq: u64) -> String {
        format!("{}/events/{:04}/{seq:08}.json", self.0, seq / EVENTS_IN_FOLDER)
    }

    /// What is known of a version.
    #[must_use]
    pub fn version(&self, uid: ObjectUid, version: u64) -> String {
        format!("{}/versions/{uid}_{version}.json", self.0)
    }

    /// The bytes of a version.
    #[must_use]
    pub fn file(&self, uid: ObjectUid, version: u64, path: &StoredPath) -> String {
        format!("{}/files/{uid}_{version}__{}", self.0, cleaned(path))
    }

    /// The users.
    #[must_use]
    pub fn users(&self) -> String {
        self.below("meta/users.json")
    }

    /// The vault's settings.
    #[must_use]
    pub fn settings(&self) -> String {
        self.below("meta/settings.json")
    }

    /// The table of all versions.
    #[must_use]
    pub fn records(&self) -> String {
        self.below("meta/records.csv")
    }

    /// The last entry but one.
    #[must_use]
    pub fn manifest(&self) -> String {
        self.below("manifest.json")
    }

    /// The last entry.
    #[must_use]
    pub fn signature(&self) -> String {
        self.below("manifest.sig")
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

/// The last part of a path as every file system takes it: letters, digits and a few signs stay, all else
/// becomes `_`; at most 100 bytes, of which the extension keeps its own; no dot or space at the end.
#[must_use]
pub fn cleaned(path: &StoredPath) -> String {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | ',' | '+');
    let name: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let name = shortened(&name);
    let name = name.trim_end_matches(['.', ' ']);
    if name.is_empty() { "_".to_owned() } else { name.to_owned() }
}

fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let dot = name.rfind('.').filter(|dot| *dot > 0 && name.len() - dot <= LONGEST_EXTENSION);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mut end = (LONGEST - extension.len()).min(stem.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", &stem[..end])
}

/// Whether a cleaned name can stand at the end of an entry's name. Wider than what [`cleaned`] makes: which
/// characters are letters changes with the years.
#[must_use]
pub fn is_safe_tail(tail: &str) -> bool {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '/' | '\\' | ':' | '"' | '<' | '>' | '|' | '?' | '*' | '{' | '}')
    };
    !tail.is_empty() && tail.len() <= LONGEST && !tail.contains(bad) && !tail.ends_with(['.', ' '])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, Strategy, any};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn path(text: &str) -> StoredPath {
        StoredPath::new(text).unwrap()
    }

    #[test]
    fn names_are_cleaned() {
        for (from, to) in [
            ("a/été 日本.txt", "été 日本.txt"),
            ("=cmd|' /C calc'!A0", "C calc__A0"),
            ("a/..hidden..", "..hidden"),
            ("a/b/ . ", "_"),
            ("a/x\ny\u{202e}z:\"*", "x_y_z___"),
        ] {
            assert_eq!(cleaned(&path(from)), to);
        }
        let long = cleaned(&path(&format!("{}.tar", "ß".repeat(120))));
        assert!(long.ends_with(".tar") && long.len() <= LONGEST && long.len() > LONGEST - 3);
    }

    #[test]
    fn names_have_fixed_forms() {
        let names = Names::new(VaultId([0xab; 16]));
        let sid = "ab".repeat(16);
        assert_eq!(names.event(0), format!("{sid}/events/0000/00000000.json"));
        assert_eq!(names.event(123_456), format!("{sid}/events/0012/00123456.json"));
        let huge = names.event(1_234_567_890);
        assert_eq!(huge, format!("{sid}/events/123456/1234567890.json"));
        let uid = ObjectUid::new(&VaultId([0xab; 16]), &path("a/b.txt"));
        assert_eq!(names.file(uid, 7, &path("a/b.txt")), format!("{sid}/files/{uid}_7__b.txt"));
        assert_eq!(ObjectUid::read(&uid.to_string()), Some(uid));
        assert_eq!(ObjectUid::read(&"AB".repeat(8)), None);
    }

    fn component() -> impl Strategy<Value = String> {
        let any_text = proptest::collection::vec(any::<char>(), 1..80);
        let ascii = proptest::collection::vec(proptest::char::range(' ', '~'), 1..255);
        proptest::prop_oneof![any_text, ascii].prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_name_is_cleaned_once_and_for_all(text in component()) {
            let Ok(path) = StoredPath::new(text) else { return Ok(()) };
            let once = cleaned(&path);
            prop_assert!(is_safe_tail(&once), "{once:?}");
            // What is clean stays, unless it cannot be a path by itself.
            if let Ok(again) = StoredPath::new(once.clone()) {
                prop_assert_eq!(cleaned(&again), once);
            }
        }
    }
}
