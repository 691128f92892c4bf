//! The wall clock: the one place of the node that reads it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
