//! The chain role: the chain's store and service, and consensus.
//!
//! A validator whose folder is empty while the network has blocks was wiped, and with it went its only
//! guard against signing twice. It follows as a full node until the chain has passed every height at
//! which it may have voted before, and only then takes part again:
//!
//! ```text
//! start --> own chain empty, peers have blocks? --no---> validator
//!                       | yes                               ^
//!                       v                                   | one height past the tip that the peers told
//!                   full node ------------------------------+
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use samara_protocol::chain::Genesis;
use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::encoding;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Height;
use samara_protocol::wire::WireError;
use tokio::task::JoinHandle;

use super::identity::{self, Identity};
use super::transaction_gossip;
use crate::chain::{Chain, Limits, StoreError};
use crate::config::{ChainConfig, ConfigError, NetworkFile};
use crate::consensus::{Consensus, ConsensusConfig, ConsensusError, Role, StartError};
use crate::data::DataFolder;
use crate::light::{AskError, ChainPeer, NetworkPeer};
use crate::transport::{GossipError, Transport};

/// How long a chain peer may take to tell its tip before a wiped validator goes on without it.
const TELL: Duration = Duration::from_secs(5);

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
    /// Nothing only while a full node becomes a validator.
    consensus: Option<Consensus>,
    /// What to become, and the height that must be passed before.
    waiting: Option<(ConsensusConfig, Height)>,
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
        let tasks = transaction_gossip::join(&chain, network, transport).await?;
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
        let told = match (&config.role, chain.height()) {
            (Role::Validator(_), Height(0)) => told_tip(network, transport).await?,
            _ => None,
        };
        let (first, waiting) = match told {
            Some(height) => {
                tracing::warn!(%height, "the chain's folder is empty: following before voting again");
                let follower = ConsensusConfig { role: Role::FullNode, ..config.clone() };
                (follower, Some((config, height)))
            }
            None => (config, None),
        };
        let consensus = Consensus::start(first, genesis, application, chain.wake()).await?;
        Ok(Self { chain, consensus: Some(consensus), waiting, tasks })
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
        let Some(consensus) = &mut self.consensus else { return Ok(()) };
        let Some((_, height)) = &self.waiting else { return Ok(consensus.ended().await?) };
        let mut tips = self.chain.subscribe();
        let passed =
            tips.wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.header.height > *height));
        tokio::select! {
            biased;
            ended = consensus.ended() => return Ok(ended?),
            _ = passed => {}
        }
        self.take_part().await?;
        match &mut self.consensus {
            Some(consensus) => Ok(consensus.ended().await?),
            None => Ok(()),
        }
    }

    /// A follower that has caught up becomes a validator.
    async fn take_part(&mut self) -> Result<(), ChainRoleError> {
        let (Some(follower), Some((config, height))) = (self.consensus.take(), self.waiting.take())
        else {
            return Ok(());
        };
        follower.shutdown().await?;
        tracing::info!(%height, "caught up: taking part in consensus again");
        let application = self.chain.application()?;
        let genesis = self.chain.genesis();
        let consensus = Consensus::start(config, genesis, application, self.chain.wake()).await?;
        self.consensus = Some(consensus);
        Ok(())
    }

    /// Stops consensus and gossip.
    pub async fn shutdown(self) {
        for task in &self.tasks {
            task.abort();
        }
        let Some(consensus) = self.consensus else { return };
        if let Err(error) = consensus.shutdown().await {
            tracing::warn!(%error, "consensus did not end in good order");
        }
    }
}

/// The tip that the network's chain nodes tell; nothing if none has a block. Their word is enough:
/// believing a height that is too high only makes this node wait, so the middle one is taken.
async fn told_tip(
    network: &NetworkFile,
    transport: &Transport,
) -> Result<Option<Height>, ChainRoleError> {
    let mut asked = Vec::new();
    for peer in &network.peers {
        let key = peer.public_key()?;
        if key != transport.local_peer() {
            let peer = NetworkPeer::new(transport.clone(), key);
            asked.push(async move { peer.ask(ChainRequest::Tip { above: None }, TELL).await });
        }
    }
    let mut heights: Vec<Height> = futures::future::join_all(asked)
        .await
        .into_iter()
        .filter_map(|answer| match answer {
            Ok(ChainResponse::Tip(Some(tip))) => Some(tip.header.height),
            _ => None,
        })
        .collect();
    heights.sort();
    Ok(heights.get(heights.len() / 2).copied())
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
