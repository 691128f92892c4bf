//! The daemon: one process with the roles of its configuration.
//!
//! Start: data folder and lock, words and keys, connections, chain, light client, host, renter, API.
//! Stop (a signal, the API, the end of the input, or a part that died): the API first, so that
//! nothing new comes in; then restores, notices, the renter, the host, the light client, consensus, and last the
//! connections. Each part has ended with all its tasks before the next one is told to, and the data
//! folder's lock goes last: no task outlives [`run`]. A start that fails half-way stops the same way.

mod bring_back;
mod chain_role;
mod dispatch;
mod error;
mod identity;
mod tell;
#[cfg(test)]
mod tests;
mod transaction_gossip;
mod voting;

use std::path::PathBuf;
use std::sync::Arc;

use samara_protocol::keys::sealed::Argon2Parameters;
use samara_protocol::signature::SecretKey;
use samara_renter::Renter;
use samara_renter::rows::RenterState;
use samara_renter::world::{Spawner as _, World};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::chain_role::ChainRole;
use self::dispatch::Dispatcher;
pub use self::error::{ChainRoleError, DaemonError};
use self::identity::Identity;
pub use self::identity::{IdentityError, validator_key};
use crate::access::{AccessControl, LocalTokenError, LocalTokens, NoSettings, Settings};
use crate::api::idempotency::Keys;
use crate::api::idempotency::store::Requests;
use crate::api::{Api, Node, Server};
use crate::clock;
use crate::config::{ChainConfig, ConfigError, NetworkFile, NodeConfig, RenterConfig};
use crate::data::{DataFolder, NEW_WORDS};
use crate::drill::{DrillParts, Drills};
use crate::host::{HostConfig, HostRole, HostRoleError};
use crate::light::{ChainPeer, FilePointStore, LightClient, LightConfig, NetworkPeer};
use crate::links::{self, Links, RenterArchives};
use crate::notify::{Notices, OutboxError};
use crate::restores::Restores;
use crate::transport::{Transport, TransportConfig, TransportTask};
use crate::world::{DiskFiles, DiskStore, NetworkHosts, OsRandomness, SystemClock, TokioSpawner};

/// How to run besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Stop when standard input ends.
    pub until_input_ends: bool,
    /// Stop when this is cancelled; for daemons that are tasks of another program, which handles the
    /// signals itself.
    pub stop: Option<CancellationToken>,
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
    let starter = Starter { folder: &folder, config: &config, network: &network, identity };
    let mut running = starter.start(stop.clone()).await?;
    let votes = running.parts.chain.as_ref().map(|chain| *chain.votes().borrow());
    tracing::info!(api = %running.server.address(), votes, "node runs");
    let outcome = running.wait(&options, stop).await;
    running.shut_down().await;
    outcome
}

/// What the parts of a node are started from.
struct Starter<'a> {
    folder: &'a DataFolder,
    config: &'a NodeConfig,
    network: &'a NetworkFile,
    identity: Identity,
}

/// Parts in the order in which they start. Each needs those before it, and stops before them.
struct Parts {
    transport: Transport,
    swarm: TransportTask,
    chain: Option<ChainRole>,
    light: Option<LightClient>,
    host: Option<HostRole>,
    /// The renter's tasks: it may have some before it has started.
    renter_tasks: TokioSpawner,
    renter: Option<Renter>,
    /// The renter's notices.
    notices: Option<Notices>,
    /// Links to its archives.
    links: Option<Links>,
    /// Requests that are carried out once.
    keys: Option<Keys>,
    drills: Option<Drills>,
    restores: Option<Restores>,
    /// Whose database, and the word that its disk failed.
    disks: Vec<(&'static str, CancellationToken)>,
}

/// Everything that was started, to be stopped in order.
struct Running {
    server: Server,
    parts: Parts,
    stop: CancellationToken,
}

impl Starter<'_> {
    /// Starts all parts; when one does not start, stops those that did.
    async fn start(&self, stop: CancellationToken) -> Result<Running, DaemonError> {
        let dispatcher = Arc::new(Dispatcher::default());
        let mut parts = self.connections(dispatcher.clone()).await?;
        let started = match self.roles(&mut parts, &dispatcher).await {
            Ok(light) => self.api(&mut parts, light, &stop).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(server) => Ok(Running { server, parts, stop }),
            Err(error) => {
                parts.shut_down().await;
                Err(error)
            }
        }
    }

