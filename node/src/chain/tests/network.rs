//! The chain under consensus: real engines on loopback, in one process.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use libp2p::Multiaddr;
use samara_protocol::chain::query::Finalized;
use samara_protocol::chain::{Action, Genesis, Transaction, Validator};
use samara_protocol::hash::BlockHash;
use samara_protocol::units::{Amount, Height};
use tokio::sync::watch;

use super::super::{Chain, Gossip, Limits};
use super::{body, genesis, key, rich, transfer, validators};
use crate::clock;
use crate::consensus::Consensus;
use crate::consensus::testing::{TIMEOUT, config};

/// Carries transactions between the chains of one process.
#[derive(Clone, Default)]
struct Loopback(Arc<Mutex<Vec<Weak<Chain>>>>);

impl Gossip for Loopback {
    fn publish(&self, transaction: Vec<u8>) {
        let chains = self.0.lock().unwrap().clone();
        for chain in chains.iter().filter_map(Weak::upgrade) {
            let _ = chain.receive(&transaction);
        }
    }
}

struct Node {
    index: u8,
    voting: bool,
    genesis: Genesis,
    folder: tempfile::TempDir,
    gossip: Loopback,
    running: Option<(Arc<Chain>, Consensus)>,
}

impl Node {
    async fn start(
        index: u8,
        voting: bool,
        genesis: &Genesis,
        gossip: &Loopback,
        peers: &[Multiaddr],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (genesis, gossip) = (genesis.clone(), gossip.clone());
        let mut node = Self { index, voting, genesis, folder, gossip, running: None };
        node.run(peers).await;
        node
    }

    async fn run(&mut self, peers: &[Multiaddr]) {
        let folder = self.folder.path();
        let genesis = self.genesis.clone();
        let opened =
            crate::chain::open(&folder.join("chain"), genesis, Limits::default(), clock::system());
        let (chain, application) = opened.unwrap();
        self.gossip.0.lock().unwrap().push(Arc::downgrade(&chain));
        chain.connect_gossip(Arc::new(self.gossip.clone()));
        let config = config(self.index, self.voting, &folder.join("consensus"), peers);
        let wake = chain.wake();
        let consensus = Consensus::start(config, &self.genesis, application, wake).await.unwrap();
        self.running = Some((chain, consensus));
    }

    fn chain(&self) -> &Arc<Chain> {
        &self.running.as_ref().unwrap().0
    }

    fn address(&self) -> Multiaddr {
        self.running.as_ref().unwrap().1.address().clone()
    }

    async fn stop(&mut self) {
        let (chain, consensus) = self.running.take().unwrap();
        drop(chain);
        consensus.shutdown().await.unwrap();
    }

    async fn wait(&self, what: impl Fn(&Chain) -> bool) {
        let mut tips: watch::Receiver<Option<Arc<Finalized>>> = self.chain().subscribe();
        let waited = tokio::time::timeout(TIMEOUT, tips.wait_for(|_| what(self.chain()))).await;
        waited.unwrap_or_else(|_| panic!("node {} waits in vain", self.index)).unwrap();
    }

    /// Waits until a transaction is in a block; gives its height.
    async fn included(&self, transaction: &Transaction) -> Height {
        let id = transaction.id();
        let height = |chain: &Chain| chain.snapshot().unwrap().transaction_height(&id).unwrap();
        self.wait(|chain| height(chain).is_some()).await;
        height(self.chain()).unwrap()
    }

    async fn reach(&self, height: Height) {
        self.wait(|chain| chain.height() >= height).await;
    }

    fn hashes(&self, to: Height) -> Vec<BlockHash> {
        let snapshot = self.chain().snapshot().unwrap();
        (1..=to.0).map(|h| snapshot.header(Height(h)).unwrap().unwrap().hash()).collect()
    }
}

