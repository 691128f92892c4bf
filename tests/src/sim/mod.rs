//! The seeded simulator: the renter's real code and the hosts' real rules in one thread, one seed.
//!
//! | module | what it simulates |
//! | --- | --- |
//! | [`chance`] | draws: one stream for each concern |
//! | [`chain`] | the real ledger, blocks on demand, real certificates |
//! | [`hosts`] | the real host rules over stores that lose what was not synced; `lies`: what they lie about |
//! | [`network`] | delays, losses, doubles, partitions |
//! | [`disk`] | a host's disk, and rules that hosts break to show that the simulator notices |
//! | [`machine`] | a renter's machine: store, clock, tasks, and its death at any await |
//! | [`files`] | the user's files |
//! | [`model`] | what must be true, from what was acknowledged |
//! | `setting` | what one run is like: hosts, operators, kinds of faults; `trouble`: when they strike |
//! | `witness` | what hosts were ever sent: no key and nonce for two plaintexts |
//! | [`mod@run`] | the schedule of one seed, and its checks; `takeover` the machines that come and go, `copies` a disk that is put back, `losses` hosts that are lost |
//! | [`operations`] | what the renter is asked to do |
//! | [`trace`] | what happened, hashed |
//!
//! Time is tokio's paused clock, tasks run on one thread, and every draw comes from the seed: the same
//! seed gives the same trace. Invariants that are checked: I1 (acknowledged is recoverable from the
//! words), I6 (what failed or was cut is whole or not there), I8 (a node that was taken over writes no
//! more; no key and nonce serve two plaintexts), that a head set counts an operator once, that nothing
//! panics or hangs, and that in the end the hosts hold nothing that nobody needs.

pub mod chain;
pub mod chance;
mod copies;
pub mod disk;
pub mod files;
pub mod hosts;
mod lies;
mod losses;
pub mod machine;
pub mod model;
pub mod network;
pub mod operations;
pub mod run;
mod setting;
mod takeover;
pub mod trace;
mod trouble;
mod witness;

pub use disk::Sabotage;
pub use run::{Options, Outcome, run};

/// The text of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
