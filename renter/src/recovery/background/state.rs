//! How far a scan is, as one state machine.
//!
//! ```text
//!          Start               Ask              Read               Find
//!   Idle ────────► Scanning ────────► Asking ────────► Reading ─────────► Found
//!                   │  │  ▲             │ │              │                  │
//!              Miss │  │  │ Resume      │ └── Find ──────┼─► Found          │ Start
//!                   │  │  └─────────────┴────────────────┘                  ▼
//!                   │  └── Find ─────────► Found                         Scanning
//!                   ▼
//!             NothingFound ──Start──► Scanning
//!
//!   Scanning, Asking, Reading ──Stop──► Stopped ──Start──► Scanning
//!   Scanning, Asking, Reading ──Fail──► Failed  ──Start──► Scanning
//! ```
//!
//! A scan that a restart of the node has cut resumes by itself: it goes on with the chain, which has grown
//! meanwhile. *Found* is reached from *Scanning* on a node that writes, which has the list itself, and from
//! *Asking* where nothing was ever written under the contracts.
//!
//! This is beside the steps of a recovery, and not one of them: a node that has recovered, or that writes,
//! is scanned without leaving where it is. What both walk, the chain, is stored once for both.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryScanState {
    /// None was started.
    #[default]
    Idle,
    /// The chain is read for the words' contracts.
    Scanning,
    /// The hosts of those that live are asked for their heads.
    Asking,
    /// What the newest head leads to is read.
    Reading,
    /// It has ended, and contracts live.
    Found,
    /// It has ended, and nothing lives.
    NothingFound,
    /// Somebody has stopped it.
    Stopped,
    /// It could not go on, and the reason is noted.
    #[serde(rename = "error")]
    Failed,
}

/// What happens to a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryScanStep {
    /// Somebody starts it.
    Start,
    /// The node was started again.
    Resume,
    /// The chain was read to its tip, and contracts live.
    Ask,
    /// Hosts have shown heads.
    Read,
    /// All that can be known is.
    Find,
    /// The chain was read to its tip, and nothing lives.
    Miss,
    /// Somebody stops it.
    Stop,
    /// It failed.
    Fail,
}

impl RecoveryScanState {
    /// Where a step leads; nothing if it cannot be taken from here.
    #[must_use]
    pub const fn after(self, step: RecoveryScanStep) -> Option<Self> {
        use RecoveryScanStep::{Ask, Fail, Find, Miss, Read, Resume, Start, Stop};
        match (self, step) {
            (
                Self::Idle | Self::Found | Self::NothingFound | Self::Stopped | Self::Failed,
                Start,
            )
            | (Self::Scanning | Self::Asking | Self::Reading, Resume) => Some(Self::Scanning),
            (Self::Scanning, Ask) => Some(Self::Asking),
            (Self::Asking, Read) => Some(Self::Reading),
            (Self::Scanning | Self::Asking | Self::Reading, Find) => Some(Self::Found),
            (Self::Scanning, Miss) => Some(Self::NothingFound),
            (Self::Scanning | Self::Asking | Self::Reading, Stop) => Some(Self::Stopped),
            (Self::Scanning | Self::Asking | Self::Reading, Fail) => Some(Self::Failed),
            _ => None,
        }
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Scanning | Self::Asking | Self::Reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_steps_of_the_diagram_are_legal() {
        use RecoveryScanState::{
            Asking, Failed, Found, Idle, NothingFound, Reading, Scanning, Stopped,
        };
        use RecoveryScanStep::{Ask, Fail, Find, Miss, Read, Resume, Start, Stop};
        let mut legal = Vec::new();
        for state in [Idle, Scanning, Asking, Reading, Found, NothingFound, Stopped, Failed] {
            for step in [Start, Resume, Ask, Read, Find, Miss, Stop, Fail] {
                legal.extend(state.after(step).map(|after| (state, step, after)));
            }
        }
        assert_eq!(
            legal,
            [
                (Idle, Start, Scanning),
                (Scanning, Resume, Scanning),
                (Scanning, Ask, Asking),
                (Scanning, Find, Found),
                (Scanning, Miss, NothingFound),
                (Scanning, Stop, Stopped),
                (Scanning, Fail, Failed),
                (Asking, Resume, Scanning),
                (Asking, Read, Reading),
                (Asking, Find, Found),
                (Asking, Stop, Stopped),
                (Asking, Fail, Failed),
                (Reading, Resume, Scanning),
                (Reading, Find, Found),
                (Reading, Stop, Stopped),
                (Reading, Fail, Failed),
                (Found, Start, Scanning),
                (NothingFound, Start, Scanning),
                (Stopped, Start, Scanning),
                (Failed, Start, Scanning),
            ]
        );
    }
}
