//! The folder that the demo stores: what is in it, and whether what came back is the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::testnet::Layout;

/// What the demo leaves out of the folder it is started in.
pub const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// A file as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub hash: blake3::Hash,
}

/// Regular files by their paths relative to a folder, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The files.
    pub files: BTreeMap<String, Fingerprint>,
    /// What cannot be compared because it cannot be stored: links, devices, names outside of UTF-8.
    pub other: usize,
}

impl Inventory {
    /// Reads a folder. As in a put, `left_out` has relative paths, or names that are passed over anywhere.
    ///
    /// # Errors
    /// The system's, for a folder or file that cannot be read.
    pub fn read(folder: &Path, left_out: &[String]) -> io::Result<Self> {
        let mut inventory = Self::default();
        let walk = WalkDir::new(folder).min_depth(1).into_iter().filter_entry(|entry| {
            let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let name = path.file_name().unwrap_or_default();
            !left_out.iter().any(|left| path == Path::new(left) || name == left.as_str())
        });
        for entry in walk {
            let entry = entry?;
            if entry.file_type().is_dir() {
                continue;
            }
            match relative(folder, entry.path()) {
                Some(path) if entry.file_type().is_file() => {
                    inventory.files.insert(path, fingerprint(entry.path())?);
                }
                _ => inventory.other += 1,
            }
        }
        Ok(inventory)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// Compares what lies in a folder with this. A file that has changed at its origin since it was
    /// read counts as equal when it is equal to what is there now.
    ///
    /// # Errors
    /// The system's, for a folder that cannot be read.
    pub fn compare(&self, origin: &Path, restored: &Path) -> io::Result<Comparison> {
        let found = if restored.exists() { Self::read(restored, &[])? } else { Self::default() };
        let mut comparison = Comparison::default();
        for (path, expected) in &self.files {
            match found.files.get(path) {
                None => comparison.missing.push(path.clone()),
                Some(file) if file == expected => comparison.equal += 1,
                Some(file) if fingerprint(&origin.join(path)).is_ok_and(|now| now == *file) => {
                    comparison.equal += 1;
                }
                Some(_) => comparison.different.push(path.clone()),
            }
        }
        comparison.unexpected =
            found.files.into_keys().filter(|path| !self.files.contains_key(path)).collect();
        Ok(comparison)
    }
}

/// How two folders differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Files that are byte for byte the same.
    pub equal: u64,
    /// Files that did not come back.
    pub missing: Vec<String>,
    /// Files that came back with other bytes.
    pub different: Vec<String>,
    /// Files that came back and were never there.
    pub unexpected: Vec<String>,
}

impl Comparison {
    /// Whether everything is as it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty() && self.unexpected.is_empty()
    }
}

fn relative(folder: &Path, path: &Path) -> Option<String> {
    path.strip_prefix(folder).ok()?.to_str().map(str::to_owned)
}

fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
    };
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(named)?;
    let size = io::copy(&mut file, &mut hasher).map_err(named)?;
    Ok(Fingerprint { size, hash: hasher.finalize() })
}

/// Bytes of all files below a folder; 0 for one that is gone.
#[must_use]
pub fn disk_usage(folder: &Path) -> u64 {
    let files = WalkDir::new(folder).into_iter().filter_map(Result::ok);
    files
        .filter_map(|entry| entry.metadata().ok())
        .filter(|data| data.is_file())
        .map(|d| d.len())
        .sum()
}

/// Most memory that a process has held at once, in bytes, as far as the system tells.
#[must_use]
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the demo does not store, by relative paths: entries of the top level that are named, the demo's own
/// folder, and folders of other local networks, whose databases and words change or are nobody's to copy.
#[must_use]
pub fn left_out(folder: &Path, named: &[&str], own: &Path) -> Vec<String> {
    let mut left: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
    let origin = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    left.extend(relative(&origin, own).filter(|path| !path.is_empty()));
    let mut walk = WalkDir::new(folder).min_depth(1).into_iter();
    while let Some(entry) = walk.next() {
        // What cannot be read is told of when it is stored.
        let Ok(entry) = entry else { continue };
        let Some(path) = relative(folder, entry.path()) else { continue };
        if !entry.file_type().is_dir() {
            continue;
        }
        if left.contains(&path) {
            walk.skip_current_dir();
        } else if Layout::find(entry.path()).is_ok_and(|network| !network.nodes.is_empty()) {
            left.push(path);
            walk.skip_current_dir();
        }
    }
    left
}

/// A path as a pattern that matches it alone.
#[must_use]
pub fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => pattern.extend(['[', c, ']']),
            _ => pattern.push(c),
        }
    }
    pattern
}

/// A folder of this demo in the system's temporary folder.
///
/// # Errors
/// The system's.
pub fn temporary() -> io::Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::Builder::new().prefix("samara-demo-").tempdir()?;
    let path = folder.path().canonicalize()?;
    Ok((folder, path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_difference_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (origin, restored) = (root.path().join("a"), root.path().join("b"));
        for folder in [&origin, &restored] {
            fs::create_dir_all(folder.join("sub")).unwrap();
            fs::write(folder.join("empty"), "").unwrap();
            fs::write(folder.join("sub/größe ☂.txt"), "same").unwrap();
        }
        fs::write(origin.join("lost"), "x").unwrap();
        fs::write(origin.join("changed"), "before").unwrap();
        fs::write(restored.join("changed"), "after!").unwrap();
        fs::write(restored.join("new"), "x").unwrap();
        let inventory = Inventory::read(&origin, &[]).unwrap();
        let comparison = inventory.compare(&origin, &restored).unwrap();
        let expected = Comparison {
            equal: 2,
            missing: vec!["lost".into()],
            different: vec!["changed".into()],
            unexpected: vec!["new".into()],
        };
        assert_eq!(comparison, expected);
        assert!(!comparison.is_whole());
        let nothing = inventory.compare(&origin, &root.path().join("c")).unwrap();
        assert_eq!(nothing.missing.len(), 4);
    }

    #[test]
    fn what_a_put_excludes_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        for path in ["target/a", "sub/target/b", ".git/c", "d", "sub/e"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("d", root.path().join("link")).unwrap();
        let left = left_out(root.path(), &LEFT_OUT, Path::new("/elsewhere"));
        let inventory = Inventory::read(root.path(), &left).unwrap();
        let files: Vec<&str> = inventory.files.keys().map(String::as_str).collect();
        assert_eq!(files, ["d", "sub/e"]);
        assert_eq!((inventory.other, inventory.bytes()), (1, 2));
    }

    #[test]
    fn local_networks_and_the_demo_itself_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let files = ["net[1]/network.toml", "net[1]/host-3/words", "tmp/own/a", "b/network.toml"];
        for path in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let own = root.path().canonicalize().unwrap().join("tmp/own");
        let left = left_out(root.path(), &[], &own);
        assert_eq!(left, ["tmp/own", "net[1]"]);
        assert_eq!(pattern(&left[1]), "net[[]1[]]");
        let inventory = Inventory::read(root.path(), &left).unwrap();
        assert_eq!(inventory.files.keys().collect::<Vec<_>>(), ["b/network.toml"]);
    }

    #[test]
    fn a_process_has_a_peak() {
        assert!(peak_memory(std::process::id()).unwrap() > 0);
        assert_eq!(peak_memory(u32::MAX), None);
    }
}
