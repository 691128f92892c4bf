//! Files that hold secrets: read only when nobody else can, written whole or not at all.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::console::read_bounded;
use crate::disk::{folder_of, sync_folder};

/// Why a private file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, pipe or device.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Others can read or write it.
    #[error(
        "{0} has mode {mode:04o} and must be for you alone; run: chmod 600 {0}",
        path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user's file.
    #[error(
        "{0} belongs to user {owner} and this process runs as user {us}; run: chown {us} {0}",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// User id of this process.
        us: u32,
    },
    /// Larger than what belongs in it.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes that are read at most.
        limit: usize,
    },
    /// A file is there already; words are never written over anything.
    #[error("{} exists and is not overwritten; move it away or choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written durably.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Who may read a file for its contents to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner, who is this process's user, and nobody else.
    OwnerOnly,
    /// Anyone: the contents are sealed.
    Anyone,
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read(
    path: &Path,
    limit: usize,
    readers: Readers,
) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let failed = |source| PrivateFileError::Read { path: path.to_owned(), source };
    // Without blocking, or a named pipe would hang the process before it is found not to be a file.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    // Judged on the open file: a path may lead elsewhere a moment later.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotRegular { path: path.to_owned() });
    }
    if readers == Readers::OwnerOnly {
        judge(path, metadata.mode(), metadata.uid(), effective_user())?;
    }
    let bytes = read_bounded(file, limit).map_err(failed)?;
    if bytes.len() > limit {
        return Err(PrivateFileError::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Whether a file's mode and owner keep it private. 0400 is as good as 0600.
fn judge(path: &Path, mode: u32, owner: u32, us: u32) -> Result<(), PrivateFileError> {
    let path = path.to_owned();
    if owner != us {
        return Err(PrivateFileError::Owner { path, owner, us });
    }
    if mode & 0o177 != 0 {
        return Err(PrivateFileError::Mode { path, mode: mode & 0o7777 });
    }
    Ok(())
}

#[expect(unsafe_code, reason = "the standard library does not tell the process's user")]
fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether nothing is at `path`, so that [`create`] has a chance.
pub(crate) fn check_absent(path: &Path) -> Result<(), PrivateFileError> {
    match path.symlink_metadata() {
        Ok(_) => Err(PrivateFileError::Exists { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PrivateFileError::Write { path: path.to_owned(), source }),
    }
}

/// Creates a file of mode 0600, durably: a crash leaves all of it or nothing at that name.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let failed = |source| PrivateFileError::Write { path: path.to_owned(), source };
    let folder = folder_of(path);
    let mut temporary = tempfile::Builder::new()
        .prefix(".samara-seed-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed)?;
    temporary.write_all(bytes).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist_noclobber(path).map_err(|refused| match refused.error.kind() {
        io::ErrorKind::AlreadyExists => PrivateFileError::Exists { path: path.to_owned() },
        _ => failed(refused.error),
    })?;
    sync_folder(folder).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with_mode(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        create(&path, b"secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_created_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        create(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(**read(&path, 6, Readers::OwnerOnly).unwrap(), *b"secret");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn nothing_is_overwritten() {
        let (folder, path) = with_mode(0o600);
        assert!(matches!(check_absent(&path), Err(PrivateFileError::Exists { .. })));
        assert!(matches!(create(&path, b"other"), Err(PrivateFileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_others_can_use_are_refused_with_the_remedy() {
        for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o601, 0o700] {
            let (_folder, path) = with_mode(mode);
            let error = read(&path, 100, Readers::OwnerOnly).unwrap_err();
            assert!(matches!(error, PrivateFileError::Mode { mode: found, .. } if found == mode));
            let remedy = format!("chmod 600 {}", path.display());
            assert!(error.to_string().contains(&remedy), "{error}");
            assert!(read(&path, 100, Readers::Anyone).is_ok());
        }
        for mode in [0o600, 0o400] {
            let (_folder, path) = with_mode(mode);
            assert!(read(&path, 100, Readers::OwnerOnly).is_ok());
        }
    }

    #[test]
    fn another_users_file_is_refused() {
        let refused = judge(Path::new("words"), 0o100_600, 1, 2);
        assert!(matches!(refused, Err(PrivateFileError::Owner { owner: 1, us: 2, .. })));
        assert!(judge(Path::new("words"), 0o100_600, 2, 2).is_ok());
    }

    #[test]
    fn long_files_and_folders_are_refused() {
        let (folder, path) = with_mode(0o600);
        let long = read(&path, 5, Readers::OwnerOnly);
        assert!(matches!(long, Err(PrivateFileError::TooLong { limit: 5, .. })));
        let not_a_file = read(folder.path(), 5, Readers::OwnerOnly);
        assert!(matches!(not_a_file, Err(PrivateFileError::NotRegular { .. })));
        let missing = read(&folder.path().join("none"), 5, Readers::OwnerOnly);
        assert!(matches!(missing, Err(PrivateFileError::Read { .. })));
    }
}
