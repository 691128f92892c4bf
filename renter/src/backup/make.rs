//! Makes backups: asks for a place, runs to the end, and tells how it went.

use std::collections::BTreeSet;

use samara_protocol::journal::backup::{MAX_BACKUP_NAME, MAX_DESCRIPTION, MAX_TAG, MAX_TAGS};
use samara_protocol::journal::{Backup, BackupId, BackupLabel, BackupOrigin, Change};
use samara_protocol::units::{ChainTime, Millis};
use tokio::sync::watch;

use super::list::vault_name;
use super::quote::scope_of;
use super::record::Record;
use super::state::{BackupState, BackupStep};
use super::types::{BackupKind, BackupRequest, BackupRow, JobProblem, JobProgress};
use super::{BackupError, Backups, Running, held_from, holders};
use crate::archive::Passphrase;
use crate::journal::SettleReport;
use crate::news::News;
use crate::progress::{Meter, Phase, Progress, ProgressEvent, Silent, Unit};
use crate::world::{StoreError, random_bytes};

/// Passes progress on, and keeps the last of it for whoever asks.
struct Watched<'a> {
    backups: &'a Backups,
    id: BackupId,
    inner: &'a dyn Progress,
}

impl Progress for Watched<'_> {
    fn report(&self, event: ProgressEvent) {
        if let Some(progress) = JobProgress::of(&event)
            && let Some(running) = self.backups.running().get_mut(&self.id)
        {
            running.progress = Some(progress);
        }
        self.inner.report(event);
    }
}

/// Takes a backup out of those that are being made, whatever becomes of the caller.
struct Entered<'a>(&'a Backups, BackupId);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.running().remove(&self.1);
    }
}

impl Backups {
    /// Makes a backup, and returns when it is whole or has failed to settle. The event itself is
    /// acknowledged in either case.
    pub(crate) async fn create(
        &self,
        request: &BackupRequest,
        progress: &dyn Progress,
    ) -> Result<BackupRow, BackupError> {
        let id = self.ask(request).await?;
        self.make(id, progress).await?;
        self.row(id)
    }

    /// Makes a backup in a task of its own, and returns as soon as it has its place.
    pub(crate) async fn begin(&self, request: &BackupRequest) -> Result<BackupRow, BackupError> {
        let id = self.ask(request).await?;
        let row = self.row(id)?;
        let backups = self.clone();
        let made = async move {
            // Its record says what went wrong.
            let _ = backups.make(id, &Silent).await;
        };
        let task = self.vaults.world.spawner.spawn("backup", Box::pin(made));
        match self.running().get_mut(&id) {
            Some(running) => running.task = Some(task),
            // It has ended already.
            None => task.detach(),
        }
        Ok(row)
    }

    /// Checks a request and gives it a place: from here on it is listed.
    async fn ask(&self, request: &BackupRequest) -> Result<BackupId, BackupError> {
        let label = label_of(request, self.vaults.world.chain.time())?;
        let journal = &self.vaults.journal;
        journal.check_writable()?;
        let scope = journal.read(|state| scope_of(state, request.vault.as_deref()))?;
        self.check_name(&label.name, None)?;
        self.check_limit(request, scope)?;
        match request.kind {
            BackupKind::Archive => drop(self.archives()?),
            BackupKind::Network if request.passphrase.is_some() => return Err(BackupError::Sealed),
            BackupKind::Network => {}
        }
        let quote = self.agreed(request.quote.as_deref(), request.kind, scope).await?;
        if let Some(most) = request.max_price.filter(|most| quote.price > *most) {
            return Err(BackupError::TooExpensive { price: quote.price, most });
        }
        let origin = BackupOrigin {
            chain_time: self.vaults.world.chain.time(),
            by: self.by,
            schedule: request.schedule.clone(),
            quoted: quote.price,
            counts: quote.counts,
        };
        let id = BackupId(random_bytes(self.vaults.world.random.as_ref()));
        let scope = scope.zip(request.vault.clone());
        let mut record = Record::new(request.kind, scope, label, origin, self.now());
        record.keeping = quote.keeping;
        record.note(self.now(), format!("asked for, at a price of up to {}", quote.price));
        // Others may have asked for the same meanwhile; from here on they wait.
        let _turn = self.shared.asking.acquire().await.ok();
        self.check_name(&record.label.name, None)?;
        self.check_limit(request, record.scope.as_ref().map(|(vault, _)| *vault))?;
        let (cancel, _) = watch::channel(false);
        let passphrase = request.passphrase.clone();
        // Before the record is there: an open one that nobody works on is ended.
        self.running().insert(id, Running { progress: None, passphrase, cancel, task: None });
        let entered = Entered(self, id);
        self.enter(id, &record).await?;
        // Whoever makes it takes it out.
        std::mem::forget(entered);
        Ok(id)
    }

