//! What nodes say to each other: one version byte, then a request or an answer.
//!
//! The version is of the whole set of messages. A node refuses versions that it does not know instead
//! of misreading them. Message bytes are bounded by the transport before they come here.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::chain::query::{ChainRequest, ChainResponse};
use crate::encoding::DecodeError;
use crate::encoding::payload::{decode_shared, encode_parts};
use crate::host::message::{HostRequest, HostResponse};

/// Version of the messages between nodes, the first byte of each.
pub const WIRE_VERSION: u8 = 1;

/// A request to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeRequest {
    /// To one that holds the chain.
    Chain(ChainRequest),
    /// To a host.
    Host(HostRequest),
}

/// A node's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeResponse {
    /// To [`NodeRequest::Chain`].
    Chain(ChainResponse),
    /// To [`NodeRequest::Host`].
    Host(HostResponse),
    /// The node does not do what was asked: it holds no chain, or is no host, or is too busy.
    Refused(String),
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not a byte.
    #[error("empty message")]
    Empty,
    /// Of a version that is not known here.
    #[error("message of version {theirs}, but this node speaks version {WIRE_VERSION}")]
    Version {
        /// The sender's version.
        theirs: u8,
    },
    /// Malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl NodeRequest {
    /// The bytes that are sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The bytes that are sent, in parts; a sector's bytes are not copied.
    #[must_use]
    pub fn to_parts(&self) -> Vec<Bytes> {
        let payload = match self {
            Self::Host(request) => request.payload(),
            Self::Chain(_) => None,
        };
        encode_parts(vec![WIRE_VERSION], self, payload)
    }

    /// Reads what was received. A sector's bytes share its memory.
    ///
    /// # Errors
    /// [`WireError`] for an unknown version and for malformed bytes.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, WireError> {
        from_bytes(bytes)
    }
}

impl NodeResponse {
    /// The bytes of a [`NodeResponse::Chain`] whose [`ChainResponse`] is encoded already, as a batch
    /// of blocks is that comes straight from the disk.
    #[must_use]
    pub fn encoded_chain(answer: &[u8]) -> Vec<u8> {
        // `Chain` is the first variant: postcard writes its number as one zero byte.
        let mut bytes = Vec::with_capacity(answer.len() + 2);
        bytes.extend_from_slice(&[WIRE_VERSION, 0]);
        bytes.extend_from_slice(answer);
        bytes
    }

    /// The bytes that are sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The bytes that are sent, in parts; a range's bytes are not copied.
    #[must_use]
    pub fn to_parts(&self) -> Vec<Bytes> {
        let payload = match self {
            Self::Host(response) => response.payload(),
            Self::Chain(_) | Self::Refused(_) => None,
        };
        encode_parts(vec![WIRE_VERSION], self, payload)
    }

    /// Reads what was received. A range's bytes share its memory.
    ///
    /// # Errors
    /// [`WireError`] for an unknown version and for malformed bytes.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, WireError> {
        from_bytes(bytes)
    }
}

fn to_bytes<T: Serialize>(message: &T) -> Vec<u8> {
    // Straight behind the version byte: bodies have megabytes, a second copy would show.
    postcard::to_extend(message, vec![WIRE_VERSION])
        .expect("invariant: all encoded types have known lengths")
}

fn from_bytes<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, WireError> {
    match bytes.first() {
        None => Err(WireError::Empty),
        Some(&WIRE_VERSION) => Ok(decode_shared(&bytes.slice(1..))?),
        Some(&theirs) => Err(WireError::Version { theirs }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding;
    use crate::units::Height;

    #[test]
    fn messages_round_trip_behind_their_version() {
        let request = NodeRequest::Chain(ChainRequest::Tip { above: Some(Height(7)) });
        let bytes = request.to_bytes();
        assert_eq!(bytes[0], WIRE_VERSION);
        assert_eq!(request.to_parts().concat(), bytes);
        assert_eq!(NodeRequest::from_bytes(&bytes.into()), Ok(request));
        let response = NodeResponse::Refused("no host here".to_owned());
        assert_eq!(NodeResponse::from_bytes(&response.to_bytes().into()), Ok(response));
    }

    #[test]
    fn an_answer_encoded_before_is_the_same_answer() {
        let answer = ChainResponse::Hosts(vec![crate::signature::PublicKey([7; 32])]);
        let bytes = NodeResponse::encoded_chain(&encoding::encode(&answer));
        assert_eq!(bytes, NodeResponse::Chain(answer).to_bytes());
    }

    #[test]
    fn other_versions_are_refused_not_misread() {
        let mut bytes =
            NodeRequest::Chain(ChainRequest::Hosts { after: None, limit: 1 }).to_bytes();
        bytes[0] = 2;
        let read = |bytes: &[u8]| NodeRequest::from_bytes(&Bytes::copy_from_slice(bytes));
        assert_eq!(read(&bytes), Err(WireError::Version { theirs: 2 }));
        assert_eq!(read(&[]), Err(WireError::Empty));
        assert!(matches!(read(&[1, 9]), Err(WireError::Decode(_))));
    }
}
