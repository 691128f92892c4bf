//! What differs between two trees, reading only where they do.

use std::collections::{BTreeSet, VecDeque};

use super::node::{Held, NodeRef};
use super::walk::{AHEAD, Loaded};
use super::{TreeError, TreeKind};

/// Differences that are given at once.
const BATCH: usize = 1_024;

/// One key that two trees do not have with the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: Vec<u8>,
    /// Its value in the first tree.
    pub before: Option<Vec<u8>>,
    /// Its value in the second tree.
    pub after: Option<Vec<u8>>,
}

/// Compares two trees of one kind.
#[derive(Debug)]
pub struct Diff {
    loaded: Loaded,
    before: Side,
    after: Side,
    found: Vec<Difference>,
}

/// What a [`Diff`] has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffStep {
    /// Feed these nodes; each of them differs.
    Need(Vec<NodeRef>),
    /// The next differences, in order of their keys.
    Found(Vec<Difference>),
    /// All differences were given.
    Done,
}

/// What is left of one tree, in order.
#[derive(Debug, Default)]
struct Side(VecDeque<Part>);

#[derive(Debug)]
enum Part {
    /// A whole subtree and its last key; the root's is not known.
    Node(Option<Vec<u8>>, NodeRef),
    Item(Vec<u8>, Vec<u8>),
}

impl Side {
    fn of(root: Option<NodeRef>) -> Self {
        Self(root.into_iter().map(|root| Part::Node(None, root)).collect())
    }

    fn front_node(&self) -> Option<&NodeRef> {
        match self.0.front() {
            Some(Part::Node(_, node)) => Some(node),
            _ => None,
        }
    }

    /// The first nodes of one level, and whether nothing but them and items is left.
    fn nodes(&self, level: u8) -> (Vec<(&Option<Vec<u8>>, &NodeRef)>, bool) {
        let mut nodes = Vec::new();
        for part in &self.0 {
            match part {
                Part::Item(..) => {}
                Part::Node(last, node) if node.level == level => nodes.push((last, node)),
                Part::Node(..) => return (nodes, false),
            }
        }
        (nodes, true)
    }

    /// Puts the contents of the first node in its place, if it was fed.
    fn open(&mut self, loaded: &mut Loaded) -> bool {
        let Some(node) = self.front_node().and_then(|front| loaded.take(front).ok()) else {
            return false;
        };
        self.0.pop_front();
        for slot in node.slots.into_iter().rev() {
            self.0.push_front(match slot.held {
                Held::Node(child) => Part::Node(Some(slot.key), child),
                Held::Value(value) => Part::Item(slot.key, value),
            });
        }
        true
    }

    fn take_item(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        match self.0.pop_front()? {
            Part::Item(key, value) => Some((key, value)),
            node => {
                self.0.push_front(node);
                None
            }
        }
    }
}

impl Diff {
    /// Compares the trees with these roots.
    #[must_use]
    pub fn new(kind: TreeKind, before: Option<NodeRef>, after: Option<NodeRef>) -> Self {
        Self {
            loaded: Loaded::new(kind),
            before: Side::of(before),
            after: Side::of(after),
            found: Vec::new(),
        }
    }

