//! The owner of the journal: makes entries, and acknowledges them when a quorum of heads holds them.
//!
//! ```text
//! append -> entries made -> durable here -> head set written (append, or full put) -> quorum -> answer
//!                                             |                                        |
//!                                a host fails: left behind, brought up later      spill, settle
//! ```
//!
//! Invariants: an append answers only when a write quorum of the head set has confirmed it with signed
//! receipts (B1); no host sees an entry that is not durable here, and an entry that a host may hold is
//! completed and never replaced by another at its position; a nonce is drawn for each sealing (I8); a
//! change of the head set is held by quorums of both sets before the old one is let go (I1). Once
//! fenced, nothing is written any more. Owner of all state is one task; readers share the fold of what
//! is acknowledged.

mod advance;
mod checkpointing;
mod error;
mod handle;
mod image;
mod local;
mod members;
mod message;
mod owner;
mod slot;
mod spill;

pub use error::JournalError;
pub use handle::Journal;
pub use local::Mode;
pub(crate) use local::moved_by;
pub use members::{Candidate, choose};
pub(crate) use message::Adopted;
pub use message::{HeadHost, JournalOptions, JournalStatus, SettleReport};