    async fn connections(&self, dispatcher: Arc<Dispatcher>) -> Result<Parts, DaemonError> {
        let mut config = TransportConfig::new(self.identity.node.clone());
        config.listen = identity::addresses("listen", &self.config.listen)?;
        let (transport, swarm) = Transport::start(config, dispatcher).await?;
        Ok(Parts {
            transport,
            swarm,
            chain: None,
            light: None,
            host: None,
            renter_tasks: TokioSpawner::default(),
            renter: None,
            notices: None,
            links: None,
            keys: None,
            drills: None,
            restores: None,
            disks: Vec::new(),
        })
    }

    /// Chain, light client, host and renter, as far as they are configured.
    async fn roles(
        &self,
        parts: &mut Parts,
        dispatcher: &Dispatcher,
    ) -> Result<LightClient, DaemonError> {
        if let Some(role) = &self.config.chain {
            let chain = self.chain(role, &parts.transport).await?;
            dispatcher.serve_chain(parts.chain.insert(chain).service());
        }
        let light = self.light(&parts.transport, parts.chain.as_ref()).await?;
        parts.light = Some(light.clone());
        if let Some(role) = &self.config.host {
            let host = self.host(role, &parts.transport, &light).await?;
            parts.disks.push(("host", host.broken()));
            dispatcher.serve_host(parts.host.insert(host).clone());
        }
        if let Some(role) = &self.config.renter {
            let store = DiskStore::open(&self.folder.join("renter.redb"))?;
            parts.disks.push(("renter", store.broken()));
            let renter = self.renter(role, store, parts, &light).await?;
            let renter = parts.renter.insert(renter).clone();
            let links = self.links(&renter, &light)?;
            let notices = self.notices(role, &renter, &links).await?;
            // It ends with the renter's other tasks.
            let sweeping = links.clone().keep(renter.news());
            parts.renter_tasks.spawn("links", Box::pin(sweeping)).detach();
            parts.links = Some(links);
            parts.disks.push(("renter", notices.broken()));
            let telling =
                tell::tell(renter.backups(), renter.news_since_opening(), notices.clone());
            parts.renter_tasks.spawn("tell", Box::pin(telling)).detach();
            parts.notices = Some(notices);
            let requests = Requests::open(&self.folder.join("requests.redb"))?;
            parts.disks.push(("renter", requests.broken()));
            parts.keys = Some(Keys::new(requests, self.keys_secret(), clock::system()));
            start_new_words(self.folder, &renter).await;
            let drills = self.drills(role, &renter, parts, &light)?;
            let keeping = bring_back::keep(self.folder, renter.clone());
            // It ends with the renter's other tasks.
            parts.renter_tasks.spawn("bring back", Box::pin(keeping)).detach();
            let scheduled = drills.clone().keep_schedule();
            parts.renter_tasks.spawn("drills", Box::pin(scheduled)).detach();
            parts.drills = Some(drills);
        }
        Ok(light)
    }

    async fn chain(
        &self,
        role: &ChainConfig,
        transport: &Transport,
    ) -> Result<ChainRole, ChainRoleError> {
        let clock = clock::system();
        ChainRole::start(self.folder, role, self.network, &self.identity, transport, clock).await
    }

