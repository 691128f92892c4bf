//! Why an operation on the renter itself failed.

use samara_protocol::units::Amount;
use serde_json::json;

use crate::contract::{BookError, ContractError, ContractorError};
use crate::error::{Coded, Details, details, error_codes};
use crate::journal::JournalError;
use crate::world::{ChainError, StoreError};

impl Coded for ContractorError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoAllowance => "no_allowance",
            Self::Allowance(_) => "bad_allowance",
            Self::Balance { .. } => "no_money",
            Self::Chain(error) | Self::Host(ContractError::Chain { source: error, .. }) => {
                error.code()
            }
            Self::Fenced { .. } | Self::Host(ContractError::Fenced { .. }) => "fenced",
            Self::Host(ContractError::OutOfMoney { .. }) => "contract_out_of_money",
            Self::Store(error) | Self::Host(ContractError::Store { source: error, .. }) => {
                error.code()
            }
            Self::Book(_) => "contract_table",
            _ => "contractor",
        }
    }
}

/// Why a renter could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The contract table.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The contractor's store.
    #[error(transparent)]
    Contractor(#[from] ContractorError),
}

error_codes!(OpenError {
    Self::Store(error) => error.code(),
    Self::Journal(error) => error.code(),
    Self::Book(_) => "contract_table",
    Self::Contractor(error) => error.code(),
});

/// Why an operation on the renter itself failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenterError {
    /// It was started or recovered before.
    #[error("this node has started already")]
    Started,
    /// A recovery is under way or was not finished.
    #[error(
        "a recovery was started and has not ended: its names are not known yet, let it end first"
    )]
    Recovering,
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The contractor.
    #[error(transparent)]
    Contractor(#[from] ContractorError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// More money than there is.
    #[error("the account holds {balance}; {needed} are needed")]
    Money {
        /// What it holds.
        balance: Amount,
        /// Amount and fee.
        needed: Amount,
    },
}

impl RenterError {
    /// Money that there is and that is needed, for programs.
    #[must_use]
    pub fn details(&self) -> Details {
        match self {
            Self::Money { balance, needed } => {
                details([("balance", json!(balance)), ("needed", json!(needed))])
            }
            _ => Details::new(),
        }
    }
}

error_codes!(details RenterError {
    Self::Started => "started",
    Self::Recovering => "recovering",
    Self::Journal(error) => error.code(),
    Self::Contractor(error) => error.code(),
    Self::Chain(error) => error.code(),
    Self::Money { .. } => "no_money",
});

#[cfg(test)]
mod tests {
    use samara_protocol::signature::PublicKey;
    use samara_protocol::units::Epoch;

    use super::*;

    #[test]
    fn a_fence_keeps_its_code_inside_the_contractor() {
        let promised = Epoch::default();
        let error = RenterError::from(ContractorError::Fenced { promised });
        assert_eq!(error.code(), "fenced");
        let inner = ContractError::Fenced { host: PublicKey([1; 32]), promised };
        assert_eq!(RenterError::from(ContractorError::Host(inner)).code(), "fenced");
    }
}
