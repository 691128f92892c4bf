//! A host's store on disk: rows in redb, sectors in [`Volumes`].
//!
//! ```text
//! <folder>/host.redb
//!   meta         "version" "id" "volumes" "prices"   encoded
//!   records      contract                    -> ContractRecord
//!   lists        contract, index             -> SectorEntry
//!   temporaries  contract, root              -> Temporary
//!   descriptors  contract, tag               -> sealed bytes
//!   heads        contract, offset            -> bytes of the head slot from there on
//!   agreements   contract                    -> Agreement
//!   damaged      root                        -> ()
//!   outboards    root                        -> hashes of the sector's groups
//! ```
//!
//! Batches of many threads share one transaction, and so one sync. An outboard waits in memory for the
//! next transaction (the one that acknowledges its sector): lost in a crash it is computed again.
//!
//! The store's id is drawn when it is made, and each volume's marker repeats it. A new or another
//! `host.redb` beside volumes in use means that the contracts' rows were lost: that is refused, because
//! a host that starts without them fails its proofs and removes the sectors. A full disk is told as
//! [`HostStoreError::Full`], and the store goes on when there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    TableDefinition, WriteTransaction,
};
use samara_protocol::contract::ContractId;
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::{SectorRoot, SlabTag};
use samara_protocol::host::HostStoreError;
use samara_protocol::host::store::{
    Agreement, ContractRecord, HostStore, HostWrite, IssuedPrices, Space, Temporary,
};
use samara_protocol::sector::SectorEntry;
use samara_protocol::signature::PublicKey;
use serde::de::DeserializeOwned;

use super::config::VolumeConfig;
use super::group::Group;
use super::volumes::{OpenVolumeError, Owner, StoreId, Volumes};
use crate::database::{Reopening, is_full};

type Id = [u8; 32];

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("records");
const LISTS: TableDefinition<'_, (Id, u64), &[u8]> = TableDefinition::new("lists");
const TEMPORARIES: TableDefinition<'_, (Id, Id), &[u8]> = TableDefinition::new("temporaries");
const DESCRIPTORS: TableDefinition<'_, (Id, [u8; 16]), &[u8]> = TableDefinition::new("descriptors");
const HEADS: TableDefinition<'_, (Id, u32), &[u8]> = TableDefinition::new("heads");
const AGREEMENTS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("agreements");
const DAMAGED: TableDefinition<'_, Id, ()> = TableDefinition::new("damaged");
const OUTBOARDS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("outboards");

/// Version of the tables and of what is in them.
const VERSION: u32 = 1;

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

type Outboards = BTreeMap<SectorRoot, Option<Vec<u8>>>;

#[derive(Debug)]
struct Batch {
    writes: Vec<HostWrite>,
    durable: bool,
}

