//! Serving the requests of peers.
//!
//! One task per inbound substream reads a request, hands it to the [`RequestHandler`] in a task of
//! its own, and writes the response. Every resource is bounded: substreams and requests in
//! handling per peer and channel, requests of all peers per channel (the surplus waits a moment in
//! a queue of limited length, then is told that the node is overloaded), and the time that any
//! frame may take. A slot is taken before the body is read and given back when the response is
//! written. If the substream ends meanwhile, the handler still runs to its end, for it may be
//! between two writes that belong together, and keeps its slot until then.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Body;
use super::buffer::BufferPool;
use super::wire::{Status, read_request_length, write_refusal, write_response};
use super::{Channel, RequestHandler};

/// Inbound substreams per peer and channel. Peers open 8 at most; the rest is room for those that
/// were abandoned but have not ended yet.
const SUBSTREAMS_PER_PEER: usize = 32;

/// Requests of one peer in handling per channel: as many as a peer's pool, and as many again that
/// it gave up waiting for.
const REQUESTS_PER_PEER: usize = 16;

/// Control requests of all peers in handling; a body is 2 MiB at most and mostly tiny. Those that wait
/// for a block take no room from the others.
const CONTROL_REQUESTS: usize = 256 + crate::chain::LONG_POLLS;

/// Bulk requests of all peers in handling: bounds the memory of their bodies to 384 MiB.
const BULK_REQUESTS: usize = 64;

/// Requests per channel that may wait for one of the above slots.
const QUEUE: usize = 256;

/// How long a request waits for a slot before the peer is told to go elsewhere.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// How long a refused peer may take to notice.
const LINGER: Duration = Duration::from_secs(5);

/// How long a peer may take to read the last response before a shutdown.
const PARTING: Duration = Duration::from_secs(1);

/// Time limits of inbound frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From the first byte of a frame to its last.
    pub(super) frame: Duration,
    /// Between a response and the next request.
    pub(super) idle: Duration,
}

/// All that serves inbound substreams; shared by their tasks.
pub(super) struct Inbound {
    handler: Arc<dyn RequestHandler>,
    buffers: BufferPool,
    limits: Limits,
    substreams: Arc<PeerCounts>,
    requests: Arc<PeerCounts>,
    control: Queue,
    bulk: Queue,
    tasks: TaskTracker,
    /// No new requests; those in handling are finished.
    stop: CancellationToken,
    /// Everything ends now.
    abort: CancellationToken,
}

