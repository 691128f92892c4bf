//! What the chain is made of: validators, certificates, headers, records, transactions, blocks.
//!
//! These are the types that every node agrees on byte by byte. The rules that change the state are
//! in [`crate::ledger`]; the questions that light nodes ask are in [`query`]; how a light node decides
//! what to believe is in [`light`] and needs nothing but these types.

pub mod block;
pub mod certificate;
pub mod genesis;
pub mod header;
pub mod light;
pub mod query;
pub mod record;
pub mod state_key;
pub mod transaction;
pub mod validators;

pub use block::Block;
pub use certificate::{Certificate, CertificateError, Vote, VoteKind};
pub use genesis::{ChainParameters, Genesis, GenesisError};
pub use header::Header;
pub use light::{LightChain, LightError};
pub use record::RecoveryRecord;
pub use transaction::{Action, Transaction, TransactionBody};
pub use validators::{Validator, ValidatorSet, ValidatorSetError};
