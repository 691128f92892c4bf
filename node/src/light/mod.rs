//! The light client: a verified view of the chain over peers that nobody trusts.
//!
//! A [`LightClient`] owns one [`LightChain`] and the peers it asks. Its follower task waits at a peer for
//! a newer tip, verifies it and publishes it; questions about accounts, contracts and hosts are answered
//! with membership proofs against a header that the chain vouches for, never older than the tip that was
//! trusted when the question came. A peer whose answer proves false is dropped and another is asked.
//!
//! ```text
//!   peers ──► follow ──► LightChain ──► watch<LightStatus> ──► tip, tip_above, included
//!     │                      │
//!     │                      └──► PointStore (trusted point, for the next start)
//!     ├──► view: state and proofs ──► checked against LightChain
//!     └──► read_ahead: batches for scans, not checked here
//! ```
//!
//! Old tips are believed, for they are true, and reported: [`LightStatus::stale`] says that the chain has
//! halted or that the peers hide its end, and other peers are asked.
//!
//! The task ends when the last handle is dropped or on [`LightClient::shutdown`].

mod follow;
mod peer;
mod peers;
mod read_ahead;
mod store;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use samara_protocol::chain::light::{LightState, Pace, Rules};
use samara_protocol::chain::query::Finalized;
use samara_protocol::chain::{Genesis, LightChain, Transaction};
use samara_protocol::encoding;
use samara_protocol::hash::TransactionId;
use samara_protocol::sync::lock;
use samara_protocol::units::{Height, Millis};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

pub use peer::{AskError, ChainPeer, NetworkPeer, channel};
pub use peers::DROPPED_FOR;
pub use read_ahead::AHEAD;
pub use store::{FilePointStore, MemoryPointStore, PointStore};

use peers::PeerSet;
use read_ahead::ReadAhead;

use crate::clock::Clock;

/// Answers verified at a time.
const VERIFIED: usize = 4;
/// Largest stored state that is read back.
const MAX_STATE: usize = 8 << 20;

/// What a light client needs.
#[derive(Clone)]
pub struct LightConfig {
    /// The pinned genesis document.
    pub genesis: Genesis,
    /// Peers to ask; more can be added later.
    pub peers: Vec<Arc<dyn ChainPeer>>,
    /// Where the trusted point is kept.
    pub store: Arc<dyn PointStore>,
    /// The local clock, to know an old tip.
    pub clock: Clock,
}

/// What the follower knows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LightStatus {
    /// The newest verified header.
    pub tip: Option<Finalized>,
    /// Whether a peer has told its tip since the start, and everything up to it is verified.
    pub contacted: bool,
    /// Age of the tip if it is too old: the chain has halted, or its end is hidden. Nothing before the
    /// first contact: a stored tip is as old as the last run.
    pub stale: Option<Millis>,
    /// A newer tip that was refused because its time lies ahead of the clock here: its height, and how
    /// far. One of the clocks is wrong, this one or the validators'.
    pub ahead: Option<(Height, Millis)>,
}

/// A verified view of the chain. Cheap to clone.
#[derive(Clone)]
pub struct LightClient {
    inner: Arc<Inner>,
    /// Stops the follower with the last handle.
    _stop: Arc<DropGuard>,
}

struct Inner {
    genesis: Genesis,
    /// What is trusted, as the follower published it last. Locked to be copied or replaced only.
    chain: Mutex<Arc<LightChain>>,
    /// Answers verified at a time, each on a thread that may take its time.
    verifying: Semaphore,
    peers: Arc<PeerSet>,
    read_ahead: ReadAhead,
    store: Arc<dyn PointStore>,
    clock: Clock,
    /// Age from which a tip is reported as old.
    stale_after: Millis,
    status: watch::Sender<LightStatus>,
    /// Asks the follower to look for a newer tip now.
    wake: Notify,
    /// Transactions handed in here and not seen in a block yet, to hand in again.
    submitted: Mutex<BTreeMap<TransactionId, Transaction>>,
    stop: CancellationToken,
    /// Cancelled once the follower has ended.
    ended: CancellationToken,
}

