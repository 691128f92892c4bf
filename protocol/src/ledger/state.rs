//! What the state holds: keys, values, and proofs that a value is (or is not) in it.
//!
//! The state is an ordered map from [`StateKey`] to encoded values, authenticated by a Jellyfish
//! Merkle tree ([`jmt`]) whose root each header carries.

use serde::{Deserialize, Serialize};

pub use crate::chain::state_key::{StateKey, StateProof};
use crate::contract::{ContractId, ContractTerms, Revision};
use crate::hash::{BlockHash, Digest, digest};
use crate::units::{Amount, ChainTime, Height};

/// An account: money and a counter against replays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Money that can be spent.
    pub balance: Amount,
    /// Transactions sent.
    pub nonce: u64,
}

/// Sums that let anybody check that money is conserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Allocated at genesis.
    pub issued: Amount,
    /// Balances of all accounts.
    pub balances: Amount,
    /// Locked in contracts: funds and collateral.
    pub locked: Amount,
    /// Fees and penalties, gone for good.
    pub burned: Amount,
}

/// A contract on the ledger. Removed when it has ended and everything is paid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// What was agreed.
    pub terms: ContractTerms,
    /// Time of the block that formed it: the start of period 0.
    pub started: ChainTime,
    /// Height of that block.
    pub formed: Height,
    /// The highest revision the chain has taken. Frozen while a period is being proven.
    pub revision: Revision,
    /// Highest voucher total paid out.
    pub redeemed: Amount,
    /// What is left of the renter's funds.
    pub funds: Amount,
    /// What is left of the host's collateral.
    pub collateral: Amount,
    /// Index of the period that runs or is being proven.
    pub period: u32,
    /// Whether that period runs or is being proven.
    pub phase: ContractPhase,
    /// When the ledger looks at this contract again: the period's end, the window's end, or the next
    /// block while seeds are gathered. Its entry among the deadlines.
    pub due: ChainTime,
    /// Periods proven.
    pub proofs_kept: u32,
    /// Periods missed.
    pub proofs_missed: u32,
}

/// Where a contract is in its current period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContractPhase {
    /// The period runs.
    Running,
    /// The period has ended; its proof is due.
    Proving {
        /// First block at or after the period's end.
        opened: Height,
        /// That block's time, from which the window counts: after a halt of the chain the host has
        /// the whole window still.
        since: ChainTime,
        /// Hashes of that block and its followers, gathered until the challenge is fixed.
        seeds: Vec<BlockHash>,
    },
}

impl Contract {
    /// Number of block hashes that are mixed into a period's challenge.
    pub const SEEDS: usize = 3;

    /// End of the current period.
    #[must_use]
    pub const fn period_end(&self) -> ChainTime {
        let periods = self.period as u64 + 1;
        ChainTime(self.started.0.saturating_add(self.terms.period.0.saturating_mul(periods)))
    }

    /// End of the last period.
    #[must_use]
    pub const fn ends(&self) -> ChainTime {
        self.started.plus(self.terms.duration())
    }

    /// Whether transactions of the block of `height` cannot move the revision any more: the current
    /// period's opening block was an earlier one.
    #[must_use]
    pub const fn is_frozen(&self, height: Height) -> bool {
        match &self.phase {
            ContractPhase::Running => false,
            ContractPhase::Proving { opened, .. } => height.0 > opened.0,
        }
    }

    /// The challenge of the period that is being proven, once its seeds are all there.
    #[must_use]
    pub fn challenge(&self) -> Option<Digest> {
        match &self.phase {
            ContractPhase::Proving { seeds, .. } if seeds.len() == Self::SEEDS => {
                Some(challenge_seed(&self.terms.contract, self.period, seeds))
            }
            _ => None,
        }
    }

    /// While a period is being proven: the time and the height that a block must both have reached
    /// for the window to close. The blocks count from the one that fixes the challenge.
    #[must_use]
    pub const fn window_end(&self) -> Option<(ChainTime, Height)> {
        match &self.phase {
            ContractPhase::Running => None,
            ContractPhase::Proving { opened, since, .. } => {
                let blocks = Self::SEEDS as u64 + self.terms.window_blocks as u64;
                let height = Height(opened.0.saturating_add(blocks));
                Some((since.plus(self.terms.window), height))
            }
        }
    }
}

/// Seed of the challenge for one period of a contract: which chunks the host has to show.
///
/// `seeds` are the hashes of the period's opening block and its followers, so that neither the host
/// nor a single proposer knows or chooses it before the period is over.
#[must_use]
pub fn challenge_seed(contract: &ContractId, period: u32, seeds: &[BlockHash]) -> Digest {
    digest("samara v1 challenge seed", &(contract, period, seeds))
}
