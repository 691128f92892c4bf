//! Why an answer was not taken, and whose fault that is.

use super::rules::Need;
use crate::chain::certificate::CertificateError;
use crate::hash::BlockHash;
use crate::units::{Height, Millis};

/// Whose answer a [`LightError`] proves false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The answer that was just handed in.
    Answer,
    /// One of the batches since the trusted point.
    Batches,
    /// The tip that was handed in before.
    Tip,
    /// This answer or the tip before: it cannot be known yet. Both are to be asked for elsewhere.
    TipOrAnswer,
    /// Nobody: the caller handed in what was not asked for.
    Caller,
}

/// What is false about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// A header of another format.
    #[error("block {height}: header version {version} is unknown")]
    Version {
        /// The header's height.
        height: Height,
        /// Its version.
        version: u8,
    },
    /// A header of another chain.
    #[error("block {height}: belongs to the chain {genesis}, not to this one")]
    Chain {
        /// The header's height.
        height: Height,
        /// The chain it names.
        genesis: BlockHash,
    },
    /// A header out of order.
    #[error("block {found} where block {expected} must be")]
    Order {
        /// The height that follows.
        expected: Height,
        /// The header's height.
        found: Height,
    },
    /// A header that does not name its predecessor.
    #[error("block {height}: its parent {parent} is not the block before it")]
    Parent {
        /// The header's height.
        height: Height,
        /// The parent it names.
        parent: BlockHash,
    },
    /// Chain time that does not grow.
    #[error("block {height}: its time is not later than that of an earlier block")]
    Time {
        /// The header's height.
        height: Height,
    },
    /// A header decided by another set than its predecessor announced.
    #[error("block {height}: names another validator set than the block before announced")]
    Validators {
        /// The header's height.
        height: Height,
    },
    /// A certificate that proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A certificate of another block than the header it comes with.
    #[error("block {height}: the certificate is for height {certified} or for another block")]
    OtherBlock {
        /// The height asked for.
        height: Height,
        /// The certificate's height.
        certified: Height,
    },
    /// A set whose hash is not the one that a trusted header announced.
    #[error("block {height}: the validator set given is not the one announced")]
    Set {
        /// The height that the set decides.
        height: Height,
    },
    /// A block whose validators are not those in force after the trusted point: nothing is known of it.
    #[error("block {height}: decided by validators that are not known here")]
    UnknownSet {
        /// The block.
        height: Height,
    },
    /// A quorum certified another block than the one that batches led to.
    #[error("block {height}: headers led to {linked}, validators certified {certified}")]
    Contradicted {
        /// The height.
        height: Height,
        /// Hash of the linked header.
        linked: BlockHash,
        /// Hash of the certified one.
        certified: BlockHash,
    },
    /// The claimed tip is not what the set in force certified.
    #[error("block {height}: claimed as the tip, but not certified by the validators in force")]
    FalseTip {
        /// The tip's height.
        height: Height,
    },
    /// Another block at the trusted height.
    #[error("block {height}: {other} stands against the trusted {trusted}")]
    Fork {
        /// The height.
        height: Height,
        /// What is trusted.
        trusted: BlockHash,
        /// What the peer names.
        other: BlockHash,
    },
    /// A tip below the trusted point.
    #[error("the tip {height} is below the trusted block {trusted}")]
    Behind {
        /// The tip's height, 0 for a chain without blocks.
        height: Height,
        /// Height of the trusted point.
        trusted: Height,
    },
    /// A tip that is too old: the peer is cut off, the chain has halted, or somebody hides its end.
    #[error("the tip {height} is {} s old", .age.0 / 1_000)]
    Stale {
        /// The tip's height, 0 for a chain without blocks.
        height: Height,
        /// Its age.
        age: Millis,
    },
    /// A tip from the future; the local clock may be wrong.
    #[error("the tip {height} is {} s ahead of the local clock", .ahead.0 / 1_000)]
    Ahead {
        /// The tip's height.
        height: Height,
        /// By how much.
        ahead: Millis,
    },
    /// A batch without blocks below the known tip.
    #[error("no block {from} in the answer, though the tip is {tip}")]
    Empty {
        /// First height asked for.
        from: Height,
        /// The known tip.
        tip: Height,
        /// Whether the set in force certified that tip; otherwise the tip itself may be a lie.
        certified: bool,
    },
    /// More blocks than asked for.
    #[error("more than the {limit} blocks from {from} that were asked for")]
    TooMany {
        /// First height asked for.
        from: Height,
        /// Most blocks asked for.
        limit: u32,
    },
    /// An answer to no question.
    #[error("{what} was handed in, but {needed:?} is needed")]
    NotAsked {
        /// What came.
        what: &'static str,
        /// What [`LightChain::next`](super::LightChain::next) names.
        needed: Need,
    },
}

impl LightError {
    /// Who is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Contradicted { .. } => Blame::Batches,
            Self::FalseTip { .. } => Blame::Tip,
            Self::Empty { certified: false, .. } => Blame::TipOrAnswer,
            Self::NotAsked { .. } => Blame::Caller,
            _ => Blame::Answer,
        }
    }
}

/// Why a stored state cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Written by another version.
    #[error("light chain state of version {0} is unknown")]
    Version(u8),
    /// Of another chain.
    #[error("light chain state belongs to the chain {0}")]
    Chain(BlockHash),
    /// Its parts contradict each other.
    #[error("light chain state at block {0} is inconsistent")]
    Inconsistent(Height),
}