    /// Makes a backup that has its place.
    async fn make(&self, id: BackupId, progress: &dyn Progress) -> Result<(), BackupError> {
        let _entered = Entered(self, id);
        let cancelled = self.running().get(&id).map(|running| running.cancel.subscribe());
        let progress = &Watched { backups: self, id, inner: progress };
        let work = async {
            let _turn = match self.kind(id) {
                BackupKind::Archive => self.shared.turns.acquire().await.ok(),
                BackupKind::Network => None,
            };
            self.step(id, BackupStep::Start, "started").await?;
            self.tell(id, News::BackupStarted);
            match self.kind(id) {
                BackupKind::Network => self.make_network(id, progress).await,
                BackupKind::Archive => {
                    let passphrase = self.passphrase(id);
                    self.make_archive(id, passphrase, progress).await
                }
            }
        };
        let made = tokio::select! {
            biased;
            () = until(cancelled) => Err(BackupError::Cancelled),
            made = work => made,
        };
        if let Err(error) = &made {
            self.failed(id, error).await?;
        }
        self.tell(id, News::BackupEnded);
        made
    }

    /// Has the journal name a backup, and the hosts hold it.
    async fn make_network(&self, id: BackupId, progress: &dyn Progress) -> Result<(), BackupError> {
        let Some(record) = self.record(id) else { return Ok(()) };
        let Record { label, origin, scope, .. } = record;
        let name = label.name.clone();
        let scope = scope.map(|(vault, _)| vault);
        let (label, origin) = (Box::new(label), Box::new(origin));
        let created = Change::BackupCreated { id, scope, label, origin };
        let made = self.vaults.journal.append(vec![created]).await;
        let point = made.map_err(|error| match error.code() {
            "exists" => BackupError::Exists(name),
            _ => error.into(),
        })?;
        self.settle(id, point.position, progress).await
    }

    /// Settles a backup's head and keeps how it went.
    async fn settle(
        &self,
        id: BackupId,
        position: u64,
        progress: &dyn Progress,
    ) -> Result<(), BackupError> {
        let journal = &self.vaults.journal;
        let status = journal.status();
        let needed = self.needed(status.hosts.len());
        let known = self.change(id, |record| {
            record.hosts_ok = holders(&status, position) as u64;
            record.hosts_needed = needed as u64;
            record.hosts_total = status.hosts.len() as u64;
            record.position = position;
        });
        if !known.await? {
            return Ok(());
        }
        let clock = &self.vaults.world.clock;
        let total = needed as u64;
        let now = clock.now();
        let mut meter = Meter::new(progress, Phase::Settling, Unit::Hosts, Some(total), now);
        let mut watch = journal.watch();
        let settling = journal.settle(position, needed);
        tokio::pin!(settling);
        let settled: SettleReport = loop {
            tokio::select! {
                biased;
                settled = &mut settling => break settled?,
                Ok(()) = watch.changed() => {
                    // More may hold it than must.
                    let held = holders(&watch.borrow_and_update(), position);
                    meter.done = held.min(needed) as u64;
                    meter.report(None, clock.now());
                }
            }
        };
        // Contracts may have come or gone meanwhile.
        let needed = self.needed(journal.status().hosts.len());
        let now = clock.now();
        self.change(id, |record| {
            record.hosts_ok = settled.hosts_ok as u64;
            record.hosts_needed = needed as u64;
            record.hosts_total = settled.hosts_total as u64;
            if settled.hosts_ok >= needed {
                record.take(BackupStep::Complete);
                record.completed = Some(now);
                record.problem = None;
                record.note(now, format!("completed: {} hosts hold it", settled.hosts_ok));
            } else {
                let (ok, failures) = (settled.hosts_ok, settled.failures.join("; "));
                let message = format!("{ok} of the {needed} hosts needed hold it: {failures}");
                let code = "too_few_hosts".to_owned();
                record.fail(now, JobProblem { code, message, retryable: true });
            }
        })
        .await?;
        meter.done = (settled.hosts_ok as u64).min(total);
        meter.report(None, clock.now());
        Ok(())
    }

