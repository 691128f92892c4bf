//! Where settings are kept.

use std::collections::BTreeMap;

use async_trait::async_trait;
use samara_renter::Renter;
use samara_renter::error::Coded;
use tokio::sync::Mutex;

use crate::causes;

/// Where settings are kept: values by name. An empty value removes.
#[async_trait]
pub trait Settings: Send + Sync {
    /// Those whose names begin so.
    ///
    /// # Errors
    /// [`SettingsError::Kept`].
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError>;

    /// Sets all of them, or none.
    ///
    /// # Errors
    /// [`SettingsError::Kept`].
    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError>;
}

/// Settings that last as long as the process.
#[derive(Default)]
pub struct MemorySettings(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl Settings for MemorySettings {
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        let settings = self.0.lock().await;
        let found = settings.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        let mut settings = self.0.lock().await;
        for (name, value) in values {
            if value.is_empty() {
                settings.remove(&name);
            } else {
                settings.insert(name, value);
            }
        }
        Ok(())
    }
}

/// The renter's journal.
#[async_trait]
impl Settings for Renter {
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        // Before that there may be others than those here.
        self.check_known().map_err(|error| kept(&error))?;
        Ok(self.settings(prefix))
    }

    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        self.check_known().map_err(|error| kept(&error))?;
        self.set(values).await.map_err(|error| kept(&error))
    }
}

fn kept(error: &(impl Coded + 'static)) -> SettingsError {
    SettingsError::Kept { code: error.code().to_owned(), message: causes::with_causes(error) }
}

/// Why settings cannot be read, or are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Where they are kept.
    #[error("{message}")]
    Kept {
        /// A stable word.
        code: String,
        /// What went wrong.
        message: String,
    },
    /// Written by a newer program.
    #[error(
        "the setting {name} has version {found}, this program reads {}: use a newer samara",
        super::VERSION
    )]
    Newer {
        /// Its name.
        name: String,
        /// Its version.
        found: u8,
    },
    /// Not what was written.
    #[error("the setting {name} cannot be read: set it again")]
    Damaged {
        /// Its name.
        name: String,
    },
    /// A value makes no sense.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which value.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl SettingsError {
    /// A value that makes no sense.
    pub(super) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }
}
