//! Opening and accepting substreams: libp2p's half of the transport.
//!
//! [`Behaviour`] owns which connection serves which channel. Between two peers there is one
//! connection per channel: the dialer pins a connection to the channel that it was dialed for, the
//! listener pins it to the channel of its first substream. A channel without a connection dials
//! one; only if that cannot be, it shares whatever connection there is. Several connections
//! between the same two ports need a local port each, hence the dial's `allocate_new_port`.
//!
//! [`Handler`] runs in the connection's task and passes substreams on without a queue that could
//! overflow: outbound ones to the reply channel of whoever asked, inbound ones through libp2p's
//! own event queue, which waits when it is full.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, DialError,
    FromSwarm, NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, ToSwarm,
};
use libp2p::{PeerId, swarm};
use tokio::sync::oneshot;

use super::Channel;
use super::address::AddressBook;
use super::identity::public_key;

/// An outbound substream and the connection that it lives on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) connection: ConnectionId,
}

/// Why a substream could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("no address is known")]
    NoAddress,
    #[error("dialing failed")]
    Dial(#[source] Arc<DialError>),
    #[error("the peer does not speak {0}")]
    Unsupported(StreamProtocol),
}

/// Where the result of an open goes. Dropped unanswered if the connection ends first.
pub(super) type Reply = oneshot::Sender<Result<Opened, OpenError>>;

/// A substream that a peer opened.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) peer: PeerId,
    pub(super) channel: Channel,
    pub(super) stream: Stream,
}

/// Asks a handler for an outbound substream.
#[derive(Debug)]
pub(super) struct Open {
    channel: Channel,
    reply: Reply,
}

/// A peer's key is not Ed25519.
#[derive(Debug, thiserror::Error)]
#[error("the peer's key is not an Ed25519 key")]
struct ForeignKey;

struct Link {
    id: ConnectionId,
    pinned: Option<Channel>,
}

/// See the module.
pub(super) struct Behaviour {
    addresses: Arc<AddressBook>,
    links: HashMap<PeerId, Vec<Link>>,
    dials: HashMap<ConnectionId, (PeerId, Channel)>,
    /// Opens that wait for a dial; an entry exists exactly while the dial runs.
    waiting: HashMap<(PeerId, Channel), Vec<Reply>>,
    events: VecDeque<ToSwarm<Accepted, Open>>,
}

impl Behaviour {
    pub(super) fn new(addresses: Arc<AddressBook>) -> Self {
        Self {
            addresses,
            links: HashMap::new(),
            dials: HashMap::new(),
            waiting: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Opens a substream, dialing if the channel has no connection.
    pub(super) fn open(&mut self, peer: PeerId, channel: Channel, reply: Reply) {
        if let Some(link) = self.pinned(&peer, channel) {
            self.ask(peer, link, channel, reply);
        } else if let Some(waiting) = self.waiting.get_mut(&(peer, channel)) {
            waiting.retain(|reply| !reply.is_closed());
            waiting.push(reply);
        } else {
            let addresses = self.addresses.addresses(&peer);
            if addresses.is_empty() {
                self.share(peer, channel, vec![reply], &OpenError::NoAddress);
            } else {
                let opts = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(addresses)
                    .allocate_new_port()
                    .build();
                self.dials.insert(opts.connection_id(), (peer, channel));
                self.waiting.insert((peer, channel), vec![reply]);
                self.events.push_back(ToSwarm::Dial { opts });
            }
        }
    }

    /// Tells those who wait for a dial that it failed.
    pub(super) fn dial_failed(&mut self, connection: ConnectionId, error: DialError) {
        let Some((peer, channel)) = self.dials.remove(&connection) else { return };
        self.addresses.unlearn(&peer);
        let Some(waiting) = self.waiting.remove(&(peer, channel)) else { return };
        self.share(peer, channel, waiting, &OpenError::Dial(Arc::new(error)));
    }

    fn pinned(&self, peer: &PeerId, channel: Channel) -> Option<ConnectionId> {
        let link = self.links.get(peer)?.iter().find(|link| link.pinned == Some(channel))?;
        Some(link.id)
    }

    /// Opens on any connection with the peer, or fails with `error` if there is none.
    fn share(&mut self, peer: PeerId, channel: Channel, replies: Vec<Reply>, error: &OpenError) {
        let links = self.links.get(&peer);
        let any = links.and_then(|links| {
            links.iter().find(|link| link.pinned.is_none()).or_else(|| links.first())
        });
        let any = any.map(|link| link.id);
        for reply in replies {
            match any {
                Some(link) => self.ask(peer, link, channel, reply),
                // Fails only if the asker has gone, who then needs no answer.
                None => drop(reply.send(Err(error.clone()))),
            }
        }
    }

    fn ask(&mut self, peer_id: PeerId, link: ConnectionId, channel: Channel, reply: Reply) {
        let event = Open { channel, reply };
        let handler = NotifyHandler::One(link);
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler, event });
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId) {
        let dialed = self.dials.remove(&id);
        let pinned = dialed.map(|(_, channel)| channel);
        self.links.entry(peer).or_default().push(Link { id, pinned });
        if let Some(channel) = pinned {
            for reply in self.waiting.remove(&(peer, channel)).unwrap_or_default() {
                self.ask(peer, id, channel, reply);
            }
        }
    }

