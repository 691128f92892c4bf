//! The ledger: the pure rules by which blocks change the state.
//!
//! A block is executed in one place only, [`Execution`]: proposers through [`build_block`], everybody
//! else through [`validate_block`], mempools through [`check_transaction`]. It reads the state after
//! the parent through a [`StateReader`] and gives [`StateChanges`]; nothing is written here.
//!
//! A block runs in two steps. First the deadlines that are due (see [`deadlines`]): contract periods
//! end, challenges are gathered, missed proofs are punished. Then the transactions in order; one that
//! fails makes the block invalid, so builders leave it out.
//!
//! Invariants:
//! - I3: issued = balances + locked + burned after every block; all arithmetic is checked; no message
//!   makes a rule panic.
//! - The same parent, time and transactions give the same changes on every machine.
//! - Work per block is bounded by the parameters of the genesis document.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`state`] | keys and values of the state |
//! | [`reader`] | how the state is read, and what a block changes in it |
//! | [`tree`] | state roots and proofs |
//! | [`execution`], [`block`] | how blocks and transactions run |
//! | `signers` | who must sign |
//! | [`contracts`], [`deadlines`] | the rules of contracts |
//! | [`memory`] | a state in memory |

pub mod block;
mod books;
pub mod contracts;
pub mod deadlines;
pub mod error;
pub mod execution;
mod genesis;
pub mod memory;
mod overlay;
pub mod reader;
mod signers;
pub mod state;
pub mod tree;

pub use block::{
    BuiltBlock, build_block, check_transaction, next_due, records, validate_block, wants_block,
};
pub use error::{BlockError, TransactionError};
pub use execution::Execution;
pub use genesis::genesis_state;
pub use memory::MemoryState;
pub use reader::{Deadline, StateChanges, StateError, StateReader};
pub(crate) use signers::{check_signatures, required_signers};
pub use state::challenge_seed;
pub use tree::{ProofError, prove, verify_proof};
