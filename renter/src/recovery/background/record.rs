//! What is stored of a scan, below `recovery/` in the renter's store. How far the chain was walked is not
//! in it: that is `recovery/scan`, which recoveries go on from as well.

use samara_protocol::encoding;
use samara_protocol::recovery::ScanState;
use serde::{Deserialize, Serialize};

use super::state::{RecoveryScanState, RecoveryScanStep};
use super::types::{RecoveryScanOptions, RecoveryScanStatus};
use crate::backup::LogLine;
use crate::recovery::progress::{forget_scan, put_scan};
use crate::world::{Store, StoreError, Write};

const RECORD: &[u8] = b"recovery/background";
/// Lines of the log that are kept.
const LINES: usize = 100;

/// A scan as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u8,
    /// Oldest age of the chain's newest block that is accepted, in milliseconds.
    pub(super) maximum_age: Option<u64>,
    /// Whether the list of backups is what hosts have shown. If not, nothing is known of them by the scan.
    pub(super) listed: bool,
    pub(super) status: RecoveryScanStatus,
}

impl Record {
    const VERSION: u8 = 1;

    /// What is stored; nothing if it is of another version: then nothing is lost but the list, which
    /// another scan finds again.
    pub(super) async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let stored = store.read(RECORD).await?;
        let record = stored.and_then(|bytes| encoding::decode::<Self>(&bytes).ok());
        Ok(record.filter(|record| record.version == Self::VERSION).unwrap_or_default())
    }

    fn put(&self) -> Write {
        Write::Put(RECORD.to_vec(), encoding::encode(self))
    }

    pub(super) async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.commit(vec![self.put()]).await
    }

    /// Stores how far the chain was walked together with it.
    pub(super) async fn save_with(
        &self,
        store: &dyn Store,
        scan: &ScanState,
    ) -> Result<(), StoreError> {
        store.commit(vec![put_scan(scan), self.put()]).await
    }

    /// Stores it, and forgets how far the chain was walked.
    pub(super) async fn save_anew(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.commit(vec![forget_scan(), self.put()]).await
    }

    /// The scan that somebody starts after this one. What this one has found is shown until hosts have
    /// said more, unless it is to be forgotten.
    pub(super) fn started(&self, options: RecoveryScanOptions, now: u64) -> Self {
        let before = if options.restart { Self::default() } else { self.clone() };
        let mut backups = before.status.backups;
        backups.iter_mut().for_each(|backup| backup.preliminary = true);
        let mut log = self.status.log.clone();
        let text = match options.restart {
            true => "started, from the first block",
            false => "started",
        };
        push(&mut log, now, text.to_owned());
        let status = RecoveryScanStatus {
            state: self.status.state,
            backups,
            log,
            date_started: Some(now),
            ..RecoveryScanStatus::default()
        };
        let (version, maximum_age) = (Self::VERSION, options.maximum_age);
        let mut record = Self { version, maximum_age, listed: before.listed, status };
        record.step(RecoveryScanStep::Start);
        record
    }

    /// Takes a step; false if it cannot be taken from here.
    pub(super) fn step(&mut self, step: RecoveryScanStep) -> bool {
        let after = self.status.state.after(step);
        debug_assert!(after.is_some(), "{:?} cannot {step:?}", self.status.state);
        self.version = Self::VERSION;
        self.status.state = after.unwrap_or(self.status.state);
        after.is_some()
    }

    /// Adds a line to the log.
    pub(super) fn say(&mut self, now: u64, text: String) {
        push(&mut self.status.log, now, text);
    }

    pub(super) const fn state(&self) -> RecoveryScanState {
        self.status.state
    }
}

fn push(log: &mut Vec<LogLine>, time: u64, text: String) {
    if log.len() >= LINES {
        log.drain(..=log.len() - LINES);
    }
    log.push(LogLine { time, text });
}
