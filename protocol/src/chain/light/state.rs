//! What a light chain holds: the point it trusts, and headers that are linked to it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::chain::header::Header;
use crate::chain::query::Finalized;
use crate::chain::validators::ValidatorSet;
use crate::hash::{BlockHash, Digest};
use crate::units::{ChainTime, Height};

/// The newest block a light node believes in, with the set that decides what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedPoint {
    /// The certified header; nothing before the first block.
    pub tip: Option<Finalized>,
    /// The set that decides the next block; if `tip` changed the set and the new one is not known
    /// yet, the set that decided `tip`.
    pub validators: ValidatorSet,
}

impl TrustedPoint {
    /// Height of the point, 0 for the genesis.
    #[must_use]
    pub fn height(&self) -> Height {
        self.tip.as_ref().map_or(Height(0), |tip| tip.header.height)
    }
}

/// Headers that are linked to the trusted point by hashes and covered by no certificate yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Linked {
    pub(super) head: Header,
    /// Those that change the validator set; at most one batch, since no batch is asked for while any is left.
    pub(super) changes: VecDeque<Header>,
}

/// Everything that must survive a restart. Encode it with [`crate::encoding`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LightState {
    pub(super) version: u8,
    pub(super) genesis: BlockHash,
    pub(super) point: TrustedPoint,
    pub(super) linked: Option<Linked>,
}

impl LightState {
    pub(super) const VERSION: u8 = 1;
}

/// What the next header must connect to.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) height: Height,
    pub(super) hash: BlockHash,
    pub(super) time: ChainTime,
    pub(super) next_validators: Digest,
}

impl Link {
    pub(super) fn of(header: &Header) -> Self {
        Self {
            height: header.height,
            hash: header.hash(),
            time: header.time,
            next_validators: header.next_validators,
        }
    }
}
