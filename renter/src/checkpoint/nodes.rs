//! Nodes and roots: from the store's cache, else from the hosts.

use std::ops::ControlFlow;

use samara_protocol::hash::Digest;
use samara_protocol::journal::{CheckpointName, SlabRecord};
use samara_protocol::tree::checkpoint::CheckpointRoot;
use samara_protocol::tree::{NodeRef, Step, TreeError, Walk};

use super::error::CheckpointError;
use super::write::Made;
use super::{Checkpoints, Places};
use crate::transfer::{Downloader, SlabClass};
use crate::world::{Pages, StoreError, Write};

const NODE: &[u8] = b"checkpoint/node/";
const ROOT: &[u8] = b"checkpoint/root/";

fn node_key(digest: &Digest) -> Vec<u8> {
    [NODE, digest.as_bytes()].concat()
}

fn root_key(digest: &Digest) -> Vec<u8> {
    [ROOT, digest.as_bytes()].concat()
}

/// Keeps a node's stored bytes.
pub(super) fn put_node(digest: &Digest, stored: Vec<u8>) -> Write {
    Write::Put(node_key(digest), stored)
}

/// Keeps a root's bytes.
pub(super) fn put_root(digest: &Digest, bytes: Vec<u8>) -> Write {
    Write::Put(root_key(digest), bytes)
}

impl Checkpoints {
    /// The next part of what a walk gives, or its end.
    pub(super) async fn next<W: Walk>(
        &self,
        walk: &mut W,
        places: &Places,
    ) -> Result<ControlFlow<W::End, W::Part>, CheckpointError> {
        loop {
            match walk.step() {
                Step::Need(nodes) => {
                    let missing = self.feed_kept(walk, nodes).await?;
                    self.feed_fetched(walk, missing, places).await?;
                }
                Step::Part(part) => return Ok(ControlFlow::Continue(part)),
                Step::Done(end) => return Ok(ControlFlow::Break(end)),
            }
        }
    }

    /// Feeds the nodes that the cache has; gives the others. A copy that is damaged is as good as none.
    async fn feed_kept<W: Walk>(
        &self,
        walk: &mut W,
        nodes: Vec<NodeRef>,
    ) -> Result<Vec<NodeRef>, CheckpointError> {
        let mut missing = Vec::new();
        for node in nodes {
            let kept = self.world.store.read(&node_key(&node.digest)).await?;
            if kept.is_none_or(|kept| walk.feed(&node, &kept).is_err()) {
                missing.push(node);
            }
        }
        Ok(missing)
    }

    /// Feeds nodes from the hosts, all at once: a walk asks for no more than that.
    async fn feed_fetched<W: Walk>(
        &self,
        walk: &mut W,
        nodes: Vec<NodeRef>,
        places: &Places,
    ) -> Result<(), CheckpointError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let hosts = self.slabs.downloader(SlabClass::Metadata);
        let mut fetches = Vec::new();
        for node in &nodes {
            fetches.push(self.fetch(node, places, &hosts));
        }
        let mut writes = Vec::new();
        for (node, stored) in nodes.iter().zip(futures::future::join_all(fetches).await) {
            let stored = stored?;
            walk.feed(node, &stored)?;
            writes.push(put_node(&node.digest, stored));
        }
        Ok(self.world.store.commit(writes).await?)
    }

    /// A node's stored bytes from the hosts, not compared with its digest yet.
    pub(super) async fn fetch(
        &self,
        node: &NodeRef,
        places: &Places,
        hosts: &Downloader,
    ) -> Result<Vec<u8>, CheckpointError> {
        let what = || format!("node {} of a checkpoint", node.digest);
        let Some(at) = node.address else {
            let digest = node.digest;
            let source = samara_protocol::tree::NodeError::Other;
            return Err(TreeError::Node { digest, source }.into());
        };
        let unknown = || CheckpointError::Unknown { what: what(), slab: at.slab };
        let record = places.get(&at.slab).ok_or_else(unknown)?;
        let range = at.offset..at.offset.saturating_add(at.length);
        let read = hosts.read(record, range).await;
        read.map_err(|source| CheckpointError::Download { what: what(), source })
    }

    /// The root of a checkpoint.
    pub(crate) async fn root(
        &self,
        name: &CheckpointName,
        places: &Places,
    ) -> Result<CheckpointRoot, CheckpointError> {
        let store = self.world.store.as_ref();
        let kept = store.read(&root_key(&name.digest)).await?;
        if let Some(Ok(root)) = kept.map(|kept| read_root(name, &kept)) {
            return Ok(root);
        }
        let hosts = self.slabs.downloader(SlabClass::Metadata);
        let (root, bytes) = self.root_at_hosts(name, places, &hosts).await?;
        store.commit(vec![put_root(&name.digest, bytes)]).await?;
        Ok(root)
    }

    /// The root of a checkpoint as the hosts have it, and its bytes.
    pub(super) async fn root_at_hosts(
        &self,
        name: &CheckpointName,
        places: &Places,
        hosts: &Downloader,
    ) -> Result<(CheckpointRoot, Vec<u8>), CheckpointError> {
        let mut bytes = Vec::new();
        for record in &name.root {
            let record = places.get(&record.id).unwrap_or(record);
            let left = u64::from(name.length).saturating_sub(bytes.len() as u64);
            let length = u32::try_from(left.min(record.plaintext())).unwrap_or(u32::MAX);
            let part = hosts.read(record, 0..length).await;
            let what = || format!("the root of checkpoint {}", name.digest);
            let failed = |source| CheckpointError::Download { what: what(), source };
            bytes.extend(part.map_err(failed)?);
        }
        Ok((read_root(name, &bytes)?, bytes))
    }

    /// Forgets the copies of all roots but a checkpoint's, and of all nodes but its own if it was written
    /// anew. Nothing may be written into the cache meanwhile.
    pub(crate) async fn tidy(&self, made: &Made) -> Result<(), StoreError> {
        let store = self.world.store.as_ref();
        let mut roots = Pages::below(store, ROOT);
        while let Some(page) = roots.next().await? {
            let own = root_key(&made.name.digest);
            let stale = page.into_iter().map(|(key, _)| key).filter(|key| *key != own);
            store.commit(stale.map(Write::Delete).collect()).await?;
        }
        let Some(written) = &made.anew else { return Ok(()) };
        let mut pages = Pages::below(store, NODE);
        while let Some(page) = pages.next().await? {
            let stale = page.into_iter().map(|(key, _)| key).filter(|key| {
                let digest = key.last_chunk().map(|bytes| Digest(*bytes));
                digest.is_none_or(|digest| !written.contains(&digest))
            });
            store.commit(stale.map(Write::Delete).collect()).await?;
        }
        Ok(())
    }
}

/// The root with these bytes, if it is the one that is named.
fn read_root(name: &CheckpointName, bytes: &[u8]) -> Result<CheckpointRoot, CheckpointError> {
    let root = CheckpointRoot::read(bytes)?;
    let same = root.digest() == name.digest && root.point == name.point;
    if same { Ok(root) } else { Err(CheckpointError::Root(name.digest)) }
}

/// Where the slabs of a checkpoint lie: as its root says, or as is known since.
pub(crate) fn places(root: &CheckpointRoot, known: &Places) -> Places {
    let now = |record: &SlabRecord| known.get(&record.id).unwrap_or(record).clone();
    root.metadata.iter().map(|record| (record.id, now(record))).collect()
}