    async fn light(
        &self,
        transport: &Transport,
        chain: Option<&ChainRole>,
    ) -> Result<LightClient, DaemonError> {
        let config = LightConfig {
            genesis: self.network.genesis()?,
            peers: chain_peers(self.network, transport, chain)?,
            store: Arc::new(FilePointStore::new(self.folder.join("light"))),
            clock: clock::system(),
        };
        Ok(LightClient::start(config).await)
    }

    async fn host(
        &self,
        role: &HostConfig,
        transport: &Transport,
        light: &LightClient,
    ) -> Result<HostRole, HostRoleError> {
        let addresses = identity::external(self.config, transport);
        let key = self.identity.keys.host_identity(0);
        HostRole::start(role, &self.folder.join("host"), key, addresses, light.clone()).await
    }

    async fn renter(
        &self,
        role: &RenterConfig,
        store: DiskStore,
        parts: &Parts,
        light: &LightClient,
    ) -> Result<Renter, DaemonError> {
        let world = World {
            chain: Arc::new(light.clone()),
            hosts: Arc::new(NetworkHosts::new(parts.transport.clone(), light.clone())),
            store: Arc::new(store),
            files: Arc::new(DiskFiles),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandomness),
            spawner: Arc::new(parts.renter_tasks.clone()),
            compute: Arc::new(parts.renter_tasks.compute()),
        };
        Ok(Renter::open(world, self.identity.keys.clone(), role.to_renter()?).await?)
    }

    async fn notices(
        &self,
        role: &RenterConfig,
        renter: &Renter,
        links: &Links,
    ) -> Result<Notices, OutboxError> {
        let (settings, clock) = (Arc::new(renter.clone()), clock::system());
        let reached = (&role.allowed_networks[..], Arc::new(links.clone()) as Arc<_>);
        Notices::start(self.folder.path(), settings, reached, clock).await
    }

    fn links(&self, renter: &Renter, light: &LightClient) -> Result<Links, DaemonError> {
        let archives = RenterArchives { renter: renter.clone(), light: light.clone() };
        let public = self.config.public_url.clone();
        Links::open(self.folder.join(links::FOLDER), Arc::new(archives), public)
            .map_err(DaemonError::Links)
    }

    /// What the bodies of requests are digested under.
    fn keys_secret(&self) -> Zeroizing<[u8; 32]> {
        let account = self.identity.account(self.config).to_bytes();
        Zeroizing::new(blake3::derive_key("samara 2026-11 requests with keys", account.as_slice()))
    }

    fn drills(
        &self,
        role: &RenterConfig,
        renter: &Renter,
        parts: &Parts,
        light: &LightClient,
    ) -> Result<Drills, DaemonError> {
        let parts = DrillParts {
            renter: renter.clone(),
            config: role.to_renter()?,
            keys: self.identity.keys.clone(),
            light: light.clone(),
            transport: parts.transport.clone(),
            spawner: parts.renter_tasks.clone(),
            folder: self.folder.path().to_owned(),
        };
        Ok(Drills::new(parts))
    }

    async fn api(
        &self,
        parts: &mut Parts,
        light: LightClient,
        stop: &CancellationToken,
    ) -> Result<Server, DaemonError> {
        let access = self.access(parts)?;
        if let (Some(role), Some(renter), Some(notices)) =
            (&self.config.renter, &parts.renter, &parts.notices)
        {
            let restores = self.restores(role, renter, (&access, notices), stop).await?;
            parts.restores = Some(restores);
        }
        let api = Api::new(Node {
            network: self.network.name.clone(),
            transport: parts.transport.clone(),
            light,
            account: self.identity.account(self.config),
            faucet: faucet(self.network)?,
            host: parts.host.clone(),
            renter: parts.renter.clone(),
            restores: parts.restores.clone(),
            notices: parts.notices.clone(),
            links: parts.links.clone(),
            drills: parts.drills.clone(),
            keys: parts.keys.clone(),
            chain: parts.chain.as_ref().map(ChainRole::service),
            validator: self.identity.validator.as_ref().map(SecretKey::public),
            access,
            stop: stop.clone(),
            wallet: tokio::sync::Mutex::new(()),
        });
        let address = self.config.api;
        Server::start(api, address, self.folder.path())
            .await
            .map_err(|source| DaemonError::Api { address, source })
    }

    /// Archives that this node makes, and what it restores.
    async fn restores(
        &self,
        role: &RenterConfig,
        renter: &Renter,
        (access, notices): (&Arc<AccessControl>, &Notices),
        stop: &CancellationToken,
    ) -> Result<Restores, DaemonError> {
        // It holds the renter, which holds this.
        let people = Arc::downgrade(access);
        let archives = self.folder.join("archives");
        crate::data::make_private_folder(&archives).map_err(DaemonError::Archives)?;
        let kept = renter
            .keep_archives_in(
                archives,
                Arc::new(move || {
                    people.upgrade().map(|access| access.people()).unwrap_or_default()
                }),
            )
            .await;
        if let Err(error) = kept {
            // Everything else works without.
            tracing::error!(%error, "the folder of archives cannot be used");
        }
        let (folder, networks) = (self.folder.join("restores"), role.allowed_networks.clone());
        let (renter, access) = (renter.clone(), Arc::clone(access));
        let told = (notices.clone(), clock::system());
        Restores::open(folder, renter, access, networks, told, stop.clone())
            .map_err(DaemonError::Restores)
    }

    /// Users and tokens are the renter's settings.
    fn access(&self, parts: &Parts) -> Result<Arc<AccessControl>, LocalTokenError> {
        let settings: Arc<dyn Settings> = match &parts.renter {
            Some(renter) => Arc::new(renter.clone()),
            None => Arc::new(NoSettings),
        };
        let local = LocalTokens::open(self.folder.path())?;
        let cost = Argon2Parameters::INTERACTIVE;
        let (clock, elapsed) = (clock::system(), clock::elapsed());
        Ok(Arc::new(AccessControl::new(settings, local, cost, clock, elapsed)))
    }
}

