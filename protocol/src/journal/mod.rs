//! The journal: every change of a renter as an event, and the sealed heads that keep it at the hosts.
//!
//! The journal is one sequence of [`Entry`]s. Its state is their fold ([`JournalState`]), so whoever
//! has the entries has everything: vaults, files with all their versions, the slabs that hold their
//! bytes, backups, the table of hosts. Positions are numbered from 0 without a gap and chained by
//! hashes ([`JournalPoint`]); each vault numbers and chains its own events as well, so that one vault
//! can travel alone.
//!
//! Where the entries live: the newest in the tails of the heads ([`head`]), older ones in segments,
//! which are slabs that the head's base names, and what the oldest have led to in a checkpoint
//! ([`crate::tree`]). Who must hold a head before a change counts is decided in [`quorum`].

pub mod backup;
pub mod checkpoint;
pub mod entry;
pub mod head;
pub mod path;
pub mod quorum;
pub mod slab_record;
pub mod state;

pub use backup::{BackupCounts, BackupId, BackupLabel, BackupOrigin};
pub use checkpoint::CheckpointName;
pub use entry::{
    Change, Content, Entry, Extent, JournalPoint, Made, StoredFile, UserId, VaultEvent, VaultId,
};
pub use path::{PathError, StoredPath};
pub use slab_record::{HostIndex, SlabRecord};
pub use state::{
    Backup, FileState, FoldError, HeldExtents, HeldSpan, JournalState, SlabUse, VaultState, Version,
};
