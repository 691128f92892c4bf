//! Why the chain's store failed, or the chain cannot go on.

use samara_protocol::chain::{CertificateError, GenesisError};
use samara_protocol::encoding::DecodeError;
use samara_protocol::hash::BlockHash;
use samara_protocol::ledger::{BlockError, StateError};
use samara_protocol::units::Height;

use super::tables::VERSION;

/// Why the chain's store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("cannot create the chain folder {folder}")]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The embedded store.
    #[error("the chain store failed to {action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: Box<redb::Error>,
    },
    /// What was read is not what was written.
    #[error("the chain store holds damaged {what}")]
    Damaged {
        /// Which data.
        what: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// A value that must be there is not.
    #[error("the chain store has no {0}")]
    Missing(&'static str),
    /// Written by a newer release.
    #[error("the chain folder has format {found}; this release knows {VERSION}")]
    Newer {
        /// The folder's format.
        found: u32,
    },
    /// Another chain's folder.
    #[error("the chain folder belongs to chain {found}, not {expected}")]
    OtherChain {
        /// The chain that was asked for.
        expected: BlockHash,
        /// The folder's chain.
        found: BlockHash,
    },
    /// The genesis document starts no chain.
    #[error("the genesis document is not valid")]
    Genesis(#[from] GenesisError),
}

/// Turns any of the embedded store's errors into ours.
pub(super) fn failed<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Database { action, source: Box::new(error.into()) }
}

/// Why the chain cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// No block could be built.
    #[error("no block can follow height {tip}")]
    Build {
        /// The tip.
        tip: Height,
        /// The cause.
        source: Box<BlockError>,
    },
    /// A decided block is not here.
    #[error("block {block} of height {height} was decided, but its body is not here")]
    NoBody {
        /// Its height.
        height: Height,
        /// Its hash.
        block: BlockHash,
    },
    /// A decided block breaks the rules: this release and the validators disagree.
    #[error("block {block} was decided, but breaks a rule of this release")]
    BadDecision {
        /// Its hash.
        block: BlockHash,
        /// The rule.
        source: Box<BlockError>,
    },
    /// The engine's certificate does not hold.
    #[error("the engine's certificate does not hold")]
    Certificate(#[from] CertificateError),
}

/// A malformed stored value, for callers that decode by themselves.
impl From<DecodeError> for StoreError {
    fn from(source: DecodeError) -> Self {
        Self::Damaged { what: "values", source }
    }
}
