//! Checkpoint trees: immutable, content-addressed, ordered maps from byte strings to byte strings.
//!
//! A tree's nodes are cut from its sorted items by a keyed hash of the keys ([`boundary`]), so the same
//! contents give the same nodes whatever the order of edits: two states share what they have in
//! common, a checkpoint writes what changed, and a difference is found by reading what differs.
//! [`node`] has the bytes, [`pack`] puts nodes into slabs.
//!
//! ```text
//! build ----------> new nodes --> pack --> slabs        | lookup, scan, diff, reach
//! apply (edits) --> new nodes --/                       |   need nodes -> fed -> give items
//!   need nodes -> fed -/
//! ```
//!
//! Nothing here fetches. What reads a tree is a [`Walk`]: [`Lookup`], [`Scan`], [`Diff`], [`Reach`],
//! [`Apply`] and [`Rebuild`] are advanced with `step` until they say which nodes they need, are fed those bytes with
//! `feed`, in any order, and advanced again. So their owner can fetch many nodes at once.
//! A [`Sweep`] reads every node, and goes on behind those that are gone.
//!
//! Typed layers: [`files`] (vault, path, version), [`events`] (vault, number), [`slabs`] (slab id), [`held`]
//! (span of the journal), and [`checkpoint`], which ties them to the fold of the journal. A node's bytes are
//! plaintext here; they are sealed with the frames of the slab they lie in.
//!
//! Invariants: equal contents have equal roots (by digest); any bytes that are fed give a node or a typed
//! error, and never a node with another digest than the one asked for (I7); a walk holds the inner
//! nodes on its way and a bounded number of leaves.

use crate::hash::Digest;

pub mod apply;
pub mod boundary;
pub mod build;
pub mod checkpoint;
mod codec;
pub mod diff;
pub mod events;
pub mod files;
pub mod held;
pub mod node;
pub mod pack;
mod pieces;
pub mod rebuild;
pub mod slabs;
pub mod sweep;
pub mod walk;

pub use apply::{Apply, Edits};
pub use boundary::{BoundaryKey, Limits, Rules};
pub use build::Builder;
pub use diff::{Diff, Difference};
pub use node::{Address, NewNode, NodeError, NodeRef};
pub use pack::{PackError, Packer};
pub use rebuild::Rebuild;
pub use sweep::Sweep;
pub use walk::{Lookup, Reach, Scan, Step, Walk};

/// A key and its value.
pub type Item = (Vec<u8>, Vec<u8>);

/// Which of the trees a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TreeKind {
    /// Files by vault, path and version.
    Files = 0,
    /// Events by vault and number.
    Events = 1,
    /// Slabs by id.
    Slabs = 2,
    /// Extents that only backups name, by when they were given up.
    Held = 3,
}

impl TreeKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Files),
            1 => Some(Self::Events),
            2 => Some(Self::Slabs),
            3 => Some(Self::Held),
            _ => None,
        }
    }
}

/// Why a tree cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Bytes that are no node.
    #[error("tree node {digest}: {source}")]
    Node {
        /// The node that was asked for.
        digest: Digest,
        /// What is wrong.
        source: NodeError,
    },
    /// Bytes of another node.
    #[error("tree node {expected} was asked for, the bytes are those of {found}")]
    Digest {
        /// The node that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A key that does not follow the one before.
    #[error("the keys given to a tree do not ascend")]
    Order,
    /// A key or value that is too long.
    #[error("an item of {bytes} bytes, where at most {limit} are allowed")]
    ItemTooLarge {
        /// Bytes of key and value.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
}
