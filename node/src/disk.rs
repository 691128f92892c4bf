//! What several parts of the node do to files and folders.

use std::fs::File;
use std::io;
use std::path::Path;

/// The folder of a file: the current one where a path names none.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder, and those that it lies in, if they are not there; their names are durable then.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let parent = folder_of(path);
    if path.is_dir() {
        // Whoever made it may have been killed before the sync. Where that is refused, it is another's.
        return match sync_folder(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    if !parent.is_dir() {
        make_folder(parent)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    sync_folder(parent)
}

/// Makes durable what was created, renamed or removed in a folder.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file; returns whether it was there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
