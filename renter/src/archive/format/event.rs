//! Events as an archive tells them: those of the journal, without where bytes lie.

use samara_protocol::hash::Digest;
use samara_protocol::journal::{Content, StoredFile, StoredPath, UserId, VaultEvent};
use samara_protocol::units::ChainTime;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

/// One event, as its entry tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ArchivedEvent {
    /// Its number in the vault, from 0 without a gap.
    pub seq: u64,
    /// When it happened first, by the clock of the machine that made it, milliseconds since the Unix epoch.
    pub time: u64,
    /// Time of the newest block that its writer knew.
    pub chain_time: ChainTime,
    /// What happened.
    #[serde(flatten)]
    pub change: ArchivedChange,
    /// Who did it; nobody in particular, if whoever runs the node did.
    #[serde(default)]
    pub actor: Option<UserId>,
    /// BLAKE3 of the bytes of the entry of the event before, as `b3sum` prints it; zeros for the first.
    pub prev_hash: Digest,
}

/// What happened: the vault's events in the journal, by the same names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "snake_case")]
pub enum ArchivedChange {
    /// The vault began.
    Created(NamedVault),
    /// It got another name.
    Renamed(NamedVault),
    /// A file got a new version.
    Put(PutFile),
    /// A file moved with all its versions.
    Moved(MovedFile),
    /// A file was taken off the list.
    Deleted(FolderOrFile),
    /// A version was given up for good.
    VersionRemoved(VersionAt),
    /// A folder was made.
    FolderMade(FolderOrFile),
    /// A folder that was made exists by itself no longer.
    FolderRemoved(FolderOrFile),
    /// The bytes of a version were put elsewhere.
    Relocated(VersionAt),
    /// Something was set for the vault.
    Set(VaultSetting),
    /// Something changed nothing.
    Noted(Note),
}

/// A vault's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedVault {
    /// The name.
    pub name: String,
}

/// A new version of a file. Its number is that of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutFile {
    /// Where.
    pub path: StoredPath,
    /// Bytes.
    pub size: u64,
    /// Last change on the machine that it came from, milliseconds since the Unix epoch.
    pub modified: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// BLAKE3 of its bytes.
    pub hash: Digest,
    /// Whether the vault never had the bytes, because it was brought in from an archive after they had
    /// been given up. Left out where it is not so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
}

/// A file that moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFile {
    /// Where it was.
    pub from: StoredPath,
    /// Where it went.
    pub to: StoredPath,
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderOrFile {
    /// Where.
    pub path: StoredPath,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionAt {
    /// The file.
    pub path: StoredPath,
    /// The number of the event that put it.
    pub version: u64,
}

/// A setting of a vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultSetting {
    /// Which.
    pub name: String,
    /// Its value, in hex; an empty one takes the setting away.
    #[serde(with = "in_hex")]
    pub value: Vec<u8>,
}

/// A text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// It.
    pub text: String,
}

impl ArchivedChange {
    /// What an archive tells of an event; nothing of a vault's end, behind which there is no vault.
    #[must_use]
    pub fn of(event: &VaultEvent) -> Option<Self> {
        let at = |path: &StoredPath| FolderOrFile { path: path.clone() };
        let version_at = |path: &StoredPath, version| VersionAt { path: path.clone(), version };
        Some(match event {
            VaultEvent::Created { name } => Self::Created(NamedVault { name: name.clone() }),
            VaultEvent::Renamed { name } => Self::Renamed(NamedVault { name: name.clone() }),
            VaultEvent::Put { path, file } => Self::Put(PutFile::new(path, file)),
            VaultEvent::Moved { from, to } => {
                Self::Moved(MovedFile { from: from.clone(), to: to.clone() })
            }
            VaultEvent::Deleted { path } => Self::Deleted(at(path)),
            VaultEvent::VersionRemoved { path, version } => {
                Self::VersionRemoved(version_at(path, *version))
            }
            VaultEvent::Removed => return None,
            VaultEvent::FolderMade { path } => Self::FolderMade(at(path)),
            VaultEvent::FolderRemoved { path } => Self::FolderRemoved(at(path)),
            VaultEvent::Relocated { path, version, .. } => {
                Self::Relocated(version_at(path, *version))
            }
            VaultEvent::Set { name, value } => {
                Self::Set(VaultSetting { name: name.clone(), value: value.clone() })
            }
            VaultEvent::Noted { text } => Self::Noted(Note { text: text.clone() }),
        })
    }