impl LightClient {
    /// Begins to follow the chain from the stored point, or from the genesis document. Needs a tokio
    /// runtime.
    pub async fn start(config: LightConfig) -> Self {
        let stop = CancellationToken::new();
        // Old tips are true tips: they are taken, reported and looked behind.
        let rules = Rules { pace: Pace::Skip, max_age: Millis(u64::MAX) };
        let chain = match stored_state(config.store.as_ref()).await {
            Some(state) => LightChain::resume(&config.genesis, rules, state)
                .inspect_err(|error| warn!(%error, "light client begins at the genesis"))
                .unwrap_or_else(|_| LightChain::new(&config.genesis, rules)),
            None => LightChain::new(&config.genesis, rules),
        };
        let peers = Arc::new(PeerSet::new(config.peers));
        let tip = chain.trusted().tip.clone();
        let inner = Arc::new(Inner {
            stale_after: Rules::follow(&config.genesis).max_age,
            genesis: config.genesis,
            chain: Mutex::new(Arc::new(chain.clone())),
            verifying: Semaphore::new(VERIFIED),
            read_ahead: ReadAhead::new(Arc::clone(&peers)),
            peers,
            store: config.store,
            clock: config.clock,
            status: watch::Sender::new(LightStatus { tip, ..LightStatus::default() }),
            wake: Notify::new(),
            submitted: Mutex::new(BTreeMap::new()),
            stop: stop.clone(),
            ended: CancellationToken::new(),
        });
        let ended = inner.ended.clone().drop_guard();
        let follower = follow::run(Arc::clone(&inner), chain);
        tokio::spawn(async move {
            follower.await;
            drop(ended);
        });
        Self { inner, _stop: Arc::new(stop.drop_guard()) }
    }

    /// The tip and what is known about its age, to wait for changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LightStatus> {
        self.inner.status.subscribe()
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self) -> LightStatus {
        self.inner.status.borrow().clone()
    }

    /// Why no chain peer is asked, if all gave false answers: most often this is not their network.
    #[must_use]
    pub fn all_false(&self) -> Option<String> {
        self.inner.peers.all_dropped()
    }

    /// Adds a chain peer. One that was dropped is forgiven.
    pub fn add_peer(&self, peer: Arc<dyn ChainPeer>) {
        self.inner.peers.add(peer);
        self.inner.wake.notify_one();
    }

    /// Stops following, and waits until the follower has stored its point and ended. Questions are
    /// still answered, from the last trusted point on.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.ended.cancelled().await;
    }
}

impl Inner {
    /// What is trusted now.
    fn chain(&self) -> Arc<LightChain> {
        Arc::clone(&lock(&self.chain))
    }

    fn set_chain(&self, chain: LightChain) {
        *lock(&self.chain) = Arc::new(chain);
    }

    /// Checks signatures and proofs off the runtime's threads, a few at a time.
    async fn verify<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // It is never closed.
        let _permit = self.verifying.acquire().await;
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down; this task ends with it at its next await.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn submitted(&self) -> MutexGuard<'_, BTreeMap<TransactionId, Transaction>> {
        lock(&self.submitted)
    }

    fn trusted_height(&self) -> Height {
        self.chain().trusted().height()
    }

    /// Publishes what the chain trusts now, and how old it is. `at_tip` says that a peer has named that
    /// as its tip; before one ever has, its age means nothing. Returns whether the tip has moved.
    fn publish(&self, at_tip: bool) -> bool {
        let tip = self.chain().trusted().tip.clone();
        let time = tip.as_ref().map_or(self.genesis.time, |tip| tip.header.time);
        let age = (self.clock)().since(time);
        let mut moved = false;
        self.status.send_if_modified(|status| {
            let contacted = status.contacted || at_tip;
            let stale = (contacted && age > self.stale_after).then_some(age);
            moved = status.tip != tip;
            let reached = tip.as_ref().map(|tip| tip.header.height);
            let ahead = status.ahead.filter(|(height, _)| reached < Some(*height));
            let changed = moved
                || status.contacted != contacted
                || status.stale.is_some() != stale.is_some()
                || status.ahead != ahead;
            *status = LightStatus { tip, contacted, stale, ahead };
            changed
        });
        moved
    }
}

async fn stored_state(store: &dyn PointStore) -> Option<LightState> {
    let bytes = store
        .load()
        .await
        .inspect_err(|error| warn!(%error, "the light client's trusted point cannot be read"))
        .ok()??;
    encoding::decode_limited(&bytes, MAX_STATE)
        .inspect_err(|error| warn!(%error, "the light client's trusted point is damaged"))
        .ok()
}
