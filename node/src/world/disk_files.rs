//! The user's files on this machine's disks.
//!
//! A file being written lies beside its final place as `.samara-????????????????.partial` and is renamed
//! when it is whole and synced; dropped unfinished, it is removed. Its writer holds a lock on it, so what
//! a killed process left is told from what is being written, and removed. The last letters of its name follow
//! from the others, so that a user's own file of such a name is told from it. Folders' own entries are
//! synced too, so a file that was reported as restored survives a power loss. Below the folder that a
//! restore goes to no link is followed ([`super::below`]).

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::sync::lock;
use samara_renter::world::{
    FileEntry, FileError, FileKind, Files, Naming, ReadFile, SeekRead, WriteFile,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use walkdir::WalkDir;

use super::below::Folder;
use crate::disk::folder_of;

/// How the names of unfinished files begin, how they end, and how many letters are drawn between.
const UNFINISHED: (&str, &str, usize) = (".samara-", ".partial", 12);
/// Letters that follow from those that are drawn: no name that a user thinks of has them.
const CHECK: usize = 4;
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Held while an unfinished file is made and locked, and while such files are cleared away: one that is
/// not locked yet must not be taken for one that was left behind.
static MAKING: Mutex<()> = Mutex::new(());

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

fn error(action: &'static str, path: &Path, reason: impl ToString) -> FileError {
    FileError { action, path: path.to_owned(), reason: reason.to_string() }
}

/// Runs file-system calls on a thread that may block.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    path: &Path,
    job: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let owned = path.to_owned();
    match tokio::task::spawn_blocking(move || job(&owned)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(error(action, path, source)),
        Err(panic) => Err(error(action, path, panic)),
    }
}

fn entry(path: PathBuf, metadata: &Metadata) -> FileEntry {
    let kind = if metadata.is_file() {
        FileKind::File
    } else if metadata.is_dir() {
        FileKind::Folder
    } else {
        FileKind::Other
    };
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0);
    let executable = metadata.is_file() && metadata.permissions().mode() & 0o100 != 0;
    FileEntry { path, kind, size: metadata.len(), modified, executable }
}

#[async_trait]
impl Files for DiskFiles {
    async fn walk(&self, root: &Path) -> Result<Vec<Result<FileEntry, FileError>>, FileError> {
        blocking("list", root, |root| {
            let walk = WalkDir::new(root).follow_links(false).sort_by_file_name();
            let unreadable = |failed: walkdir::Error| {
                let path = failed.path().unwrap_or(root).to_owned();
                // Its own text repeats the path.
                let source = failed.into_io_error();
                error(
                    "list",
                    &path,
                    source.unwrap_or_else(|| io::Error::other("it leads to itself")),
                )
            };
            let entries = walk.into_iter().map(|item| {
                let item = item.map_err(unreadable)?;
                let metadata = item.metadata().map_err(unreadable)?;
                Ok(entry(item.into_path(), &metadata))
            });
            Ok(entries.collect())
        })
        .await
    }

