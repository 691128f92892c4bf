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
}

impl Bucket {
    /// A bucket that starts with `burst` tokens and holds no more.
    pub(crate) fn new(rate: u64, span: Millis, burst: u64, now: u64) -> Self {
        let span = span.0.max(1);
        let most = i128::from(burst) * i128::from(span);
        Self { rate, span, level: most, most, filled: now }
    }

    /// Time until tokens can be taken; nothing if none ever come.
    pub(crate) fn wait(&mut self, now: u64) -> Option<Millis> {
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let back = i128::from(passed) * i128::from(self.rate);
        self.level = self.level.saturating_add(back).min(self.most);
        if self.rate == 0 {
            return None;
        }
        let lacking = u64::try_from((-self.level).max(0)).unwrap_or(u64::MAX);
        Some(Millis(lacking.div_ceil(self.rate)))
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
