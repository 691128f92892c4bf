//! A checkpoint onto the hosts.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use samara_protocol::hash::Digest;
use samara_protocol::journal::{CheckpointName, SlabRecord};
use samara_protocol::tree::checkpoint::{CheckpointRoot, MAX_ROOT, Trees};
use samara_protocol::tree::{Apply, Edits, NewNode, NodeRef, Packer, Rebuild, TreeKind, Walk};

use super::cut::Cut;
use super::error::CheckpointError;
use super::nodes::{places, put_node, put_root};
use super::{Checkpoints, Places};
use crate::contract::Budget;
use crate::transfer::{SlabClass, StoredSlab, Uploader};

/// Most slabs that the trees of a checkpoint may be spread over.
const MOST_SLABS: usize = 256;
/// The trees are written anew when their slabs take so many times what the nodes in use are; two thirds
/// of a frame hold a node.
const SLACK: u64 = 3;
/// Bytes of nodes that go into the cache in one commit.
const BATCH: usize = 4 << 20;

/// A checkpoint that was written.
pub(crate) struct Made {
    pub(crate) name: CheckpointName,
    /// The slabs that were stored for it. They are leased until this is dropped.
    pub(crate) stored: Vec<StoredSlab>,
    /// All its nodes, if none of them lies in a slab of before.
    pub(super) anew: Option<BTreeSet<Digest>>,
    /// What storing it costs. The last hosts are still on their way.
    pub(crate) cost: Budget,
}

impl Made {
    /// Bytes that the hosts store for it.
    pub(crate) fn bytes(&self) -> u64 {
        let stored = |slab: &StoredSlab| {
            let column = 1u64.checked_shl(u32::from(slab.record.column)).unwrap_or(u64::MAX);
            column.saturating_mul(slab.record.hosts.len() as u64)
        };
        self.stored.iter().map(stored).fold(0, u64::saturating_add)
    }

    /// What the journal keeps of the slabs.
    pub(crate) fn records(&self) -> Vec<SlabRecord> {
        self.stored.iter().map(|slab| slab.record.clone()).collect()
    }
}

impl Checkpoints {
    /// Writes a checkpoint upon the one before, whose slabs lie at `known`.
    ///
    /// A whole cut needs the one before for the history of events alone; `without` says that it was
    /// asked for often enough, and is to be given up if it cannot be had.
    pub(crate) async fn write(
        &self,
        before: Option<&CheckpointName>,
        known: &Places,
        cut: &Cut,
        without: bool,
    ) -> Result<Made, CheckpointError> {
        // The trees' own slabs come on top; what is over already need not be sent.
        root_length(&samara_protocol::encoding::encode(&cut.root))?;
        let written = match before {
            None => self.write_upon(None, known, cut).await,
            Some(name) => match self.root(name, known).await {
                Ok(root) => self.write_upon(Some(&root), known, cut).await,
                Err(error) => Err(error),
            },
        };
        match written {
            Err(error) if cut.whole && without && error.is_missing() => {
                tracing::error!(%error, "the history of events before now is lost at the hosts");
                self.write_upon(None, known, cut).await
            }
            written => written,
        }
    }

    async fn write_upon(
        &self,
        old: Option<&CheckpointRoot>,
        known: &Places,
        cut: &Cut,
    ) -> Result<Made, CheckpointError> {
        let anew = cut.whole || old.is_none_or(is_wasteful);
        let mut writer = Writer::new(self, anew)?;
        let trees = old.map(|root| root.trees).unwrap_or_default();
        let places = old.map(|root| places(root, known)).unwrap_or_default();
        let edits = cut.edits.clone();
        let kept = |tree: Option<NodeRef>| tree.filter(|_| !cut.whole);
        let trees = Trees {
            files: writer.tree(TreeKind::Files, kept(trees.files), edits.files, &places).await?,
            events: writer.tree(TreeKind::Events, trees.events, edits.events, &places).await?,
            slabs: writer.tree(TreeKind::Slabs, kept(trees.slabs), edits.slabs, &places).await?,
            held: writer.tree(TreeKind::Held, kept(trees.held), edits.held, &places).await?,
        };
        writer.finish(trees, places, cut).await
    }
}

/// Whether most of what lies in a checkpoint's slabs is no longer part of it.
fn is_wasteful(root: &CheckpointRoot) -> bool {
    let used = root.trees.iter().map(|tree| tree.bytes).fold(0, u64::saturating_add);
    let taken = root.metadata.iter().map(SlabRecord::capacity).fold(0, u64::saturating_add);
    taken > used.saturating_mul(SLACK) || root.metadata.len() >= MOST_SLABS
}

