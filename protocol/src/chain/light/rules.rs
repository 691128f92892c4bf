//! How a light chain goes about it, and what it asks for.

use crate::chain::genesis::Genesis;
use crate::chain::query::MAX_BATCH;
use crate::units::{Height, Millis};

/// How a light chain gets from its trusted point to the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Jumps to a tip that the set in force certified; walks header by header only where the set changed.
    Skip,
    /// Links every header, and asks for a certificate whenever so many blocks are linked without one,
    /// so that a false chain costs no more than that and one batch.
    Walk {
        /// Linked blocks from which on a certificate is asked for, at least 1.
        stride: u32,
    },
}

/// How a light chain judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Jumping or walking.
    pub pace: Pace,
    /// Oldest tip that is accepted.
    pub max_age: Millis,
}

impl Rules {
    /// Blocks between two certificates of a walk: four batches.
    pub const STRIDE: u32 = 4 * MAX_BATCH;
    /// Heartbeats after which a tip is old.
    pub const HEARTBEATS: u64 = 5;
    /// Shortest age at which a tip is called old, for chains with a very short heartbeat.
    pub const LEAST_AGE: Millis = Millis(30_000);

    /// Rules for following the tip.
    #[must_use]
    pub fn follow(genesis: &Genesis) -> Self {
        let beats = genesis.parameters.heartbeat.0.saturating_mul(Self::HEARTBEATS);
        Self { pace: Pace::Skip, max_age: Millis(beats).max(Self::LEAST_AGE) }
    }

    /// Rules for seeing every block.
    #[must_use]
    pub fn walk(genesis: &Genesis) -> Self {
        Self { pace: Pace::Walk { stride: Self::STRIDE }, ..Self::follow(genesis) }
    }
}

/// What a light chain wants to know next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The newest finalised header of a peer.
    Tip,
    /// Consecutive blocks.
    Batch {
        /// First height.
        from: Height,
        /// Most blocks that are taken.
        limit: u32,
    },
    /// Validator set and certificate of a height.
    Decision(Height),
    /// Nothing: the known tip is trusted.
    Done,
}

/// How far a light chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Height of the trusted point.
    pub trusted: Height,
    /// Height up to which headers are linked; at least `trusted`.
    pub linked: Height,
    /// Height of the tip that is being walked to, if a peer named one.
    pub target: Option<Height>,
}
