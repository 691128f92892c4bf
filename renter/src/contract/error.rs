//! Why an operation on a contract failed. Every variant names the host.

use samara_protocol::contract::ContractId;
use samara_protocol::host::message::Refusal;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, Epoch};

use crate::world::{ChainError, HostCallError, StoreError};

/// Why a call under a contract gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The host could not be reached, did not answer in time, or gave an answer that breaks the
    /// protocol, does not verify or goes back in time.
    #[error(transparent)]
    Call(#[from] HostCallError),
    /// The host refused.
    #[error("host {host} refused: {refusal}", host = .host.short())]
    Refused {
        /// The host.
        host: PublicKey,
        /// Why.
        refusal: Refusal,
    },
    /// Another node writes for these words now: this one must stop.
    #[error("another node has taken over with epoch {promised}; host {host} says so",
        host = .host.short())]
    Fenced {
        /// The host that said so, or the one that was about to be asked.
        host: PublicKey,
        /// The epoch that was promised to the other node.
        promised: Epoch,
    },
    /// The contract's funds do not cover the call.
    #[error("contract {contract} with host {host} is out of money: {needed} needed in all, {funds} locked",
        contract = .contract.short(), host = .host.short())]
    OutOfMoney {
        /// The host.
        host: PublicKey,
        /// The contract.
        contract: ContractId,
        /// Voucher total that the call would need.
        needed: Amount,
        /// What vouchers may sum up to.
        funds: Amount,
    },
    /// The contract's funds do not cover what would be stored under it.
    #[error("contract {contract} with host {host} has too little money: {reason}",
        contract = .contract.short(), host = .host.short())]
    Unfunded {
        /// The host.
        host: PublicKey,
        /// The contract.
        contract: ContractId,
        /// What it lacks, as the host says.
        reason: String,
    },
    /// The operation may not spend so much.
    #[error("asking host {host} costs {needed}, more than is left of the price that was agreed to",
        host = .host.short())]
    OverBudget {
        /// The host.
        host: PublicKey,
        /// What the call costs.
        needed: Amount,
    },
    /// The host raised its prices above the allowance's limits.
    #[error("host {host} asks {asked} for {what}, more than the allowed {limit}",
        host = .host.short())]
    TooExpensive {
        /// The host.
        host: PublicKey,
        /// Which price.
        what: &'static str,
        /// What it asks.
        asked: Amount,
        /// What the allowance permits.
        limit: Amount,
    },
    /// The renter's own store failed.
    #[error("while working with host {host}: {source}", host = .host.short())]
    Store {
        /// The host.
        host: PublicKey,
        /// What failed.
        source: StoreError,
    },
    /// The chain could not be asked.
    #[error("while working with host {host}: {source}", host = .host.short())]
    Chain {
        /// The host.
        host: PublicKey,
        /// What failed.
        source: ChainError,
    },
    /// The node is shutting down.
    #[error("the commit to host {host} was abandoned: the node is stopping", host = .host.short())]
    Stopped {
        /// The host.
        host: PublicKey,
    },
}

impl ContractError {
    /// The host that the error is about.
    #[must_use]
    pub const fn host(&self) -> &PublicKey {
        match self {
            Self::Call(error) => error.host(),
            Self::Refused { host, .. }
            | Self::Fenced { host, .. }
            | Self::OutOfMoney { host, .. }
            | Self::Unfunded { host, .. }
            | Self::OverBudget { host, .. }
            | Self::TooExpensive { host, .. }
            | Self::Store { host, .. }
            | Self::Chain { host, .. }
            | Self::Stopped { host } => host,
        }
    }

    /// Whether the contract lacks money, which an allowance brings.
    #[must_use]
    pub const fn is_money(&self) -> bool {
        matches!(self, Self::OutOfMoney { .. } | Self::Unfunded { .. })
    }

    /// Whether a read shows that its host does not have the sector, or not with the bytes of its name.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Call(HostCallError::False { .. })
                | Self::Refused { refusal: Refusal::UnknownSector(_) | Refusal::Damaged(_), .. }
                | Self::Refused { refusal: Refusal::UnknownContract(_), .. }
        )
    }

    /// Whether the call may have taken effect although no answer came.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Call(_))
    }
}
