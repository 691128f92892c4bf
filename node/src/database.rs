//! A redb database that comes back by itself after its disk was full.
//!
//! redb refuses everything after the first I/O error, until the file is opened again. [`Reopening`]
//! does that at the next use if the disk was full: what failed was never acknowledged, and opening
//! restores the last commit. While the disk is still full, each use fails with that reason.
//!
//! After any other I/O error the database stays closed, and [`Reopening::broken`] tells, so that the
//! process ends. A failed sync may leave pages that the system believes to be on the disk: opening again
//! would read them from its cache, and later commits would stand on what a power loss takes away.
//!
//! Invariant: at most one open handle on the file. redb's lock on it sees to that: as long as somebody
//! reads with the failed handle, opening is refused and tried again later.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use redb::{Database, ReadableTable as _, TableDefinition, WriteTransaction};
use samara_protocol::sync::{read, write};
use tokio_util::sync::CancellationToken;

use crate::data::make_private;
use crate::disk::{folder_of, sync_folder};

/// What a file says of itself: the version of its form, and numbers of its owner.
pub const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Memory for cached pages of a database that says nothing else.
const CACHE_BYTES: usize = 64 << 20;

/// Opens the database; `true` for the first time, when it may be made.
type Open = Box<dyn Fn(bool) -> Result<Database, redb::Error> + Send + Sync>;

/// A database, or the failed handle of one.
pub struct Reopening {
    name: PathBuf,
    open: Open,
    state: RwLock<State>,
    broken: CancellationToken,
}

enum State {
    Usable(Arc<Database>),
    /// The disk was full: to be opened again.
    Full,
    /// The handle failed, and the one whose error it was has not said why yet.
    Unexplained,
    /// Not to be used any more.
    Broken(String),
}

impl fmt::Debug for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopening").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Reopening {
    /// Opens a file, making it if it is not there. A file that is gone later is never made anew.
    ///
    /// # Errors
    /// redb's.
    pub fn file(path: &Path) -> Result<Self, redb::Error> {
        let file = path.to_owned();
        Self::new(
            path,
            move |first| {
                if first { open_or_make(&file) } else { Ok(builder().open(&file)?) }
            },
        )
    }

    /// Opens a database as `open` does.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn new(
        name: &Path,
        open: impl Fn(bool) -> Result<Database, redb::Error> + Send + Sync + 'static,
    ) -> Result<Self, redb::Error> {
        let database = Arc::new(open(true)?);
        let state = RwLock::new(State::Usable(database));
        let broken = CancellationToken::new();
        Ok(Self { name: name.to_owned(), open: Box::new(open), state, broken })
    }

    /// Cancelled when the database cannot be used any more: the process must end.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// Uses the database. After a full disk the next use opens it again.
    ///
    /// # Errors
    /// Those of `work`, and of opening again.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = self.usable()?;
        let outcome = work(&database);
        if let Err(error) = &outcome
            && matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo)
        {
            tracing::error!(%error, file = %self.name.display(), "a database failed");
            self.give_up(&database, error);
        }
        outcome
    }

    /// Makes the tables that are not there, and gives the version of the file's form: that of a new file is
    /// `version`.
    ///
    /// # Errors
    /// As [`Reopening::with`].
    pub fn versioned(
        &self,
        version: u64,
        make: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<u64, redb::Error> {
        self.with(|database| {
            let write = database.begin_write()?;
            let found = {
                let mut meta = write.open_table(META)?;
                let found = meta.get("version")?.map(|found| found.value());
                if found.is_none() {
                    meta.insert("version", version)?;
                }
                found.unwrap_or(version)
            };
            make(&write)?;
            write.commit()?;
            Ok(found)
        })
    }

    fn usable(&self) -> Result<Arc<Database>, redb::Error> {
        // A poisoned state is whole: it is replaced at once or not at all.
        if let State::Usable(database) = &*read(&self.state) {
            return Ok(Arc::clone(database));
        }
        let mut state = write(&self.state);
        if let State::Usable(database) = &*state {
            return Ok(Arc::clone(database));
        }
        match &*state {
            State::Broken(reason) => return Err(redb::Error::Io(io::Error::other(reason.clone()))),
            State::Unexplained => {
                self.end(&mut state, &redb::Error::PreviousIo);
                return Err(redb::Error::PreviousIo);
            }
            State::Usable(_) | State::Full => {}
        }
        let database = Arc::new((self.open)(false).inspect_err(|error| match error {
            redb::Error::Io(source) if !is_full(source) => self.end(&mut state, error),
            _ => {}
        })?);
        tracing::info!(file = %self.name.display(), "a database that had failed is open again");
        *state = State::Usable(Arc::clone(&database));
        Ok(database)
    }

    fn give_up(&self, failed: &Arc<Database>, error: &redb::Error) {
        let mut state = write(&self.state);
        let current = matches!(&*state, State::Usable(current) if Arc::ptr_eq(current, failed));
        match error {
            redb::Error::Io(source) if is_full(source) => {
                if current || matches!(*state, State::Unexplained) {
                    *state = State::Full;
                }
            }
            // Somebody else has had the error itself, or will have told by the next use.
            redb::Error::PreviousIo => {
                if current {
                    *state = State::Unexplained;
                }
            }
            error => self.end(&mut state, error),
        }
    }

    fn end(&self, state: &mut State, error: &redb::Error) {
        let name = self.name.display();
        tracing::error!(%error, file = %name, "a database's disk failed: the node must end");
        *state = State::Broken(format!("{name} failed before: {error}"));
        self.broken.cancel();
    }
}

