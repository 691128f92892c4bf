//! Nodes into slabs: where each lies, and the bytes of the slabs.
//!
//! A node begins in the frame in which the one before it ended if it fits there, else with the next
//! frame; so one that is no longer than a frame is read with one frame. What is skipped is zero.
//! Parents name their children's places, so children come first ([`NewNode`]). A slab's id is known
//! only after it was stored: within the same slab a place has no id ([`super::node`]), and the next
//! slab begins when the one before has its id.

use std::collections::BTreeMap;
use std::ops::Range;

use super::node::{Address, NewNode, NodeRef};
use crate::hash::{Digest, SlabId};

/// Lays nodes out in slabs, one slab after another.
#[derive(Debug)]
pub struct Packer {
    frame: u32,
    capacity: u64,
    image: Vec<u8>,
    /// Nodes in the present slab: offset and length.
    here: BTreeMap<Digest, (u32, u32)>,
    /// Nodes in slabs that are stored.
    placed: BTreeMap<Digest, Address>,
    taken: bool,
}

/// Why a node cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A child that was neither stored before nor placed.
    #[error("tree node {node} is placed before its child {child}")]
    Child {
        /// The node.
        node: Digest,
        /// The child.
        child: Digest,
    },
    /// The slab was taken out and its id was not given yet.
    #[error("the slab before is not stored yet")]
    Unstored,
    /// A slab does not even take this one node.
    #[error("tree node {node} of {bytes} bytes is more than a slab's {capacity}")]
    Capacity {
        /// The node.
        node: Digest,
        /// Its stored bytes.
        bytes: usize,
        /// What a slab takes.
        capacity: u64,
    },
}

impl Packer {
    /// Fills slabs of `capacity` plaintext bytes in frames of `frame` plaintext bytes.
    #[must_use]
    pub fn new(frame: u32, capacity: u64) -> Self {
        Self {
            frame: frame.max(1),
            capacity: capacity.min(u64::from(u32::MAX)),
            image: Vec::new(),
            here: BTreeMap::new(),
            placed: BTreeMap::new(),
            taken: false,
        }
    }

    /// Places a node. `false` if the present slab has no room for it: then take and store that one,
    /// and place the node again. A node that is placed already stays where it is.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn place(&mut self, node: &NewNode) -> Result<bool, PackError> {
        let digest = node.reference.digest;
        if self.taken {
            return Err(PackError::Unstored);
        }
        if self.here.contains_key(&digest) || self.placed.contains_key(&digest) {
            return Ok(true);
        }
        let stored = self.stored_bytes(node)?;
        let (used, length) = (self.image.len() as u64, stored.len() as u64);
        let frame = u64::from(self.frame);
        let within = used % frame;
        let fits = within + length <= frame;
        let offset = if within == 0 || fits { used } else { used - within + frame };
        if offset + length > self.capacity {
            if self.image.is_empty() {
                let (bytes, capacity) = (stored.len(), self.capacity);
                return Err(PackError::Capacity { node: digest, bytes, capacity });
            }
            return Ok(false);
        }
        let narrow = |bytes: u64| u32::try_from(bytes).expect("invariant: capacities are 32 bits");
        self.image.resize(narrow(offset) as usize, 0);
        self.image.extend_from_slice(&stored);
        self.here.insert(digest, (narrow(offset), narrow(length)));
        Ok(true)
    }

    fn stored_bytes(&self, node: &NewNode) -> Result<Vec<u8>, PackError> {
        let mut addresses = Vec::with_capacity(node.children.len());
        for child in &node.children {
            let known = child.address.or_else(|| self.placed.get(&child.digest).copied());
            let here =
                self.here.get(&child.digest).map(|(offset, length)| (None, *offset, *length));
            let known = known.map(|at| (Some(at.slab), at.offset, at.length));
            let missing = PackError::Child { node: node.reference.digest, child: child.digest };
            addresses.push(here.or(known).ok_or(missing)?);
        }
        Ok(node.stored(&addresses))
    }

    /// The nodes in the present slab, and where in its plaintext.
    #[must_use]
    pub fn here(&self) -> Vec<(Digest, Range<usize>)> {
        let range = |offset: u32, length: u32| offset as usize..(offset + length) as usize;
        self.here.iter().map(|(node, (offset, length))| (*node, range(*offset, *length))).collect()
    }

    /// The plaintext of the present slab, which has to be stored now; empty if nothing was placed.
    pub fn take(&mut self) -> Vec<u8> {
        self.taken = !self.image.is_empty();
        std::mem::take(&mut self.image)
    }

    /// The slab that was taken out is stored under this id.
    pub fn stored(&mut self, slab: SlabId) {
        self.taken = false;
        for (digest, (offset, length)) in std::mem::take(&mut self.here) {
            self.placed.insert(digest, Address { slab, offset, length });
        }
    }

    /// A reference with the address of its node, once its slab is stored.
    #[must_use]
    pub fn resolve(&self, node: NodeRef) -> Option<NodeRef> {
        let address = node.address.or_else(|| self.placed.get(&node.digest).copied())?;
        Some(NodeRef { address: Some(address), ..node })
    }
}