async fn network(count: u8) -> (Genesis, Loopback, Vec<Node>) {
    let (genesis, gossip) = (genesis(count), Loopback::default());
    let mut nodes: Vec<Node> = Vec::new();
    for index in 0..count {
        let peers: Vec<Multiaddr> = nodes.iter().map(Node::address).collect();
        nodes.push(Node::start(index, true, &genesis, &gossip, &peers).await);
    }
    (genesis, gossip, nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_validator_commits_transfers_and_goes_on_after_a_restart() {
    let (genesis, _, mut nodes) = network(1).await;
    let to = key(9).public();
    for nonce in 0..5 {
        let transaction = transfer(&genesis, &rich(0), nonce, to);
        nodes[0].chain().submit(transaction.clone()).unwrap();
        nodes[0].included(&transaction).await;
    }
    nodes[0].stop().await;
    nodes[0].run(&[]).await;
    let last = transfer(&genesis, &rich(0), 5, to);
    nodes[0].chain().submit(last.clone()).unwrap();
    nodes[0].included(&last).await;
    let account = nodes[0].chain().snapshot().unwrap().account(&to).unwrap();
    assert_eq!(account.balance, Amount::coins(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn four_validators_agree_without_one_and_a_late_node_follows() {
    let (genesis, gossip, mut nodes) = network(4).await;
    let to = key(9).public();
    let mut last = Height(0);
    for nonce in 0..4 {
        let transaction = transfer(&genesis, &rich(0), nonce, to);
        nodes[usize::try_from(nonce).unwrap()].chain().submit(transaction.clone()).unwrap();
        for node in &nodes {
            last = node.included(&transaction).await;
        }
    }
    nodes[3].stop().await;
    for nonce in 4..8 {
        let transaction = transfer(&genesis, &rich(0), nonce, to);
        nodes[0].chain().submit(transaction.clone()).unwrap();
        for node in &nodes[..3] {
            last = node.included(&transaction).await;
        }
    }
    let peers: Vec<Multiaddr> = nodes[..3].iter().map(Node::address).collect();
    nodes[3].run(&peers).await;
    nodes.push(Node::start(9, false, &genesis, &gossip, &peers[..1]).await);
    for node in &nodes {
        node.reach(last).await;
    }
    let chains: BTreeSet<Vec<BlockHash>> = nodes.iter().map(|node| node.hashes(last)).collect();
    assert_eq!(chains.len(), 1);
    let account = nodes[4].chain().snapshot().unwrap().account(&to).unwrap();
    assert_eq!(account.balance, Amount::coins(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_changes_the_validators() {
    let (genesis, gossip, mut nodes) = network(1).await;
    let peers = [nodes[0].address()];
    nodes.push(Node::start(1, true, &genesis, &gossip, &peers).await);

    let change = |nonce: u64, current: Vec<Validator>, next: Vec<Validator>, keys: &[u8]| {
        let current = samara_protocol::chain::ValidatorSet::new(current).unwrap().hash();
        let action = Action::ChangeValidators { current, validators: next };
        let body = body(&genesis, &rich(0), nonce, action);
        let keys: Vec<_> = keys.iter().map(|index| key(*index)).collect();
        let payer = rich(0);
        let signers: Vec<_> = keys.iter().chain([&payer]).collect();
        Transaction::signed(body, &signers)
    };
    let joined = change(0, validators(0..1), validators(0..2), &[0]);
    nodes[0].chain().submit(joined.clone()).unwrap();
    let height = nodes[0].included(&joined).await;

    // Both sign from the next block on.
    let transaction = transfer(&genesis, &rich(0), 1, key(9).public());
    nodes[1].reach(height).await;
    nodes[1].chain().submit(transaction.clone()).unwrap();
    let height = nodes[1].included(&transaction).await;
    let certificate = nodes[1].chain().snapshot().unwrap().certificate(height).unwrap().unwrap();
    assert_eq!(certificate.signatures.len(), 2);

    // The first leaves; the second goes on alone.
    let left = change(2, validators(0..2), validators(1..2), &[0, 1]);
    nodes[1].chain().submit(left.clone()).unwrap();
    nodes[1].included(&left).await;
    nodes[0].included(&left).await;
    nodes[0].stop().await;
    let transaction = transfer(&genesis, &rich(0), 3, key(9).public());
    nodes[1].chain().submit(transaction.clone()).unwrap();
    let height = nodes[1].included(&transaction).await;
    let snapshot = nodes[1].chain().snapshot().unwrap();
    assert_eq!(snapshot.validators(height).unwrap().as_slice(), validators(1..2));
    let certificate = snapshot.certificate(height).unwrap().unwrap();
    certificate.verify(&genesis.hash(), &snapshot.validators(height).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_four_halt_and_go_on_when_the_others_return() {
    let (genesis, _, mut nodes) = network(4).await;
    let first = transfer(&genesis, &rich(0), 0, key(9).public());
    nodes[0].chain().submit(first.clone()).unwrap();
    for node in &nodes {
        node.included(&first).await;
    }
    nodes[2].stop().await;
    nodes[3].stop().await;
    let second = transfer(&genesis, &rich(0), 1, key(9).public());
    nodes[0].chain().submit(second.clone()).unwrap();
    let peers: Vec<Multiaddr> = nodes[..2].iter().map(Node::address).collect();
    nodes[2].run(&peers).await;
    nodes[3].run(&peers).await;
    let mut last = Height(0);
    for node in &nodes {
        last = node.included(&second).await;
    }
    let chains: BTreeSet<Vec<BlockHash>> = nodes.iter().map(|node| node.hashes(last)).collect();
    assert_eq!(chains.len(), 1);
}
