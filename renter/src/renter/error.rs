//! Why an operation on the renter itself failed.

use samara_protocol::units::Amount;

use crate::contract::{BookError, ContractorError};
use crate::error::error_codes;
use crate::journal::JournalError;
use crate::world::{ChainError, StoreError};

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
    Self::Contractor(_) => "contractor",
});

/// Why an operation on the renter itself failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenterError {
    /// It was started or recovered before.
    #[error("this node has started already")]
    Started,
    /// A recovery is under way or was not finished.
    #[error("a recovery was started and has not ended: let it end first")]
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

error_codes!(RenterError {
    Self::Started => "started",
    Self::Recovering => "recovering",
    Self::Journal(error) => error.code(),
    Self::Contractor(ContractorError::NoAllowance) => "no_allowance",
    Self::Contractor(ContractorError::Allowance(_)) => "bad_allowance",
    Self::Contractor(ContractorError::Balance { .. }) => "no_money",
    Self::Contractor(ContractorError::Chain(error)) => error.code(),
    Self::Contractor(_) => "contractor",
    Self::Chain(error) => error.code(),
    Self::Money { .. } => "no_money",
});
