//! The rows of a host's store: the tables of its database, and how they are written.
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

use std::collections::BTreeMap;

use redb::{Database, Durability, ReadableDatabase as _, TableDefinition, WriteTransaction};
use samara_protocol::contract::ContractId;
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::SectorRoot;
use samara_protocol::host::store::{HostWrite, Temporary};

use super::volumes::StoreId;

pub(super) type Id = [u8; 32];

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("records");
pub(super) const LISTS: TableDefinition<'_, (Id, u64), &[u8]> = TableDefinition::new("lists");
pub(super) const TEMPORARIES: TableDefinition<'_, (Id, Id), &[u8]> =
    TableDefinition::new("temporaries");
pub(super) const DESCRIPTORS: TableDefinition<'_, (Id, [u8; 16]), &[u8]> =
    TableDefinition::new("descriptors");
pub(super) const HEADS: TableDefinition<'_, (Id, u32), &[u8]> = TableDefinition::new("heads");
pub(super) const AGREEMENTS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("agreements");
pub(super) const DAMAGED: TableDefinition<'_, Id, ()> = TableDefinition::new("damaged");
pub(super) const OUTBOARDS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("outboards");

/// Version of the tables and of what is in them.
pub(super) const VERSION: u32 = 1;

/// Outboards by their sectors' roots; nothing for those to be removed.
pub(super) type Outboards = BTreeMap<SectorRoot, Option<Vec<u8>>>;

/// What is written at one time.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) writes: Vec<HostWrite>,
    pub(super) durable: bool,
}

/// Bytes of the values that are to be written: what a disk lacks at the least when it has no room for
/// them.
pub(super) fn length(batches: &[Batch], outboards: &Outboards) -> u64 {
    let rows = batches.iter().flat_map(|batch| &batch.writes).map(row_length);
    let outboards = outboards.values().flatten().map(Vec::len);
    rows.chain(outboards).map(|bytes| bytes as u64).fold(0, u64::saturating_add)
}

fn row_length(write: &HostWrite) -> usize {
    match write {
        HostWrite::Record(_, record) => encode(record).len(),
        HostWrite::Tail { entries, .. } => entries.iter().map(|entry| encode(entry).len()).sum(),
        HostWrite::Temporary(temporary) => encode(temporary).len(),
        HostWrite::Descriptor { sealed, .. } => sealed.len(),
        HostWrite::Head { bytes, .. } => bytes.len(),
        HostWrite::Agreement(agreement) => encode(agreement).len(),
        HostWrite::Prices(prices) => encode(prices).len(),
        HostWrite::TemporaryGone { .. }
        | HostWrite::Adopt { .. }
        | HostWrite::Forget(_)
        | HostWrite::AgreementGone(_)
        | HostWrite::Damaged(_)
        | HostWrite::Mended(_) => 0,
    }
}

/// One transaction for all batches.
pub(super) fn write(
    database: &Database,
    batches: &[Batch],
    outboards: &Outboards,
) -> Result<(), redb::Error> {
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

pub(super) fn read_meta(database: &Database, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(table) => Ok(table.get(name)?.map(|bytes| bytes.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn note_volumes(database: &Database, volumes: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("volumes", volumes)?;
    transaction.commit()?;
    Ok(())
}

/// Makes all tables and notes version and id.
pub(super) fn prepare(database: &Database, id: &StoreId) -> Result<(), redb::Error> {
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
