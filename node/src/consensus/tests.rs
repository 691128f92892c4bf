//! The engine over a chain that consists of names only: its disk is a value that outlives a node.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::Multiaddr;
use samara_protocol::chain::certificate::Certificate;
use samara_protocol::chain::genesis::{ChainParameters, Genesis};
use samara_protocol::chain::validators::{Validator, ValidatorSet};
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::{BlockHash, digest};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{ChainTime, Height};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::testing::{TIMEOUT, config, key};
use super::{Application, Consensus, Origin, Undecided, Verdict};

#[derive(Clone, Serialize, Deserialize)]
struct TestBlock {
    height: Height,
    parent: BlockHash,
    /// From the next height on, these keys decide.
    validators: Vec<PublicKey>,
    filler: Vec<u8>,
}

impl TestBlock {
    fn hash(&self) -> BlockHash {
        BlockHash(digest("samara test block", self).0)
    }
}

/// What survives a crash.
#[derive(Default)]
struct Disk {
    chain: Vec<(Vec<u8>, Certificate)>,
    undecided: BTreeMap<BlockHash, (u32, Vec<u8>)>,
}

/// What a test wants of a node's next blocks.
struct Wishes {
    blocks: u64,
    validators: Vec<PublicKey>,
}

struct TestChain {
    disk: Arc<Mutex<Disk>>,
    wishes: Arc<Mutex<Wishes>>,
    tips: watch::Sender<Height>,
    genesis: Vec<PublicKey>,
    own: PublicKey,
}

impl TestChain {
    fn last(&self) -> Option<TestBlock> {
        self.disk.lock().unwrap().chain.last().map(|(bytes, _)| decode(bytes).unwrap())
    }
}

impl Application for TestChain {
    type Error = Infallible;

    fn tip(&self) -> Height {
        Height(self.disk.lock().unwrap().chain.len() as u64)
    }

    fn validators(&self) -> ValidatorSet {
        set(&self.last().map_or_else(|| self.genesis.clone(), |block| block.validators))
    }

    fn next_block_in(&self) -> Duration {
        let wanted = self.wishes.lock().unwrap().blocks;
        if self.tip().0 < wanted { Duration::ZERO } else { Duration::MAX }
    }

    fn propose(&mut self, round: u32) -> Result<Undecided, Infallible> {
        let block = TestBlock {
            height: self.tip().next(),
            parent: self.last().map_or(BlockHash([0; 32]), |block| block.hash()),
            validators: self.wishes.lock().unwrap().validators.clone(),
            // Several parts, and different from every other proposal.
            filler: encode(&(self.own, round, vec![7u8; 200_000])),
        };
        let undecided = Undecided { round, block: block.hash(), bytes: encode(&block) };
        let stored = (round, undecided.bytes.clone());
        self.disk.lock().unwrap().undecided.insert(undecided.block, stored);
        Ok(undecided)
    }

    fn check(&mut self, bytes: &[u8], origin: Origin) -> Result<Verdict, Infallible> {
        let Ok(block) = decode::<TestBlock>(bytes) else {
            return Ok(Verdict::Malformed("no block".to_owned()));
        };
        let (Origin::Proposal { round } | Origin::Decided { round }) = origin;
        let stored = (round, bytes.to_vec());
        self.disk.lock().unwrap().undecided.insert(block.hash(), stored);
        let parent = self.last().map_or(BlockHash([0; 32]), |block| block.hash());
        if block.parent == parent && block.height == self.tip().next() {
            Ok(Verdict::Valid(block.hash()))
        } else {
            Ok(Verdict::Invalid { block: block.hash(), reason: "no child of the tip".to_owned() })
        }
    }

    fn undecided(&self, block: &BlockHash) -> Result<Option<Undecided>, Infallible> {
        let found = self.disk.lock().unwrap().undecided.get(block).cloned();
        Ok(found.map(|(round, bytes)| Undecided { round, block: *block, bytes }))
    }

    fn all_undecided(&self) -> Result<Vec<Undecided>, Infallible> {
        let undecided = self.disk.lock().unwrap().undecided.clone().into_iter();
        Ok(undecided.map(|(block, (round, bytes))| Undecided { round, block, bytes }).collect())
    }

    fn commit(&mut self, certificate: Certificate) -> Result<(), Infallible> {
        let validators = self.validators();
        certificate.verify(&genesis(&self.genesis).hash(), &validators).unwrap();
        let mut disk = self.disk.lock().unwrap();
        let (_, bytes) = disk.undecided.remove(&certificate.block).expect("decided unseen");
        disk.undecided.clear();
        disk.chain.push((bytes, certificate));
        let tip = Height(disk.chain.len() as u64);
        drop(disk);
        self.tips.send_replace(tip);
        Ok(())
    }

    fn decided(
        &self,
        from: Height,
        limit: usize,
        _bytes: usize,
    ) -> Result<Vec<(Vec<u8>, Certificate)>, Infallible> {
        let skip = from.0.saturating_sub(1) as usize;
        Ok(self.disk.lock().unwrap().chain.iter().skip(skip).take(limit).cloned().collect())
    }
}

fn set(keys: &[PublicKey]) -> ValidatorSet {
    ValidatorSet::new(keys.iter().map(|key| Validator { key: *key, power: 1 }).collect()).unwrap()
}

