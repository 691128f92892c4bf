//! The daemon: one process with the roles of its configuration.
//!
//! Start: data folder and lock, words and keys, connections, chain, light client, host, renter, API.
//! Stop (a signal, the API, the end of the input, or a part that died): the API first, so that
//! nothing new comes in; then the renter, the host, consensus, and last the connections.

mod chain_role;
mod dispatch;
mod identity;
mod transaction_gossip;

use std::path::PathBuf;
use std::sync::Arc;

use samara_protocol::signature::SecretKey;
use samara_renter::Renter;
use samara_renter::rows::RenterState;
use samara_renter::world::World;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::chain_role::{ChainRole, ChainRoleError};
use self::dispatch::Dispatcher;
use self::identity::Identity;
pub use self::identity::{IdentityError, validator_key};
use crate::api::{Api, Node, Server};
use crate::config::{ConfigError, NetworkFile, NodeConfig};
use crate::data::{DataError, DataFolder, NEW_WORDS};
use crate::host::{HostRole, HostRoleError};
use crate::light::{
    ChainPeer, FilePointStore, LightClient, LightConfig, NetworkPeer, system_clock,
};
use crate::transport::{Transport, TransportConfig, TransportError};
use crate::world::{
    BlockingCompute, DiskFiles, DiskStore, NetworkHosts, OpenStoreError, OsRandomness, SystemClock,
    TokioSpawner,
};

/// How to run besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Stop when standard input ends.
    pub until_input_ends: bool,
    /// Stop when this is cancelled; for daemons that are tasks of another program, which handles the
    /// signals itself.
    pub stop: Option<CancellationToken>,
}

