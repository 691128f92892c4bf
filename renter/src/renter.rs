//! The facade.

use std::sync::Arc;

use bytes::Bytes;
use samara_protocol::hash::TransactionId;
use samara_protocol::keys::KeyTree;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Amount;

use crate::backup::{
    BackupDetail, BackupError, BackupRequest, BackupRow, RestoreReport, RestoreRequest,
};
use crate::contract::BookError;
use crate::error::error_codes;
use crate::journal::JournalError;
use crate::progress::Progress;
use crate::recovery::{RecoveryError, RecoveryOptions, RecoveryReport, RecoveryStatus};
use crate::rows::{ContractRow, HostRow, RenterStatus, WalletRow};
use crate::transfer::{Redundancy, TransferOptions};
use crate::vault::{
    FileRow, GetError, GetReport, GetRequest, ListOptions, ListRow, PutError, PutReport,
    PutRequest, PutStreamRequest, VaultError, VaultRow,
};
use crate::world::{ChainError, ReadFile, StoreError, World};

/// Settings of a renter.
#[derive(Clone, Debug)]
pub struct RenterConfig {
    /// Slabs and transfers. The redundancy is replaced by the allowance's once one is set.
    pub transfer: TransferOptions,
}

impl Default for RenterConfig {
    fn default() -> Self {
        Self { transfer: TransferOptions::new(Redundancy::for_hosts(8)) }
    }
}

/// Why a renter could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The contract table.
    #[error(transparent)]
    Book(#[from] BookError),
}

error_codes!(OpenError {
    Self::Store(error) => error.code(),
    Self::Journal(error) => error.code(),
    Self::Book(_) => "contract_table",
});

/// Why an operation on the renter itself failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenterError {
    /// It was started or recovered before.
    #[error("this node has started already")]
    Started,
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// More money than there is.
    #[error("the account holds {balance}; {needed} are needed")]
    Money {
        /// What it holds.
        balance: Amount,
        /// Amount and fee.
        needed: Amount,
    },
}

error_codes!(RenterError {
    Self::Started => "started",
    Self::Journal(error) => error.code(),
    Self::Chain(error) => error.code(),
    Self::Money { .. } => "no_money",
});

/// An owner's files on the network. A cheap clone.
#[derive(Clone)]
pub struct Renter(Arc<()>);

#[allow(unused_variables, clippy::todo, missing_docs, clippy::unused_async)]
impl Renter {
    pub async fn open(
        world: World,
        keys: Arc<KeyTree>,
        config: RenterConfig,
    ) -> Result<Self, OpenError> {
        todo!()
    }
    /// For words that were just created here.
    pub async fn start_fresh(&self) -> Result<(), RenterError> {
        todo!()
    }
    pub fn status(&self) -> RenterStatus {
        todo!()
    }
    pub fn contracts(&self) -> Vec<ContractRow> {
        todo!()
    }
    pub fn hosts(&self) -> Vec<HostRow> {
        todo!()
    }
    pub async fn put(
        &self,
        request: PutRequest,
        progress: &dyn Progress,
    ) -> Result<PutReport, PutError> {
        todo!()
    }
    pub async fn put_stream(
        &self,
        request: PutStreamRequest,
        source: &mut dyn ReadFile,
        progress: &dyn Progress,
    ) -> Result<FileRow, PutError> {
        todo!()
    }
    pub async fn get(
        &self,
        request: GetRequest,
        progress: &dyn Progress,
    ) -> Result<GetReport, GetError> {
        todo!()
    }
    /// The listed file at a path, or one version.
    pub fn file(
        &self,
        vault: &str,
        path: &str,
        version: Option<u64>,
    ) -> Result<FileRow, VaultError> {
        todo!()
    }
    /// At most 16 MiB at once.
    pub async fn read_range(
        &self,
        vault: &str,
        path: &str,
        version: Option<u64>,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, GetError> {
        todo!()
    }
    pub async fn list(
        &self,
        vault: &str,
        options: &ListOptions,
    ) -> Result<Vec<ListRow>, VaultError> {
        todo!()
    }
    pub fn vaults(&self) -> Vec<VaultRow> {
        todo!()
    }
    pub async fn create_vault(&self, name: &str) -> Result<VaultRow, VaultError> {
        todo!()
    }
    pub async fn rename_vault(&self, from: &str, to: &str) -> Result<(), VaultError> {
        todo!()
    }
    pub async fn remove_vault(&self, name: &str) -> Result<(), VaultError> {
        todo!()
    }
    pub async fn move_file(&self, vault: &str, from: &str, to: &str) -> Result<u64, VaultError> {
        todo!()
    }
    /// Files removed.
    pub async fn remove(
        &self,
        vault: &str,
        path: &str,
        recursive: bool,
    ) -> Result<u64, VaultError> {
        todo!()
    }
    pub async fn remove_version(
        &self,
        vault: &str,
        path: &str,
        version: u64,
    ) -> Result<(), VaultError> {
        todo!()
    }
    pub async fn create_backup(
        &self,
        request: BackupRequest,
        progress: &dyn Progress,
    ) -> Result<BackupRow, BackupError> {
        todo!()
    }
    pub fn backups(&self) -> Vec<BackupRow> {
        todo!()
    }
    pub async fn backup(&self, name: &str) -> Result<BackupDetail, BackupError> {
        todo!()
    }
    pub async fn restore_backup(
        &self,
        request: RestoreRequest,
        progress: &dyn Progress,
    ) -> Result<RestoreReport, BackupError> {
        todo!()
    }
    pub async fn delete_backup(&self, name: &str) -> Result<(), BackupError> {
        todo!()
    }
    pub async fn recover(
        &self,
        options: RecoveryOptions,
        progress: &dyn Progress,
    ) -> Result<RecoveryReport, RecoveryError> {
        todo!()
    }
    pub fn recovery_status(&self) -> RecoveryStatus {
        todo!()
    }
    pub fn stop_recovery(&self) {
        todo!()
    }
    pub async fn wallet(&self) -> Result<WalletRow, RenterError> {
        todo!()
    }
    pub async fn transfer(
        &self,
        to: PublicKey,
        amount: Amount,
    ) -> Result<TransactionId, RenterError> {
        todo!()
    }
    pub async fn shutdown(self) {
        todo!()
    }
}
