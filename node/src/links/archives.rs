//! What links ask of the node: which archives there are, and what time it is.

use samara_protocol::units::ChainTime;
use samara_renter::Renter;
use samara_renter::backup::BackupError;
use samara_renter::vault::VaultError;
use samara_renter::world::ChainView as _;

use crate::light::LightClient;

/// A whole archive that a link may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shareable {
    /// Its id.
    pub sid: String,
    /// When it is deleted by itself, by the chain's time.
    pub expires: Option<ChainTime>,
}

/// The archives that links lead to.
pub trait Archives: Send + Sync {
    /// Whether it is known what the words own. Before that no archive counts as gone.
    fn are_known(&self) -> bool;

    /// A whole archive whose vault is there, by its id or name.
    ///
    /// # Errors
    /// [`BackupError`].
    fn shareable(&self, name: &str) -> Result<Shareable, BackupError>;

    /// The chain's time.
    fn now(&self) -> ChainTime;
}

/// Those of a renter.
pub struct RenterArchives {
    /// Knows them.
    pub renter: Renter,
    /// Knows the chain's time.
    pub light: LightClient,
}

impl Archives for RenterArchives {
    fn are_known(&self) -> bool {
        self.renter.check_known().is_ok()
    }

    fn shareable(&self, name: &str) -> Result<Shareable, BackupError> {
        let row = self.renter.shareable_archive(name)?;
        // No date deletes one that is pinned.
        let expires = row.date_expired.filter(|_| !row.pinned).map(ChainTime);
        Ok(Shareable { sid: row.sid, expires })
    }

    fn now(&self) -> ChainTime {
        self.light.time()
    }
}

/// Whether an archive is gone for good, not only out of reach.
pub(super) fn is_gone(error: &BackupError) -> bool {
    matches!(error, BackupError::Unfit { .. } | BackupError::Vault(VaultError::NoBackup(_)))
}
