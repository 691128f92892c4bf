//! The journal as everybody else sees it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, RwLock};

use samara_protocol::hash::SlabId;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Head;
use samara_protocol::journal::{
    Backup, BackupId, Change, CheckpointName, Content, Entry, JournalState, Made, SlabRecord,
    UserId,
};
use samara_protocol::keys::KeyTree;
use samara_protocol::sync::{lock, read};
use samara_protocol::units::Epoch;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::JournalError;
use super::local;
use super::message::{
    Adopted, CheckpointCost, JournalOptions, JournalStatus, Message, Named, SettleReport, Shared,
    may_write,
};
use super::owner::Owner;
use crate::checkpoint::{self, Checkpoints, FileDifference, Places};
use crate::contract::ContractBook;
use crate::slabs::Slabs;
use crate::world::{TaskHandle, World};

/// Messages that may wait for the owner. Callers wait for replies, so there are about as many as callers.
const QUEUE: usize = 256;

/// The journal. A cheap clone; when the last is dropped, the owner ends.
#[derive(Clone)]
pub struct Journal {
    sender: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    world: World,
    checkpoints: Checkpoints,
    /// Who makes changes through this handle.
    by: Option<UserId>,
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
        let checkpoints =
            Checkpoints::new(world.clone(), keys.clone(), slabs.clone(), options.nodes);
        let loaded = local::load(world.store.as_ref(), &checkpoints).await?;
        book.writer().claim(loaded.meta.epoch);
        if let Some(by) = loaded.meta.fenced {
            book.writer().fence(by);
        }
        let shared = Arc::new(Shared {
            published: RwLock::default(),
            segments: RwLock::default(),
            status: watch::Sender::new(JournalStatus::default()),
            costs: Mutex::default(),
        });
        let (sender, inbox) = mpsc::channel(QUEUE);
        let shared_too = shared.clone();
        let parts = (keys, book, slabs, checkpoints.clone());
        let owner = Owner::new(world.clone(), parts, options, loaded, shared_too);
        let task = world.spawner.spawn("journal", Box::pin(owner.run(inbox)));
        Ok(Self { sender, shared, world, checkpoints, by: None, _task: task.into() })
    }

    /// The same journal, whose changes of vaults are this user's.
    #[must_use]
    pub fn acting(&self, by: Option<UserId>) -> Self {
        Self { by, ..self.clone() }
    }

    /// Makes changes, and returns when a write quorum of the head set holds them. Event numbers and
    /// host numbers are given by the journal; what the changes carry there is replaced. An event of a vault
    /// that does not say how it came about is made now, by whom this handle acts for.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn append(&self, mut changes: Vec<Change>) -> Result<JournalPoint, JournalError> {
        let now = Made { chain_time: self.world.chain.time(), by: self.by, first: None };
        for change in &mut changes {
            if let Change::Vault { made, .. } = change
                && *made == Made::default()
            {
                *made = now;
            }
        }
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

    /// Slabs of older parts of the journal have shards on other hosts now; returns when a write quorum of
    /// the head set names these. Records that are no longer of the journal are passed over.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn move_segments(
        &self,
        records: Vec<SlabRecord>,
    ) -> Result<JournalPoint, JournalError> {
        self.ask(|reply| Message::MoveSegments { records, reply }).await?
    }

    /// The slabs that hold the older parts of the journal, in order.
    #[must_use]
    pub fn segment_slabs(&self) -> Arc<Vec<SlabRecord>> {
        read(&self.shared.segments).clone()
    }

    /// The journal's own slabs, and whether the state that is read next shows everything that was handed
    /// in before.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) async fn named(&self) -> Result<Named, JournalError> {
        let named = self.ask(|reply| Message::Named { reply }).await?;
        self.confirm().await?;
        Ok(named)
    }

    /// Tells the owner that contracts have come or gone.
    pub async fn refresh(&self) {
        // A full queue means that the owner will look at the contracts soon anyway.
        let _ = self.sender.send(Message::Refresh).await;
    }

    pub(crate) async fn start(&self, epoch: Epoch, account: u64) -> Result<(), JournalError> {
        self.ask(|reply| Message::Start { epoch, account, reply }).await?
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
        look(&read(&self.shared.published))
    }

    /// What a backup holds; nothing if neither its checkpoint nor the local journal reaches its point. Of the
    /// slabs, those that are still known, where they lie now.
    ///
    /// # Errors
    /// [`JournalError::Store`], [`JournalError::Damaged`], [`JournalError::Checkpoint`].
    pub(crate) async fn at_backup(
        &self,
        backup: &Backup,
    ) -> Result<Option<JournalState>, JournalError> {
        let (store, point) = (self.world.store.as_ref(), backup.point.position);
        let mut state = match &backup.checkpoint {
            Some(name) => {
                let known = self.places(name);
                Some(self.checkpoints.backup(backup, name, &known).await?)
            }
            None => local::replay(store, &self.checkpoints, point).await?,
        };
        if let Some(state) = &mut state {
            let files = state.vaults.values().flat_map(|vault| vault.files.values());
            let contents = files.flat_map(|f| &f.versions).map(|version| &version.file.content);
            let extents = contents.flat_map(Content::extents);
            let slabs: BTreeSet<SlabId> = extents.map(|extent| extent.slab).collect();
            self.read(|now| {
                let known = slabs.iter().filter_map(|id| Some((*id, now.slabs.get(id)?.clone())));
                state.slabs = known.collect();
            });
        }
        Ok(state)
    }

    /// What the checkpoint of a backup has cost, if this process has written it lately.
    pub(crate) fn checkpoint_cost(&self, backup: &BackupId) -> Option<CheckpointCost> {
        let costs = lock(&self.shared.costs);
        costs.iter().rev().find(|(id, _)| id == backup).map(|(_, cost)| cost.clone())
    }

    /// The files that two backups do not both list with the same contents: of one vault, or of all that
    /// both are about. Nothing if neither has a vault of that name.
    ///
    /// # Errors
    /// [`JournalError::Checkpoint`]; also where a backup's checkpoint is not stored yet.
    pub(crate) async fn compare(
        &self,
        backups: [&Backup; 2],
        vault: Option<&str>,
    ) -> Result<Option<Vec<FileDifference>>, JournalError> {
        let mut names = Vec::new();
        let mut known = Places::new();
        for backup in backups {
            let name = backup.checkpoint.as_ref();
            let name = name.ok_or_else(|| JournalError::NoCheckpoint(backup.label.name.clone()))?;
            known.extend(self.places(name));
            names.push(name);
        }
        let scopes = backups.map(|backup| backup.scope);
        Ok(self.checkpoints.compare([names[0], names[1]], scopes, vault, &known).await?)
    }

    /// Whether a head that a host shows is of this journal. Heads of lower epochs were judged when this
    /// one was claimed.
    ///
    /// # Errors
    /// [`JournalError::Store`], [`JournalError::Damaged`].
    pub(crate) async fn leads_to(&self, head: &Head) -> Result<bool, JournalError> {
        if head.epoch != self.status().epoch {
            return Ok(true);
        }
        let store = self.world.store.as_ref();
        match (head.entries.last(), head.point.position.checked_sub(1)) {
            (Some(last), Some(before)) => {
                Ok(local::entry(store, before).await?.as_ref() == Some(last))
            }
            _ => local::has_point(store, &head.point).await,
        }
    }

    /// Where the slabs of a checkpoint lie now.
    pub(crate) fn places(&self, name: &CheckpointName) -> Places {
        self.read(|now| checkpoint::places_in(now, name))
    }

    /// Writes and reads checkpoints.
    pub(crate) const fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Has the metadata written anew, because some of it is lost or about to be.
    pub(crate) async fn renew(&self) {
        // An error means that the owner has ended.
        let _ = self.sender.send(Message::Renew).await;
    }

    /// The changes between two positions, as far as this node keeps them.
    ///
    /// # Errors
    /// [`JournalError::Store`] and [`JournalError::Damaged`].
    pub(crate) async fn changes(
        &self,
        from: u64,
        to: u64,
        take: impl FnMut(u64, Change) + Send,
    ) -> Result<(), JournalError> {
        local::changes(self.world.store.as_ref(), from, to, take).await
    }

    /// Entries from a position on with their positions, as far as this node keeps them: as many as are read
    /// at once, and none from `to` on.
    ///
    /// # Errors
    /// [`JournalError::Store`] and [`JournalError::Damaged`].
    pub(crate) async fn entries(
        &self,
        from: u64,
        to: u64,
    ) -> Result<Vec<(u64, Entry)>, JournalError> {
        local::page(self.world.store.as_ref(), from, to).await
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
