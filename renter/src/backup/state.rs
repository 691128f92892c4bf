//! How far a backup is, as one state machine.
//!
//! ```text
//!            Start              Complete
//!   Queued ────────► Running ────────────► Completed
//!     │                │  ▲                    │
//!     │ Fail           │  │ Start              │ Fail (its metadata is lost at the hosts)
//!     └───────► Failed ◄──┘ ◄──────────────────┘
//! ```
//!
//! A backup that failed is tried again by itself if its journal entry is acknowledged: hosts may hold it
//! later. All others stay failed, with the reason, until somebody deletes them. Cancelled and interrupted
//! are reasons, not states.

use serde::{Deserialize, Serialize};

/// Where a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupState {
    /// It waits for its turn.
    Queued,
    /// It is being made.
    Running,
    /// It is whole, and where it should be.
    Completed,
    /// It is not, and the reason is noted.
    Failed,
}

/// What happens to a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStep {
    /// Its turn has come, or it is tried again.
    Start,
    /// All of it is done.
    Complete,
    /// It failed, was cancelled, was interrupted by a restart, or was lost.
    Fail,
}

/// A step that a backup cannot take from where it is: a defect of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backup that is {state:?} cannot {step:?}")]
pub struct IllegalStep {
    state: BackupState,
    step: BackupStep,
}

impl BackupState {
    /// Where a step leads.
    ///
    /// # Errors
    /// [`IllegalStep`].
    pub const fn after(self, step: BackupStep) -> Result<Self, IllegalStep> {
        match (self, step) {
            (Self::Queued | Self::Failed, BackupStep::Start) => Ok(Self::Running),
            (Self::Running, BackupStep::Complete) => Ok(Self::Completed),
            (Self::Queued | Self::Running | Self::Completed, BackupStep::Fail) => Ok(Self::Failed),
            (state, step) => Err(IllegalStep { state, step }),
        }
    }

    /// Whether it is on its way.
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
        use BackupState::{Completed, Failed, Queued, Running};
        use BackupStep::{Complete, Fail, Start};
        let mut legal = Vec::new();
        for state in [Queued, Running, Completed, Failed] {
            for step in [Start, Complete, Fail] {
                legal.extend(state.after(step).ok().map(|after| (state, step, after)));
            }
        }
        assert_eq!(
            legal,
            [
                (Queued, Start, Running),
                (Queued, Fail, Failed),
                (Running, Complete, Completed),
                (Running, Fail, Failed),
                (Completed, Fail, Failed),
                (Failed, Start, Running),
            ]
        );
    }
}
