//! The whole renter over real hosts.

mod archives;
mod backups;
mod checkpoints;
mod copies;
mod garbage;
mod imports;
mod line;
mod lineage;
mod policies;
mod recovery;
mod resume;
mod scan;
mod settled;
mod takeover;
mod vaults;
mod verify;
mod wire;

use crate::RenterConfig;
use crate::progress::Silent;
use crate::recovery::{RecoveryOptions, RecoveryReport};
use crate::testing::world::TestNetwork;
use crate::testing::{MemoryFiles, MortalStore, Node, config, noise};

async fn recover(node: &Node) -> RecoveryReport {
    node.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap()
}

fn fill(files: &MemoryFiles) {
    files.put("/home/small.txt", b"hello", 10);
    files.put("/home/sub/medium.bin", &noise(1, 20_000), 12);
    files.put("/home/sub/large.bin", &noise(2, 300_000), 13);
}

/// Settings under which a journal soon lies in slabs of its own.
fn spilling() -> RenterConfig {
    let mut small = config();
    small.journal.spill = 20 << 10;
    small
}

/// A machine whose journal is longer than what its head holds.
async fn spilled(network: &TestNetwork) -> Node {
    let (store, files) = (MortalStore::immortal(), MemoryFiles::default());
    let node = Node::with(network, store, files, spilling()).await;
    node.start(network).await;
    put_rounds(&node, 6, 60).await;
    node
}

/// Puts so many small files so many times, each round with those before.
async fn put_rounds(node: &Node, rounds: u64, files: u64) {
    for round in 0..rounds {
        for number in 0..files {
            let path = format!("/home/{round}/{number}");
            node.files.put(&path, &noise(round * 100 + number, 300), 10);
        }
        node.put("/home", "home").await;
    }
}
