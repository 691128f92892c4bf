//! Slabs in memory, and walks over them that count what they read.

use std::collections::BTreeMap;

use samara_protocol::hash::SlabId;
use samara_protocol::keys::tree::MetadataKey;
use samara_protocol::tree::{
    Apply, ApplyStep, BoundaryKey, Builder, Diff, DiffStep, Difference, Edits, Item, Limits,
    Lookup, LookupStep, NewNode, NodeRef, Packer, Reach, ReachStep, Rules, Scan, ScanStep,
    TreeKind,
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
        nodes.into_iter().map(|node| (node, self.fetch(&node))).collect()
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

    /// Gives the new root and the new nodes.
    pub fn apply(
        &mut self,
        rules: &Rules,
        root: Option<NodeRef>,
        edits: Edits,
    ) -> (Option<NodeRef>, Vec<NewNode>) {
        let (mut apply, mut packer) = (Apply::new(rules, root, edits).unwrap(), packer());
        let mut new = Vec::new();
        loop {
            match apply.step() {
                ApplyStep::Need(nodes) => {
                    for (node, bytes) in self.fetch_all(nodes) {
                        apply.feed(&node, &bytes).unwrap();
                    }
                }
                ApplyStep::Node(node) => {
                    self.place(&mut packer, &node);
                    new.push(node);
                }
                ApplyStep::Done(root) => return (self.settle(packer, root), new),
            }
        }
    }

    pub fn scan(
        &mut self,
        kind: TreeKind,
        root: Option<NodeRef>,
        prefix: &[u8],
        from: &[u8],
    ) -> Vec<Item> {
        let mut scan = Scan::new(kind, root, prefix.to_vec(), from);
        let mut items = Vec::new();
        loop {
            match scan.step() {
                ScanStep::Need(nodes) => {
                    for (node, bytes) in self.fetch_all(nodes) {
                        scan.feed(&node, &bytes).unwrap();
                    }
                }
                ScanStep::Items(more) => items.extend(more),
                ScanStep::Done => return items,
            }
        }
    }

    pub fn lookup(&mut self, kind: TreeKind, root: Option<NodeRef>, key: &[u8]) -> Option<Vec<u8>> {
        let mut lookup = Lookup::new(kind, root, key.to_vec());
        loop {
            match lookup.step() {
                LookupStep::Need(node) => lookup.feed(&node, &self.fetch(&node)).unwrap(),
                LookupStep::Found(value) => return value,
            }
        }
    }

    pub fn diff(
        &mut self,
        kind: TreeKind,
        before: Option<NodeRef>,
        after: Option<NodeRef>,
    ) -> Vec<Difference> {
        let mut diff = Diff::new(kind, before, after);
        let mut found = Vec::new();
        loop {
            match diff.step() {
                DiffStep::Need(nodes) => {
                    for (node, bytes) in self.fetch_all(nodes) {
                        diff.feed(&node, &bytes).unwrap();
                    }
                }
                DiffStep::Found(more) => found.extend(more),
                DiffStep::Done => return found,
            }
        }
    }

    pub fn reach(&mut self, kind: TreeKind, roots: &[NodeRef]) -> Vec<NodeRef> {
        let mut reach = Reach::new(kind, roots.iter().copied(), Default::default());
        let mut nodes = Vec::new();
        loop {
            match reach.step() {
                ReachStep::Need(needed) => {
                    for (node, bytes) in self.fetch_all(needed) {
                        reach.feed(&node, &bytes).unwrap();
                    }
                }
                ReachStep::Nodes(more) => nodes.extend(more),
                ReachStep::Done => return nodes,
            }
        }
    }
}

/// Slabs of 64 frames.
fn packer() -> Packer {
    Packer::new(FRAME, u64::from(FRAME) * 64)
}

pub fn digest(root: Option<NodeRef>) -> Option<samara_protocol::hash::Digest> {
    root.map(|root| root.digest)
}
