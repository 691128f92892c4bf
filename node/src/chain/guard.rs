//! The clock of a validator that decides alone.
//!
//! Where several validators decide, each judges the others' times by its own clock. Where one key has more
//! than two thirds of the power, nobody does: one wrong reading would move the chain's time for good, and
//! contracts end by it. So such a validator believes its clock only as far as the machine's counter of
//! elapsed time explains it. What the counter does not explain is a *lead*: blocks go on in steady time,
//! which is that of the last belief and what has elapsed since. A lead ends
//!
//! - when the clock is back within [`TOLERANCE`],
//! - when it is at most [`BELIEVED_LEAD`] and the clock has run evenly with it for [`PROBATION`],
//! - or when the operator says that the clock is right.
//!
//! At the start there is no last belief. A clock at most [`NEAR`] past the newest block is believed at once;
//! any other is a lead over that block, because a node that was away and a clock that is wrong look alike.
//!
//! Invariant: what blocks add to the chain's time is never taken for a belief, or each block could add
//! another [`TOLERANCE`].

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use samara_protocol::signature::PublicKey;
use samara_protocol::units::{ChainTime, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Elapsed;
use samara_protocol::sync::lock;

/// A lead that is none: clocks are adjusted by so much while they run.
pub const TOLERANCE: Millis = Millis(10_000);
/// How far past the newest block a clock may be at the start.
pub const NEAR: Millis = Millis::hours(1);
/// How long a clock must run evenly before its lead is believed.
pub const PROBATION: Duration = Duration::from_secs(300);
/// Largest lead that is believed without the operator's word.
pub const BELIEVED_LEAD: Millis = Millis::hours(7 * 24);
/// How often a lead is logged while it lasts.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// How far the clock is ahead of what is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockLead {
    /// Milliseconds.
    pub ahead: u64,
    /// Milliseconds until it is believed if the clock runs evenly; nothing if the operator must say so.
    pub believed_in: Option<u64>,
}

/// The guard of one validator's clock.
pub(super) struct ClockGuard {
    pub(super) voter: PublicKey,
    elapsed: Elapsed,
    state: Mutex<State>,
}

struct State {
    /// Whether the key decides without others. If not, the clock is believed as it is.
    alone: bool,
    /// What the clock was last believed to say, and the counter then.
    believed: ChainTime,
    at: Duration,
    lead: Option<Lead>,
}

#[derive(Clone, Copy)]
struct Lead {
    /// The counter when it was first seen.
    since: Duration,
    ahead: Millis,
    said: Duration,
}

impl ClockGuard {
    /// A guard that starts beside a chain whose newest block, if it has one, is of `tip`.
    pub(super) fn new(
        voter: PublicKey,
        elapsed: Elapsed,
        alone: bool,
        wall: ChainTime,
        tip: Option<ChainTime>,
    ) -> Self {
        let believed = tip.filter(|tip| alone && wall.since(*tip) > NEAR).unwrap_or(wall);
        let state = State { alone, believed, at: elapsed(), lead: None };
        Self { voter, elapsed, state: Mutex::new(state) }
    }

    /// The time to make and judge blocks with.
    pub(super) fn now(&self, wall: ChainTime) -> ChainTime {
        let (counter, mut state) = ((self.elapsed)(), self.lock());
        if !state.alone {
            state.believe(wall, counter);
            return wall;
        }
        let steady = state.steady(counter);
        let ahead = wall.since(steady);
        if ahead <= TOLERANCE {
            state.lead = None;
            return wall;
        }
        let even = |lead: &Lead| lead.ahead.0.abs_diff(ahead.0) <= TOLERANCE.0;
        let known = state.lead.filter(even);
        let mut lead = known.unwrap_or(Lead { since: counter, ahead, said: counter });
        if lead.believed_in(counter) == Some(Duration::ZERO) {
            tracing::warn!(seconds = ahead.0 / 1_000, "the clock ran evenly: it is believed again");
            state.believe(wall, counter);
            return wall;
        }
        if known.is_none() || counter.saturating_sub(lead.said) >= SAY_AGAIN {
            lead.said = counter;
            tracing::error!(
                seconds = ahead.0 / 1_000,
                "the clock is further ahead of the chain than the time that has passed: blocks do not \
                 follow it; if it is right, `samara validator accept-clock`"
            );
        }
        state.lead = Some(lead);
        steady
    }

