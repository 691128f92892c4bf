//! The stream of events: what has just happened, for pages that are open.
//!
//! Events are numbered from the milliseconds of the clock at the start, so numbers go up across restarts.
//! The last [`RING`] are kept in memory: a reader that comes back says which it has seen last, and gets
//! those after it. A reader that is too slow is told so and dropped; it comes back the same way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use samara_protocol::sync::lock;
use samara_protocol::units::ChainTime;
use serde::Serialize;
use tokio::sync::broadcast;

/// Events that are kept.
pub const RING: usize = 1_000;
/// Longest event in bytes of JSON.
const MAX_EVENT: usize = 48 << 10;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number; none for what concerns this reader alone.
    pub id: Option<u64>,
    /// `notice`, `delivery`, `job`; to one reader alone `gap`, `dropped`.
    pub name: &'static str,
    /// JSON.
    pub data: String,
}

/// The stream. A cheap clone.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    ring: Mutex<Ring>,
    sender: broadcast::Sender<Arc<Event>>,
}

struct Ring {
    /// Number of the next event.
    next: u64,
    events: VecDeque<Arc<Event>>,
}

impl Events {
    /// A stream that begins now.
    #[must_use]
    pub fn new(now: ChainTime) -> Self {
        let (sender, _) = broadcast::channel(RING);
        let ring = Mutex::new(Ring { next: now.0.max(1), events: VecDeque::with_capacity(RING) });
        Self(Arc::new(Inner { ring, sender }))
    }

    /// Tells all readers.
    pub fn tell(&self, name: &'static str, data: &impl Serialize) {
        let data = match serde_json::to_string(data) {
            Ok(data) if data.len() <= MAX_EVENT => data,
            Ok(data) => {
                tracing::debug!(name, bytes = data.len(), "an event is too long to be told");
                return;
            }
            Err(error) => {
                tracing::debug!(name, %error, "an event cannot be told");
                return;
            }
        };
        let mut ring = lock(&self.0.ring);
        let event = Arc::new(Event { id: Some(ring.next), name, data });
        ring.next += 1;
        if ring.events.len() >= RING {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that readers see the order of the numbers; nobody may be there.
        let _ = self.0.sender.send(event);
    }

    /// How many read.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.sender.receiver_count()
    }

    /// A reader that has seen events up to `last`; of those now, if it has seen none.
    #[must_use]
    pub fn read(&self, last: Option<u64>) -> Reader {
        let ring = lock(&self.0.ring);
        let receiver = self.0.sender.subscribe();
        let mut backlog = VecDeque::new();
        if let Some(last) = last {
            let oldest = ring.next - ring.events.len() as u64;
            if last >= ring.next || last.saturating_add(1) < oldest {
                let data = r#"{"message":"events were missed: read the lists anew"}"#.to_owned();
                backlog.push_back(Arc::new(Event { id: None, name: "gap", data }));
            }
            let seen = |event: &Event| last < ring.next && event.id.is_some_and(|id| id <= last);
            backlog.extend(ring.events.iter().filter(|event| !seen(event)).cloned());
        }
        Reader { backlog, receiver: Some(receiver) }
    }
}

/// One reader of the stream.
pub struct Reader {
    backlog: VecDeque<Arc<Event>>,
    /// None once it has fallen behind.
    receiver: Option<broadcast::Receiver<Arc<Event>>>,
}

impl Reader {
    /// The next event; none once the reader was dropped.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.backlog.pop_front() {
            return Some(event);
        }
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Closed) => None,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                self.receiver = None;
                let data = format!(
                    r#"{{"message":"this reader is too slow: connect again","missed":{missed}}}"#
                );
                Some(Arc::new(Event { id: None, name: "dropped", data }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Numbers and names of what can be read at once.
    fn there(reader: &mut Reader) -> Vec<(Option<u64>, &'static str)> {
        let mut events = Vec::new();
        while let Some(Some(event)) = reader.next().now_or_never() {
            events.push((event.id, event.name));
        }
        events
    }

    #[test]
    fn readers_see_what_comes_in_order() {
        let events = Events::new(ChainTime(100));
        events.tell("job", &1);
        let mut reader = events.read(None);
        assert!(there(&mut reader).is_empty());
        events.tell("notice", &2);
        events.tell("job", &3);
        assert_eq!(there(&mut reader), [(Some(101), "notice"), (Some(102), "job")]);
    }

    #[test]
    fn a_reader_that_comes_back_goes_on() {
        let events = Events::new(ChainTime(100));
        for _ in 0..3 {
            events.tell("job", &());
        }
        assert_eq!(there(&mut events.read(Some(100))), [(Some(101), "job"), (Some(102), "job")]);
        assert!(there(&mut events.read(Some(102))).is_empty());
        // Nothing was missed, though it saw the last of another run.
        assert_eq!(there(&mut events.read(Some(99))).len(), 3);
        // Older than what is kept, or from a clock that ran ahead.
        for last in [5, 103, u64::MAX] {
            let seen = there(&mut events.read(Some(last)));
            assert_eq!(seen.len(), 4, "{last}");
            assert_eq!(seen[0], (None, "gap"));
        }
    }

    #[test]
    fn the_ring_is_bounded_and_the_slow_are_dropped() {
        let events = Events::new(ChainTime(0));
        let mut slow = events.read(None);
        for _ in 0..3 * RING {
            events.tell("job", &());
        }
        assert_eq!(there(&mut slow), [(None, "dropped")]);
        assert_eq!(there(&mut events.read(Some(1))).len(), RING + 1);
        let last = 3 * RING as u64;
        assert_eq!(there(&mut events.read(Some(last - 5))).len(), 5);
    }

    #[test]
    fn long_events_are_not_told() {
        let events = Events::new(ChainTime(1));
        let mut reader = events.read(None);
        events.tell("job", &"x".repeat(MAX_EVENT));
        assert!(there(&mut reader).is_empty());
    }
}
