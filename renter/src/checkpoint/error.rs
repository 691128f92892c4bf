//! Why a checkpoint was not written or read.

use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::tree::checkpoint::CheckpointError as FormatError;
use samara_protocol::tree::events::EventItemError;
use samara_protocol::tree::files::FileItemError;
use samara_protocol::tree::{PackError, TreeError};

use crate::transfer::{DownloadError, UploadError};
use crate::world::StoreError;

/// Why a checkpoint was not written or read. What it stands for is not lost by it: the entries stay in
/// the heads and segments until a checkpoint is named there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckpointError {
    /// A node or root cannot be fetched.
    #[error("{what} cannot be read: {source}")]
    Download {
        /// What was asked for.
        what: String,
        /// What failed, host by host.
        source: DownloadError,
    },
    /// No record says where a slab lies.
    #[error("{what} lies in slab {slab}, which is not known")]
    Unknown {
        /// What was asked for.
        what: String,
        /// The slab.
        slab: SlabId,
    },
    /// The root is not the one that was named.
    #[error("the root of checkpoint {0} has another digest")]
    Root(Digest),
    /// Nodes that do not fit together.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Contents that do not fit together.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// An item that is no file.
    #[error(transparent)]
    File(#[from] FileItemError),
    /// An item that is no event.
    #[error(transparent)]
    Event(#[from] EventItemError),
    /// More than a root may have.
    #[error("the checkpoint's root has {bytes} bytes, {limit} are the most: delete backups")]
    RootTooLarge {
        /// Its bytes.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
    /// Nodes could not be laid out.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A slab was not stored.
    #[error("a checkpoint's slab: {0}")]
    Upload(#[from] UploadError),
    /// The renter's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CheckpointError {
    /// Whether something of an older checkpoint could not be had, so that one that builds upon it cannot
    /// be written.
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Download { .. }
                | Self::Unknown { .. }
                | Self::Root(_)
                | Self::Tree(_)
                | Self::Format(_)
        )
    }
}