    async fn stat(&self, path: &Path) -> Result<Option<FileEntry>, FileError> {
        blocking("look at", path, |path| match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(entry(path.to_owned(), &metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn open(&self, path: &Path) -> Result<Box<dyn ReadFile>, FileError> {
        let file = blocking("open", path, |path| File::open(path)).await?;
        Ok(Box::new(DiskRead { path: path.to_owned(), file: tokio::fs::File::from_std(file) }))
    }

    async fn open_seekable(&self, path: &Path) -> Result<Box<dyn SeekRead>, FileError> {
        let file = blocking("open", path, |path| File::open(path)).await?;
        Ok(Box::new(file))
    }

    async fn remove_file(&self, root: &Path, path: &Path) -> Result<bool, FileError> {
        let root = root.to_owned();
        blocking("remove", path, move |path| {
            let Some(name) = path.file_name() else { return Ok(false) };
            match Folder::open(&root, folder_of(path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                folder => match folder?.remove(name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    removed => removed.map(|()| true),
                },
            }
        })
        .await
    }

    async fn create(&self, root: &Path, path: &Path) -> Result<Box<dyn WriteFile>, FileError> {
        let root = root.to_owned();
        let (file, unfinished) = blocking("create", path, move |path| {
            Unfinished::make(Folder::make(&root, folder_of(path))?)
        })
        .await?;
        Ok(Box::new(DiskWrite {
            path: path.to_owned(),
            file: tokio::fs::File::from_std(file),
            unfinished,
        }))
    }

    async fn create_folder(&self, root: &Path, path: &Path) -> Result<(), FileError> {
        let root = root.to_owned();
        blocking("write to the folder", path, move |path| {
            // Where a folder takes no such file, no other one will do better.
            Unfinished::make(Folder::make(&root, path)?).map(drop)
        })
        .await
    }

    async fn remove_unfinished(&self, root: &Path, folder: &Path) -> Result<u64, FileError> {
        let root = root.to_owned();
        blocking("clear", folder, move |path| {
            let folder = match Folder::open(&root, path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                folder => folder?,
            };
            let mut removed = 0;
            for name in folder.names()?.iter().filter(|name| is_unfinished(name)) {
                removed += u64::from(remove_if_left(&folder, name)?);
            }
            Ok(removed)
        })
        .await
    }
}

/// Whether a name is one that only an unfinished file has.
fn is_unfinished(name: &OsStr) -> bool {
    let (prefix, suffix, letters) = UNFINISHED;
    let between = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix));
    let parts = between.and_then(|between| between.split_at_checked(letters));
    parts.is_some_and(|(drawn, check)| check == check_of(drawn))
}

/// The letters that follow from drawn ones.
fn check_of(drawn: &str) -> String {
    let hash = blake3::derive_key("samara 2026-11 unfinished file", drawn.as_bytes());
    letters_of(&hash[..CHECK])
}

fn letters_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// Removes an unfinished file unless its writer lives.
fn remove_if_left(folder: &Folder, name: &OsStr) -> io::Result<bool> {
    let _making = lock(&MAKING);
    // It may have been finished a moment ago.
    let Some(file) = folder.file(name)? else { return Ok(false) };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    folder.remove(name)?;
    Ok(true)
}

/// A file that has no name of its own yet, and goes if it never gets one.
struct Unfinished {
    folder: Folder,
    name: String,
    named: bool,
}

impl Unfinished {
    fn make(folder: Folder) -> io::Result<(File, Self)> {
        let _making = lock(&MAKING);
        loop {
            let name = draw_name()?;
            let file = match folder.create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Where the file system has no locks, nothing is taken for left behind either.
            let _ = file.try_lock();
            return Ok((file, Self { folder, name, named: false }));
        }
    }

    /// Gives it its name, durably; `false` if that is taken.
    fn name(mut self, path: &Path, naming: Naming) -> io::Result<bool> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        self.named = self.folder.rename(&self.name, name, naming)?;
        if self.named {
            self.folder.sync()?;
        }
        Ok(self.named)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named
            && let Err(error) = self.folder.remove(OsStr::new(&self.name))
        {
            tracing::debug!(%error, name = self.name, "an unfinished file stays");
        }
    }
}

fn draw_name() -> io::Result<String> {
    let (prefix, suffix, letters) = UNFINISHED;
    let mut drawn = vec![0u8; letters];
    getrandom::fill(&mut drawn).map_err(io::Error::other)?;
    let drawn = letters_of(&drawn);
    Ok(format!("{prefix}{drawn}{}{suffix}", check_of(&drawn)))
}

struct DiskRead {
    path: PathBuf,
    file: tokio::fs::File,
}

#[async_trait]
impl ReadFile for DiskRead {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        self.file.read(buffer).await.map_err(|source| error("read", &self.path, source))
    }
}

struct DiskWrite {
    path: PathBuf,
    file: tokio::fs::File,
    unfinished: Unfinished,
}

#[async_trait]
impl WriteFile for DiskWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<(), FileError> {
        self.file.write_all(&bytes).await.map_err(|source| error("write", &self.path, source))
    }

