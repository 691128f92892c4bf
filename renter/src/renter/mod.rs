//! The facade: everything that a daemon, a command line or a simulator calls.
//!
//! [`Renter::open`] resumes whatever the store says. Three states follow: a fresh node knows nothing of
//! what its words own, so it writes only after [`Renter::start_fresh`] (words that were just created
//! here) or [`Renter::recover`]; an active one writes; a read-only or fenced one reads. Shutdown:
//! [`Renter::shutdown`] stops upkeep, then the journal's owner; everything acknowledged is at the hosts,
//! everything else is on disk and is completed at the next start.

mod error;
mod lineage;
mod money;
mod outlook;
mod upkeep;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
pub use error::{OpenError, RenterError};
pub use money::transfer;
use samara_protocol::hash::TransactionId;
use samara_protocol::journal::HostIndex;
use samara_protocol::keys::KeyTree;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, Epoch, Height, Millis};

use self::lineage::Lineage;
use self::upkeep::Upkeep;
use crate::backup::{
    BackupDetail, BackupError, BackupRequest, BackupRow, BackupState, Backups, RestoreReport,
    RestoreRequest,
};
use crate::contract::{Allowance, ContractBook, Contractor, ContractorError, Writer};
use crate::journal::{HeadHost, Journal, JournalError, JournalOptions, Mode};
use crate::progress::Progress;
use crate::recovery::{
    Recovery, RecoveryError, RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryStatus,
};
use crate::rows::{
    AllowanceReport, ContractRow, HeadHostRow, HostRow, RenterState, RenterStatus, WalletRow,
};
use crate::slabs::Slabs;
use crate::transfer::{Redundancy, TransferOptions};
use crate::vault::{
    FileRow, FileStream, GetError, GetReport, GetRequest, ListOptions, ListRow, PutError,
    PutReport, PutRequest, PutStreamRequest, VaultError, VaultOptions, VaultRow, Vaults, totals,
};
use crate::world::{ReadFile, TaskHandle, World, random_bytes};

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
}

impl Default for RenterConfig {
    fn default() -> Self {
        Self {
            transfer: TransferOptions::new(Redundancy::for_hosts(8)),
            journal: JournalOptions::default(),
            vault: VaultOptions::default(),
            upkeep: Millis::seconds(10),
        }
    }
}

/// An owner's files on the network. A cheap clone; upkeep ends with the last of them.
#[derive(Clone)]
pub struct Renter(Arc<Inner>);

