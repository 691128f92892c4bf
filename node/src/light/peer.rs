//! One chain peer: somebody who holds the chain and answers questions about it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::signature::PublicKey;
use samara_protocol::wire::{NodeRequest, NodeResponse, WireError};

use crate::transport::{Channel, RequestError, Transport};

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It did not answer.
    #[error(transparent)]
    Transport(#[from] RequestError),
    /// It answered with something that is no message.
    #[error("chain peer {peer} answered with no message", peer = .peer.short())]
    Malformed {
        /// The peer.
        peer: PublicKey,
        /// What is wrong with it.
        source: WireError,
    },
    /// It does not serve a chain, or is too busy.
    #[error("chain peer {peer} refuses: {reason}", peer = .peer.short())]
    Refused {
        /// The peer.
        peer: PublicKey,
        /// Its words.
        reason: String,
    },
    /// It answered another question.
    #[error("chain peer {peer} answered another question", peer = .peer.short())]
    OtherAnswer {
        /// The peer.
        peer: PublicKey,
    },
}

impl AskError {
    /// Whether the peer broke the protocol, rather than being absent or busy.
    #[must_use]
    pub const fn is_false(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::OtherAnswer { .. })
    }
}

/// Somebody who holds the chain.
#[async_trait]
pub trait ChainPeer: Send + Sync + 'static {
    /// Its identity key.
    fn key(&self) -> PublicKey;
    /// Asks one question; ends after `deadline` at the latest.
    async fn ask(
        &self,
        request: ChainRequest,
        deadline: Duration,
    ) -> Result<ChainResponse, AskError>;
}

/// A chain peer behind the network.
#[derive(Clone)]
pub struct NetworkPeer {
    transport: Transport,
    key: PublicKey,
}

impl NetworkPeer {
    /// The peer with this identity; its address must be known to the transport.
    #[must_use]
    pub const fn new(transport: Transport, key: PublicKey) -> Self {
        Self { transport, key }
    }
}

/// The channel that a question takes: answers of many blocks or values do not fit the control channel,
/// and would delay what is urgent.
#[must_use]
pub fn channel(request: &ChainRequest) -> Channel {
    match request {
        ChainRequest::Batch { .. } => Channel::Bulk,
        ChainRequest::State(keys) if keys.len() > 16 => Channel::Bulk,
        _ => Channel::Control,
    }
}

#[async_trait]
impl ChainPeer for NetworkPeer {
    fn key(&self) -> PublicKey {
        self.key
    }

    async fn ask(
        &self,
        request: ChainRequest,
        deadline: Duration,
    ) -> Result<ChainResponse, AskError> {
        let peer = self.key;
        let channel = channel(&request);
        let body = Bytes::from(NodeRequest::Chain(request).to_bytes());
        let answer = self.transport.request(peer, channel, body, deadline).await?;
        match NodeResponse::from_bytes(&answer) {
            Ok(NodeResponse::Chain(response)) => Ok(response),
            Ok(NodeResponse::Refused(reason)) => Err(AskError::Refused { peer, reason }),
            Ok(NodeResponse::Host(_)) => Err(AskError::OtherAnswer { peer }),
            Err(source) => Err(AskError::Malformed { peer, source }),
        }
    }
}
