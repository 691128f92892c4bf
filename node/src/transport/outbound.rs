//! Pools of long-lived substreams to peers.
//!
//! A fresh yamux substream starts with a window of 256 KiB and grows it over round trips, so
//! substreams are kept and used again. A request takes one of a peer's few slots, then an idle
//! substream or a new one, and runs on it within the caller's own future: dropping that future
//! drops the substream and frees the slot. A substream returns to the pool only after a complete
//! response.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{AsyncReadExt as _, FutureExt as _};
use libp2p::swarm::{ConnectionId, Stream};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Channel;
use super::inbound::Place;
use super::substream::Opened;

/// Requests to one peer that run side by side on a channel, each on a substream of its own.
pub(super) const SUBSTREAMS: usize = 8;

/// Requests to one peer that may wait for a substream; more fail at once.
const QUEUE: usize = 1024;

/// The pools of all peers.
#[derive(Default)]
pub(super) struct Pools(Mutex<BTreeMap<(PublicKey, Channel), Arc<Pool>>>);

/// The substreams to one peer on one channel.
pub(super) struct Pool {
    slots: Semaphore,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    opened: Opened,
    since: Instant,
}

impl Pools {
    /// The pool of a peer and channel.
    pub(super) fn pool(&self, peer: PublicKey, channel: Channel) -> Arc<Pool> {
        Arc::clone(self.lock().entry((peer, channel)).or_insert_with(|| {
            Arc::new(Pool {
                slots: Semaphore::new(SUBSTREAMS),
                waiting: AtomicUsize::new(0),
                idle: Mutex::default(),
            })
        }))
    }

    /// Drops the idle substreams of a connection that ended.
    pub(super) fn forget(&self, peer: PublicKey, connection: ConnectionId) {
        for channel in Channel::ALL {
            if let Some(pool) = self.lock().get(&(peer, channel)) {
                pool.lock().retain(|idle| idle.opened.connection != connection);
            }
        }
    }

    /// Drops substreams that were idle for `limit`, and pools that nobody uses.
    pub(super) fn expire(&self, limit: Duration) {
        self.lock().retain(|_, pool| {
            let mut idle = pool.lock();
            idle.retain(|idle| idle.since.elapsed() < limit);
            !idle.is_empty() || Arc::strong_count(pool) > 1
        });
    }

    /// Drops all idle substreams.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(PublicKey, Channel), Arc<Pool>>> {
        // The map itself survives any panic between two of its operations.
        lock(&self.0)
    }
}

impl Pool {
    /// Waits for a slot; `None` if too many wait already.
    pub(super) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Some(slot);
        }
        let _place = Place::take(&self.waiting, QUEUE)?;
        self.slots.acquire().await.ok()
    }

    /// The idle substream used last, whose window is the widest, if any is still alive.
    pub(super) fn take(&self) -> Option<Opened> {
        loop {
            let mut opened = self.lock().pop()?.opened;
            if is_alive(&mut opened.stream) {
                return Some(opened);
            }
        }
    }

    /// Gives back a substream after a complete response, unless the peer ended it with that.
    pub(super) fn put(&self, mut opened: Opened) {
        if is_alive(&mut opened.stream) {
            self.lock().push(Idle { opened, since: Instant::now() });
        }
    }

    /// Idle substreams and free slots.
    #[cfg(test)]
    pub(super) fn state(&self) -> (usize, usize) {
        (self.lock().len(), self.slots.available_permits())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // A vector survives any panic between two of its operations.
        lock(&self.idle)
    }
}

/// Whether a substream between two exchanges is still open: it has nothing to say and no end.
fn is_alive(stream: &mut Stream) -> bool {
    let mut byte = [0];
    stream.read(&mut byte).now_or_never().is_none()
}
