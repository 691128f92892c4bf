//! The task that owns the swarm.
//!
//! One loop: take a command or a swarm event, apply it, go on. It ends when the transport is shut
//! down or its last handle is dropped, in this order: no new requests are accepted, those in
//! handling are answered (for [`GRACE`] at most), connections close.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, connection_limits, gossipsub, identify, noise, ping,
    tcp, yamux,
};
use samara_protocol::signature::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::address::AddressBook;
use super::buffer::BufferPool;
use super::error::{GossipError, TransportError};
use super::gossip::{self, Gossip, GossipCheck, GossipMessage, Topic};
use super::identity::{keypair, public_key};
use super::inbound::Inbound;
use super::outbound::Pools;
use super::per_address;
use super::substream::{self, Accepted, Reply};
use super::{Channel, TransportConfig};

/// How long requests in handling may go on after a shutdown.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long connections may take to close.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often idle substreams and unused buffers are looked at.
const SWEEP: Duration = Duration::from_secs(30);

/// A connection that leaves a ping unanswered for so long is closed, to be dialed anew.
const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// What the swarm is asked to do.
pub(super) enum Command {
    Open { peer: PeerId, channel: Channel, reply: Reply },
    Publish { topic: Topic, bytes: bytes::Bytes, reply: oneshot::Sender<Result<(), GossipError>> },
    Subscribe { topic: Topic, check: GossipCheck, reply: SubscribeReply },
    Subscribers { topic: Topic, reply: oneshot::Sender<Vec<PublicKey>> },
}

type SubscribeReply = oneshot::Sender<Result<mpsc::Receiver<GossipMessage>, GossipError>>;

/// All protocols of a connection.
#[derive(NetworkBehaviour)]
pub(super) struct Composed {
    limits: connection_limits::Behaviour,
    per_address: per_address::Behaviour,
    substreams: substream::Behaviour,
    gossipsub: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// The swarm and what its loop keeps.
pub(super) struct Task {
    pub(super) swarm: Swarm<Composed>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) inbound: Arc<Inbound>,
    pub(super) pools: Arc<Pools>,
    pub(super) buffers: BufferPool,
    pub(super) addresses: Arc<AddressBook>,
    pub(super) gossip: Gossip,
    pub(super) peers: watch::Sender<BTreeSet<PublicKey>>,
    pub(super) listening: watch::Sender<Vec<Multiaddr>>,
    pub(super) stop: CancellationToken,
    pub(super) idle_timeout: Duration,
}

/// Builds the swarm; nothing is bound yet.
pub(super) fn swarm(
    config: &TransportConfig,
    addresses: Arc<AddressBook>,
) -> Result<Swarm<Composed>, TransportError> {
    let keypair = keypair(&config.identity);
    let gossipsub = gossip::behaviour(keypair.clone())?;
    let behaviour = Composed {
        limits: connection_limits::Behaviour::new(limits(config)),
        per_address: per_address::Behaviour::default(),
        substreams: substream::Behaviour::new(addresses),
        gossipsub,
        identify: identify::Behaviour::new(
            identify::Config::new("/samara/1".to_owned(), keypair.public())
                .with_agent_version(concat!("samara/", env!("CARGO_PKG_VERSION")).to_owned())
                .with_cache_size(0),
        ),
        ping: ping::Behaviour::new(ping::Config::new().with_timeout(PING_TIMEOUT)),
    };
    let idle_timeout = config.idle_timeout;
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(TransportError::Noise)?
        .with_quic()
        .with_dns()
        .map_err(TransportError::Resolver)?
        .with_behaviour(|_| behaviour)
        .unwrap_or_else(|never| match never {})
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(idle_timeout))
        .with_connection_timeout(config.dial_timeout)
        .build();
    Ok(swarm)
}

fn limits(config: &TransportConfig) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(config.max_connections / 4 + 1))
        .with_max_pending_outgoing(Some(config.max_connections))
        .with_max_established_incoming(Some(config.max_connections / 4 * 3 + 1))
        .with_max_established(Some(config.max_connections))
        .with_max_established_per_peer(Some(config.max_connections_per_peer))
}

