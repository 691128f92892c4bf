//! Why consensus did not start, or ended.

use std::path::PathBuf;

use libp2p::Multiaddr;
use samara_protocol::units::Height;

/// Most bytes of transactions in a block that still fits into one sync answer (10 MiB) with the
/// largest certificate.
pub(super) const MAX_BLOCK_BYTES: u32 = 8 << 20;

/// Why consensus did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder or the log's file.
    #[error("cannot prepare the consensus folder {folder}: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The listening address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Blocks that would not fit into one answer to a peer that syncs.
    #[error(
        "the genesis document allows blocks of {0} bytes; at most {MAX_BLOCK_BYTES} can be synced"
    )]
    BlockBytes(u32),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// A key that the engine refuses.
    #[error("the consensus network key is not usable: {0}")]
    Key(String),
    /// The engine.
    #[error("the consensus engine did not start: {0}")]
    Engine(String),
}

/// Why consensus ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The application failed: the store cannot be trusted to go on.
    #[error("the chain failed under consensus")]
    Application(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An actor of the engine died, or its log failed and it stopped on purpose.
    #[error("the consensus engine ended by itself; see its log")]
    EngineEnded,
    /// The engine decided a height that does not follow the tip.
    #[error("the engine decided height {decided} on a tip of {tip}")]
    Gap {
        /// Our tip.
        tip: Height,
        /// What was decided.
        decided: Height,
    },
    /// The loop's thread died.
    #[error("the consensus thread panicked")]
    Panicked,
}