    async fn finish(
        self: Box<Self>,
        modified: u64,
        executable: bool,
        naming: Naming,
    ) -> Result<bool, FileError> {
        let Self { path, mut file, unfinished } = *self;
        file.flush().await.map_err(|source| error("write", &path, source))?;
        let file = file.into_std().await;
        blocking("finish", &path, move |path| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(modified);
            if executable {
                // Whoever may read it may run it.
                let mode = file.metadata()?.permissions().mode();
                let mode = mode | ((mode & 0o444) >> 2);
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            file.set_times(FileTimes::new().set_modified(time))?;
            file.sync_all()?;
            unfinished.name(path, naming)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        let mut file = DiskFiles.create(folder.path(), &path).await.unwrap();
        file.write(Bytes::from_static(b"half")).await.unwrap();
        drop(file);
        let left = DiskFiles.walk(folder.path()).await.unwrap();
        let mut left = left.into_iter().map(Result::unwrap);
        assert!(left.all(|entry| entry.kind == FileKind::Folder));
    }

    #[tokio::test]
    async fn a_name_that_is_taken_meanwhile_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for (naming, takes, bytes) in
            [(Naming::IfFree, false, "theirs"), (Naming::Replacing, true, "ours")]
        {
            let mut file = DiskFiles.create(folder.path(), &path).await.unwrap();
            file.write(Bytes::from_static(b"ours")).await.unwrap();
            std::fs::write(&path, "theirs").unwrap();
            assert_eq!(file.finish(0, false, naming).await.unwrap(), takes);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bytes);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[tokio::test]
    async fn only_what_a_killed_process_left_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(draw_name().unwrap());
        // All but the first are the user's own.
        let own = [".samara-notes", "a", ".samara-abcdefabcdef.partial", ".samara-abcd.partial"];
        let own = own.map(|name| folder.path().join(name));
        let other = folder.path().join(".samara-abcdefghijkläabc.partial");
        for name in own.iter().chain([&left, &other]) {
            std::fs::write(name, "x").unwrap();
        }
        let mut open = DiskFiles.create(folder.path(), &folder.path().join("b")).await.unwrap();
        open.write(Bytes::from_static(b"b")).await.unwrap();
        assert_eq!(DiskFiles.remove_unfinished(folder.path(), folder.path()).await.unwrap(), 1);
        assert!(!left.exists());
        assert!(open.finish(0, false, Naming::IfFree).await.unwrap());
        assert!(own.iter().all(|name| name.exists()) && other.exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 6);
        assert_eq!(
            DiskFiles.remove_unfinished(folder.path(), &folder.path().join("none")).await.unwrap(),
            0
        );
    }

    #[tokio::test]
    async fn a_finished_file_has_its_bytes_time_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/ü.sh");
        let mut file = DiskFiles.create(folder.path(), &path).await.unwrap();
        file.write(Bytes::from_static(b"echo")).await.unwrap();
        assert!(file.finish(1_234_567, true, Naming::IfFree).await.unwrap());
        let found = DiskFiles.stat(&path).await.unwrap().unwrap();
        let expected = FileEntry {
            path: path.clone(),
            kind: FileKind::File,
            size: 4,
            modified: 1_234_567,
            executable: true,
        };
        assert_eq!(found, expected);
        let mut buffer = [0; 8];
        let mut open = DiskFiles.open(&path).await.unwrap();
        assert_eq!(open.read(&mut buffer).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_link_is_listed_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        let entries = DiskFiles.walk(folder.path()).await.unwrap();
        let kinds: Vec<FileKind> = entries.into_iter().map(|entry| entry.unwrap().kind).collect();
        assert_eq!(kinds, [FileKind::Folder, FileKind::Other]);
    }

    #[tokio::test]
    async fn no_link_leads_out_of_the_folder_that_is_restored_to() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, real) = (folder.path().join("victim"), folder.path().join("real"));
        for path in [&victim, &real.join("sub")] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::write(victim.join("a"), "theirs").unwrap();
        std::fs::write(victim.join(draw_name().unwrap()), "theirs").unwrap();
        // The destination itself may be a link.
        let out = folder.path().join("out");
        std::os::unix::fs::symlink(&real, &out).unwrap();
        for link in ["docs", "sub/docs"] {
            std::os::unix::fs::symlink(&victim, real.join(link)).unwrap();
            let below = out.join(link);
            let refused = DiskFiles.create(&out, &below.join("a")).await.err().unwrap();
            assert!(refused.reason.contains("'docs' is a link"), "{refused}");
            assert!(DiskFiles.create(&out, &below.join("new/b")).await.is_err());
            assert!(DiskFiles.create_folder(&out, &below.join("new")).await.is_err());
            assert!(DiskFiles.create_folder(&out, &below).await.is_err());
            assert!(DiskFiles.remove_unfinished(&out, &below).await.is_err());
        }
        assert!(DiskFiles.create(&out, &victim.join("a")).await.is_err());
        assert!(DiskFiles.create(&out, &out.join("../victim/a")).await.is_err());
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 2);
        assert_eq!(std::fs::read_to_string(victim.join("a")).unwrap(), "theirs");

        let mut file = DiskFiles.create(&out, &out.join("sub/new/a")).await.unwrap();
        file.write(Bytes::from_static(b"ours")).await.unwrap();
        // A folder that becomes a link meanwhile leads nowhere either.
        std::fs::rename(real.join("sub/new"), real.join("moved")).unwrap();
        std::os::unix::fs::symlink(&victim, real.join("sub/new")).unwrap();
        assert!(file.finish(0, false, Naming::Replacing).await.unwrap());
        assert_eq!(std::fs::read_to_string(real.join("moved/a")).unwrap(), "ours");
        assert_eq!(std::fs::read_to_string(victim.join("a")).unwrap(), "theirs");
    }
}
