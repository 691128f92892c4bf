//! How slabs are cut and how long transfers wait.

use samara_protocol::sector::SectorSize;
use samara_protocol::units::Millis;
use serde::{Deserialize, Serialize};

/// How many shards a slab has, and how many of them rebuild it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// Data shards, k: any so many rebuild a slab. At least 1.
    pub data: u8,
    /// All shards, n. More than `data`.
    pub total: u8,
    /// Hosts beyond k that must have committed before a slab is acknowledged.
    pub margin: u8,
}

impl Redundancy {
    /// What suits a network of so many hosts: never fewer than one lost host survived.
    #[must_use]
    pub const fn for_hosts(hosts: usize) -> Self {
        match hosts {
            0..=2 => Self { data: 1, total: 2, margin: 1 },
            3 => Self { data: 1, total: 3, margin: 1 },
            4 => Self { data: 2, total: 4, margin: 1 },
            5 => Self { data: 2, total: 5, margin: 2 },
            6..=7 => Self { data: 3, total: 6, margin: 2 },
            8..=11 => Self { data: 4, total: 8, margin: 2 },
            12..=19 => Self { data: 5, total: 12, margin: 4 },
            20..=29 => Self { data: 8, total: 20, margin: 6 },
            _ => Self { data: 10, total: 30, margin: 10 },
        }
    }

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

    /// Whether a slab can be cut so.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.data >= 1 && self.data < self.total
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
    /// Bytes of buffers that uploads may hold in all; at least one slab is always let through.
    pub upload_budget: u64,
    /// Wait for slow hosts once enough have stored their shards.
    pub store_patience: Millis,
    /// Wait for a host's range before others are asked to rebuild it.
    pub read_patience: Millis,
    /// Descriptors kept in memory.
    pub descriptors: usize,
}

impl TransferOptions {
    /// The usual settings with this redundancy: columns of 16 KiB to 4 MiB, frames of 64 KiB, buffers
    /// for two of the largest slabs.
    #[must_use]
    pub fn new(redundancy: Redundancy) -> Self {
        let largest = u64::from(SectorSize::MAX.bytes());
        Self {
            redundancy,
            minimum_column: SectorSize::HOST_MIN,
            maximum_column: SectorSize::MAX,
            frame: 64 << 10,
            upload_budget: 2 * largest * u64::from(redundancy.total),
            store_patience: Millis::seconds(3),
            read_patience: Millis(400),
            descriptors: 4_096,
        }
    }
}
