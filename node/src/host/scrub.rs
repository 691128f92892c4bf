//! The scrubber: reads every sector again and again, slowly, and finds damage before a renter does.

use std::sync::Arc;
use std::time::Duration;

use samara_protocol::hash::SectorRoot;
use samara_protocol::host::{Host, HostStore};
use tokio::sync::watch;

use super::prover::stopped;

/// What the scrubber has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Passes over all sectors that are complete.
    pub passes: u64,
    /// Sectors checked in this pass.
    pub checked: u64,
    /// Sectors in this pass.
    pub sectors: u64,
    /// Sectors that are needed and known to be damaged.
    pub damaged: Vec<SectorRoot>,
}

/// Checks all sectors of a host.
pub struct Scrubber<S> {
    host: Arc<Host<S>>,
    /// Bytes a second.
    rate: u64,
    report: watch::Sender<ScrubReport>,
}

/// Pause between two passes.
const PAUSE: Duration = Duration::from_secs(3_600);

impl<S: HostStore + 'static> Scrubber<S> {
    /// A scrubber that reads at most `rate` bytes a second, and where it reports.
    pub fn new(host: Arc<Host<S>>, rate: u64) -> (Self, watch::Receiver<ScrubReport>) {
        let (report, receiver) = watch::channel(ScrubReport::default());
        (Self { host, rate: rate.max(1), report }, receiver)
    }

    /// Scrubs until `stop` is true or its sender is gone.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => {}
            () = self.scrub() => {}
        }
    }

    async fn scrub(&self) {
        loop {
            self.pass().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One pass over all sectors.
    pub async fn pass(&self) {
        let host = Arc::clone(&self.host);
        let listed = tokio::task::spawn_blocking(move || host.store().stored()).await;
        let entries = match listed {
            Ok(Ok(entries)) => entries,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot list sectors");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "cannot list sectors");
                return;
            }
        };
        self.report.send_modify(|report| {
            (report.checked, report.sectors) = (0, entries.len() as u64);
        });
        for entry in entries {
            let host = Arc::clone(&self.host);
            let checked = tokio::task::spawn_blocking(move || host.check_sector(&entry)).await;
            match checked {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => tracing::error!(sector = %entry.root, "sector is damaged"),
                Ok(Err(refusal)) => tracing::warn!(sector = %entry.root, %refusal, "not checked"),
                Err(error) => tracing::warn!(sector = %entry.root, %error, "not checked"),
            }
            self.report.send_modify(|report| report.checked += 1);
            let span = f64::from(entry.size.bytes()) / self.rate as f64;
            tokio::time::sleep(Duration::from_secs_f64(span)).await;
        }
        let damaged = self.host.damaged_sectors();
        self.report.send_modify(|report| {
            report.passes += 1;
            report.damaged = damaged;
        });
    }
}
