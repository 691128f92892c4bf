//! Slabs on their way to hosts and back.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`Uploader`] | one slab: seal, encode, hash, store on n hosts, commit |
//! | [`SlabPipeline`] | a stream of bytes cut into slabs, two in flight |
//! | [`Downloader`] | ranges of slabs, hedged, every byte verified |
//! | [`ExtentReader`] | a list of slab ranges as a stream, two read ahead |
//!
//! Invariants: a slab id is drawn for each sealing attempt and never used again (I8); a slab is
//! acknowledged only when at least k plus the margin hosts have committed its sectors and its
//! descriptor (B1); the memory of plaintext, columns and requests under way is bounded by byte
//! budgets whatever the shape of slabs, and however many hosts are gone; no host's byte is used
//! before its proof and its seal are checked.

mod buffers;
mod choice;
mod download;
mod error;
mod flight;
mod gather;
mod options;
mod pipeline;
mod rescue;
mod shard;
mod stream;
mod upload;

#[cfg(test)]
mod tests;

pub(crate) use choice::order;
pub use download::Downloader;
pub use error::DownloadError;
pub use options::{Redundancy, SlabClass, TransferOptions};
pub use pipeline::{Packed, Piece, SlabPipeline};
pub use stream::{ExtentReader, SlabRange};
pub use upload::{Settled, Settlement, StoredSlab, UploadError, Uploader};