fn genesis(keys: &[PublicKey]) -> Genesis {
    Genesis {
        version: Genesis::VERSION,
        name: "test".to_owned(),
        time: ChainTime(0),
        validators: set(keys),
        allocations: Vec::new(),
        parameters: ChainParameters::default(),
    }
}

struct TestNode {
    index: u8,
    voting: bool,
    genesis: Vec<PublicKey>,
    folder: tempfile::TempDir,
    disk: Arc<Mutex<Disk>>,
    wishes: Arc<Mutex<Wishes>>,
    wake: Arc<Notify>,
    tips: watch::Receiver<Height>,
    consensus: Option<Consensus>,
}

impl TestNode {
    async fn start(index: u8, voting: bool, genesis: &[PublicKey], peers: &[Multiaddr]) -> Self {
        let wishes = Wishes { blocks: 0, validators: genesis.to_vec() };
        let mut node = Self {
            index,
            voting,
            genesis: genesis.to_vec(),
            folder: tempfile::tempdir().unwrap(),
            disk: Arc::default(),
            wishes: Arc::new(Mutex::new(wishes)),
            wake: Arc::default(),
            tips: watch::channel(Height(0)).1,
            consensus: None,
        };
        node.run(peers).await;
        node
    }

    async fn run(&mut self, peers: &[Multiaddr]) {
        let (tips, watched) = watch::channel(Height(self.disk.lock().unwrap().chain.len() as u64));
        let chain = TestChain {
            disk: self.disk.clone(),
            wishes: self.wishes.clone(),
            tips,
            genesis: self.genesis.clone(),
            own: key(self.index).public(),
        };
        let config = config(self.index, self.voting, self.folder.path(), peers);
        let genesis = genesis(&self.genesis);
        let started = Consensus::start(config, &genesis, chain, self.wake.clone()).await.unwrap();
        self.consensus = Some(started);
        self.tips = watched;
    }

    fn address(&self) -> Multiaddr {
        self.consensus.as_ref().unwrap().address().clone()
    }

    fn want(&self, blocks: u64) {
        self.wishes.lock().unwrap().blocks = blocks;
        self.wake.notify_one();
    }

    async fn reach(&mut self, height: u64) {
        let index = self.index;
        let reached = self.tips.wait_for(|tip| tip.0 >= height);
        let result = tokio::time::timeout(TIMEOUT, reached).await;
        result.unwrap_or_else(|_| panic!("node {index} did not reach {height}")).unwrap();
    }

    async fn stop(&mut self) {
        self.consensus.take().unwrap().shutdown().await.unwrap();
    }

    fn hashes(&self, count: u64) -> Vec<BlockHash> {
        let disk = self.disk.lock().unwrap();
        disk.chain[..count as usize].iter().map(|(_, certificate)| certificate.block).collect()
    }
}

async fn network(count: u8) -> Vec<TestNode> {
    let genesis: Vec<PublicKey> = (0..count).map(|index| key(index).public()).collect();
    let mut nodes: Vec<TestNode> = Vec::new();
    for index in 0..count {
        let peers: Vec<Multiaddr> = nodes.iter().map(TestNode::address).collect();
        nodes.push(TestNode::start(index, true, &genesis, &peers).await);
    }
    nodes
}

fn want_all(nodes: &[TestNode], blocks: u64) {
    nodes.iter().for_each(|node| node.want(blocks));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_validator_decides_on_demand_and_again_after_a_restart() {
    let mut nodes = network(1).await;
    let node = &mut nodes[0];
    node.want(5);
    node.reach(5).await;
    node.stop().await;
    let before = node.hashes(5);
    node.want(8);
    node.run(&[]).await;
    node.reach(8).await;
    assert_eq!(node.hashes(5), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_validators_agree_lose_one_and_take_it_back() {
    let mut nodes = network(4).await;
    want_all(&nodes, 4);
    for node in &mut nodes {
        node.reach(4).await;
    }
    nodes[3].stop().await;
    want_all(&nodes, 8);
    for node in &mut nodes[..3] {
        node.reach(8).await;
    }
    let peers: Vec<Multiaddr> = nodes[..3].iter().map(TestNode::address).collect();
    nodes[3].run(&peers).await;
    nodes[3].reach(8).await;
    let chains: BTreeSet<Vec<BlockHash>> = nodes.iter().map(|node| node.hashes(8)).collect();
    assert_eq!(chains.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_full_node_follows_and_votes_once_it_is_listed() {
    let mut nodes = network(1).await;
    nodes[0].want(20);
    nodes[0].reach(20).await;
    let peers = [nodes[0].address()];
    let genesis = nodes[0].genesis.clone();
    nodes.push(TestNode::start(1, true, &genesis, &peers).await);
    nodes.push(TestNode::start(2, false, &genesis, &peers).await);
    nodes[1].reach(20).await;
    nodes[2].reach(20).await;

    let both = vec![key(0).public(), key(1).public()];
    for node in &nodes {
        node.wishes.lock().unwrap().validators = both.clone();
    }
    want_all(&nodes, 26);
    for node in &mut nodes {
        node.reach(26).await;
    }
    let disk = nodes[2].disk.lock().unwrap();
    let signers = disk.chain.last().unwrap().1.signatures.len();
    assert_eq!(signers, 2, "both must sign where both are needed");
}
