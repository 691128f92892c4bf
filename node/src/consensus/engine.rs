//! Starting and stopping the engine, and the handle that the node keeps.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_malachitebft_app_channel::app::config::{
    ConsensusConfig as EngineConsensusConfig, DiscoveryConfig, NodeConfig, P2pConfig, ValuePayload,
    ValueSyncConfig,
};
use arc_malachitebft_app_channel::app::types::Keypair;
use arc_malachitebft_app_channel::app::types::codec::Codec as _;
use arc_malachitebft_app_channel::app::types::core::LinearTimeouts;
use arc_malachitebft_app_channel::{
    Channels, ConsensusContext, EngineBuilder, EngineHandle, NetworkContext, NetworkIdentity,
    NetworkRequest, RequestContext, Signer as _, SyncContext, WalContext,
};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::error;

use samara_protocol::chain::genesis::Genesis;
use samara_protocol::signature::SecretKey;

use super::codec::EngineCodec;
use super::context::{Address, ChainContext, ChainSigner, ChainVerifier};
use super::driver::{Driver, Settings};
use super::error::{ConsensusError, MAX_BLOCK_BYTES, StartError};
use super::log::{log_path, make_log};
use super::{Application, BLOCK_OVERHEAD, ConsensusConfig, Role};
use crate::disk::make_folder;

/// Log targets that a solo validator fills with errors about missing peers, several for each block.
/// Filter them (`target=off`) unless the engine's network itself is looked at.
pub const QUIET_TARGETS: &[&str] = &["arc_malachitebft_network"];

/// Requests to the engine's network that may wait.
const REQUESTS: usize = 100;
/// Threads for the engine's tasks.
const ENGINE_THREADS: usize = 2;
/// How long the engine's actors may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Running consensus. Dropping it stops everything without waiting.
pub struct Consensus {
    address: Multiaddr,
    requests: mpsc::Sender<NetworkRequest>,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), ConsensusError>>,
}

impl Consensus {
    /// Starts the engine over an application.
    ///
    /// `wake` is notified by the application's owner when [`Application::next_block_in`] may have
    /// become shorter: a transaction has arrived.
    ///
    /// # Errors
    /// [`StartError`] for the genesis document, the folder, the address, the key or the engine itself.
    pub async fn start<A: Application>(
        config: ConsensusConfig,
        genesis: &Genesis,
        application: A,
        wake: Arc<Notify>,
    ) -> Result<Self, StartError> {
        let block_bytes = genesis.parameters.block_bytes;
        if block_bytes > MAX_BLOCK_BYTES {
            return Err(StartError::BlockBytes(block_bytes));
        }
        let folder = &config.folder;
        make_folder(folder)
            .and_then(|()| make_log(folder))
            .map_err(|source| StartError::Folder { folder: folder.clone(), source })?;
        // Streams only need names that this node has not used lately.
        let mut stream_seed = [0; 8];
        getrandom::fill(&mut stream_seed).map_err(StartError::Random)?;
        let address = bind_port(&config.listen)?;
        let verifier = ChainVerifier { genesis: genesis.hash() };
        let runtime =
            EngineRuntime::new().map_err(|error| StartError::Engine(error.to_string()))?;
        let built = runtime.handle().spawn(build(config.clone(), address.clone(), verifier)).await;
        let (channels, engine) = built.map_err(|error| StartError::Engine(error.to_string()))??;
        let settings = Settings {
            verifier,
            key: config.role.key().cloned(),
            timeouts: timeouts(config.propose_timeout),
            block_bytes: block_bytes as usize + BLOCK_OVERHEAD,
            wake,
        };
        let requests = channels.net_requests.clone();
        let driver = Driver::new(application, settings, u64::from_le_bytes(stream_seed));
        let (stop, stopped) = oneshot::channel();
        let loop_ended = spawn_loop(runtime.handle(), driver, channels, stopped)?;
        let log = log_path(&config.folder);
        let ended = tokio::spawn(supervise(runtime, engine, loop_ended, log));
        Ok(Self { address, requests, stop: Some(stop), ended })
    }

