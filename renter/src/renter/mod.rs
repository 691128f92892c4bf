//! The facade: everything that a daemon, a command line or a simulator calls.
//!
//! [`Renter::open`] resumes whatever the store says. Three states follow: a fresh node knows nothing of
//! what its words own, so it writes only after [`Renter::start_fresh`] (words that were just created
//! here) or [`Renter::recover`]; an active one writes; a read-only or fenced one reads. Shutdown:
//! [`Renter::shutdown`] stops upkeep and repair, then the journal's owner; everything acknowledged is at the hosts,
//! everything else is on disk and is completed at the next start.

mod error;
mod line;
mod lineage;
mod money;
mod outlook;
mod policies;
mod scan;
mod settled;
mod upkeep;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
pub use error::{OpenError, RenterError};
pub use money::transfer;
use samara_protocol::journal::{Change, SlabRecord, UserId, VaultId};
use samara_protocol::keys::KeyTree;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Epoch, Millis};
use tokio::sync::broadcast;

use self::lineage::Lineage;
use self::settled::Settled;
use self::upkeep::Upkeep;
use crate::archive::{
    ExportError, ExportReport, ExportRequest, ImportError, ImportLog, ImportReport, ImportRequest,
};
use crate::backup::{
    BackupDetail, BackupDifference, BackupEdit, BackupError, BackupPage, BackupQuery,
    BackupRequest, BackupRow, Backups, People, QuoteRequest, QuoteRow, RecoveryEstimate,
    RestoreReport, RestoreRequest, VerifyOptions, VerifyReport,
};
use crate::contract::{Budget, ContractBook, Contractor, LineRates, Writer};
use crate::garbage::{Garbage, GarbageError, GarbageOptions, GarbageReport};
use crate::journal::{Adopted, HeadHost, Journal, JournalError, JournalOptions, Mode};
use crate::news::News;
use crate::progress::Progress;
use crate::recovery::{
    BackgroundScan, Recovery, RecoveryError, RecoveryOptions, RecoveryPhase, RecoveryReport,
    RecoveryStatus,
};
use crate::repair::{Repair, RepairOptions};
use crate::slabs::Slabs;
use crate::transfer::{Redundancy, TransferOptions};
use crate::vault::{
    FileRow, FileStream, GetError, GetReport, GetRequest, ListOptions, ListRow, PutError,
    PutReport, PutRequest, PutStreamRequest, VaultError, VaultOptions, VaultRow, Vaults,
};
use crate::world::{ReadFile, StoreError, TaskHandle, World, random_bytes};

/// Settings of a renter.
#[derive(Clone, Copy, Debug)]
pub struct RenterConfig {
    /// Slabs and transfers. The redundancy is replaced by the allowance's once one is set.
    pub transfer: TransferOptions,
    /// Limits of the journal.
    pub journal: JournalOptions,
    /// Limits of puts and gets.
    pub vault: VaultOptions,
    /// Time between two rounds of upkeep.
    pub upkeep: Millis,
    /// Health and repair of slabs.
    pub repair: RepairOptions,
    /// When and how much garbage is collected.
    pub garbage: GarbageOptions,
    /// What sectors may take of the line, unless the owner has set something else since.
    pub line: LineRates,
}

impl Default for RenterConfig {
    fn default() -> Self {
        Self {
            transfer: TransferOptions::new(Redundancy::for_hosts(8)),
            journal: JournalOptions::default(),
            vault: VaultOptions::default(),
            upkeep: Millis::seconds(10),
            repair: RepairOptions::default(),
            garbage: GarbageOptions::default(),
            line: LineRates::default(),
        }
    }
}

/// News that somebody who listens may be behind.
const NEWS: usize = 256;

/// An owner's files on the network. A cheap clone; upkeep ends with the last of them.
#[derive(Clone)]
pub struct Renter {
    inner: Arc<Inner>,
    /// Who makes changes through this handle; nobody in particular, if whoever runs the node does.
    by: Option<UserId>,
}

