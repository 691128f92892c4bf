//! How far a restore is, as one state machine.
//!
//! ```text
//!              Approve            Start             Complete
//!   Waiting ────────────► Queued ────────► Running ────────────► Completed
//!      │                    │  ▲              │
//!      │ Reject             │  │ Resume       │ Fail
//!      ▼                    │ Fail            │
//!   Rejected                └────► Failed ◄───┘
//! ```
//!
//! Cancelled and interrupted are reasons of a failure. Of an archive that failed nothing remains, of a network
//! backup what was written whole stays; either may be tried again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreState {
    /// Somebody has asked for it who may not decide.
    Waiting,
    /// It waits for its turn.
    Queued,
    /// It is under way.
    Running,
    /// All is back.
    Completed,
    /// Of an archive nothing remains but the log; of a network backup what was written whole stays.
    Failed,
    /// Somebody who may decide has said no.
    Rejected,
}

/// What happens to a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreStep {
    /// It may go on.
    Approve,
    /// It may not.
    Reject,
    /// Its turn has come.
    Start,
    /// All is back.
    Complete,
    /// It failed, was cancelled, or was interrupted.
    Fail,
    /// It is tried again.
    Resume,
}

impl RestoreState {
    /// Where a step leads; nothing if it cannot be taken from here.
    #[must_use]
    pub const fn after(self, step: RestoreStep) -> Option<Self> {
        match (self, step) {
            (Self::Waiting, RestoreStep::Approve) | (Self::Failed, RestoreStep::Resume) => {
                Some(Self::Queued)
            }
            (Self::Waiting, RestoreStep::Reject) => Some(Self::Rejected),
            (Self::Queued, RestoreStep::Start) => Some(Self::Running),
            (Self::Running, RestoreStep::Complete) => Some(Self::Completed),
            (Self::Queued | Self::Running, RestoreStep::Fail) => Some(Self::Failed),
            _ => None,
        }
    }

    /// Whether somebody works on it, or is going to.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_steps_of_the_diagram_are_legal() {
        use RestoreState::{Completed, Failed, Queued, Rejected, Running, Waiting};
        use RestoreStep::{Approve, Complete, Fail, Reject, Resume, Start};
        let mut legal = Vec::new();
        for state in [Waiting, Queued, Running, Completed, Failed, Rejected] {
            for step in [Approve, Reject, Start, Complete, Fail, Resume] {
                legal.extend(state.after(step).map(|after| (state, step, after)));
            }
        }
        assert_eq!(
            legal,
            [
                (Waiting, Approve, Queued),
                (Waiting, Reject, Rejected),
                (Queued, Start, Running),
                (Queued, Fail, Failed),
                (Running, Complete, Completed),
                (Running, Fail, Failed),
                (Failed, Resume, Queued),
            ]
        );
    }
}