    /// The address that peers reach this node's consensus on, with the port really taken.
    #[must_use]
    pub const fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Stays connected with one more peer.
    pub async fn add_peer(&self, peer: Multiaddr) {
        if let Ok(Err(error)) = NetworkRequest::add_persistent_peer(&self.requests, peer).await {
            tracing::debug!(%error, "consensus peer not added");
        }
    }

    /// Waits until consensus ends, by itself or by [`Consensus::shutdown`]. Cancel safe; to be called
    /// until it gives a result, once.
    ///
    /// # Errors
    /// [`ConsensusError`] when it ended by itself: the process should end as well.
    pub async fn ended(&mut self) -> Result<(), ConsensusError> {
        (&mut self.ended).await.unwrap_or(Err(ConsensusError::Panicked))
    }

    /// Stops the engine and drops the application; files and ports are free afterwards.
    ///
    /// # Errors
    /// As [`Consensus::ended`].
    pub async fn shutdown(mut self) -> Result<(), ConsensusError> {
        drop(self.stop.take());
        self.ended().await
    }
}

impl Role {
    fn key(&self) -> Option<&SecretKey> {
        match self {
            Self::Validator(key) => Some(key),
            Self::FullNode => None,
        }
    }
}

/// Replaces port 0 by a free port: the engine does not tell which one it got.
fn bind_port(listen: &Multiaddr) -> Result<Multiaddr, StartError> {
    let mut host = None;
    for protocol in listen {
        match (protocol, host) {
            (Protocol::Ip4(ip), _) => host = Some(std::net::IpAddr::from(ip)),
            (Protocol::Ip6(ip), _) => host = Some(std::net::IpAddr::from(ip)),
            (Protocol::Tcp(0), Some(ip)) => {
                let refuse = |source| StartError::Listen { address: listen.clone(), source };
                let socket = std::net::TcpListener::bind((ip, 0)).map_err(refuse)?;
                let port = socket.local_addr().map_err(refuse)?.port();
                return Ok(Multiaddr::from(ip).with(Protocol::Tcp(port)));
            }
            _ => {}
        }
    }
    Ok(listen.clone())
}

/// The engine's waits, all in proportion to the one for a proposal.
fn timeouts(propose: Duration) -> LinearTimeouts {
    let vote = propose / 2;
    LinearTimeouts {
        propose,
        propose_delta: vote,
        prevote: vote,
        prevote_delta: vote,
        precommit: vote,
        precommit_delta: vote,
        // What was sent before a connection stood is lost until it is repeated.
        rebroadcast: propose * 2,
        // After a long halt the network goes on this soon.
        max_timeout: propose * 10,
    }
}

/// The engine's own configuration.
struct EngineConfig {
    name: String,
    consensus: EngineConsensusConfig,
    sync: ValueSyncConfig,
}

impl NodeConfig for EngineConfig {
    fn moniker(&self) -> &str {
        &self.name
    }

    fn consensus(&self) -> &EngineConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut EngineConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.sync
    }
}

fn engine_config(config: &ConsensusConfig, listen: Multiaddr) -> EngineConfig {
    let discovery = DiscoveryConfig {
        // Whole test networks live behind one address, and restart within seconds.
        max_connections_per_ip: 256,
        ip_throttle_duration: Duration::ZERO,
        ..DiscoveryConfig::default()
    };
    let p2p = P2pConfig {
        listen_addr: listen,
        persistent_peers: config.peers.clone(),
        discovery,
        ..P2pConfig::default()
    };
    let consensus = EngineConsensusConfig {
        p2p,
        // The other mode takes every received proposal for valid without asking.
        value_payload: ValuePayload::ProposalAndParts,
        ..EngineConsensusConfig::default()
    };
    let sync = ValueSyncConfig {
        status_update_interval: Duration::from_secs(1),
        batch_size: 50,
        ..ValueSyncConfig::default()
    };
    EngineConfig { name: config.name.clone(), consensus, sync }
}

/// The runtime of the engine's tasks alone: not all of them end with its actors, but they do with this.
struct EngineRuntime(Option<Runtime>);

