//! Slabs in memory, and walks over them that count what they read.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::hash::SlabId;
use samara_protocol::keys::tree::MetadataKey;
use samara_protocol::tree::{
    Apply, BoundaryKey, Builder, Diff, Difference, Edits, Item, Limits, Lookup, NewNode, NodeRef,
    Packer, Reach, Rebuild, Rules, Scan, Step, TreeKind, Walk,
};
use zeroize::Zeroizing;

/// Plaintext bytes of the usual frame.
pub const FRAME: u32 = 65_520;

pub fn rules(kind: TreeKind, limits: Limits) -> Rules {
    let key = BoundaryKey::new(&MetadataKey::from_bytes(&Zeroizing::new([7; 32])));
    Rules::new(kind, key, limits)
}

/// Metadata slabs by id.
#[derive(Default)]
pub struct Store {
    pub slabs: BTreeMap<SlabId, Vec<u8>>,
    /// Nodes read since it was last looked at.
    pub reads: usize,
    /// Most nodes that were asked for at once.
    pub together: usize,
    /// Feeds only the first of the nodes that are asked for, else all, the last first.
    pub lazy: bool,
}

impl Store {
    pub fn fetch(&mut self, node: &NodeRef) -> Vec<u8> {
        self.reads += 1;
        let at = node.address.expect("a stored node has an address");
        let bytes = &self.slabs[&at.slab];
        bytes[at.offset as usize..][..at.length as usize].to_vec()
    }

    fn fetch_all(&mut self, nodes: Vec<NodeRef>) -> Vec<(NodeRef, Vec<u8>)> {
        self.together = self.together.max(nodes.len());
        assert!(!nodes.is_empty());
        let some = if self.lazy { 1 } else { nodes.len() };
        nodes.into_iter().take(some).rev().map(|node| (node, self.fetch(&node))).collect()
    }

    fn seal(&mut self, packer: &mut Packer) {
        let image = packer.take();
        if image.is_empty() {
            return;
        }
        let number = self.slabs.len() as u64;
        let id = SlabId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap());
        self.slabs.insert(id, image);
        packer.stored(id);
    }

    pub fn place(&mut self, packer: &mut Packer, node: &NewNode) {
        if !packer.place(node).unwrap() {
            self.seal(packer);
            assert!(packer.place(node).unwrap());
        }
    }

    fn settle(&mut self, mut packer: Packer, root: Option<NodeRef>) -> Option<NodeRef> {
        self.seal(&mut packer);
        root.map(|root| packer.resolve(root).expect("all nodes are placed"))
    }

    pub fn build(
        &mut self,
        rules: &Rules,
        items: impl IntoIterator<Item = Item>,
    ) -> Option<NodeRef> {
        let (mut builder, mut packer) = (Builder::new(rules), packer());
        for (key, value) in items {
            for node in builder.push(key, value).unwrap() {
                self.place(&mut packer, &node);
            }
        }
        let (nodes, root) = builder.finish();
        nodes.iter().for_each(|node| self.place(&mut packer, node));
        self.settle(packer, root)
    }

    /// Drives a walk to its end.
    fn walk<W: Walk>(&mut self, mut walk: W, mut take: impl FnMut(&mut Self, W::Part)) -> W::End {
        loop {
            match walk.step() {
                Step::Need(nodes) => {
                    for (node, bytes) in self.fetch_all(nodes) {
                        walk.feed(&node, &bytes).unwrap();
                    }
                }
                Step::Part(part) => take(self, part),
                Step::Done(end) => return end,
            }
        }
    }

    /// Gives the new root and the new nodes.
    pub fn apply(
        &mut self,
        rules: &Rules,
        root: Option<NodeRef>,
        edits: Edits,
    ) -> (Option<NodeRef>, Vec<NewNode>) {
        let (mut new, mut packer) = (Vec::new(), packer());
        let root = self.walk(Apply::new(rules, root, edits).unwrap(), |store, node| {
            store.place(&mut packer, &node);
            new.push(node);
        });
        (self.settle(packer, root), new)
    }

    /// Gives the root of nodes that are all stored anew.
    pub fn rebuild(
        &mut self,
        rules: &Rules,
        root: Option<NodeRef>,
        edits: Edits,
    ) -> Option<NodeRef> {
        let mut packer = packer();
        let root = self.walk(Rebuild::new(rules, root, edits).unwrap(), |store, node| {
            store.place(&mut packer, &node);
        });
        self.settle(packer, root)
    }

    pub fn scan(
        &mut self,
        kind: TreeKind,
        root: Option<NodeRef>,
        prefix: &[u8],
        from: &[u8],
    ) -> Vec<Item> {
        let mut items = Vec::new();
        self.walk(Scan::new(kind, root, prefix.to_vec(), from), |_, more| items.extend(more));
        items
    }

    pub fn lookup(&mut self, kind: TreeKind, root: Option<NodeRef>, key: &[u8]) -> Option<Vec<u8>> {
        self.walk(Lookup::new(kind, root, key.to_vec()), |_, part| match part {})
    }

    pub fn diff(
        &mut self,
        kind: TreeKind,
        before: Option<NodeRef>,
        after: Option<NodeRef>,
    ) -> Vec<Difference> {
        let mut found = Vec::new();
        self.walk(Diff::new(kind, before, after), |_, more| found.extend(more));
        found
    }

    pub fn reach(&mut self, kind: TreeKind, roots: &[NodeRef]) -> Vec<NodeRef> {
        let reach = Reach::new(kind, roots.iter().copied(), BTreeSet::new());
        let mut nodes = Vec::new();
        self.walk(reach, |_, more| nodes.extend(more));
        nodes
    }
}

/// Slabs of 64 frames.
fn packer() -> Packer {
    Packer::new(FRAME, u64::from(FRAME) * 64)
}

pub fn digest(root: Option<NodeRef>) -> Option<samara_protocol::hash::Digest> {
    root.map(|root| root.digest)
}
