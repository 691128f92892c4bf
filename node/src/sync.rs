//! Locks whose holders cannot leave them half changed.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, also after a thread has panicked while it held it: what these locks guard is whole at
/// every moment, so a panic elsewhere is no reason to refuse.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
