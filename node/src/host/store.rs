//! A host's store on disk: rows in redb ([`super::rows`]), sectors in [`Volumes`].
//!
//! Batches of many threads share one transaction, and so one sync. An outboard waits in memory for the
//! next transaction (the one that acknowledges its sector): lost in a crash it is computed again.
//!
//! The store's id is drawn when it is made, and each volume's marker repeats it. A new or another
//! `host.redb` beside volumes in use means that the contracts' rows were lost: that is refused, because
//! a host that starts without them fails its proofs and removes the sectors. A full disk is told as
//! [`HostStoreError::Full`] to those who write, and the store goes on when there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use samara_protocol::contract::ContractId;
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::{SectorRoot, SlabTag};
use samara_protocol::host::HostStoreError;
use samara_protocol::host::store::{
    Agreement, ContractRecord, HostStore, HostWrite, IssuedPrices, Space, Temporary,
};
use samara_protocol::sector::SectorEntry;
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use serde::de::DeserializeOwned;

use super::config::VolumeConfig;
use super::group::Group;
use super::rows::{
    AGREEMENTS, Batch, DAMAGED, DESCRIPTORS, HEADS, Id, LISTS, OUTBOARDS, Outboards, RECORDS,
    TEMPORARIES, VERSION, length, note_volumes, prepare, read_meta, write,
};
use super::volumes::{OpenVolumeError, Owner, StoreId, Volumes};
use crate::database::{Reopening, is_full};
use crate::disk::make_folder;

/// Why a host's store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The folder cannot be made.
    #[error("cannot make {path}", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be opened or read.
    #[error("cannot open the database {path}", path = .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: Box<redb::Error>,
    },
    /// Written by a newer version of this program.
    #[error("{path} has version {found}, this program knows {VERSION}", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A row of the database does not decode.
    #[error("{path} is damaged", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: samara_protocol::encoding::DecodeError,
    },
    /// A volume cannot be used.
    #[error("a volume cannot be used")]
    Volume(#[from] OpenVolumeError),
    /// The rows that go with a volume are not here.
    #[error(
        "{volume} holds sectors of this host, but {path} is {what}: its contracts, payments and heads \
         were in the file that is gone. Put that file back. If it is lost for good, the contracts and \
         their collateral are too; to start as a new host, delete the file samara-volume in each volume",
        volume = .volume.display(),
        path = .path.display()
    )]
    Lost {
        /// The file that should know the sectors.
        path: PathBuf,
        /// The volume.
        volume: PathBuf,
        /// What the file is instead: new, or another store's.
        what: &'static str,
    },
    /// The system gives no random bytes for the store's id.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// A host's store on disk.
#[derive(Debug)]
pub struct DiskStore {
    database: Reopening,
    volumes: Volumes,
    commits: Group<Batch, HostStoreError>,
    /// Outboards that are in no transaction yet; nothing for those to be removed.
    outboards: Mutex<Outboards>,
}

fn failed(action: &'static str) -> impl FnOnce(redb::Error) -> HostStoreError {
    move |error| HostStoreError::Failed { action, reason: error.to_string() }
}

/// Why a round of batches was not written. A full disk has nothing free.
fn not_written(error: redb::Error, batches: &[Batch], outboards: &Outboards) -> HostStoreError {
    match error {
        redb::Error::Io(error) if is_full(&error) => {
            HostStoreError::Full { needed: length(batches, outboards), free: 0 }
        }
        error => failed("write a batch")(error),
    }
}

fn row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HostStoreError> {
    decode(bytes)
        .map_err(|error| HostStoreError::Failed { action: "read a row", reason: error.to_string() })
}