    fn closed(&mut self, peer: PeerId, id: ConnectionId) {
        if let Some(links) = self.links.get_mut(&peer) {
            links.retain(|link| link.id != id);
            if links.is_empty() {
                self.links.remove(&peer);
            }
        }
    }
}

fn handler(peer: &PeerId, connection: ConnectionId) -> Result<Handler, ConnectionDenied> {
    public_key(peer).ok_or_else(|| ConnectionDenied::new(ForeignKey))?;
    Ok(Handler { connection, opens: VecDeque::new(), accepted: VecDeque::new() })
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Accepted;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        handler(&peer, connection)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        handler(&peer, connection)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => self.established(peer_id, connection_id),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (channel, stream): (Channel, Stream),
    ) {
        let links = self.links.get_mut(&peer).into_iter().flatten();
        if let Some(link) = links.into_iter().find(|link| link.id == connection) {
            link.pinned.get_or_insert(channel);
        }
        self.events.push_back(ToSwarm::GenerateEvent(Accepted { peer, channel, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Accepted, Open>> {
        // Events arise only within calls of the swarm's task, which polls again after each.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// See the module.
pub(super) struct Handler {
    connection: ConnectionId,
    opens: VecDeque<Open>,
    accepted: VecDeque<(Channel, Stream)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Channel, Stream);
    type InboundProtocol = AnyChannel;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyChannel> {
        SubstreamProtocol::new(AnyChannel, ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Open, (Channel, Stream)>> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(accepted));
        }
        while let Some(open) = self.opens.pop_front() {
            if !open.reply.is_closed() {
                let upgrade = ReadyUpgrade::new(open.channel.protocol());
                let protocol = SubstreamProtocol::new(upgrade, open);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opens.push_back(open);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyChannel, ReadyUpgrade<StreamProtocol>, (), Open>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.accepted.push_back(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: Open { reply, .. },
                ..
            }) => {
                // Fails only if the asker has gone: the substream is dropped with the value.
                drop(reply.send(Ok(Opened { stream, connection: self.connection })));
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                // Any other error ends the wait by dropping the reply, as a lost connection does.
                if matches!(failed.error, swarm::StreamUpgradeError::NegotiationFailed) {
                    let Open { channel, reply } = failed.info;
                    drop(reply.send(Err(OpenError::Unsupported(channel.protocol()))));
                }
            }
            _ => {}
        }
    }
}

/// Accepts a substream of either channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnyChannel;

impl UpgradeInfo for AnyChannel {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [Channel::Control.protocol(), Channel::Bulk.protocol()]
    }
}

impl InboundUpgrade<Stream> for AnyChannel {
    type Output = (Channel, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        let channel =
            if protocol == Channel::Control.protocol() { Channel::Control } else { Channel::Bulk };
        ready(Ok((channel, stream)))
    }
}
