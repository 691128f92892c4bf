//! Who may write: the epoch of this node, and whether another node has taken over.

use std::sync::Arc;

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
/// Once a host has shown a higher epoch with a claim that verifies, the writer is fenced for good: every
/// later mutating call fails before it is sent, until [`Writer::claim`] raises the epoch above it.
#[derive(Clone, Debug)]
pub struct Writer(Arc<watch::Sender<WriterState>>);

impl Writer {
    /// A writer that uses `epoch`.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self(Arc::new(watch::Sender::new(WriterState { epoch, fenced: None })))
    }

    /// The epoch that requests carry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.borrow().epoch
    }

    /// The epoch of the node that took over, if one did.
    #[must_use]
    pub fn fenced(&self) -> Option<Epoch> {
        self.0.borrow().fenced
    }

    /// Stops writing for `promised`, which another node has provably claimed. A claim of this node is
    /// none.
    pub fn fence(&self, promised: Epoch) {
        self.0.send_if_modified(|state| {
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
        self.0.send_if_modified(|state| {
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
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(counter: u64) -> Epoch {
        Epoch { counter, writer: [1; 16] }
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
