//! A state held in memory: for tests, simulations and small tools.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Deadline, StateChanges, StateError, StateReader};
use super::state::StateKey;
use crate::hash::Digest;
use crate::signature::PublicKey;
use crate::units::{ChainTime, Height};

/// The state of one chain, with the tree nodes of all heights.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    values: BTreeMap<StateKey, Vec<u8>>,
    deadlines: BTreeSet<Deadline>,
    nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    stale: BTreeMap<Height, BTreeSet<Vec<u8>>>,
    height: Height,
    root: Digest,
}

impl MemoryState {
    /// The state that a genesis document makes, see [`super::genesis_state`].
    #[must_use]
    pub fn new(genesis: StateChanges) -> Self {
        let mut state = Self::default();
        state.apply(genesis);
        state
    }

    /// Applies a block's changes.
    pub fn apply(&mut self, changes: StateChanges) {
        for (key, value) in changes.values {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
        for deadline in &changes.deadlines_removed {
            self.deadlines.remove(deadline);
        }
        self.deadlines.extend(changes.deadlines_added);
        self.nodes.extend(changes.nodes);
        self.stale.insert(changes.height, changes.stale_nodes);
        self.height = changes.height;
        self.root = changes.root;
    }

    /// Forgets the nodes that only trees below `height` need.
    pub fn prune(&mut self, height: Height) {
        let kept = self.stale.split_off(&height.next());
        for node in std::mem::replace(&mut self.stale, kept).into_values().flatten() {
            self.nodes.remove(&node);
        }
    }

    /// Height of the last block applied.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.height
    }

    /// Root after the last block applied.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// All values, in key order.
    pub fn values(&self) -> impl Iterator<Item = (&StateKey, &[u8])> {
        self.values.iter().map(|(key, value)| (key, value.as_slice()))
    }

    /// All deadlines, in order.
    pub fn all_deadlines(&self) -> impl Iterator<Item = &Deadline> {
        self.deadlines.iter()
    }
}

impl StateReader for MemoryState {
    fn value(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.values.get(key).cloned())
    }

    fn deadlines(&self, until: ChainTime, limit: usize) -> Result<Vec<Deadline>, StateError> {
        let last = Deadline { at: until, contract: PublicKey([u8::MAX; 32]) };
        Ok(self.deadlines.range(..=last).take(limit).copied().collect())
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.nodes.get(key).cloned())
    }
}
