//! A token bucket over the world's clock.

use samara_protocol::units::Millis;

/// Tokens that come back with time. One taking may overdraw it; the next waits until that is made up, so
/// that also what is larger than the bucket gets its turn.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Tokens that come back in a span.
    rate: u64,
    /// Milliseconds of that span.
    span: u64,
    /// Tokens times span, so that nothing is lost to rounding.
    level: i128,
    most: i128,
    filled: u64,
    /// All that was ever taken, times span.
    taken: i128,
    /// Places that were left, in order, and what was given back there: of no use to those ahead.
    left: Vec<(Place, i128)>,
}

/// A place in the line of those who have taken tokens and wait until what was taken before is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(i128);

impl Bucket {
    /// A bucket that starts with `burst` tokens and holds no more.
    pub(crate) fn new(rate: u64, span: Millis, burst: u64, now: u64) -> Self {
        let span = span.0.max(1);
        let most = i128::from(burst) * i128::from(span);
        Self { rate, span, level: most, most, filled: now, taken: 0, left: Vec::new() }
    }

    /// Time until tokens can be taken; nothing if none ever come.
    pub(crate) fn wait(&mut self, now: u64) -> Option<Millis> {
        let place = Place(self.taken);
        self.wait_at(place, now)
    }

    /// Takes tokens, and gives the place in the line from which on they are there.
    pub(crate) fn line_up(&mut self, tokens: u64) -> Place {
        let place = Place(self.taken);
        self.take(tokens);
        place
    }

    /// Time until all that was taken before a place is made up; nothing if it never is.
    pub(crate) fn wait_at(&mut self, place: Place, now: u64) -> Option<Millis> {
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let back = i128::from(passed) * i128::from(self.rate);
        self.level = self.level.saturating_add(back).min(self.most);
        if self.rate == 0 {
            return None;
        }
        self.forget_left();
        let behind: i128 =
            self.left.iter().filter(|(at, _)| *at > place).map(|(_, cost)| cost).sum();
        let there = self.level.saturating_add(self.taken.saturating_sub(place.0)) - behind;
        let lacking = u64::try_from((-there).max(0)).unwrap_or(u64::MAX);
        Some(Millis(lacking.div_ceil(self.rate)))
    }

    /// Forgets places that were left and have nobody ahead any more who waits.
    fn forget_left(&mut self) {
        let reach = self.level.saturating_add(self.taken);
        let mut behind = 0;
        let served = self.left.iter().rposition(|(at, cost)| {
            behind += cost;
            reach - at.0 - behind >= 0
        });
        self.left.drain(..served.map_or(0, |index| index + 1));
    }

    /// Gives back tokens that were taken at a place and are not used: those behind come the earlier.
    pub(crate) fn give_back(&mut self, place: Place, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let cost = i128::from(tokens) * i128::from(self.span);
        self.level = self.level.saturating_add(cost);
        let behind = self.left.partition_point(|(at, _)| *at <= place);
        self.left.insert(behind, (place, cost));
    }

    /// Tokens come back at another rate from now on.
    pub(crate) fn set_rate(&mut self, rate: u64, now: u64) {
        if self.rate != rate {
            // What came back until now came at the old rate.
            let _ = self.wait(now);
            self.rate = rate;
        }
    }

    /// Takes tokens, there or not.
    pub(crate) fn take(&mut self, tokens: u64) {
        let cost = i128::from(tokens) * i128::from(self.span);
        self.level = self.level.saturating_sub(cost);
        self.taken = self.taken.saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn what_was_overdrawn_is_waited_for() {
        let mut bucket = Bucket::new(1_000, Millis::seconds(1), 0, 50);
        assert_eq!(bucket.wait(50), Some(Millis(0)));
        bucket.take(5_000);
        assert_eq!(bucket.wait(50), Some(Millis(5_000)));
        assert_eq!(bucket.wait(1_050), Some(Millis(4_000)));
        assert_eq!(bucket.wait(9_000), Some(Millis(0)));
        assert_eq!(Bucket::new(0, Millis(1), 5, 0).wait(7), None);
    }

    #[test]
    fn a_line_is_served_in_turn_and_moves_up() {
        let mut bucket = Bucket::new(1_000, Millis::seconds(1), 0, 0);
        let places = [bucket.line_up(2_000), bucket.line_up(3_000), bucket.line_up(1_000)];
        let wait = |bucket: &mut Bucket, now| places.map(|place| bucket.wait_at(place, now));
        assert_eq!(wait(&mut bucket, 0), [0, 2_000, 5_000].map(|wait| Some(Millis(wait))));
        bucket.set_rate(500, 1_000);
        assert_eq!(wait(&mut bucket, 1_000), [0, 2_000, 8_000].map(|wait| Some(Millis(wait))));
        // The second leaves.
        bucket.give_back(places[1], 3_000);
        // The one ahead gains nothing by it.
        assert_eq!(bucket.wait_at(places[0], 1_000), Some(Millis(0)));
        assert_eq!(bucket.wait_at(places[2], 1_000), Some(Millis(2_000)));
        assert_eq!(bucket.wait(3_000), Some(Millis(2_000)));
    }

    #[test]
    fn a_line_that_is_never_idle_forgets_who_left_it() {
        let mut bucket = Bucket::new(1_000, Millis::seconds(1), 0, 0);
        let mut now = 0;
        let mut ahead = bucket.line_up(1_000);
        for _ in 0..100 {
            let next = bucket.line_up(1_000);
            // Half of it is not used.
            bucket.give_back(ahead, 500);
            now += bucket.wait_at(next, now).unwrap().0;
            assert!(bucket.left.len() <= 1, "{:?}", bucket.left);
            ahead = next;
        }
        assert_eq!(now, 100 * 500);
    }

    proptest! {
        #[test]
        fn no_more_is_taken_than_came_back(takings in proptest::collection::vec(1u64..9_000, 1..40)) {
            let (rate, burst) = (700, 900);
            let mut bucket = Bucket::new(rate, Millis::seconds(1), burst, 0);
            let (mut now, mut taken) = (0, 0);
            for tokens in takings {
                now += bucket.wait(now).unwrap().0;
                // All before this one is covered.
                prop_assert!(taken <= burst + now * rate / 1_000);
                bucket.take(tokens);
                taken += tokens;
            }
        }
    }
}
