//! Group commit: callers that wait for the same kind of durable step share one.
//!
//! The first caller becomes the leader and carries out what has queued up; callers that arrive
//! meanwhile queue for the next round. Each caller returns when the round with its item is over.

use crate::sync::lock;
use std::collections::BTreeMap;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue whose items are carried out in rounds.
#[derive(Debug)]
pub(crate) struct Group<T, E> {
    state: Mutex<State<T, E>>,
    over: Condvar,
}

#[derive(Debug)]
struct State<T, E> {
    waiting: Vec<T>,
    /// Number of the round that collects now.
    round: u64,
    /// Whether a leader is at work.
    busy: bool,
    /// Rounds that are over, with the number of callers that have not yet looked.
    done: BTreeMap<u64, (Result<(), E>, usize)>,
}

impl<T, E: Clone> Group<T, E> {
    pub(crate) fn new() -> Self {
        let state = State { waiting: Vec::new(), round: 0, busy: false, done: BTreeMap::new() };
        Self { state: Mutex::new(state), over: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        lock(&self.state)
    }

    /// Adds an item and returns when the round that held it is over, with the round's result. `carry_out`
    /// is called by one of the callers, for all items of a round; it must not panic.
    pub(crate) fn join(
        &self,
        item: T,
        carry_out: impl FnOnce(Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        state.waiting.push(item);
        let round = state.round;
        while state.busy {
            state = self.over.wait(state).unwrap_or_else(PoisonError::into_inner);
            if let Some(result) = Self::look(&mut state, round) {
                return result;
            }
        }
        // Nobody is at work and this round is not over: lead it.
        state.busy = true;
        state.round += 1;
        let items = mem::take(&mut state.waiting);
        let others = items.len() - 1;
        drop(state);
        let result = carry_out(items);
        let mut state = self.lock();
        state.busy = false;
        if others > 0 {
            state.done.insert(round, (result.clone(), others));
        }
        drop(state);
        self.over.notify_all();
        result
    }

    fn look(state: &mut State<T, E>, round: u64) -> Option<Result<(), E>> {
        let (result, left) = state.done.get_mut(&round)?;
        *left -= 1;
        let (result, left) = (result.clone(), *left);
        if left == 0 {
            state.done.remove(&round);
        }
        Some(result)
    }
}