    /// Settles what is not completed yet: after a crash, a recovery, or a failure.
    pub(crate) async fn resume(&self, progress: &dyn Progress) -> Result<(), BackupError> {
        self.note_costs().await?;
        let journal = &self.vaults.journal;
        if journal.check_writable().is_err() || journal.status().hosts.is_empty() {
            return Ok(());
        }
        if journal.status().position == journal.status().acknowledged {
            // Nothing is on its way that the journal could still come to name.
            self.forget_left_over().await?;
            self.end_interrupted().await?;
        }
        let backups: Vec<(BackupId, Backup)> = journal
            .read(|state| state.backups.iter().map(|(id, backup)| (*id, backup.clone())).collect());
        for (id, backup) in backups {
            if self.running().contains_key(&id) {
                continue;
            }
            let Some(record) = self.record(id) else {
                self.enter(id, &self.record_of(&backup)).await?;
                self.step(id, BackupStep::Start, "hosts are asked").await?;
                self.settle(id, held_from(&backup), progress).await?;
                continue;
            };
            if record.state == BackupState::Completed {
                continue;
            }
            if record.is_cancelled() {
                // Its entry was on its way when somebody cancelled it.
                journal.append(vec![Change::BackupDeleted(id)]).await?;
                continue;
            }
            if record.state != BackupState::Running {
                self.step(id, BackupStep::Start, "hosts are asked again").await?;
            }
            self.settle(id, held_from(&backup), progress).await?;
            // Nobody was told of its end, or that it had failed.
            if self.record(id).is_some_and(|record| record.state == BackupState::Completed) {
                self.tell(id, News::BackupEnded);
            }
        }
        Ok(())
    }

    /// A record of a backup that only the journal knows.
    pub(super) fn record_of(&self, backup: &Backup) -> Record {
        let name = |id| self.vaults.journal.read(|state| vault_name(state, id));
        let scope = backup.scope.map(|id| (id, name(id)));
        let (label, origin) = (backup.label.clone(), backup.origin.clone());
        let mut record = Record::new(BackupKind::Network, scope, label, origin, backup.created);
        record.position = held_from(backup);
        record
    }

    /// Writes down what checkpoints of backups have cost: that is known only some time after they are made.
    async fn note_costs(&self) -> Result<(), StoreError> {
        let open: Vec<BackupId> = {
            let records = self.records();
            let network = |record: &Record| record.kind == BackupKind::Network;
            let unknown = records.iter().filter(|(_, r)| network(r) && r.stored.is_none());
            unknown.map(|(id, _)| *id).collect()
        };
        for id in open {
            let Some(cost) = self.vaults.journal.checkpoint_cost(&id) else { continue };
            self.change(id, |record| {
                let kept = record.keeping.saturating_mul(cost.bytes.into());
                record.stored = Some(cost.bytes);
                record.cost = Some(cost.paid.spent().saturating_add(kept));
            })
            .await?;
        }
        Ok(())
    }

    /// Forgets what a crash has left of network backups that were deleted.
    async fn forget_left_over(&self) -> Result<(), StoreError> {
        let named: BTreeSet<BackupId> =
            self.vaults.journal.read(|state| state.backups.keys().copied().collect());
        let left: Vec<BackupId> = {
            let (records, running) = (self.records(), self.running());
            let open = |id: &BackupId| named.contains(id) || running.contains_key(id);
            let left = records.iter().filter(|(id, record)| record.is_left_over() && !open(id));
            left.map(|(id, _)| *id).collect()
        };
        for id in left {
            self.forget(id).await?;
        }
        Ok(())
    }

    /// Ends what a restart has cut, or nobody makes any more. What the journal names goes on by itself.
    pub(super) async fn end_interrupted(&self) -> Result<(), StoreError> {
        let open: Vec<BackupId> = {
            let (records, running) = (self.records(), self.running());
            let abandoned = |(id, record): &(&BackupId, &Record)| {
                record.state.is_open() && !running.contains_key(id)
            };
            records.iter().filter(abandoned).map(|(id, _)| *id).collect()
        };
        for id in open {
            let known = self.vaults.journal.read(|state| state.backups.contains_key(&id));
            if known {
                continue;
            }
            let problem = JobProblem {
                code: "interrupted".to_owned(),
                message: "the node was stopped before it was done: make it again".to_owned(),
                retryable: true,
            };
            let now = self.now();
            if self.change(id, |record| record.fail(now, problem)).await? {
                self.tell(id, News::BackupEnded);
            }
        }
        Ok(())
    }