impl Task {
    /// Binds the listen addresses and waits until their ports are known.
    pub(super) async fn listen(&mut self, wanted: &[Multiaddr]) -> Result<(), TransportError> {
        let mut pending: Vec<(ListenerId, &Multiaddr)> = Vec::new();
        for address in wanted {
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| {
                TransportError::Listen { address: address.clone(), source: Box::new(error) }
            })?;
            pending.push((listener, address));
        }
        while !pending.is_empty() {
            match self.swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    pending.retain(|(id, _)| *id != listener_id);
                    self.announce_listeners();
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(source), .. } => {
                    if let Some((_, address)) = pending.iter().find(|(id, _)| *id == listener_id) {
                        let address = (*address).clone();
                        return Err(TransportError::Listen { address, source: Box::new(source) });
                    }
                }
                event => self.on_event(event),
            }
        }
        Ok(())
    }

    /// Runs until shutdown.
    pub(super) async fn run(mut self) {
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                judged = self.gossip.judged() => {
                    self.gossip.settle(&mut self.swarm.behaviour_mut().gossipsub, judged);
                }
                _ = sweep.tick() => {
                    self.pools.expire(self.idle_timeout);
                    self.buffers.trim();
                }
            }
        }
        self.finish().await;
    }

    async fn finish(mut self) {
        self.stop.cancel();
        // Those who wait for a substream learn of the end by their dropped replies.
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        self.pools.clear();
        let inbound = Arc::clone(&self.inbound);
        let finished = tokio::time::timeout(GRACE, inbound.finished());
        tokio::pin!(finished);
        loop {
            tokio::select! {
                _ = &mut finished => break,
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        self.inbound.abort();
        self.inbound.finished().await;
        self.pools.clear();
        self.disconnect_all().await;
        self.peers.send_replace(BTreeSet::new());
        self.listening.send_replace(Vec::new());
        // Dropping the swarm closes its listeners.
    }

    /// Closes all connections in order, for a connection that is merely dropped loses what it has
    /// not sent yet.
    async fn disconnect_all(&mut self) {
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // Fails only if the peer has disconnected meanwhile.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                let event = self.swarm.select_next_some().await;
                self.on_event(event);
            }
        };
        if tokio::time::timeout(GOODBYE, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        // Replies fail only if the asker has gone, who then needs none.
        match command {
            Command::Open { peer, channel, reply } => {
                behaviour.substreams.open(peer, channel, reply);
            }
            Command::Publish { topic, bytes, reply } => {
                drop(reply.send(gossip::publish(&mut behaviour.gossipsub, topic, &bytes)));
            }
            Command::Subscribe { topic, check, reply } => {
                let result = self.gossip.subscribe(&mut behaviour.gossipsub, topic, check);
                drop(reply.send(result));
            }
            Command::Subscribers { topic, reply } => {
                drop(reply.send(gossip::subscribers(&behaviour.gossipsub, &topic)));
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<ComposedEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Some(peer) = public_key(&peer_id) {
                    self.peers.send_if_modified(|peers| peers.insert(peer));
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id, connection_id, num_established, cause, ..
            } => {
                let Some(peer) = public_key(&peer_id) else { return };
                tracing::debug!(%peer, %connection_id, ?cause, "connection closed");
                self.pools.forget(peer, connection_id);
                if num_established == 0 {
                    self.peers.send_if_modified(|peers| peers.remove(&peer));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%connection_id, %error, "dial failed");
                self.swarm.behaviour_mut().substreams.dial_failed(connection_id, error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "inbound connection failed");
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => self.announce_listeners(),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed to accept");
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: ComposedEvent) {
        match event {
            ComposedEvent::Substreams(Accepted { peer, channel, stream }) => {
                if let Some(peer) = public_key(&peer)
                    && !self.stop.is_cancelled()
                {
                    self.inbound.accept(peer, channel, stream);
                }
            }
            ComposedEvent::Gossipsub(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let behaviour = &mut self.swarm.behaviour_mut().gossipsub;
                self.gossip.receive(behaviour, propagation_source, message_id, message);
            }
            ComposedEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.addresses.learn(peer_id, info.listen_addrs);
            }
            ComposedEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout),
                peer,
            }) => {
                tracing::debug!(%peer, %connection, "no answer to a ping");
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    fn announce_listeners(&self) {
        let listeners: Vec<_> = self.swarm.listeners().cloned().collect();
        self.listening.send_replace(listeners);
    }
}
