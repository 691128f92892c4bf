//! Reading every node of a tree, to see that all are there.

use std::collections::VecDeque;

use super::node::{Held, NodeRef};
use super::walk::{AHEAD, Loaded};
use super::{TreeError, TreeKind};

/// Reads all nodes of a tree that can have items below a prefix, leaves too. Unlike a walk it goes on
/// behind a node that cannot be had: what lies below that one is not seen.
#[derive(Debug)]
pub struct Sweep {
    loaded: Loaded,
    prefix: Vec<u8>,
    /// Nodes that are still to be read, in order.
    frontier: VecDeque<NodeRef>,
}

impl Sweep {
    /// Reads what the tree with this root has below `prefix`.
    #[must_use]
    pub fn new(kind: TreeKind, root: Option<NodeRef>, prefix: Vec<u8>) -> Self {
        Self { loaded: Loaded::new(kind), prefix, frontier: root.into_iter().collect() }
    }

    /// The next nodes to be read, at most [`AHEAD`]; none at the end. Each is given once.
    pub fn next_nodes(&mut self) -> Vec<NodeRef> {
        let count = self.frontier.len().min(AHEAD);
        self.frontier.drain(..count).collect()
    }

    /// Takes the stored bytes of a node in that was asked for.
    ///
    /// # Errors
    /// [`TreeError::Node`] and [`TreeError::Digest`] for bytes that are not this node.
    pub fn feed(&mut self, wanted: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(wanted, stored)?;
        // It was taken in on the line above.
        let Ok(node) = self.loaded.take(wanted) else { return Ok(()) };
        let mut children = Vec::new();
        for slot in node.slots {
            if slot.key < self.prefix {
                continue;
            }
            let below = slot.key.starts_with(&self.prefix);
            if let Held::Node(child) = slot.held {
                children.push(child);
            }
            // All keys of the next child are greater than this one.
            if !below {
                break;
            }
        }
        for child in children.into_iter().rev() {
            self.frontier.push_front(child);
        }
        Ok(())
    }
}
