//! The work of a restore.

use std::path::PathBuf;
use std::time::Duration;

use samara_renter::archive::{
    Admission, ArchiveLimits, ArchivedUser, ImportLog, ImportReport, ImportRequest, Passphrase,
    Signer,
};
use samara_renter::backup::{JobProblem, JobProgress, RestoreRequest};
use samara_renter::progress::{Phase, ProgressEvent, Unit};

use super::error::RestoreError;
use super::job::{NewRestore, Opening, Restore, RestorePhase, RestoreSource, Restored};
use super::state::{RestoreState, RestoreStep};
use super::{Restores, Running, complete, fail};
use crate::causes;
use crate::fetch::{Fetcher, Limits};
use crate::notify::{About, Counts, News, Problem, Work};

/// Time between two looks whether hosts hold what is on its way.
const AGAIN: Duration = Duration::from_secs(5);

/// What an import tells goes into the restore's log.
struct Told<'a> {
    restores: &'a Restores,
    id: &'a str,
    owner: Option<samara_protocol::journal::UserId>,
}

impl ImportLog for Told<'_> {
    fn say(&self, text: String) {
        self.restores.0.kept.note(self.id, |job, now| job.say(now, text));
    }

    fn admit(&self, users: &[ArchivedUser]) -> Admission {
        let (users, settings) = self.restores.0.access.newcomers(users);
        if !settings.is_empty() {
            let count = settings.len();
            self.say(format!(
                "{count} users come with it; they may do nothing until an administrator admits them"
            ));
        }
        Admission { owner: self.owner, users, settings }
    }

    fn opening(&self, report: &ImportReport) -> bool {
        self.restores.opening(self.id, report)
    }
}

