//! The genesis document: who holds money and votes before the first block, and the chain's rules.

use serde::{Deserialize, Serialize};

use super::validators::ValidatorSet;
use crate::hash::{BlockHash, digest};
use crate::signature::PublicKey;
use crate::units::{Amount, ChainTime, Millis};

/// Rules that are fixed at genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainParameters {
    /// Longest time between two blocks when nothing happens.
    pub heartbeat: Millis,
    /// Least fee of a transaction, burned.
    pub minimum_fee: Amount,
    /// Shortest proof period that a contract may have.
    pub minimum_period: Millis,
    /// Shortest proof window that a contract may have.
    pub minimum_window: Millis,
    /// Fewest blocks that must pass before a proof window closes, so that a halted chain slashes nobody.
    pub minimum_window_blocks: u32,
    /// Most transactions in a block.
    pub block_transactions: u32,
    /// Most bytes of transactions in a block.
    pub block_bytes: u32,
    /// Most deadlines (period ends and window ends) processed in a block.
    pub block_deadlines: u32,
}

impl Default for ChainParameters {
    /// Values for local test networks; a public network writes its own.
    fn default() -> Self {
        Self {
            heartbeat: Millis::seconds(10),
            minimum_fee: Amount(1_000_000_000_000),
            minimum_period: Millis::seconds(1),
            minimum_window: Millis::seconds(1),
            minimum_window_blocks: 3,
            block_transactions: 2_000,
            block_bytes: 2 << 20,
            block_deadlines: 1_000,
        }
    }
}

/// Everything that is true before the first block. Its hash names the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Format version, 1.
    pub version: u8,
    /// A name for people; 1 to 64 bytes.
    pub name: String,
    /// The chain's time before the first block.
    pub time: ChainTime,
    /// The first validator set.
    pub validators: ValidatorSet,
    /// Balances; no account twice.
    pub allocations: Vec<(PublicKey, Amount)>,
    /// Rules of the chain.
    pub parameters: ChainParameters,
}

impl Genesis {
    /// The version written by this code.
    pub const VERSION: u8 = 1;

    /// Hash of the document; light clients pin it.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash(digest("samara v1 genesis", self).0)
    }
}
