//! Why the table could not be read or changed.

use samara_protocol::contract::ContractId;
use samara_protocol::encoding::DecodeError;
use samara_protocol::journal::HostIndex;
use samara_protocol::signature::PublicKey;

use crate::world::StoreError;

/// Why the table could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of the store does not decode.
    #[error("the contract table is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// A number that is taken by another host.
    #[error("host number {index} is taken by {taken}, not {host}",
        index = .index.0, taken = .taken.short(), host = .host.short())]
    IndexTaken {
        /// The number.
        index: HostIndex,
        /// Who has it.
        taken: PublicKey,
        /// Who was to get it.
        host: PublicKey,
    },
    /// A contract with a host that has no number yet.
    #[error("host {host} has no number in the table", host = .host.short())]
    UnknownHost {
        /// The host.
        host: PublicKey,
    },
    /// A contract whose key does not derive from its nonce: somebody else's.
    #[error("contract {contract} does not belong to these words", contract = .contract.short())]
    Foreign {
        /// The contract.
        contract: ContractId,
    },
    /// A status that is not signed by both sides.
    #[error("the status of contract {contract} is not signed by both sides",
        contract = .contract.short())]
    Unsigned {
        /// The contract.
        contract: ContractId,
    },
    /// All 65,536 host numbers are given out.
    #[error("the host table is full")]
    Full,
}
