//! Where peers can be dialed.
//!
//! Two kinds of addresses: those that the node was given (configuration, announcements on the
//! chain) and those that connected peers told of themselves, which are forgotten when a dial fails.
//! A wrong address can only fail: the dial authenticates the peer's key. Owned by the transport;
//! what peers claim is bounded, and what is given is as many peers as the node's own records name.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use samara_protocol::sync::lock;

/// Most addresses kept of one peer; the oldest goes first.
const ADDRESSES_PER_PEER: usize = 8;

/// Most peers whose own claims are kept; the oldest goes first.
const LEARNED_PEERS: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AddressBook(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    given: HashMap<PeerId, VecDeque<Multiaddr>>,
    learned: HashMap<PeerId, Vec<Multiaddr>>,
    /// Peers of `learned` in order of arrival.
    order: VecDeque<PeerId>,
}

impl AddressBook {
    /// Adds an address that the node was given.
    pub(super) fn add(&self, peer: PeerId, address: Multiaddr) {
        let address = without_peer(address);
        let mut book = self.lock();
        let addresses = book.given.entry(peer).or_default();
        if !addresses.contains(&address) {
            if addresses.len() == ADDRESSES_PER_PEER {
                addresses.pop_front();
            }
            addresses.push_back(address);
        }
    }

    /// Replaces the addresses that the node was given.
    pub(super) fn replace(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.lock().given.remove(&peer);
        for address in addresses {
            self.add(peer, address);
        }
    }

    /// Replaces what the peer told of itself.
    pub(super) fn learn(&self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        addresses.truncate(ADDRESSES_PER_PEER);
        let addresses = addresses.into_iter().map(without_peer).collect();
        let mut book = self.lock();
        if book.learned.insert(peer, addresses).is_none() {
            book.order.push_back(peer);
            if book.order.len() > LEARNED_PEERS
                && let Some(oldest) = book.order.pop_front()
            {
                book.learned.remove(&oldest);
            }
        }
    }

    /// Forgets what the peer told of itself, for it led nowhere.
    pub(super) fn unlearn(&self, peer: &PeerId) {
        // The peer keeps its place in the order: claiming anew must not let it claim more.
        if let Some(learned) = self.lock().learned.get_mut(peer) {
            learned.clear();
        }
    }

    /// The addresses to dial: those that were given, else what the peer told of itself. What it was
    /// announced with is how its operator wants it to be reached.
    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let book = self.lock();
        if let Some(given) = book.given.get(peer).filter(|given| !given.is_empty()) {
            return given.iter().cloned().collect();
        }
        book.learned.get(peer).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Every update leaves the maps usable, whatever panicked in between.
        lock(&self.0)
    }
}

/// The address without a trailing `/p2p/...`: the dial names the peer already.
fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use libp2p::{Multiaddr, PeerId};

    use super::{ADDRESSES_PER_PEER, AddressBook, LEARNED_PEERS};

    fn address(port: usize) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn given_addresses_count_and_stay_few() {
        let book = AddressBook::default();
        let peer = PeerId::random();
        book.learn(peer, vec![address(1)]);
        assert_eq!(book.addresses(&peer), [address(1)]);
        for port in 0..20 {
            book.add(peer, address(port).with_p2p(peer).unwrap());
            book.add(peer, address(port));
        }
        let expected: Vec<_> = (20 - ADDRESSES_PER_PEER..20).map(address).collect();
        assert_eq!(book.addresses(&peer), expected);
        book.unlearn(&peer);
        book.replace(peer, vec![address(7)]);
        assert_eq!(book.addresses(&peer), [address(7)]);
    }

    #[test]
    fn claims_of_peers_are_bounded() {
        let book = AddressBook::default();
        let first = PeerId::random();
        book.learn(first, (0..50).map(address).collect());
        assert_eq!(book.addresses(&first).len(), ADDRESSES_PER_PEER);
        for _ in 0..LEARNED_PEERS {
            book.learn(PeerId::random(), vec![address(1)]);
        }
        assert!(book.addresses(&first).is_empty());
        let book = book.lock();
        assert_eq!(book.order.len(), book.learned.len());
    }
}
