//! The long polls of peers: one per peer, and a bounded number in all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use tokio_util::sync::CancellationToken;

/// Long polls of all peers that wait at a time. The transport has as many slots for requests beside
/// those that it has for the others.
pub const LONG_POLLS: usize = 256;

/// Who waits for a tip.
#[derive(Debug, Default)]
pub struct LongPolls(Mutex<BTreeMap<PublicKey, Arc<CancellationToken>>>);

/// A peer's place among those that wait.
#[derive(Debug)]
pub struct LongPoll<'a> {
    polls: &'a LongPolls,
    peer: PublicKey,
    replaced: Arc<CancellationToken>,
}

impl LongPolls {
    /// Takes the peer's place, from its poll before this if it has one, which it gave up. Nothing when
    /// all places are taken.
    pub fn enter(&self, peer: PublicKey) -> Option<LongPoll<'_>> {
        let mut waiting = self.lock();
        if waiting.len() >= LONG_POLLS && !waiting.contains_key(&peer) {
            return None;
        }
        let replaced = Arc::new(CancellationToken::new());
        if let Some(before) = waiting.insert(peer, Arc::clone(&replaced)) {
            before.cancel();
        }
        Some(LongPoll { polls: self, peer, replaced })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Arc<CancellationToken>>> {
        // One entry per change: a panic elsewhere cannot leave it half written.
        lock(&self.0)
    }
}

impl LongPoll<'_> {
    /// Resolves when the peer polls again.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for LongPoll<'_> {
    fn drop(&mut self) {
        let mut waiting = self.polls.lock();
        if waiting.get(&self.peer).is_some_and(|poll| Arc::ptr_eq(poll, &self.replaced)) {
            waiting.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey(bytes)
    }

    #[tokio::test]
    async fn a_peer_has_one_place_and_all_have_few() {
        let polls = LongPolls::default();
        let waiting: Vec<_> = (0..LONG_POLLS).map(|number| polls.enter(peer(number))).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(polls.enter(peer(LONG_POLLS)).is_none());
        let again = polls.enter(peer(0)).unwrap();
        waiting[0].as_ref().unwrap().replaced().await;
        drop(waiting);
        assert_eq!(polls.lock().len(), 1, "the one that replaced another keeps its place");
        drop(again);
        assert!(polls.lock().is_empty());
    }
}