impl DiskStore {
    /// Opens or makes the store of `host` in a folder of its own.
    ///
    /// # Errors
    /// [`OpenStoreError`]: no access, a newer version, a missing or foreign volume.
    pub fn open(
        folder: &Path,
        volumes: &[VolumeConfig],
        host: &PublicKey,
    ) -> Result<Self, OpenStoreError> {
        make_folder(folder)
            .map_err(|source| OpenStoreError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join("host.redb");
        let database = Reopening::file(&path).map_err(|source| OpenStoreError::Database {
            path: path.clone(),
            source: Box::new(source),
        })?;
        Self::on(database, path, volumes, host)
    }

    /// Opens the store on a database of its own.
    pub(super) fn on(
        database: Reopening,
        path: PathBuf,
        volumes: &[VolumeConfig],
        host: &PublicKey,
    ) -> Result<Self, OpenStoreError> {
        let wrong = |source: redb::Error| OpenStoreError::Database {
            path: path.clone(),
            source: Box::new(source),
        };
        let meta = |name: &str| database.with(|database| read_meta(database, name)).map_err(wrong);
        let damaged = |source| OpenStoreError::Damaged { path: path.clone(), source };
        if let Some(bytes) = meta("version")? {
            let found: u32 = decode(&bytes).map_err(damaged)?;
            if found != VERSION {
                return Err(OpenStoreError::Version { path, found });
            }
        }
        let known: BTreeSet<PathBuf> = match meta("volumes")? {
            Some(bytes) => decode(&bytes).map_err(damaged)?,
            None => BTreeSet::new(),
        };
        let (id, what) = match meta("id")? {
            Some(bytes) => (decode(&bytes).map_err(damaged)?, "another store"),
            None => (draw_id()?, "new"),
        };
        let lost = |volume| OpenStoreError::Lost { path: path.clone(), volume, what };
        if let Some(volume) = Volumes::of_another_store(volumes, host, &id)? {
            return Err(lost(volume));
        }
        // The id first: a volume that names it is never without its store.
        database.with(|database| prepare(database, &id)).map_err(wrong)?;
        let opened = Volumes::open(volumes, &Owner { host: *host, store: id }, &known)?;
        let paths: BTreeSet<&PathBuf> = volumes.iter().map(|volume| &volume.path).collect();
        database.with(|database| note_volumes(database, &encode(&paths))).map_err(wrong)?;
        Ok(Self {
            database,
            volumes: opened,
            commits: Group::new(),
            outboards: Mutex::new(BTreeMap::new()),
        })
    }

    /// Cancelled when the disk under the rows failed: the process must end.
    #[must_use]
    pub fn broken(&self) -> tokio_util::sync::CancellationToken {
        self.database.broken()
    }

    /// The volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// The volumes, to make their disks fail.
    #[cfg(test)]
    pub(super) const fn volumes_mut(&mut self) -> &mut Volumes {
        &mut self.volumes
    }

    fn pending_outboards(&self) -> MutexGuard<'_, Outboards> {
        lock(&self.outboards)
    }

    fn read<T>(
        &self,
        action: &'static str,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, HostStoreError> {
        self.database.with(|database| read(&database.begin_read()?)).map_err(failed(action))
    }

    /// Rows as they are stored, for a table keyed by one id.
    fn rows(
        &self,
        action: &'static str,
        table: TableDefinition<'static, Id, &'static [u8]>,
    ) -> Result<Vec<(Id, Vec<u8>)>, HostStoreError> {
        self.read(action, |transaction| {
            let mut rows = Vec::new();
            for entry in transaction.open_table(table)?.iter()? {
                let (key, value) = entry?;
                rows.push((key.value(), value.value().to_vec()));
            }
            Ok(rows)
        })
    }

    fn commit(&self, batch: Batch) -> Result<(), HostStoreError> {
        let broken = HostStoreError::Failed {
            action: "write a batch",
            reason: "another write of its round panicked".into(),
        };
        self.commits.join(batch, broken, |batches| {
            let outboards = std::mem::take(&mut *self.pending_outboards());
            let written = self.database.with(|database| write(database, &batches, &outboards));
            let written = written.map_err(|error| not_written(error, &batches, &outboards));
            if written.is_err() {
                let mut pending = self.pending_outboards();
                for (root, outboard) in outboards {
                    pending.entry(root).or_insert(outboard);
                }
            }
            written
        })
    }
}

fn draw_id() -> Result<StoreId, OpenStoreError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(OpenStoreError::Random)?;
    Ok(id)
}

impl HostStore for DiskStore {
    fn space(&self) -> Space {
        self.volumes.space()
    }

    fn contracts(&self) -> Result<Vec<ContractId>, HostStoreError> {
        let rows = self.rows("list contracts", RECORDS)?;
        Ok(rows.into_iter().map(|(id, _)| PublicKey(id)).collect())
    }