    /// The lead that there is now.
    pub(super) fn lead(&self, wall: ChainTime) -> Option<ClockLead> {
        self.now(wall);
        let (counter, state) = ((self.elapsed)(), self.lock());
        state.lead.map(|lead| ClockLead {
            ahead: lead.ahead.0,
            believed_in: lead
                .believed_in(counter)
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// Takes the operator's word for a lead of about `ahead` milliseconds; `false` if there is no such.
    pub(super) fn accept(&self, wall: ChainTime, ahead: u64) -> bool {
        let Some(lead) = self.lead(wall) else { return false };
        if lead.ahead.abs_diff(ahead) > 2 * TOLERANCE.0 {
            return false;
        }
        let counter = (self.elapsed)();
        self.lock().believe(wall, counter);
        true
    }

    /// After a block of `time`. One that is later than what this clock could have made or judged was
    /// decided before, and came from a peer.
    pub(super) fn decided(&self, time: ChainTime, alone: bool) {
        let (counter, mut state) = ((self.elapsed)(), self.lock());
        state.alone = alone;
        if time.since(state.steady(counter)) > Millis(2 * TOLERANCE.0) {
            state.believe(time, counter);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn steady(&self, counter: Duration) -> ChainTime {
        let passed = counter.saturating_sub(self.at).as_millis();
        self.believed.plus(Millis(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    fn believe(&mut self, time: ChainTime, counter: Duration) {
        (self.believed, self.at, self.lead) = (time, counter, None);
    }
}

impl Lead {
    fn believed_in(&self, counter: Duration) -> Option<Duration> {
        let stood = counter.saturating_sub(self.since);
        (self.ahead <= BELIEVED_LEAD).then(|| PROBATION.saturating_sub(stood))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::consensus::testing::key;

    const YEAR: u64 = 365 * 24 * 3_600_000;
    const HOUR: u64 = 3_600_000;
    const START: u64 = 1_000_000_000_000;

    /// A machine with a counter, and a clock that may be wrong.
    struct Machine {
        counter: Arc<AtomicU64>,
        guard: ClockGuard,
        wall: u64,
    }

    impl Machine {
        fn started(alone: bool, tip: Option<u64>) -> Self {
            let counter = Arc::new(AtomicU64::new(7_777));
            let read = Arc::clone(&counter);
            let elapsed: Elapsed =
                Arc::new(move || Duration::from_millis(read.load(Ordering::SeqCst)));
            let tip = tip.map(ChainTime);
            let guard = ClockGuard::new(key(0).public(), elapsed, alone, ChainTime(START), tip);
            Self { counter, guard, wall: START }
        }

        fn pass(&mut self, millis: u64) {
            self.counter.fetch_add(millis, Ordering::SeqCst);
            self.wall += millis;
        }

        fn now(&self) -> u64 {
            self.guard.now(ChainTime(self.wall)).0
        }

        fn lead(&self) -> Option<ClockLead> {
            self.guard.lead(ChainTime(self.wall))
        }
    }

    #[test]
    fn a_wrong_clock_never_moves_time_by_more_than_has_passed() {
        let mut machine = Machine::started(true, Some(START - 1_000));
        machine.pass(60_000);
        assert_eq!(machine.now(), START + 60_000);
        machine.wall += YEAR;
        // Blocks come as fast as they can; none of them is taken for a belief.
        for step in 1..=25_000 {
            machine.pass(1);
            let now = machine.now();
            assert_eq!(now, START + 60_000 + step);
            machine.guard.decided(ChainTime(now + TOLERANCE.0), true);
        }
        assert_eq!(machine.lead(), Some(ClockLead { ahead: YEAR, believed_in: None }));
        machine.wall -= YEAR;
        assert_eq!(machine.now(), machine.wall);
        assert_eq!(machine.lead(), None);
    }

    #[test]
    fn a_large_lead_waits_for_the_operator_for_ever() {
        let mut machine = Machine::started(true, Some(START - 31 * 24 * HOUR));
        machine.pass(40 * 24 * HOUR);
        assert_eq!(machine.now(), START + 9 * 24 * HOUR);
        let lead = machine.lead().unwrap();
        assert_eq!(lead, ClockLead { ahead: 31 * 24 * HOUR, believed_in: None });
        // Not what the operator was shown.
        assert!(!machine.guard.accept(ChainTime(machine.wall), lead.ahead + HOUR));
        assert!(machine.guard.accept(ChainTime(machine.wall), lead.ahead));
        assert_eq!((machine.now(), machine.lead()), (machine.wall, None));
        assert!(!machine.guard.accept(ChainTime(machine.wall), 0));
    }

    #[test]
    fn a_small_lead_is_believed_once_the_clock_has_run_evenly() {
        let mut machine = Machine::started(true, Some(START - 8 * HOUR));
        assert_eq!(machine.now(), START - 8 * HOUR);
        machine.pass(200_000);
        assert_eq!(machine.lead().unwrap().believed_in, Some(100_000));
        // It is set again: what it said before counts for nothing.
        machine.wall -= HOUR;
        assert_eq!(machine.now(), START - 8 * HOUR + 200_000);
        machine.pass(299_999);
        assert!(machine.now() < machine.wall);
        machine.pass(1);
        assert_eq!((machine.now(), machine.lead()), (machine.wall, None));
    }

    #[test]
    fn an_hour_away_and_a_chain_without_blocks_need_no_word() {
        for tip in [None, Some(START - HOUR), Some(START + HOUR)] {
            let machine = Machine::started(true, tip);
            assert_eq!((machine.now(), machine.lead()), (START, None), "{tip:?}");
        }
    }

    #[test]
    fn where_others_decide_too_the_clock_is_believed() {
        let mut machine = Machine::started(false, Some(START - YEAR));
        machine.wall += YEAR;
        assert_eq!((machine.now(), machine.lead()), (machine.wall, None));
        // Left alone, it goes on from there.
        machine.guard.decided(ChainTime(machine.wall), true);
        machine.wall += YEAR;
        assert_eq!(machine.now(), machine.wall - YEAR);
    }

    #[test]
    fn a_block_that_was_decided_before_is_believed() {
        let mut machine = Machine::started(true, Some(START - YEAR));
        machine.guard.decided(ChainTime(START - 2 * HOUR), true);
        machine.pass(1_000);
        assert_eq!(machine.now(), START - 2 * HOUR + 1_000);
    }
}
