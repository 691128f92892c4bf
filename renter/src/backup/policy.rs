//! Policies: which backups are made by themselves, when, and for how long they are kept.
//!
//! A policy is a setting of the renter in the journal, `policy/NAME`, so it comes back from the words. Its
//! slots are moments of chain time: so many seconds after each multiple of its interval since 1970, in UTC.
//! When one is due is a pure question of its last run and the time; nothing else is remembered.

use samara_protocol::encoding;
use samara_protocol::journal::entry::MAX_SETTING_NAME;
use samara_protocol::journal::{BackupLabel, UserId, VaultId};
use samara_protocol::units::{Amount, ChainTime, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::make::check_label;
use super::retention::{Retention, civil};
use super::types::{BackupKind, BackupStatus, JobProblem};

/// What the names of settings begin with that are policies.
pub(super) const PREFIX: &str = "policy/";
/// Longest name of a policy, bytes: with the prefix it is a setting's.
pub const MAX_POLICY_NAME: usize = MAX_SETTING_NAME - PREFIX.len();
/// Most policies.
pub(super) const MAX_POLICIES: usize = 100;
/// Least seconds between two runs.
const SHORTEST: u64 = 60;
/// A run that is so much late was missed, or one that is late by half of its interval if that is shorter.
const GRACE: Millis = Millis::hours(1);
/// Version of the stored form.
const VERSION: u8 = 1;

/// What backups are made by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// One to [`MAX_POLICY_NAME`] bytes; backups that it made bear it.
    pub name: String,
    /// What its backups are made of.
    pub kind: BackupKind,
    /// The one vault they are about; all if none. Archives have one.
    pub vault: Option<VaultId>,
    /// Seconds between two runs, at least a minute.
    pub every: u64,
    /// Seconds after each multiple of `every` at which it runs; fewer than `every`.
    pub at: u64,
    /// Which of its backups are kept.
    pub retention: Retention,
    /// Seconds after which each of its backups is deleted by itself, whatever the retention says.
    pub expires_in: Option<u64>,
    /// Tags of its backups.
    pub tags: Vec<String>,
    /// The most that it pays for one backup.
    pub max_price: Option<Amount>,
    /// Whether it runs.
    pub enabled: bool,
    /// When it was made.
    pub made: ChainTime,
    /// Since when its slots count: since it was made, enabled, or given other slots.
    pub since: ChainTime,
    /// Who made it: its backups are theirs.
    pub by: Option<UserId>,
}

/// A run that has come due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The first slot since the last run.
    pub(super) slot: ChainTime,
    /// How many slots since then nobody kept: earlier ones than the last, and that one too if it is over.
    pub(super) missed: u64,
}

impl Policy {
    /// The first slot after a moment.
    #[must_use]
    pub fn next(&self, after: ChainTime) -> ChainTime {
        let (every, at) = (self.interval().0, self.offset());
        match after.0.checked_sub(at) {
            None => ChainTime(at),
            Some(span) => {
                ChainTime((span / every).saturating_add(1).saturating_mul(every).saturating_add(at))
            }
        }
    }

    /// Whether it is to run now, if it ran at `last`. However many slots have passed, it runs once.
    pub(super) fn due(&self, last: ChainTime, now: ChainTime) -> Option<Due> {
        let slot = self.next(last);
        let passed = now.0.checked_sub(slot.0)?;
        let every = self.interval();
        let late = passed % every.0 > GRACE.0.min(every.0 / 2);
        Some(Due { slot, missed: (passed / every.0).saturating_add(u64::from(late)) })
    }

    /// Whether two moments lie between the same two slots.
    pub(super) fn is_same_slot(&self, one: ChainTime, other: ChainTime) -> bool {
        self.next(one) == self.next(other)
    }

    fn interval(&self) -> Millis {
        Millis::seconds(self.every.max(SHORTEST))
    }

    fn offset(&self) -> u64 {
        Millis::seconds(self.at).0 % self.interval().0
    }

    /// Whether it has the same slots as another.
    pub(super) fn has_slots_of(&self, other: &Self) -> bool {
        (self.every, self.at, self.enabled) == (other.every, other.at, other.enabled)
    }

