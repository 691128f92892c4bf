//! Nodes in one process, over real sockets of 127.0.0.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use samara_protocol::signature::{PublicKey, SecretKey};
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use super::outbound::SUBSTREAMS;
use super::{
    Body, Channel, GossipError, MAX_BULK_BODY, MAX_CONTROL_BODY, Multiaddr, RequestError,
    RequestHandler, Topic, Transport, TransportConfig, TransportTask, Verdict,
};

/// Only a test that hangs ever gets here.
const TIMEOUT: Duration = Duration::from_secs(120);

const SECTOR: usize = 4 << 20;

/// Answers with the request.
struct Echo;

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, _: PublicKey, _: Channel, body: Bytes) -> Body {
        body.into()
    }
}

/// Answers with the key of whoever asks.
struct Mirror;

#[async_trait]
impl RequestHandler for Mirror {
    async fn handle(&self, from: PublicKey, _: Channel, _: Bytes) -> Body {
        Bytes::copy_from_slice(&from.0).into()
    }
}

/// Answers with as many zeros as the request says, or panics at an empty request.
struct Zeros;

#[async_trait]
impl RequestHandler for Zeros {
    async fn handle(&self, _: PublicKey, _: Channel, body: Bytes) -> Body {
        let length = u32::from_le_bytes(body.as_ref().try_into().expect("a length"));
        vec![0; length as usize].into()
    }
}

/// Holds bulk requests until the test lets them go.
struct Gate {
    entered: AtomicUsize,
    changed: Notify,
    permits: Semaphore,
}

impl Gate {
    fn closed() -> Arc<Self> {
        let (entered, changed) = (AtomicUsize::new(0), Notify::new());
        Arc::new(Self { entered, changed, permits: Semaphore::new(0) })
    }

    fn release(&self) {
        self.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until `count` bulk requests have come in.
    async fn entered(&self, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.entered.load(Ordering::SeqCst) >= count {
                return;
            }
            changed.await;
        }
    }
}

#[async_trait]
impl RequestHandler for Gate {
    async fn handle(&self, _: PublicKey, channel: Channel, body: Bytes) -> Body {
        if channel == Channel::Bulk {
            self.entered.fetch_add(1, Ordering::SeqCst);
            self.changed.notify_waiters();
            let permit = self.permits.acquire().await.unwrap();
            drop(permit);
        }
        body.into()
    }
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([seed; 32]))
}

async fn start(
    seed: u8,
    listen: &str,
    handler: Arc<dyn RequestHandler>,
) -> (Transport, TransportTask) {
    let mut config = TransportConfig::new(secret(seed));
    config.listen = vec![listen.parse().unwrap()];
    Transport::start(config, handler).await.unwrap()
}

async fn node(seed: u8, handler: Arc<dyn RequestHandler>) -> (Transport, TransportTask) {
    start(seed, "/ip4/127.0.0.1/tcp/0", handler).await
}

/// A node that asks and a node that answers.
async fn pair(handler: Arc<dyn RequestHandler>) -> (Transport, Transport) {
    let (asker, _) = node(1, Arc::new(Echo)).await;
    let (answerer, _) = node(2, handler).await;
    introduce(&asker, &answerer);
    (asker, answerer)
}

fn introduce(from: &Transport, to: &Transport) {
    for address in to.listen_addresses() {
        from.add_address(to.local_peer(), address);
    }
}

fn pattern(seed: usize, length: usize) -> Bytes {
    (0..length).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed) as u8).collect()
}

async fn ask(
    from: &Transport,
    to: &Transport,
    channel: Channel,
    body: Bytes,
) -> Result<Bytes, RequestError> {
    from.request(to.local_peer(), channel, body, TIMEOUT).await
}

