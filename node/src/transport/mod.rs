//! Requests and gossip between Samara nodes, over libp2p.
//!
//! The transport carries opaque bodies: renters to hosts, light clients to chain peers, and
//! transactions to everyone. It knows nothing of what they mean.
//!
//! - **Identity.** A peer is its Ed25519 identity key. The key is inside the libp2p peer id and
//!   the handshake proves it, so a response comes from the key that was asked, wherever it was
//!   dialed.
//! - **Channels.** [`Channel::Control`] and [`Channel::Bulk`] have a connection each, so that an
//!   acknowledgement never waits behind 4 MiB bodies. Requests run on pooled long-lived substreams
//!   (`outbound`), one request at a time per substream; `wire` gives the frames.
//! - **Bounds.** Bodies, concurrent requests, queues, connections, and the time for each frame are
//!   limited on both sides; memory grows with bytes received, never with a length claimed.
//! - **Ownership.** One task owns the swarm; [`Transport`] is a handle to it. A request runs in
//!   its caller's future; dropping that future frees all that it held.
//! - **Shutdown.** [`Transport::shutdown`], or dropping the last handle (a handler that holds one
//!   keeps the transport alive): inbound requests in
//!   handling are answered for up to five seconds, then everything closes. Outbound requests fail
//!   with [`RequestError::Stopped`] or [`RequestError::Closed`]. [`TransportTask::join`] tells if
//!   the task ended otherwise.
//!
//! There is no peer discovery here: addresses are given by configuration and by announcements on
//! the chain ([`Transport::add_address`]), and learned from connected peers by identify.

mod address;
mod body;
mod buffer;
mod error;
mod gossip;
#[doc(hidden)]
pub mod hostile;
mod identity;
mod inbound;
mod outbound;
mod per_address;
mod substream;
mod task;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::StreamProtocol;
use samara_protocol::signature::{PublicKey, SecretKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use body::Body;
pub use error::{GossipError, RequestError, TransportError};
pub use gossip::{GossipCheck, GossipMessage, MAX_GOSSIP, Topic, Verdict};
pub use identity::{peer_id, public_key};
pub use libp2p::Multiaddr;

use address::AddressBook;
use buffer::BufferPool;
use inbound::{Inbound, Limits};
use outbound::{Pool, Pools};
use substream::{OpenError, Opened};
use task::{Command, Task};
use wire::{ExchangeError, Status};

/// Largest request or response on [`Channel::Control`], in bytes.
pub const MAX_CONTROL_BODY: usize = 2 << 20;

/// Largest request or response on [`Channel::Bulk`], in bytes: a sector of 4 MiB with its proof.
pub const MAX_BULK_BODY: usize = 6 << 20;

/// Commands that may wait for the swarm's task; senders wait for room.
const COMMANDS: usize = 256;

/// How much longer the listening side keeps an idle substream, so that only the side that could
/// use it gives it up.
const IDLE_FACTOR: u32 = 2;

/// Which kind of traffic a request belongs to. The kinds never wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Heads, chain queries, contracts: small and urgent.
    Control,
    /// Sectors.
    Bulk,
}

impl Channel {
    const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// Largest request body in bytes.
    #[must_use]
    pub const fn max_request(self) -> usize {
        match self {
            Self::Control => MAX_CONTROL_BODY,
            Self::Bulk => MAX_BULK_BODY,
        }
    }

    /// Largest response body in bytes.
    #[must_use]
    pub const fn max_response(self) -> usize {
        self.max_request()
    }

    const fn protocol(self) -> StreamProtocol {
        match self {
            Self::Control => StreamProtocol::new("/samara/control/1"),
            Self::Bulk => StreamProtocol::new("/samara/bulk/1"),
        }
    }
}

