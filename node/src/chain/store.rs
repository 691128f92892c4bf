//! Everything that a node keeps of the chain, in one embedded store (`chain.redb`).
//!
//! Invariants:
//! - I9: a block, its certificate, the state after it and the end of all undecided blocks are one
//!   durable transaction ([`Store::commit`]).
//! - The state is that of the tip; the tree keeps only nodes that the tip reaches.
//! - The folder says which format and which chain it holds; a newer format or another chain is refused.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, WriteTransaction};

use samara_protocol::chain::query::ScannedBlock;
use samara_protocol::chain::{Block, Certificate, Genesis};
use samara_protocol::encoding;
use samara_protocol::hash::BlockHash;
use samara_protocol::ledger::{StateChanges, genesis_state, records};
use samara_protocol::signature::PublicKey;

use super::error::{StoreError, failed};
use super::snapshot::Snapshot;
use super::tables::{
    CERTIFICATES, DEADLINES, INDEX, META, NODES, PROPOSED, Rows, SCANNED, STATE, TRANSACTIONS,
    UNDECIDED, VALIDATORS, VERSION,
};
use crate::database::open_or_make;
use crate::disk::make_folder;

/// Name of a validator's log of votes. The chain store and the log's folder both hold it, so that a
/// log that was lost, or is another one, is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteLog(pub [u8; 16]);