impl Restores {
    /// Works on a restore in the background.
    pub(super) fn start(&self, id: &str, passphrase: Option<Passphrase>) {
        let cancel = self.0.stop.child_token();
        let running = Running { cancel: cancel.clone(), passphrase };
        self.running().insert(id.to_owned(), running);
        let (restores, id) = (self.clone(), id.to_owned());
        self.0.tasks.spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(RestoreError::Cancelled),
                outcome = restores.run(&id) => outcome,
            };
            restores.end(&id, outcome).await;
        });
    }

    /// Notes how a restore has ended.
    async fn end(&self, id: &str, outcome: Result<Restored, RestoreError>) {
        self.running().remove(id);
        let stopping = self.0.stop.is_cancelled();
        if stopping && outcome.is_err() {
            // The next start finds it interrupted.
            return;
        }
        let outcome = outcome.or_else(|error| self.opened(id).ok_or(error));
        let may_resume = matches!(&outcome, Err(error) if error.code() != "cancelled");
        let uploaded = self.show(id).is_ok_and(|job| job.source == RestoreSource::Upload);
        // One that was sent cannot be had again. Removed before the end is noted: from then on it may be
        // resumed, and has another.
        if !(may_resume && uploaded) {
            self.remove_archive(id);
        }
        let kept = &self.0.kept;
        match outcome {
            Ok(restored) => kept.note(id, |job, now| complete(job, now, restored)),
            Err(error) => {
                let message = causes::with_causes(&error);
                kept.note(id, |job, now| fail(job, now, error.code(), &message));
            }
        }
        self.tell(id, "ended").await;
    }

    /// Tells people how far a restore is.
    async fn tell(&self, id: &str, what: &str) {
        let Ok(job) = self.show(id) else { return };
        self.0.notices.job(&job.event());
        let vault = job.restored.as_ref().and_then(|restored| restored.vault.clone());
        let name = vault.or(job.name).unwrap_or_else(|| id.to_owned());
        let (work, about) = (Work::Restore, About { sid: id.to_owned(), name });
        let news = match (&job.restored, &job.error) {
            (_, Some(error)) => {
                let JobProblem { code, message, retryable } = error.clone();
                News::Failed { work, about, problem: Problem { code, message, retryable } }
            }
            (Some(restored), None) => {
                let counts = Counts { files: restored.files, bytes: restored.bytes };
                News::Completed { work, about, counts, link: None }
            }
            (None, None) => News::Started { work, about },
        };
        let at = job.date_ended.unwrap_or_else(|| self.now());
        self.0.notices.tell(&format!("restore {id} {what} {at}"), &news).await;
    }

    async fn run(&self, id: &str) -> Result<Restored, RestoreError> {
        let _turn = self.0.turns.acquire().await;
        let start = |job: &mut Restore, now| job.say(now, "started".to_owned());
        let job = self.0.kept.step(id, RestoreStep::Start, start)?;
        self.tell(id, "started").await;
        if let RestoreSource::Backup(request) = &job.source {
            return self.bring_back(&job, request).await;
        }
        let source = self.archive(&job).await?;
        self.phase(id, RestorePhase::Restoring);
        let passphrase = self.running().get_mut(id).and_then(|running| running.passphrase.take());
        let request = import_request(&job, source, passphrase);
        let told = Told { restores: self, id, owner: job.created_by };
        let progress = |event: ProgressEvent| self.advance(id, &event);
        let renter = self.0.renter.acting(job.created_by);
        let report = renter.import_archive(&request, &told, &progress).await?;
        Ok(Restored::of(report))
    }

    /// Says what a restore would bring back, and what that takes: of a network backup, or of an archive of this
    /// machine, one that was sent, or one at an address, which is fetched for it when its turn has come. What
    /// was brought here is gone afterwards, also if the future is dropped.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub async fn look(&self, id: &str, new: &NewRestore) -> Result<Restored, RestoreError> {
        let silent = samara_renter::progress::Silent;
        if let RestoreSource::Backup(request) = &new.source {
            let request = RestoreRequest { dry_run: true, ..request.as_ref().clone() };
            let report = self.0.renter.restore_backup(request, &silent).await?;
            return Ok(Restored::from_backup(&report));
        }
        let _left = self.leftover(id);
        let _turn = self.0.turns.acquire().await;
        // It is kept nowhere.
        let job = Restore::new(id.to_owned(), RestoreState::Running, new, self.now());
        let source = self.archive(&job).await?;
        let asked = import_request(&job, source, new.passphrase.clone());
        // What it would cost is told also where that is too much.
        let request = ImportRequest { max_cost: None, dry_run: true, ..asked };
        let told = Told { restores: self, id, owner: None };
        let report = self.0.renter.import_archive(&request, &told, &silent).await?;
        Ok(Restored::of(report))
    }

    /// Where the archive of a restore lies, once it is here. Network backups have none.
    async fn archive(&self, job: &Restore) -> Result<PathBuf, RestoreError> {
        match &job.source {
            RestoreSource::Path(path) => return Ok(path.clone()),
            RestoreSource::Url(url) => self.fetch(&job.id, url).await?,
            RestoreSource::Upload | RestoreSource::Backup(_) => {}
        }
        Ok(self.archive_path(&job.id))
    }

    async fn bring_back(
        &self,
        job: &Restore,
        request: &RestoreRequest,
    ) -> Result<Restored, RestoreError> {
        self.phase(&job.id, RestorePhase::Restoring);
        let progress = |event: ProgressEvent| self.advance(&job.id, &event);
        let renter = self.0.renter.acting(job.created_by);
        let report = renter.restore_backup(request.clone(), &progress).await?;
        Ok(Restored::from_backup(&report))
    }

    async fn fetch(&self, id: &str, url: &str) -> Result<(), RestoreError> {
        self.phase(id, RestorePhase::Fetching);
        let limits = Limits { bytes: ArchiveLimits::default().total, ..Limits::default() };
        let fetcher = Fetcher::new(&self.0.networks).with_limits(limits);
        let progress = |done: u64, total: Option<u64>| {
            let (phase, unit, seconds_left) = (Phase::Restoring, Unit::Bytes, None);
            self.show_progress(id, JobProgress { phase, done, total, unit, seconds_left });
        };
        // One that an earlier attempt has left is fetched again.
        self.remove_archive(id);
        let fetched = fetcher.fetch(url, &self.archive_path(id), &progress).await?;
        self.0.kept.note(id, |job, now| job.say(now, format!("{} bytes fetched", fetched.bytes)));
        Ok(())
    }

    /// Notes that a vault is about to be opened, unless its restore is being cancelled. From here on it cannot
    /// be.
    fn opening(&self, id: &str, report: &ImportReport) -> bool {
        let Some(vault) = report.id else { return false };
        let opening = Opening { vault: vault.to_string(), restored: Restored::of(report.clone()) };
        let changed = {
            let running = self.running();
            if running.get(id).is_none_or(|running| running.cancel.is_cancelled()) {
                return false;
            }
            self.0.kept.change(id, |job, _| job.opening = Some(opening))
        };
        // What is not written down could be called a failure after a crash.
        changed.is_ok()
    }

    /// Ends a restore whose vault was about to be opened when the node was stopped: the entry that opens it
    /// may be on its way to the hosts, and only then is it known whether the restore was done.
    pub(super) fn find_out(&self, id: String) {
        let restores = self.clone();
        self.0.tasks.spawn(async move {
            let stop = restores.0.stop.clone();
            if stop.run_until_cancelled(restores.settled()).await.is_some() {
                restores.end(&id, Err(RestoreError::Interrupted)).await;
            }
        });
    }

    /// Waits until nothing is on its way that the journal could still come to name.
    async fn settled(&self) {
        while let Err(error) = self.0.renter.confirm().await {
            // A node that does not write has nothing on its way.
            if !matches!(error.code(), "no_quorum" | "no_hosts" | "heads_full") {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What a restore has brought back whose vault is opened, whatever its own end says.
    pub(super) fn opened(&self, id: &str) -> Option<Restored> {
        let Opening { vault, restored } = self.show(id).ok()?.opening?;
        let vaults = self.0.renter.vaults();
        vaults.iter().any(|row| row.id == vault).then_some(restored)
    }

    fn phase(&self, id: &str, phase: RestorePhase) {
        self.0.kept.note(id, |job, _| (job.phase, job.progress) = (Some(phase), None));
    }

    fn advance(&self, id: &str, event: &ProgressEvent) {
        if let Some(progress) = JobProgress::of(event) {
            self.show_progress(id, progress);
        }
    }

    /// Progress is shown and not kept.
    fn show_progress(&self, id: &str, progress: JobProgress) {
        if let Some(job) = self.jobs().get_mut(id) {
            job.progress = Some(progress);
        }
    }
}

/// What is asked of the renter for an archive.
fn import_request(job: &Restore, source: PathBuf, passphrase: Option<Passphrase>) -> ImportRequest {
    ImportRequest {
        source,
        name: job.name.clone(),
        passphrase,
        limits: ArchiveLimits::default(),
        max_cost: job.max_cost,
        announced: job.announced.map(|counts| (counts.events, counts.files)),
        dry_run: false,
    }
}

impl Restored {
    fn of(report: ImportReport) -> Self {
        let counts = report.counts;
        Self {
            vault: Some(report.name),
            archived_as: Some(report.vault.name),
            events: counts.events,
            versions: counts.versions,
            files: counts.files,
            bytes: counts.bytes,
            users: counts.users,
            shared_bytes: report.shared_bytes,
            stored_bytes: report.stored_bytes,
            price: report.price,
            cost: report.cost,
            signed_here: report.signer == Signer::Ours,
            left_out: 0,
        }
    }

    fn from_backup(report: &samara_renter::backup::RestoreReport) -> Self {
        let files = &report.files;
        Self {
            files: files.restored_files.saturating_add(report.relisted_files),
            bytes: files.restored_bytes,
            left_out: (files.failed.len() + files.kept.len() + report.relisting_kept.len()) as u64,
            ..Self::default()
        }
    }
}
