//! Checkpoints: what the journal has led to, as three trees in metadata slabs.
//!
//! ```text
//! acknowledged entries -> Recorder -> Cut (edits of the trees) -> write -> nodes, root -> slabs
//!                                                                  | reads old nodes
//! state, files, differences  <-  load  <-  Nodes: the store's cache, else the hosts
//! ```
//!
//! The journal's owner decides when a checkpoint is cut and names it in the heads; here it is written
//! and read. The trees themselves are `samara_protocol::tree`.
//!
//! Below `checkpoint/` in the renter's store lie copies of nodes and roots, by their digests. They are a
//! cache: what is missing there is read from the hosts, and what is there is compared with its digest.

mod check;
mod cut;
mod error;
mod load;
mod nodes;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{CheckpointName, JournalState, SlabRecord};
use samara_protocol::keys::KeyTree;
use samara_protocol::tree::{BoundaryKey, Limits, Rules, TreeKind};

pub(crate) use self::check::tree_bytes;
pub(crate) use self::cut::{Cut, Recorder};
pub use self::error::CheckpointError;
pub(crate) use self::load::EventWalk;
pub use self::load::{DifferenceKind, FileDifference};
pub(crate) use self::nodes::places;
pub(crate) use self::write::Made;
use crate::slabs::Slabs;
use crate::world::World;

/// Where slabs lie now, by id.
pub(crate) type Places = BTreeMap<SlabId, SlabRecord>;

/// Where the slabs of a checkpoint lie by a state, as far as they are in its table.
pub(crate) fn places_in(state: &JournalState, name: &CheckpointName) -> Places {
    let record = |id| Some((id, state.slabs.get(&id)?.record.clone()));
    name.slabs().filter_map(record).collect()
}

/// Writes and reads checkpoints. A cheap clone.
#[derive(Clone)]
pub(crate) struct Checkpoints {
    world: World,
    keys: Arc<KeyTree>,
    slabs: Slabs,
    limits: Limits,
}

impl Checkpoints {
    /// Nodes that are written have these limits; others are read as well.
    pub(crate) const fn new(
        world: World,
        keys: Arc<KeyTree>,
        slabs: Slabs,
        limits: Limits,
    ) -> Self {
        Self { world, keys, slabs, limits }
    }

    /// The same trees, read into another store over other contracts.
    pub(crate) fn over(&self, world: World, slabs: Slabs) -> Self {
        Self { world, slabs, ..self.clone() }
    }

    fn rules(&self, kind: TreeKind) -> Rules {
        Rules::new(kind, BoundaryKey::new(&self.keys.metadata()), self.limits)
    }
}
