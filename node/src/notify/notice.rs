//! A notice: what happened, as programs and people read it.

use std::fmt;
use std::str::FromStr;

use samara_protocol::units::ChainTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::display::plain;

/// Longest subject, in characters.
pub const MAX_SUBJECT: usize = 200;
/// Longest text in bytes.
pub const MAX_TEXT: usize = 8 << 10;
/// Longest data in bytes of JSON.
pub const MAX_DATA: usize = 16 << 10;

/// Names a notice for ever: a mail's Message-ID and a webhook's `Samara-Id` are made of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NoticeId(pub [u8; 16]);

impl NoticeId {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The one of an event that has a name: told twice, also across a restart, it is one notice.
    #[must_use]
    pub fn of(event: &str) -> Self {
        let digest = blake3::derive_key("samara v1 notice", event.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(bytes)
    }
}

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoticeId({self})")
    }
}

impl From<NoticeId> for String {
    fn from(id: NoticeId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for NoticeId {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What a notice is about. The words are stable, and so is the order: it is stored. New ones go last.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    BackupStarted,
    BackupCompleted,
    BackupFailed,
    RestoreStarted,
    RestoreCompleted,
    RestoreFailed,
    ArchiveStarted,
    ArchiveCompleted,
    ArchiveFailed,
    Expiring,
    RecoverableUntil,
    AllowanceLow,
    DrillPassed,
    DrillFailed,
    MissedSchedule,
    Test,
}

impl Kind {
    /// All of them and their words.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::BackupStarted, "backup_started"),
        (Self::BackupCompleted, "backup_completed"),
        (Self::BackupFailed, "backup_failed"),
        (Self::RestoreStarted, "restore_started"),
        (Self::RestoreCompleted, "restore_completed"),
        (Self::RestoreFailed, "restore_failed"),
        (Self::ArchiveStarted, "archive_started"),
        (Self::ArchiveCompleted, "archive_completed"),
        (Self::ArchiveFailed, "archive_failed"),
        (Self::Expiring, "expiring"),
        (Self::RecoverableUntil, "recoverable_until"),
        (Self::AllowanceLow, "allowance_low"),
        (Self::DrillPassed, "drill_passed"),
        (Self::DrillFailed, "drill_failed"),
        (Self::MissedSchedule, "missed_schedule"),
        (Self::Test, "test"),
    ];

    /// The stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        // Each is listed; a test says so.
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("test", |(_, word)| word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no kind of notice")]
pub struct ParseKindError(String);

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, ParseKindError> {
        let found = Self::ALL.iter().find(|(_, word)| *word == text);
        let error = || ParseKindError(text.chars().take(64).collect());
        found.map(|(kind, _)| *kind).ok_or_else(error)
    }
}

/// How much it matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// All is well.
    Info,
    /// Something is to be done before it is too late.
    Warning,
    /// Something failed.
    Error,
}

/// One notice. Subject and text come from [`super::News`] and nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// Its name.
    #[schemars(with = "String")]
    pub id: NoticeId,
    /// What it is about.
    pub kind: Kind,
    /// When it happened, milliseconds since the Unix epoch.
    #[schemars(with = "u64")]
    pub time: ChainTime,
    /// How much it matters.
    pub severity: Severity,
    /// One line.
    pub subject: String,
    /// Some lines.
    pub text: String,
    /// The same for programs.
    pub data: Value,
}

impl Notice {
    /// Cuts what is longer than it may be.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.subject = one_line(&self.subject, MAX_SUBJECT);
        if self.text.len() > MAX_TEXT {
            let is_end = |end: &usize| self.text.is_char_boundary(*end);
            let end = (0..=MAX_TEXT - 4).rev().find(is_end).unwrap_or(0);
            self.text.truncate(end);
            self.text.push_str("...\n");
        }
        if serde_json::to_string(&self.data).map_or(0, |data| data.len()) > MAX_DATA {
            self.data = Value::Null;
        }
        self
    }
}

/// A text of somebody else as one line that nothing obeys, of at most so many characters.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let text: String =
        plain(text).chars().filter(|c| !matches!(c, '\u{2028}' | '\u{2029}')).collect();
    if text.chars().count() <= most {
        return text;
    }
    let start: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_word() {
        for (kind, word) in Kind::ALL {
            assert_eq!((kind.word(), word.parse()), (word, Ok(kind)));
            assert_eq!(serde_json::to_value(kind).unwrap(), word);
            let value = clap::ValueEnum::to_possible_value(&kind).unwrap();
            assert_eq!(value.get_name(), word);
        }
        assert_eq!(<Kind as clap::ValueEnum>::value_variants().len(), Kind::ALL.len());
        assert!("none".parse::<Kind>().is_err());
    }

    #[test]
    fn an_event_told_twice_is_one_notice() {
        assert_eq!(NoticeId::of("backup 1 completed"), NoticeId::of("backup 1 completed"));
        assert_ne!(NoticeId::of("backup 1 completed"), NoticeId::of("backup 2 completed"));
        let id = NoticeId::draw().unwrap();
        assert_eq!(NoticeId::try_from(String::from(id)), Ok(id));
    }

    #[test]
    fn lines_are_one_line() {
        assert_eq!(one_line("a\r\nBcc: b", 99), "a\\u{d}\\u{a}Bcc: b");
        assert_eq!(one_line("a\u{2028}b\u{202e}", 99), "ab\\u{202e}");
        assert_eq!(one_line("abcdef", 5), "ab...");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = "é".repeat(MAX_TEXT);
        let notice = Notice {
            id: NoticeId([0; 16]),
            kind: Kind::Test,
            time: ChainTime(0),
            severity: Severity::Info,
            subject: long.clone(),
            text: long.clone(),
            data: Value::String(long),
        }
        .bounded();
        assert_eq!(notice.subject.chars().count(), MAX_SUBJECT);
        assert!(notice.text.len() <= MAX_TEXT && notice.text.ends_with("...\n"));
        assert!(notice.data.is_null());
    }
}
