//! Folders below another one, reached without following links.
//!
//! Whoever may write to the folder that is restored to could else lead a restore out of it, by a link where
//! a folder is expected. Each step from the root is taken from the handle of the folder before, so nothing
//! that is renamed meanwhile leads elsewhere. The root itself may be a link: the user named it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use samara_renter::world::Naming;

use crate::disk::make_folder;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The system takes away what the user's umask does not allow.
const NEW_FOLDER: Mode = Mode::from_raw_mode(0o777);
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(File);

impl Folder {
    /// Opens `path`, which is `root` or below it, and makes what is missing on the way.
    pub(super) fn make(root: &Path, path: &Path) -> io::Result<Self> {
        if !named(root).is_dir() {
            make_folder(named(root))?;
        }
        Self::walk(root, path, |folder, name| {
            match rustix::fs::mkdirat(&folder.0, name, NEW_FOLDER) {
                Ok(()) => {
                    // Files in it are named durably, and so must it be.
                    folder.sync()?;
                    folder.below(name)
                }
                Err(Errno::EXIST) => folder.below(name),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Opens `path`, which is `root` or below it.
    pub(super) fn open(root: &Path, path: &Path) -> io::Result<Self> {
        Self::walk(root, path, Self::below)
    }

    fn walk(
        root: &Path,
        path: &Path,
        mut step: impl FnMut(&Self, &OsStr) -> io::Result<Self>,
    ) -> io::Result<Self> {
        let outside = |_| io::Error::other("it is not below the folder to write to");
        let rest = path.strip_prefix(root).map_err(outside)?;
        let mut folder = Self(rustix::fs::openat(CWD, named(root), FOLDER, Mode::empty())?.into());
        for part in rest.components() {
            match part {
                Component::Normal(name) => folder = step(&folder, name)?,
                Component::CurDir => {}
                _ => return Err(io::Error::other("it leads out of the folder to write to")),
            }
        }
        Ok(folder)
    }

    fn below(&self, name: &OsStr) -> io::Result<Self> {
        match rustix::fs::openat(&self.0, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => Ok(Self(folder.into())),
            Err(Errno::LOOP | Errno::NOTDIR) if self.is_link(name) => {
                let name = name.to_string_lossy();
                Err(io::Error::other(format!(
                    "'{name}' is a link, and links are not followed here"
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn is_link(&self, name: &OsStr) -> bool {
        rustix::fs::readlinkat(&self.0, name, Vec::new()).is_ok()
    }

    /// Makes a file that must not be there yet.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, NEW_FILE)?.into())
    }

    /// Opens a regular file for reading; nothing if it is something else, or gone.
    pub(super) fn file(&self, name: &OsStr) -> io::Result<Option<File>> {
        // A pipe would keep whoever opens it waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => {
                let file = File::from(file);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Names of everything in it.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let entries = Dir::read_from(&self.0)?.map(|entry| {
            entry.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        });
        Ok(entries.collect::<Result<_, _>>()?)
    }

    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Gives a file in it another name; `false` if that was to be free and is not.
    pub(super) fn rename(&self, from: &str, to: &OsStr, naming: Naming) -> io::Result<bool> {
        let folder = &self.0;
        if naming == Naming::Replacing {
            rustix::fs::renameat(folder, from, folder, to)?;
            return Ok(true);
        }
        match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // Not every file system can, but each has links.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
                    Ok(()) => self.remove(OsStr::new(from)).map(|()| true),
                    Err(Errno::EXIST) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes its entries durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// A path that has a name: the empty one is that of the present folder.
fn named(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
