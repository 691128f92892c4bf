//! One slab to its hosts.

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::signature::PublicKey;
use samara_protocol::slab::{GeometryError, SlabError};
use samara_protocol::units::Epoch;
use tokio::sync::watch;

use super::options::{SlabClass, TransferOptions};
use super::pipeline::SlabPipeline;
use crate::contract::{ContractBook, ContractError};

/// Why a slab was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UploadError {
    /// Too few live contracts.
    #[error(
        "{live} live contracts are too few for {data} data shards: at least {needed} are needed; \
        raise the allowance, or lower its redundancy"
    )]
    TooFewContracts {
        /// Live contracts.
        live: usize,
        /// Data shards, k.
        data: u8,
        /// k + 1.
        needed: usize,
    },
    /// Too few hosts took their shards.
    #[error("slab {slab} reached {reached} hosts, {needed} are needed; failed: {}", list_failures(.failures))]
    TooFewHosts {
        /// The slab; its id is not used again.
        slab: SlabId,
        /// Hosts that took theirs.
        reached: usize,
        /// Hosts needed before it can be acknowledged.
        needed: usize,
        /// Each failure; names its host.
        failures: Vec<ContractError>,
    },
    /// Another node writes for these words now.
    #[error("another node has taken over with epoch {promised}; nothing more is stored from here")]
    Fenced {
        /// The other node's epoch.
        promised: Epoch,
    },
    /// More bytes than the largest slab takes.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The slab could not be sealed.
    #[error(transparent)]
    Slab(#[from] SlabError),
    /// The source of the bytes failed.
    #[error(transparent)]
    File(#[from] crate::world::FileError),
    /// The node is shutting down.
    #[error("the upload was abandoned: the node is stopping")]
    Stopped,
}

fn list_failures(failures: &[ContractError]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How far a slab's commits are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Hosts that have committed, ordered.
    pub committed: Vec<HostIndex>,
    /// Hosts of the placement that failed, ordered: work for repair.
    pub failed: Vec<HostIndex>,
}

/// Follows a slab's commits after its acknowledgement.
#[derive(Clone, Debug)]
pub struct Settled(watch::Receiver<(Settlement, bool)>);

impl Settled {
    /// How far it is now.
    #[must_use]
    pub fn now(&self) -> Settlement {
        self.0.borrow().0.clone()
    }

    /// Waits until every host has committed or failed.
    pub async fn wait(mut self) -> Settlement {
        // An error means that the task was stopped with the node: what is known is the answer.
        let _ = self.0.wait_for(|(_, done)| *done).await;
        self.now()
    }
}

/// A slab that enough hosts have committed.
#[derive(Clone, Debug)]
pub struct StoredSlab {
    /// What the journal keeps of it.
    pub record: SlabRecord,
    /// Plaintext bytes.
    pub length: u32,
    /// Hosts that have committed, and the rest on its way.
    pub settled: Settled,
}

/// Stores slabs. A cheap clone; all clones share one byte budget.
#[derive(Clone)]
pub struct Uploader {
    book: ContractBook,
    options: TransferOptions,
}

impl Uploader {
    /// An uploader over the live contracts of a book.
    #[must_use]
    pub fn new(book: ContractBook, options: TransferOptions) -> Self {
        Self { book, options }
    }

    /// Plaintext bytes of the largest slab of a class with the contracts of this moment.
    ///
    /// # Errors
    /// [`UploadError::TooFewContracts`].
    pub fn capacity(&self, class: SlabClass) -> Result<u32, UploadError> {
        let _ = class;
        todo!()
    }

    /// Seals, encodes and stores one slab; returns when enough hosts have committed it. The rest goes
    /// on in the background.
    ///
    /// # Errors
    /// [`UploadError`]; what was stored of a failed slab is dropped by its hosts in time.
    pub async fn upload_slab(
        &self,
        plaintext: Vec<u8>,
        class: SlabClass,
    ) -> Result<StoredSlab, UploadError> {
        let _ = (plaintext, class, &self.book, &self.options, SlabId([0; 16]), PublicKey([0; 32]));
        todo!()
    }

    /// A stream of bytes into slabs of this class.
    #[must_use]
    pub fn pipeline(&self, class: SlabClass) -> SlabPipeline {
        SlabPipeline::new(self.clone(), class)
    }
}
