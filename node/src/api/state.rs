//! What the routes reach of the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use samara_protocol::signature::{PublicKey, SecretKey};
use samara_renter::Renter;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::idempotency::Keys;
use super::stream::Operations;
use crate::access::AccessControl;
use crate::chain::Chain;
use crate::drill::Drills;
use crate::host::HostRole;
use crate::light::LightClient;
use crate::links::Links;
use crate::notify::Notices;
use crate::restores::Restores;
use crate::transport::Transport;

/// What the routes reach of the node. A cheap clone.
#[derive(Clone)]
pub struct Api {
    node: Arc<Node>,
    operations: Operations,
    started: Instant,
}

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
    /// Its restores.
    pub restores: Option<Restores>,
    /// Notices; there are some where there is a renter.
    pub notices: Option<Notices>,
    /// Download links to its archives.
    pub links: Option<Links>,
    /// Recoveries of its words into a node that is thrown away.
    pub drills: Option<Drills>,
    /// The chain that the node serves, if it does.
    pub chain: Option<Arc<Chain>>,
    /// The key that it votes with, if it may.
    pub validator: Option<PublicKey>,
    /// Requests that are carried out once; there are some where there is a renter.
    pub keys: Option<Keys>,
    /// Who may do what.
    pub access: Arc<AccessControl>,
    /// Ends the node.
    pub stop: CancellationToken,
    /// One wallet transaction at a time, so that nonces do not race.
    pub wallet: tokio::sync::Mutex<()>,
}

impl Api {
    /// An API of these parts.
    #[must_use]
    pub fn new(node: Node) -> Self {
        let operations = Operations::new(node.stop.clone());
        Self { node: Arc::new(node), operations, started: Instant::now() }
    }

    /// How long the node runs.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The parts.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its long operations.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// The renter.
    ///
    /// # Errors
    /// `no_role`.
    pub fn renter(&self) -> Result<&Renter, ApiError> {
        self.node.renter.as_ref().ok_or_else(|| ApiError::no_role("renter"))
    }

    /// The renter's notices.
    ///
    /// # Errors
    /// `no_role`.
    pub fn notices(&self) -> Result<&Notices, ApiError> {
        self.node.notices.as_ref().ok_or_else(|| ApiError::no_role("renter"))
    }

    /// The renter's download links.
    ///
    /// # Errors
    /// `no_role`.
    pub fn links(&self) -> Result<&Links, ApiError> {
        self.node.links.as_ref().ok_or_else(|| ApiError::no_role("renter"))
    }

    /// The host.
    ///
    /// # Errors
    /// `no_role`.
    pub fn host(&self) -> Result<&HostRole, ApiError> {
        self.node.host.as_ref().ok_or_else(|| ApiError::no_role("host"))
    }
}
