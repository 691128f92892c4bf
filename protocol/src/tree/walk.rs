//! Walks: what reads a tree says which nodes it needs, and is fed them. Here are those that read one
//! tree: a point, a range, the nodes that are reachable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;

use super::node::{Held, Node, NodeError, NodeRef};
use super::{Item, TreeError, TreeKind};
use crate::hash::Digest;

/// Most nodes that a walk asks for at once.
pub const AHEAD: usize = 64;

/// Something that reads trees and fetches nothing itself.
pub trait Walk {
    /// What it gives on its way.
    type Part;
    /// What it gives at its end.
    type End;

    /// Goes on as far as it can. After its end it gives the same end again.
    fn step(&mut self) -> Step<Self::Part, Self::End>;

    /// Takes the stored bytes of a node in that was asked for.
    ///
    /// # Errors
    /// [`TreeError::Node`] and [`TreeError::Digest`] for bytes that are not this node.
    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError>;
}

/// What a walk has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<Part, End = ()> {
    /// Feed these nodes, at most [`AHEAD`], in any order. The first is needed to go on; to be asked
    /// again for some of the others is no error.
    Need(Vec<NodeRef>),
    /// The next part.
    Part(Part),
    /// There is no more.
    Done(End),
}

/// A node that has to be fed first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing(pub(super) NodeRef);

/// Nodes that were fed and are not used up.
#[derive(Debug)]
pub(super) struct Loaded {
    kind: TreeKind,
    nodes: BTreeMap<Digest, Node>,
}

impl Loaded {
    pub(super) fn new(kind: TreeKind) -> Self {
        Self { kind, nodes: BTreeMap::new() }
    }

    /// Takes the bytes of a node in.
    pub(super) fn feed(&mut self, wanted: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        let digest = wanted.digest;
        let failed = |source| TreeError::Node { digest, source };
        let slab = wanted.address.map(|address| address.slab);
        let (node, found) = Node::read(stored, slab).map_err(failed)?;
        if found.digest != digest {
            return Err(TreeError::Digest { expected: digest, found: found.digest });
        }
        let same =
            (found.level, found.items, found.bytes) == (wanted.level, wanted.items, wanted.bytes);
        if !same || node.kind != self.kind {
            return Err(failed(NodeError::Other));
        }
        self.nodes.insert(digest, node);
        Ok(())
    }

    pub(super) fn has(&self, node: &NodeRef) -> bool {
        self.nodes.contains_key(&node.digest)
    }

    pub(super) fn node(&self, wanted: &NodeRef) -> Result<&Node, Missing> {
        self.nodes.get(&wanted.digest).ok_or(Missing(*wanted))
    }

    pub(super) fn take(&mut self, wanted: &NodeRef) -> Result<Node, Missing> {
        self.nodes.remove(&wanted.digest).ok_or(Missing(*wanted))
    }
}

/// Finds the value of one key.
#[derive(Debug)]
pub struct Lookup {
    loaded: Loaded,
    at: Option<NodeRef>,
    key: Vec<u8>,
}

impl Lookup {
    /// Looks for `key` in the tree with this root.
    #[must_use]
    pub fn new(kind: TreeKind, root: Option<NodeRef>, key: Vec<u8>) -> Self {
        Self { loaded: Loaded::new(kind), at: root, key }
    }
}

impl Walk for Lookup {
    type Part = Infallible;
    type End = Option<Vec<u8>>;

    fn step(&mut self) -> Step<Infallible, Option<Vec<u8>>> {
        while let Some(at) = self.at {
            let Ok(node) = self.loaded.take(&at) else { return Step::Need(vec![at]) };
            let index = node.slots.partition_point(|slot| slot.key < self.key);
            self.at = None;
            if let Some(slot) = node.slots.into_iter().nth(index) {
                match slot.held {
                    Held::Node(child) => self.at = Some(child),
                    Held::Value(value) if slot.key == self.key => {
                        return Step::Done(Some(value));
                    }
                    Held::Value(_) => {}
                }
            }
        }
        Step::Done(None)
    }

    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(node, stored)
    }
}

