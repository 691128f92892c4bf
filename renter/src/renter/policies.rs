//! Policies: backups that are made, kept and given up by themselves.

use super::Renter;
use crate::backup::retention::Retention;
use crate::backup::{BackupError, BackupRow, PolicyRequest, PolicyRow, PolicyVerdict};

impl Renter {
    /// All policies and how they do, by name.
    ///
    /// # Errors
    /// [`BackupError::Store`].
    pub async fn policies(&self) -> Result<Vec<PolicyRow>, BackupError> {
        self.user_backups().policies().await
    }

    /// One policy and how it does.
    ///
    /// # Errors
    /// [`BackupError::NoPolicy`], [`BackupError::Store`].
    pub async fn policy(&self, name: &str) -> Result<PolicyRow, BackupError> {
        self.user_backups().policy(name).await
    }

    /// Makes a policy, which runs at its next slot; returns when that is acknowledged.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn create_policy(&self, request: &PolicyRequest) -> Result<PolicyRow, BackupError> {
        self.user_backups().make_policy(request).await
    }

    /// Gives a policy other settings, all of them. It keeps its name, its backups, and who made it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn set_policy(
        &self,
        name: &str,
        request: &PolicyRequest,
    ) -> Result<PolicyRow, BackupError> {
        self.user_backups().change_policy(name, request).await
    }

    /// Removes a policy. Its backups stay until they expire or people delete them.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn remove_policy(&self, name: &str) -> Result<(), BackupError> {
        self.user_backups().remove_policy(name).await
    }

    /// What a policy's retention makes of each of its backups now, or what another retention would; newest
    /// first. Nothing is deleted.
    ///
    /// # Errors
    /// [`BackupError::NoPolicy`].
    pub fn preview_policy(
        &self,
        name: &str,
        retention: Option<&Retention>,
    ) -> Result<Vec<PolicyVerdict>, BackupError> {
        self.user_backups().preview_policy(name, retention)
    }

    /// Makes a policy's backup now, enabled or not; returns as soon as it is listed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn run_policy(&self, name: &str) -> Result<BackupRow, BackupError> {
        Ok(self.as_seen(self.user_backups().run_policy(name).await?))
    }
}
