//! Why bytes of a slab do not come back.

use samara_protocol::hash::SlabId;
use samara_protocol::signature::PublicKey;

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
    /// The node is shutting down.
    #[error("reading slab {slab} was abandoned: the node is stopping")]
    Stopped {
        /// The slab.
        slab: SlabId,
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
