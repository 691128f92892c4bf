//! What a block commits to of the recovery records that it leaves.

pub use crate::contract::record::RecoveryRecord;
use crate::hash::{Digest, digest};

/// Digest of a block's records, in the order of their transactions.
#[must_use]
pub fn records_root(records: &[RecoveryRecord]) -> Digest {
    digest("samara v1 recovery records", records)
}
