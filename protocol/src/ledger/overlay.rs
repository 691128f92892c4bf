//! Changed values over a state that is only read.
//!
//! Two layers: what the block has changed so far, and what the transaction that runs has changed. The
//! second is kept or discarded as a whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};

use super::reader::{Deadline, StateChanges, StateError, StateReader};
use super::state::{Contract, StateKey};
use super::tree;
use crate::contract::ContractId;
use crate::encoding;
use crate::units::Height;

pub(super) struct Overlay<'a, R: ?Sized> {
    base: &'a R,
    block: BTreeMap<StateKey, Option<Vec<u8>>>,
    transaction: BTreeMap<StateKey, Option<Vec<u8>>>,
}

impl<'a, R: StateReader + ?Sized> Overlay<'a, R> {
    pub fn new(base: &'a R) -> Self {
        Self { base, block: BTreeMap::new(), transaction: BTreeMap::new() }
    }

    /// The state below.
    pub fn base(&self) -> &'a R {
        self.base
    }

    pub fn read<T: DeserializeOwned>(&self, key: &StateKey) -> Result<Option<T>, StateError> {
        match self.transaction.get(key).or_else(|| self.block.get(key)) {
            Some(changed) => changed.as_ref().map(|bytes| decode_value(key, bytes)).transpose(),
            None => read_value(self.base, key),
        }
    }

    /// A value that every state has.
    pub fn expect<T: DeserializeOwned>(&self, key: &StateKey) -> Result<T, StateError> {
        self.read(key)?.ok_or(StateError::Missing(*key))
    }

    pub fn write<T: Serialize>(&mut self, key: StateKey, value: &T) {
        self.transaction.insert(key, Some(encoding::encode(value)));
    }

    pub fn remove(&mut self, key: StateKey) {
        self.transaction.insert(key, None);
    }

    /// Makes the transaction's changes the block's.
    pub fn keep(&mut self) {
        self.block.append(&mut self.transaction);
    }

    /// Forgets the transaction's changes.
    pub fn discard(&mut self) {
        self.transaction.clear();
    }

    /// All changes, with the new tree and the deadlines that follow from the changed contracts.
    pub fn into_changes(mut self, height: Height) -> Result<StateChanges, StateError> {
        self.keep();
        let mut values = self.block;
        let mut deadlines_removed = BTreeSet::new();
        let mut deadlines_added = BTreeSet::new();
        let mut same = Vec::new();
        for (key, value) in &values {
            let before = self.base.value(key)?;
            if before == *value {
                same.push(*key);
            } else if let StateKey::Contract(contract) = key {
                deadlines_removed.extend(deadline(*contract, before.as_deref())?);
                deadlines_added.extend(deadline(*contract, value.as_deref())?);
            }
        }
        for key in same {
            values.remove(&key);
        }
        let tree::TreeUpdate { root, nodes, stale_nodes } =
            tree::update(self.base, height, &values)?;
        Ok(StateChanges {
            height,
            values,
            deadlines_removed,
            deadlines_added,
            nodes,
            stale_nodes,
            root,
        })
    }
}

/// Reads and decodes a value.
pub(super) fn read_value<T: DeserializeOwned>(
    reader: &(impl StateReader + ?Sized),
    key: &StateKey,
) -> Result<Option<T>, StateError> {
    reader.value(key)?.map(|bytes| decode_value(key, &bytes)).transpose()
}

fn decode_value<T: DeserializeOwned>(key: &StateKey, bytes: &[u8]) -> Result<T, StateError> {
    encoding::decode(bytes).map_err(|source| StateError::Damaged { key: *key, source })
}

fn deadline(contract: ContractId, value: Option<&[u8]>) -> Result<Option<Deadline>, StateError> {
    let Some(bytes) = value else { return Ok(None) };
    let decoded: Contract = decode_value(&StateKey::Contract(contract), bytes)?;
    Ok(Some(Deadline { at: decoded.due, contract }))
}
