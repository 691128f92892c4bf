//! Entries: one change each.

use serde::{Deserialize, Serialize};

use super::backup::{BackupId, BackupLabel, BackupOrigin};
use super::checkpoint::CheckpointName;
use super::path::StoredPath;
use super::slab_record::{HostIndex, SlabRecord};
use crate::hash::{Digest, SlabId, byte_id, digest};
use crate::signature::PublicKey;
use crate::units::ChainTime;

byte_id!(
    /// Random id of a vault; it stays when the vault is renamed.
    VaultId, 16
);
byte_id!(
    /// Random id of a user.
    UserId, 8
);

/// Longest name of a vault, bytes.
pub const MAX_VAULT_NAME: usize = 64;

/// Whether a text can be a vault's name: one to [`MAX_VAULT_NAME`] bytes, no control characters, `/`,
/// `\` or `:`, and not `.` or `..`. So each name is a folder's of its own, and a restore needs no other.
#[must_use]
pub fn is_vault_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    (1..=MAX_VAULT_NAME).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(bad)
}
/// Longest name of a setting, bytes.
pub const MAX_SETTING_NAME: usize = 64;
/// Longest value of a setting of the renter, bytes.
pub const MAX_SETTING: usize = 64 << 10;
/// Longest value of a vault's setting, bytes.
pub const MAX_VAULT_SETTING: usize = 4 << 10;
/// Most settings of a vault.
pub const MAX_VAULT_SETTINGS: usize = 64;
/// Longest text of an event that only tells something, bytes.
pub const MAX_NOTE: usize = 1 << 10;

/// A place in the journal: how many entries came before, and a digest of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPoint {
    /// Entries before this point; also the position of the next entry.
    pub position: u64,
    /// Chain of the entries' digests; zero before the first.
    pub hash: Digest,
}

impl JournalPoint {
    /// The point after one more entry.
    #[must_use]
    pub fn after(&self, entry: &Entry) -> Self {
        Self { position: self.position.saturating_add(1), hash: chain(&self.hash, entry.digest()) }
    }
}

/// `digest(previous || payload digest)`: a payload can be erased and its digest kept, and the chain
/// still holds.
pub(super) fn chain(previous: &Digest, payload: Digest) -> Digest {
    digest("samara v1 journal chain", &(previous, payload))
}

/// One change, when it was made, and a salt that keeps its digest from being guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Clock of the writing machine, milliseconds since the Unix epoch.
    pub time: u64,
    /// Random.
    pub salt: [u8; 16],
    /// What changed.
    pub change: Change,
}

/// How an event of a vault came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Time of the newest block that its writer knew.
    pub chain_time: ChainTime,
    /// Who made it; nobody in particular, if whoever runs the node did.
    pub by: Option<UserId>,
    /// When it happened, by the clock of then, if it was brought in from an archive later.
    pub first: Option<u64>,
}

impl Entry {
    /// When it happened, milliseconds since the Unix epoch by the clock of then.
    #[must_use]
    pub fn occurred(&self) -> u64 {
        match &self.change {
            Change::Vault { made: Made { first: Some(first), .. }, .. } => *first,
            _ => self.time,
        }
    }

    /// Digest of salt, time and change.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest("samara v1 journal entry", self)
    }
}

