//! Trees from sorted items, in bounded memory: one unfinished node for each level.

use super::boundary::{Chunker, Rules};
use super::node::{Held, NewNode, NodeRef, Slot};
use super::{TreeError, TreeKind};

/// Builds a tree from items in ascending order of their keys.
#[derive(Debug)]
pub struct Builder {
    levels: Levels,
    last: Option<Vec<u8>>,
}

impl Builder {
    /// An empty tree under these rules.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        Self { levels: Levels::new(rules, 0), last: None }
    }

    /// Takes the next item; gives the nodes that are complete by now, children before parents.
    ///
    /// # Errors
    /// [`TreeError::Order`] when the key does not follow the last, [`TreeError::ItemTooLarge`].
    pub fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<Vec<NewNode>, TreeError> {
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(TreeError::Order);
        }
        self.levels.rules.limits.check(&key, &value)?;
        self.last = Some(key.clone());
        self.levels.push(Slot::value(key, value));
        Ok(std::mem::take(&mut self.levels.made))
    }

    /// The last nodes, and the root; none for an empty tree.
    #[must_use]
    pub fn finish(self) -> (Vec<NewNode>, Option<NodeRef>) {
        self.levels.finish()
    }
}

/// Chunkers from one level up to the root.
#[derive(Debug)]
pub(super) struct Levels {
    rules: Rules,
    /// Level of the first chunker's nodes.
    first: u8,
    chunkers: Vec<Chunker>,
    made: Vec<NewNode>,
}

impl Levels {
    pub(super) fn new(rules: &Rules, first: u8) -> Self {
        Self { rules: rules.clone(), first, chunkers: Vec::new(), made: Vec::new() }
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.push_at(0, slot);
    }

    fn push_at(&mut self, index: usize, slot: Slot) {
        let level = self.level(index);
        if index == self.chunkers.len() {
            self.chunkers.push(Chunker::new(&self.rules, level));
        }
        for slots in self.chunkers[index].push(slot) {
            let parent = self.make(level, slots);
            self.push_at(index + 1, parent);
        }
    }

    fn level(&self, index: usize) -> u8 {
        // Each level has at most half the nodes of the one below: 64 levels would be more than memory.
        self.first.saturating_add(u8::try_from(index).unwrap_or(u8::MAX))
    }

    fn make(&mut self, level: u8, slots: Vec<Slot>) -> Slot {
        let (key, node) = NewNode::new(self.rules.kind, level, slots);
        let held = Held::Node(node.reference);
        self.made.push(node);
        Slot { key, held }
    }

    /// Completes every level; the first that has one node only has the root.
    pub(super) fn finish(mut self) -> (Vec<NewNode>, Option<NodeRef>) {
        let mut index = 0;
        while index < self.chunkers.len() {
            let level = self.level(index);
            let chunker =
                std::mem::replace(&mut self.chunkers[index], Chunker::new(&self.rules, level));
            if let Some(slots) = chunker.finish() {
                let single = index + 1 == self.chunkers.len();
                let parent = self.make(level, slots);
                if single {
                    let root = match parent.held {
                        Held::Node(node) => Some(node),
                        Held::Value(_) => None,
                    };
                    return (self.made, root);
                }
                self.push_at(index + 1, parent);
            }
            index += 1;
        }
        (self.made, None)
    }
}

impl Rules {
    /// Which tree they are for.
    #[must_use]
    pub fn kind(&self) -> TreeKind {
        self.kind
    }
}
