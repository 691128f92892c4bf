//! Where users and tokens are kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use samara_renter::Renter;
use samara_renter::error::Coded;

/// Named values that outlive the node. The renter keeps them in its sealed journal.
#[async_trait]
pub trait Settings: Send + Sync {
    /// All whose name begins so, ordered by name.
    ///
    /// # Errors
    /// When it is not known yet which there are.
    fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError>;

    /// Sets these, all or none; an empty value removes.
    ///
    /// # Errors
    /// When they are not known yet, or are not acknowledged. They may go through later all the same.
    async fn store(&self, settings: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError>;
}

/// Why settings were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// This node keeps none.
    #[error("this node has no renter role, and users and tokens are kept by it")]
    NoRenter,
    /// The renter's word.
    #[error("{message}")]
    Renter {
        /// Its stable code.
        code: &'static str,
        /// What it said, with all causes.
        message: String,
    },
}

impl SettingsError {
    /// An error of the renter.
    pub fn of(error: &(impl Coded + 'static)) -> Self {
        Self::Renter { code: error.code(), message: crate::causes::with_causes(error) }
    }

    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoRenter => "no_role",
            Self::Renter { code, .. } => code,
        }
    }
}

#[async_trait]
impl Settings for Renter {
    fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        self.check_known().map_err(|error| SettingsError::of(&error))?;
        Ok(self.settings(prefix))
    }

    async fn store(&self, settings: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        self.check_known().map_err(|error| SettingsError::of(&error))?;
        self.set(settings).await.map_err(|error| SettingsError::of(&error))
    }
}

/// Those of a node without a renter: there are none, and there can be none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSettings;

#[async_trait]
impl Settings for NoSettings {
    fn load(&self, _prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        Err(SettingsError::NoRenter)
    }

    async fn store(&self, _settings: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        Err(SettingsError::NoRenter)
    }
}

/// Settings that are gone with the process, for tests.
#[derive(Debug, Default)]
pub struct MemorySettings(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    values: BTreeMap<String, Vec<u8>>,
    outage: Option<&'static str>,
}

impl MemorySettings {
    /// From now on changes fail with this code, or go through again.
    pub fn fail_with(&self, code: Option<&'static str>) {
        self.memory().outage = code;
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Settings for MemorySettings {
    fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        let memory = self.memory();
        let found = memory.values.range(prefix.to_owned()..);
        let found = found.take_while(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    async fn store(&self, settings: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        let mut memory = self.memory();
        if let Some(code) = memory.outage {
            let message = "the change is not acknowledged".to_owned();
            return Err(SettingsError::Renter { code, message });
        }
        for (name, value) in settings {
            match value.is_empty() {
                true => memory.values.remove(&name),
                false => memory.values.insert(name, value),
            };
        }
        Ok(())
    }
}