/// Bytes of a root, if that is not more than may be read.
fn root_length(root: &[u8]) -> Result<u32, CheckpointError> {
    let bytes = root.len();
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_ROOT);
    length.ok_or(CheckpointError::RootTooLarge { bytes, limit: MAX_ROOT })
}

/// Nodes on their way into slabs.
struct Writer<'a> {
    checkpoints: &'a Checkpoints,
    uploader: Uploader,
    packer: Packer,
    /// Whether nothing of the old slabs is to be used.
    anew: bool,
    stored: Vec<StoredSlab>,
    /// All new nodes.
    written: BTreeSet<Digest>,
    cost: Budget,
}

impl<'a> Writer<'a> {
    fn new(checkpoints: &'a Checkpoints, anew: bool) -> Result<Self, CheckpointError> {
        let cost = Budget::unlimited();
        let uploader = checkpoints.slabs.uploader().within(cost.clone());
        let capacity = uploader.capacity(SlabClass::Metadata)?;
        let packer = Packer::new(uploader.options().frame.saturating_sub(16), capacity.into());
        let (stored, written) = (Vec::new(), BTreeSet::new());
        Ok(Self { checkpoints, uploader, packer, anew, stored, written, cost })
    }

    /// Writes what is new of a tree.
    async fn tree(
        &mut self,
        kind: TreeKind,
        root: Option<NodeRef>,
        edits: Edits,
        places: &Places,
    ) -> Result<Option<NodeRef>, CheckpointError> {
        let rules = self.checkpoints.rules(kind);
        if self.anew {
            self.nodes(Rebuild::new(&rules, root, edits)?, places).await
        } else {
            self.nodes(Apply::new(&rules, root, edits)?, places).await
        }
    }

    async fn nodes<W>(
        &mut self,
        mut walk: W,
        places: &Places,
    ) -> Result<Option<NodeRef>, CheckpointError>
    where
        W: Walk<Part = NewNode, End = Option<NodeRef>>,
    {
        loop {
            match self.checkpoints.next(&mut walk, places).await? {
                ControlFlow::Continue(node) => self.place(&node).await?,
                ControlFlow::Break(root) => return Ok(root),
            }
        }
    }

    async fn place(&mut self, node: &NewNode) -> Result<(), CheckpointError> {
        if !self.packer.place(node)? {
            self.seal().await?;
            self.packer.place(node)?;
        }
        Ok(())
    }

    /// Stores the slab that is full, and keeps copies of its nodes.
    async fn seal(&mut self) -> Result<(), CheckpointError> {
        let here = self.packer.here();
        let image = self.packer.take();
        if image.is_empty() {
            return Ok(());
        }
        let (mut writes, mut bytes) = (Vec::new(), 0);
        let store = &self.checkpoints.world.store;
        for (digest, range) in here {
            let Some(node) = image.get(range) else { continue };
            bytes += node.len();
            writes.push(put_node(&digest, node.to_vec()));
            self.written.insert(digest);
            if bytes >= BATCH {
                store.commit(std::mem::take(&mut writes)).await?;
                bytes = 0;
            }
        }
        store.commit(writes).await?;
        let slab = self.uploader.upload_slab(image, SlabClass::Metadata).await?;
        self.packer.stored(slab.record.id);
        self.stored.push(slab);
        Ok(())
    }

    async fn finish(
        mut self,
        trees: Trees,
        old: Places,
        cut: &Cut,
    ) -> Result<Made, CheckpointError> {
        self.seal().await?;
        let resolve = |tree: Option<NodeRef>| tree.and_then(|root| self.packer.resolve(root));
        let trees = Trees {
            files: resolve(trees.files),
            events: resolve(trees.events),
            slabs: resolve(trees.slabs),
            held: resolve(trees.held),
        };
        let mut metadata: Vec<SlabRecord> =
            if self.anew { Vec::new() } else { old.into_values().collect() };
        metadata.extend(self.stored.iter().map(|slab| slab.record.clone()));
        let root = CheckpointRoot { trees, metadata, ..cut.root.clone() };
        let bytes = samara_protocol::encoding::encode(&root);
        let length = root_length(&bytes)?;
        let digest = root.digest();
        let trees = root.metadata.iter().map(|record| record.id).collect();
        let capacity = self.uploader.capacity(SlabClass::Metadata)?.max(1) as usize;
        let mut records = Vec::new();
        for part in bytes.chunks(capacity) {
            let slab = self.uploader.upload_slab(part.to_vec(), SlabClass::Metadata).await?;
            records.push(slab.record.clone());
            self.stored.push(slab);
        }
        self.checkpoints.world.store.commit(vec![put_root(&digest, bytes)]).await?;
        let name = CheckpointName { point: cut.point(), digest, length, root: records, trees };
        let anew = self.anew.then_some(self.written);
        Ok(Made { name, stored: self.stored, anew, cost: self.cost })
    }
}