impl Inbound {
    pub(super) fn new(
        handler: Arc<dyn RequestHandler>,
        buffers: BufferPool,
        limits: Limits,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            handler,
            buffers,
            limits,
            substreams: Arc::default(),
            requests: Arc::default(),
            control: Queue::new(CONTROL_REQUESTS),
            bulk: Queue::new(BULK_REQUESTS),
            tasks: TaskTracker::new(),
            stop,
            abort: CancellationToken::new(),
        })
    }

    /// Serves a substream that a peer opened, or drops it if the peer has too many.
    pub(super) fn accept<S>(self: &Arc<Self>, peer: PublicKey, channel: Channel, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(count) = self.substreams.increment(peer, channel, SUBSTREAMS_PER_PEER) else {
            tracing::debug!(%peer, ?channel, "too many inbound substreams");
            return;
        };
        let inbound = Arc::clone(self);
        self.spawn(async move {
            inbound.serve(peer, channel, stream).await;
            drop(count);
        });
    }

    /// Resolves once the requests in handling are answered; nothing may be accepted any more.
    pub(super) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends all tasks wherever they are.
    pub(super) fn abort(&self) {
        self.abort.cancel();
    }

    /// Inbound substreams and requests in handling, of all peers.
    #[cfg(test)]
    pub(super) fn load(&self) -> (usize, usize) {
        (self.substreams.total(), self.requests.total())
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            abort.run_until_cancelled(work).await;
        });
    }

    async fn serve<S>(self: &Arc<Self>, peer: PublicKey, channel: Channel, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let next = timeout(self.limits.idle, read_request_length(&mut stream));
            let length = match self.stop.run_until_cancelled(next).await {
                Some(Ok(Ok(Some(length)))) => length,
                // Shutdown, silence, a lost connection or the peer's own end.
                _ => return,
            };
            if length > channel.max_request() {
                tracing::debug!(%peer, ?channel, length, "request too large");
                return self.refuse(&mut stream, Status::RequestTooLarge).await;
            }
            let Some(slot) = self.slot(peer, channel).await else {
                tracing::debug!(%peer, ?channel, "overloaded");
                return self.refuse(&mut stream, Status::Overloaded).await;
            };
            let body = timeout(self.limits.frame, self.buffers.read(&mut stream, length));
            let Ok(Ok(body)) = body.await else { return };
            let Some((response, slot)) = self.handle(peer, channel, body, slot, &mut stream).await
            else {
                return;
            };
            let written = timeout(self.limits.frame, async {
                match &response {
                    Some(response) => write_response(&mut stream, response).await,
                    None => write_refusal(&mut stream, Status::Failed).await,
                }
            });
            if !matches!(written.await, Ok(Ok(()))) {
                return;
            }
            drop(slot);
            if self.stop.is_cancelled() {
                return self.part(&mut stream).await;
            }
        }
    }

    /// Ends a substream after its last response, and waits for the peer to have read it: bytes that
    /// the peer has not read when the connection ends are lost to it.
    async fn part<S>(&self, stream: &mut S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let parted = timeout(PARTING, async {
            stream.close().await?;
            stream.read(&mut [0]).await
        });
        if let Ok(Err(error)) = parted.await {
            tracing::trace!(%error, "the peer left before its last response");
        }
    }

    /// The handler's answer, or `None` if the substream ended first. The answer is `None` if the
    /// handler panicked or answered more than the channel may carry.
    async fn handle<S>(
        self: &Arc<Self>,
        peer: PublicKey,
        channel: Channel,
        body: Bytes,
        slot: Slot,
        stream: &mut S,
    ) -> Option<(Option<Body>, Option<Slot>)>
    where
        S: AsyncRead + Unpin,
    {
        let handler = Arc::clone(&self.handler);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            let response = handler.handle(peer, channel, body).await;
            // Fails only if the substream has ended: the slot is given back with the value.
            drop(sender.send((response, slot)));
        });
        let mut byte = [0];
        tokio::select! {
            biased;
            response = receiver => Some(match response {
                Ok((response, slot)) if response.len() <= channel.max_response() => {
                    (Some(response), Some(slot))
                }
                Ok((response, slot)) => {
                    let length = response.len();
                    tracing::error!(%peer, ?channel, length, "the handler's answer is too large");
                    (None, Some(slot))
                }
                Err(_) => {
                    tracing::error!(%peer, ?channel, "the request handler panicked");
                    (None, None)
                }
            }),
            // Nothing may come before the response, so any result means that the peer left.
            _ = stream.read(&mut byte) => None,
        }
    }

    async fn slot(&self, peer: PublicKey, channel: Channel) -> Option<Slot> {
        let count = self.requests.increment(peer, channel, REQUESTS_PER_PEER)?;
        let queue = match channel {
            Channel::Control => &self.control,
            Channel::Bulk => &self.bulk,
        };
        let permit = queue.enter().await?;
        Some(Slot { _permit: permit, _count: count })
    }

    /// Says why the substream ends, and waits for the peer to have heard it: ending at once could
    /// discard the refusal together with the unread request.
    async fn refuse<S>(&self, stream: &mut S, status: Status)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let heard = timeout(LINGER, async {
            write_refusal(stream, status).await?;
            let mut scrap = [0; 4096];
            while stream.read(&mut scrap).await? > 0 {}
            std::io::Result::Ok(())
        });
        if let Ok(Err(error)) = heard.await {
            tracing::trace!(%error, "the peer left before it heard the refusal");
        }
    }
}

/// The right to have one request in handling.
struct Slot {
    _permit: OwnedSemaphorePermit,
    _count: PeerCount,
}

/// Slots for the requests of all peers and a bounded queue before them.
struct Queue {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Queue {
    fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), waiting: AtomicUsize::new(0) }
    }

    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(permit);
        }
        let _place = Place::take(&self.waiting, QUEUE)?;
        timeout(QUEUE_WAIT, Arc::clone(&self.slots).acquire_owned()).await.ok()?.ok()
    }
}

