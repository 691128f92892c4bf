//! The host role: its store, its rules, its service, and the loops around them.

use std::path::Path;
use std::sync::Arc;

use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::host::{Host, HostRules, HostStore as _, HostStoreError};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_renter::world::{ChainError, ChainView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::{
    ChainViewFacts, DiskStore, HostConfig, HostConfigError, HostService, OpenStoreError, Prover,
    ProverConfig, ScrubReport, Scrubber, ServiceLimits,
};
use crate::light::LightClient;

/// Why the host role does not start.
#[derive(Debug, thiserror::Error)]
pub enum HostRoleError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] HostConfigError),
    /// The store cannot be opened.
    #[error("cannot open the host's store")]
    Open(#[from] OpenStoreError),
    /// The store cannot be read.
    #[error("cannot read the host's store")]
    Store(#[from] HostStoreError),
    /// The chain cannot be read.
    #[error("cannot read the chain for the host")]
    Chain(#[from] ChainError),
    /// A task broke off.
    #[error("opening the host's store broke off")]
    Task(#[from] tokio::task::JoinError),
}

/// A host at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HostStatus {
    /// Its identity key and account, hex.
    pub host: String,
    /// Bytes it offers.
    pub capacity: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Contracts that it looks after.
    pub contracts: usize,
    /// Sectors whose bytes are damaged, hex.
    pub damaged: Vec<String>,
    /// Complete passes of the scrubber over all sectors.
    pub scrub_passes: u64,
    /// Sectors checked in the pass under way, of how many.
    pub scrubbed: (u64, u64),
}

/// A running host. A cheap clone.
#[derive(Clone)]
pub struct HostRole(Arc<Inner>);

struct Inner {
    service: HostService<DiskStore>,
    scrub: watch::Receiver<ScrubReport>,
    stop: watch::Sender<bool>,
    loops: Mutex<JoinSet<()>>,
    // Dropped with the host, not before: the announcement does not change while it runs.
    _announcement: watch::Sender<samara_protocol::host::HostAnnouncement>,
}

impl HostRole {
    /// Opens the store, and starts to follow the chain, announce, prove and scrub.
    ///
    /// # Errors
    /// [`HostRoleError`].
    pub async fn start(
        config: &HostConfig,
        folder: &Path,
        key: SecretKey,
        addresses: Vec<String>,
        light: LightClient,
    ) -> Result<Self, HostRoleError> {
        let prices = config.prices()?;
        let announcement = config.announcement(addresses)?;
        let genesis = light.genesis();
        let (hash, fee) = (genesis.hash(), genesis.parameters.minimum_fee);
        let now = light.tip().await?.map_or(genesis.time, |tip| tip.header.time);
        let (folder, volumes) = (folder.to_owned(), config.volumes.clone());
        let (accepting, secret) = (config.accepting, key.clone());
        let open = tokio::task::spawn_blocking(move || -> Result<_, HostRoleError> {
            let store = DiskStore::open(&folder, &volumes, &secret.public())?;
            let rules = HostRules::default();
            Ok(Host::open(store, secret, hash, rules, prices, accepting, now)?)
        });
        let host = Arc::new(open.await??);
        let chain: Arc<dyn ChainView> = Arc::new(light);
        let facts = Arc::new(ChainViewFacts(Arc::clone(&chain)));
        let service = HostService::new(Arc::clone(&host), facts, ServiceLimits::default());
        let (stop, stopped) = watch::channel(false);
        let (announce, announced) = watch::channel(announcement);
        let (scrubber, scrub) = Scrubber::new(Arc::clone(&host), config.scrub_rate.0);
        let prover = Prover::new(host, chain, key, ProverConfig::new(fee), announced);
        let mut loops = JoinSet::new();
        let prover_stop = stopped.clone();
        loops.spawn(async move {
            if let Err(error) = prover.run(prover_stop).await {
                tracing::error!(%error, "the host's last payments are not saved");
            }
        });
        loops.spawn(scrubber.run(stopped));
        let loops = Mutex::new(loops);
        Ok(Self(Arc::new(Inner { service, scrub, stop, loops, _announcement: announce })))
    }

    /// Answers a renter's request.
    pub async fn answer(&self, from: PublicKey, request: HostRequest) -> HostResponse {
        self.0.service.answer(from, request).await
    }

    /// Cancelled when the disk under the host's rows failed: the process must end.
    #[must_use]
    pub fn broken(&self) -> tokio_util::sync::CancellationToken {
        self.0.service.host().store().broken()
    }

    /// How the host is.
    #[must_use]
    pub fn status(&self) -> HostStatus {
        let host = self.0.service.host();
        let space = host.store().space();
        let scrub = self.0.scrub.borrow().clone();
        HostStatus {
            host: host.id().to_string(),
            capacity: space.capacity,
            free: space.free,
            contracts: host.followed().len(),
            damaged: host.damaged_sectors().iter().map(ToString::to_string).collect(),
            scrub_passes: scrub.passes,
            scrubbed: (scrub.checked, scrub.sectors),
        }
    }

    /// Stops the loops; payments are saved when this returns.
    pub async fn shutdown(self) {
        self.0.stop.send_replace(true);
        let mut loops = self.0.loops.lock().await;
        while loops.join_next().await.is_some() {}
    }
}
