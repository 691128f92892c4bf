//! The data folder of one node: version, lock, and where each part keeps its own.
//!
//! One process at a time holds a folder (an exclusive lock on `lock`, gone with the process). The
//! folder's format version is in `version`; a newer one is refused, not misread.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::disk::{folder_of, make_folder, sync_folder};

/// Name of the empty file that says: the words were drawn here and nothing can be found for them, so
/// the renter may start without a recovery. Removed once it has.
pub const NEW_WORDS: &str = "new-words";

/// Name of the file that says under which epoch the renter of this folder writes. A database that is
/// missing beside it was deleted, and is brought back from the words.
pub const WRITES: &str = "renter-writes";

/// Name of the empty file that says: this node's validator key has never voted anywhere, so it may vote
/// at once. Written where words are drawn; removed once the node votes.
pub const NEW_VALIDATOR: &str = "new-validator";

/// Version of the folder's layout written by this program.
pub const VERSION: u32 = 1;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be made, read or written.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use by another samara process; stop that one first", path = .0.display())]
    Locked(PathBuf),
    /// Written by a newer program, or not a version at all.
    #[error("{path} has data version '{found}', this program reads {VERSION}: use a newer samara", path = .path.display())]
    Version {
        /// The folder.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
}

/// A data folder held by this process.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    // Holds the lock as long as it is open.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder (mode 0700) if it is not there, checks its version, and takes its lock.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataError::File { action, path, source }
        };
        std::fs::create_dir_all(path).map_err(fail("make the data folder", path))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(fail("restrict the data folder", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fail("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(fail("lock", &lock_path)(source)),
        }
        check_version(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Whether a process holds a data folder at this moment. Makes nothing.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    // The lock that this takes for a moment goes with the file.
    File::open(path.join("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn check_version(path: &Path) -> Result<(), DataError> {
    let file = path.join("version");
    match std::fs::read_to_string(&file) {
        Ok(text) if text.trim() == VERSION.to_string() => Ok(()),
        Ok(text) => Err(DataError::Version {
            path: path.to_owned(),
            found: text.trim().chars().take(32).collect(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_private(&file, format!("{VERSION}\n").as_bytes())
                .map_err(|source| DataError::File { action: "write", path: file, source })
        }
        Err(source) => Err(DataError::File { action: "read", path: file, source }),
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// The system's, when the file cannot be written beside its final place and renamed.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_folder(folder_of(path))
}

/// Takes from others what they may do with a file.
///
/// # Errors
/// The system's.
pub fn make_private(path: &Path) -> std::io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700))
}

/// Makes a folder if it is not there, and takes from others what they may do with it.
///
/// # Errors
/// The system's.
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    make_folder(path)?;
    make_private(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("node");
        let held = DataFolder::open(&path).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(DataError::Locked(_))));
        assert!(is_held(&path) && !is_held(root.path()));
        drop(held);
        assert!(!is_held(&path));
        DataFolder::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_newer_folder_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("version"), "2\n").unwrap();
        let error = DataFolder::open(root.path()).unwrap_err();
        assert!(matches!(error, DataError::Version { ref found, .. } if found == "2"), "{error}");
        assert_eq!(std::fs::read_to_string(root.path().join("version")).unwrap(), "2\n");
    }
}
