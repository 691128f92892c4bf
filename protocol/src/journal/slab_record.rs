//! What the journal says of a slab: enough to ask its hosts for the rest.

use serde::{Deserialize, Serialize};

use crate::hash::{Digest, SlabId};

/// Number of a host in the renter's host table, which the journal itself fills
/// (one event for each host); a host keeps its number through renewals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostIndex(pub u16);

/// A slab as the journal knows it: about 55 bytes and one for each host.
///
/// The sector roots are in the sealed descriptor that each of the hosts files under the slab's tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabRecord {
    /// The slab's id; its key derives from it.
    pub id: SlabId,
    /// Data shards, k; at least 1.
    pub data: u8,
    /// Binary logarithm of the column length in bytes (10 to 22).
    pub column: u8,
    /// Binary logarithm of the frame length in bytes, at most `column`.
    pub frame: u8,
    /// Host of each shard, in shard order; its length is n.
    pub hosts: Vec<HostIndex>,
    /// Digest of the plain descriptor.
    pub descriptor: Digest,
}

impl SlabRecord {
    /// Whether this may take the place of another record: the same slab in the same shape. Its hosts and
    /// its descriptor may differ.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        let shape = |record: &Self| (record.id, record.data, record.column, record.frame);
        shape(self) == shape(other) && self.hosts.len() == other.hosts.len()
    }

    /// Bytes of all data columns: what the slab takes, seals of its frames included.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.column_bytes().saturating_mul(u64::from(self.data))
    }

    /// Plaintext bytes of a full slab: all frames without their seals of 16 bytes.
    #[must_use]
    pub fn plaintext(&self) -> u64 {
        let frames = u64::from(self.data) << self.column.saturating_sub(self.frame).min(32);
        frames.saturating_mul((1u64 << self.frame.min(32)).saturating_sub(16))
    }

    /// Bytes of one column, so of one sector.
    #[must_use]
    pub fn column_bytes(&self) -> u64 {
        1u64.checked_shl(u32::from(self.column)).unwrap_or(u64::MAX)
    }
}