    /// The journal's event. Where the bytes of a version lie is nothing that an archive knows: `content` says
    /// it, and that they were put elsewhere is only noted.
    pub(in crate::archive) fn into_event(
        self,
        content: impl FnOnce(&PutFile) -> Content,
    ) -> VaultEvent {
        match self {
            Self::Created(named) => VaultEvent::Created { name: named.name },
            Self::Renamed(named) => VaultEvent::Renamed { name: named.name },
            Self::Put(put) => {
                let content = content(&put);
                let PutFile { path, size, modified, executable, hash, .. } = put;
                let file = StoredFile { size, modified, executable, hash, content };
                VaultEvent::Put { path, file }
            }
            Self::Moved(moved) => VaultEvent::Moved { from: moved.from, to: moved.to },
            Self::Deleted(at) => VaultEvent::Deleted { path: at.path },
            Self::VersionRemoved(at) => {
                VaultEvent::VersionRemoved { path: at.path, version: at.version }
            }
            Self::FolderMade(at) => VaultEvent::FolderMade { path: at.path },
            Self::FolderRemoved(at) => VaultEvent::FolderRemoved { path: at.path },
            Self::Set(setting) => VaultEvent::Set { name: setting.name, value: setting.value },
            Self::Noted(note) => VaultEvent::Noted { text: note.text },
            Self::Relocated(at) => VaultEvent::Noted {
                text: format!("the bytes of version {} were put elsewhere", at.version),
            },
        }
    }

    /// Its name in the entry.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Renamed(_) => "renamed",
            Self::Put(_) => "put",
            Self::Moved(_) => "moved",
            Self::Deleted(_) => "deleted",
            Self::VersionRemoved(_) => "version_removed",
            Self::FolderMade(_) => "folder_made",
            Self::FolderRemoved(_) => "folder_removed",
            Self::Relocated(_) => "relocated",
            Self::Set(_) => "set",
            Self::Noted(_) => "noted",
        }
    }
}

impl PutFile {
    fn new(path: &StoredPath, file: &StoredFile) -> Self {
        Self {
            path: path.clone(),
            size: file.size,
            modified: file.modified,
            executable: file.executable,
            hash: file.hash,
            erased: file.content == Content::Erased,
        }
    }
}

/// Bytes as hex digits.
mod in_hex {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map_err(serde::de::Error::custom)
    }
}

/// Serializes the payload alone.
struct Payload<'a>(&'a ArchivedChange);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ArchivedChange::Created(named) | ArchivedChange::Renamed(named) => {
                named.serialize(serializer)
            }
            ArchivedChange::Put(put) => put.serialize(serializer),
            ArchivedChange::Moved(moved) => moved.serialize(serializer),
            ArchivedChange::Deleted(at)
            | ArchivedChange::FolderMade(at)
            | ArchivedChange::FolderRemoved(at) => at.serialize(serializer),
            ArchivedChange::VersionRemoved(at) | ArchivedChange::Relocated(at) => {
                at.serialize(serializer)
            }
            ArchivedChange::Set(setting) => setting.serialize(serializer),
            ArchivedChange::Noted(note) => note.serialize(serializer),
        }
    }
}

impl Serialize for ArchivedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("ArchivedEvent", 7)?;
        object.serialize_field("seq", &self.seq)?;
        object.serialize_field("time", &self.time)?;
        object.serialize_field("chain_time", &self.chain_time)?;
        object.serialize_field("kind", self.change.kind())?;
        object.serialize_field("actor", &self.actor)?;
        object.serialize_field("prev_hash", &self.prev_hash)?;
        object.serialize_field("payload", &Payload(&self.change))?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_one_form() {
        let event = ArchivedEvent {
            seq: 3,
            time: 5,
            chain_time: ChainTime(4),
            change: ArchivedChange::Moved(MovedFile {
                from: StoredPath::new("a").unwrap(),
                to: StoredPath::new("b \"c\"").unwrap(),
            }),
            actor: Some(UserId([7; 8])),
            prev_hash: Digest::ZERO,
        };
        let text = serde_json::to_string(&event).unwrap();
        let zeros = "0".repeat(64);
        assert_eq!(
            text,
            format!(
                r#"{{"seq":3,"time":5,"chain_time":4,"kind":"moved","actor":"0707070707070707","prev_hash":"{zeros}","payload":{{"from":"a","to":"b \"c\""}}}}"#
            )
        );
        assert_eq!(serde_json::from_str::<ArchivedEvent>(&text).unwrap(), event);
    }

    #[test]
    fn paths_that_leave_the_vault_are_no_events() {
        let text = r#"{"seq":1,"time":5,"chain_time":4,"kind":"deleted","prev_hash":"PREV","payload":{"path":"../x"}}"#;
        let text = text.replace("PREV", &"0".repeat(64));
        assert!(serde_json::from_str::<ArchivedEvent>(&text).is_err());
        let fine = text.replace("../x", "x");
        assert!(serde_json::from_str::<ArchivedEvent>(&fine).is_ok());
    }
}
