//! The other documents of an archive.

use std::collections::BTreeMap;

use samara_protocol::hash::Digest;
use samara_protocol::journal::{StoredPath, UserId, VaultId, Version};
use samara_protocol::signature::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

use super::names::{Names, ObjectUid};

/// What `format.json` says an archive is.
pub const KIND: &str = "samara vault archive";
/// Version of the format that is written.
pub const VERSION: u32 = 1;
/// Oldest version whose readers understand what is written.
pub const OLDEST_READER: u32 = 1;

/// `format.json`: what this is, and who can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatDocument {
    /// [`KIND`].
    pub kind: String,
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Readers of this version and newer ones can read it.
    pub oldest_reader: u32,
    /// The vault.
    pub vault: VaultHead,
}

/// The vault of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultHead {
    /// Its id in hex.
    pub sid: VaultId,
    /// Its name when the archive was made.
    pub name: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created: u64,
}

impl FormatDocument {
    /// That of a vault, in the version of this code.
    #[must_use]
    pub fn new(vault: VaultHead) -> Self {
        Self { kind: KIND.to_owned(), version: VERSION, oldest_reader: OLDEST_READER, vault }
    }
}

/// A version whose bytes are in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedVersion {
    /// The file, see [`ObjectUid`].
    pub uid: ObjectUid,
    /// The number of the event that put it.
    pub version: u64,
    /// The path that the file has at the end.
    pub path: StoredPath,
    /// Bytes.
    pub size: u64,
    /// Last change on the machine that it came from, milliseconds since the Unix epoch.
    pub modified: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// BLAKE3 of its bytes, as `b3sum` prints it.
    pub hash: Digest,
    /// When it was put, milliseconds since the Unix epoch.
    pub put: u64,
    /// Whether it is what the vault lists under the path.
    pub listed: bool,
    /// Whether the file is no longer listed, and its versions alone are kept.
    pub deleted: bool,
    /// Name of the entry with its bytes.
    pub file: String,
}

impl ArchivedVersion {
    /// What an archive tells of a version of the file at `path`.
    #[must_use]
    pub fn new(
        vault: &VaultId,
        path: &StoredPath,
        version: &Version,
        listed: bool,
        deleted: bool,
    ) -> Self {
        let uid = ObjectUid::new(vault, path);
        let file = &version.file;
        Self {
            uid,
            version: version.number,
            path: path.clone(),
            size: file.size,
            modified: file.modified,
            executable: file.executable,
            hash: file.hash,
            put: version.time,
            listed,
            deleted,
            file: Names::new(*vault).file(uid, version.number, path),
        }
    }
}

/// `meta/users.json`: who appears in the archive, and nothing of what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersDocument {
    /// They, ordered by id.
    pub users: Vec<ArchivedUser>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArchivedUser {
    /// Id, as events name their actor.
    pub id: UserId,
    /// E-mail address.
    pub email: String,
}

/// `meta/settings.json`: what was set for the vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsDocument {
    /// Values in hex, by name.
    pub settings: BTreeMap<String, String>,
}

impl SettingsDocument {
    /// Those of a vault.
    #[must_use]
    pub fn of(settings: &BTreeMap<String, Vec<u8>>) -> Self {
        let value = |(name, value): (&String, &Vec<u8>)| (name.clone(), hex::encode(value));
        Self { settings: settings.iter().map(value).collect() }
    }
}

/// What `manifest.json` begins with. Behind it stands `entries`, one `ManifestEntry` for each entry
/// before the manifest, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCounts {
    /// `VERSION` of the writer.
    pub version: u32,
    /// The vault's id in hex.
    pub vault: VaultId,
    /// Events.
    pub events: u64,
    /// Versions with bytes: as many as entries in `versions/` and in `files/`.
    pub versions: u64,
    /// Of these, the ones that the vault lists: its files.
    pub files: u64,
    /// Users.
    pub users: u64,
    /// Bytes of all versions.
    pub bytes: u64,
    /// BLAKE3 of the entry of the last event.
    pub head: Digest,
}

/// One entry in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, as `b3sum` prints it.
    pub blake3: Digest,
}

/// `manifest.sig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureDocument {
    /// `VERSION` of the writer.
    pub version: u32,
    /// Who has signed: the archive key of the owner's words.
    pub key: PublicKey,
    /// Ed25519 signature of [`sign_bytes`], in hex.
    pub signature: String,
}

impl SignatureDocument {
    /// With a signature.
    #[must_use]
    pub fn new(key: PublicKey, signature: &Signature) -> Self {
        Self { version: VERSION, key, signature: hex::encode(signature.0) }
    }

    /// Whether it is the key's signature of these bytes.
    #[must_use]
    pub fn holds(&self, message: &[u8; 32]) -> bool {
        let mut signature = Signature::EMPTY;
        hex::decode_to_slice(&self.signature, &mut signature.0).is_ok()
            && self.key.verify(message, &signature)
    }
}

/// What is signed: BLAKE3 `derive_key("samara v1 archive manifest", bytes of manifest.json)`. The hasher
/// takes those bytes.
#[must_use]
pub fn sign_bytes() -> blake3::Hasher {
    blake3::Hasher::new_derive_key("samara v1 archive manifest")
}
