//! Blocks: a header and the transactions it commits to.

use serde::{Deserialize, Serialize};

use super::header::Header;
use super::transaction::Transaction;
use crate::hash::{Digest, TransactionId, digest};

/// A header with its transactions, as proposed and as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions in order.
    pub transactions: Vec<Transaction>,
}

/// Digest of the ordered list of transaction ids and of their signatures.
///
/// Signatures are covered so that a block's bytes are fixed by its hash; ids alone leave them out.
#[must_use]
pub fn transactions_root(transactions: &[Transaction]) -> Digest {
    let entries: Vec<(TransactionId, Digest)> = transactions
        .iter()
        .map(|tx| (tx.id(), digest("samara v1 transaction signatures", &tx.signatures)))
        .collect();
    digest("samara v1 transactions", &entries)
}
