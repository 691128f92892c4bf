//! Errors of the transport, one enum per operation.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::DialError;
use libp2p::{Multiaddr, gossipsub};
use samara_protocol::signature::PublicKey;

use super::{Channel, Topic};

/// Why the transport did not start, or its task failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The encryption handshake could not be set up.
    #[error("cannot set up the noise handshake")]
    Noise(#[source] libp2p::noise::Error),
    /// The system's resolver configuration is unreadable.
    #[error("cannot read the system's name resolution settings")]
    Resolver(#[source] io::Error),
    /// The gossip settings contradict each other.
    #[error("cannot set up gossip: {0}")]
    Gossip(String),
    /// A listen address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: Multiaddr,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The swarm's task panicked or was aborted.
    #[error("the transport's task ended abnormally")]
    Task(#[from] tokio::task::JoinError),
}

/// Why a request has no response. Every variant names the peer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The peer has no known address and no connection.
    #[error("no address of peer {peer} is known", peer = .peer.short())]
    NoAddress {
        /// The peer.
        peer: PublicKey,
    },
    /// None of the peer's addresses answered, or another key answered there.
    #[error("peer {peer} is unreachable", peer = .peer.short())]
    Unreachable {
        /// The peer.
        peer: PublicKey,
        /// What each address said.
        #[source]
        source: Arc<DialError>,
    },
    /// No response came within the deadline. The peer may have handled the request.
    #[error("peer {peer} did not answer within {deadline:?}", peer = .peer.short())]
    TimedOut {
        /// The peer.
        peer: PublicKey,
        /// The caller's deadline.
        deadline: Duration,
    },
    /// Too many requests to this peer are waiting here already.
    #[error("too many requests to peer {peer} are waiting", peer = .peer.short())]
    QueueFull {
        /// The peer.
        peer: PublicKey,
    },
    /// The peer handles too many requests already and did not handle this one.
    #[error("peer {peer} is overloaded", peer = .peer.short())]
    Overloaded {
        /// The peer.
        peer: PublicKey,
    },
    /// The connection ended. If `sent`, the peer may have handled the request.
    #[error("the connection to peer {peer} closed (request sent: {sent})", peer = .peer.short())]
    Closed {
        /// The peer.
        peer: PublicKey,
        /// Whether the whole request had been written out.
        sent: bool,
        /// What the connection said, if it said anything.
        #[source]
        source: Option<io::Error>,
    },
    /// The request is over the channel's limit, here or at the peer.
    #[error("a request of {size} bytes to peer {peer} is too large for {channel:?}", peer = .peer.short())]
    RequestTooLarge {
        /// The peer.
        peer: PublicKey,
        /// The channel.
        channel: Channel,
        /// Bytes of the body.
        size: usize,
    },
    /// The response is over the channel's limit.
    #[error("a response of {size} bytes from peer {peer} is too large for {channel:?}", peer = .peer.short())]
    ResponseTooLarge {
        /// The peer.
        peer: PublicKey,
        /// The channel.
        channel: Channel,
        /// Bytes that the peer announced.
        size: usize,
    },
    /// The peer's handler failed, or its answer was over the channel's limit.
    #[error("peer {peer} failed to answer", peer = .peer.short())]
    PeerFailed {
        /// The peer.
        peer: PublicKey,
    },
    /// The peer broke the protocol.
    #[error("peer {peer} sent a malformed response", peer = .peer.short())]
    Malformed {
        /// The peer.
        peer: PublicKey,
    },
    /// The peer does not speak the channel's protocol.
    #[error("peer {peer} does not speak {protocol}", peer = .peer.short())]
    Unsupported {
        /// The peer.
        peer: PublicKey,
        /// The protocol's name.
        protocol: libp2p::StreamProtocol,
    },
    /// The transport was shut down here.
    #[error("the transport has stopped; peer {peer} was not asked", peer = .peer.short())]
    Stopped {
        /// The peer.
        peer: PublicKey,
    },
}

/// Why a gossip operation failed.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// No connected peer subscribes to the topic.
    #[error("no connected peer subscribes to {topic}")]
    NoSubscribers {
        /// The topic.
        topic: Topic,
    },
    /// The topic has a subscription already.
    #[error("{topic} is subscribed already")]
    AlreadySubscribed {
        /// The topic.
        topic: Topic,
    },
    /// The message could not be published.
    #[error("cannot publish to {topic}")]
    Publish {
        /// The topic.
        topic: Topic,
        /// Why not.
        #[source]
        source: gossipsub::PublishError,
    },
    /// The topic could not be subscribed.
    #[error("cannot subscribe to {topic}")]
    Subscribe {
        /// The topic.
        topic: Topic,
        /// Why not.
        #[source]
        source: gossipsub::SubscriptionError,
    },
    /// The transport was shut down.
    #[error("the transport has stopped; {topic} is gone")]
    Stopped {
        /// The topic.
        topic: Topic,
    },
}
