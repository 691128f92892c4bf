//! A sorted batch of edits on a tree, at the cost of what changes.
//!
//! Level by level from the leaves: the edits of a level are applied in *regions*. A region starts at the
//! node before the first edited one, whose end may depend on it, is cut anew, and ends as soon as a
//! new boundary falls on an old one behind which nothing is edited. What a region replaces are the
//! edits of the level above. Nodes that come out as they were are not new.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::TreeError;
use super::boundary::{Chunker, Rules};
use super::build::Levels;
use super::node::{Held, NewNode, Node, NodeRef, Slot};
use super::walk::{AHEAD, Loaded, Missing, Step, Walk};

/// Changes of a tree, by key. What is said later of a key counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    below: BTreeSet<Vec<u8>>,
    at: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Edits {
    /// Gives a key a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.at.insert(key, Some(value));
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.at.insert(key, None);
    }

    /// Removes all keys that start with `prefix`.
    pub fn remove_below(&mut self, prefix: Vec<u8>) {
        let after = self.at.range(prefix.clone()..).map(|(key, _)| key);
        let gone: Vec<_> = after.take_while(|key| key.starts_with(&prefix)).cloned().collect();
        for key in gone {
            self.at.remove(&key);
        }
        self.below.insert(prefix);
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.below.is_empty() && self.at.is_empty()
    }

    /// Refuses what a node cannot take.
    pub(super) fn check(&self, rules: &Rules) -> Result<(), TreeError> {
        let put = self.at.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        put.into_iter().try_for_each(|(key, value)| rules.limits.check(key, value))
    }

    /// In order; what removes a prefix comes before what it says of the same key.
    pub(super) fn into_sorted(self) -> Vec<Edit> {
        let below = self.below.into_iter().map(|key| Edit { key, change: Change::RemoveBelow });
        let at = self.at.into_iter().map(|(key, value)| {
            let change = value.map_or(Change::Remove, |value| Change::Put(Held::Value(value)));
            Edit { key, change }
        });
        let mut edits: Vec<Edit> = below.chain(at).collect();
        // Stable, and prefixes are first.
        edits.sort_by(|a, b| a.key.cmp(&b.key));
        edits
    }
}

/// What is to be done at one key.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) key: Vec<u8>,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) enum Change {
    RemoveBelow,
    Remove,
    Put(Held),
}

/// Applies edits to a tree.
#[derive(Debug)]
pub struct Apply {
    rules: Rules,
    root: Option<NodeRef>,
    loaded: Loaded,
    pass: Pass,
    /// Nodes to give out.
    ready: VecDeque<NewNode>,
    /// New nodes above the leaves, until it is known which of them the new root needs.
    held: Vec<NewNode>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Pass,
    /// The root has this node below it, and all above has one child only.
    Collapse(NodeRef),
    Done(Option<NodeRef>),
}

/// The edits of one level.
#[derive(Debug)]
struct Pass {
    level: u8,
    edits: VecDeque<Edit>,
    /// Edits of the level above.
    above: BTreeMap<Vec<u8>, Option<NodeRef>>,
    region: Option<Region>,
}

/// Neighbouring nodes that are cut anew.
#[derive(Debug)]
struct Region {
    chunker: Chunker,
    /// The next old node to take in; none behind the last.
    next: Option<Found>,
    /// Old nodes taken in, by last key.
    old: Vec<(Vec<u8>, NodeRef)>,
    /// How many of them there were when something was last changed.
    edited: usize,
    /// New nodes by last key.
    fresh: Vec<(Vec<u8>, NodeRef)>,
    /// The prefix whose keys are being removed.
    cover: Option<Vec<u8>>,
}

/// An old node of a level. The last key of the root is not known before it is read.
#[derive(Clone, Debug)]
struct Found {
    last: Option<Vec<u8>>,
    node: NodeRef,
}

impl Apply {
    /// Applies `edits` to the tree with this root.
    ///
    /// # Errors
    /// [`TreeError::ItemTooLarge`].
    pub fn new(rules: &Rules, root: Option<NodeRef>, edits: Edits) -> Result<Self, TreeError> {
        edits.check(rules)?;
        Ok(Self {
            rules: rules.clone(),
            root,
            loaded: Loaded::new(rules.kind),
            pass: Pass::new(0, edits.into_sorted()),
            ready: VecDeque::new(),
            held: Vec::new(),
            stage: Stage::Pass,
        })
    }

