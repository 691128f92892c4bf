//! Recovery.
mod error;
mod types;

pub use error::RecoveryError;
pub use types::{RecoveryHost, RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryStatus};
