//! What a renter says of itself, its hosts, contracts and money.

use samara_protocol::units::Amount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::garbage::GarbageReport;
use crate::recovery::RecoveryPhase;
use crate::repair::HealthSummary;

/// How safe an acknowledged change is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is not known yet which hosts hold it: not all were asked since the start.
    #[default]
    Checking,
    /// A write quorum of the head set holds it: it comes back from the words.
    Acknowledged,
    /// The heads of all contracts that count hold it.
    Settled,
}

/// What this node may do for its words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RenterState {
    /// Neither started fresh nor recovered yet: it is not known what these words own.
    #[default]
    Fresh,
    /// It writes.
    Active,
    /// Recovered without a quorum: it lists and reads, and acknowledges nothing.
    ReadOnly,
    /// Another node has taken over; this one has stopped writing.
    Fenced {
        /// Epoch of the other node.
        by: String,
    },
    /// A recovery is under way.
    Recovering {
        /// How far it is.
        progress: RecoveryPhase,
    },
}

/// A renter at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenterStatus {
    /// What it may do.
    #[serde(flatten)]
    pub state: RenterState,
    /// Its epoch: counter and writer.
    pub epoch: String,
    /// Journal entries acknowledged.
    pub position: u64,
    /// Journal entries made and not yet acknowledged.
    pub unacknowledged: u64,
    /// Journal entries settled: the heads of all contracts that count have held so many.
    #[serde(default)]
    pub settled_position: u64,
    /// Vaults.
    pub vaults: u64,
    /// Files that are listed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Backups.
    pub backups: u64,
    /// Hosts with live contracts.
    pub hosts: u64,
    /// Hosts whose heads make an acknowledgement.
    pub head_set: Vec<HeadHostRow>,
    /// Hosts with live contracts that hold the newest acknowledged head.
    pub settled: u64,
    /// Contracts that are on their way; nothing if nobody has looked for hosts since the start.
    #[serde(default)]
    pub forming: Option<u64>,
    /// Hosts with live contracts that do not answer.
    #[serde(default)]
    pub unreachable: u64,
    /// Hosts that refuse because the contract has ended, though this node's chain shows it live.
    #[serde(default)]
    pub ended: u64,
    /// Slabs in use of which so few shards are within reach that one more lost host loses files.
    #[serde(default)]
    pub bare: u64,
    /// Slabs in use of which too few shards are within reach to read them.
    #[serde(default)]
    pub unreadable: u64,
    /// Contracts whose money suffices for no further file of some size, and the allowance adds none.
    #[serde(default)]
    pub poor: u64,
    /// The health of slabs.
    #[serde(default)]
    pub health: HealthSummary,
    /// Why the last change was not acknowledged, if it was not; or why this node does not write.
    pub problem: Option<String>,
    /// Contracts that will end without a successor as things stand, the first to end first.
    pub lapses: Vec<LapseRow>,
    /// What was freed at hosts, and what waits to be.
    #[serde(default)]
    pub garbage: GarbageReport,
}

/// A contract that is not going to be renewed. Its host may drop its data after the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LapseRow {
    /// The contract's id in hex.
    pub contract: String,
    /// The host's identity key in hex.
    pub host: String,
    /// Who runs the host, as it says.
    pub operator: String,
    /// Bytes stored under it.
    pub bytes: u64,
    /// When it ends, milliseconds of chain time since 1970.
    pub ends: u64,
    /// Why it is not renewed, in plain words.
    pub reason: String,
}

/// What is going to become of a contract when its term ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RenewalState {
    /// It is renewed by itself.
    Planned {
        /// From this chain time on, milliseconds since 1970; earlier if its money runs out.
        from: u64,
    },
    /// Both sides have signed the renewal, and it waits for a block.
    Agreed {
        /// Chain time at which it is tried again if no block has it.
        until: u64,
    },
    /// As things stand it ends without a successor.
    Lapses {
        /// Why, in plain words.
        reason: String,
    },
}

/// A host of the head set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeadHostRow {
    /// Identity key in hex.
    pub host: String,
    /// Journal position that it holds, if known.
    pub position: Option<u64>,
    /// Why it was left behind, if it was.
    pub problem: Option<String>,
}

/// A contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContractRow {
    /// Its id in hex.
    pub contract: String,
    /// The host's identity key in hex.
    pub host: String,
    /// Who runs the host, as it says.
    pub operator: String,
    /// Bytes stored under it.
    pub bytes: u64,
    /// Number of its latest revision.
    pub revision: u64,
    /// Locked from the renter's account.
    #[schemars(with = "crate::schema::Coins")]
    pub funds: Amount,
    /// Spent on transfers so far.
    #[schemars(with = "crate::schema::Coins")]
    pub spent: Amount,
    /// Length of the whole contract, milliseconds of chain time.
    pub duration: u64,
    /// Length of one proof period, milliseconds of chain time.
    pub period: u64,
    /// Number of periods.
    pub periods: u32,
    /// When it ends, milliseconds of chain time since 1970.
    pub ends: u64,
    /// What becomes of it then.
    pub renewal: RenewalState,
}

/// A host that this renter knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostRow {
    /// Identity key in hex.
    pub host: String,
    /// Who runs it, as it says.
    pub operator: String,
    /// The live contract with it, in hex.
    pub contract: Option<String>,
    /// Calls that it answered.
    pub answered: u64,
    /// Calls that it did not answer.
    pub failed: u64,
    /// Whether its last calls all failed.
    #[serde(default)]
    pub unreachable: bool,
    /// Answers that did not verify.
    pub false_answers: u64,
    /// Sectors that it had signed for and has lost.
    #[serde(default)]
    pub lost_sectors: u64,
    /// Milliseconds that it takes to answer, smoothed.
    pub latency: u64,
    /// What went wrong last.
    pub last_failure: Option<String>,
    /// Whether it is in the head set.
    pub in_head_set: bool,
    /// Journal position of the head it holds, if known.
    pub head_position: Option<u64>,
}

/// The account that pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WalletRow {
    /// Its key in hex.
    pub account: String,
    /// Its index in the key tree.
    pub index: u64,
    /// Money that can be spent.
    #[schemars(with = "crate::schema::Coins")]
    pub balance: Amount,
    /// Transactions sent.
    pub nonce: u64,
}

/// What setting an allowance, or the upkeep after it, did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllowanceReport {
    /// What was done, in plain words.
    pub done: Vec<String>,
    /// What would be done, where nothing was to be done yet: in plain words.
    #[serde(default)]
    pub planned: Vec<String>,
    /// What was tried and failed; it is tried again by itself.
    pub failed: Vec<String>,
    /// Every host and what becomes of it, best first.
    pub hosts: Vec<AllowanceHost>,
    /// Most money that the steps could take, fees included.
    #[schemars(with = "crate::schema::Coins")]
    pub spend: Amount,
    /// What the account had.
    #[schemars(with = "crate::schema::Coins")]
    pub balance: Amount,
    /// Contracts that are wanted and for which there is no host.
    pub missing: u64,
    /// In what the allowance asks for more than there is, in plain words.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What the contractor thinks of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllowanceHost {
    /// Identity key in hex.
    pub host: String,
    /// Who runs it, as it says.
    pub operator: String,
    /// 0 to 1,000; nothing if it is not announced.
    pub score: Option<u32>,
    /// What becomes of it, in plain words.
    pub standing: String,
}
