//! Limits of inbound connections per network address, so that one machine does not take the places of
//! all others. An IPv6 machine has a whole /64 to itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Handshakes of one address at a time, a quarter of those of all addresses.
pub(super) const PENDING_PER_ADDRESS: usize = 64;

/// Inbound connections of one address, a third of those of all addresses.
const ESTABLISHED_PER_ADDRESS: usize = 256;

/// One address has too many connections.
#[derive(Debug, thiserror::Error)]
#[error("{0} has too many connections")]
struct TooMany(IpAddr);

/// Counts inbound connections per address, and denies those over the limits.
#[derive(Default)]
pub(super) struct Behaviour {
    pending: BTreeMap<ConnectionId, IpAddr>,
    established: BTreeMap<ConnectionId, IpAddr>,
}

/// The network address that a peer comes from.
fn origin(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|protocol| match protocol {
        Protocol::Ip4(ip) => Some(IpAddr::from(ip)),
        Protocol::Ip6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            Some(ip.to_ipv4_mapped().map_or(Ipv6Addr::from(network).into(), IpAddr::from))
        }
        _ => None,
    })
}

fn admit(
    connections: &mut BTreeMap<ConnectionId, IpAddr>,
    id: ConnectionId,
    address: &Multiaddr,
    limit: usize,
) -> Result<(), ConnectionDenied> {
    let Some(origin) = origin(address) else { return Ok(()) };
    // At most a thousand connections in all, so counting them is cheap beside a handshake.
    if connections.values().filter(|of| **of == origin).count() >= limit {
        return Err(ConnectionDenied::new(TooMany(origin)));
    }
    connections.insert(id, origin);
    Ok(())
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        admit(&mut self.pending, id, remote, PENDING_PER_ADDRESS)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        admit(&mut self.established, id, remote, ESTABLISHED_PER_ADDRESS)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.established.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
                self.established.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
