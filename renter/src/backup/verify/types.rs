//! What is asked of a verification, and what is answered.

use samara_protocol::units::Amount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive::Passphrase;
use crate::backup::types::BackupKind;

/// All of the data, in per mille.
pub(super) const ALL: u16 = 1_000;
/// Problems that are told one by one.
const PROBLEMS: usize = 1_000;

/// How to verify a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyOptions {
    /// How many of its slabs are read back, in per mille; 1,000 for all, which is also taken for more. Which,
    /// is drawn anew each time. Of an archive all is read in any case.
    pub read_data: u16,
    /// Whether each shard of these slabs, and of those with metadata, is read from its own host.
    pub every_shard: bool,
    /// Only say what it would cost.
    pub dry_run: bool,
    /// The most that it may cost; the price of the moment if none is given.
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub max_price: Option<Amount>,
    /// What opens an archive that is encrypted. Without it the file is compared, and not what is in it.
    pub passphrase: Option<Passphrase>,
}

/// What the last verification of a backup has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When it ended, milliseconds since the Unix epoch on the node's clock.
    pub time: u64,
    /// The same by the chain's time.
    pub chain_time: u64,
    /// Slabs that were read back, in per mille.
    pub share: u16,
    /// Whether nothing was wrong.
    pub sound: bool,
    /// Problems that were found.
    pub problems: u64,
}

/// What a verification has read, and what was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// The backup's id in hex.
    pub sid: String,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: BackupKind,
    /// Whether nothing was read but the price.
    pub dry_run: bool,
    /// Whether nothing was wrong with what was read; of a dry run it says nothing.
    pub sound: bool,
    /// Slabs that were to be read back, in per mille.
    pub share: u16,
    /// Hosts that showed a head which holds the backup.
    pub heads_ok: u64,
    /// Hosts that must.
    pub heads_needed: u64,
    /// Hosts that were asked.
    pub heads_total: u64,
    /// Nodes of its trees that were read, the root included.
    pub nodes: u64,
    /// Their bytes.
    pub node_bytes: u64,
    /// Slabs that its files lie in.
    pub slabs_total: u64,
    /// Slabs of which files were read.
    pub slabs: u64,
    /// Plaintext bytes read.
    pub slab_bytes: u64,
    /// Files' contents that were read whole and have their hash.
    pub files: u64,
    /// Shards that were read from their own hosts.
    pub shards: u64,
    /// Bytes of an archive's file that were read.
    pub file_bytes: u64,
    /// Events of an archive that were read and follow each other; none of one that was not opened.
    pub events: u64,
    /// The most that it costs.
    #[schemars(with = "crate::schema::Coins")]
    pub price: Amount,
    /// What it has cost.
    #[schemars(with = "crate::schema::Coins")]
    pub cost: Amount,
    /// What was wrong: the first thousand.
    pub problems: Vec<VerifyProblem>,
    /// All of these.
    pub problems_total: u64,
    /// Milliseconds that it took.
    pub elapsed: u64,
}

/// What something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyProblemKind {
    /// Too few hosts show a head that holds the backup.
    Heads,
    /// A part of its metadata cannot be had from the hosts.
    Metadata,
    /// A file cannot be had from the hosts, or is not what was stored.
    File,
    /// A host does not give a shard that it should have.
    Shard,
    /// An archive's file is not what was written, or is gone.
    Archive,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyProblem {
    /// With what.
    pub kind: VerifyProblemKind,
    /// The vault and path, of a file.
    pub file: Option<String>,
    /// The slab in hex, if it is about one.
    pub slab: Option<String>,
    /// Hosts that did not do their part.
    pub hosts: Vec<VerifyHost>,
    /// What was attempted, and what went wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// A host that did not do its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyHost {
    /// Its identity key in hex; nothing if it is not known any more.
    pub host: Option<String>,
    /// What it said, or what is wrong with it.
    pub reason: String,
}

impl VerifyReport {
    /// Counts a problem and tells it, if there is room.
    pub(super) fn note(&mut self, problem: VerifyProblem) {
        self.problems_total = self.problems_total.saturating_add(1);
        if self.problems.len() < PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Counts problems that are not told.
    pub(super) fn note_untold(&mut self, count: u64) {
        self.problems_total = self.problems_total.saturating_add(count);
    }
}