/// Runs the condition until it holds, giving way to other tasks in between.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(TIMEOUT, async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Whether the peer certainly did not handle the request.
fn is_unhandled(error: &RequestError) -> bool {
    match error {
        RequestError::TimedOut { .. }
        | RequestError::PeerFailed { .. }
        | RequestError::Malformed { .. }
        | RequestError::ResponseTooLarge { .. } => false,
        RequestError::Closed { sent, .. } => !sent,
        RequestError::NoAddress { .. }
        | RequestError::Unreachable { .. }
        | RequestError::QueueFull { .. }
        | RequestError::Overloaded { .. }
        | RequestError::RequestTooLarge { .. }
        | RequestError::Unsupported { .. }
        | RequestError::Stopped { .. } => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echoes_bodies_of_all_sizes_both_ways() {
    let (a, b) = pair(Arc::new(Echo)).await;
    for channel in Channel::ALL {
        for length in [0, 1, 16_383, 16_385, 70_000, 1 << 20, channel.max_request()] {
            let body = pattern(length, length);
            assert_eq!(ask(&a, &b, channel, body.clone()).await.unwrap(), body);
            // The answerer knows no address of the asker and uses its connections.
            assert_eq!(ask(&b, &a, channel, body.clone()).await.unwrap(), body);
        }
    }
    assert!(a.peers().contains(&b.local_peer()));
    assert!(b.peers().contains(&a.local_peer()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_have_a_connection_each() {
    let (a, b) = pair(Arc::new(Echo)).await;
    for (asker, answerer) in [(&a, &b), (&b, &a)] {
        let mut connections = Vec::new();
        for channel in Channel::ALL {
            ask(asker, answerer, channel, Bytes::new()).await.unwrap();
            let pool = asker.0.pools.pool(answerer.local_peer(), channel);
            connections.push(pool.take().unwrap().connection);
        }
        assert_ne!(connections[0], connections[1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echoes_over_quic() {
    let (a, _) = start(1, "/ip4/127.0.0.1/udp/0/quic-v1", Arc::new(Echo)).await;
    let (b, _) = start(2, "/ip4/127.0.0.1/udp/0/quic-v1", Arc::new(Echo)).await;
    introduce(&a, &b);
    let body = pattern(1, SECTOR);
    assert_eq!(ask(&a, &b, Channel::Bulk, body.clone()).await.unwrap(), body);
    assert_eq!(ask(&a, &b, Channel::Control, Bytes::new()).await.unwrap(), Bytes::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carries_64_sectors_at_once() {
    let (a, b) = pair(Arc::new(Echo)).await;
    let bodies: Vec<Bytes> = (0..64).map(|seed| pattern(seed, SECTOR)).collect();
    let answers =
        join_all(bodies.iter().map(|body| ask(&a, &b, Channel::Bulk, body.clone()))).await;
    for (answer, body) in answers.into_iter().zip(bodies) {
        assert!(answer.unwrap() == body);
    }
    let (idle, free) = a.0.pools.pool(b.local_peer(), Channel::Bulk).state();
    assert_eq!(free, SUBSTREAMS);
    assert!((1..=SUBSTREAMS).contains(&idle));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_know_the_other_key() {
    let (a, b) = pair(Arc::new(Mirror)).await;
    let seen = ask(&a, &b, Channel::Control, Bytes::new()).await.unwrap();
    assert_eq!(seen, a.local_peer().0.as_slice());

    // Another key at the same address is not taken for the one that was asked.
    let impostor = secret(9).public();
    for address in b.listen_addresses() {
        a.add_address(impostor, address);
    }
    let error = a.request(impostor, Channel::Control, Bytes::new(), TIMEOUT).await.unwrap_err();
    assert!(matches!(error, RequestError::Unreachable { peer, .. } if peer == impostor), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_oversized_bodies_on_both_sides() {
    let (a, b) = pair(Arc::new(Zeros)).await;
    for (channel, limit) in [(Channel::Control, MAX_CONTROL_BODY), (Channel::Bulk, MAX_BULK_BODY)] {
        let body = Bytes::from(vec![0; limit + 1]);
        let error = ask(&a, &b, channel, body).await.unwrap_err();
        assert!(matches!(error, RequestError::RequestTooLarge { .. }), "{error}");

        let over = u32::try_from(limit + 1).unwrap().to_le_bytes();
        let error = ask(&a, &b, channel, Bytes::copy_from_slice(&over)).await.unwrap_err();
        assert!(matches!(error, RequestError::PeerFailed { .. }), "{error}");

        let full = u32::try_from(limit).unwrap().to_le_bytes();
        let answer = ask(&a, &b, channel, Bytes::copy_from_slice(&full)).await.unwrap();
        assert_eq!(answer.len(), limit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_handler_fails_one_request_only() {
    let (a, b) = pair(Arc::new(Zeros)).await;
    let error = ask(&a, &b, Channel::Control, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, RequestError::PeerFailed { .. }), "{error}");
    let answer = ask(&a, &b, Channel::Control, Bytes::from_static(&[3, 0, 0, 0])).await.unwrap();
    assert_eq!(answer.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_peers_that_cannot_be_reached() {
    let (a, _task) = node(1, Arc::new(Echo)).await;
    let stranger = secret(8).public();
    let error = a.request(stranger, Channel::Bulk, Bytes::new(), TIMEOUT).await.unwrap_err();
    assert!(matches!(error, RequestError::NoAddress { peer } if peer == stranger), "{error}");
    assert!(is_unhandled(&error));

    // A port that was bound a moment ago and is free now.
    let (gone, task) = node(2, Arc::new(Echo)).await;
    introduce(&a, &gone);
    let peer = gone.local_peer();
    gone.shutdown().await;
    task.join().await.unwrap();
    for _ in 0..2 {
        let error = a.request(peer, Channel::Bulk, Bytes::new(), TIMEOUT).await.unwrap_err();
        assert!(matches!(error, RequestError::Unreachable { peer: named, .. } if named == peer));
        assert!(is_unhandled(&error));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_a_peer_again_after_its_restart() {
    let (a, _task) = node(1, Arc::new(Echo)).await;
    let (b, task) = node(2, Arc::new(Echo)).await;
    let peer = b.local_peer();
    let address: Multiaddr = b.listen_addresses()[0].clone();
    introduce(&a, &b);
    ask(&a, &b, Channel::Bulk, pattern(1, SECTOR)).await.unwrap();
    ask(&a, &b, Channel::Control, pattern(1, 10)).await.unwrap();
    b.shutdown().await;
    task.join().await.unwrap();
    let mut peers = a.watch_peers();
    peers.wait_for(|peers| !peers.contains(&peer)).await.unwrap();

    let (b, _task) = start(2, &address.to_string(), Arc::new(Echo)).await;
    assert_eq!(b.local_peer(), peer);
    for channel in Channel::ALL {
        let body = pattern(2, 1 << 20);
        assert_eq!(ask(&a, &b, channel, body.clone()).await.unwrap(), body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_requests_free_what_they_held() {
    let gate = Gate::closed();
    let (a, b) = pair(Arc::clone(&gate) as Arc<dyn RequestHandler>).await;
    let pool = a.0.pools.pool(b.local_peer(), Channel::Bulk);
    for round in 1..=2 {
        let request = |seed| {
            let (a, peer) = (a.clone(), b.local_peer());
            let body = pattern(seed, 100_000);
            tokio::spawn(async move { a.request(peer, Channel::Bulk, body, TIMEOUT).await })
        };
        let running: Vec<_> = (0..SUBSTREAMS).map(request).collect();
        gate.entered(round * SUBSTREAMS).await;
        assert_eq!(pool.state(), (0, 0));
        let queued: Vec<_> = (0..SUBSTREAMS).map(request).collect();
        // The queued ones first, or they would move up.
        for request in queued.into_iter().chain(running) {
            request.abort();
            assert!(request.await.unwrap_err().is_cancelled());
        }
        assert_eq!(pool.state(), (0, SUBSTREAMS));
        // The abandoned substreams end at the peer too; its handlers keep their slots.
        eventually("substreams end", async || b.0.inbound.load() == (0, round * SUBSTREAMS)).await;
    }
    // Two pools' worth of abandoned requests is all that one peer may leave behind.
    let error = ask(&a, &b, Channel::Bulk, pattern(0, SECTOR)).await.unwrap_err();
    assert!(matches!(error, RequestError::Overloaded { .. }), "{error}");
    assert!(is_unhandled(&error));

    gate.release();
    eventually("handlers end", async || b.0.inbound.load().1 == 0).await;
    let body = pattern(3, SECTOR);
    assert_eq!(ask(&a, &b, Channel::Bulk, body.clone()).await.unwrap(), body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_request_that_nobody_answers() {
    let gate = Gate::closed();
    let (a, b) = pair(Arc::clone(&gate) as Arc<dyn RequestHandler>).await;
    let deadline = Duration::from_millis(50);
    let peer = b.local_peer();
    let error = a.request(peer, Channel::Bulk, Bytes::new(), deadline).await.unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error}");
    assert!(!is_unhandled(&error));
    gate.release();
    ask(&a, &b, Channel::Bulk, Bytes::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_passes_while_bulk_is_saturated() {
    let gate = Gate::closed();
    let (a, b) = pair(Arc::clone(&gate) as Arc<dyn RequestHandler>).await;
    let bulk: Vec<_> = (0..3 * SUBSTREAMS)
        .map(|seed| {
            let (a, peer) = (a.clone(), b.local_peer());
            let body = pattern(seed, SECTOR);
            tokio::spawn(async move { a.request(peer, Channel::Bulk, body, TIMEOUT).await })
        })
        .collect();
    gate.entered(SUBSTREAMS).await;
    // No bulk request can end before the gate opens.
    let body = pattern(1, 1000);
    assert_eq!(ask(&a, &b, Channel::Control, body.clone()).await.unwrap(), body);
    assert!(bulk.iter().all(|request| !request.is_finished()));
    gate.release();
    for request in bulk {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_answers_what_is_in_handling() {
    let gate = Gate::closed();
    let (a, b) = pair(Arc::clone(&gate) as Arc<dyn RequestHandler>).await;
    let request = {
        let (a, peer) = (a.clone(), b.local_peer());
        tokio::spawn(
            async move { a.request(peer, Channel::Bulk, pattern(1, SECTOR), TIMEOUT).await },
        )
    };
    gate.entered(1).await;
    let stopping = tokio::spawn(b.clone().shutdown());
    b.0.stop.cancelled().await;
    gate.release();
    assert_eq!(request.await.unwrap().unwrap(), pattern(1, SECTOR));
    stopping.await.unwrap();

    let error = ask(&b, &a, Channel::Control, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, RequestError::Stopped { .. }), "{error}");
    assert!(b.peers().is_empty() && b.listen_addresses().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_task_ends_with_the_last_handle() {
    let (a, task) = node(1, Arc::new(Echo)).await;
    drop(a);
    task.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_reaches_three_nodes_unless_rejected() {
    let topic = Topic::new("/samara/test/1");
    let mut nodes = Vec::new();
    let mut inboxes = Vec::new();
    for seed in 1..=3 {
        let (node, _task) = node(seed, Arc::new(Echo)).await;
        let check = Arc::new(|message: &super::GossipMessage| match message.bytes.first() {
            Some(0) => Verdict::Reject,
            Some(1) => Verdict::Ignore,
            _ => Verdict::Accept,
        });
        inboxes.push(node.subscribe(topic.clone(), check).await.unwrap());
        nodes.push(node);
    }
    let error = nodes[0].publish(topic.clone(), Bytes::from_static(b"alone")).await.unwrap_err();
    assert!(matches!(error, GossipError::NoSubscribers { .. }), "{error}");

    // A line: what the first says reaches the third only through the second.
    for (from, to) in [(0, 1), (1, 2)] {
        introduce(&nodes[from], &nodes[to]);
        nodes[from].connect(nodes[to].local_peer(), TIMEOUT).await.unwrap();
    }
    for (node, neighbours) in [(0, 1), (1, 2), (2, 1)] {
        eventually("subscriptions are known", async || {
            nodes[node].subscribers(topic.clone()).await.unwrap().len() == neighbours
        })
        .await;
    }
    for bytes in [b"\0rejected".as_slice(), b"\x01ignored", b"accepted"] {
        nodes[0].publish(topic.clone(), Bytes::from_static(bytes)).await.unwrap();
    }
    for (node, inbox) in inboxes.iter_mut().enumerate().skip(1) {
        let message = tokio::time::timeout(TIMEOUT, inbox.recv()).await.unwrap().unwrap();
        assert_eq!(message.bytes, b"accepted".as_slice());
        assert_eq!(message.source, nodes[0].local_peer());
        assert_eq!(message.forwarder, nodes[node - 1].local_peer());
    }
}

/// A check may take its time: it may even wait for what this node's own connections bring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_check_of_gossip_keeps_no_request_waiting() {
    let topic = Topic::new("/samara/test/slow");
    let (a, b) = pair(Arc::new(Echo)).await;
    let (let_go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let check = Arc::new(move |_: &super::GossipMessage| {
        // The sender lives until the test ends.
        let _ = gate.lock().unwrap().recv();
        Verdict::Accept
    });
    let mut inbox = b.subscribe(topic.clone(), check).await.unwrap();
    let _outbox = a.subscribe(topic.clone(), Arc::new(|_| Verdict::Accept)).await.unwrap();
    a.connect(b.local_peer(), TIMEOUT).await.unwrap();
    eventually("the subscription is known", async || {
        a.subscribers(topic.clone()).await.unwrap().len() == 1
    })
    .await;
    a.publish(topic.clone(), Bytes::from_static(b"slow")).await.unwrap();
    // New substreams and new connections go through the task that hands messages to the check.
    for channel in Channel::ALL {
        ask(&a, &b, channel, Bytes::from_static(b"meanwhile")).await.unwrap();
    }
    let (c, _task) = node(3, Arc::new(Echo)).await;
    introduce(&c, &b);
    ask(&c, &b, Channel::Control, Bytes::from_static(b"a stranger")).await.unwrap();
    let_go.send(()).unwrap();
    let message = tokio::time::timeout(TIMEOUT, inbox.recv()).await.unwrap().unwrap();
    assert_eq!(message.bytes, b"slow".as_slice());
}

#[tokio::test]
async fn silent_connections_of_one_address_keep_nobody_else_out() {
    let (asker, _asker_task) = node(1, Arc::new(Echo)).await;
    let (answerer, _answerer_task) = node(2, Arc::new(Echo)).await;
    introduce(&asker, &answerer);
    let port = answerer.listen_addresses()[0]
        .iter()
        .find_map(|part| match part {
            libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
            _ => None,
        })
        .unwrap();
    let mut silent = Vec::new();
    let mut closed = 0;
    for _ in 0..300 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let connect = socket.connect(([127, 0, 0, 1], port).into());
        silent.push(tokio::time::timeout(TIMEOUT, connect).await.unwrap().unwrap());
    }
    let echoed = asker.request(answerer.local_peer(), Channel::Control, b"hello".to_vec(), TIMEOUT);
    assert_eq!(echoed.await.unwrap(), &b"hello"[..]);
    // All of them end: at once where the address has too many, else with the handshake's time.
    for stream in &mut silent {
        let mut rest = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(stream, &mut rest);
        tokio::time::timeout(TIMEOUT, read).await.unwrap().ok();
        closed += 1;
    }
    assert_eq!(closed, 300);
}
