//! How the journal names a checkpoint.

use serde::{Deserialize, Serialize};

use super::entry::JournalPoint;
use super::slab_record::SlabRecord;
use crate::hash::{Digest, SlabId};

/// A checkpoint: which it is, and where it lies. [`crate::tree::checkpoint`] has what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointName {
    /// The journal's point that it stands for.
    pub point: JournalPoint,
    /// Digest of its root record.
    pub digest: Digest,
    /// Bytes of the root record.
    pub length: u32,
    /// The slabs that hold the root record, in order; all full but the last.
    pub root: Vec<SlabRecord>,
    /// The slabs that the trees' nodes lie in.
    pub trees: Vec<SlabId>,
}

impl CheckpointName {
    /// All slabs that it lies in.
    pub fn slabs(&self) -> impl Iterator<Item = SlabId> {
        self.root.iter().map(|record| record.id).chain(self.trees.iter().copied())
    }
}