/// Opens a database's file, or makes it if it is not there. It gets its name when it is whole and durable:
/// one that was cut short has no name that counts, and goes at the next start.
///
/// # Errors
/// redb's. A file that is no database is named, with what to do about it.
pub fn open_or_make(path: &Path) -> Result<Database, redb::Error> {
    let unfinished = unfinished(path);
    remove_if_there(&unfinished)?;
    if is_missing(path)? {
        // Only its owner reads what it holds, whatever folder it lies in.
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        drop(builder().create_file(file.try_clone()?)?);
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_folder(folder_of(path))?;
    }
    // Earlier releases made it for everybody to read.
    make_private(path)?;
    match builder().open(path).map_err(redb::Error::from) {
        Err(redb::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            let name = path.display();
            Err(redb::Error::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{name} is no whole database ({error}). A renter's database is a cache: \
                     delete it and start again. So do if this node was never used; else its disk has \
                     lost it: see \"Backups of nothing\" in docs/operators.md for what is lost with it"
                ),
            )))
        }
        opened => opened,
    }
}

/// An empty file holds as little as none: an earlier release left such a one when it was killed.
fn is_missing(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        metadata => Ok(metadata?.len() == 0),
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Where a database lies until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether the disk, or the user's share of it, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::{ReadableDatabase as _, StorageBackend, TableDefinition};

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

    /// A file in memory, whose disk can be made full or broken.
    #[derive(Clone, Debug, Default)]
    pub struct FaultyDisk(Arc<Disk>);

    #[derive(Debug, Default)]
    struct Disk {
        bytes: Mutex<Vec<u8>>,
        open: AtomicBool,
        full: AtomicBool,
        broken: AtomicBool,
    }

    impl FaultyDisk {
        /// From now on nothing more can be written, or again.
        pub fn set_full(&self, full: bool) {
            self.0.full.store(full, Ordering::SeqCst);
        }

        /// From now on nothing can be read or written, or again.
        pub fn set_broken(&self, broken: bool) {
            self.0.broken.store(broken, Ordering::SeqCst);
        }

        /// A database on this disk.
        pub fn database(&self) -> Result<Reopening, redb::Error> {
            let disk = self.clone();
            Reopening::new(Path::new("faulty"), move |_| {
                if disk.0.open.swap(true, Ordering::SeqCst) {
                    return Err(redb::Error::DatabaseAlreadyOpen);
                }
                Ok(redb::Builder::new().create_with_backend(disk.clone())?)
            })
        }

        fn check(&self, writes: bool) -> io::Result<()> {
            if self.0.broken.load(Ordering::SeqCst) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            if writes && self.0.full.load(Ordering::SeqCst) {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            Ok(())
        }
    }

    impl StorageBackend for FaultyDisk {
        fn len(&self) -> io::Result<u64> {
            self.check(false)?;
            Ok(self.0.bytes.lock().unwrap().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.check(false)?;
            let bytes = self.0.bytes.lock().unwrap();
            let offset = usize::try_from(offset).unwrap();
            let from = bytes.get(offset..offset + out.len());
            out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.check(true)?;
            self.0.bytes.lock().unwrap().resize(usize::try_from(length).unwrap(), 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check(false)
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check(true)?;
            let offset = usize::try_from(offset).unwrap();
            let mut bytes = self.0.bytes.lock().unwrap();
            let end = offset + data.len();
            let room = bytes.get_mut(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
            room.copy_from_slice(data);
            Ok(())
        }

        fn close(&self) -> io::Result<()> {
            self.0.open.store(false, Ordering::SeqCst);
            Ok(())
        }
    }

    fn put(database: &Reopening, key: u64) -> Result<(), redb::Error> {
        database.with(|database| {
            let write = database.begin_write()?;
            write.open_table(TABLE)?.insert(key, [1; 50_000].as_slice())?;
            write.commit()?;
            Ok(())
        })
    }

    fn count(database: &Reopening) -> Result<u64, redb::Error> {
        use redb::ReadableTableMetadata as _;
        database.with(|database| Ok(database.begin_read()?.open_table(TABLE)?.len()?))
    }

    #[test]
    fn a_full_disk_refuses_and_room_is_enough_to_go_on() {
        let disk = FaultyDisk::default();
        let database = disk.database().unwrap();
        put(&database, 1).unwrap();
        disk.set_full(true);
        for _ in 0..3 {
            assert!(put(&database, 2).is_err());
        }
        disk.set_full(false);
        put(&database, 3).unwrap();
        assert_eq!(count(&database).unwrap(), 2);
    }

    #[test]
    fn a_disk_that_failed_is_not_trusted_again_before_a_new_start() {
        let disk = FaultyDisk::default();
        let database = disk.database().unwrap();
        put(&database, 1).unwrap();
        assert!(!database.broken().is_cancelled());
        disk.set_broken(true);
        assert!(put(&database, 2).is_err());
        assert!(database.broken().is_cancelled());
        disk.set_broken(false);
        for _ in 0..3 {
            assert!(matches!(put(&database, 3), Err(redb::Error::Io(_))));
            assert!(matches!(count(&database), Err(redb::Error::Io(_))));
        }
        // The next process opens the file and finds what was acknowledged.
        drop(database);
        assert_eq!(count(&disk.database().unwrap()).unwrap(), 1);
    }

    #[test]
    fn a_failed_handle_in_use_is_waited_for() {
        let disk = FaultyDisk::default();
        let database = disk.database().unwrap();
        put(&database, 1).unwrap();
        database
            .with(|held| {
                disk.set_full(true);
                assert!(put(&database, 2).is_err());
                disk.set_full(false);
                // Its owner has not let go yet.
                assert!(matches!(put(&database, 3), Err(redb::Error::DatabaseAlreadyOpen)));
                held.begin_read()?;
                Ok(())
            })
            .ok();
        put(&database, 3).unwrap();
        assert_eq!(count(&database).unwrap(), 2);
    }

    #[test]
    fn a_file_that_is_gone_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        let database = Reopening::file(&path).unwrap();
        put(&database, 1).unwrap();
        std::fs::remove_file(&path).unwrap();
        let failed = database.with(|_| -> Result<(), redb::Error> {
            Err(redb::Error::Io(io::Error::from_raw_os_error(libc::EIO)))
        });
        assert!(failed.is_err());
        assert!(put(&database, 2).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_database_that_was_cut_short_when_it_was_made_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        // What a process that was killed at its first sync leaves: room, and no magic number yet.
        std::fs::write(unfinished(&path), vec![0; 1 << 20]).unwrap();
        let database = Reopening::file(&path).unwrap();
        put(&database, 1).unwrap();
        drop(database);
        assert_eq!(count(&Reopening::file(&path).unwrap()).unwrap(), 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        // An empty file is as good as none.
        std::fs::write(&path, b"").unwrap();
        put(&Reopening::file(&path).unwrap(), 1).unwrap();
    }

    #[test]
    fn a_database_has_no_name_before_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        // Nothing can be made beside it, so nothing is made at all.
        std::fs::create_dir(unfinished(&path)).unwrap();
        assert!(Reopening::file(&path).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_database_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        for bytes in [vec![0; 1 << 20], b"something else".to_vec()] {
            std::fs::write(&path, &bytes).unwrap();
            let error = Reopening::file(&path).unwrap_err().to_string();
            assert!(error.contains("file.redb is no whole database"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn only_its_owner_reads_a_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        for _ in 0..2 {
            put(&Reopening::file(&path).unwrap(), 1).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            // As an earlier release made it.
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
    }
}
