//! Slabs: sealing, erasure coding and the descriptor that finds the pieces again.
//!
//! A slab is one sealing attempt of some plaintext. The plaintext is cut into frames, each sealed on its
//! own ([`FrameCipher`]); the sealed frames fill the k data sectors one after another, so that a small
//! range is one request to one host; n-k parity sectors of the same length are coded over them
//! ([`ErasureCode`]). [`SlabSealer`] does it in one pass. [`SlabDescriptor`] lists roots and hosts of
//! all n sectors and is kept, sealed, beside each of them.
//!
//! Invariants: a slab id is drawn anew for each sealing attempt and its key derives from it, so no
//! key-nonce pair serves two plaintexts (I8); what hosts see has the length of its size class (I5); the
//! bytes of a sealed slab depend on key, id, geometry and plaintext alone, whatever kernel makes them.

mod descriptor;
mod erasure;
mod geometry;
mod seal;
mod sealer;

pub use descriptor::{
    DescriptorError, MAX_DESCRIPTOR, MAX_PLAIN_DESCRIPTOR, ShardDescriptor, SlabDescriptor,
};
pub use erasure::{
    DispatchCode, ErasureCode, ErasureError, PortableCode, code_for, encode, reconstruct,
};
pub use geometry::{
    FrameLocation, Geometry, GeometryError, MAX_FRAME, MIN_FRAME, RangeError, ShardSpan, TAG,
};
pub use seal::{FrameCipher, FrameError};
pub use sealer::{SealedShard, SlabBuffer, SlabError, SlabSealer};
