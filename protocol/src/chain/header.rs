//! Block headers: what validators sign and light clients follow.

use serde::{Deserialize, Serialize};

use crate::hash::{BlockHash, Digest, digest};
use crate::units::{ChainTime, Height};

/// The head of a block. Every commitment is to the state *after* the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format version, [`Header::VERSION`].
    pub version: u8,
    /// Hash of the genesis document: names the chain.
    pub genesis: BlockHash,
    /// This block's number, from 1.
    pub height: Height,
    /// Chain time; later than the parent's.
    pub time: ChainTime,
    /// Hash of the parent's header; the genesis hash at height 1.
    pub parent: BlockHash,
    /// Digest of the transactions' ids and of their signatures, in the block's order, see
    /// [`super::block::transactions_root`].
    pub transactions_root: Digest,
    /// Root of the authenticated state after this block.
    pub state_root: Digest,
    /// Hash of this block's recovery records, see [`super::record::records_root`].
    pub records_root: Digest,
    /// Hash of the validator set that decides this block.
    pub validators: Digest,
    /// Hash of the validator set that decides the next block.
    pub next_validators: Digest,
}

impl Header {
    /// The version written by this code.
    pub const VERSION: u8 = 1;
    /// Most milliseconds a header's time may be ahead of a validator's own clock.
    pub const MAX_DRIFT: crate::units::Millis = crate::units::Millis(10_000);

    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash(digest("samara v1 block header", self).0)
    }
}