    /// One region's next step, or the end of a pass.
    fn advance(&mut self) -> Result<(), Missing> {
        let Some(root) = self.root else {
            self.build();
            return Ok(());
        };
        if let Some(region) = &self.pass.region {
            return match region.next.clone() {
                Some(next) => self.take_in(&root, next),
                None => {
                    self.end_region(&root, true);
                    Ok(())
                }
            };
        }
        if let Some(edit) = self.pass.edits.front() {
            let level = self.pass.level;
            let next = self.first_affected(&root, level, &edit.key)?;
            self.pass.region = Some(Region::new(Chunker::new(&self.rules, level), next));
            return Ok(());
        }
        let above = std::mem::take(&mut self.pass.above);
        if above.is_empty() {
            self.finish(Some(root));
            return Ok(());
        }
        let edit = |(key, node): (Vec<u8>, Option<NodeRef>)| Edit {
            key,
            change: node.map_or(Change::Remove, |node| Change::Put(Held::Node(node))),
        };
        let edits = above.into_iter().map(edit).collect();
        self.pass = Pass::new(self.pass.level + 1, edits);
        Ok(())
    }

    /// An empty tree takes what is put.
    fn build(&mut self) {
        let mut levels = Levels::new(&self.rules, 0);
        for edit in std::mem::take(&mut self.pass.edits) {
            if let Change::Put(held) = edit.change {
                levels.push(Slot { key: edit.key, held });
            }
        }
        let (made, root) = levels.finish();
        self.ready.extend(made);
        self.stage = Stage::Done(root);
    }

    /// The node before the one that a key belongs to, or that one if it is the first.
    fn first_affected(&self, root: &NodeRef, level: u8, key: &[u8]) -> Result<Found, Missing> {
        let own = match self.at_or_after(root, level, key)? {
            Some(found) => found,
            None => self.last(root, None, level)?,
        };
        let before = match &own.last {
            Some(last) => self.before(root, level, last)?,
            None => None,
        };
        Ok(before.unwrap_or(own))
    }

    /// Takes an old node into the region.
    fn take_in(&mut self, root: &NodeRef, next: Found) -> Result<(), Missing> {
        let level = self.pass.level;
        let region = self.pass.region.as_ref().expect("invariant: the caller has a region");
        if let Some(last) = region.covers(&next, self.pass.edits.front()) {
            // All of it is removed, so it need not be read.
            let after = self.after(root, level, &last)?;
            // Edits behind the last node go with it.
            if after.is_some() || self.pass.edits.is_empty() {
                let region = self.pass.region.as_mut().expect("invariant: it was not taken");
                region.old.push((last, next.node));
                region.edited = region.old.len();
                region.next = after;
                return Ok(());
            }
        }
        let last = self.loaded.node(&next.node)?.last_key().to_vec();
        let after = if level == root.level { None } else { self.after(root, level, &last)? };
        // Leaves are used once; the nodes above lead the way.
        let node = if level == 0 {
            self.loaded.take(&next.node)?
        } else {
            self.loaded.node(&next.node)?.clone()
        };
        let region = self.pass.region.as_mut().expect("invariant: the caller has a region");
        region.old.push((last, next.node));
        region.next = after;
        let cut = region.merge(node, &mut self.pass.edits);
        self.make(cut);
        let region = self.pass.region.as_ref().expect("invariant: it was not taken");
        if region.next.is_some() && region.is_in_step() {
            self.end_region(root, false);
        }
        Ok(())
    }

    /// Makes the nodes that were cut. Those that the region had before are not new.
    fn make(&mut self, cut: Vec<Vec<Slot>>) {
        let region = self.pass.region.as_mut().expect("invariant: nodes are cut in regions");
        for slots in cut {
            let (key, new) = NewNode::new(self.rules.kind, self.pass.level, slots);
            if let Some(known) = region.known(&key, &new.reference) {
                region.fresh.push((key, known));
                continue;
            }
            region.fresh.push((key, new.reference));
            if self.pass.level == 0 {
                self.ready.push_back(new);
            } else {
                self.held.push(new);
            }
        }
    }

    /// Turns a region into edits of the level above, or into the root.
    fn end_region(&mut self, root: &NodeRef, at_end: bool) {
        let Some(region) = self.pass.region.as_mut() else { return };
        if at_end {
            let rest = Chunker::new(&self.rules, self.pass.level);
            let rest = std::mem::replace(&mut region.chunker, rest).finish();
            self.make(rest.into_iter().collect());
        }
        let Some(mut region) = self.pass.region.take() else { return };
        if self.pass.level == root.level {
            self.take_top(region.fresh);
            return;
        }
        if !at_end && let Some(index) = region.meets() {
            region.old.truncate(index + 1);
        }
        let mut old: BTreeMap<Vec<u8>, NodeRef> = region.old.into_iter().collect();
        for (key, node) in region.fresh {
            if old.remove(&key).is_none_or(|known| known.digest != node.digest) {
                self.pass.above.insert(key, Some(node));
            }
        }
        for key in old.into_keys() {
            self.pass.above.insert(key, None);
        }
    }

