//! Logs of the daemon, to standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::exit::Exit;
use super::failure::Failure;

/// What is logged when nobody says: warnings, and what Samara itself has to say.
const DEFAULT: &str = "warn,samara=info";

/// A chain of one validator: the engine reports an error for each message, as nobody listens.
const SOLO: &str = "arc_malachitebft_network=off";

/// Starts logging for the rest of the process.
///
/// # Errors
/// A usage failure for a filter that is none.
pub fn start(filter: Option<&str>, json: bool, solo_validator: bool) -> Result<(), Failure> {
    let filter = filter.unwrap_or(DEFAULT);
    let mut filter: EnvFilter = filter.parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("--log '{filter}' is no filter: {error}"))
    })?;
    if solo_validator {
        filter = filter.add_directive(SOLO.parse().expect("invariant: the directive is constant"));
    }
    // A closed standard error is no reason to end: complaints about it would go there, and panic.
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_env_filter(filter);
    let started = if json {
        builder.json().finish().try_init()
    } else {
        builder.with_ansi(false).finish().try_init()
    };
    started.map_err(|error| Failure::of(Exit::Failure, &error))
}