impl Parts {
    /// Stops the parts, last started first, and waits for the tasks of each.
    async fn shut_down(self) {
        // What ends until here is still told.
        if let Some(restores) = self.restores {
            restores.ended().await;
        }
        if let Some(notices) = self.notices {
            notices.shutdown().await;
        }
        // They hold the parts below.
        drop((self.drills, self.links));
        if let Some(renter) = self.renter {
            renter.shutdown().await;
        }
        self.renter_tasks.shutdown().await;
        if let Some(host) = self.host {
            host.shutdown().await;
        }
        if let Some(light) = self.light {
            light.shutdown().await;
        }
        if let Some(chain) = self.chain {
            chain.shutdown().await;
        }
        self.transport.shutdown().await;
        if let Err(error) = self.swarm.join().await {
            tracing::error!(%error, "the connections' task did not end in good order");
        }
    }
}

impl Running {
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
            whose = disk_failed(&self.parts.disks) => Err(DaemonError::DiskFailed(whose)),
            failed = chain_ended(&mut self.parts.chain) => failed.map_err(DaemonError::from),
        }
    }

    async fn shut_down(self) {
        tracing::info!("node stops");
        self.stop.cancel();
        self.server.stop().await;
        self.parts.shut_down().await;
    }
}

/// A renter whose words were drawn for this folder needs no recovery before it may write.
async fn start_new_words(folder: &DataFolder, renter: &Renter) {
    let marker = folder.join(NEW_WORDS);
    if !marker.exists() {
        return;
    }
    if renter.state() == RenterState::Fresh
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

async fn disk_failed(disks: &[(&'static str, CancellationToken)]) -> &'static str {
    let failures = disks.iter().map(|(whose, failed)| {
        Box::pin(async move {
            failed.cancelled().await;
            *whose
        })
    });
    if disks.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(failures).await.0
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
