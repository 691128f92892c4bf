//! A renter's database that was deleted comes back from the words without being asked.
//!
//! The file [`WRITES`] in the data folder holds the epoch under which the renter of this folder writes. It
//! is there from the moment the renter does, and goes when another node takes over. A renter that knows
//! nothing beside such a file has lost its database: it reads what the hosts have, and goes on writing
//! if that is of its own epoch, or of the one that it had claimed when it was cut off while it did this. If
//! another node has written since, it asks to be told.

use std::path::Path;
use std::time::Duration;

use samara_renter::Renter;
use samara_renter::progress::Silent;
use samara_renter::recovery::{RecoveryError, RecoveryOptions};
use samara_renter::rows::{RenterState, RenterStatus};

use crate::data::{DataFolder, WRITES, write_private};

/// Wait before a recovery that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Longest such wait; each is twice the one before.
const LONGEST: Duration = Duration::from_secs(300);

/// Keeps the file, and recovers where it stands beside an empty database. Ends with the renter's tasks.
pub(super) fn keep(folder: &DataFolder, renter: Renter) -> impl Future<Output = ()> + use<> {
    let marker = folder.join(WRITES);
    async move {
        if let Some(epoch) = read(&marker) {
            bring_back(&renter, &epoch).await;
        }
        loop {
            renter.until(|state| *state == RenterState::Active).await;
            if let Err(error) = write_private(&marker, renter.status().epoch.as_bytes()) {
                // As on a full disk, which may have room later.
                tracing::warn!(%error, path = %marker.display(), "marker not written; tried again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            renter.until(|state| matches!(state, RenterState::Fenced { .. })).await;
            if let Err(error) = std::fs::remove_file(&marker) {
                tracing::warn!(%error, path = %marker.display(), "marker not removed");
            }
        }
    }
}

/// The epoch that the file names.
fn read(marker: &Path) -> Option<String> {
    match std::fs::read_to_string(marker) {
        Ok(epoch) => Some(epoch),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, path = %marker.display(), "marker not read");
            None
        }
    }
}

/// Recovers until this renter writes again, or another node is found to have taken over.
async fn bring_back(renter: &Renter, epoch: &str) {
    let mut wait = RETRY;
    // Whether a read quorum has shown that nobody has written since.
    let mut certain = false;
    loop {
        // An attempt that was cut off may have claimed another one.
        let claimed = renter.claimed_epoch().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what was claimed before is not known");
            None
        });
        let is_own = |newest: &str| newest == epoch || Some(newest) == claimed.as_deref();
        let RenterStatus { state, epoch: newest, .. } = renter.status();
        let read_only = match state {
            RenterState::Fresh | RenterState::Recovering { .. } => true,
            RenterState::ReadOnly if is_own(&newest) => !certain,
            RenterState::ReadOnly => {
                return tracing::error!(
                    "the renter's database was gone, and another node has written since: this one reads. \
                     To write here again, take over with `samara recover start`"
                );
            }
            RenterState::Active | RenterState::Fenced { .. } => return,
        };
        tracing::warn!(
            read_only,
            "the renter's database is gone: it is brought back from the words"
        );
        let options = RecoveryOptions { read_only, ..RecoveryOptions::default() };
        let reached = match renter.recover(options, &Silent).await {
            Ok(report) => {
                tracing::info!(outcome = ?report.outcome, files = report.files, "recovered");
                certain = report.may_be_missing.is_none();
                let state = renter.state();
                // What was read for certain may be taken over at once.
                state == RenterState::Active
                    || (read_only && certain && state == RenterState::ReadOnly)
            }
            Err(RecoveryError::Running | RecoveryError::Active) => return,
            Err(error) => {
                tracing::warn!(%error, "not brought back; tried again");
                false
            }
        };
        if renter.state() == RenterState::Active {
            return resume_allowance(renter).await;
        }
        if !reached {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }
}

/// The allowance goes on, as if nothing had happened.
async fn resume_allowance(renter: &Renter) {
    match renter.resume_allowance().await {
        Ok(true) => tracing::info!("the renter's database is back"),
        Ok(false) => tracing::warn!("the renter's database is back; it had no allowance"),
        Err(error) => tracing::warn!(
            %error,
            "the renter's database is back; set the allowance again with `samara allowance set`"
        ),
    }
}
