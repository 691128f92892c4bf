//! A tree with a batch of edits, as nodes that are all new: what is left of it lies in the slabs that
//! are written now, and the old ones can go.
//!
//! The nodes come out as [`super::Apply`] would leave them, with the same digests.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::apply::{Change, Edit};
use super::build::Builder;
use super::node::{Held, NewNode, NodeRef};
use super::walk::{Scan, Step, Walk};
use super::{Edits, Item, Rules, TreeError};

/// Reads a tree in order, and builds it anew with edits.
#[derive(Debug)]
pub struct Rebuild {
    scan: Scan,
    edits: Peekable<IntoIter<Edit>>,
    /// The prefix whose items are being removed.
    cover: Option<Vec<u8>>,
    builder: Option<Builder>,
    ready: VecDeque<NewNode>,
    root: Option<NodeRef>,
}

impl Rebuild {
    /// Builds the tree with this root and `edits`.
    ///
    /// # Errors
    /// [`TreeError::ItemTooLarge`].
    pub fn new(rules: &Rules, root: Option<NodeRef>, edits: Edits) -> Result<Self, TreeError> {
        edits.check(rules)?;
        Ok(Self {
            scan: Scan::new(rules.kind(), root, Vec::new(), &[]),
            edits: edits.into_sorted().into_iter().peekable(),
            cover: None,
            builder: Some(Builder::new(rules)),
            ready: VecDeque::new(),
            root: None,
        })
    }

    /// Takes the next items of the old tree; the edits before and at each key come first.
    fn take(&mut self, items: Vec<Item>) {
        for (key, value) in items {
            let mut value = Some(value);
            while let Some(edit) = self.edits.next_if(|edit| edit.key <= key) {
                if edit.key == key && !matches!(edit.change, Change::RemoveBelow) {
                    value = None;
                }
                self.edit(edit);
            }
            let covered = self.cover.as_ref().is_some_and(|cover| key.starts_with(cover));
            if let Some(value) = value.filter(|_| !covered) {
                self.push(key, value);
            }
        }
    }

    fn edit(&mut self, edit: Edit) {
        match edit.change {
            Change::RemoveBelow => {
                // One within another adds nothing to it.
                if !self.cover.as_ref().is_some_and(|cover| edit.key.starts_with(cover)) {
                    self.cover = Some(edit.key);
                }
            }
            Change::Put(Held::Value(value)) => self.push(edit.key, value),
            Change::Remove | Change::Put(Held::Node(_)) => {}
        }
    }

    fn push(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if let Some(builder) = &mut self.builder {
            let made = builder.push(key, value);
            self.ready.extend(made.expect("invariant: keys ascend, and edits were checked"));
        }
    }

    fn finish(&mut self) {
        while let Some(edit) = self.edits.next() {
            self.edit(edit);
        }
        if let Some(builder) = self.builder.take() {
            let (made, root) = builder.finish();
            self.ready.extend(made);
            self.root = root;
        }
    }
}

impl Walk for Rebuild {
    type Part = NewNode;
    type End = Option<NodeRef>;

    fn step(&mut self) -> Step<NewNode, Option<NodeRef>> {
        loop {
            if let Some(node) = self.ready.pop_front() {
                return Step::Part(node);
            }
            if self.builder.is_none() {
                return Step::Done(self.root);
            }
            match self.scan.step() {
                Step::Need(nodes) => return Step::Need(nodes),
                Step::Part(items) => self.take(items),
                Step::Done(()) => self.finish(),
            }
        }
    }

    fn feed(&mut self, node: &NodeRef, stored: &[u8]) -> Result<(), TreeError> {
        self.scan.feed(node, stored)
    }
}
