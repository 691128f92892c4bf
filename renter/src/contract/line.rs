//! The line to all hosts, and what sectors may take of it: bytes a second for each way, over all that
//! this node stores and reads, repair and collection included.
//!
//! Who comes first is served first; slabs of names are counted and do not wait. Heads, descriptors and all
//! other control messages never wait here. Time that a request waits is no fault of its host: it is to
//! be taken before the host's time runs.

use std::sync::{Arc, Mutex};

use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::bucket::{Bucket, Place};
use crate::world::Clock;

/// Limits of transfers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineRates {
    /// Bytes of sectors sent to hosts in a second; 0 for no limit.
    pub upload: u64,
    /// Bytes of sectors fetched from hosts in a second; 0 for no limit.
    pub download: u64,
}

/// One way of the line.
struct Way {
    rate: watch::Sender<u64>,
    /// A leaf, held by nobody who waits: a transfer that nobody drives on keeps no other one waiting.
    bucket: Mutex<Bucket>,
}

/// One who waits for bytes that it has taken. Who leaves gives them back.
struct Standing<'a> {
    way: &'a Way,
    place: Place,
    bytes: u64,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        lock(&self.way.bucket).give_back(self.place, self.bytes);
    }
}

impl Way {
    fn new(now: u64) -> Self {
        let bucket = Bucket::new(0, Millis::seconds(1), 0, now);
        Self { rate: watch::Sender::new(0), bucket: Mutex::new(bucket) }
    }

    async fn take(&self, clock: &dyn Clock, bytes: u64) {
        let mut rates = self.rate.subscribe();
        if *rates.borrow() == 0 {
            return;
        }
        let place = lock(&self.bucket).line_up(bytes);
        let mut standing = Standing { way: self, place, bytes };
        loop {
            let wait = {
                let (rate, now) = (*rates.borrow_and_update(), clock.now());
                let mut bucket = lock(&self.bucket);
                bucket.set_rate(rate, now);
                bucket.wait_at(standing.place, now)
            };
            match wait {
                // No rate is no limit.
                None => return,
                Some(Millis(0)) => {
                    standing.bytes = 0;
                    return;
                }
                Some(wait) => tokio::select! {
                    biased;
                    // The other end is held by the one who waits.
                    _ = rates.changed() => {}
                    () = clock.sleep(wait) => {}
                },
            }
        }
    }

    fn take_at_once(&self, bytes: u64) {
        if *self.rate.borrow() != 0 {
            lock(&self.bucket).take(bytes);
        }
    }
}

/// The line of one node. A cheap clone.
#[derive(Clone)]
pub(crate) struct Line(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    up: Way,
    down: Way,
}

impl Line {
    /// A line without limits.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self(Arc::new(Inner { clock, up: Way::new(now), down: Way::new(now) }))
    }

    /// Sets the limits; who waits goes on under the new ones.
    pub(crate) fn set(&self, rates: LineRates) {
        self.0.up.rate.send_replace(rates.upload);
        self.0.down.rate.send_replace(rates.download);
    }

    /// The limits.
    pub(crate) fn rates(&self) -> LineRates {
        LineRates { upload: *self.0.up.rate.borrow(), download: *self.0.down.rate.borrow() }
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn send(&self, bytes: u64) {
        self.0.up.take(self.0.clock.as_ref(), bytes).await;
    }

    /// Counts bytes that are sent at once: names come before files.
    pub(crate) fn send_at_once(&self, bytes: u64) {
        self.0.up.take_at_once(bytes);
    }

    /// Waits until so many bytes may be fetched.
    pub(crate) async fn fetch(&self, bytes: u64) {
        self.0.down.take(self.0.clock.as_ref(), bytes).await;
    }

    /// Counts bytes that are fetched at once: names come before files.
    pub(crate) fn fetch_at_once(&self, bytes: u64) {
        self.0.down.take_at_once(bytes);
    }
}

/// Counts those of one transfer that wait for the line. A cheap clone.
#[derive(Clone, Default)]
pub(crate) struct Queued(Arc<()>);

impl Queued {
    /// One more, until the ticket is dropped.
    pub(crate) fn ticket(&self) -> Self {
        self.clone()
    }

    /// Whether any wait.
    pub(crate) fn any(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use samara_protocol::units::Millis;

    use super::{Line, LineRates};
    use crate::testing::world::TestNetwork;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_in_turn_and_at_the_rate() {
        let clock = TestNetwork::empty(0).await.world.clock;
        let line = Line::new(clock.clone());
        let started = clock.now();
        for _ in 0..100 {
            line.send(1 << 20).await;
        }
        assert_eq!(clock.now(), started, "no limit");
        line.set(LineRates { upload: 1_000, download: 0 });
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sends = (0..5u64).map(|number| {
            let (line, order, clock) = (line.clone(), order.clone(), clock.clone());
            async move {
                line.send(2_000).await;
                order.lock().unwrap().push((number, clock.now() - started));
            }
        });
        line.fetch(1 << 30).await;
        futures::future::join_all(sends).await;
        let order = std::mem::take(&mut *order.lock().unwrap());
        assert_eq!(order, [(0, 0), (1, 2_000), (2, 4_000), (3, 6_000), (4, 8_000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_go_on_or_leaves_keeps_nobody_waiting() {
        let clock = TestNetwork::empty(0).await.world.clock;
        let line = Line::new(clock.clone());
        line.set(LineRates { upload: 1_000, download: 0 });
        line.send(1_000).await;
        let started = clock.now();
        // Begun, and then left alone by whoever should drive it.
        let mut forgotten = Box::pin(line.send(3_000));
        assert!(futures::poll!(forgotten.as_mut()).is_pending());
        line.send(500).await;
        assert_eq!(clock.now() - started, 4_000);
        let mut leaves = Box::pin(line.send(1_000_000));
        assert!(futures::poll!(leaves.as_mut()).is_pending());
        drop(leaves);
        line.send(500).await;
        assert_eq!(clock.now() - started, 4_500);
        forgotten.await;
        assert_eq!(clock.now() - started, 4_500);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_a_new_limit() {
        let clock = TestNetwork::empty(0).await.world.clock;
        let line = Line::new(clock.clone());
        line.set(LineRates { upload: 0, download: 1 });
        let started = clock.now();
        line.fetch(1_000_000).await;
        let raise = async {
            clock.sleep(Millis(5_000)).await;
            line.set(LineRates::default());
        };
        futures::future::join(line.fetch(10), raise).await;
        assert_eq!(clock.now() - started, 5_000);
        assert_eq!(line.rates(), LineRates::default());
    }
}
