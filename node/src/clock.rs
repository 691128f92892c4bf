//! The wall clock, and the machine's counter of elapsed time: the one place of the node that reads them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use samara_protocol::units::ChainTime;

/// Tells the time: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> ChainTime + Send + Sync>;

/// This machine's time. One before 1970 counts as 1970.
#[must_use]
pub fn now() -> ChainTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ChainTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// This machine's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(now)
}

/// Counts elapsed time from any moment on. Nobody can set it, and it never goes back.
pub type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// This machine's counter. It counts while the machine sleeps, where the system has such a one.
#[must_use]
pub fn elapsed() -> Elapsed {
    #[cfg(target_os = "linux")]
    const COUNTER: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const COUNTER: ClockId = ClockId::Monotonic;
    Arc::new(|| Duration::try_from(clock_gettime(COUNTER)).unwrap_or_default())
}
