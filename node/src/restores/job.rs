//! A restore as it is kept and shown: one JSON file each, below `restores/` in the data folder.

use std::path::PathBuf;

use samara_protocol::journal::UserId;
use samara_protocol::units::Amount;
use samara_renter::archive::Passphrase;
use samara_renter::backup::{JobProblem, JobProgress, LogLine, RestoreRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::state::RestoreState;

/// Lines of a log that are kept, the newest.
const LOG: usize = 1_000;

/// Where what is restored comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreSource {
    /// An archive at an address.
    Url(String),
    /// An archive on the node's machine.
    Path(PathBuf),
    /// An archive that was sent to the node.
    Upload,
    /// A network backup.
    Backup(Box<RestoreRequest>),
}

/// What is to be restored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRestore {
    /// Where from.
    pub source: RestoreSource,
    /// Name of the new vault; that in the archive if none.
    #[serde(default)]
    pub name: Option<String>,
    /// What opens an archive that is encrypted. It is kept in memory only.
    #[serde(default)]
    pub passphrase: Option<Passphrase>,
    /// The most that storing it may cost.
    #[serde(default)]
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
    pub max_cost: Option<Amount>,
    /// What the archive must have.
    #[serde(default)]
    pub announced: Option<Announced>,
    /// Only look: the answer says what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an archive is said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announced {
    /// Events.
    pub events: u64,
    /// Files.
    pub files: u64,
}

/// What a restore is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestorePhase {
    /// Getting the archive.
    Fetching,
    /// Checking it and bringing it in, or bringing files back: `progress` says which.
    Restoring,
}

/// What was restored, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// Name of the vault.
    pub vault: Option<String>,
    /// Name that the vault has in the archive.
    pub archived_as: Option<String>,
    /// Events.
    pub events: u64,
    /// Versions with bytes.
    pub versions: u64,
    /// Files.
    pub files: u64,
    /// Bytes of all versions.
    pub bytes: u64,
    /// Users in the archive.
    pub users: u64,
    /// Bytes that were shared with what is here.
    pub shared_bytes: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
    /// What that costs at most.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub price: Amount,
    /// What it has cost.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub cost: Amount,
    /// Whether the archive was signed by this node's words.
    pub signed_here: bool,
    /// Files that could not be brought back, or were left alone.
    pub left_out: u64,
}

/// A vault that is whole and about to be opened. If it is there after a crash, its restore was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opening {
    /// The vault's id, hex.
    pub(super) vault: String,
    pub(super) restored: Restored,
}

/// A restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restore {
    /// Version of this form.
    version: u8,
    /// Its id, hex.
    pub id: String,
    /// How far it is.
    pub state: RestoreState,
    /// What is being done.
    pub phase: Option<RestorePhase>,
    /// How far that is; not kept.
    #[serde(default)]
    pub progress: Option<JobProgress>,
    /// Where from.
    pub source: RestoreSource,
    /// Name that was asked for.
    pub name: Option<String>,
    /// What the archive must have.
    pub announced: Option<Announced>,
    /// The most that it may cost.
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
    pub max_cost: Option<Amount>,
    /// Who asked for it.
    #[schemars(with = "Option<String>")]
    pub created_by: Option<UserId>,
    /// Who approved or rejected it.
    #[schemars(with = "Option<String>")]
    pub decided_by: Option<UserId>,
    /// Milliseconds since the Unix epoch.
    pub date_created: u64,
    /// The same, of its end.
    pub date_ended: Option<u64>,
    /// What was about to be opened when this was written down last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(super) opening: Option<Opening>,
    /// What was restored.
    pub restored: Option<Restored>,
    /// What went wrong.
    pub error: Option<JobProblem>,
    /// What happened, oldest first.
    pub log: Vec<LogLine>,
}

/// How far a restore is, for all who read the stream of events. They may not see restores themselves: where
/// from, who asked and what happened are not for them.
#[derive(Serialize)]
pub(super) struct RestoreEvent<'a> {
    restore: &'a str,
    state: RestoreState,
    phase: Option<RestorePhase>,
    /// Code of what went wrong.
    error: Option<&'a str>,
}

impl Restore {
    /// Version of the form that is written.
    const VERSION: u8 = 1;

    pub(super) fn new(id: String, state: RestoreState, new: &NewRestore, now: u64) -> Self {
        Self {
            version: Self::VERSION,
            id,
            state,
            phase: None,
            progress: None,
            source: new.source.clone(),
            name: new.name.clone(),
            announced: new.announced,
            max_cost: new.max_cost,
            created_by: None,
            decided_by: None,
            date_created: now,
            date_ended: None,
            opening: None,
            restored: None,
            error: None,
            log: Vec::new(),
        }
    }

    /// Reads one that was kept; nothing of another version.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|job| job.version == Self::VERSION)
    }

    /// What is told to all of how far it is.
    pub(super) fn event(&self) -> RestoreEvent<'_> {
        let error = self.error.as_ref().map(|error| error.code.as_str());
        RestoreEvent { restore: &self.id, state: self.state, phase: self.phase, error }
    }

    pub(super) fn say(&mut self, time: u64, text: String) {
        self.log.push(LogLine { time, text });
        let over = self.log.len().saturating_sub(LOG);
        self.log.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn readers_of_the_stream_learn_how_far_it_is_and_no_more() {
        let secret = "https://example.org/d/secret";
        let new = serde_json::from_value(json!({ "source": { "url": secret } })).unwrap();
        let mut job = Restore::new("ab".to_owned(), RestoreState::Failed, &new, 1);
        job.say(2, secret.to_owned());
        let (code, message) = ("fetch_failed".to_owned(), secret.to_owned());
        job.error = Some(JobProblem { code, message, retryable: true });
        let told = serde_json::to_value(job.event()).unwrap();
        let expected = json!({
            "restore": "ab", "state": "failed", "phase": null, "error": "fetch_failed",
        });
        assert_eq!(told, expected);
    }
}
