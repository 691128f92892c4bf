//! Wrong passwords: how long the next try has to wait.

use std::collections::BTreeMap;
use std::time::Duration;

/// Tries that cost no time: people mistype.
const FREE: u32 = 5;
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After this long, tries are forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Addresses remembered at a time; the one tried least lately goes first.
const MOST: usize = 4096;

/// Tries that were not right, by e-mail address, whether or not a user has it: the answer must not tell.
#[derive(Default)]
pub(super) struct Tries(BTreeMap<[u8; 32], Wrong>);

struct Wrong {
    count: u32,
    last: Duration,
}

impl Tries {
    /// Begins a try, which counts as wrong until it was [right](Self::right): tries side by side count, too.
    ///
    /// # Errors
    /// How long to wait before the next.
    pub(super) fn begin(&mut self, who: &str, now: Duration) -> Result<(), Duration> {
        let key = Self::key(who);
        let before = self.0.get(&key).filter(|wrong| now.saturating_sub(wrong.last) < FORGET);
        let count = before.map_or(0, |wrong| wrong.count);
        if let Some(wrong) = before {
            let left = (wrong.last + wait(count)).saturating_sub(now);
            if !left.is_zero() {
                return Err(left);
            }
        }
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, wrong)| wrong.last).map(|(key, _)| *key);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(key, Wrong { count: count.saturating_add(1), last: now });
        Ok(())
    }

    /// The password was right.
    pub(super) fn right(&mut self, who: &str) {
        self.0.remove(&Self::key(who));
    }

    /// An address may be long: so each takes the same room.
    fn key(who: &str) -> [u8; 32] {
        *blake3::hash(who.as_bytes()).as_bytes()
    }
}

/// How long to wait after so many tries: nothing at first, then one second, twice that with each further one.
fn wait(count: u32) -> Duration {
    match count.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1 << beyond.min(6)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn after_five_tries_each_waits_twice_as_long() {
        let mut tries = Tries::default();
        let mut now = seconds(100);
        for _ in 0..FREE {
            tries.begin("a", now).unwrap();
        }
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(tries.begin("a", now), Err(seconds(expected)));
            assert!(tries.begin("b", now).is_ok(), "others do not wait");
            tries.right("b");
            now += seconds(expected);
            tries.begin("a", now).unwrap();
        }
        tries.right("a");
        assert!(tries.begin("a", now).is_ok());
    }

    #[test]
    fn tries_are_forgotten_and_take_bounded_room() {
        let mut tries = Tries::default();
        for _ in 0..FREE {
            tries.begin("a", seconds(0)).unwrap();
        }
        assert!(tries.begin("a", seconds(0)).is_err());
        for _ in 0..FREE {
            tries.begin("a", FORGET).unwrap();
        }
        for number in 0..MOST * 2 {
            tries.begin(&number.to_string(), FORGET).unwrap();
        }
        assert_eq!(tries.0.len(), MOST);
    }
}
