//! How the host locks what its threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere never leaves a value half written here, so a poisoned lock is as good as new:
/// each change is made after its durable write, in steps that cannot panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
