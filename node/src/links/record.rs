//! A link as it is kept and as it is shown, and its secret.

use std::fmt;
use std::str::FromStr;

use samara_protocol::hash::Digest;
use samara_protocol::journal::UserId;
use samara_protocol::units::ChainTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::notify::settings::Secret;

/// Version of the files that this program writes.
const VERSION: u8 = 1;
/// Random bytes of a secret.
const BYTES: usize = 32;

/// Names a link, for those who manage it. It is no secret, and gives nothing away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkId(pub [u8; 8]);

/// A text that is no id of a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link's id is written with 16 hex digits")]
pub struct ParseLinkIdError;

impl LinkId {
    /// A new one.
    pub(super) fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkId({self})")
    }
}

impl FromStr for LinkId {
    type Err = ParseLinkIdError;

    fn from_str(text: &str) -> Result<Self, ParseLinkIdError> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseLinkIdError)?;
        Ok(Self(bytes))
    }
}

impl From<LinkId> for String {
    fn from(id: LinkId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LinkId {
    type Error = ParseLinkIdError;

    fn try_from(text: String) -> Result<Self, ParseLinkIdError> {
        text.parse()
    }
}

/// The secret of a new link, in hex.
pub(super) fn draw_secret() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(&mut bytes[..])?;
    Ok(Zeroizing::new(hex::encode(&bytes[..])))
}

/// What a secret is known by. It is of 32 random bytes, so a quick hash gives nothing away.
pub(super) fn digest(secret: &str) -> Digest {
    Digest(blake3::hash(secret.as_bytes()).into())
}

/// A link as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u8,
    pub(super) id: LinkId,
    /// The archive's id.
    pub(super) sid: String,
    /// The user who made it; nobody, if whoever runs the node did, or the node by itself.
    pub(super) by: Option<UserId>,
    /// Whether the node made it for a mail.
    pub(super) mailed: bool,
    pub(super) created: ChainTime,
    /// From when on it does not work.
    pub(super) expires: ChainTime,
    /// BLAKE3 of the secret's text.
    pub(super) hash: Digest,
}

impl Record {
    pub(super) fn new(
        sid: String,
        (by, mailed): (Option<UserId>, bool),
        (created, expires): (ChainTime, ChainTime),
        hash: Digest,
    ) -> Result<Self, getrandom::Error> {
        let id = LinkId::draw()?;
        Ok(Self { version: VERSION, id, sid, by, mailed, created, expires, hash })
    }

    /// Reads a file; nothing if it is none of this version.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.version == VERSION).then_some(record)
    }

    pub(super) fn view(&self) -> LinkView {
        LinkView {
            id: self.id,
            sid: self.sid.clone(),
            created_by: self.by,
            mailed: self.mailed,
            created: self.created,
            expires: self.expires,
        }
    }
}

/// A link as it is shown: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkView {
    /// To revoke it by.
    #[schemars(with = "String")]
    pub id: LinkId,
    /// Id of the archive that it leads to.
    pub sid: String,
    /// The user who made it; nobody, if whoever runs the node did, or the node by itself.
    #[schemars(with = "Option<String>")]
    pub created_by: Option<UserId>,
    /// Whether the node made it for a mail.
    pub mailed: bool,
    /// When it was made, by the chain's time.
    #[schemars(with = "u64")]
    pub created: ChainTime,
    /// Chain time from which on it does not work.
    #[schemars(with = "u64")]
    pub expires: ChainTime,
}

/// A new link, shown once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LinkMade {
    /// What it is.
    #[serde(flatten)]
    pub view: LinkView,
    /// Its address: nobody can show it again.
    #[schemars(with = "String")]
    pub url: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_programs_wrote_is_read() {
        let text = r#"{"version":1,"id":"0101010101010101","sid":"aa","by":"0202020202020202","mailed":true,"created":1,"expires":2,"hash":"0303030303030303030303030303030303030303030303030303030303030303"}"#;
        let record = Record {
            version: 1,
            id: LinkId([1; 8]),
            sid: "aa".to_owned(),
            by: Some(UserId([2; 8])),
            mailed: true,
            created: ChainTime(1),
            expires: ChainTime(2),
            hash: Digest([3; 32]),
        };
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(Record::read(text.as_bytes()), Some(record));
        for other in ["", "{}", &text.replace(":1,\"id", ":2,\"id")] {
            assert_eq!(Record::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_secret_is_drawn_anew_and_known_by_all_of_its_digits() {
        let (one, two) = (draw_secret().unwrap(), draw_secret().unwrap());
        assert_eq!((one.len(), one == two), (64, false));
        assert_ne!(digest(&one), digest(&two));
    }
}
