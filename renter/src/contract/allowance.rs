//! What the owner allows: hosts, money, term, redundancy, prices.

use samara_protocol::chain::ChainParameters;
use samara_protocol::contract::ContractTerms;
use samara_protocol::units::{Amount, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prices::PriceLimits;

/// How many shards a slab has, and how many of them rebuild it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redundancy {
    /// Data shards, k: any so many rebuild a slab. At least 1.
    pub data: u8,
    /// All shards, n. More than `data`.
    pub total: u8,
    /// Hosts beyond k that must have committed before a slab is acknowledged.
    pub margin: u8,
}

impl Redundancy {
    /// What suits a network of so many hosts: never fewer than one lost host survived.
    #[must_use]
    pub const fn for_hosts(hosts: usize) -> Self {
        match hosts {
            0..=2 => Self { data: 1, total: 2, margin: 1 },
            3 => Self { data: 1, total: 3, margin: 1 },
            4 => Self { data: 2, total: 4, margin: 1 },
            5 => Self { data: 2, total: 5, margin: 2 },
            6..=7 => Self { data: 3, total: 6, margin: 2 },
            8..=11 => Self { data: 4, total: 8, margin: 2 },
            12..=19 => Self { data: 5, total: 12, margin: 4 },
            20..=29 => Self { data: 8, total: 20, margin: 6 },
            _ => Self { data: 10, total: 30, margin: 10 },
        }
    }

    /// Whether a slab can be cut so.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.data >= 1 && self.data < self.total
    }
}

/// What the contractor may do, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allowance {
    /// Hosts to have contracts with.
    pub hosts: u16,
    /// Money for all contracts of one term.
    #[schemars(with = "crate::schema::Coins")]
    pub funds: Amount,
    /// Length of a proof period.
    #[schemars(with = "u64")]
    pub period: Millis,
    /// Periods of a contract.
    pub periods: u32,
    /// Length of the proof window after each period.
    #[schemars(with = "u64")]
    pub window: Millis,
    /// Blocks that a proof window waits for.
    pub window_blocks: u32,
    /// k, n and margin of slabs.
    pub redundancy: Redundancy,
    /// Highest prices.
    pub limits: PriceLimits,
}

/// An allowance that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AllowanceError {
    /// Too few hosts for the redundancy.
    #[error(
        "{hosts} hosts are too few for slabs of {total} shards: allow more hosts, or a lower \
         redundancy (--redundancy K/N)"
    )]
    Hosts {
        /// Hosts allowed.
        hosts: u16,
        /// Shards, n.
        total: u8,
    },
    /// A slab cannot be cut so.
    #[error(
        "{data} of {total} is no redundancy: there must be at least one data shard, and more shards than that"
    )]
    Redundancy {
        /// Data shards, k.
        data: u8,
        /// All shards, n.
        total: u8,
    },
    /// More must be acknowledged than there are.
    #[error("k + margin = {needed} hosts to acknowledge a slab are more than its {total} shards")]
    Margin {
        /// Hosts needed.
        needed: u16,
        /// All shards, n.
        total: u8,
    },
    /// No money.
    #[error("an allowance needs money")]
    Funds,
    /// A term that the chain does not take.
    #[error("the term is refused by the chain: {0}")]
    Term(&'static str),
}

impl Allowance {
    /// Name of the journal's setting that keeps it.
    pub(crate) const SETTING: &'static str = "allowance";

    /// What suits a network of so many hosts.
    #[must_use]
    pub fn for_network(hosts: usize, funds: Amount, parameters: &ChainParameters) -> Self {
        let redundancy = Redundancy::for_hosts(hosts);
        // Some more than a slab needs, where there are: spares for hosts that fail.
        let wanted = usize::from(redundancy.total) + usize::from(redundancy.total).div_ceil(4);
        let hosts = wanted.min(hosts).max(usize::from(redundancy.total));
        let period = Millis(parameters.minimum_period.0.max(Millis::hours(24).0));
        Self {
            hosts: u16::try_from(hosts).unwrap_or(u16::MAX),
            funds,
            period,
            periods: 90,
            window: Millis(parameters.minimum_window.0.max(Millis::hours(6).0).min(period.0)),
            window_blocks: parameters.minimum_window_blocks,
            redundancy,
            limits: PriceLimits::NONE,
        }
    }

    /// Checks the numbers against each other and the chain's parameters.
    ///
    /// # Errors
    /// [`AllowanceError`] for the first that is wrong.
    pub fn check(&self, parameters: &ChainParameters) -> Result<(), AllowanceError> {
        let Redundancy { data, total, margin } = self.redundancy;
        if !self.redundancy.is_valid() {
            return Err(AllowanceError::Redundancy { data, total });
        }
        if self.hosts < u16::from(total) {
            return Err(AllowanceError::Hosts { hosts: self.hosts, total });
        }
        let needed = u16::from(data) + u16::from(margin);
        if needed > u16::from(total) {
            return Err(AllowanceError::Margin { needed, total });
        }
        if self.funds == Amount::ZERO {
            return Err(AllowanceError::Funds);
        }
        let term = |what| Err(AllowanceError::Term(what));
        match self {
            _ if self.period < parameters.minimum_period => term("the period is too short"),
            _ if self.periods == 0 || self.periods > ContractTerms::MAX_PERIODS => {
                term("the number of periods is out of range")
            }
            _ if self.window < parameters.minimum_window => term("the proof window is too short"),
            _ if self.window > self.period => term("the proof window is longer than the period"),
            _ if self.window_blocks < parameters.minimum_window_blocks => {
                term("the proof window has too few blocks")
            }
            _ => Ok(()),
        }
    }

    /// Money for one contract.
    #[must_use]
    pub const fn funds_each(&self) -> Amount {
        Amount(self.funds.0 / if self.hosts == 0 { 1 } else { self.hosts as u128 })
    }
}