struct Inner {
    world: World,
    keys: Arc<KeyTree>,
    book: ContractBook,
    journal: Journal,
    vaults: Vaults,
    backups: Backups,
    recovery: Recovery,
    scan: BackgroundScan,
    upkeep: Upkeep,
    repair: Repair,
    garbage: Garbage,
    settled: Settled,
    news: broadcast::Sender<News>,
    /// What has happened since it was opened, until somebody listens.
    opening: std::sync::Mutex<Option<broadcast::Receiver<News>>>,
    /// Limits of the configuration.
    line: LineRates,
    /// Upkeep, repair and the collector.
    tasks: std::sync::Mutex<Vec<Box<dyn TaskHandle>>>,
}

impl Renter {
    /// Opens a renter over its store, and resumes what was under way. An unfinished recovery waits for
    /// [`Renter::recover`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        world: World,
        keys: Arc<KeyTree>,
        config: RenterConfig,
    ) -> Result<Self, OpenError> {
        Self::open_within(world, keys, config, None).await
    }

    /// As [`Renter::open`]; all that its contracts are asked for is paid out of the budget, if there is one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_within(
        world: World,
        keys: Arc<KeyTree>,
        config: RenterConfig,
        budget: Option<Budget>,
    ) -> Result<Self, OpenError> {
        let writer = Writer::new(Epoch::default());
        let book = ContractBook::open(world.clone(), keys.clone(), writer).await?;
        let book = match budget {
            Some(budget) => book.within(budget),
            None => book,
        };
        let contractor = Contractor::open(book.clone()).await?;
        let stored = line::load(world.store.as_ref()).await?;
        book.line().set(stored.unwrap_or(config.line));
        let mut transfer = config.transfer;
        if let Some(allowance) = contractor.allowance() {
            transfer.redundancy = allowance.redundancy;
        }
        let slabs = Slabs::new(book.clone(), transfer);
        let journal =
            Journal::open(world.clone(), keys.clone(), book.clone(), slabs.clone(), config.journal)
                .await?;
        let account = journal.status().account;
        if contractor.account() != account {
            // A crash came between the end of a recovery and this.
            contractor.use_account(account).await?;
        }
        let vaults = Vaults::new(world.clone(), journal.clone(), slabs.clone(), config.vault);
        let (news, opening) = broadcast::channel(NEWS);
        let backups = Backups::open(vaults.clone(), news.clone()).await?;
        let recovery = Recovery::open(
            world.clone(),
            keys.clone(),
            book.clone(),
            journal.clone(),
            slabs.clone(),
        )
        .await?;
        let scan = BackgroundScan::open(recovery.clone(), news.clone()).await?;
        let lineage = Lineage::open(&book, &journal).await?;
        let settled = Settled::open(book.clone(), journal.clone(), recovery.clone()).await?;
        let upkeep = Upkeep {
            world: world.clone(),
            book: book.clone(),
            journal: journal.clone(),
            slabs,
            contractor,
            backups: backups.clone(),
            recovery: recovery.clone(),
            outlook: Arc::default(),
            lineage: Arc::new(std::sync::Mutex::new(lineage)),
            asked: Arc::default(),
            settled: settled.clone(),
        };
        if upkeep.contractor.allowance().is_none()
            && let Some(allowance) = upkeep.setting()
        {
            // Recovered, and not given an allowance yet: slabs are cut as the owner had wanted.
            upkeep.slabs.set_redundancy(allowance.redundancy);
        }
        let options = config.repair;
        let repair =
            Repair::open(journal.clone(), upkeep.slabs.clone(), recovery.clone(), options).await?;
        let garbage = Garbage::new(vaults.clone(), recovery.clone(), config.garbage);
        let tasks = vec![
            world.spawner.spawn("upkeep", Box::pin(upkeep.clone().run(config.upkeep))),
            world.spawner.spawn("repair", Box::pin(repair.clone().run())),
            world.spawner.spawn("garbage", Box::pin(garbage.clone().run())),
        ];
        let tasks = std::sync::Mutex::new(tasks);
        let inner = Inner {
            world,
            keys,
            book,
            journal,
            vaults,
            backups,
            recovery,
            scan,
            upkeep,
            repair,
            garbage,
            settled,
            news,
            opening: std::sync::Mutex::new(Some(opening)),
            line: config.line,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner), by: None })
    }

    /// The same renter, whose changes are this user's.
    #[must_use]
    pub fn acting(&self, by: Option<UserId>) -> Self {
        Self { inner: Arc::clone(&self.inner), by }
    }

    fn user_vaults(&self) -> Vaults {
        self.inner.vaults.acting(self.by)
    }

    fn user_backups(&self) -> Backups {
        self.inner.backups.acting(self.by)
    }

    /// Starts to write for words that were just created on this node: they own nothing, so nothing is
    /// looked for until there is a first contract. Then the chain says whether another node with the same
    /// words was first; if so, this one stops. So it is for words whose contracts have all ended, as
    /// [`Renter::recover`] has found; what the last node left in its account is used. For any other words
    /// use [`Renter::recover`].
    ///
    /// # Errors
    /// [`RenterError::Started`], [`RenterError::Recovering`], [`RenterError::Chain`].
    pub async fn start_fresh(&self) -> Result<(), RenterError> {
        let Inner { journal, recovery, upkeep, world, .. } = self.inner.as_ref();
        let fresh = journal.status().mode == Mode::Fresh;
        // One that reads, or that was taken over, has nothing to read any more.
        if !fresh && (journal.check_writable().is_ok() || !recovery.found_nothing()) {
            return Err(RenterError::Started);
        }
        if recovery.status().running || recovery.is_unfinished() {
            return Err(RenterError::Recovering);
        }
        let account = recovery.last_account().await?;
        let store = world.store.as_ref();
        Lineage::New.save(store).await.map_err(JournalError::from)?;
        upkeep.set_lineage(Lineage::New);
        let writer = random_bytes(world.random.as_ref());
        if fresh {
            journal.start(Epoch { counter: lineage::FIRST, writer }, account).await?;
        } else {
            let used = self.inner.book.writer();
            let highest = used.fenced().unwrap_or_default().max(used.epoch()).counter;
            let epoch = Epoch { counter: highest.saturating_add(1), writer };
            journal.adopt(Adopted::nothing(epoch, account)).await?;
        }
        upkeep.contractor.use_account(account).await?;
        recovery.set_aside().await.map_err(JournalError::from)?;
        Ok(())
    }

    /// Fails while it is not known what the words own: names that are not there yet are not to be taken
    /// for lost.
    ///
    /// # Errors
    /// [`RenterError::Recovering`], [`JournalError::NotStarted`].
    pub fn check_known(&self) -> Result<(), RenterError> {
        match self.inner.journal.status().mode {
            Mode::Fresh
                if self.inner.recovery.status().running || self.inner.recovery.is_unfinished() =>
            {
                Err(RenterError::Recovering)
            }
            Mode::Fresh => Err(JournalError::NotStarted.into()),
            Mode::Active | Mode::ReadOnly => Ok(()),
        }
    }

    /// The table of contracts.
    #[cfg(test)]
    pub(crate) fn book(&self) -> &ContractBook {
        &self.inner.book
    }

    /// Looks after the health of slabs now, instead of waiting for its time: audits as far as their
    /// budget goes, and all repairs that can be made.
    pub async fn look_after_slabs(&self) {
        while self.inner.repair.look().await {}
    }

    /// All slabs that the journal names.
    #[must_use]
    pub fn slab_records(&self) -> Vec<SlabRecord> {
        let names = self.inner.journal.segment_slabs();
        self.inner.journal.read(|state| {
            let data = state.slabs.values().map(|slab| slab.record.clone());
            names.iter().cloned().chain(data).collect()
        })
    }

    /// Runs one round of upkeep now, instead of waiting for its time.
    pub async fn upkeep(&self) {
        self.inner.upkeep.once().await;
    }

    /// Runs one round of garbage collection now, instead of waiting for its time.
    pub async fn collect(&self) {
        self.inner.garbage.round().await;
    }

    /// Bytes that slabs in use, those of puts that were cut, and the journal's own need at each host, by
    /// its key in hex. Looks at every slab.
    ///
    /// # Errors
    /// [`GarbageError`], unless everything made so far is acknowledged.
    pub async fn needed_bytes(&self) -> Result<BTreeMap<String, u64>, GarbageError> {
        self.inner.garbage.needed().await
    }

    /// What was freed since the start, what waits to be, and why.
    #[must_use]
    pub fn garbage(&self) -> GarbageReport {
        self.inner.garbage.report()
    }

    /// Puts a file or a folder.
    ///
    /// # Errors
    /// [`PutError`]; what was acknowledged before stays.
    pub async fn put(
        &self,
        request: PutRequest,
        progress: &dyn Progress,
    ) -> Result<PutReport, PutError> {
        let mut report = self.user_vaults().put(&request, progress).await?;
        let holds = |host: &&HeadHost| host.position.is_some_and(|at| at >= report.position);
        let hosts = self.inner.journal.status().hosts;
        report.hosts_ok = hosts.iter().filter(holds).count() as u64;
        report.hosts_total = hosts.len() as u64;
        report.stage = self.inner.settled.stage(report.position);
        Ok(report)
    }

    /// Puts a stream of bytes as one file.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put_stream(
        &self,
        request: PutStreamRequest,
        source: &mut dyn ReadFile,
        progress: &dyn Progress,
    ) -> Result<FileRow, PutError> {
        let row = self.user_vaults().put_stream(&request, source, progress).await?;
        if let Err(error) = self.inner.settled.follow().await {
            // The file is stored all the same.
            tracing::debug!(%error, "how safe it is will be known later");
        }
        Ok(self.marked(&request.vault, row))
    }

    /// Fetches a file, a folder or a vault.
    ///
    /// # Errors
    /// [`GetError`]; single files that fail are in the report instead.
    pub async fn get(
        &self,
        request: GetRequest,
        progress: &dyn Progress,
    ) -> Result<GetReport, GetError> {
        self.user_vaults().get(&request, progress).await
    }

    /// The listed file at a path, or one of its versions.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn file(
        &self,
        vault: &str,
        path: &str,
        version: Option<u64>,
    ) -> Result<FileRow, VaultError> {
        Ok(self.marked(vault, self.user_vaults().file(vault, path, version)?))
    }

    /// Bytes of one file, at most 16 MiB at once.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn read_range(
        &self,
        vault: &str,
        path: &str,
        version: Option<u64>,
        range: Range<u64>,
    ) -> Result<Bytes, GetError> {
        self.user_vaults().read_range(vault, path, version, range).await
    }

    /// A range of one file as a stream of pieces, whatever its length.
    ///
    /// # Errors
    /// [`GetError`].
    pub fn stream_range(
        &self,
        vault: &str,
        path: &str,
        version: Option<u64>,
        range: Range<u64>,
    ) -> Result<FileStream, GetError> {
        self.user_vaults().stream_range(vault, path, version, range)
    }

    /// Lists a folder.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list(
        &self,
        vault: &str,
        options: &ListOptions,
    ) -> Result<Vec<ListRow>, VaultError> {
        let mut rows = self.user_vaults().list(vault, options).await?;
        // A vault that is gone is shown by a backup only, to which nothing comes any more.
        let id = self.vault_id(vault).unwrap_or(VaultId([0; 16]));
        self.inner.settled.mark(id, &mut rows, options.backup.is_none()).await?;
        Ok(rows)
    }

    fn vault_id(&self, name: &str) -> Option<VaultId> {
        self.inner.journal.read(|state| state.vault_named(name).map(|(id, _)| id))
    }

    /// A file with how safe it is.
    fn marked(&self, vault: &str, mut row: FileRow) -> FileRow {
        if let Some(id) = self.vault_id(vault) {
            self.inner.settled.mark_file(id, &mut row);
        }
        row
    }

    /// All vaults, ordered by name.
    #[must_use]
    pub fn vaults(&self) -> Vec<VaultRow> {
        self.user_vaults().vaults()
    }

    /// Settings of the renter whose names begin with `prefix`, by name. They are in the journal, sealed
    /// like names, and come back from the words.
    #[must_use]
    pub fn settings(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.inner.journal.read(|state| {
            let from = state.settings.range(prefix.to_owned()..);
            let below = from.take_while(|(name, _)| name.starts_with(prefix));
            below.map(|(name, value)| (name.clone(), value.clone())).collect()
        })
    }

    /// Changes settings of the renter, all or none of them; returns when the change is acknowledged. An empty
    /// value takes a setting away. Names have at most 64 bytes, values 64 KiB.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn set(&self, settings: Vec<(String, Vec<u8>)>) -> Result<(), JournalError> {
        let changes = settings.into_iter().map(|(name, value)| Change::Setting { name, value });
        self.inner.journal.append(changes.collect()).await.map(drop)
    }

    /// Makes a vault.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn create_vault(&self, name: &str) -> Result<VaultRow, VaultError> {
        self.user_vaults().create(name).await
    }

    /// Gives a vault another name.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn rename_vault(&self, from: &str, to: &str) -> Result<(), VaultError> {
        self.user_vaults().rename(from, to).await
    }

    /// Gives a vault and everything in it up.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn remove_vault(&self, name: &str) -> Result<(), VaultError> {
        self.user_vaults().remove_vault(name).await
    }

    /// Moves a file, or a folder with all in it; returns how many files moved.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn move_file(&self, vault: &str, from: &str, to: &str) -> Result<u64, VaultError> {
        self.user_vaults().move_file(vault, from, to).await
    }

    /// Takes a file, or with `recursive` a folder, off the list; versions stay. Returns how many.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn remove(
        &self,
        vault: &str,
        path: &str,
        recursive: bool,
    ) -> Result<u64, VaultError> {
        self.user_vaults().remove(vault, path, recursive).await
    }

    /// Gives one version of a file up for good.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn remove_version(
        &self,
        vault: &str,
        path: &str,
        version: u64,
    ) -> Result<(), VaultError> {
        self.user_vaults().remove_version(vault, path, version).await
    }

    /// Makes a backup; returns when it has settled, or failed to.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn create_backup(
        &self,
        request: BackupRequest,
        progress: &dyn Progress,
    ) -> Result<BackupRow, BackupError> {
        Ok(self.as_seen(self.user_backups().create(&request, progress).await?))
    }

    /// Makes a backup in the background; returns as soon as it is listed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin_backup(&self, request: BackupRequest) -> Result<BackupRow, BackupError> {
        Ok(self.as_seen(self.user_backups().begin(&request).await?))
    }

    /// What a backup costs at most.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn quote_backup(&self, request: &QuoteRequest) -> Result<QuoteRow, BackupError> {
        self.user_backups().quote(request).await
    }

    /// A page of the backups.
    #[must_use]
    pub fn backups_page(&self, query: &BackupQuery) -> BackupPage {
        let backups = &self.inner.backups;
        query.page(self.backups(), backups.limit(), backups.used())
    }

    /// Changes name, description, tags, pin or expiry of a backup.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn edit_backup(
        &self,
        name: &str,
        edit: &BackupEdit,
    ) -> Result<BackupRow, BackupError> {
        Ok(self.as_seen(self.user_backups().edit(name, edit).await?))
    }

    /// Cancels a backup that is being made; returns it as it was.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn cancel_backup(&self, name: &str) -> Result<BackupRow, BackupError> {
        self.user_backups().cancel(name).await
    }

    /// Keeps archives in a folder from here on, which has nothing else; they tell of these people.
    ///
    /// # Errors
    /// [`BackupError::File`].
    pub async fn keep_archives_in(
        &self,
        folder: PathBuf,
        people: People,
    ) -> Result<(), BackupError> {
        self.inner.backups.keep_archives_in(folder, people).await
    }

    /// The file of a whole archive, its bytes and its BLAKE3 in hex.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn archive_file(&self, name: &str) -> Result<(PathBuf, u64, String), BackupError> {
        self.inner.backups.archive_file(name)
    }

    /// A whole archive that may be handed to others: its vault is there, and it has not expired.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn shareable_archive(&self, name: &str) -> Result<BackupRow, BackupError> {
        self.inner.backups.shareable(name)
    }

    /// How many backups of one kind a vault may have.
    #[must_use]
    pub fn backup_limit(&self) -> u32 {
        self.inner.backups.limit()
    }

    /// Sets how many backups of one kind a vault may have.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn limit_backups(&self, limit: u32) -> Result<(), BackupError> {
        self.user_backups().set_limit(limit).await
    }

    /// What happens from now on that people may want to be told of.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.inner.news.subscribe()
    }

    /// The same for the first who asks, with what has happened since this renter was opened: backups that a
    /// restart has cut are found then.
    #[must_use]
    pub fn news_since_opening(&self) -> broadcast::Receiver<News> {
        let opening = samara_protocol::sync::lock(&self.inner.opening).take();
        opening.unwrap_or_else(|| self.news())
    }

    /// Tells whoever listens to this renter's news.
    pub fn announce(&self, news: News) {
        // Nobody has to listen.
        let _ = self.inner.news.send(news);
    }

    /// What it takes to bring all names back, and so many bytes of files in so many pieces.
    pub async fn estimate_recovery(&self, bytes: u64, pieces: u64) -> RecoveryEstimate {
        self.inner.backups.estimate_recovery(bytes, pieces).await
    }

    /// All backups, oldest first.
    #[must_use]
    pub fn backups(&self) -> Vec<BackupRow> {
        self.user_backups().list().into_iter().map(|row| self.as_seen(row)).collect()
    }

    /// A backup, by name or id, and what is in it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup(&self, name: &str) -> Result<BackupDetail, BackupError> {
        let detail = self.user_backups().show(name).await?;
        Ok(BackupDetail { row: self.as_seen(detail.row.clone()), ..detail })
    }

    /// The files that two backups do not both list with the same contents: of one vault, or of all. Only
    /// what differs is read.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn compare_backups(
        &self,
        before: &str,
        after: &str,
        vault: Option<&str>,
    ) -> Result<BackupDifference, BackupError> {
        self.user_backups().compare(before, after, vault).await
    }

    /// Restores all of a backup or a part of it.
    ///
    /// # Errors
    /// [`BackupError`]; single files that fail are in the report instead.
    pub async fn restore_backup(
        &self,
        request: RestoreRequest,
        progress: &dyn Progress,
    ) -> Result<RestoreReport, BackupError> {
        self.user_backups().restore(&request, progress).await
    }

    /// Reads a backup back from the hosts, as far as is asked, and says what is wrong and what to do. May be
    /// dropped at any moment.
    ///
    /// # Errors
    /// [`BackupError`]; what is wrong with the backup is in the report instead.
    pub async fn verify_backup(
        &self,
        name: &str,
        options: &VerifyOptions,
        progress: &dyn Progress,
    ) -> Result<VerifyReport, BackupError> {
        self.user_backups().verify(name, options, progress).await
    }

    /// Gives a backup up.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn delete_backup(&self, name: &str) -> Result<(), BackupError> {
        self.user_backups().delete(name, "it was deleted").await
    }

    /// Writes a vault with its whole history into an archive, as it is acknowledged now. May be dropped at
    /// any moment: then nothing remains.
    ///
    /// # Errors
    /// [`ExportError`]; nothing remains then either.
    pub async fn export_vault(
        &self,
        request: ExportRequest,
        progress: &dyn Progress,
    ) -> Result<ExportReport, ExportError> {
        // Without its type, or the compiler cannot tell that it may move between threads.
        let export: futures::future::BoxFuture<'_, _> =
            Box::pin(self.inner.vaults.export(request, self.inner.keys.archive(), progress));
        export.await
    }

    /// Brings an archive in as a new vault, with its whole history. May be dropped at any moment: then, as
    /// after an error, nothing of it remains.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import_archive(
        &self,
        request: &ImportRequest,
        log: &dyn ImportLog,
        progress: &dyn Progress,
    ) -> Result<ImportReport, ImportError> {
        let vaults = self.user_vaults();
        // Without its type, or the compiler cannot tell that it may move between threads.
        let import: futures::future::BoxFuture<'_, _> =
            Box::pin(vaults.import(request, self.archive_key(), log, progress));
        import.await
    }

    /// The key that signs this node's archives, by which it knows them again.
    #[must_use]
    pub fn archive_key(&self) -> PublicKey {
        self.inner.keys.archive().public()
    }

    /// Brings everything back from the words, from where an earlier run stopped. May be dropped at any
    /// moment: it goes on when it is called again.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn recover(
        &self,
        options: RecoveryOptions,
        progress: &dyn Progress,
    ) -> Result<RecoveryReport, RecoveryError> {
        self.inner.recovery.check_wanted().await?;
        let _alone = self.inner.scan.yield_to_recovery().await?;
        // Without its type, or the compiler cannot tell that it may move between threads.
        let run: futures::future::BoxFuture<'_, _> =
            Box::pin(self.inner.recovery.run(options, progress));
        let report = run.await?;
        let nothing = matches!(report.outcome, RecoveryPhase::NothingFound { .. });
        if let Err(error) = self.inner.scan.hand_over().await {
            tracing::warn!(%error, "what a scan has found stays beside what was recovered");
        }
        let follow = self.inner.upkeep.follow_recovery(!nothing).await;
        if let Err(error) = follow {
            tracing::warn!(%error, "the recovered account is not in use yet");
        }
        if report.outcome == RecoveryPhase::Done {
            tracing::info!(files = report.files, position = report.position, "recovered");
        }
        Ok(report)
    }

    /// How far a recovery is.
    #[must_use]
    pub fn recovery_status(&self) -> RecoveryStatus {
        self.inner.recovery.status()
    }

    /// The epoch that the last recovery here has claimed, if it came so far. What hosts hold of that epoch
    /// is this node's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claimed_epoch(&self) -> Result<Option<String>, StoreError> {
        Ok(self.inner.recovery.claimed().await?.map(|epoch| epoch.to_string()))
    }

    /// Whether this node does not write because of its own recovery alone: hosts have promised the epoch that
    /// it claimed, and it has not come to its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waits_for_own_recovery(&self) -> Result<bool, StoreError> {
        let Inner { recovery, journal, book, .. } = self.inner.as_ref();
        let fenced = journal.status().fenced.max(book.writer().fenced());
        Ok(fenced.is_some() && recovery.is_unfinished() && fenced == recovery.claimed().await?)
    }

    /// Ends a recovery that is under way; it goes on when it is started again.
    pub fn stop_recovery(&self) {
        self.inner.recovery.stop();
    }

    /// Waits until everything made so far is acknowledged.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn confirm(&self) -> Result<(), JournalError> {
        self.inner.journal.confirm().await.map(drop)
    }

    /// Stops upkeep, repair, backups that are being made, the scan, a recovery, and the journal's owner. Later calls on clones fail with `stopped`.
    pub async fn shutdown(self) {
        let tasks = self.inner.tasks.lock().map(|mut tasks| std::mem::take(&mut *tasks));
        drop(tasks);
        self.inner.backups.stop();
        self.inner.scan.shut_down();
        self.inner.recovery.stop();
        self.inner.journal.stop().await;
    }
}
