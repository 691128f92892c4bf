//! The recovery scan in the background, as everybody else sees it.

use super::Renter;
use crate::backup::BackupKind;
use crate::recovery::{FoundBackup, RecoveryError, RecoveryScanOptions, RecoveryScanStatus};

impl Renter {
    /// Starts a scan in the background, or resumes one that was stopped; one that runs goes on. It looks for
    /// what the words own and which backups there are, and claims nothing. It goes on after a restart.
    ///
    /// # Errors
    /// [`RecoveryError::Running`] beside a recovery, [`RecoveryError::Store`].
    pub async fn start_recovery_scan(
        &self,
        options: RecoveryScanOptions,
    ) -> Result<RecoveryScanStatus, RecoveryError> {
        Ok(self.scan_as_seen(self.inner.scan.start(options).await?))
    }

    /// How far the scan is, and what it has found so far.
    #[must_use]
    pub fn recovery_scan(&self) -> RecoveryScanStatus {
        self.scan_as_seen(self.inner.scan.status())
    }

    /// Stops the scan; what was scanned is kept. Returns once it has ended.
    ///
    /// # Errors
    /// [`RecoveryError::Store`].
    pub async fn stop_recovery_scan(&self) -> Result<RecoveryScanStatus, RecoveryError> {
        Ok(self.scan_as_seen(self.inner.scan.stop().await?))
    }

    /// A scan with the backups that the node has, where these are to be shown.
    fn scan_as_seen(&self, mut status: RecoveryScanStatus) -> RecoveryScanStatus {
        if self.inner.scan.shows_own() {
            let rows = self.backups().into_iter().filter(|row| row.kind == BackupKind::Network);
            status.backups = rows.map(FoundBackup::from).collect();
        }
        status
    }
}
