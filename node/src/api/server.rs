//! The server: its state, its router, its life.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_renter::Renter;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::access::{self, Access, Token};
use super::error::ApiError;
use super::routes;
use crate::host::HostRole;
use crate::light::LightClient;
use crate::transport::Transport;

/// Largest JSON body. Object uploads stream and have no such bound.
const MAX_BODY: usize = 1 << 20;

/// What the routes reach of the node. A cheap clone.
#[derive(Clone)]
pub struct Api(Arc<Node>, Instant);

/// The parts of a running node.
pub struct Node {
    /// The network's name.
    pub network: String,
    /// Connections to other nodes.
    pub transport: Transport,
    /// The chain as this node verifies it.
    pub light: LightClient,
    /// The account that the node's wallet is about when it has no renter.
    pub account: SecretKey,
    /// The faucet of a test network.
    pub faucet: Option<SecretKey>,
    /// The host role.
    pub host: Option<HostRole>,
    /// The renter role.
    pub renter: Option<Renter>,
    /// Whether the node serves the chain.
    pub chain: bool,
    /// The key that it votes with, if it may.
    pub validator: Option<PublicKey>,
    /// Ends the node.
    pub stop: CancellationToken,
    /// One wallet transaction at a time, so that nonces do not race.
    pub wallet: tokio::sync::Mutex<()>,
}

impl Api {
    /// An API of these parts.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self(Arc::new(node), Instant::now())
    }

    /// How long the node runs.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.1.elapsed()
    }

    /// The parts.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0
    }

    /// The renter.
    ///
    /// # Errors
    /// `no_role`.
    pub fn renter(&self) -> Result<&Renter, ApiError> {
        self.0.renter.as_ref().ok_or_else(|| ApiError::no_role("renter"))
    }

    /// The host.
    ///
    /// # Errors
    /// `no_role`.
    pub fn host(&self) -> Result<&HostRole, ApiError> {
        self.0.host.as_ref().ok_or_else(|| ApiError::no_role("host"))
    }
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds, writes `api.json` into the data folder, and serves until the node's token stops it.
    ///
    /// # Errors
    /// The system's, when the address is taken or the file cannot be written.
    pub async fn start(api: Api, address: SocketAddr, data: &Path) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let access = Access::draw(address).map_err(std::io::Error::other)?;
        access.write(data)?;
        let stop = api.node().stop.clone();
        let router = router(api, Token::of(&access));
        let task = tokio::spawn(async move {
            // An answer's head and body are two writes: without this the second waits for the
            // client's delayed acknowledgement of the first, some 40 ms.
            let listener = listener.tap_io(|connection| {
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "a connection stays slow");
                }
            });
            let serving = axum::serve(listener, router)
                .with_graceful_shutdown(async move { stop.cancelled().await });
            if let Err(error) = serving.await {
                tracing::error!(%error, "the HTTP API stopped");
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits a moment for open answers to end, then drops them.
    pub async fn stop(self) {
        let abort = self.task.abort_handle();
        if tokio::time::timeout(Duration::from_secs(2), self.task).await.is_err() {
            abort.abort();
        }
    }
}

fn router(api: Api, token: Token) -> Router {
    let protected = Router::new()
        .merge(routes::node())
        .merge(routes::validators())
        .merge(routes::wallet())
        .merge(routes::renter())
        .merge(routes::vaults())
        .merge(routes::objects())
        .merge(routes::backups())
        .merge(routes::recovery())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(token, access::require))
        .fallback(|| async { ApiError::new("not_found", "no such route; see docs/api.md") })
        .with_state(api);
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .merge(protected)
        .layer(middleware::from_fn(access::by_own_name))
}
