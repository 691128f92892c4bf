//! Why a daemon or its chain role does not run.

use super::identity::IdentityError;
use super::voting::VotingError;
use crate::access::LocalTokenError;
use crate::api::idempotency::store::RequestsError;
use crate::chain::StoreError;
use crate::config::ConfigError;
use crate::consensus::{ConsensusError, StartError};
use crate::data::DataError;
use crate::host::HostRoleError;
use crate::notify::OutboxError;
use crate::restores::RestoreError;
use crate::transport::{GossipError, TransportError};
use crate::world::OpenStoreError;

/// Why a daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The folder of archives.
    #[error("cannot use the folder of archives")]
    Archives(#[source] std::io::Error),
    /// The folder of restores.
    #[error("cannot use the folder of restores")]
    Restores(#[source] RestoreError),
    /// The folder of download links.
    #[error("cannot use the folder of download links")]
    Links(#[source] std::io::Error),
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
    /// The renter's notices.
    #[error("cannot open the renter's notices")]
    Notices(#[from] OutboxError),
    /// Requests that are carried out once.
    #[error("cannot open requests.redb")]
    Requests(#[from] RequestsError),
    /// The renter role.
    #[error("cannot start the renter role")]
    Renter(#[from] samara_renter::OpenError),
    /// The local administrator's token.
    #[error("cannot tell who may use the HTTP API")]
    Access(#[from] LocalTokenError),
    /// The API.
    #[error("cannot serve the HTTP API on {address}: {source}")]
    Api {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// A database's disk failed.
    #[error(
        "the disk failed under the {0}'s database: what it acknowledges may be lost, so the node ends; \
         check the disk, then start again"
    )]
    DiskFailed(&'static str),
    /// The machine's signals cannot be watched.
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
}

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
    /// Whether the validator may vote cannot be told.
    #[error("cannot tell whether this validator may vote")]
    Voting(#[from] VotingError),
    /// The gossip of transactions.
    #[error("cannot join the gossip of transactions")]
    Gossip(#[from] GossipError),
}