/// Answers the requests of peers.
#[async_trait]
pub trait RequestHandler: Send + Sync + 'static {
    /// The response to a request of the peer whose key is `from`. Called concurrently, up to 16
    /// times per peer and channel. Runs to its end even if the peer has gone, except after a
    /// shutdown's grace. A panic, or a response over [`Channel::max_response`], is told to the peer
    /// as a failure.
    async fn handle(&self, from: PublicKey, channel: Channel, body: Bytes) -> Body;
}

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The node's identity.
    pub identity: SecretKey,
    /// Where to listen: `/ip4/.../tcp/<port>`, and `/ip4/.../udp/<port>/quic-v1` for QUIC. Port 0
    /// takes a free one. Empty for a node that only dials.
    pub listen: Vec<Multiaddr>,
    /// How long a dial may take. Default 5 s.
    pub dial_timeout: Duration,
    /// How long an idle substream is kept, and then a connection without any. Default 10 min.
    pub idle_timeout: Duration,
    /// How long one inbound frame may take from its first byte to its last. Default 60 s.
    pub frame_timeout: Duration,
    /// Most connections in all, a quarter of them reserved for dials. Default 1024.
    pub max_connections: u32,
    /// Most connections per peer. Each side may dial one per channel. Default 8.
    pub max_connections_per_peer: u32,
    /// Most free buffers for large bodies (up to 6 MiB each) kept for reuse. Default 24.
    pub pooled_buffers: usize,
}

impl TransportConfig {
    /// The defaults, listening nowhere.
    #[must_use]
    pub fn new(identity: SecretKey) -> Self {
        Self {
            identity,
            listen: Vec::new(),
            dial_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            frame_timeout: Duration::from_secs(60),
            max_connections: 1024,
            max_connections_per_peer: 8,
            pooled_buffers: 24,
        }
    }
}

/// A handle to the node's swarm. Cheap to clone.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    local: PublicKey,
    commands: mpsc::Sender<Command>,
    addresses: Arc<AddressBook>,
    pools: Arc<Pools>,
    buffers: BufferPool,
    peers: watch::Receiver<BTreeSet<PublicKey>>,
    listening: watch::Receiver<Vec<Multiaddr>>,
    stop: CancellationToken,
    #[cfg(test)]
    inbound: Arc<Inbound>,
}

/// The running task of a transport.
#[must_use = "a failure of the task is only seen by joining it"]
#[derive(Debug)]
pub struct TransportTask(tokio::task::JoinHandle<()>);

impl TransportTask {
    /// Waits until the transport has shut down.
    ///
    /// # Errors
    /// If the task panicked.
    pub async fn join(self) -> Result<(), TransportError> {
        Ok(self.0.await?)
    }
}

impl Transport {
    /// Binds the listen addresses and starts serving. Needs a tokio runtime.
    ///
    /// # Errors
    /// If an address cannot be bound or the system's resolver settings cannot be read.
    pub async fn start(
        config: TransportConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<(Self, TransportTask), TransportError> {
        let addresses = Arc::new(AddressBook::default());
        let buffers = BufferPool::new(config.pooled_buffers);
        let pools = Arc::new(Pools::default());
        let stop = CancellationToken::new();
        let limits = Limits {
            frame: config.frame_timeout,
            idle: config.idle_timeout.saturating_mul(IDLE_FACTOR),
        };
        let inbound = Inbound::new(handler, buffers.clone(), limits, stop.clone());
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        let (peer_sender, peers) = watch::channel(BTreeSet::new());
        let (listening_sender, listening) = watch::channel(Vec::new());
        let mut task = Task {
            swarm: task::swarm(&config, Arc::clone(&addresses))?,
            commands,
            inbound: Arc::clone(&inbound),
            pools: Arc::clone(&pools),
            buffers: buffers.clone(),
            addresses: Arc::clone(&addresses),
            gossip: gossip::Gossip::default(),
            peers: peer_sender,
            listening: listening_sender,
            stop: stop.clone(),
            idle_timeout: config.idle_timeout,
        };
        task.listen(&config.listen).await?;
        let transport = Self(Arc::new(Shared {
            local: config.identity.public(),
            commands: command_sender,
            addresses,
            pools,
            buffers,
            peers,
            listening,
            stop,
            #[cfg(test)]
            inbound,
        }));
        Ok((transport, TransportTask(tokio::spawn(task.run()))))
    }

    /// This node's identity key.
    #[must_use]
    pub fn local_peer(&self) -> PublicKey {
        self.0.local
    }

    /// The addresses that the node listens on, with their real ports.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.0.listening.borrow().clone()
    }

