//! What the journal says of a backup: what people may change of it, and what they may not.

use serde::{Deserialize, Serialize};

use super::entry::{MAX_SETTING_NAME, UserId};
use crate::hash::byte_id;
use crate::units::{Amount, ChainTime};

byte_id!(
    /// Random id of a backup.
    BackupId, 16
);

/// Longest name of a backup, bytes.
pub const MAX_BACKUP_NAME: usize = 96;
/// Longest description of a backup, bytes.
pub const MAX_DESCRIPTION: usize = 4_096;
/// Most tags of a backup.
pub const MAX_TAGS: usize = 16;
/// Longest tag, bytes.
pub const MAX_TAG: usize = 64;

/// What people say of a backup, and may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// One to [`MAX_BACKUP_NAME`] bytes, unique among the backups that exist.
    pub name: String,
    /// May be empty; at most [`MAX_DESCRIPTION`] bytes.
    pub description: String,
    /// At most [`MAX_TAGS`] of one to [`MAX_TAG`] bytes.
    pub tags: Vec<String>,
    /// Whether no rule and no expiry deletes it.
    pub pinned: bool,
    /// Time of the chain at which it is deleted by itself, unless it is pinned.
    pub expires: Option<ChainTime>,
}

/// How a backup came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOrigin {
    /// Time of the newest block that its writer knew. Its age counts from here.
    pub chain_time: ChainTime,
    /// Who made it; nobody in particular, if whoever runs the node did.
    pub by: Option<UserId>,
    /// Name of the schedule that made it, at most [`MAX_SETTING_NAME`] bytes; none if a person did.
    pub schedule: Option<String>,
    /// The price that was agreed to for making it.
    pub quoted: Amount,
    /// What is in it.
    pub counts: BackupCounts,
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupCounts {
    /// Vaults.
    pub vaults: u64,
    /// Events of these vaults.
    pub events: u64,
    /// Versions of files whose bytes are there.
    pub versions: u64,
    /// Files that are listed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl BackupLabel {
    /// The first text that is too long, or empty where it must not be: what it is, its bytes, and most bytes.
    pub(super) fn overlong(&self) -> Option<(&'static str, usize, usize)> {
        let name = ("a backup's name", self.name.len(), MAX_BACKUP_NAME);
        let description = ("a backup's description", self.description.len(), MAX_DESCRIPTION);
        let tags = ("a backup's list of tags", self.tags.len(), MAX_TAGS);
        let tag = self.tags.iter().map(|tag| ("a backup's tag", tag.len(), MAX_TAG));
        let empty = |(_, length, most): &(&str, usize, usize)| *length == 0 || length > most;
        let long = |(_, length, most): &(&str, usize, usize)| length > most;
        let named = Some(name).filter(empty).or(Some(description).filter(long));
        named.or(Some(tags).filter(long)).or_else(|| tag.into_iter().find(empty))
    }
}

impl BackupOrigin {
    /// As [`BackupLabel::overlong`].
    pub(super) fn overlong(&self) -> Option<(&'static str, usize, usize)> {
        let length = self.schedule.as_ref()?.len();
        let fits = (1..=MAX_SETTING_NAME).contains(&length);
        (!fits).then_some(("a schedule's name", length, MAX_SETTING_NAME))
    }
}
