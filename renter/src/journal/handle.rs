//! The journal as everybody else sees it.

use std::sync::{Arc, PoisonError, RwLock};

use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::{Change, Entry, HostIndex, JournalState};
use samara_protocol::keys::KeyTree;
use samara_protocol::units::Epoch;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::JournalError;
use super::local::{self, LocalBase, Meta, Mode};
use super::owner::Owner;
use crate::contract::ContractBook;
use crate::slabs::Slabs;
use crate::world::{TaskHandle, World};

/// Messages that may wait for the owner. Callers wait for replies, so there are about as many as callers.
const QUEUE: usize = 256;

/// Limits of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of acknowledged entries in the heads above which they move into a slab.
    pub spill: usize,
    /// Most bytes of one append.
    pub append: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { spill: 512 << 10, append: 384 << 10 }
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
    /// All live contracts' hosts, with what each holds.
    pub hosts: Vec<HeadHost>,
    /// Hosts that hold everything acknowledged.
    pub settled: usize,
    /// Parts of the journal that were moved into slabs.
    pub segments: usize,
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

/// A journal that recovery has brought back.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    pub(crate) mode: Mode,
    pub(crate) epoch: Epoch,
    pub(crate) account: u64,
    /// That of the head that is adopted.
    pub(crate) origin: Option<samara_protocol::contract::ContractId>,
    pub(crate) head_set: samara_protocol::journal::quorum::HeadSet,
    pub(crate) segments: Vec<samara_protocol::journal::head::Segment>,
    /// The journal's point after all segments.
    pub(crate) base_point: JournalPoint,
    /// All entries from position 0.
    pub(crate) entries: Vec<Entry>,
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
    /// Contracts have changed.
    Refresh,
    Start {
        epoch: Epoch,
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
    pub(super) status: watch::Sender<JournalStatus>,
}

/// The journal. A cheap clone; when the last is dropped, the owner ends.
#[derive(Clone)]
pub struct Journal {
    sender: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    world: World,
    _task: Arc<dyn TaskHandle>,
}

impl Journal {
    /// Reads the local journal and starts its owner. What may be at hosts unacknowledged is completed.
    ///
    /// # Errors
    /// [`JournalError::Store`] and [`JournalError::Damaged`].
    pub(crate) async fn open(
        world: World,
        keys: Arc<KeyTree>,
        book: ContractBook,
        slabs: Slabs,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let loaded = local::load(world.store.as_ref()).await?;
        book.writer().claim(loaded.meta.epoch);
        if let Some(by) = loaded.meta.fenced {
            book.writer().fence(by);
        }
        let shared = Arc::new(Shared {
            published: RwLock::default(),
            status: watch::Sender::new(JournalStatus::default()),
        });
        let (sender, inbox) = mpsc::channel(QUEUE);
        let owner = Owner::new(world.clone(), keys, book, slabs, options, loaded, shared.clone());
        let task = world.spawner.spawn("journal", Box::pin(owner.run(inbox)));
        Ok(Self { sender, shared, world, _task: task.into() })
    }

    /// Makes changes, and returns when a write quorum of the head set holds them. Event numbers and
    /// host numbers are given by the journal; what the changes carry there is replaced.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn append(&self, changes: Vec<Change>) -> Result<JournalPoint, JournalError> {
        self.ask(|reply| Message::Append { changes, reply }).await?
    }

    /// Waits until everything made so far is acknowledged.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn confirm(&self) -> Result<JournalPoint, JournalError> {
        self.ask(|reply| Message::Confirm { reply }).await?
    }

    /// Writes the head to every live contract; returns as soon as `needed` hosts hold `position`, or
    /// when every host was tried.
    ///
    /// # Errors
    /// [`JournalError::Stopped`].
    pub async fn settle(&self, position: u64, needed: usize) -> Result<SettleReport, JournalError> {
        self.ask(|reply| Message::Settle { position, needed, reply }).await
    }

    /// Tells the owner that contracts have come or gone.
    pub async fn refresh(&self) {
        // A full queue means that the owner will look at the contracts soon anyway.
        let _ = self.sender.send(Message::Refresh).await;
    }

    pub(crate) async fn start(&self, epoch: Epoch) -> Result<(), JournalError> {
        self.ask(|reply| Message::Start { epoch, reply }).await?
    }

    pub(crate) async fn adopt(&self, adopted: Adopted) -> Result<(), JournalError> {
        let adopted = Box::new(adopted);
        self.ask(|reply| Message::Adopt { adopted, reply }).await?
    }

    pub(crate) async fn stop(&self) {
        // An error means that the owner has ended already.
        let _ = self.ask(|reply| Message::Stop { reply }).await;
    }

    /// Looks at what is acknowledged. The closure must be short: the owner waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&JournalState) -> T) -> T {
        look(&self.shared.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What existed at an earlier position; nothing if the local journal does not reach it.
    ///
    /// # Errors
    /// [`JournalError::Store`] and [`JournalError::Damaged`].
    pub async fn replay(&self, to: u64) -> Result<Option<JournalState>, JournalError> {
        local::replay(self.world.store.as_ref(), to).await
    }

    /// What the owner tells about itself.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        self.shared.status.borrow().clone()
    }

    /// Changes of the status.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<JournalStatus> {
        self.shared.status.subscribe()
    }

    /// Fails unless this node may write.
    ///
    /// # Errors
    /// [`JournalError::NotStarted`], [`JournalError::ReadOnly`], [`JournalError::Fenced`].
    pub fn check_writable(&self) -> Result<(), JournalError> {
        let status = self.shared.status.borrow();
        may_write(status.mode, status.fenced)
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(message(reply)).await.map_err(|_| JournalError::Stopped)?;
        answer.await.map_err(|_| JournalError::Stopped)
    }
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
            acknowledged: self.entries.len() as u64,
        }
    }

    pub(super) fn base(&self, number: u64) -> LocalBase {
        LocalBase {
            origin: self.origin,
            number,
            head_set: self.head_set.clone(),
            segments: self.segments.clone(),
            point: self.base_point,
        }
    }
}
