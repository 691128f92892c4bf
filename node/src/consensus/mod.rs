//! Consensus: an existing BFT engine (Malachite) behind one narrow interface.
//!
//! The rest of the node sees [`Application`], which it implements, and [`Consensus`], which it starts.
//! The engine decides on block hashes; bodies travel as signed parts; what it decides comes out with
//! our own [`Certificate`]. No type of the engine leaves this module.
//!
//! Invariants:
//! - I9: a block is durable in the application before any vote for it can be cast, and a decided block,
//!   its certificate and its state are one durable transaction before the engine hears of it.
//! - One proposal per height and round, whatever crashes: [`Application::propose`] repeats itself.
//! - The engine never outlives its application nor the other way round: when one ends, both do, and
//!   [`Consensus::ended`] says why. The process should end then.
//!
//! Blocks are made on demand: after a block, the next height is started only when the application
//! wants a block, a proposal or vote for it arrives, or the heartbeat is due.
//!
//! A validator whose folder was lost must not vote with the same key before it has caught up: its log
//! was the only guard against voting twice. Start it as a full node first (`daemon::voting` does).

use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;
use samara_protocol::chain::certificate::Certificate;
use samara_protocol::chain::validators::ValidatorSet;
use samara_protocol::hash::BlockHash;
use samara_protocol::signature::SecretKey;
use samara_protocol::units::Height;

mod codec;
mod context;
mod driver;
mod engine;
mod error;
#[doc(hidden)]
pub mod hostile;
mod log;
mod proposals;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use engine::{Consensus, QUIET_TARGETS};
pub use error::{ConsensusError, StartError};
pub use log::{LogDamage, check_log, log_path, put_log_aside};

/// Room for a block's header and lengths beside its transactions.
pub const BLOCK_OVERHEAD: usize = 4096;

/// Where an encoded block came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A validator proposes it: the rule about clocks applies.
    Proposal {
        /// The round in which it is proposed.
        round: u32,
    },
    /// It was decided already and comes from a peer that has it: clocks do not matter.
    Decided {
        /// The round in which it was decided.
        round: u32,
    },
}

/// What the application says of an encoded block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may follow the tip, and is durable.
    Valid(BlockHash),
    /// It may not follow the tip (perhaps: not yet).
    Invalid {
        /// The block's hash.
        block: BlockHash,
        /// Which rule it breaks.
        reason: String,
    },
    /// It is no block at all.
    Malformed(String),
}

/// A block that has not been decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Round in which it was proposed.
    pub round: u32,
    /// Its hash.
    pub block: BlockHash,
    /// The encoded block.
    pub bytes: Vec<u8>,
}

/// The chain, as consensus needs it. Called from one thread that may block.
///
/// An error ends consensus: it means that the store failed.
pub trait Application: Send + 'static {
    /// Why a method failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Height of the last decided block; 0 before the first.
    fn tip(&self) -> Height;

    /// The set that decides the block after the tip.
    fn validators(&self) -> ValidatorSet;

    /// How long the next block can wait: zero when transactions or deadlines are due, else the time
    /// until a deadline or the heartbeat. Asked again after each wake-up.
    fn next_block_in(&self) -> Duration;

    /// A block to follow the tip, durable as undecided. Gives the same block for the same height and
    /// round, also after a crash.
    fn propose(&mut self, round: u32) -> Result<Undecided, Self::Error>;

    /// Judges a block by the tip's state. A block that breaks no rule, or only the one about clocks,
    /// stays available through [`Application::undecided`], durably, until its height is decided.
    fn check(&mut self, bytes: &[u8], origin: Origin) -> Result<Verdict, Self::Error>;

    /// A block kept by [`Application::propose`] or [`Application::check`].
    fn undecided(&self, block: &BlockHash) -> Result<Option<Undecided>, Self::Error>;

    /// All blocks kept for the height after the tip.
    fn all_undecided(&self) -> Result<Vec<Undecided>, Self::Error>;

    /// Appends an undecided block to the chain: block, certificate and state in one durable
    /// transaction.
    fn commit(&mut self, certificate: Certificate) -> Result<(), Self::Error>;

    /// Encoded blocks with their certificates from a height on: at most `limit`, and at most about
    /// `bytes` bytes, but at least one if there is one.
    fn decided(
        &self,
        from: Height,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<(Vec<u8>, Certificate)>, Self::Error>;
}

/// What the node does in consensus.
#[derive(Clone, Debug)]
pub enum Role {
    /// Votes whenever the validator set lists this key, and follows otherwise.
    Validator(Box<SecretKey>),
    /// Follows.
    FullNode,
}

/// How to run the engine.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// Folder for the engine's log; created if missing. Belongs to this node alone.
    pub folder: PathBuf,
    /// A name for the engine's logs.
    pub name: String,
    /// Where to listen. Port 0 takes a free one, see [`Consensus::address`].
    pub listen: Multiaddr,
    /// Peers to stay connected with.
    pub peers: Vec<Multiaddr>,
    /// Identity of the engine's own network, of which nothing else depends.
    pub network_key: SecretKey,
    /// Validator or not.
    pub role: Role,
    /// How long validators wait for a proposal before they go on without it.
    pub propose_timeout: Duration,
}

impl ConsensusConfig {
    /// One second: a proposer that is down costs this much.
    pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(1);
}