    /// The nodes of what was the root's level are known: there may be more levels now, or fewer.
    fn take_top(&mut self, mut nodes: Vec<(Vec<u8>, NodeRef)>) {
        if nodes.len() > 1 {
            let mut levels = Levels::new(&self.rules, self.pass.level.saturating_add(1));
            for (key, node) in nodes {
                levels.push(Slot { key, held: Held::Node(node) });
            }
            let (made, root) = levels.finish();
            self.held.extend(made);
            self.finish(root);
        } else {
            match nodes.pop() {
                Some((_, node)) => self.stage = Stage::Collapse(node),
                None => self.finish(None),
            }
        }
    }

    /// A node with a single child is no root.
    fn collapse(&mut self, mut root: NodeRef) -> Result<(), Missing> {
        self.stage = Stage::Collapse(root);
        while root.level > 0 {
            let held = self.held.iter().position(|new| new.reference.digest == root.digest);
            let child = match held {
                Some(index) => match self.held[index].children[..] {
                    [only] => {
                        self.held.remove(index);
                        Some(only)
                    }
                    _ => None,
                },
                None => {
                    let mut children = self.loaded.node(&root)?.children();
                    match (children.next(), children.next()) {
                        (Some((_, only)), None) => Some(*only),
                        _ => None,
                    }
                }
            };
            let Some(child) = child else { break };
            root = child;
            self.stage = Stage::Collapse(root);
        }
        self.finish(Some(root));
        Ok(())
    }

    fn finish(&mut self, root: Option<NodeRef>) {
        self.ready.extend(self.held.drain(..));
        self.stage = Stage::Done(root);
    }

    /// The first node of a level whose last key is `key` or greater.
    fn at_or_after(&self, root: &NodeRef, level: u8, key: &[u8]) -> Result<Option<Found>, Missing> {
        let mut found = Found { last: None, node: *root };
        while found.node.level > level {
            let parent = self.loaded.node(&found.node)?;
            let index = parent.slots.partition_point(|slot| slot.key.as_slice() < key);
            let Some(child) = Found::child(parent, index) else { return Ok(None) };
            found = child;
        }
        Ok(Some(found))
    }

    /// The first node of a level whose last key is greater.
    fn after(&self, root: &NodeRef, level: u8, key: &[u8]) -> Result<Option<Found>, Missing> {
        // The next key that there can be.
        let next = [key, &[0]].concat();
        self.at_or_after(root, level, &next)
    }

    /// The last node of a level whose last key is smaller.
    fn before(&self, root: &NodeRef, level: u8, key: &[u8]) -> Result<Option<Found>, Missing> {
        let (mut at, mut beside) = (*root, None);
        while at.level > level {
            let parent = self.loaded.node(&at)?;
            let index = parent.slots.partition_point(|slot| slot.key.as_slice() < key);
            // What lies before the children of a node lies in the node before it.
            let before = index.checked_sub(1).and_then(|before| Found::child(parent, before));
            beside = before.or(beside);
            match Found::child(parent, index) {
                Some(own) => at = own.node,
                None => break,
            }
        }
        match beside {
            Some(found) => self.last(&found.node, found.last, level).map(Some),
            None => Ok(None),
        }
    }

    /// The last node of a level in a subtree.
    fn last(&self, root: &NodeRef, last: Option<Vec<u8>>, level: u8) -> Result<Found, Missing> {
        let mut found = Found { last, node: *root };
        while found.node.level > level {
            let parent = self.loaded.node(&found.node)?;
            let Some(child) = Found::child(parent, parent.slots.len() - 1) else { break };
            found = child;
        }
        Ok(found)
    }

    /// The missing node, and more that the next edits need.
    fn ahead(&self, missing: NodeRef) -> Vec<NodeRef> {
        let mut needed = vec![missing];
        let Some(root) = self.root else { return needed };
        let (level, mut known) = (self.pass.level, None::<Vec<u8>>);
        for edit in &self.pass.edits {
            if needed.len() >= AHEAD {
                break;
            }
            if known.as_ref().is_some_and(|last| edit.key <= *last) {
                continue;
            }
            let nodes = match self.at_or_after(&root, level, &edit.key) {
                Ok(Some(own)) => {
                    known.clone_from(&own.last);
                    let before = own.last.as_ref().map(|last| self.before(&root, level, last));
                    let before = match before {
                        Some(Ok(before)) => before.map(|found| found.node),
                        Some(Err(Missing(node))) => Some(node),
                        None => None,
                    };
                    [before, Some(own.node)]
                }
                Ok(None) => break,
                Err(Missing(node)) => [Some(node), None],
            };
            for node in nodes.into_iter().flatten() {
                let fresh = needed.iter().all(|other| other.digest != node.digest);
                if fresh && !self.loaded.has(&node) && !self.is_taken_in(&node) {
                    needed.push(node);
                }
            }
        }
        needed
    }

