//! The slab table: what leads from a slab's id to its hosts.
//!
//! ```text
//! key   = slab id (16)
//! value = k (1) || column (1) || frame (1) || descriptor (32) || list of host numbers (vi), in shard order
//! ```
//!
//! One table serves all trees and backups: files name slabs by their ids, so repair that moves a shard
//! edits one value here. How many bytes of a slab are in use is not kept: it is a sum over the files.
//!
//! The hosts are listed. A slab's hosts are drawn by lot for each slab, so that two slabs rarely have
//! the same in the same order: a table of placements to point into would have a row for each slab.

use serde::{Deserialize, Serialize};

use super::apply::Edits;
use crate::encoding::{self, DecodeError};
use crate::hash::{Digest, SlabId};
use crate::journal::{HostIndex, SlabRecord};
use crate::sector::bounded_vec;

/// Most shards of a slab.
const MAX_SHARDS: usize = 255;

/// A slab record without its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabRow {
    /// Data shards, k.
    pub data: u8,
    /// Binary logarithm of the column length in bytes.
    pub column: u8,
    /// Binary logarithm of the frame length in bytes.
    pub frame: u8,
    /// Digest of the plain descriptor.
    pub descriptor: Digest,
    /// Host of each shard, in shard order.
    #[serde(deserialize_with = "bounded_vec::<MAX_SHARDS, _, _>")]
    pub hosts: Vec<HostIndex>,
}

/// Why an item is no slab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlabItemError {
    /// A key of another form.
    #[error("the slab table has a key that is none: {0}")]
    Key(String),
    /// A value that does not decode.
    #[error("slab {slab} in the slab table: {source}")]
    Value {
        /// The slab.
        slab: SlabId,
        /// What is wrong.
        source: DecodeError,
    },
}

/// The item of a slab.
#[must_use]
pub fn slab_item(record: &SlabRecord) -> super::Item {
    let SlabRecord { id, data, column, frame, hosts, descriptor } = record.clone();
    let row = SlabRow { data, column, frame, descriptor, hosts };
    (id.0.to_vec(), encoding::encode(&row))
}

/// Puts a slab into the table, or gives it other hosts.
pub fn put_slab(edits: &mut Edits, record: &SlabRecord) {
    let (key, value) = slab_item(record);
    edits.put(key, value);
}

/// Removes a slab from the table.
pub fn remove_slab(edits: &mut Edits, slab: &SlabId) {
    edits.remove(slab.0.to_vec());
}

/// The slab of an item.
///
/// # Errors
/// [`SlabItemError`] for an item that is no slab.
pub fn read_slab(key: &[u8], value: &[u8]) -> Result<SlabRecord, SlabItemError> {
    let id = <[u8; SlabId::LEN]>::try_from(key);
    let id = SlabId(id.map_err(|_| SlabItemError::Key(hex::encode(key)))?);
    let row =
        encoding::decode(value).map_err(|source| SlabItemError::Value { slab: id, source })?;
    let SlabRow { data, column, frame, descriptor, hosts } = row;
    Ok(SlabRecord { id, data, column, frame, hosts, descriptor })
}