    /// Adds an address to dial the peer at. The last eight are kept.
    pub fn add_address(&self, peer: PublicKey, address: Multiaddr) {
        self.0.addresses.add(peer_id(&peer), address);
    }

    /// Replaces the addresses to dial the peer at, as when it announced others.
    pub fn replace_addresses(&self, peer: PublicKey, addresses: Vec<Multiaddr>) {
        self.0.addresses.replace(peer_id(&peer), addresses);
    }

    /// The connected peers.
    #[must_use]
    pub fn peers(&self) -> BTreeSet<PublicKey> {
        self.0.peers.borrow().clone()
    }

    /// The connected peers, to wait for changes.
    #[must_use]
    pub fn watch_peers(&self) -> watch::Receiver<BTreeSet<PublicKey>> {
        self.0.peers.clone()
    }

    /// Makes sure of a control connection with the peer, for gossip flows only between connected
    /// peers.
    ///
    /// # Errors
    /// As [`Self::request`], with nothing sent.
    pub async fn connect(&self, peer: PublicKey, deadline: Duration) -> Result<(), RequestError> {
        let connect = async {
            let pool = self.0.pools.pool(peer, Channel::Control);
            let _slot = pool.slot().await.ok_or(RequestError::QueueFull { peer })?;
            let opened = match pool.take() {
                Some(opened) => opened,
                None => self.open(peer, Channel::Control).await?,
            };
            pool.put(opened);
            Ok(())
        };
        let timed = tokio::time::timeout(deadline, connect).await;
        timed.unwrap_or(Err(RequestError::TimedOut { peer, deadline }))
    }