    /// Whether the region has this node already, which some next edit could need: only its latest.
    fn is_taken_in(&self, node: &NodeRef) -> bool {
        let latest = self.pass.region.as_ref().and_then(|region| region.old.last());
        latest.is_some_and(|(_, old)| old.digest == node.digest)
    }
}

impl Found {
    fn child(parent: &Node, index: usize) -> Option<Self> {
        match parent.slots.get(index) {
            Some(Slot { key, held: Held::Node(node) }) => {
                Some(Self { last: Some(key.clone()), node: *node })
            }
            _ => None,
        }
    }
}

/// Gives the new nodes: leaves first, in order of their keys, and each node after its children. Ends with the
/// new root: none for an empty tree, and without an address if it is new.
impl Walk for Apply {
    type Part = NewNode;
    type End = Option<NodeRef>;

    fn step(&mut self) -> Step<NewNode, Option<NodeRef>> {
        loop {
            if let Some(node) = self.ready.pop_front() {
                return Step::Part(node);
            }
            let advanced = match &self.stage {
                Stage::Done(root) => return Step::Done(*root),
                Stage::Pass => self.advance(),
                Stage::Collapse(root) => self.collapse(*root),
            };
            if let Err(Missing(node)) = advanced {
                return Step::Need(self.ahead(node));
            }
        }
    }

    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.loaded.feed(node, stored)
    }
}

impl Pass {
    fn new(level: u8, edits: Vec<Edit>) -> Self {
        Self { level, edits: edits.into(), above: BTreeMap::new(), region: None }
    }
}

impl Region {
    fn new(chunker: Chunker, next: Found) -> Self {
        let (old, fresh) = (Vec::new(), Vec::new());
        Self { chunker, next: Some(next), old, edited: 0, fresh, cover: None }
    }

    /// The last key of a node all of whose items are removed: it lies within the covered prefix from
    /// one end to the other, and no edit says anything else of it.
    fn covers(&self, next: &Found, edit: Option<&Edit>) -> Option<Vec<u8>> {
        let (cover, last) = (self.cover.as_ref()?, next.last.as_ref()?);
        let before = &self.old.last()?.0;
        let inside = before.starts_with(cover) && last.starts_with(cover);
        let silent = edit.is_none_or(|edit| edit.key > *last);
        (inside && silent).then(|| last.clone())
    }

    /// Merges a node's items with the edits up to its last key, or all edits behind the last node.
    fn merge(&mut self, node: Node, edits: &mut VecDeque<Edit>) -> Vec<Vec<Slot>> {
        let mut cut = Vec::new();
        for slot in node.slots {
            let mut replaced = false;
            let due = |edits: &VecDeque<Edit>| edits.front().is_some_and(|e| e.key <= slot.key);
            while due(edits)
                && let Some(edit) = edits.pop_front()
            {
                replaced |= edit.key == slot.key && !matches!(edit.change, Change::RemoveBelow);
                cut.extend(self.edit(edit));
            }
            if replaced {
                continue;
            }
            if self.cover.as_ref().is_some_and(|cover| slot.key.starts_with(cover)) {
                self.edited = self.old.len();
            } else {
                cut.extend(self.chunker.push(slot));
            }
        }
        if self.next.is_none() {
            while let Some(edit) = edits.pop_front() {
                cut.extend(self.edit(edit));
            }
        }
        cut
    }

    fn edit(&mut self, edit: Edit) -> Vec<Vec<Slot>> {
        self.edited = self.old.len();
        match edit.change {
            Change::Put(held) => self.chunker.push(Slot { key: edit.key, held }),
            Change::Remove => Vec::new(),
            Change::RemoveBelow => {
                // Within the present one it says nothing new.
                if self.cover.as_ref().is_none_or(|cover| !edit.key.starts_with(cover)) {
                    self.cover = Some(edit.key);
                }
                Vec::new()
            }
        }
    }

    /// The old node with this last key, if the new one is no other.
    fn known(&self, key: &[u8], new: &NodeRef) -> Option<NodeRef> {
        let index = self.old.binary_search_by(|(last, _)| last.as_slice().cmp(key)).ok()?;
        Some(self.old[index].1).filter(|old| old.digest == new.digest)
    }

    /// The old node with which the last new one ends, if nothing behind it was changed.
    fn meets(&self) -> Option<usize> {
        let (last, _) = self.fresh.last()?;
        let index = self.old.binary_search_by(|(key, _)| key.cmp(last)).ok()?;
        (index + 1 >= self.edited).then_some(index)
    }

    /// Whether all that follows is as it was.
    fn is_in_step(&self) -> bool {
        let covering = match (&self.cover, self.old.last()) {
            (Some(cover), Some((last, _))) => last.starts_with(cover),
            _ => false,
        };
        !covering && self.meets().is_some()
    }
}
