//! Names of the values in the state, and proofs of them, as they travel. What the values are and how
//! they are proven is the ledger's.

use serde::{Deserialize, Serialize};

use crate::signature::PublicKey;

/// Name of a value in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StateKey {
    /// An [`Account`](crate::ledger::state::Account).
    Account(PublicKey),
    /// A [`crate::contract::announcement::HostAnnouncement`].
    Host(PublicKey),
    /// A [`Contract`](crate::ledger::state::Contract).
    Contract(PublicKey),
    /// The [`Totals`](crate::ledger::state::Totals).
    Totals,
    /// The validator set that decides the next block.
    Validators,
}

/// Proof that a key has a value, or has none, under a state root: an encoded [`jmt`] proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateProof(#[serde(with = "serde_bytes")] pub Vec<u8>);
