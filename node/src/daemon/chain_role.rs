//! The chain role: the chain's store and service, consensus, and the gossip of transactions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::chain::Genesis;
use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::encoding;
use samara_protocol::signature::PublicKey;
use samara_protocol::wire::WireError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::identity::{self, Identity};
use crate::chain::{Chain, Gossip, Limits, Relay, StoreError};
use crate::config::{ChainConfig, ConfigError, NetworkFile};
use crate::consensus::{Consensus, ConsensusConfig, ConsensusError, Role, StartError};
use crate::data::DataFolder;
use crate::light::{AskError, ChainPeer};
use crate::transport::{GossipCheck, GossipError, Topic, Transport, Verdict};

/// Transactions that wait to be published; more are left to the senders' own nodes.
const OUTGOING: usize = 1_024;
/// How long a first connection to another chain node may take before it is left to later.
const CONNECT: Duration = Duration::from_secs(5);

/// Why the chain role does not run.
#[derive(Debug, thiserror::Error)]
pub enum ChainRoleError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The chain's store.
    #[error("cannot open the chain's store")]
    Store(#[from] StoreError),
    /// The engine did not start.
    #[error("cannot start consensus")]
    Start(#[from] StartError),
    /// The engine ended by itself.
    #[error("consensus ended; this node must be started again")]
    Ended(#[from] ConsensusError),
    /// The gossip of transactions.
    #[error("cannot join the gossip of transactions")]
    Gossip(#[from] GossipError),
}

/// The running role.
pub struct ChainRole {
    chain: Arc<Chain>,
    consensus: Consensus,
    tasks: Vec<JoinHandle<()>>,
}

impl ChainRole {
    /// Opens the chain in the data folder, joins its gossip, and starts consensus.
    ///
    /// # Errors
    /// [`ChainRoleError`].
    pub async fn start(
        folder: &DataFolder,
        role: &ChainConfig,
        network: &NetworkFile,
        genesis: &Genesis,
        identity: &Identity,
        transport: &Transport,
    ) -> Result<Self, ChainRoleError> {
        let path = folder.join("chain");
        let (chain, application) =
            Chain::open(&path, genesis.clone(), Limits::default(), Chain::system_clock())?;
        let tasks = join_gossip(&chain, network, transport).await?;
        let mut peers = identity::addresses("chain.consensus_peers", &role.consensus_peers)?;
        if peers.is_empty() {
            peers = identity::addresses("consensus_peers", &network.consensus_peers)?;
        }
        let listen = std::slice::from_ref(&role.consensus_listen);
        let config = ConsensusConfig {
            folder: folder.join("consensus"),
            name: transport.local_peer().short(),
            listen: identity::addresses("chain.consensus_listen", listen)?.remove(0),
            peers,
            network_key: identity.node.clone(),
            role: match identity.validator.clone() {
                Some(key) => Role::Validator(Box::new(key)),
                None => Role::FullNode,
            },
            propose_timeout: ConsensusConfig::PROPOSE_TIMEOUT,
        };
        let consensus = Consensus::start(config, genesis, application, chain.wake()).await?;
        Ok(Self { chain, consensus, tasks })
    }

    /// The chain, to be served to others.
    #[must_use]
    pub fn service(&self) -> Arc<Chain> {
        Arc::clone(&self.chain)
    }

    /// The chain as a peer for this node's own light client.
    #[must_use]
    pub fn local_peer(&self, key: PublicKey) -> Arc<dyn ChainPeer> {
        Arc::new(LocalPeer { chain: Arc::clone(&self.chain), key })
    }

    /// Waits until consensus ends by itself.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<(), ChainRoleError> {
        Ok(self.consensus.ended().await?)
    }

    /// Stops consensus and gossip.
    pub async fn shutdown(self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Err(error) = self.consensus.shutdown().await {
            tracing::warn!(%error, "consensus did not end in good order");
        }
    }
}

/// This node's own chain, asked without a network.
struct LocalPeer {
    chain: Arc<Chain>,
    key: PublicKey,
}

#[async_trait]
impl ChainPeer for LocalPeer {
    fn key(&self) -> PublicKey {
        self.key
    }

    async fn ask(
        &self,
        request: ChainRequest,
        _deadline: Duration,
    ) -> Result<ChainResponse, AskError> {
        // The service bounds its own answers in time.
        let answer = self.chain.answer(request).await;
        encoding::decode(&answer).map_err(|source| AskError::Malformed {
            peer: self.key,
            source: WireError::Decode(source),
        })
    }
}

/// Transactions on their way out.
struct Outgoing(mpsc::Sender<Vec<u8>>);

impl Gossip for Outgoing {
    fn publish(&self, transaction: Vec<u8>) {
        // A full queue means a flood; whoever sent this one asks for it again.
        let _ = self.0.try_send(transaction);
    }
}

async fn join_gossip(
    chain: &Arc<Chain>,
    network: &NetworkFile,
    transport: &Transport,
) -> Result<Vec<JoinHandle<()>>, ChainRoleError> {
    let topic = Topic::new(format!("/samara/transactions/1/{}", chain.genesis_hash()));
    let judge = Arc::clone(chain);
    let check: GossipCheck = Arc::new(move |message| match judge.receive(&message.bytes) {
        Relay::Accept => Verdict::Accept,
        Relay::Ignore => Verdict::Ignore,
        Relay::Reject => Verdict::Reject,
    });
    let mut incoming = transport.subscribe(topic.clone(), check).await?;
    // The check has taken each message in already; the queue is only to be emptied.
    let drain = tokio::spawn(async move { while incoming.recv().await.is_some() {} });
    let (sender, mut outgoing) = mpsc::channel::<Vec<u8>>(OUTGOING);
    chain.connect_gossip(Arc::new(Outgoing(sender)));
    let publisher = transport.clone();
    let publish = tokio::spawn(async move {
        while let Some(transaction) = outgoing.recv().await {
            if let Err(error) = publisher.publish(topic.clone(), Bytes::from(transaction)).await {
                tracing::debug!(%error, "transaction not passed on");
            }
        }
    });
    let mut tasks = vec![drain, publish];
    for peer in &network.peers {
        let key = peer.public_key()?;
        if key == transport.local_peer() {
            continue;
        }
        for address in identity::addresses("peers.address", std::slice::from_ref(&peer.address))? {
            transport.add_address(key, address);
        }
        tasks.push(tokio::spawn(keep_connected(transport.clone(), key)));
    }
    Ok(tasks)
}

/// Gossip flows between connected nodes only: a lost neighbour is dialed again.
async fn keep_connected(transport: Transport, peer: PublicKey) {
    let mut connected = transport.watch_peers();
    loop {
        if !connected.borrow_and_update().contains(&peer)
            && let Err(error) = transport.connect(peer, CONNECT).await
        {
            tracing::debug!(%error, "chain peer not connected");
            tokio::time::sleep(CONNECT).await;
            continue;
        }
        if connected.changed().await.is_err() {
            return;
        }
    }
}