struct Inner {
    world: World,
    keys: Arc<KeyTree>,
    book: ContractBook,
    journal: Journal,
    vaults: Vaults,
    backups: Backups,
    recovery: Recovery,
    upkeep: Upkeep,
    task: std::sync::Mutex<Option<Box<dyn TaskHandle>>>,
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
        let writer = Writer::new(Epoch::default());
        let book = ContractBook::open(world.clone(), keys.clone(), writer).await?;
        let contractor = Contractor::open(book.clone()).await?;
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
        let backups = Backups::open(vaults.clone()).await?;
        let recovery = Recovery::open(
            world.clone(),
            keys.clone(),
            book.clone(),
            journal.clone(),
            slabs.clone(),
        )
        .await?;
        let lineage = Lineage::open(&book, &journal).await?;
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
        };
        if upkeep.contractor.allowance().is_none()
            && let Some(allowance) = upkeep.setting()
        {
            // Recovered, and not given an allowance yet: slabs are cut as the owner had wanted.
            upkeep.slabs.set_redundancy(allowance.redundancy);
        }
        let task = world.spawner.spawn("upkeep", Box::pin(upkeep.clone().run(config.upkeep)));
        let task = std::sync::Mutex::new(Some(task));
        let inner = Inner { world, keys, book, journal, vaults, backups, recovery, upkeep, task };
        Ok(Self(Arc::new(inner)))
    }

    /// Starts to write for words that were just created on this node: they own nothing, so nothing is
    /// looked for until there is a first contract. Then the chain says whether another node with the same
    /// words was first; if so, this one stops. For any other words use [`Renter::recover`].
    ///
    /// # Errors
    /// [`RenterError::Started`], [`RenterError::Recovering`].
    pub async fn start_fresh(&self) -> Result<(), RenterError> {
        if self.0.journal.status().mode != Mode::Fresh {
            return Err(RenterError::Started);
        }
        if self.0.recovery.status().running || self.0.recovery.is_unfinished() {
            return Err(RenterError::Recovering);
        }
        let store = self.0.world.store.as_ref();
        Lineage::New.save(store).await.map_err(JournalError::from)?;
        self.0.upkeep.set_lineage(Lineage::New);
        let writer = random_bytes(self.0.world.random.as_ref());
        self.0.journal.start(Epoch { counter: lineage::FIRST, writer }).await?;
        Ok(())
    }

    /// Everything at a glance.
    #[must_use]
    pub fn status(&self) -> RenterStatus {
        let journal = self.0.journal.status();
        let recovery = self.0.recovery.status();
        let unfinished = recovery.running || self.0.recovery.is_unfinished();
        let state = match (journal.fenced, journal.mode) {
            _ if unfinished => RenterState::Recovering { progress: recovery.progress },
            (Some(by), _) => RenterState::Fenced { by: by.to_string() },
            (None, Mode::Fresh) => RenterState::Fresh,
            (None, Mode::Active) => RenterState::Active,
            (None, Mode::ReadOnly) => RenterState::ReadOnly,
        };
        let halted = self.0.upkeep.halted();
        let refused = self.0.upkeep.lineage().refusal().map(|error| error.to_string());
        let (vaults, files, bytes, backups) = self.0.journal.read(|state| {
            let each = state.vaults.values().map(totals);
            let (files, bytes) =
                each.fold((0, 0u64), |(f, b), (files, bytes)| (f + files, b.saturating_add(bytes)));
            (state.vaults.len() as u64, files, bytes, state.backups.len() as u64)
        });
        let (unreachable, bare, unreadable) = self.reach();
        let (mut hosts, mut settled) = (journal.hosts.len() as u64, journal.settled as u64);
        if journal.mode == Mode::ReadOnly {
            // This node writes no heads; the recovery saw them.
            let heads = self.0.recovery.heads();
            let holds =
                |position: &Option<u64>| position.is_some_and(|at| at >= journal.acknowledged);
            hosts = heads.len() as u64;
            settled = heads.iter().filter(|position| holds(position)).count() as u64;
        }
        let outlook = self.0.upkeep.outlook();
        RenterStatus {
            state,
            epoch: journal.epoch.to_string(),
            position: journal.acknowledged,
            unacknowledged: journal.position.saturating_sub(journal.acknowledged),
            vaults,
            files,
            bytes,
            backups,
            hosts,
            head_set: journal.head_set.into_iter().map(|host| self.head_host(host)).collect(),
            settled,
            forming: outlook.forming,
            unreachable,
            ended: self.says_ended(),
            bare,
            unreadable,
            problem: refused.or(journal.problem),
            lapses: outlook.lapses(&self.0.book.live(), halted.as_deref()),
        }
    }

    /// Hosts with live contracts that say that these have ended.
    fn says_ended(&self) -> u64 {
        let reports = self.0.book.reports();
        let live = self.0.book.live();
        live.iter().filter(|contract| reports.says_ended(&contract.host())).count() as u64
    }

    /// Hosts with live contracts that do not answer, slabs in use that bear the loss of no further host,
    /// and slabs that cannot be read now.
    fn reach(&self) -> (u64, u64, u64) {
        let reports = self.0.book.reports();
        let (gone, reached): (Vec<_>, Vec<_>) = self
            .0
            .book
            .live()
            .into_iter()
            .partition(|contract| reports.health(&contract.host()).is_unreachable());
        let reached: BTreeSet<HostIndex> =
            reached.iter().map(|contract| contract.index()).collect();
        let (mut bare, mut unreadable) = (0, 0);
        self.0.journal.read(|state| {
            for slab in state.slabs.values().filter(|slab| slab.live > 0) {
                let shards = slab.record.hosts.iter().filter(|host| reached.contains(host)).count();
                match shards.cmp(&usize::from(slab.record.data)) {
                    Ordering::Less => unreadable += 1,
                    Ordering::Equal => bare += 1,
                    Ordering::Greater => {}
                }
            }
        });
        (gone.len() as u64, bare, unreadable)
    }

    /// A backup as the heads show it that a recovery read, where this node writes none.
    fn as_seen(&self, mut row: BackupRow) -> BackupRow {
        let read_only = self.0.journal.status().mode == Mode::ReadOnly;
        if read_only && row.state != BackupState::Completed {
            let heads = self.0.recovery.heads();
            let holds = |position: &&Option<u64>| position.is_some_and(|at| at >= row.position);
            row.hosts_ok = heads.iter().filter(holds).count() as u64;
            row.hosts_total = heads.len() as u64;
            row.hosts_needed = self.0.backups.needed(heads.len()) as u64;
            if row.hosts_ok >= row.hosts_needed {
                (row.state, row.problem) = (BackupState::Completed, None);
            }
        }
        row
    }

    fn head_host(&self, host: HeadHost) -> HeadHostRow {
        let key = self.0.book.host(host.index).unwrap_or_default();
        let HeadHost { position, problem, .. } = host;
        HeadHostRow { host: key.to_string(), position, problem }
    }

    /// Sets what the contractor may do, and lets it act at once. It goes on by itself.
    ///
    /// # Errors
    /// [`RenterError::Journal`] if this node may not write, [`RenterError::Contractor`].
    pub async fn set_allowance(
        &self,
        allowance: Allowance,
    ) -> Result<AllowanceReport, RenterError> {
        self.0.journal.check_writable()?;
        let upkeep = &self.0.upkeep;
        let report = upkeep.set_allowance(allowance).await?;
        upkeep.keep_setting().await;
        Ok(report)
    }

    /// What would be done under an allowance, and what it would cost; nothing is set.
    ///
    /// # Errors
    /// [`RenterError::Contractor`] for an allowance that cannot be set, or a chain that does not answer.
    pub async fn preview_allowance(
        &self,
        allowance: Allowance,
    ) -> Result<AllowanceReport, RenterError> {
        allowance.check(&self.0.world.chain.genesis().parameters).map_err(ContractorError::from)?;
        let plan = self.0.upkeep.contractor.plan_for(allowance).await?;
        let planned = plan.steps.iter().map(ToString::to_string).collect();
        Ok(AllowanceReport { planned, ..upkeep::seen(&plan) })
    }

    /// The allowance that is set.
    #[must_use]
    pub fn allowance(&self) -> Option<Allowance> {
        self.0.upkeep.contractor.allowance()
    }

    /// The allowance that the journal remembers, to be offered after a recovery.
    #[must_use]
    pub fn remembered_allowance(&self) -> Option<Allowance> {
        self.0.upkeep.setting()
    }

    /// What suits the network of this moment, for an owner who gives so much money.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn suggest_allowance(&self, funds: Amount) -> Result<Allowance, RenterError> {
        let accepting = self.accepting_hosts().await?;
        Ok(Allowance::for_network(accepting, funds, &self.0.world.chain.genesis().parameters))
    }

    /// Announced hosts that form contracts.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn accepting_hosts(&self) -> Result<usize, RenterError> {
        let announced = self.0.world.chain.announced_hosts().await?;
        Ok(announced.iter().filter(|(_, host)| host.accepting).count())
    }

    /// The table of contracts.
    #[cfg(test)]
    pub(crate) fn book(&self) -> &ContractBook {
        &self.0.book
    }

    /// Runs one round of upkeep now, instead of waiting for its time.
    pub async fn upkeep(&self) {
        self.0.upkeep.once().await;
    }

    /// All live contracts.
    #[must_use]
    pub fn contracts(&self) -> Vec<ContractRow> {
        let (outlook, halted) = (self.0.upkeep.outlook(), self.0.upkeep.halted());
        let rows = self.0.book.live().into_iter().map(|contract| {
            let revision = contract.revision().revision;
            let terms = contract.terms();
            ContractRow {
                contract: contract.id().to_string(),
                host: contract.host().to_string(),
                operator: contract.operator().to_owned(),
                bytes: revision.size,
                revision: revision.number,
                funds: terms.funds,
                spent: contract.voucher_total(),
                duration: terms.duration().0,
                period: terms.period.0,
                periods: terms.periods,
                ends: contract.ends().0,
                renewal: outlook.renewal(&contract, halted.as_deref()),
            }
        });
        rows.collect()
    }

    /// All hosts that this renter has or had contracts with.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostRow> {
        let journal = self.0.journal.status();
        let rows = self.0.book.hosts().into_iter().map(|row| {
            let health = self.0.book.reports().health(&row.host);
            let head = journal.hosts.iter().find(|host| host.index == row.index);
            HostRow {
                host: row.host.to_string(),
                operator: row.operator,
                contract: row.contract.map(|contract| contract.to_string()),
                answered: health.answered,
                failed: health.failed,
                unreachable: health.is_unreachable(),
                false_answers: health.false_answers,
                latency: health.latency,
                last_failure: health.last_failure,
                in_head_set: journal.head_set.iter().any(|host| host.index == row.index),
                head_position: head.and_then(|host| host.position),
            }
        });
        rows.collect()
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
        self.0.vaults.put(&request, progress).await
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
        self.0.vaults.put_stream(&request, source, progress).await
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
        self.0.vaults.get(&request, progress).await
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
        self.0.vaults.file(vault, path, version)
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
        self.0.vaults.read_range(vault, path, version, range).await
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
        self.0.vaults.stream_range(vault, path, version, range)
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
        self.0.vaults.list(vault, options).await
    }

    /// All vaults, ordered by name.
    #[must_use]
    pub fn vaults(&self) -> Vec<VaultRow> {
        self.0.vaults.vaults()
    }

    /// Makes a vault.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn create_vault(&self, name: &str) -> Result<VaultRow, VaultError> {
        self.0.vaults.create(name).await
    }

    /// Gives a vault another name.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn rename_vault(&self, from: &str, to: &str) -> Result<(), VaultError> {
        self.0.vaults.rename(from, to).await
    }

    /// Gives a vault and everything in it up.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn remove_vault(&self, name: &str) -> Result<(), VaultError> {
        self.0.vaults.remove_vault(name).await
    }

    /// Moves a file, or a folder with all in it; returns how many files moved.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn move_file(&self, vault: &str, from: &str, to: &str) -> Result<u64, VaultError> {
        self.0.vaults.move_file(vault, from, to).await
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
        self.0.vaults.remove(vault, path, recursive).await
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
        self.0.vaults.remove_version(vault, path, version).await
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
        self.0.backups.create(&request, progress).await
    }

    /// All backups, oldest first.
    #[must_use]
    pub fn backups(&self) -> Vec<BackupRow> {
        self.0.backups.list().into_iter().map(|row| self.as_seen(row)).collect()
    }

    /// A backup, by name or id, and what is in it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup(&self, name: &str) -> Result<BackupDetail, BackupError> {
        let detail = self.0.backups.show(name).await?;
        Ok(BackupDetail { row: self.as_seen(detail.row.clone()), ..detail })
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
        self.0.backups.restore(&request, progress).await
    }

    /// Gives a backup up.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn delete_backup(&self, name: &str) -> Result<(), BackupError> {
        self.0.backups.delete(name).await
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
        // Without its type, or the compiler cannot tell that it may move between threads.
        let run: futures::future::BoxFuture<'_, _> =
            Box::pin(self.0.recovery.run(options, progress));
        let report = run.await?;
        let nothing = matches!(report.outcome, RecoveryPhase::NothingFound { .. });
        let follow = self.0.upkeep.follow_recovery(!nothing).await;
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
        self.0.recovery.status()
    }

    /// Ends a recovery that is under way; it goes on when it is started again.
    pub fn stop_recovery(&self) {
        self.0.recovery.stop();
    }

    /// The account that pays.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn wallet(&self) -> Result<WalletRow, RenterError> {
        let index = self.0.upkeep.contractor.account();
        let key = self.0.keys.account(index).public();
        let account = self.0.world.chain.account(&key).await?;
        Ok(WalletRow {
            account: key.to_string(),
            index,
            balance: account.balance,
            nonce: account.nonce,
        })
    }

    /// Sends money; returns when a block holds the transfer.
    ///
    /// # Errors
    /// [`RenterError::Money`], [`RenterError::Chain`].
    pub async fn transfer(
        &self,
        to: PublicKey,
        amount: Amount,
    ) -> Result<(TransactionId, Height), RenterError> {
        // The contractor's transactions use the same account's numbers.
        let _turn = self.0.upkeep.contractor.turn().await;
        let key = self.0.keys.account(self.0.upkeep.contractor.account());
        transfer(self.0.world.chain.as_ref(), &key, to, amount).await
    }

    /// Waits until everything made so far is acknowledged.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn confirm(&self) -> Result<(), JournalError> {
        self.0.journal.confirm().await.map(drop)
    }

    /// Stops upkeep and the journal's owner. Later calls on clones fail with `stopped`.
    pub async fn shutdown(self) {
        let task = self.0.task.lock().ok().and_then(|mut task| task.take());
        drop(task);
        self.0.recovery.stop();
        self.0.journal.stop().await;
    }
}
