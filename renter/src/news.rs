//! What happens on a renter that people may want to be told of.

use serde::Serialize;

use crate::backup::BackupRow;

/// One thing that happened. Whoever listens too slowly misses the oldest; what is true now is in the lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum News {
    /// A backup is being made.
    BackupStarted(Box<BackupRow>),
    /// It is whole, or failed: its status says which.
    BackupEnded(Box<BackupRow>),
    /// It is gone, for this reason.
    BackupDeleted {
        /// Its id in hex.
        sid: String,
        /// Its name.
        name: String,
        /// Why, in plain words.
        reason: String,
    },
    /// A drill has come to its end: a recovery into a node that is thrown away.
    DrillEnded {
        /// Its report's id.
        id: String,
        /// Whether the words brought back what they should.
        passed: bool,
        /// How it went, in plain words.
        summary: String,
    },
}
