//! What health and repair say of themselves.

use samara_protocol::hash::SlabId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health::SlabCounts;

/// Health in one line of the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthSummary {
    /// When all slabs were last counted, milliseconds since the Unix epoch; nothing before the first time.
    pub counted: Option<u64>,
    /// Slabs of files and of the journal together.
    pub slabs: SlabCounts,
    /// Slabs that are being repaired.
    pub repairing: u64,
    /// Slabs that want repair and are not done.
    pub waiting: u64,
    /// How many of them were tried in vain, and are tried again later.
    pub held_total: u64,
    /// Bytes of sectors that the repair of the others moves at most, both ways together.
    pub waiting_bytes: u64,
    /// How long that takes at least within the limits, in seconds; nothing if repair is switched off.
    pub waiting_seconds: Option<u64>,
    /// Why repair does nothing at present, if it does not.
    pub idle: Option<String>,
}

/// Everything about the health of slabs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// When all slabs were last counted, milliseconds since the Unix epoch; nothing before the first time.
    pub counted: Option<u64>,
    /// Why repair does nothing at present, if it does not.
    pub idle: Option<String>,
    /// Slabs of files.
    pub data: SlabCounts,
    /// Slabs of the journal: names.
    pub metadata: SlabCounts,
    /// Slabs of files that are not among those unreadable or lost, and that too few hosts answered for
    /// lately: those who answer again soon bring them back.
    pub unanswered: u64,
    /// Shards that their hosts have lost and that are not replaced yet.
    pub lost_shards: u64,
    /// Slabs that want repair and are not done.
    pub waiting: u64,
    /// How many of them were tried in vain, and are tried again later.
    pub held_total: u64,
    /// Bytes of sectors that the repair of the others moves at most, both ways together.
    pub waiting_bytes: u64,
    /// How long that takes at least within the limits, in seconds; nothing if repair is switched off.
    pub waiting_seconds: Option<u64>,
    /// Why repairs that were tried wait, by slab.
    pub held: Vec<HeldRow>,
    /// Repairs under way.
    pub repairing: Vec<RepairingRow>,
    /// Hosts whose shards do not count.
    pub hosts: Vec<UnsoundHostRow>,
    /// What was read to see whether the hosts have what they should.
    pub audits: AuditTotals,
    /// The last repairs, oldest first.
    pub story: Vec<StoryRow>,
    /// Files of which a version cannot be read now; at most [`HealthReport::MOST_FILES`].
    pub affected: Vec<AffectedFile>,
    /// How many such files there are.
    pub affected_total: u64,
    /// What hosts did lately that people may want to know, oldest first.
    pub incidents: Vec<IncidentRow>,
}

impl HealthReport {
    /// Most files that a report names.
    pub const MOST_FILES: usize = 1_000;
}

/// A repair that did not work and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldRow {
    /// The slab, in hex.
    pub slab: String,
    /// When it is tried again at the latest, milliseconds since the Unix epoch.
    pub until: u64,
    /// Why it did not work.
    pub reason: String,
}

/// A repair under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepairingRow {
    /// The slab, in hex.
    pub slab: String,
    /// Whether names lie in it.
    pub metadata: bool,
    /// Since when, milliseconds since the Unix epoch.
    pub since: u64,
    /// The shards that are missing, and why.
    pub missing: Vec<String>,
}

/// A host whose shards do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnsoundHostRow {
    /// Its identity key in hex.
    pub host: String,
    /// Who runs it, as it says.
    pub operator: String,
    /// Whether its shards are put elsewhere whatever comes.
    pub for_good: bool,
    /// Why.
    pub reason: String,
}

/// What audits have done since this node's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditTotals {
    /// Slabs looked at.
    pub slabs: u64,
    /// Shards of which a range was read and proven.
    pub proven: u64,
    /// Shards that their hosts did not give, or gave with other bytes.
    pub failed: u64,
    /// Shards whose hosts did not answer.
    pub unanswered: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Rounds over all slabs that are done.
    pub rounds: u64,
    /// The last audits that failed, oldest first.
    pub last_failures: Vec<AuditRow>,
    /// When the last slab was looked at, milliseconds since the Unix epoch.
    pub last: Option<u64>,
}

/// One audit that found something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRow {
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// The slab, in hex.
    pub slab: String,
    /// The host, in hex.
    pub host: String,
    /// What it found.
    pub what: String,
}

/// One repair that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoryRow {
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// The slab, in hex.
    pub slab: String,
    /// Whether names lie in it.
    pub metadata: bool,
    /// Whether the journal knows new places of shards now.
    pub repaired: bool,
    /// What was done and why, in plain words.
    pub what: Vec<String>,
}

/// A file of which a version cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct AffectedFile {
    /// Its vault.
    pub vault: String,
    /// Its path.
    pub path: String,
    /// Whether the version that is listed cannot be read; else only older ones.
    pub current: bool,
}

/// Something that a host did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentRow {
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// The host, in hex.
    pub host: String,
    /// What it did.
    pub what: String,
}

/// A slab under repair, before it is a row.
#[derive(Clone, Debug)]
pub(super) struct Repairing {
    pub(super) metadata: bool,
    pub(super) since: u64,
    pub(super) missing: Vec<String>,
}

impl Repairing {
    pub(super) fn row(&self, slab: &SlabId) -> RepairingRow {
        let Self { metadata, since, missing } = self.clone();
        RepairingRow { slab: slab.to_string(), metadata, since, missing }
    }
}