fn failed(action: &'static str) -> impl FnOnce(redb::Error) -> HostStoreError {
    move |error| match error {
        redb::Error::Io(error) if is_full(&error) => HostStoreError::Full { needed: 0, free: 0 },
        error => HostStoreError::Failed { action, reason: error.to_string() },
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
        fs::create_dir_all(folder)
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
        self.outboards.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.commits.join(batch, |batches| {
            let outboards = std::mem::take(&mut *self.pending_outboards());
            let written = self.database.with(|database| write(database, &batches, &outboards));
            let written = written.map_err(failed("write a batch"));
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

/// One transaction for all batches.
fn write(database: &Database, batches: &[Batch], outboards: &Outboards) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    if !batches.iter().any(|batch| batch.durable) {
        transaction.set_durability(Durability::None)?;
    }
    {
        let mut table = transaction.open_table(OUTBOARDS)?;
        for (root, outboard) in outboards {
            match outboard {
                Some(outboard) => table.insert(root.0, outboard.as_slice())?,
                None => table.remove(root.0)?,
            };
        }
    }
    for write in batches.iter().flat_map(|batch| &batch.writes) {
        carry_out(&transaction, write)?;
    }
    transaction.commit()?;
    Ok(())
}

fn draw_id() -> Result<StoreId, OpenStoreError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(OpenStoreError::Random)?;
    Ok(id)
}

fn read_meta(database: &Database, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(table) => Ok(table.get(name)?.map(|bytes| bytes.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn note_volumes(database: &Database, volumes: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("volumes", volumes)?;
    transaction.commit()?;
    Ok(())
}

/// Makes all tables and notes version and id.
fn prepare(database: &Database, id: &StoreId) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("version", encode(&VERSION).as_slice())?;
        meta.insert("id", encode(id).as_slice())?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(LISTS)?;
        transaction.open_table(TEMPORARIES)?;
        transaction.open_table(DESCRIPTORS)?;
        transaction.open_table(HEADS)?;
        transaction.open_table(AGREEMENTS)?;
        transaction.open_table(DAMAGED)?;
        transaction.open_table(OUTBOARDS)?;
    }
    transaction.commit()?;
    Ok(())
}

fn carry_out(transaction: &WriteTransaction, write: &HostWrite) -> Result<(), redb::Error> {
    match write {
        HostWrite::Record(contract, record) => {
            transaction.open_table(RECORDS)?.insert(contract.0, encode(record).as_slice())?;
        }
        HostWrite::Tail { contract, from, entries } => {
            let mut table = transaction.open_table(LISTS)?;
            table.retain_in((contract.0, *from)..=(contract.0, u64::MAX), |_, _| false)?;
            for (index, entry) in (*from..).zip(entries) {
                table.insert((contract.0, index), encode(entry).as_slice())?;
            }
        }
        HostWrite::Temporary(temporary) => {
            let key = (temporary.contract.0, temporary.entry.root.0);
            transaction.open_table(TEMPORARIES)?.insert(key, encode(temporary).as_slice())?;
        }
        HostWrite::TemporaryGone { contract, root } => {
            transaction.open_table(TEMPORARIES)?.remove((contract.0, root.0))?;
        }
        HostWrite::Descriptor { contract, tag, sealed } => {
            let mut table = transaction.open_table(DESCRIPTORS)?;
            if sealed.is_empty() {
                table.remove((contract.0, tag.0))?;
            } else {
                table.insert((contract.0, tag.0), sealed.as_slice())?;
            }
        }
        HostWrite::Head { contract, offset, bytes } => {
            let mut table = transaction.open_table(HEADS)?;
            table.retain_in((contract.0, *offset)..=(contract.0, u32::MAX), |_, _| false)?;
            table.insert((contract.0, *offset), bytes.as_slice())?;
        }
        HostWrite::Adopt { old, new } => adopt(transaction, old, new)?,
        HostWrite::Forget(contract) => forget(transaction, contract)?,
        HostWrite::Agreement(agreement) => {
            let key = agreement.contract.0;
            transaction.open_table(AGREEMENTS)?.insert(key, encode(agreement).as_slice())?;
        }
        HostWrite::AgreementGone(contract) => {
            transaction.open_table(AGREEMENTS)?.remove(contract.0)?;
        }
        HostWrite::Prices(prices) => {
            transaction.open_table(META)?.insert("prices", encode(prices).as_slice())?;
        }
        HostWrite::Damaged(root) => {
            transaction.open_table(DAMAGED)?.insert(root.0, ())?;
        }
        HostWrite::Mended(root) => {
            transaction.open_table(DAMAGED)?.remove(root.0)?;
        }
    }
    Ok(())
}

fn adopt(
    transaction: &WriteTransaction,
    old: &ContractId,
    new: &ContractId,
) -> Result<(), redb::Error> {
    let mut lists = transaction.open_table(LISTS)?;
    let mut moved = Vec::new();
    for entry in lists.extract_from_if((old.0, 0)..=(old.0, u64::MAX), |_, _| true)? {
        let (key, value) = entry?;
        moved.push((key.value().1, value.value().to_vec()));
    }
    for (index, entry) in moved {
        lists.insert((new.0, index), entry.as_slice())?;
    }
    let mut descriptors = transaction.open_table(DESCRIPTORS)?;
    let mut moved = Vec::new();
    for entry in descriptors.extract_from_if((old.0, [0; 16])..=(old.0, [255; 16]), |_, _| true)? {
        let (key, value) = entry?;
        moved.push((key.value().1, value.value().to_vec()));
    }
    for (tag, sealed) in moved {
        descriptors.insert((new.0, tag), sealed.as_slice())?;
    }
    let mut temporaries = transaction.open_table(TEMPORARIES)?;
    let mut moved = Vec::new();
    for entry in temporaries.extract_from_if((old.0, [0; 32])..=(old.0, [255; 32]), |_, _| true)? {
        let (key, value) = entry?;
        moved.push((key.value().1, value.value().to_vec()));
    }
    for (root, bytes) in moved {
        // A row that does not decode acknowledges nothing.
        if let Ok(temporary) = decode::<Temporary>(&bytes) {
            let temporary = Temporary { contract: *new, ..temporary };
            temporaries.insert((new.0, root), encode(&temporary).as_slice())?;
        }
    }
    Ok(())
}

fn forget(transaction: &WriteTransaction, contract: &ContractId) -> Result<(), redb::Error> {
    let id = contract.0;
    transaction.open_table(RECORDS)?.remove(id)?;
    transaction.open_table(LISTS)?.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
    transaction.open_table(HEADS)?.retain_in((id, 0)..=(id, u32::MAX), |_, _| false)?;
    transaction
        .open_table(DESCRIPTORS)?
        .retain_in((id, [0; 16])..=(id, [255; 16]), |_, _| false)?;
    transaction
        .open_table(TEMPORARIES)?
        .retain_in((id, [0; 32])..=(id, [255; 32]), |_, _| false)?;
    Ok(())
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
