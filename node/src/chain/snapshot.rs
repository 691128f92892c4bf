//! One consistent view of the chain: what was committed when it was taken, whatever comes later.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _};
use serde::de::DeserializeOwned;

use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::{Block, Certificate, Header, Transaction, ValidatorSet};
use samara_protocol::encoding;
use samara_protocol::hash::{BlockHash, TransactionId};
use samara_protocol::ledger::state::{Account, StateKey};
use samara_protocol::ledger::{Deadline, StateError, StateReader};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{ChainTime, Height};

use super::error::{StoreError, failed};
use super::tables::{
    CERTIFICATES, DEADLINES, INDEX, NODES, PROPOSED, Rows, SCANNED, STATE, TRANSACTIONS, UNDECIDED,
    VALIDATORS,
};
use crate::consensus::Undecided;

/// A read-only view of the store. Keeps old pages alive: drop it soon.
pub struct Snapshot {
    read: ReadTransaction,
    scanned: ReadOnlyTable<u64, &'static [u8]>,
    state: ReadOnlyTable<&'static [u8], &'static [u8]>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

/// A row of the table of undecided blocks.
type UndecidedRow<'a> =
    (redb::AccessGuard<'a, &'static [u8; 32]>, redb::AccessGuard<'a, (u32, &'static [u8])>);

const OPEN: &str = "open its tables";
const READ: &str = "read";

fn decoded<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    encoding::decode(bytes).map_err(|source| StoreError::Damaged { what, source })
}

impl Snapshot {
    pub(super) fn open(read: ReadTransaction) -> Result<Self, StoreError> {
        let scanned = read.open_table(SCANNED).map_err(failed(OPEN))?;
        let state = read.open_table(STATE).map_err(failed(OPEN))?;
        let nodes = read.open_table(NODES).map_err(failed(OPEN))?;
        Ok(Self { read, scanned, state, nodes })
    }

    fn row<T: DeserializeOwned>(
        &self,
        table: Rows,
        what: &'static str,
        height: Height,
    ) -> Result<Option<T>, StoreError> {
        let table = self.read.open_table(table).map_err(failed(OPEN))?;
        let row = table.get(height.0).map_err(failed(READ))?;
        row.map(|bytes| decoded(what, bytes.value())).transpose()
    }

    /// Height of the last block; 0 before the first.
    ///
    /// # Errors
    /// [`StoreError`], as for all methods here.
    pub fn height(&self) -> Result<Height, StoreError> {
        let last = self.scanned.last().map_err(failed(READ))?;
        Ok(Height(last.map_or(0, |(height, _)| height.value())))
    }

    /// A block's header and recovery records.
    pub fn scanned(&self, height: Height) -> Result<Option<ScannedBlock>, StoreError> {
        let row = self.scanned.get(height.0).map_err(failed(READ))?;
        row.map(|bytes| decoded("headers", bytes.value())).transpose()
    }

