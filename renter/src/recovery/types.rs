//! What is asked of a recovery, and what is answered.

use samara_protocol::signature::PublicKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to recover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RecoveryOptions {
    /// Forget the progress of earlier runs and scan from the first block.
    pub restart: bool,
    /// Only read: claim nothing, so that a node that still writes goes on.
    pub read_only: bool,
    /// Accept a chain whose newest block is this old, in milliseconds: for one that is known to have
    /// halted. The network's own bound if none.
    pub maximum_age: Option<u64>,
    /// Silent hosts that will not come back: if a takeover waits for them, they are given up on the
    /// chain, and never count for the journal again.
    #[serde(with = "as_text")]
    #[schemars(with = "Vec<String>")]
    pub give_up: Vec<PublicKey>,
    /// Give up every silent host.
    pub give_up_silent: bool,
}

/// Keys as people see them, in hex.
mod as_text {
    use samara_protocol::signature::PublicKey;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        keys: &[PublicKey],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        texts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PublicKey>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let parse = |text: String| text.parse().map_err(|_| D::Error::custom("not a host's key"));
        texts.into_iter().map(parse).collect()
    }
}

/// Where a recovery is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryPhase {
    /// None was started.
    #[default]
    Idle,
    /// The chain is read for the seed's contracts.
    Scanning {
        /// Blocks seen.
        blocks_done: u64,
        /// Blocks there are, as far as known.
        blocks_known: Option<u64>,
        /// Contracts of this seed found so far.
        contracts_found: u64,
        /// Blocks a second.
        rate: Option<u64>,
        /// Seconds that the rest takes at that rate.
        seconds_left: Option<u64>,
    },
    /// Contracts are checked, and their hosts asked for a promise and their heads.
    Claiming {
        /// Hosts that answered.
        hosts_answered: u64,
        /// Hosts that are asked.
        hosts_asked: u64,
    },
    /// The newest head's journal is fetched and replayed.
    Adopting {
        /// Parts of the journal fetched.
        segments_done: u64,
        /// Parts it has.
        segments_total: u64,
    },
    /// The head is written under the new epoch; contracts and money are taken over.
    TakingOver {
        /// Hosts that hold the head under the new epoch.
        hosts_written: u64,
    },
    /// Everything is this node's again.
    Done,
    /// Names and files can be read; nothing can be written.
    ReadOnly,
    /// The seed owns nothing on this chain.
    NothingFound {
        /// Chain peers that answered.
        peers: u64,
        /// Blocks that were checked.
        blocks: u64,
    },
}

/// Where a recovery is, and whether it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryStatus {
    /// Whether it runs at this moment.
    pub running: bool,
    /// How far it is.
    pub progress: RecoveryPhase,
    /// What it came to, once it did.
    pub report: Option<RecoveryReport>,
    /// What ended the last run, if it failed.
    pub problem: Option<String>,
}

/// What a recovery brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryReport {
    /// How it ended: [`RecoveryPhase::Done`], [`RecoveryPhase::ReadOnly`] or
    /// [`RecoveryPhase::NothingFound`].
    pub outcome: RecoveryPhase,
    /// Chain peers that answered during the scan.
    pub peers: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Contracts found in them.
    pub contracts_found: u64,
    /// Of them, contracts that live.
    pub contracts_live: u64,
    /// Hosts that answered.
    pub hosts_answered: Vec<RecoveryHost>,
    /// Hosts that did not, or not usably, and why.
    pub hosts_silent: Vec<RecoveryHost>,
    /// Hosts that showed an older state than others prove they held.
    pub hosts_behind: Vec<RecoveryHost>,
    /// The head sets of the newest head, each of which must be heard: its own first, then those that it
    /// leaves.
    pub head_sets: Vec<HeadSetRow>,
    /// Contracts of these words that another node has used beside the one whose files these are. They
    /// are left alone; their money comes back when they end.
    #[serde(default)]
    pub others: Vec<RecoveryHost>,
    /// Hosts that hold changes of a copy of the node that ran beside it, or of its folder put back.
    /// They were never acknowledged, and are left out.
    #[serde(default)]
    pub parted: Vec<RecoveryHost>,
    /// Journal position that was brought back.
    pub position: u64,
    /// Vaults brought back.
    pub vaults: u64,
    /// Files listed in them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Backups brought back.
    pub backups: u64,
    /// What may be missing, in plain words; nothing if nothing can be.
    pub may_be_missing: Option<String>,
    /// What to do next, in plain words.
    pub next: Option<String>,
    /// Grains moved from the old account to this node's.
    #[schemars(with = "crate::schema::Coins")]
    pub money_moved: samara_protocol::units::Amount,
    /// Milliseconds that the last run took.
    pub elapsed: u64,
}

/// A head set in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeadSetRow {
    /// Identity keys of its hosts in hex.
    pub hosts: Vec<String>,
    /// Of them, hosts that showed a head that counts.
    pub heard: usize,
    /// Of them, hosts whose contract has ended on the chain or was given up there.
    pub ended: usize,
    /// Hosts that must be heard to be certain of the newest head.
    pub needed: usize,
}

/// A host in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryHost {
    /// Identity key in hex.
    pub host: String,
    /// Contract in hex.
    pub contract: String,
    /// What is to be said of it.
    pub reason: String,
}
