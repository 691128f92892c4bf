//! What the collector says of itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was freed since this node started, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GarbageReport {
    /// Slabs that nothing names and that are not released yet, but for those that a put may go on from.
    pub unused: u64,
    /// Slabs in use of which less than half is used.
    pub thin: u64,
    /// Bytes of files that only backups keep.
    pub held: u64,
    /// Sectors that left their contracts.
    pub freed_sectors: u64,
    /// Their bytes at the hosts.
    pub freed_bytes: u64,
    /// Of these sectors, those that only an audit found.
    pub orphans: u64,
    /// Slabs that were rewritten.
    pub rewritten_slabs: u64,
    /// Bytes of files that moved into other slabs.
    pub rewritten_bytes: u64,
    /// Hosts at which something waits to be freed.
    pub waiting: Vec<GarbageHostRow>,
    /// Why nothing is freed by this node, if nothing is.
    pub halted: Option<String>,
    /// Why the last round stopped before its end, if it did.
    pub problem: Option<String>,
}

/// A host at which sectors wait to be freed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GarbageHostRow {
    /// The host's identity key in hex.
    pub host: String,
    /// Sectors of released slabs.
    pub sectors: u64,
    /// Sectors that nothing names, not freed before they have been so for a while.
    pub suspects: u64,
    /// Why they wait, in plain words.
    pub reason: String,
}