/// Lists items in order.
#[derive(Debug)]
pub struct Scan {
    loaded: Loaded,
    /// Nodes that are still to be read, in order.
    frontier: VecDeque<NodeRef>,
    from: Vec<u8>,
    prefix: Vec<u8>,
}

impl Scan {
    /// Lists the items whose keys start with `prefix`, from the key `from` on.
    #[must_use]
    pub fn new(kind: TreeKind, root: Option<NodeRef>, prefix: Vec<u8>, from: &[u8]) -> Self {
        let from = from.max(&prefix).to_vec();
        Self { loaded: Loaded::new(kind), frontier: root.into_iter().collect(), from, prefix }
    }

    /// Puts the children that can have items in the place of their parent, or gives a leaf's items.
    fn enter(&mut self, node: Node) -> Vec<Item> {
        let (mut children, mut items) = (Vec::new(), Vec::new());
        for slot in node.slots {
            if slot.key < self.from {
                continue;
            }
            let below = slot.key.starts_with(&self.prefix);
            match slot.held {
                // All keys of a child are greater than the last of the child before.
                Held::Node(child) => {
                    children.push(child);
                    if !below {
                        break;
                    }
                }
                Held::Value(value) if below => items.push((slot.key, value)),
                Held::Value(_) => break,
            }
        }
        for child in children.into_iter().rev() {
            self.frontier.push_front(child);
        }
        items
    }
}

impl Walk for Scan {
    type Part = Vec<Item>;
    type End = ();

    fn step(&mut self) -> Step<Vec<Item>> {
        while let Some(front) = self.frontier.front().copied() {
            let Ok(node) = self.loaded.take(&front) else {
                let missing = |node: &&NodeRef| !self.loaded.has(node);
                let ahead = self.frontier.iter().take(AHEAD).filter(missing);
                return Step::Need(ahead.copied().collect());
            };
            self.frontier.pop_front();
            let items = self.enter(node);
            if !items.is_empty() {
                return Step::Part(items);
            }
        }
        Step::Done(())
    }

    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(node, stored)
    }
}

/// Lists the nodes that are reachable from roots, each once. Leaves are listed and not read.
#[derive(Debug)]
pub struct Reach {
    loaded: Loaded,
    frontier: VecDeque<NodeRef>,
    found: Vec<NodeRef>,
    seen: BTreeSet<Digest>,
}

impl Reach {
    /// Lists what is reachable from `roots`, which are of one kind, and not among `seen`, the digests of
    /// nodes that are known with all below them.
    #[must_use]
    pub fn new(
        kind: TreeKind,
        roots: impl IntoIterator<Item = NodeRef>,
        seen: BTreeSet<Digest>,
    ) -> Self {
        let (frontier, found) = (VecDeque::new(), Vec::new());
        let mut reach = Self { loaded: Loaded::new(kind), frontier, found, seen };
        roots.into_iter().for_each(|root| reach.list(root));
        reach
    }

    /// The digests of all nodes that were known or listed.
    #[must_use]
    pub fn into_seen(self) -> BTreeSet<Digest> {
        self.seen
    }

    fn list(&mut self, node: NodeRef) {
        if self.seen.insert(node.digest) {
            self.found.push(node);
            if node.level > 0 {
                self.frontier.push_back(node);
            }
        }
    }
}

impl Walk for Reach {
    type Part = Vec<NodeRef>;
    type End = ();

    fn step(&mut self) -> Step<Vec<NodeRef>> {
        loop {
            if !self.found.is_empty() {
                return Step::Part(std::mem::take(&mut self.found));
            }
            let Some(front) = self.frontier.front().copied() else { return Step::Done(()) };
            let Ok(node) = self.loaded.take(&front) else {
                let missing = |node: &&NodeRef| !self.loaded.has(node);
                let ahead = self.frontier.iter().take(AHEAD).filter(missing);
                return Step::Need(ahead.copied().collect());
            };
            self.frontier.pop_front();
            node.children().for_each(|(_, child)| self.list(*child));
        }
    }

    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(node, stored)
    }
}
