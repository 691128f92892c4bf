//! How slabs are cut and how long transfers wait.

use samara_protocol::sector::SectorSize;
use samara_protocol::units::Millis;
use serde::{Deserialize, Serialize};

pub use crate::contract::Redundancy;

impl Redundancy {
    /// The same for one class of slabs: names and trees outlive data.
    #[must_use]
    pub const fn for_class(self, class: SlabClass) -> Self {
        match class {
            SlabClass::Data => self,
            SlabClass::Metadata => {
                let data = if self.data < 2 { 1 } else { self.data / 2 };
                // As many hosts must have it as of a data slab.
                let margin = self.margin.saturating_add(self.data - data);
                Self { data, total: self.total, margin }
            }
        }
    }
}

/// What a slab holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SlabClass {
    /// Contents of files.
    Data,
    /// Journal, trees and tables: half the k, at least 1, with the same n.
    Metadata,
}

/// Bytes of one permit of a budget.
pub(super) const UNIT: u64 = 4 << 10;

/// Permits for so many bytes.
pub(super) fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(u32::MAX / 8)
}

/// Settings of uploads and downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferOptions {
    /// k, n and margin.
    pub redundancy: Redundancy,
    /// Smallest column.
    pub minimum_column: SectorSize,
    /// Largest column.
    pub maximum_column: SectorSize,
    /// Longest frame, bytes; a power of two from 1 KiB to 64 KiB.
    pub frame: u32,
    /// Bytes of buffers that uploads may hold in all: a quarter for plaintext, the rest for columns.
    /// Columns are no longer than to let two slabs of any shape be under way.
    pub upload_budget: u64,
    /// Bytes that streams of all downloads may have asked of hosts.
    pub download_budget: u64,
    /// Bytes that all reads may hold to rebuild what hosts do not give.
    pub rebuild_budget: u64,
    /// Bytes that reads of names may hold to rebuild what hosts do not give, and as many that their repair
    /// may hold.
    pub names_budget: u64,
    /// Wait for slow hosts once enough have stored their shards.
    pub store_patience: Millis,
    /// Wait for a host's range before others are asked to rebuild it.
    pub read_patience: Millis,
    /// Descriptors kept in memory.
    pub descriptors: usize,
}

impl TransferOptions {
    /// The usual settings with this redundancy: columns of 16 KiB to 4 MiB as far as the budgets
    /// allow, frames of 64 KiB, and budgets that keep the whole process below 512 MiB.
    #[must_use]
    pub fn new(redundancy: Redundancy) -> Self {
        Self {
            redundancy,
            minimum_column: SectorSize::HOST_MIN,
            maximum_column: SectorSize::MAX,
            frame: 64 << 10,
            // Two slabs of 10 of 30 with the largest columns, and the plaintext of two more.
            upload_budget: 320 << 20,
            download_budget: 80 << 20,
            rebuild_budget: 48 << 20,
            names_budget: 4 << 20,
            store_patience: Millis::seconds(3),
            read_patience: Millis(400),
            descriptors: 4_096,
        }
    }
}
