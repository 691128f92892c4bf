//! Where one node ends and the next begins.
//!
//! Nodes are cut from a sorted sequence of items from left to right. A node ends behind the item whose
//! *rank* is the smallest among all items behind which the node would have from [`Limits::min`] to
//! [`Limits::max`] bytes; the earlier of equals. What is left at the end, if it is at most `max`, is the
//! last node. A rank is the first 8 bytes (LE) of a BLAKE3 hash of tree, level and key, keyed by a key that
//! derives from the seed's metadata key: who sees the lengths of nodes learns nothing about the keys,
//! and who chooses names cannot choose boundaries.
//!
//! So boundaries are a function of the items alone, not of the order in which they came. They also
//! meet again behind a change: where two sequences with the same items are cut from different
//! starts, the windows of two nodes overlap, and if the item with the smallest rank of both lies in the
//! overlap, both end there and all that follows is the same. No cut is ever forced at `max`, where
//! the position and not the key would decide, and a change would run on to the end.
//!
//! A node ends by what lies within `max` bytes of its start. As each node but the last has at least
//! `min` and `max` is at most twice that, this reaches into the next node and never further: a change
//! touches its own node, perhaps the one before, and those after until the boundaries meet.
//!
//! Sources: minimum of a window as the cut, Bjørner, Blass, Gurevich, "Content-dependent chunking for
//! differential compression, the local maximum approach" (2010); trees over such nodes, Auvolat and
//! Taïani, "Merkle Search Trees" (2019), and the prolly trees of Noms and Dolt.

use std::collections::VecDeque;
use std::fmt;

use zeroize::Zeroizing;

use super::node::{Held, MIN_WEIGHT, Slot, key_weight, shared_length};
use super::{TreeError, TreeKind};
use crate::keys::tree::MetadataKey;

/// Derives the key of ranks.
const DOMAIN: &str = "samara v1 tree boundary key";

/// Bytes of the items of a node, counted with the longest addresses; the last node of a level may have
/// less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    min: usize,
    max: usize,
}

impl Limits {
    /// What is stored: 32 to 60 KiB, so that a node fits into a frame of 64 KiB.
    pub const STORED: Self = Self { min: 32 << 10, max: 60 << 10 };

    /// Other limits, for tests and small worlds: `min < max <= 2 * min`, at most 60 KiB.
    #[must_use]
    pub const fn new(min: usize, max: usize) -> Option<Self> {
        if min < max && max <= 2 * min && max <= Self::STORED.max {
            Some(Self { min, max })
        } else {
            None
        }
    }

    /// Fewest bytes of a node that is not the last.
    #[must_use]
    pub const fn min(&self) -> usize {
        self.min
    }

    /// Most bytes of a node.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Most bytes of one item, so that each window has one.
    #[must_use]
    pub const fn item(&self) -> usize {
        self.max - self.min
    }

    /// Refuses an item that could leave a window empty, in its leaf or as the last key of one.
    pub(super) fn check(&self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        /// More than a child weighs beside its key.
        const CHILD: usize = 100;
        let bytes = key.len() + value.len().max(CHILD) + 10;
        let limit = self.item();
        if bytes > limit || key.len() > super::node::MAX_KEY {
            return Err(TreeError::ItemTooLarge { bytes, limit });
        }
        Ok(())
    }
}

/// The secret that decides about boundaries. Zeroized when dropped, never printed.
#[derive(Clone)]
pub struct BoundaryKey(Zeroizing<[u8; 32]>);

impl BoundaryKey {
    /// The key of one seed's trees.
    #[must_use]
    pub fn new(metadata: &MetadataKey) -> Self {
        Self(Zeroizing::new(blake3::derive_key(DOMAIN, metadata.as_bytes())))
    }
}

impl fmt::Debug for BoundaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundaryKey(redacted)")
    }
}

/// How the nodes of one tree are cut.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) kind: TreeKind,
    pub(super) limits: Limits,
    boundary: BoundaryKey,
}

impl Rules {
    /// The rules of a tree of one seed.
    #[must_use]
    pub fn new(kind: TreeKind, boundary: BoundaryKey, limits: Limits) -> Self {
        Self { kind, limits, boundary }
    }

    fn rank(&self, level: u8, key: &[u8]) -> u64 {
        let mut input = Vec::with_capacity(key.len() + 2);
        input.extend_from_slice(&[self.kind as u8, level]);
        input.extend_from_slice(key);
        let hash = blake3::keyed_hash(&self.boundary.0, &input);
        let first = hash.as_bytes().first_chunk().copied();
        u64::from_le_bytes(first.expect("invariant: a hash has 32 bytes"))
    }
}

/// Cuts one level's items into nodes. Holds at most one node and one item.
#[derive(Debug)]
pub(super) struct Chunker {
    rules: Rules,
    level: u8,
    pending: VecDeque<Pending>,
    /// Bytes of all that is pending, as one node.
    weight: usize,
}

#[derive(Debug)]
struct Pending {
    slot: Slot,
    rank: u64,
    /// Bytes behind an item that precedes it.
    weight: usize,
}

impl Chunker {
    pub(super) fn new(rules: &Rules, level: u8) -> Self {
        Self { rules: rules.clone(), level, pending: VecDeque::new(), weight: 0 }
    }

    /// Takes the next item; gives the nodes that are decided by now.
    pub(super) fn push(&mut self, slot: Slot) -> Vec<Vec<Slot>> {
        let weight = match self.pending.back() {
            Some(before) => weight(&slot, shared_length(&before.slot.key, &slot.key)),
            None => weight(&slot, 0),
        };
        let rank = self.rules.rank(self.level, &slot.key);
        self.weight += weight;
        self.pending.push_back(Pending { slot, rank, weight });
        let mut cut = Vec::new();
        while self.weight > self.rules.limits.max && self.pending.len() > 1 {
            cut.push(self.cut());
        }
        cut
    }

    /// What is left: the last node of the level, if there is any.
    pub(super) fn finish(self) -> Option<Vec<Slot>> {
        (!self.pending.is_empty())
            .then(|| self.pending.into_iter().map(|pending| pending.slot).collect())
    }

    fn cut(&mut self) -> Vec<Slot> {
        let Limits { min, max } = self.rules.limits;
        let (mut bytes, mut fits, mut best) = (0, 1, None);
        for (index, pending) in self.pending.iter().enumerate() {
            bytes += pending.weight;
            if bytes > max {
                break;
            }
            fits = index + 1;
            let smaller = best.is_none_or(|(rank, _)| pending.rank < rank);
            // A node above the leaves has two children, else levels might not end.
            if bytes >= min && smaller && (self.level == 0 || index > 0) {
                best = Some((pending.rank, fits));
            }
        }
        // Items are bounded so that a window is never empty; were one, all that fits is the node.
        let end = best.map_or(fits, |(_, end)| end);
        let node = self.pending.drain(..end).map(|pending| pending.slot).collect();
        if let Some(first) = self.pending.front_mut() {
            first.weight = weight(&first.slot, 0);
        }
        self.weight = self.pending.iter().map(|pending| pending.weight).sum();
        node
    }
}

fn weight(slot: &Slot, shared: usize) -> usize {
    (key_weight(&slot.key, shared) + slot.held.weight()).max(MIN_WEIGHT)
}

impl Slot {
    pub(super) fn value(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { key, held: Held::Value(value) }
    }
}