impl EngineRuntime {
    fn new() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(ENGINE_THREADS).thread_name("engine").enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("invariant: taken when dropped").handle()
    }
}

impl Drop for EngineRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn build(
    config: ConsensusConfig,
    listen: Multiaddr,
    verifier: ChainVerifier,
) -> Result<(Channels<ChainContext>, EngineHandle), StartError> {
    let refuse = |error: &dyn std::fmt::Display| StartError::Key(error.to_string());
    let network_key = config.network_key.to_bytes();
    let keypair = Keypair::ed25519_from_bytes(*network_key).map_err(|error| refuse(&error))?;
    let name = config.name.clone();
    let (identity, context) = match config.role.key() {
        Some(key) => {
            let address = Address(key.public());
            let signer = ChainSigner { verifier, key: key.clone() };
            let peer = keypair.public().to_peer_id().to_bytes();
            let proof = signer.sign_validator_proof(key.public().0.to_vec(), peer).await;
            let proof = proof.map_err(|error| refuse(&error))?;
            let proof = EngineCodec.encode(&proof).map_err(|error| refuse(&error))?;
            let identity =
                NetworkIdentity::new_validator(name, keypair, address.to_string(), proof);
            let signer = Box::new(signer);
            (identity, ConsensusContext::new_validator(address, Box::new(verifier), signer))
        }
        None => {
            let address = Address(config.network_key.public());
            let identity = NetworkIdentity::new(name, keypair, None);
            (identity, ConsensusContext::new_full_node(address, Box::new(verifier)))
        }
    };
    EngineBuilder::new(ChainContext, engine_config(&config, listen))
        .with_default_wal(WalContext::new(log_path(&config.folder), EngineCodec))
        .with_default_network(NetworkContext::new(identity, EngineCodec))
        .with_default_sync(SyncContext::new(EngineCodec))
        .with_default_consensus(context)
        .with_default_request(RequestContext::new(REQUESTS))
        .build()
        .await
        .map_err(|error| StartError::Engine(format!("{error:#}")))
}

/// Runs the loop on a thread of its own: the application blocks on its disk.
fn spawn_loop<A: Application>(
    runtime: &Handle,
    driver: Driver<A>,
    channels: Channels<ChainContext>,
    stopped: oneshot::Receiver<()>,
) -> Result<oneshot::Receiver<Result<(), ConsensusError>>, StartError> {
    let (report, ended) = oneshot::channel();
    let runtime = runtime.clone();
    let run = move || {
        let result = runtime.block_on(driver.run(channels, stopped));
        let _ = report.send(result);
    };
    std::thread::Builder::new()
        .name("consensus".to_owned())
        .spawn(run)
        .map_err(|error| StartError::Engine(error.to_string()))?;
    Ok(ended)
}

/// Ends the loop with the engine and the engine with the loop.
async fn supervise(
    runtime: EngineRuntime,
    engine: EngineHandle,
    mut loop_ended: oneshot::Receiver<Result<(), ConsensusError>>,
    log: PathBuf,
) -> Result<(), ConsensusError> {
    let EngineHandle { actor, mut handle } = engine;
    let result = tokio::select! {
        biased;
        result = &mut loop_ended => result.unwrap_or(Err(ConsensusError::Panicked)),
        // The engine's end closes the loop's channel, which ends the loop.
        _ = &mut handle => loop_ended.await.unwrap_or(Err(ConsensusError::Panicked)),
    };
    if let Err(error) = &result {
        error!(%error, "consensus ended");
    }
    actor.get_cell().stop_children_and_wait(None, Some(STOP_WITHIN)).await;
    actor.stop(None);
    if !handle.is_finished() {
        let _ = tokio::time::timeout(STOP_WITHIN, handle).await;
    }
    drop(runtime);
    let released = tokio::task::spawn_blocking(move || wait_for_log(&log));
    let _ = tokio::time::timeout(STOP_WITHIN, released).await;
    result
}

/// The log is closed by a thread that the engine does not wait for; its lock tells when.
fn wait_for_log(log: &Path) {
    if let Err(error) = File::open(log).and_then(|file| file.lock()) {
        tracing::debug!(%error, "the consensus log is gone");
    }
}