    /// Cancels a backup that is being made.
    pub(crate) async fn cancel(&self, name: &str) -> Result<BackupRow, BackupError> {
        let id = self.find_any(name)?;
        let row = self.row(id)?;
        let cancelled = self.running().get(&id).map(|running| running.cancel.send_replace(true));
        if cancelled.is_none() {
            return Err(BackupError::Unfit { name: row.name, is: "is not being made" });
        }
        if self.vaults.journal.read(|state| state.backups.contains_key(&id)) {
            self.vaults.journal.append(vec![Change::BackupDeleted(id)]).await?;
        }
        Ok(row)
    }

    fn passphrase(&self, id: BackupId) -> Option<Passphrase> {
        self.running().get_mut(&id).and_then(|running| running.passphrase.take())
    }

    fn kind(&self, id: BackupId) -> BackupKind {
        self.records().get(&id).map(|record| record.kind).unwrap_or_default()
    }

    async fn step(&self, id: BackupId, step: BackupStep, text: &str) -> Result<(), StoreError> {
        let now = self.now();
        let stepped = self.change(id, |record| {
            record.take(step);
            record.note(now, text);
        });
        stepped.await.map(drop)
    }

    async fn failed(&self, id: BackupId, error: &BackupError) -> Result<(), StoreError> {
        let now = self.now();
        self.change(id, |record| record.fail(now, error.problem())).await.map(drop)
    }

    pub(super) fn tell(&self, id: BackupId, news: impl Fn(Box<BackupRow>) -> News) {
        if let Ok(row) = self.row(id) {
            self.announce(news(Box::new(row)));
        }
    }

    pub(super) fn announce(&self, news: News) {
        // Nobody has to listen.
        let _ = self.shared.news.send(news);
    }

    /// Refuses a name that another backup has, but for those that failed.
    pub(super) fn check_name(&self, name: &str, own: Option<BackupId>) -> Result<(), BackupError> {
        let others = |id: &BackupId| Some(*id) != own;
        let in_journal = self.vaults.journal.read(|state| {
            state.backups.iter().any(|(id, backup)| others(id) && backup.label.name == name)
        });
        let here = self.records().iter().any(|(id, record)| {
            others(id) && record.state != BackupState::Failed && record.label.name == name
        });
        if in_journal || here {
            return Err(BackupError::Exists(name.to_owned()));
        }
        Ok(())
    }
}

/// Completes when the other side says so; never if it is gone.
async fn until(cancelled: Option<watch::Receiver<bool>>) {
    if let Some(mut cancelled) = cancelled
        && cancelled.wait_for(|cancelled| *cancelled).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// What people say of a backup that they ask for.
pub(super) fn label_of(
    request: &BackupRequest,
    now: ChainTime,
) -> Result<BackupLabel, BackupError> {
    let later = |seconds: u64| now.plus(Millis::seconds(seconds));
    let label = BackupLabel {
        name: request.name.clone(),
        description: request.description.clone(),
        tags: request.tags.clone(),
        pinned: request.pinned,
        expires: request.expires.map(ChainTime).or(request.expires_in.map(later)),
    };
    check_label(&label)?;
    Ok(label)
}

/// Refuses what no backup can be called.
pub(super) fn check_label(label: &BackupLabel) -> Result<(), BackupError> {
    let name = &label.name;
    let fits = (1..=MAX_BACKUP_NAME).contains(&name.len());
    // As a part of an address the last two would lead elsewhere.
    let blank = name.trim().is_empty() || matches!(name.as_str(), "." | "..");
    if !fits || blank || name.contains(char::is_control) {
        return Err(BackupError::Name(name.len()));
    }
    if label.description.len() > MAX_DESCRIPTION {
        return Err(BackupError::Description(label.description.len()));
    }
    let bad = |tag: &String| !(1..=MAX_TAG).contains(&tag.len()) || tag.contains(char::is_control);
    if label.tags.len() > MAX_TAGS || label.tags.iter().any(bad) {
        return Err(BackupError::Tags);
    }
    Ok(())
}