    /// Sends a request and waits for the response, dialing the peer if need be. Eight requests per
    /// peer and channel run side by side, others wait for them. Dropping the future abandons the
    /// request.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(
        &self,
        peer: PublicKey,
        channel: Channel,
        body: impl Into<Body>,
        deadline: Duration,
    ) -> Result<Bytes, RequestError> {
        let body = body.into();
        let size = body.len();
        if size > channel.max_request() {
            return Err(RequestError::RequestTooLarge { peer, channel, size });
        }
        let timed = tokio::time::timeout(deadline, self.attempt(peer, channel, &body)).await;
        timed.unwrap_or(Err(RequestError::TimedOut { peer, deadline }))
    }

    async fn attempt(
        &self,
        peer: PublicKey,
        channel: Channel,
        body: &Body,
    ) -> Result<Bytes, RequestError> {
        let pool = self.0.pools.pool(peer, channel);
        let _slot = pool.slot().await.ok_or(RequestError::QueueFull { peer })?;
        if let Some(opened) = pool.take() {
            match self.exchange(&pool, opened, channel, body).await {
                // A pooled substream may have died unnoticed; a fresh one is worth one more try.
                Err(ExchangeError::NotSent(_)) => {}
                done => return done.map_err(|error| named(error, peer, channel, body.len())),
            }
        }
        let opened = self.open(peer, channel).await?;
        let done = self.exchange(&pool, opened, channel, body).await;
        done.map_err(|error| named(error, peer, channel, body.len()))
    }

    async fn exchange(
        &self,
        pool: &Pool,
        mut opened: Opened,
        channel: Channel,
        body: &Body,
    ) -> Result<Bytes, ExchangeError> {
        let buffers = &self.0.buffers;
        let response = wire::exchange(&mut opened.stream, channel, body, buffers).await?;
        pool.put(opened);
        Ok(response)
    }

    /// A new substream. A connection that is lost meanwhile is dialed once more.
    async fn open(&self, peer: PublicKey, channel: Channel) -> Result<Opened, RequestError> {
        for _ in 0..2 {
            let (reply, opened) = oneshot::channel();
            let command = Command::Open { peer: peer_id(&peer), channel, reply };
            if self.0.commands.send(command).await.is_err() {
                return Err(RequestError::Stopped { peer });
            }
            match opened.await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(OpenError::NoAddress)) => return Err(RequestError::NoAddress { peer }),
                Ok(Err(OpenError::Dial(source))) => {
                    return Err(RequestError::Unreachable { peer, source });
                }
                Ok(Err(OpenError::Unsupported(protocol))) => {
                    return Err(RequestError::Unsupported { peer, protocol });
                }
                Err(_) if self.0.stop.is_cancelled() => {
                    return Err(RequestError::Stopped { peer });
                }
                Err(_) => {}
            }
        }
        Err(RequestError::Closed { peer, sent: false, source: None })
    }

    /// Publishes a message to all other subscribers of the topic. One that was seen before counts
    /// as published.
    ///
    /// # Errors
    /// If no connected peer subscribes, or the message is over [`MAX_GOSSIP`].
    pub async fn publish(&self, topic: Topic, bytes: Bytes) -> Result<(), GossipError> {
        self.gossip(topic.clone(), |reply| Command::Publish { topic, bytes, reply }).await?
    }

    /// Subscribes to a topic. Messages that `check` accepts are passed on to other peers and to
    /// the receiver; a receiver that lags by 1,024 messages misses some. Dropping it unsubscribes.
    ///
    /// # Errors
    /// If the topic has a living subscription already.
    pub async fn subscribe(
        &self,
        topic: Topic,
        check: GossipCheck,
    ) -> Result<mpsc::Receiver<GossipMessage>, GossipError> {
        self.gossip(topic.clone(), |reply| Command::Subscribe { topic, check, reply }).await?
    }

    /// The connected peers that subscribe to the topic.
    ///
    /// # Errors
    /// If the transport has stopped.
    pub async fn subscribers(&self, topic: Topic) -> Result<Vec<PublicKey>, GossipError> {
        self.gossip(topic.clone(), |reply| Command::Subscribers { topic, reply }).await
    }

    async fn gossip<T>(
        &self,
        topic: Topic,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, GossipError> {
        let (reply, result) = oneshot::channel();
        if self.0.commands.send(command(reply)).await.is_err() {
            return Err(GossipError::Stopped { topic });
        }
        result.await.map_err(|_| GossipError::Stopped { topic })
    }

    /// Shuts the transport down and waits until its task has ended. See the module for the order.
    pub async fn shutdown(self) {
        self.0.stop.cancel();
        self.0.commands.closed().await;
        // The swarm, and with it this sender, goes last.
        let mut peers = self.0.peers.clone();
        while peers.changed().await.is_ok() {}
    }
}

fn named(error: ExchangeError, peer: PublicKey, channel: Channel, sent: usize) -> RequestError {
    match error {
        ExchangeError::NotSent(source) => {
            RequestError::Closed { peer, sent: false, source: Some(source) }
        }
        ExchangeError::Closed(source) => {
            RequestError::Closed { peer, sent: true, source: Some(source) }
        }
        ExchangeError::Refused(Status::Overloaded) => RequestError::Overloaded { peer },
        ExchangeError::Refused(Status::RequestTooLarge) => {
            RequestError::RequestTooLarge { peer, channel, size: sent }
        }
        ExchangeError::Refused(Status::Failed) => RequestError::PeerFailed { peer },
        ExchangeError::Refused(Status::Answered) | ExchangeError::Malformed => {
            RequestError::Malformed { peer }
        }
        ExchangeError::ResponseTooLarge { size } => {
            RequestError::ResponseTooLarge { peer, channel, size }
        }
    }
}
