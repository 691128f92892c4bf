//! What the owner of the journal is asked for, and what it tells.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, RwLock};

use samara_protocol::contract::ContractId;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Segment;
use samara_protocol::journal::quorum::HeadSet;
use samara_protocol::journal::{
    BackupId, Change, CheckpointName, Entry, HostIndex, JournalState, SlabRecord,
};
use samara_protocol::tree::Limits;
use samara_protocol::units::Epoch;
use tokio::sync::{oneshot, watch};

use super::error::JournalError;
use super::local::{LocalBase, Meta, Mode};
use crate::contract::Budget;

/// Limits of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of acknowledged entries in the heads above which they move into a slab.
    pub spill: usize,
    /// Most bytes of one append.
    pub append: usize,
    /// Acknowledged entries since the last checkpoint above which the next is written.
    pub checkpoint_entries: u64,
    /// Their bytes, likewise.
    pub checkpoint_bytes: u64,
    /// Sizes of the nodes of checkpoint trees.
    pub nodes: Limits,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            spill: 512 << 10,
            append: 384 << 10,
            checkpoint_entries: 50_000,
            checkpoint_bytes: 16 << 20,
            nodes: Limits::STORED,
        }
    }
}

/// What the owner tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStatus {
    /// What this node may do.
    pub mode: Mode,
    /// Its epoch.
    pub epoch: Epoch,
    /// Index of the account of that epoch.
    pub account: u64,
    /// Epoch of the node that took over, if one did.
    pub fenced: Option<Epoch>,
    /// Entries acknowledged.
    pub acknowledged: u64,
    /// Entries made.
    pub position: u64,
    /// The head set, with what each holds and its problem.
    pub head_set: Vec<HeadHost>,
    /// The hosts of all contracts that live, with what each holds; nothing of those that have not answered
    /// since a recovery.
    pub hosts: Vec<HeadHost>,
    /// Hosts that hold everything acknowledged.
    pub settled: usize,
    /// Position of the checkpoint, if there is one: older entries need not be replayed.
    pub checkpoint: Option<u64>,
    /// Parts of the journal behind it that were moved into slabs.
    pub segments: usize,
    /// Bytes of acknowledged entries that no checkpoint has taken in.
    pub uncut: u64,
    /// Why the last change was not acknowledged.
    pub problem: Option<String>,
}

/// A host and the head it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadHost {
    /// Its number.
    pub index: HostIndex,
    /// Journal position that it holds, if known.
    pub position: Option<u64>,
    /// Why it was left behind.
    pub problem: Option<String>,
}

/// How far a position is on all live contracts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleReport {
    /// Hosts that hold it.
    pub hosts_ok: usize,
    /// Hosts with live contracts.
    pub hosts_total: usize,
    /// What failed, host by host.
    pub failures: Vec<String>,
}

/// What the owner knows and no state shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// The slabs that hold the journal's older entries.
    pub(crate) segments: Vec<SlabRecord>,
    /// Whether everything that was handed in before is made, if not acknowledged, or refused, and neither
    /// entries nor a checkpoint are on their way into slabs.
    pub(crate) quiet: bool,
}

/// A journal that recovery has brought back.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    pub(crate) mode: Mode,
    pub(crate) epoch: Epoch,
    pub(crate) account: u64,
    /// That of the head that is adopted.
    pub(crate) origin: Option<ContractId>,
    pub(crate) head_set: HeadSet,
    pub(crate) checkpoint: Option<CheckpointName>,
    pub(crate) segments: Vec<Segment>,
    /// The journal's point after the checkpoint and all segments.
    pub(crate) base_point: JournalPoint,
    /// What the checkpoint stands for; nothing without one.
    pub(crate) state: JournalState,
    /// All entries after that.
    pub(crate) entries: Vec<Entry>,
}

impl Adopted {
    /// A journal that begins.
    pub(crate) fn nothing(epoch: Epoch, account: u64) -> Self {
        Self {
            mode: Mode::Active,
            epoch,
            account,
            origin: None,
            head_set: HeadSet::default(),
            checkpoint: None,
            segments: Vec::new(),
            base_point: JournalPoint::default(),
            state: JournalState::default(),
            entries: Vec::new(),
        }
    }
}

pub(super) enum Message {
    Append {
        changes: Vec<Change>,
        reply: oneshot::Sender<Result<JournalPoint, JournalError>>,
    },
    /// Waits until everything made so far is acknowledged under the present base.
    Confirm {
        reply: oneshot::Sender<Result<JournalPoint, JournalError>>,
    },
    Settle {
        position: u64,
        needed: usize,
        reply: oneshot::Sender<SettleReport>,
    },
    /// Slabs of older parts of the journal lie on other hosts now.
    MoveSegments {
        records: Vec<SlabRecord>,
        reply: oneshot::Sender<Result<JournalPoint, JournalError>>,
    },
    /// Slabs of the checkpoint or of older parts of the journal are lost: everything that is known here is
    /// written anew.
    Renew,
    /// What is named by the head alone.
    Named {
        reply: oneshot::Sender<Named>,
    },
    /// Contracts have changed.
    Refresh,
    Start {
        epoch: Epoch,
        /// Index of the wallet account that pays.
        account: u64,
        reply: oneshot::Sender<Result<(), JournalError>>,
    },
    Adopt {
        adopted: Box<Adopted>,
        reply: oneshot::Sender<Result<(), JournalError>>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// What readers share with the owner, which alone writes it.
pub(super) struct Shared {
    /// The fold of everything acknowledged. The lock is never held across an await.
    pub(super) published: RwLock<JournalState>,
    /// The slabs of the older parts of the journal, in order.
    pub(super) segments: RwLock<Arc<Vec<SlabRecord>>>,
    pub(super) status: watch::Sender<JournalStatus>,
    /// What the checkpoints of backups have cost that this process has written, the newest ones.
    pub(super) costs: Mutex<VecDeque<(BackupId, CheckpointCost)>>,
}

/// What a checkpoint has cost.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointCost {
    /// Paid to hosts so far.
    pub(crate) paid: Budget,
    /// Bytes that they store for it.
    pub(crate) bytes: u64,
}

/// Whether a node may write.
pub(super) fn may_write(mode: Mode, fenced: Option<Epoch>) -> Result<(), JournalError> {
    match (mode, fenced) {
        (_, Some(by)) => Err(JournalError::Fenced { by }),
        (Mode::Fresh, None) => Err(JournalError::NotStarted),
        (Mode::ReadOnly, None) => Err(JournalError::ReadOnly),
        (Mode::Active, None) => Ok(()),
    }
}

impl Adopted {
    pub(super) fn meta(&self) -> Meta {
        Meta {
            version: Meta::VERSION,
            mode: self.mode,
            epoch: self.epoch,
            account: self.account,
            fenced: None,
            acknowledged: self.state.point.position.saturating_add(self.entries.len() as u64),
        }
    }

    pub(super) fn base(&self, number: u64) -> LocalBase {
        LocalBase {
            origin: self.origin,
            number,
            head_set: self.head_set.clone(),
            checkpoint: self.checkpoint.clone(),
            segments: self.segments.clone(),
            point: self.base_point,
        }
    }
}
