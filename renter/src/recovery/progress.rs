//! How far a recovery is, durably: below `recovery/` in the renter's store.
//!
//! ```text
//!            +----------------------------- start again ------------------------------+
//!            v                                                                        |
//! Idle -> Scanning -> Claiming -> Adopting -> TakingOver -> Done ---------------------+
//!            |            |           |                                               |
//!            |            |           +-----------------> ReadOnly -------------------+
//!            +------------------------------------------> NothingFound ---------------+
//! ```
//!
//! From `NothingFound` a node that starts new goes back to `Idle`, and keeps what was found.
//!
//! Every step may be repeated: the scan goes on from its stored state, a claim asks for the same epoch
//! again, adopting replaces the local journal as a whole, and taking over writes the same head again. So
//! a crash at any moment costs at most the step that ran; from [`Step::Claiming`] on, a recovery resumes
//! by claiming.

use samara_protocol::encoding;
use samara_protocol::recovery::{FoundContract, ScanState};
use samara_protocol::units::Epoch;
use serde::{Deserialize, Serialize};

use super::types::RecoveryReport;
use crate::world::{Store, StoreError, Write};

const PROGRESS: &[u8] = b"recovery/progress";
const SCAN: &[u8] = b"recovery/scan";
const SILENT: &[u8] = b"recovery/silent";
const HEADS: &[u8] = b"recovery/heads";

/// Which step runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    #[default]
    Idle,
    Scanning,
    Claiming,
    Adopting,
    TakingOver,
    Done,
    ReadOnly,
    NothingFound,
}

impl Step {
    /// Whether a recovery may go from this step to that one. The one place that says so.
    pub(super) const fn leads_to(self, next: Self) -> bool {
        use Step::{Adopting, Claiming, Done, Idle, NothingFound, ReadOnly, Scanning, TakingOver};
        matches!(
            (self, next),
            (Idle | Done | ReadOnly | NothingFound, Scanning)
                // Resumed, or started again from the first block.
                | (Scanning | Claiming | Adopting | TakingOver, Scanning)
                | (Scanning, Claiming | NothingFound)
                | (Claiming | Adopting | TakingOver, Claiming)
                | (Claiming, Adopting)
                | (Adopting, TakingOver | ReadOnly)
                | (TakingOver, Done)
                // The node starts new.
                | (NothingFound, Idle)
        )
    }

    /// Whether nothing is left to do.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Idle | Self::Done | Self::ReadOnly | Self::NothingFound)
    }
}

/// What is stored of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) version: u8,
    pub(super) step: Step,
    /// Epoch that is asked for, once one is chosen.
    pub(super) claimed: Option<Epoch>,
    /// Contracts of the finished scan.
    pub(super) found: Vec<FoundContract>,
    /// Chain peers that answered during the scan.
    pub(super) peers: u64,
    /// Blocks checked.
    pub(super) blocks: u64,
    /// Report of the last run that ended.
    pub(super) report: Option<RecoveryReport>,
}

impl Progress {
    pub(super) const VERSION: u8 = 1;

    /// Goes to another step.
    pub(super) fn enter(&mut self, next: Step) {
        debug_assert!(self.step.leads_to(next), "{:?} does not lead to {next:?}", self.step);
        self.version = Self::VERSION;
        self.step = next;
    }

    /// What is stored; nothing if it is of another version.
    pub(super) async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let stored = store.read(PROGRESS).await?;
        let progress = stored.and_then(|bytes| encoding::decode::<Self>(&bytes).ok());
        Ok(progress.filter(|progress| progress.version == Self::VERSION).unwrap_or_default())
    }

    pub(super) async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.commit(vec![Write::Put(PROGRESS.to_vec(), encoding::encode(self))]).await
    }

    /// Stores the scan's state together with the progress.
    pub(super) async fn save_scan(
        &self,
        store: &dyn Store,
        scan: &ScanState,
    ) -> Result<(), StoreError> {
        let progress = Write::Put(PROGRESS.to_vec(), encoding::encode(self));
        store.commit(vec![progress, put_scan(scan)]).await
    }
}

/// Keeps how far the chain was walked, for recoveries and scans alike.
pub(super) fn put_scan(scan: &ScanState) -> Write {
    Write::Put(SCAN.to_vec(), encoding::encode(scan))
}

/// Has the next walk begin with the first block.
pub(super) fn forget_scan() -> Write {
    Write::Delete(SCAN.to_vec())
}

/// The state of a scan that was under way.
pub(super) async fn load_scan(store: &dyn Store) -> Result<Option<ScanState>, StoreError> {
    Ok(store.read(SCAN).await?.and_then(|bytes| encoding::decode(&bytes).ok()))
}

/// Forgets everything, for a start from the first block.
pub(super) async fn forget(store: &dyn Store) -> Result<(), StoreError> {
    let keys = [PROGRESS, SCAN, SILENT, HEADS];
    store.commit(keys.iter().map(|key| Write::Delete(key.to_vec())).collect()).await
}

/// Journal positions of the heads that a claim read, one for each live contract.
pub(super) async fn load_heads(store: &dyn Store) -> Result<Vec<Option<u64>>, StoreError> {
    let stored = store.read(HEADS).await?;
    Ok(stored.and_then(|bytes| encoding::decode(&bytes).ok()).unwrap_or_default())
}

pub(super) async fn save_heads(
    store: &dyn Store,
    heads: &Vec<Option<u64>>,
) -> Result<(), StoreError> {
    store.commit(vec![Write::Put(HEADS.to_vec(), encoding::encode(heads))]).await
}

/// Contracts whose hosts have not answered yet; they are taken over when they do.
pub(super) async fn load_silent(store: &dyn Store) -> Result<Vec<FoundContract>, StoreError> {
    let stored = store.read(SILENT).await?;
    Ok(stored.and_then(|bytes| encoding::decode(&bytes).ok()).unwrap_or_default())
}

pub(super) async fn save_silent(
    store: &dyn Store,
    silent: &[FoundContract],
) -> Result<(), StoreError> {
    let write = if silent.is_empty() {
        Write::Delete(SILENT.to_vec())
    } else {
        Write::Put(SILENT.to_vec(), encoding::encode(silent))
    };
    store.commit(vec![write]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_skips_the_claim_or_leaves_an_end_but_by_a_scan() {
        use Step::{Adopting, Claiming, Done, Idle, NothingFound, ReadOnly, Scanning, TakingOver};
        let all = [Idle, Scanning, Claiming, Adopting, TakingOver, Done, ReadOnly, NothingFound];
        for step in all {
            assert!(step.leads_to(Scanning));
            assert_eq!(step.leads_to(TakingOver), step == Adopting);
            assert_eq!(step.leads_to(Done), step == TakingOver);
            if step.is_final() {
                let next = |next: &&Step| step.leads_to(**next) && **next != Scanning;
                let others: Vec<&Step> = all.iter().filter(next).collect();
                assert_eq!(others.is_empty(), step != NothingFound, "{others:?}");
            }
        }
    }
}
