//! The chain on this node: its store, the pool of waiting transactions, and the answers to peers.
//!
//! [`Chain`] is shared by everything that reads the chain or hands in transactions;
//! [`ChainApplication`] belongs to consensus and is the only writer of blocks. The rules are in
//! [`samara_protocol::ledger`]: nothing here decides what a block may do.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`store`], [`snapshot`], [`error`] | blocks, state and certificates in one embedded store |
//! | [`mempool`] | transactions that wait for a block |
//! | [`application`] | the chain as consensus drives it |
//! | `guard` | how far the clock of a validator that decides alone is believed |
//! | [`service`] | the answers to [`samara_protocol::chain::query::ChainRequest`] |

pub mod application;
pub mod error;
mod guard;
mod long_polls;
pub mod mempool;
pub mod service;
pub mod snapshot;
pub mod store;
mod tables;
#[cfg(test)]
mod tests;

pub use application::ChainApplication;
pub use error::{ApplicationError, StoreError};
pub use guard::ClockLead;
pub use long_polls::LONG_POLLS;
pub use mempool::{Limits, SubmitError};
pub use service::{Chain, Gossip, Relay};
pub use snapshot::Snapshot;
pub use store::{Store, VoteLog};

use std::path::Path;
use std::sync::Arc;

use samara_protocol::chain::Genesis;

use crate::clock::Clock;

/// Opens the chain in a folder; the application is for [`crate::consensus::Consensus::start`].
///
/// # Errors
/// [`StoreError`] when the folder cannot be used.
pub fn open(
    folder: &Path,
    genesis: Genesis,
    limits: Limits,
    clock: Clock,
) -> Result<(Arc<Chain>, ChainApplication), StoreError> {
    let chain = Chain::open(folder, genesis, limits, clock)?;
    let application = ChainApplication::new(Arc::clone(&chain))?;
    Ok((chain, application))
}