/// What an entry changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A host takes its number in the host table.
    HostAdded {
        /// Its number: the count of hosts before.
        index: HostIndex,
        /// Its identity key.
        host: PublicKey,
    },
    /// Slabs whose bytes are acknowledged by their hosts.
    SlabsStored(Vec<SlabRecord>),
    /// Slabs of which nothing is used any more; their sectors may be freed. An empty list changes
    /// nothing: once it is acknowledged, its writer knows that no journal of these words is ahead of its own.
    SlabsReleased(Vec<SlabId>),
    /// A change of one vault.
    Vault {
        /// The vault.
        vault: VaultId,
        /// The event's number in its vault, from 0 without a gap.
        number: u64,
        /// Who made it, and when by the chain.
        made: Made,
        /// What happened.
        event: VaultEvent,
    },
    /// The journal up to here is kept under a name.
    BackupCreated {
        /// Random id.
        id: BackupId,
        /// The one vault it is about; all if none.
        scope: Option<VaultId>,
        /// What people say of it.
        label: Box<BackupLabel>,
        /// How it came about.
        origin: Box<BackupOrigin>,
    },
    /// A backup is given up.
    BackupDeleted(BackupId),
    /// A renter-wide setting, as encoded by its owner.
    Setting {
        /// Which; at most [`MAX_SETTING_NAME`] bytes.
        name: String,
        /// Its value, at most [`MAX_SETTING`] bytes; an empty one takes the setting away.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    /// Slabs that are known, with the hosts and the descriptor that they have now: repair has put shards
    /// on other hosts. Shape and bytes of a slab never change. An empty list says that slabs of segments
    /// have moved, which heads name in their base: so the heads with the new places are the newest.
    SlabsMoved(Vec<SlabRecord>),
    /// A checkpoint of an earlier point is stored, and takes the place of the one before.
    Checkpointed {
        /// It.
        checkpoint: CheckpointName,
        /// The backup of that point, which keeps it.
        backup: Option<BackupId>,
        /// Slabs that nothing has named before: those that it is in, and those of older parts of the
        /// journal, which nothing needs any more.
        slabs: Vec<SlabRecord>,
    },
    /// People say something else of a backup.
    BackupLabelled {
        /// Which.
        id: BackupId,
        /// What they say from now on.
        label: Box<BackupLabel>,
    },
    /// A vault is going to arrive, with a history of its own: its name is taken, and it is not listed. Its
    /// events follow, as those of any vault, and leave it the name that it has here. It ends as any
    /// other if it does not arrive.
    VaultReserved {
        /// The vault.
        vault: VaultId,
        /// Its name; see [`is_vault_name`].
        name: String,
    },
    /// A vault has arrived with all its events: it is listed from here on.
    VaultOpened {
        /// The vault.
        vault: VaultId,
        /// Whose it is; nobody's in particular, if it is that of whoever runs the node.
        owner: Option<UserId>,
    },
}

/// A change of one vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VaultEvent {
    /// The vault begins, under a name. Always event 0.
    Created {
        /// Unique; see [`is_vault_name`].
        name: String,
    },
    /// The vault gets another name.
    Renamed {
        /// The new name, under the same rules.
        name: String,
    },
    /// A file gets a new version.
    Put {
        /// Where.
        path: StoredPath,
        /// The version.
        file: StoredFile,
    },
    /// A file moves with all its versions.
    Moved {
        /// Where it was.
        from: StoredPath,
        /// Where it is now; nothing live was there.
        to: StoredPath,
    },
    /// A file is no longer listed; its versions stay.
    Deleted {
        /// Which.
        path: StoredPath,
    },
    /// One version of a file is given up for good.
    VersionRemoved {
        /// The file.
        path: StoredPath,
        /// The version: the number of the event that put it.
        version: u64,
    },
    /// The vault and all in it are given up. Always the last event.
    Removed,
    /// A folder exists, with nothing in it that would make it exist by itself. Making it again changes
    /// nothing.
    FolderMade {
        /// Where.
        path: StoredPath,
    },
    /// A folder that was made does so no longer. What lies in it stays.
    FolderRemoved {
        /// Which.
        path: StoredPath,
    },
    /// The bytes of one version lie elsewhere from now on. They are the same bytes. Backups of
    /// earlier positions name the old place, and keep it alive.
    Relocated {
        /// The file.
        path: StoredPath,
        /// The version: the number of the event that put it.
        version: u64,
        /// Where its bytes are; as many as before.
        extents: Vec<Extent>,
    },
    /// A setting of the vault, as encoded by its owner.
    Set {
        /// Which; one to [`MAX_SETTING_NAME`] bytes. A vault has at most [`MAX_VAULT_SETTINGS`].
        name: String,
        /// Its value, at most [`MAX_VAULT_SETTING`] bytes; an empty one takes the setting away.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    /// Something that changed nothing here: an event of another installation that only its own disks know of.
    Noted {
        /// For people; at most [`MAX_NOTE`] bytes.
        text: String,
    },
}

/// What is known of one version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Bytes.
    pub size: u64,
    /// Last change on the machine it came from, milliseconds since the Unix epoch.
    pub modified: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Plain BLAKE3 hash of its bytes.
    pub hash: Digest,
    /// Where its bytes are.
    pub content: Content,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// In slabs, one extent after another; an empty file has none.
    Extents(Vec<Extent>),
    /// Right here.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Nowhere: the version was given up before its vault was brought here, and only its events tell of it.
    Erased,
}

impl Content {
    /// The extents; none for what is right here.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        match self {
            Self::Extents(extents) => extents,
            Self::Inline(_) | Self::Erased => &[],
        }
    }
}

/// A run of plaintext bytes in a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The slab.
    pub slab: SlabId,
    /// First plaintext byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}