    /// Refuses what makes no sense.
    pub(super) fn check(&self) -> Result<(), BackupError> {
        let wrong = |what| Err(BackupError::Policy(what));
        let name = &self.name;
        let fits = (1..=MAX_POLICY_NAME).contains(&name.len());
        let blank = name.trim().is_empty() || matches!(name.as_str(), "." | "..");
        if !fits || blank || name.contains(char::is_control) {
            return wrong(
                "a policy's name has 1 to 57 bytes, no control character, and is not '.' or '..'",
            );
        }
        if self.every < SHORTEST {
            return wrong("a policy runs at most once a minute: `every` has 60 seconds or more");
        }
        if self.at >= self.every {
            return wrong("a policy's `at` lies within its interval: it is less than `every`");
        }
        if self.expires_in == Some(0) {
            return wrong("backups cannot expire at once: leave `expires_in` out for never");
        }
        if self.kind == BackupKind::Archive && self.vault.is_none() {
            return Err(BackupError::NoScope);
        }
        let (name, tags) = (name.clone(), self.tags.clone());
        check_label(&BackupLabel { name, tags, ..BackupLabel::default() })
    }

    /// Name of its setting.
    pub(super) fn setting(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// Value of its setting.
    pub(super) fn encode(&self) -> Vec<u8> {
        encoding::encode(&(VERSION, self))
    }

    /// The policy that a setting is, if this version knows it.
    pub(super) fn decode(setting: &str, value: &[u8]) -> Option<Self> {
        let (version, policy): (u8, Self) = encoding::decode(value).ok()?;
        let name = setting.strip_prefix(PREFIX)?;
        let sound = version == VERSION && policy.name == name && policy.check().is_ok();
        sound.then_some(policy)
    }

    /// Name of a backup that it makes at a moment; `number` tells those of one minute apart.
    pub(super) fn backup_name(&self, now: ChainTime, number: usize) -> String {
        let minutes = now.0 / 60_000;
        let ((year, month, day), hour) = (civil(now.0), minutes / 60 % 24);
        let name =
            format!("{} {year:04}-{month:02}-{day:02} {hour:02}:{:02}", self.name, minutes % 60);
        if number == 0 { name } else { format!("{name} ({})", number + 1) }
    }
}

/// A policy as people ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyRequest {
    /// One to 57 bytes. It stays when the policy is changed.
    pub name: String,
    /// What its backups are made of.
    pub kind: BackupKind,
    /// Name of the one vault they are about; all if none. Archives have one.
    pub vault: Option<String>,
    /// Seconds between two runs, at least a minute.
    pub every: u64,
    /// Seconds after each multiple of `every` since 1970 by the chain's time at which it runs.
    pub at: u64,
    /// Which of its backups are kept; all without any number.
    pub retention: Retention,
    /// Seconds after which each of its backups is deleted by itself.
    pub expires_in: Option<u64>,
    /// Tags of its backups.
    pub tags: Vec<String>,
    /// The most that it pays for one backup.
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub max_price: Option<Amount>,
    /// Whether it runs.
    pub enabled: bool,
}

impl Default for PolicyRequest {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: BackupKind::Network,
            vault: None,
            every: 86_400,
            at: 0,
            retention: Retention::default(),
            expires_in: None,
            tags: Vec::new(),
            max_price: None,
            enabled: true,
        }
    }
}

/// A policy, and how it does. Times are the chain's, milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRow {
    /// What was asked for.
    #[serde(flatten)]
    pub policy: PolicyRequest,
    /// When it was made.
    pub made: u64,
    /// Who made it: a user's id in hex; nothing if whoever runs the node did.
    pub created_by: Option<String>,
    /// When it runs next; earlier than now if it is about to. Nothing if it is disabled.
    pub next: Option<u64>,
    /// When it ran last.
    pub last: Option<u64>,
    /// Id in hex of the backup of that run, if there still is one.
    pub last_backup: Option<String>,
    /// What became of it.
    pub last_status: Option<BackupStatus>,
    /// Why it failed, if it did.
    pub last_error: Option<JobProblem>,
    /// Runs that nobody made: since the last one, or, if none is due now, before the last one.
    pub missed: u64,
    /// When the first of them was due.
    pub missed_since: Option<u64>,
    /// How many of its backups are complete.
    pub kept: u64,
}

