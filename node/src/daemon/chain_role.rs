//! The chain role: the chain's store and service, gossip, and consensus.
//!
//! A validator starts the engine as such, or as a full node first if it cannot know what it signed
//! ([`super::voting`]). One task owns the engine from start to end; [`ChainRole::shutdown`] waits for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::encoding;
use samara_protocol::signature::PublicKey;
use samara_protocol::wire::WireError;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::ChainRoleError;
use super::identity::{self, Identity};
use super::transaction_gossip;
use super::voting::{self, Admission, Voting};
use crate::chain::{self, Chain, ChainApplication, Limits};
use crate::clock::{self, Clock};
use crate::config::{ChainConfig, ConfigError, NetworkFile};
use crate::consensus::{Consensus, ConsensusConfig, ConsensusError, Role, log_path};
use crate::data::{DataFolder, NEW_VALIDATOR, make_private};
use crate::light::{AskError, ChainPeer, NetworkPeer};
use crate::transport::Transport;

/// The running role. Dropped, it stops everything without waiting.
pub struct ChainRole {
    chain: Arc<Chain>,
    gossip: JoinSet<()>,
    consensus: JoinHandle<Result<(), ChainRoleError>>,
    stop: DropGuard,
    votes: watch::Receiver<bool>,
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
        identity: &Identity,
        transport: &Transport,
        clock: Clock,
    ) -> Result<Self, ChainRoleError> {
        let genesis = network.genesis()?;
        let (chain, application) =
            chain::open(&folder.join("chain"), genesis, Limits::default(), clock)?;
        let gossip = transaction_gossip::join(&chain, network, transport).await?;
        let config = consensus_config(folder, role, network, identity, transport)?;
        let others = other_chain_nodes(network, transport)?;
        if let Some(key) = &identity.validator {
            chain.guard_clock(key.public(), clock::elapsed())?;
        }
        let voting = match &identity.validator {
            Some(key) => Some(Voting::open(
                Arc::clone(&chain),
                key.public(),
                config.folder.clone(),
                folder.join(NEW_VALIDATOR),
            )?),
            None => {
                voting::mend_log(&config.folder, chain.height())?;
                None
            }
        };
        let admission = match &voting {
            Some(voting) => voting.admission(&others).await,
            None => Admission::Now,
        };
        let (told, votes) = watch::channel(false);
        let mut engine = Engine { chain: Arc::clone(&chain), config, voting, others, votes: told };
        let running = match admission {
            Admission::Now => engine.take_part(application).await?,
            _ => engine.follow(application).await?,
        };
        let stop = CancellationToken::new();
        let consensus = tokio::spawn(engine.run(running, admission, stop.clone()));
        Ok(Self { chain, gossip, consensus, stop: stop.drop_guard(), votes })
    }

    /// Whether the engine runs as a validator: it does not while the key's votes are not known.
    #[must_use]
    pub fn votes(&self) -> watch::Receiver<bool> {
        self.votes.clone()
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

    /// Waits until consensus ends by itself. Cancel safe; to be called until it gives a result, once.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<(), ChainRoleError> {
        (&mut self.consensus).await.unwrap_or(Err(ConsensusError::Panicked.into()))
    }

    /// Stops gossip and consensus, and waits until both have ended.
    pub async fn shutdown(mut self) {
        self.gossip.shutdown().await;
        drop(self.stop);
        // One that ended before has told its reason to whoever waited for it.
        if self.consensus.is_finished() {
            return;
        }
        match self.consensus.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "consensus did not end in good order"),
            Err(error) => tracing::warn!(%error, "the task of consensus did not end in good order"),
        }
    }
}

/// The engine, as a validator or as a full node on the way to be one.
struct Engine {
    chain: Arc<Chain>,
    config: ConsensusConfig,
    /// The guard of a validator's key; nothing for a full node.
    voting: Option<Voting>,
    others: Vec<Arc<dyn ChainPeer>>,
    votes: watch::Sender<bool>,
}

impl Engine {
    async fn follow(&self, application: ChainApplication) -> Result<Consensus, ChainRoleError> {
        let follower = ConsensusConfig { role: Role::FullNode, ..self.config.clone() };
        self.start(follower, application).await
    }

    async fn take_part(
        &mut self,
        application: ChainApplication,
    ) -> Result<Consensus, ChainRoleError> {
        let Some(voting) = self.voting.take() else {
            return self.start(self.config.clone(), application).await;
        };
        voting.begin()?;
        let consensus = self.start(self.config.clone(), application).await?;
        voting.begun()?;
        self.votes.send_replace(true);
        Ok(consensus)
    }

    async fn start(
        &self,
        config: ConsensusConfig,
        application: ChainApplication,
    ) -> Result<Consensus, ChainRoleError> {
        let (genesis, wake) = (self.chain.genesis(), self.chain.wake());
        let log = log_path(&config.folder);
        let consensus = Consensus::start(config, genesis, application, wake).await?;
        // The engine makes it for everybody to read.
        if let Err(error) = make_private(&log) {
            tracing::warn!(%error, path = %log.display(), "others may read the log of votes");
        }
        Ok(consensus)
    }

    /// Owns the engine until it ends or `stop` is cancelled.
    async fn run(
        mut self,
        mut consensus: Consensus,
        admission: Admission,
        stop: CancellationToken,
    ) -> Result<(), ChainRoleError> {
        if let Some(voting) = &self.voting {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(consensus.shutdown().await?),
                ended = consensus.ended() => return Ok(ended?),
                () = voting.wait(admission, &self.others) => {}
            }
            consensus.shutdown().await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            tracing::info!(height = %self.chain.height(), "taking part in consensus from here on");
            let application = ChainApplication::new(Arc::clone(&self.chain))?;
            consensus = self.take_part(application).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            ended = consensus.ended() => return Ok(ended?),
        }
        Ok(consensus.shutdown().await?)
    }
}

fn consensus_config(
    folder: &DataFolder,
    role: &ChainConfig,
    network: &NetworkFile,
    identity: &Identity,
    transport: &Transport,
) -> Result<ConsensusConfig, ConfigError> {
    let mut peers = identity::addresses("chain.consensus_peers", &role.consensus_peers)?;
    if peers.is_empty() {
        peers = identity::addresses("consensus_peers", &network.consensus_peers)?;
    }
    let listen = std::slice::from_ref(&role.consensus_listen);
    Ok(ConsensusConfig {
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
    })
}

/// The chain nodes of the network file but this one.
fn other_chain_nodes(
    network: &NetworkFile,
    transport: &Transport,
) -> Result<Vec<Arc<dyn ChainPeer>>, ConfigError> {
    let mut others: Vec<Arc<dyn ChainPeer>> = Vec::new();
    for peer in &network.peers {
        let key = peer.public_key()?;
        if key != transport.local_peer() {
            others.push(Arc::new(NetworkPeer::new(transport.clone(), key)));
        }
    }
    Ok(others)
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
