//! Group commit: callers that wait for the same kind of durable step share one.
//!
//! The first caller becomes the leader and carries out what has queued up; callers that arrive
//! meanwhile queue for the next round. Each caller returns when the round with its item is over.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard};

use samara_protocol::sync::{lock, wait};

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

/// One round under way. Dropped when it is over, also by a panic: the callers are told and the next
/// round can begin.
struct Lead<'a, T, E: Clone> {
    group: &'a Group<T, E>,
    round: u64,
    others: usize,
    result: Result<(), E>,
}

impl<T, E: Clone> Drop for Lead<'_, T, E> {
    fn drop(&mut self) {
        let mut state = self.group.lock();
        state.busy = false;
        if self.others > 0 {
            state.done.insert(self.round, (self.result.clone(), self.others));
        }
        drop(state);
        self.group.over.notify_all();
    }
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
    /// is called by one of the callers, for all items of a round. If it panics, the panic goes on in that
    /// caller, and the others of its round get `broken`.
    pub(crate) fn join(
        &self,
        item: T,
        broken: E,
        carry_out: impl FnOnce(Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        state.waiting.push(item);
        let round = state.round;
        while state.busy {
            state = wait(&self.over, state);
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
        let mut lead = Lead { group: self, round, others, result: Err(broken) };
        lead.result = carry_out(items);
        lead.result.clone()
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::Group;

    #[test]
    fn a_panic_fails_its_round_and_the_next_one_goes_on() {
        let group = Arc::new(Group::<u8, &str>::new());
        let (started, begun) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let first = thread::spawn({
            let group = Arc::clone(&group);
            move || {
                group.join(1, "broken", |_| {
                    started.send(()).unwrap();
                    held.recv().unwrap();
                    Ok(())
                })
            }
        });
        begun.recv().unwrap();
        // These two share the next round; whichever leads it panics.
        let others: Vec<_> = (2..4)
            .map(|item| {
                let group = Arc::clone(&group);
                thread::spawn(move || {
                    catch_unwind(AssertUnwindSafe(|| {
                        group.join(item, "broken", |_| panic!("a disk driver"))
                    }))
                })
            })
            .collect();
        while group.lock().waiting.len() < 2 {
            thread::yield_now();
        }
        release.send(()).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        let outcomes: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
        assert!(outcomes.iter().flatten().all(|result| *result == Err("broken")));
        assert_eq!(
            group.join(4, "broken", |items| {
                assert_eq!(items, [4]);
                Ok(())
            }),
            Ok(())
        );
    }
}
