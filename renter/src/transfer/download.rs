//! Ranges of slabs back from their hosts.

use std::ops::Range;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::SlabRecord;
use samara_protocol::signature::PublicKey;

use super::options::TransferOptions;
use super::stream::{ExtentReader, SlabRange};
use crate::contract::{ContractBook, ContractError};

/// Why bytes of a slab could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DownloadError {
    /// Fewer than k hosts gave their part.
    #[error("slab {slab}: {answered} of the {needed} hosts needed gave their part; missing: {}",
        list_missing(.missing))]
    TooFewHosts {
        /// The slab.
        slab: SlabId,
        /// Hosts that answered.
        answered: usize,
        /// Hosts needed, k.
        needed: usize,
        /// Hosts that did not, and why.
        missing: Vec<(Option<PublicKey>, String)>,
    },
    /// No host has a descriptor that the record accepts.
    #[error("slab {slab}: no host has its descriptor; missing: {}", list_missing(.missing))]
    NoDescriptor {
        /// The slab.
        slab: SlabId,
        /// Hosts asked, and what they said.
        missing: Vec<(Option<PublicKey>, String)>,
    },
    /// The record does not describe a slab.
    #[error("slab {slab}: {reason}")]
    Malformed {
        /// The slab.
        slab: SlabId,
        /// What is wrong.
        reason: String,
    },
    /// A range outside of the slab.
    #[error("slab {slab} has no bytes {start}..{end}")]
    Range {
        /// The slab.
        slab: SlabId,
        /// First byte.
        start: u32,
        /// First byte after it.
        end: u32,
    },
}

fn list_missing(hosts: &[(Option<PublicKey>, String)]) -> String {
    let name = |host: &Option<PublicKey>| host.map_or("unknown host".into(), |host| host.short());
    hosts
        .iter()
        .map(|(host, reason)| format!("{}: {reason}", name(host)))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reads slabs. A cheap clone.
#[derive(Clone)]
pub struct Downloader {
    book: ContractBook,
    options: TransferOptions,
}

impl Downloader {
    /// A downloader over the live contracts of a book.
    #[must_use]
    pub fn new(book: ContractBook, options: TransferOptions) -> Self {
        Self { book, options }
    }

    /// Plaintext bytes `range` of a slab.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn read(
        &self,
        record: &SlabRecord,
        range: Range<u32>,
    ) -> Result<Vec<u8>, DownloadError> {
        let _ = (record, range, &self.book, &self.options, None::<ContractError>);
        todo!()
    }

    /// A list of ranges as one stream of bytes, at most two read ahead.
    #[must_use]
    pub fn stream(&self, ranges: Vec<SlabRange>) -> ExtentReader {
        ExtentReader::new(self.clone(), ranges)
    }
}