/// What a policy's retention makes of one of its backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVerdict {
    /// The backup's id in hex.
    pub sid: String,
    /// Its name.
    pub name: String,
    /// When it was made, by the chain's time.
    pub chain_time: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why, in plain words.
    pub reasons: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    fn policy(every: u64, at: u64) -> Policy {
        Policy {
            name: "nightly".into(),
            kind: BackupKind::Network,
            vault: None,
            every,
            at,
            retention: Retention { daily: 7, ..Retention::default() },
            expires_in: Some(90 * 86_400),
            tags: vec!["auto".into()],
            max_price: Some(Amount::coins(1)),
            enabled: true,
            made: ChainTime(0),
            since: ChainTime(0),
            by: Some(UserId([1; 8])),
        }
    }

    /// Days of 2026, in chain time.
    fn at(day: u64, hour: u64) -> ChainTime {
        ChainTime((20_454 + day) * DAY + hour * HOUR)
    }

    #[test]
    fn slots_lie_so_long_after_each_multiple_of_the_interval() {
        let nightly = policy(86_400, 2 * 3_600);
        assert_eq!(nightly.next(at(0, 1)), at(0, 2));
        assert_eq!(nightly.next(at(0, 2)), at(1, 2));
        assert_eq!(nightly.next(at(0, 3)), at(1, 2));
        assert_eq!(nightly.next(ChainTime(0)), ChainTime(2 * HOUR));
        assert_eq!(policy(3_600, 0).next(at(0, 1)), at(0, 2));
        let end = ChainTime(u64::MAX);
        assert_eq!(policy(u64::MAX, u64::MAX - 1).next(end), end);
    }

    #[test]
    fn a_run_is_due_at_its_slot_and_once_for_all_that_passed() {
        let nightly = policy(86_400, 2 * 3_600);
        let due = |last, now| nightly.due(last, now).map(|due| (due.slot, due.missed));
        assert_eq!(due(at(0, 2), at(1, 1)), None);
        assert_eq!(due(at(0, 2), at(1, 2)), Some((at(1, 2), 0)));
        // An hour late is in time.
        assert_eq!(due(at(0, 2), at(1, 3)), Some((at(1, 2), 0)));
        assert_eq!(due(at(0, 2), at(1, 4)), Some((at(1, 2), 1)));
        // Three were not made, and the fourth comes in time.
        assert_eq!(due(at(0, 2), at(4, 2)), Some((at(1, 2), 3)));
        assert_eq!(due(at(0, 2), at(4, 9)), Some((at(1, 2), 4)));
        // A clock that goes back asks for nothing.
        assert_eq!(due(at(5, 2), at(1, 2)), None);
    }

    #[test]
    fn a_stored_policy_comes_back_and_nothing_else_does() {
        let policy = policy(86_400, 0);
        let (name, value) = (Policy::setting("nightly"), policy.encode());
        assert_eq!(Policy::decode(&name, &value), Some(policy.clone()));
        assert_eq!(Policy::decode("policy/other", &value), None);
        assert_eq!(Policy::decode("nightly", &value), None);
        assert_eq!(Policy::decode(&name, &value[1..]), None);
        let later = encoding::encode(&(VERSION + 1, &policy));
        assert_eq!(Policy::decode(&name, &later), None);
        let mad = Policy { every: 0, ..policy };
        assert_eq!(Policy::decode(&name, &mad.encode()), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let code = |policy: Policy| policy.check().map_err(|error| error.code());
        assert_eq!(code(policy(60, 59)), Ok(()));
        assert_eq!(code(policy(59, 0)), Err("bad_policy"));
        assert_eq!(code(policy(60, 60)), Err("bad_policy"));
        for name in ["", " ", "..", "a\nb", &"x".repeat(MAX_POLICY_NAME + 1)] {
            let named = Policy { name: name.into(), ..policy(60, 0) };
            assert_eq!(code(named), Err("bad_policy"), "{name:?}");
        }
        assert_eq!(code(Policy { expires_in: Some(0), ..policy(60, 0) }), Err("bad_policy"));
        assert_eq!(code(Policy { tags: vec![String::new()], ..policy(60, 0) }), Err("bad_tags"));
        let archive = Policy { kind: BackupKind::Archive, ..policy(60, 0) };
        assert_eq!(code(archive), Err("no_scope"));
    }

    #[test]
    fn names_of_backups_say_the_minute_and_fit() {
        let policy = Policy { name: "x".repeat(MAX_POLICY_NAME), ..policy(60, 0) };
        let name = policy.backup_name(at(31, 14), 0);
        assert_eq!(&name[MAX_POLICY_NAME..], " 2026-02-01 14:00");
        let name = policy.backup_name(at(31, 14), 98);
        assert!(name.ends_with(" (99)"));
        let label = BackupLabel { name, ..BackupLabel::default() };
        assert!(check_label(&label).is_ok());
    }

    #[test]
    fn a_row_is_read_as_it_is_written() {
        let row = PolicyRow {
            policy: PolicyRequest { name: "nightly".into(), ..PolicyRequest::default() },
            made: 1,
            created_by: None,
            next: Some(2),
            last: None,
            last_backup: None,
            last_status: None,
            last_error: None,
            missed: 0,
            missed_since: None,
            kept: 0,
        };
        let text = serde_json::to_string(&row).unwrap();
        assert!(text.contains("\"every\":86400"), "{text}");
        assert_eq!(serde_json::from_str::<PolicyRow>(&text).unwrap(), row);
    }
}
