//! The genesis document: who holds money and votes before the first block, and the chain's rules.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::transaction::Transaction;
use super::validators::ValidatorSet;
use crate::contract::LeastTerms;
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

    /// Most bytes of the name.
    pub const MAX_NAME_BYTES: usize = 64;

    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// [`GenesisError`] for the first rule that is broken.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.version != Self::VERSION {
            return Err(GenesisError::Version(self.version));
        }
        if self.name.is_empty() || self.name.len() > Self::MAX_NAME_BYTES {
            return Err(GenesisError::Name(self.name.len()));
        }
        let mut seen = BTreeSet::new();
        if let Some((twice, _)) = self.allocations.iter().find(|(key, _)| !seen.insert(*key)) {
            return Err(GenesisError::AllocatedTwice(*twice));
        }
        self.issued()?;
        self.parameters.check()
    }

    /// Sum of all allocations: all the money there ever is.
    ///
    /// # Errors
    /// [`GenesisError::TooMuchMoney`] on overflow.
    pub fn issued(&self) -> Result<Amount, GenesisError> {
        self.allocations
            .iter()
            .try_fold(Amount::ZERO, |sum, (_, amount)| sum.checked_add(*amount))
            .ok_or(GenesisError::TooMuchMoney)
    }

    /// Hash of the document; light clients pin it.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        BlockHash(digest("samara v1 genesis", self).0)
    }
}

impl ChainParameters {
    /// The least that contracts must agree on.
    #[must_use]
    pub const fn least_terms(&self) -> LeastTerms {
        LeastTerms {
            period: self.minimum_period,
            window: self.minimum_window,
            window_blocks: self.minimum_window_blocks,
        }
    }

    fn check(&self) -> Result<(), GenesisError> {
        let zeros = [
            ("heartbeat", self.heartbeat.0 == 0),
            ("minimum period", self.minimum_period.0 == 0),
            ("minimum window", self.minimum_window.0 == 0),
            ("minimum number of window blocks", self.minimum_window_blocks == 0),
            ("number of transactions in a block", self.block_transactions == 0),
            ("number of deadlines in a block", self.block_deadlines == 0),
        ];
        if let Some((what, _)) = zeros.iter().find(|(_, zero)| *zero) {
            return Err(GenesisError::Zero(what));
        }
        if (self.block_bytes as usize) < Transaction::MAX_BYTES {
            return Err(GenesisError::BlockBytes(self.block_bytes));
        }
        Ok(())
    }
}

/// Why a genesis document starts no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// An unknown format.
    #[error("genesis version {0} is unknown")]
    Version(u8),
    /// No name, or one that is too long.
    #[error("the name of a chain has 1 to {max} bytes, not {0}", max = Genesis::MAX_NAME_BYTES)]
    Name(usize),
    /// An account is allocated twice.
    #[error("account {0} is allocated twice")]
    AllocatedTwice(PublicKey),
    /// The allocations overflow.
    #[error("the allocations sum to more than any amount can hold")]
    TooMuchMoney,
    /// A parameter that must not be zero is zero.
    #[error("the {0} must not be zero")]
    Zero(&'static str),
    /// Blocks that cannot hold the largest transaction.
    #[error("blocks of {0} bytes cannot hold a transaction of {max}", max = Transaction::MAX_BYTES)]
    BlockBytes(u32),
}
