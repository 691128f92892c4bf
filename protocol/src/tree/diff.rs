//! What differs between two trees, reading only where they do.

use std::collections::{BTreeSet, VecDeque};

use super::node::{Held, NodeRef};
use super::walk::{AHEAD, Loaded, Step, Walk};
use super::{TreeError, TreeKind};
use crate::hash::Digest;

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

    /// The first nodes of one level.
    fn shown(&self, level: u8) -> Shown<'_> {
        let mut shown = Shown { nodes: Vec::new(), digests: BTreeSet::new(), all: true };
        for part in &self.0 {
            match part {
                Part::Item(..) => {}
                Part::Node(last, node) if node.level == level => {
                    shown.nodes.push((last.as_deref(), node));
                    shown.digests.insert(node.digest);
                }
                Part::Node(..) => {
                    shown.all = false;
                    break;
                }
            }
        }
        shown
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

/// What one side has of a level before anything higher.
struct Shown<'a> {
    nodes: Vec<(Option<&'a [u8]>, &'a NodeRef)>,
    digests: BTreeSet<Digest>,
    /// Whether nothing but these and items is left.
    all: bool,
}

impl Shown<'_> {
    /// Whether no node with this last key can come later, from below a higher one.
    fn reaches(&self, last: Option<&[u8]>) -> bool {
        let end = self.nodes.last().and_then(|(last, _)| *last);
        self.all || matches!((last, end), (Some(last), Some(end)) if last <= end)
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

    /// Gives what was found before it asks for more.
    fn flush_or(&mut self, needed: Vec<NodeRef>) -> Step<Vec<Difference>> {
        if self.found.is_empty() {
            return Step::Need(needed);
        }
        Step::Part(std::mem::take(&mut self.found))
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

    /// Nodes of a level that are sure to be read: the first, and as far as both sides show theirs, those
    /// that the other does not have.
    fn needed(&self, level: u8) -> Vec<NodeRef> {
        let sides = [&self.before, &self.after];
        let [before, after] = sides.map(|side| side.shown(level));
        let first = sides.into_iter().filter_map(Side::front_node);
        let first = first.filter(|node| node.level == level);
        let differs =
            [(&before, &after), (&after, &before)].into_iter().flat_map(|(own, other)| {
                let differs = |(last, node): &&(Option<&[u8]>, &NodeRef)| {
                    let reached = own.reaches(*last) && other.reaches(*last);
                    reached && !other.digests.contains(&node.digest)
                };
                own.nodes.iter().filter(differs).map(|(_, node)| *node)
            });
        let mut needed: Vec<NodeRef> = Vec::new();
        for node in first.chain(differs).filter(|node| !self.loaded.has(node)) {
            if needed.len() < AHEAD && needed.iter().all(|known| known.digest != node.digest) {
                needed.push(*node);
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

impl Walk for Diff {
    type Part = Vec<Difference>;
    type End = ();

    fn step(&mut self) -> Step<Vec<Difference>> {
        while self.found.len() < BATCH {
            match (self.before.0.front(), self.after.0.front()) {
                (None, None) if self.found.is_empty() => return Step::Done(()),
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
        Step::Part(std::mem::take(&mut self.found))
    }

    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(node, stored)
    }
}