    /// A block's header.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        Ok(self.scanned(height)?.map(|block| block.header))
    }

    /// The last block's header.
    pub fn tip(&self) -> Result<Option<Header>, StoreError> {
        self.header(self.height()?)
    }

    /// A whole block.
    pub fn block(&self, height: Height) -> Result<Option<Block>, StoreError> {
        let Some(header) = self.header(height)? else { return Ok(None) };
        let transactions: Option<Vec<Transaction>> =
            self.row(TRANSACTIONS, "transactions", height)?;
        let transactions = transactions.ok_or(StoreError::Missing("transactions"))?;
        Ok(Some(Block { header, transactions }))
    }

    /// The certificate that decided a block.
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, StoreError> {
        self.row(CERTIFICATES, "certificates", height)
    }

    /// A header with its certificate.
    pub fn finalized(&self, height: Height) -> Result<Option<Finalized>, StoreError> {
        let Some(header) = self.header(height)? else { return Ok(None) };
        let certificate = self.certificate(height)?.ok_or(StoreError::Missing("certificate"))?;
        Ok(Some(Finalized { header, certificate }))
    }

    /// The set that decides a height, at most one above the tip.
    pub fn validators(&self, height: Height) -> Result<ValidatorSet, StoreError> {
        let table = self.read.open_table(VALIDATORS).map_err(failed(OPEN))?;
        let mut range = table.range(..=height.0).map_err(failed(READ))?;
        let last = range.next_back().ok_or(StoreError::Missing("validator set"))?;
        let (_, set) = last.map_err(failed(READ))?;
        decoded("validator sets", set.value())
    }

    /// Height of the block that holds a transaction.
    pub fn transaction_height(&self, id: &TransactionId) -> Result<Option<Height>, StoreError> {
        let table = self.read.open_table(INDEX).map_err(failed(OPEN))?;
        let found = table.get(&id.0).map_err(failed(READ))?;
        Ok(found.map(|height| Height(height.value())))
    }

    /// A value of the state, decoded.
    pub fn state<T: DeserializeOwned>(&self, key: &StateKey) -> Result<Option<T>, StoreError> {
        self.state_bytes(key)?.map(|bytes| decoded("state", &bytes)).transpose()
    }

    /// A value of the state as it is stored.
    pub fn state_bytes(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        let key = encoding::encode(key);
        let value = self.state.get(key.as_slice()).map_err(failed(READ))?;
        Ok(value.map(|bytes| bytes.value().to_vec()))
    }

    /// An account; an unknown one has nothing.
    pub fn account(&self, key: &PublicKey) -> Result<Account, StoreError> {
        Ok(self.state(&StateKey::Account(*key))?.unwrap_or_default())
    }

    /// Keys of announced hosts in order, after one.
    pub fn hosts(
        &self,
        after: Option<&PublicKey>,
        limit: usize,
    ) -> Result<Vec<PublicKey>, StoreError> {
        use std::ops::Bound;
        let bound = |key: [u8; 32]| encoding::encode(&StateKey::Host(PublicKey(key)));
        let (first, last) = (bound([0; 32]), bound([u8::MAX; 32]));
        let after = after.map(|key| bound(key.0));
        let start = match &after {
            Some(key) => Bound::Excluded(key.as_slice()),
            None => Bound::Included(first.as_slice()),
        };
        let end = Bound::Included(last.as_slice());
        let range = self.state.range::<&[u8]>((start, end)).map_err(failed(READ))?;
        let host = |row: Result<_, redb::StorageError>| {
            let (key, _): (redb::AccessGuard<'_, &[u8]>, _) = row.map_err(failed(READ))?;
            match decoded("state keys", key.value())? {
                StateKey::Host(host) => Ok(host),
                _ => Err(StoreError::Missing("host")),
            }
        };
        range.take(limit).map(host).collect()
    }

    /// Appends encoded [`ScannedBlock`]s from a height on to `out`: at most `limit`, and only while
    /// `out` stays within `bytes`. Gives their number. Nothing is decoded on the way.
    pub fn scanned_bytes(
        &self,
        from: Height,
        limit: usize,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, StoreError> {
        let mut count = 0;
        for row in self.scanned.range(from.0..).map_err(failed(READ))?.take(limit) {
            let (_, block) = row.map_err(failed(READ))?;
            let block = block.value();
            if out.len() + block.len() > bytes {
                break;
            }
            out.extend_from_slice(block);
            count += 1;
        }
        Ok(count)
    }

    /// Encoded blocks with certificates from a height on: at most `limit`, and at most about `bytes`
    /// bytes, but at least one if there is one.
    pub fn decided(
        &self,
        from: Height,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<(Vec<u8>, Certificate)>, StoreError> {
        let (mut blocks, mut total, mut height) = (Vec::new(), 0, from);
        while blocks.len() < limit && total < bytes {
            let Some(block) = self.block(height)? else { break };
            let certificate =
                self.certificate(height)?.ok_or(StoreError::Missing("certificate"))?;
            let block = encoding::encode(&block);
            total += block.len();
            blocks.push((block, certificate));
            height = height.next();
        }
        Ok(blocks)
    }

    /// An undecided block.
    pub fn undecided(&self, block: &BlockHash) -> Result<Option<Undecided>, StoreError> {
        let table = self.read.open_table(UNDECIDED).map_err(failed(OPEN))?;
        let row = table.get(&block.0).map_err(failed(READ))?;
        Ok(row.map(|row| {
            let (round, bytes) = row.value();
            Undecided { round, block: *block, bytes: bytes.to_vec() }
        }))
    }

    /// All undecided blocks.
    pub fn all_undecided(&self) -> Result<Vec<Undecided>, StoreError> {
        let table = self.read.open_table(UNDECIDED).map_err(failed(OPEN))?;
        let undecided = |row: Result<_, redb::StorageError>| {
            let (block, value): UndecidedRow<'_> = row.map_err(failed(READ))?;
            let (round, bytes) = value.value();
            Ok(Undecided { round, block: BlockHash(*block.value()), bytes: bytes.to_vec() })
        };
        table.iter().map_err(failed(READ))?.map(undecided).collect()
    }

    /// What this node proposed in a round of the height after the tip.
    pub fn proposed(&self, round: u32) -> Result<Option<Undecided>, StoreError> {
        let table = self.read.open_table(PROPOSED).map_err(failed(OPEN))?;
        let hash = table.get(round).map_err(failed(READ))?.map(|hash| BlockHash(*hash.value()));
        match hash {
            Some(hash) => self.undecided(&hash),
            None => Ok(None),
        }
    }
}

fn unreadable(what: &str) -> impl FnOnce(StoreError) -> StateError {
    let what = what.to_owned();
    move |source| StateError::Store { what, source: Box::new(source) }
}

impl StateReader for Snapshot {
    fn value(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StateError> {
        self.state_bytes(key).map_err(unreadable("a value"))
    }

    fn deadlines(&self, until: ChainTime, limit: usize) -> Result<Vec<Deadline>, StateError> {
        let read = || {
            let table = self.read.open_table(DEADLINES).map_err(failed(OPEN))?;
            let last = (until.0, &[u8::MAX; 32]);
            let deadline = |row: Result<_, redb::StorageError>| {
                let (key, _): (redb::AccessGuard<'_, (u64, &[u8; 32])>, _) =
                    row.map_err(failed(READ))?;
                let (at, contract) = key.value();
                Ok(Deadline { at: ChainTime(at), contract: PublicKey(*contract) })
            };
            let range = table.range(..=last).map_err(failed(READ))?;
            range.take(limit).map(deadline).collect::<Result<Vec<_>, StoreError>>()
        };
        read().map_err(unreadable("deadlines"))
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let node = self.nodes.get(key).map_err(failed(READ)).map_err(unreadable("a tree node"))?;
        Ok(node.map(|bytes| bytes.value().to_vec()))
    }
}
