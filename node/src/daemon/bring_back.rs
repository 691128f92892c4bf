//! A renter's database that was deleted comes back from the words without being asked.
//!
//! The file [`WRITES`] in the data folder says that the renter of this folder writes. It is there from the
//! moment the renter does, and goes when another node takes over. A renter that knows nothing beside
//! such a file has lost its database, and recovers.

use std::path::PathBuf;
use std::time::Duration;

use samara_renter::Renter;
use samara_renter::progress::Silent;
use samara_renter::recovery::{RecoveryError, RecoveryOptions};
use samara_renter::rows::RenterState;

use crate::data::{DataFolder, WRITES, write_private};

/// Wait before a recovery that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps the file, and recovers where it stands beside an empty database. Ends when another node has
/// taken over.
pub(super) fn keep(folder: &DataFolder, renter: Renter) -> impl Future<Output = ()> + use<> {
    let marker = folder.join(WRITES);
    async move {
        if marker.exists() && is_lost(&renter) {
            tracing::warn!("the renter's database is gone: it is brought back from the words");
            recover(&renter).await;
        }
        loop {
            renter.until(|state| *state == RenterState::Active).await;
            if let Err(error) = write_private(&marker, b"") {
                tracing::warn!(%error, path = %marker.display(), "marker not written");
            }
            renter.until(|state| matches!(state, RenterState::Fenced { .. })).await;
            remove(&marker);
        }
    }
}

/// Whether it knows nothing, or has begun to bring everything back.
fn is_lost(renter: &Renter) -> bool {
    matches!(renter.status().state, RenterState::Fresh | RenterState::Recovering { .. })
}

async fn recover(renter: &Renter) {
    while is_lost(renter) {
        match renter.recover(RecoveryOptions::default(), &Silent).await {
            Ok(report) => {
                return tracing::info!(files = report.files, "the renter's database is back");
            }
            Err(RecoveryError::Running | RecoveryError::Active) => return,
            Err(error) => tracing::warn!(%error, "not brought back; tried again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn remove(marker: &PathBuf) {
    if let Err(error) = std::fs::remove_file(marker)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %marker.display(), "marker not removed");
    }
}