/// A place in a queue of limited length.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    /// Takes a place unless `limit` are taken.
    pub(super) fn take(waiting: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let place = Self(waiting);
        // The guard exists already, so that a refusal takes back its increment.
        (waiting.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many of something each peer has, per channel.
#[derive(Default)]
struct PeerCounts(Mutex<BTreeMap<(PublicKey, Channel), usize>>);

impl PeerCounts {
    fn increment(
        self: &Arc<Self>,
        peer: PublicKey,
        channel: Channel,
        limit: usize,
    ) -> Option<PeerCount> {
        let mut counts = self.lock();
        let count = counts.entry((peer, channel)).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(PeerCount { counts: Arc::clone(self), key: (peer, channel) })
    }

    #[cfg(test)]
    fn total(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(PublicKey, Channel), usize>> {
        // One number per entry: a panic elsewhere cannot leave it half written.
        lock(&self.0)
    }
}

/// One of the things that [`PeerCounts`] counts.
struct PeerCount {
    counts: Arc<PeerCounts>,
    key: (PublicKey, Channel),
}

impl Drop for PeerCount {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.counts.lock().entry(self.key) {
            match entry.get().checked_sub(1) {
                None | Some(0) => drop(entry.remove()),
                Some(rest) => *entry.get_mut() = rest,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use samara_protocol::signature::PublicKey;
    use tokio_util::sync::CancellationToken;

    use super::{Inbound, Limits, PeerCounts, SUBSTREAMS_PER_PEER};
    use crate::transport::buffer::BufferPool;
    use crate::transport::wire::tests::Script;
    use crate::transport::{Body, Channel, MAX_CONTROL_BODY, RequestHandler};

    const PEER: PublicKey = PublicKey([1; 32]);

    struct Reverse;

    #[async_trait]
    impl RequestHandler for Reverse {
        async fn handle(&self, _: PublicKey, _: Channel, body: Bytes) -> Body {
            body.iter().rev().copied().collect::<Vec<_>>().into()
        }
    }

    fn inbound(frame: Duration) -> Arc<Inbound> {
        let limits = Limits { frame, idle: Duration::from_secs(60) };
        Inbound::new(Arc::new(Reverse), BufferPool::new(1), limits, CancellationToken::new())
    }

    #[tokio::test]
    async fn answers_one_request_after_the_other() {
        let inbound = inbound(Duration::from_secs(60));
        let mut script = Script::new(vec![2, 0, 0, 0, 7, 8, 0, 0, 0, 0, 1, 0, 0, 0, 9], true);
        script.pauses = vec![(6, 7), (10, 12), (15, 18)];
        let heard = Arc::clone(&script.heard);
        inbound.accept(PEER, Channel::Bulk, script);
        inbound.finished().await;
        let expected = [0, 2, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(*heard.lock().unwrap(), expected);
        assert_eq!(inbound.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_claim_over_the_limit_is_refused_without_its_body() {
        let inbound = inbound(Duration::from_secs(60));
        let claim = u32::try_from(MAX_CONTROL_BODY + 1).unwrap().to_le_bytes();
        let script = Script::new(claim.to_vec(), true);
        let heard = Arc::clone(&script.heard);
        inbound.accept(PEER, Channel::Control, script);
        inbound.finished().await;
        assert_eq!(*heard.lock().unwrap(), [2, 0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn silence_within_a_frame_ends_the_substream() {
        let inbound = inbound(Duration::from_millis(1));
        inbound.accept(PEER, Channel::Bulk, Script::new(vec![9, 0, 0, 0, 1, 2, 3], false));
        inbound.finished().await;
        assert_eq!(inbound.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_peer_has_few_substreams_and_others_have_their_own() {
        let inbound = inbound(Duration::from_secs(60));
        for _ in 0..2 * SUBSTREAMS_PER_PEER {
            inbound.accept(PEER, Channel::Bulk, Script::new(vec![], false));
        }
        assert_eq!(inbound.load(), (SUBSTREAMS_PER_PEER, 0));
        inbound.accept(PublicKey([2; 32]), Channel::Bulk, Script::new(vec![], false));
        assert_eq!(inbound.load(), (SUBSTREAMS_PER_PEER + 1, 0));
        inbound.abort();
        inbound.finished().await;
        assert_eq!(inbound.load(), (0, 0));
    }

    #[test]
    fn counts_forget_peers_that_have_nothing() {
        let counts = Arc::new(PeerCounts::default());
        let first = counts.increment(PEER, Channel::Bulk, 1).unwrap();
        assert!(counts.increment(PEER, Channel::Bulk, 1).is_none());
        assert!(counts.increment(PEER, Channel::Control, 1).is_some());
        drop(first);
        assert!(counts.lock().is_empty());
    }
}