    /// Takes a node in that was asked for.
    ///
    /// # Errors
    /// [`TreeError::Node`] and [`TreeError::Digest`] for bytes that are not this node.
    pub fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(node, stored)
    }

    /// Goes on as far as it can.
    pub fn step(&mut self) -> DiffStep {
        while self.found.len() < BATCH {
            match (self.before.0.front(), self.after.0.front()) {
                (None, None) if self.found.is_empty() => return DiffStep::Done,
                (None, None) => break,
                (Some(Part::Node(_, a)), Some(Part::Node(_, b))) if a.digest == b.digest => {
                    self.before.0.pop_front();
                    self.after.0.pop_front();
                }
                (Some(Part::Node(_, a)), Some(Part::Node(_, b))) => {
                    let (a, b) = (*a, *b);
                    if let Some(needed) = self.descend(a, b) {
                        return self.flush_or(needed);
                    }
                }
                (Some(Part::Node(_, node)), _) => {
                    let level = node.level;
                    if !self.before.open(&mut self.loaded) {
                        return self.flush_or(self.needed(level));
                    }
                }
                (_, Some(Part::Node(_, node))) => {
                    let level = node.level;
                    if !self.after.open(&mut self.loaded) {
                        return self.flush_or(self.needed(level));
                    }
                }
                _ => self.compare(),
            }
        }
        DiffStep::Found(std::mem::take(&mut self.found))
    }

    /// Gives what was found before it asks for more.
    fn flush_or(&mut self, needed: Vec<NodeRef>) -> DiffStep {
        if self.found.is_empty() {
            return DiffStep::Need(needed);
        }
        DiffStep::Found(std::mem::take(&mut self.found))
    }

    /// Opens the higher of two nodes that differ, or both. Gives what has to be fed first.
    fn descend(&mut self, a: NodeRef, b: NodeRef) -> Option<Vec<NodeRef>> {
        let level = a.level.max(b.level);
        let present = |node: &NodeRef| node.level < level || self.loaded.has(node);
        if !present(&a) || !present(&b) {
            return Some(self.needed(level));
        }
        if a.level == level {
            self.before.open(&mut self.loaded);
        }
        if b.level == level {
            self.after.open(&mut self.loaded);
        }
        None
    }

    /// Nodes of a level that are sure to be read: up to the last key that both sides show, those that
    /// the other side does not have.
    fn needed(&self, level: u8) -> Vec<NodeRef> {
        let (before, all_before) = self.before.nodes(level);
        let (after, all_after) = self.after.nodes(level);
        // Behind its last node of this level, a side could have the other's next nodes further down.
        let bound = |nodes: &[(&Option<Vec<u8>>, &NodeRef)], all: bool| {
            if all {
                None
            } else {
                Some(nodes.last().and_then(|(last, _)| (*last).clone()).unwrap_or_default())
            }
        };
        let bounds = [bound(&before, all_before), bound(&after, all_after)];
        let within = |last: &Option<Vec<u8>>| {
            bounds.iter().flatten().all(|bound| last.as_ref().is_some_and(|last| last <= bound))
        };
        let digests = |nodes: &[(&Option<Vec<u8>>, &NodeRef)]| -> BTreeSet<_> {
            nodes.iter().map(|(_, node)| node.digest).collect()
        };
        let (in_before, in_after) = (digests(&before), digests(&after));
        let mut needed: Vec<NodeRef> = [&self.before, &self.after]
            .iter()
            .filter_map(|side| side.front_node())
            .filter(|node| node.level == level && !self.loaded.has(node))
            .copied()
            .collect();
        let rest_before = before.iter().filter(|(_, node)| !in_after.contains(&node.digest));
        let rest_after = after.iter().filter(|(_, node)| !in_before.contains(&node.digest));
        for (last, node) in rest_before.chain(rest_after) {
            let fresh = !self.loaded.has(node) && needed.iter().all(|n| n.digest != node.digest);
            if needed.len() < AHEAD && fresh && within(last) {
                needed.push(**node);
            }
        }
        needed
    }

    /// Compares the first items of both sides; at least one has one, and neither has a node first.
    fn compare(&mut self) {
        let (before, after) = (self.before.take_item(), self.after.take_item());
        match (before, after) {
            (Some((a, old)), Some((b, new))) if a == b => {
                if old != new {
                    self.found.push(Difference { key: a, before: Some(old), after: Some(new) });
                }
            }
            (Some((a, old)), Some((b, new))) if a < b => {
                self.found.push(Difference { key: a, before: Some(old), after: None });
                self.after.0.push_front(Part::Item(b, new));
            }
            (Some((a, old)), Some((b, new))) => {
                self.found.push(Difference { key: b, before: None, after: Some(new) });
                self.before.0.push_front(Part::Item(a, old));
            }
            (Some((key, old)), None) => {
                self.found.push(Difference { key, before: Some(old), after: None });
            }
            (None, Some((key, new))) => {
                self.found.push(Difference { key, before: None, after: Some(new) });
            }
            (None, None) => {}
        }
    }
}
