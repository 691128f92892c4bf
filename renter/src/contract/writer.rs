//! Who may write: the epoch of this node, and whether another node has taken over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use samara_protocol::journal::quorum::Quorum;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Epoch;
use tokio::sync::watch;

/// What a [`Writer`] knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterState {
    /// The epoch that requests carry.
    pub epoch: Epoch,
    /// The epoch of the node that took over, if one did.
    pub fenced: Option<Epoch>,
}

/// The writer's epoch, shared by all contracts of one node. A cheap clone.
///
/// Once more hosts than may lie have said that they promised a higher epoch, the writer is fenced for
/// good: every later mutating call fails before it is sent, until [`Writer::claim`] raises the epoch
/// above the promise. With fewer than five hosts one word suffices.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<WriterState>,
    /// Hosts with live contracts, each with the highest promise to another node that it has spoken of.
    /// In memory only: a leaf lock, held for no call.
    words: Mutex<BTreeMap<PublicKey, Epoch>>,
}

/// The highest epoch that more than `liars` of the words reach: at least one of them is true.
#[must_use]
pub fn believed(words: impl IntoIterator<Item = Epoch>, liars: usize) -> Option<Epoch> {
    let mut words: Vec<Epoch> = words.into_iter().collect();
    words.sort_unstable_by(|a, b| b.cmp(a));
    words.get(liars).copied()
}

impl Writer {
    /// A writer that uses `epoch`.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        let state = watch::Sender::new(WriterState { epoch, fenced: None });
        Self(Arc::new(Inner { state, words: Mutex::default() }))
    }

    /// The epoch that requests carry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.state.borrow().epoch
    }

    /// The epoch of the node that took over, if one did.
    #[must_use]
    pub fn fenced(&self) -> Option<Epoch> {
        self.0.state.borrow().fenced
    }

    /// Sets the hosts with live contracts, whose words count.
    pub fn set_hosts(&self, hosts: impl IntoIterator<Item = PublicKey>) {
        let mut words = self.0.words.lock().unwrap_or_else(PoisonError::into_inner);
        let word = |host| (host, words.get(&host).copied().unwrap_or_default());
        *words = hosts.into_iter().map(word).collect();
    }

    /// Notes that `host` says that it promised `promised` to another node; fences if more hosts than
    /// may lie have said so. Words of hosts without a live contract do not count.
    pub fn hear(&self, host: PublicKey, promised: Epoch) {
        let by = {
            let mut words = self.0.words.lock().unwrap_or_else(PoisonError::into_inner);
            let liars = Quorum::of(words.len()).liars;
            let Some(word) = words.get_mut(&host) else { return };
            *word = promised.max(*word);
            believed(words.values().copied(), liars)
        };
        if let Some(by) = by {
            self.fence(by);
        }
    }

    /// Stops writing for `promised`, which is known to be promised to another node. A promise to this
    /// node is none.
    pub fn fence(&self, promised: Epoch) {
        self.0.state.send_if_modified(|state| {
            if promised <= state.epoch || state.fenced.is_some_and(|known| known >= promised) {
                return false;
            }
            state.fenced = Some(promised);
            true
        });
    }

    /// Takes a new epoch after a read quorum promised it; lifts a fence below it. A lower one than
    /// the present is ignored.
    pub fn claim(&self, epoch: Epoch) {
        self.0.state.send_if_modified(|state| {
            if epoch <= state.epoch {
                return false;
            }
            state.epoch = epoch;
            state.fenced = state.fenced.filter(|promised| *promised > epoch);
            true
        });
    }

    /// Changes of the state, for those who must stop when another node takes over.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<WriterState> {
        self.0.state.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(counter: u64) -> Epoch {
        Epoch { counter, writer: [1; 16] }
    }

    #[test]
    fn one_liar_of_eight_does_not_fence_and_two_hosts_do() {
        let writer = Writer::new(epoch(2));
        let host = |byte| PublicKey([byte; 32]);
        writer.set_hosts((0..8).map(host));
        for _ in 0..3 {
            writer.hear(host(3), epoch(u64::MAX));
        }
        // Somebody without a contract, and a promise to this node.
        writer.hear(host(99), epoch(u64::MAX));
        writer.hear(host(4), epoch(2));
        assert_eq!(writer.fenced(), None);
        // The liar's number does not count: it could never be claimed above.
        writer.hear(host(5), epoch(3));
        assert_eq!(writer.fenced(), Some(epoch(3)));

        let writer = Writer::new(epoch(2));
        writer.set_hosts((0..4).map(host));
        writer.hear(host(1), epoch(3));
        assert_eq!(writer.fenced(), Some(epoch(3)), "of four hosts none may lie");
    }

    #[test]
    fn a_fence_stays_until_a_higher_epoch_is_claimed() {
        let writer = Writer::new(epoch(2));
        writer.fence(epoch(2));
        assert_eq!(writer.fenced(), None);
        writer.fence(epoch(4));
        writer.fence(epoch(3));
        assert_eq!(writer.fenced(), Some(epoch(4)));
        writer.claim(epoch(3));
        assert_eq!(writer.fenced(), Some(epoch(4)));
        writer.claim(epoch(5));
        assert_eq!((writer.epoch(), writer.fenced()), (epoch(5), None));
    }
}
