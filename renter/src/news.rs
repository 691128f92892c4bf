//! What happens on a renter that people may want to be told of.

use samara_protocol::units::Amount;
use serde::Serialize;

use crate::backup::BackupRow;
use crate::recovery::{FoundBackup, RecoveryScanAdvance};

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
    /// The node did not make a scheduled backup in time. One is made for all that were missed.
    ScheduleMissed {
        /// The policy.
        policy: String,
        /// Chain time at which the first of them was due, milliseconds since the Unix epoch.
        due: u64,
        /// How many.
        missed: u64,
    },
    /// A backup is about to be deleted by itself.
    Expiring(Box<BackupRow>),
    /// The contracts that a backup needs are about to end, and are not renewed yet.
    RecoverableNear(Box<BackupRow>),
    /// The money does not suffice for what is stored and put.
    AllowanceLow {
        /// What the account has.
        balance: Amount,
        /// Contracts with too little money for further files, which a renewal would not change.
        poor: u64,
        /// Contracts that the account could not renew.
        unpaid: u64,
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
    /// How far a recovery scan is: told at each step of it, and at most once a second in between.
    ScanAdvanced(Box<RecoveryScanAdvance>),
    /// A recovery scan has found a backup, or says something else of one. Of one look at the hosts the first
    /// hundred are told; the list has all.
    ScanFoundBackup(Box<FoundBackup>),
    /// A backup that an earlier look had shown is deleted, as newer heads say.
    ScanLostBackup {
        /// Its id in hex.
        sid: String,
        /// Its name.
        name: String,
    },
}
