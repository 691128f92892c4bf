//! Questions that light nodes ask of nodes that hold the chain, and the answers.
//!
//! No answer is believed as such: headers are checked by hash links and certificates, records by the
//! header's records root, state by membership proofs against a header's state root.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::header::Header;
use super::record::RecoveryRecord;
use super::state_key::{StateKey, StateProof};
use super::transaction::Transaction;
use super::validators::ValidatorSet;
use crate::hash::TransactionId;
use crate::signature::PublicKey;
use crate::units::Height;

/// Most blocks in one batch of headers and records.
pub const MAX_BATCH: u32 = 16_384;
/// Most state keys in one question.
pub const MAX_KEYS: usize = 1_024;
/// Most bytes of an answer; batches stop early to stay below.
pub const MAX_ANSWER: usize = 5 << 20;
/// Longest time for which a peer holds a [`ChainRequest::Tip`] with `above` before it answers with the tip
/// that it has.
pub const LONG_POLL: Duration = Duration::from_secs(15);

/// A question to a chain peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainRequest {
    /// The tip. With `above`, the answer waits (at most [`LONG_POLL`]) until the tip is higher.
    Tip {
        /// Wait until the tip is above this height.
        above: Option<Height>,
    },
    /// Headers and records of consecutive blocks, for followers and scanners.
    Batch {
        /// First height.
        from: Height,
        /// Most blocks wanted, at most [`MAX_BATCH`].
        limit: u32,
    },
    /// The validator set that decides a height, with the certificate of that height.
    Decision(Height),
    /// Values of state keys at one recent height, with proofs.
    State(Vec<StateKey>),
    /// Keys of announced hosts in order, after one; values are asked for with [`ChainRequest::State`].
    Hosts {
        /// Start after this key.
        after: Option<PublicKey>,
        /// Most keys wanted, at most [`MAX_KEYS`].
        limit: u32,
    },
    /// Hands in a transaction.
    Submit(Box<Transaction>),
    /// Where a transaction is.
    Transaction(TransactionId),
}

/// A finalised header: the tip of a chain or a point on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalized {
    /// The header.
    pub header: Header,
    /// Proof that validators decided it.
    pub certificate: Certificate,
}

/// One block as scanners see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannedBlock {
    /// The header.
    pub header: Header,
    /// All of its recovery records.
    pub records: Vec<RecoveryRecord>,
}

/// An answer of a chain peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainResponse {
    /// To [`ChainRequest::Tip`]; nothing before the first block.
    Tip(Option<Box<Finalized>>),
    /// To [`ChainRequest::Batch`]; may be shorter than asked, empty above the tip.
    Batch(Vec<ScannedBlock>),
    /// To [`ChainRequest::Decision`].
    Decision {
        /// The set.
        validators: ValidatorSet,
        /// The certificate of the height.
        certificate: Box<Certificate>,
    },
    /// To [`ChainRequest::State`]: values in the order of the keys.
    State {
        /// The header against whose state root the proofs hold.
        at: Box<Finalized>,
        /// Value (or nothing) and proof for each key.
        values: Vec<(Option<serde_bytes::ByteBuf>, StateProof)>,
    },
    /// To [`ChainRequest::Hosts`].
    Hosts(Vec<PublicKey>),
    /// To [`ChainRequest::Submit`]: waiting for a block.
    Accepted(TransactionId),
    /// To [`ChainRequest::Transaction`].
    Transaction(TransactionStatus),
    /// The request was refused.
    Refused(String),
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionStatus {
    /// In the block of this height.
    Included(Height),
    /// Waiting.
    Pending,
    /// Never seen, or dropped.
    Unknown,
}