    fn record(&self, contract: &ContractId) -> Result<Option<ContractRecord>, HostStoreError> {
        let bytes = self.read("read a contract", |transaction| {
            let found = transaction.open_table(RECORDS)?.get(contract.0)?;
            Ok(found.map(|bytes| bytes.value().to_vec()))
        })?;
        bytes.map(|bytes| row(&bytes)).transpose()
    }

    fn sectors(&self, contract: &ContractId) -> Result<Vec<SectorEntry>, HostStoreError> {
        let rows = self.read("list sectors", |transaction| {
            let table = transaction.open_table(LISTS)?;
            let mut rows = Vec::new();
            for entry in table.range((contract.0, 0)..=(contract.0, u64::MAX))? {
                rows.push(entry?.1.value().to_vec());
            }
            Ok(rows)
        })?;
        rows.iter().map(|bytes| row(bytes)).collect()
    }

    fn temporaries(&self) -> Result<Vec<Temporary>, HostStoreError> {
        let rows = self.read("list temporary sectors", |transaction| {
            let mut rows = Vec::new();
            for entry in transaction.open_table(TEMPORARIES)?.iter()? {
                rows.push(entry?.1.value().to_vec());
            }
            Ok(rows)
        })?;
        rows.iter().map(|bytes| row(bytes)).collect()
    }

    fn descriptor(
        &self,
        contract: &ContractId,
        tag: &SlabTag,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        self.read("read a descriptor", |transaction| {
            let found = transaction.open_table(DESCRIPTORS)?.get((contract.0, tag.0))?;
            Ok(found.map(|bytes| bytes.value().to_vec()))
        })
    }

    fn head(&self, contract: &ContractId) -> Result<Vec<u8>, HostStoreError> {
        self.read("read a head", |transaction| {
            let mut head = Vec::new();
            let table = transaction.open_table(HEADS)?;
            for entry in table.range((contract.0, 0)..=(contract.0, u32::MAX))? {
                head.extend_from_slice(entry?.1.value());
            }
            Ok(head)
        })
    }

    fn agreements(&self) -> Result<Vec<Agreement>, HostStoreError> {
        let rows = self.rows("list agreements", AGREEMENTS)?;
        rows.iter().map(|(_, bytes)| row(bytes)).collect()
    }

    fn prices(&self) -> Result<Vec<IssuedPrices>, HostStoreError> {
        let bytes = self.database.with(|database| read_meta(database, "prices"));
        let bytes = bytes.map_err(failed("read the prices"))?;
        bytes.map_or(Ok(Vec::new()), |bytes| row(&bytes))
    }

    fn damaged(&self) -> Result<Vec<SectorRoot>, HostStoreError> {
        self.read("list damaged sectors", |transaction| {
            let mut roots = Vec::new();
            for entry in transaction.open_table(DAMAGED)?.iter()? {
                roots.push(SectorRoot(entry?.0.value()));
            }
            Ok(roots)
        })
    }

    fn stored(&self) -> Result<Vec<SectorEntry>, HostStoreError> {
        Ok(self.volumes.entries())
    }

    fn put_sector(
        &self,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &[u8],
    ) -> Result<(), HostStoreError> {
        self.volumes.put(entry, data)?;
        self.pending_outboards().insert(entry.root, Some(outboard.to_vec()));
        Ok(())
    }

    fn read_sector(
        &self,
        root: &SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        self.volumes.read(root, offset, length)
    }

    fn outboard(&self, root: &SectorRoot) -> Result<Option<Vec<u8>>, HostStoreError> {
        if let Some(pending) = self.pending_outboards().get(root) {
            return Ok(pending.clone());
        }
        self.read("read an outboard", |transaction| {
            let found = transaction.open_table(OUTBOARDS)?.get(root.0)?;
            Ok(found.map(|bytes| bytes.value().to_vec()))
        })
    }

    fn remove_sector(&self, root: &SectorRoot) -> Result<(), HostStoreError> {
        self.volumes.remove(root)?;
        self.pending_outboards().insert(*root, None);
        Ok(())
    }

    fn apply(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        self.commit(Batch { writes, durable: true })
    }

    fn note(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        self.commit(Batch { writes, durable: false })
    }
}