/// The store. One process opens it at a time.
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the store in a folder, or starts it with the genesis state.
    ///
    /// # Errors
    /// [`StoreError`]; a newer format and another chain are refused before anything is written.
    pub fn open(folder: &Path, genesis: &Genesis) -> Result<Self, StoreError> {
        make_folder(folder)
            .map_err(|source| StoreError::Folder { folder: folder.to_owned(), source })?;
        let database = open_or_make(&folder.join("chain.redb")).map_err(failed("open"))?;
        let store = Self { database };
        if !store.check_version(genesis)? {
            store.start(genesis)?;
        }
        Ok(store)
    }

    /// The chain as it is now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::open(self.database.begin_read().map_err(failed("begin reading"))?)
    }

    /// The log that a key of this node last voted with; nothing if it never voted here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn vote_log(&self, voter: &PublicKey) -> Result<Option<VoteLog>, StoreError> {
        const READ: &str = "read who votes";
        let read = self.database.begin_read().map_err(failed(READ))?;
        let meta = read.open_table(META).map_err(failed(READ))?;
        let row = meta.get(voter_row(voter).as_str()).map_err(failed(READ))?;
        let id = |bytes: redb::AccessGuard<'_, &[u8]>| {
            bytes.value().try_into().map(VoteLog).map_err(|_| StoreError::Missing("name of a log"))
        };
        row.map(id).transpose()
    }

    /// Notes durably which log a key votes with from now on: before its first vote.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn set_vote_log(&self, voter: &PublicKey, log: VoteLog) -> Result<(), StoreError> {
        self.write("note who votes", |write| {
            let mut meta = write.open_table(META)?;
            meta.insert(voter_row(voter).as_str(), log.0.as_slice())?;
            Ok(())
        })
    }

    /// Whether the folder holds this chain; `false` when it is new.
    fn check_version(&self, genesis: &Genesis) -> Result<bool, StoreError> {
        let read = self.database.begin_read().map_err(failed("begin reading"))?;
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(false),
            Err(error) => return Err(failed("open its tables")(error)),
        };
        let value = |name: &'static str| {
            let found = meta.get(name).map_err(failed("read its version"))?;
            found.map(|bytes| bytes.value().to_vec()).ok_or(StoreError::Missing(name))
        };
        let version = value("version")?;
        let version = version.try_into().map_err(|_| StoreError::Missing("version"))?;
        let found = u32::from_le_bytes(version);
        if found > VERSION {
            return Err(StoreError::Newer { found });
        }
        let stored: Genesis = encoding::decode(&value("genesis")?)
            .map_err(|source| StoreError::Damaged { what: "genesis", source })?;
        let (expected, found) = (genesis.hash(), stored.hash());
        if found == expected { Ok(true) } else { Err(StoreError::OtherChain { expected, found }) }
    }

    /// Writes the state before the first block, and creates all tables.
    fn start(&self, genesis: &Genesis) -> Result<(), StoreError> {
        let changes = genesis_state(genesis)?;
        self.write("write the genesis state", |write| {
            let mut meta = write.open_table(META)?;
            meta.insert("version", VERSION.to_le_bytes().as_slice())?;
            meta.insert("genesis", encoding::encode(genesis).as_slice())?;
            for table in [SCANNED, TRANSACTIONS, CERTIFICATES] {
                write.open_table(table)?;
            }
            write.open_table(INDEX)?;
            write.open_table(UNDECIDED)?;
            write.open_table(PROPOSED)?;
            let first = encoding::encode(&genesis.validators);
            write.open_table(VALIDATORS)?.insert(1, first.as_slice())?;
            apply(write, &changes)
        })
    }

    /// Keeps a block that is not decided, durably. With `own`, it is what this node proposes in that
    /// round of the next height.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn keep_undecided(
        &self,
        hash: &BlockHash,
        round: u32,
        bytes: &[u8],
        own: bool,
    ) -> Result<(), StoreError> {
        self.write("keep an undecided block", |write| {
            write.open_table(UNDECIDED)?.insert(&hash.0, (round, bytes))?;
            if own {
                write.open_table(PROPOSED)?.insert(round, &hash.0)?;
            }
            Ok(())
        })
    }

    /// Appends a decided block: block, certificate, state after it and the end of all undecided
    /// blocks, in one durable transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is written then.
    pub fn commit(
        &self,
        block: &Block,
        certificate: &Certificate,
        changes: &StateChanges,
    ) -> Result<(), StoreError> {
        let height = block.header.height;
        let scanned = ScannedBlock { header: block.header, records: records(block) };
        let next = changes
            .values
            .get(&samara_protocol::ledger::state::StateKey::Validators)
            .and_then(Option::as_deref);
        self.write("commit a block", |write| {
            let row = |table: Rows, bytes: &[u8]| -> Result<(), redb::Error> {
                write.open_table(table)?.insert(height.0, bytes)?;
                Ok(())
            };
            row(SCANNED, &encoding::encode(&scanned))?;
            row(TRANSACTIONS, &encoding::encode(&block.transactions))?;
            row(CERTIFICATES, &encoding::encode(certificate))?;
            let mut index = write.open_table(INDEX)?;
            for transaction in &block.transactions {
                index.insert(&transaction.id().0, height.0)?;
            }
            if let Some(set) = next {
                write.open_table(VALIDATORS)?.insert(height.next().0, set)?;
            }
            write.open_table(UNDECIDED)?.retain(|_, _| false)?;
            write.open_table(PROPOSED)?.retain(|_, _| false)?;
            apply(write, changes)
        })
    }

    fn write(
        &self,
        action: &'static str,
        body: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed(action))?;
        body(&write).map_err(failed(action))?;
        write.commit().map_err(failed(action))
    }
}

fn voter_row(voter: &PublicKey) -> String {
    format!("voter {voter}")
}

/// Writes what a block changes in the state. Nodes that only older trees reach are dropped: state is
/// proven at the tip, and a reader's snapshot keeps its own view.
fn apply(write: &WriteTransaction, changes: &StateChanges) -> Result<(), redb::Error> {
    let mut state = write.open_table(STATE)?;
    for (key, value) in &changes.values {
        let key = encoding::encode(key);
        match value {
            Some(value) => state.insert(key.as_slice(), value.as_slice())?,
            None => state.remove(key.as_slice())?,
        };
    }
    let mut nodes = write.open_table(NODES)?;
    for (key, node) in &changes.nodes {
        nodes.insert(key.as_slice(), node.as_slice())?;
    }
    for key in &changes.stale_nodes {
        nodes.remove(key.as_slice())?;
    }
    let mut deadlines = write.open_table(DEADLINES)?;
    for deadline in &changes.deadlines_removed {
        deadlines.remove((deadline.at.0, &deadline.contract.0))?;
    }
    for deadline in &changes.deadlines_added {
        deadlines.insert((deadline.at.0, &deadline.contract.0), ())?;
    }
    Ok(())
}
