//! Whether the hosts have a checkpoint: its root and every node, read past the copies that are kept here.

use futures::StreamExt as _;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{CheckpointName, VaultId};
use samara_protocol::tree::checkpoint::CheckpointRoot;
use samara_protocol::tree::files::folder_prefix;
use samara_protocol::tree::{NodeRef, Sweep, TreeKind};

use super::error::CheckpointError;
use super::nodes::{places, put_node};
use super::{Checkpoints, Places};
use crate::progress::Meter;
use crate::transfer::Downloader;

/// Nodes that are fetched at one time.
const PARALLEL: usize = 16;
/// Failures that are told one by one.
const FAILURES: usize = 1_000;

/// What came of reading a checkpoint at the hosts.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Nodes that were read, the root too.
    pub(crate) nodes: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// What could not be had, and why: the first thousand.
    pub(crate) failures: Vec<(Option<SlabId>, CheckpointError)>,
    /// All that could not be had.
    pub(crate) failed: u64,
}

impl Checked {
    fn read(&mut self, bytes: usize) {
        self.nodes += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    fn fail(&mut self, slab: Option<SlabId>, error: CheckpointError) {
        self.failed += 1;
        if self.failures.len() < FAILURES {
            self.failures.push((slab, error));
        }
    }
}

impl Checkpoints {
    /// Reads the root of a checkpoint and all nodes that a scope needs from the hosts, and compares each
    /// with its digest. Nodes that are whole are kept, so that what is read next is what was seen.
    pub(crate) async fn check(
        &self,
        name: &CheckpointName,
        known: &Places,
        scope: Option<VaultId>,
        hosts: &Downloader,
        meter: &mut Meter<'_>,
    ) -> Result<Checked, CheckpointError> {
        let mut checked = Checked::default();
        let root = match self.root_at_hosts(name, known, hosts).await {
            Ok((root, bytes)) => {
                checked.read(bytes.len());
                root
            }
            Err(error) => {
                checked.fail(name.root.first().map(|record| record.id), error);
                return Ok(checked);
            }
        };
        meter.total = scope.is_none().then(|| tree_bytes(&root));
        let places = places(&root, known);
        let below = scope.map(|vault| folder_prefix(&vault, None)).unwrap_or_default();
        for sweep in [
            Sweep::new(TreeKind::Files, root.trees.files, below),
            Sweep::new(TreeKind::Slabs, root.trees.slabs, Vec::new()),
            Sweep::new(TreeKind::Held, root.trees.held, Vec::new()),
        ] {
            self.sweep(sweep, &places, hosts, meter, &mut checked).await?;
        }
        Ok(checked)
    }

    async fn sweep(
        &self,
        mut sweep: Sweep,
        places: &Places,
        hosts: &Downloader,
        meter: &mut Meter<'_>,
        checked: &mut Checked,
    ) -> Result<(), CheckpointError> {
        loop {
            let nodes = sweep.next_nodes();
            if nodes.is_empty() {
                return Ok(());
            }
            let fetch =
                |node: NodeRef| async move { (node, self.fetch(&node, places, hosts).await) };
            let mut fetched =
                futures::stream::iter(nodes.into_iter().map(fetch)).buffered(PARALLEL);
            let mut writes = Vec::new();
            while let Some((node, stored)) = fetched.next().await {
                let slab = node.address.map(|address| address.slab);
                let fed = stored.and_then(|stored| {
                    sweep.feed(&node, &stored)?;
                    Ok(stored)
                });
                match fed {
                    Ok(stored) => {
                        checked.read(stored.len());
                        writes.push(put_node(&node.digest, stored));
                    }
                    Err(error) => checked.fail(slab, error),
                }
                meter.done = meter.total.unwrap_or(u64::MAX).min(checked.bytes);
                meter.report(None, self.world.clock.now());
            }
            self.world.store.commit(writes).await?;
        }
    }
}

/// Bytes of all nodes that a root leads to.
pub(crate) fn tree_bytes(root: &CheckpointRoot) -> u64 {
    root.trees.iter().fold(0, |all, node| all.saturating_add(node.bytes))
}
