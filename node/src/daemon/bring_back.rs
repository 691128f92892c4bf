//! A renter's database that was deleted comes back from the words without being asked.
//!
//! The file [`WRITES`] in the data folder holds the epoch under which the renter of this folder writes. It
//! is there from the moment the renter does, and goes when another node takes over. A renter that knows
//! nothing beside such a file has lost its database: it reads what the hosts have, and goes on writing
//! if that is of its own epoch. If another node has written since, it asks to be told.

use std::path::Path;
use std::time::Duration;

use samara_renter::Renter;
use samara_renter::progress::Silent;
use samara_renter::recovery::{RecoveryError, RecoveryOptions};
use samara_renter::rows::RenterState;

use crate::data::{DataFolder, WRITES, write_private};

/// Wait before a recovery that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

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
                tracing::warn!(%error, path = %marker.display(), "marker not written");
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
    loop {
        let read_only = match renter.status().state {
            RenterState::Fresh | RenterState::Recovering { .. } => true,
            // What the hosts have was read.
            RenterState::ReadOnly if renter.status().epoch == epoch => false,
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
        let wait = match renter.recover(options, &Silent).await {
            Ok(report) => {
                tracing::info!(outcome = ?report.outcome, files = report.files, "brought back");
                let state = renter.status().state;
                !(state == RenterState::Active || read_only && state == RenterState::ReadOnly)
            }
            Err(RecoveryError::Running | RecoveryError::Active) => return,
            Err(error) => {
                tracing::warn!(%error, "not brought back; tried again");
                true
            }
        };
        if wait {
            tokio::time::sleep(RETRY).await;
        }
    }
}
