//! How closely slabs are watched, and how much of the line that may take.

use samara_protocol::units::Millis;

/// Settings of health and repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairOptions {
    /// Time between two looks.
    pub interval: Millis,
    /// How long a host must have been silent before its shards count as missing.
    pub patience: Millis,
    /// Bytes a second that repair moves, both ways together; 0 for no repair.
    pub bandwidth: u64,
    /// Bytes that audits read in an hour; 0 for no audits.
    pub audit_bytes: u64,
    /// Reads that audits make in an hour; 0 for no audits.
    pub audit_requests: u64,
    /// Slabs that are repaired at once, as far as the transfers' memory has room.
    pub parallel: usize,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            interval: Millis::seconds(30),
            // A host that restarts or moves costs nothing.
            patience: Millis::seconds(15 * 60),
            bandwidth: 16 << 20,
            audit_bytes: 256 << 20,
            audit_requests: 7_200,
            parallel: 2,
        }
    }
}
