//! Recovery records: the breadcrumbs by which a seed finds its contracts again.
//!
//! Each formation and renewal leaves one. A scanner that holds the seed's tag key tests a record with
//! one keyed hash; a match counts only if the key derived from the nonce *is* the contract key, so a
//! copied tag leads nowhere (invariant I10).

use serde::{Deserialize, Serialize};

use crate::hash::{ContractNonce, RecordTag};
use crate::signature::PublicKey;

/// One contract in the scan: 96 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryRecord {
    /// Random bytes from which the contract's key derives.
    pub nonce: ContractNonce,
    /// Keyed hash of nonce and host under the seed's tag key.
    pub tag: RecordTag,
    /// The host's identity key.
    pub host: PublicKey,
    /// The contract's key, which is also its id.
    pub contract: PublicKey,
}