/// Why a daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The configuration or the network file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The words.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Connections.
    #[error("cannot open the node's connections")]
    Transport(#[from] TransportError),
    /// The chain role.
    #[error(transparent)]
    Chain(#[from] ChainRoleError),
    /// The host role.
    #[error("cannot start the host role")]
    Host(#[from] HostRoleError),
    /// The renter's store.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The renter role.
    #[error("cannot start the renter role")]
    Renter(#[from] samara_renter::OpenError),
    /// The API.
    #[error("cannot serve the HTTP API on {address}: {source}")]
    Api {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The machine's signals cannot be watched.
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// [`DaemonError`] when a part cannot start, or consensus dies.
pub async fn run(
    data: PathBuf,
    config: NodeConfig,
    options: DaemonOptions,
) -> Result<(), DaemonError> {
    let folder = DataFolder::open(&data)?;
    let network = NetworkFile::read(&folder.join(&config.network.to_string_lossy()))?;
    let identity = Identity::read(&config, &network, folder.path())?;
    let stop = options.stop.clone().unwrap_or_default();
    let mut running = Running::start(&folder, &config, &network, identity, stop.clone()).await?;
    tracing::info!(api = %running.server.address(), "node runs");
    let outcome = running.wait(&options, stop).await;
    running.shut_down().await;
    outcome
}

/// Everything that was started, to be stopped in order.
struct Running {
    server: Server,
    renter: Option<Renter>,
    host: Option<HostRole>,
    chain: Option<ChainRole>,
    light: LightClient,
    transport: Transport,
    stop: CancellationToken,
}

impl Running {
    async fn start(
        folder: &DataFolder,
        config: &NodeConfig,
        network: &NetworkFile,
        identity: Identity,
        stop: CancellationToken,
    ) -> Result<Self, DaemonError> {
        let genesis = network.genesis()?;
        let dispatcher = Arc::new(Dispatcher::default());
        let mut transport_config = TransportConfig::new(identity.node.clone());
        transport_config.listen = identity::addresses("listen", &config.listen)?;
        let (transport, task) = Transport::start(transport_config, dispatcher.clone()).await?;
        // Its end is seen by every request; a panic in it is logged by the runtime.
        drop(task);
        let chain = match &config.chain {
            Some(role) => Some(
                ChainRole::start(folder, role, network, &genesis, &identity, &transport).await?,
            ),
            None => None,
        };
        if let Some(chain) = &chain {
            dispatcher.serve_chain(chain.service());
        }
        let peers = chain_peers(network, &transport, chain.as_ref())?;
        let light = LightClient::start(LightConfig {
            genesis: genesis.clone(),
            peers,
            store: Arc::new(FilePointStore::new(folder.join("light"))),
            clock: system_clock(),
        })
        .await;
        let host = match &config.host {
            Some(role) => {
                let addresses = identity::external(config, &transport);
                let host = HostRole::start(
                    role,
                    &folder.join("host"),
                    identity.keys.host_identity(0),
                    addresses,
                    light.clone(),
                )
                .await?;
                dispatcher.serve_host(host.clone());
                Some(host)
            }
            None => None,
        };
        let renter = match &config.renter {
            Some(role) => {
                let world = World {
                    chain: Arc::new(light.clone()),
                    hosts: Arc::new(NetworkHosts::new(transport.clone(), light.clone())),
                    store: Arc::new(DiskStore::open(&folder.join("renter.redb"))?),
                    files: Arc::new(DiskFiles),
                    clock: Arc::new(SystemClock),
                    random: Arc::new(OsRandomness),
                    spawner: Arc::new(TokioSpawner),
                    compute: Arc::new(BlockingCompute),
                };
                let renter = Renter::open(world, identity.keys.clone(), role.to_renter()?).await?;
                start_new_words(folder, &renter).await;
                Some(renter)
            }
            None => None,
        };
        let api = Api::new(Node {
            network: network.name.clone(),
            transport: transport.clone(),
            light: light.clone(),
            account: identity.account(config),
            faucet: faucet(network)?,
            host: host.clone(),
            renter: renter.clone(),
            chain: chain.is_some(),
            validator: identity.validator.as_ref().map(SecretKey::public),
            stop: stop.clone(),
            wallet: tokio::sync::Mutex::new(()),
        });
        let server = Server::start(api, config.api, folder.path())
            .await
            .map_err(|source| DaemonError::Api { address: config.api, source })?;
        Ok(Self { server, renter, host, chain, light, transport, stop })
    }

    /// Waits for a reason to stop.
    async fn wait(
        &mut self,
        options: &DaemonOptions,
        stop: CancellationToken,
    ) -> Result<(), DaemonError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
        let own_signals = options.stop.is_none();
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            _ = terminate.recv(), if own_signals => Ok(()),
            _ = interrupt.recv(), if own_signals => Ok(()),
            () = input_ended(), if options.until_input_ends => Ok(()),
            failed = chain_ended(&mut self.chain) => failed.map_err(DaemonError::from),
        }
    }

    async fn shut_down(self) {
        tracing::info!("node stops");
        self.stop.cancel();
        self.server.stop().await;
        if let Some(renter) = self.renter {
            renter.shutdown().await;
        }
        if let Some(host) = self.host {
            host.shutdown().await;
        }
        self.light.shutdown();
        if let Some(chain) = self.chain {
            chain.shutdown().await;
        }
        self.transport.shutdown().await;
    }
}

/// A renter whose words were drawn for this folder needs no recovery before it may write.
async fn start_new_words(folder: &DataFolder, renter: &Renter) {
    let marker = folder.join(NEW_WORDS);
    if !marker.exists() {
        return;
    }
    if renter.status().state == RenterState::Fresh
        && let Err(error) = renter.start_fresh().await
    {
        tracing::error!(%error, "the renter's new words were not started; tried again next time");
        return;
    }
    if let Err(error) = std::fs::remove_file(&marker) {
        tracing::warn!(%error, path = %marker.display(), "marker not removed");
    }
}

/// Ends when standard input does. The thread that reads is the runtime's; it does not keep the
/// process alive because `main` leaves without waiting for it.
async fn input_ended() {
    let mut sink = tokio::io::sink();
    // An error ends the input as well as its end does.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await;
}

async fn chain_ended(chain: &mut Option<ChainRole>) -> Result<(), ChainRoleError> {
    match chain {
        Some(chain) => chain.ended().await,
        None => std::future::pending().await,
    }
}

/// Whom to ask for the chain: this node itself if it holds it, else the network file's peers.
fn chain_peers(
    network: &NetworkFile,
    transport: &Transport,
    chain: Option<&ChainRole>,
) -> Result<Vec<Arc<dyn ChainPeer>>, DaemonError> {
    if let Some(chain) = chain {
        return Ok(vec![chain.local_peer(transport.local_peer())]);
    }
    let mut peers: Vec<Arc<dyn ChainPeer>> = Vec::new();
    for peer in &network.peers {
        let key = peer.public_key()?;
        for address in identity::addresses("peers.address", std::slice::from_ref(&peer.address))? {
            transport.add_address(key, address);
        }
        peers.push(Arc::new(NetworkPeer::new(transport.clone(), key)));
    }
    Ok(peers)
}

fn faucet(network: &NetworkFile) -> Result<Option<SecretKey>, ConfigError> {
    let Some(text) = &network.test_faucet else { return Ok(None) };
    let mut bytes = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text, bytes.as_mut()).map_err(|_| ConfigError::Value {
        key: "test_faucet",
        value: "(not shown)".to_owned(),
        reason: "a faucet's secret is written with 64 hex digits".to_owned(),
    })?;
    Ok(Some(SecretKey::from_bytes(&bytes)))
}
