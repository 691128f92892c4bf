//! The work of a restore.

use samara_renter::archive::{
    Admission, ArchiveLimits, ArchivedUser, ImportLog, ImportReport, ImportRequest, Passphrase,
    Signer,
};
use samara_renter::backup::{JobProblem, JobProgress, RestoreRequest};
use samara_renter::progress::{Phase, ProgressEvent, Unit};

use super::error::RestoreError;
use super::job::{NewRestore, Opening, Restore, RestorePhase, RestoreSource, Restored};
use super::state::RestoreStep;
use super::{Restores, Running, complete, fail};
use crate::causes;
use crate::fetch::{Fetcher, Limits};
use crate::notify::{About, Counts, News, Problem, Work};

/// What an import tells goes into the restore's log.
struct Told<'a> {
    restores: &'a Restores,
    id: &'a str,
    owner: Option<samara_protocol::journal::UserId>,
}

impl ImportLog for Told<'_> {
    fn say(&self, text: String) {
        self.restores.keep(self.id, |job, now| job.say(now, text));
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
        match outcome {
            Ok(restored) => self.keep(id, |job, now| complete(job, now, restored)),
            Err(error) => {
                let message = causes::with_causes(&error);
                self.keep(id, |job, now| fail(job, now, error.code(), &message));
            }
        }
        let uploaded = self.show(id).is_ok_and(|job| job.source == RestoreSource::Upload);
        // One that was sent cannot be had again.
        if !(may_resume && uploaded) {
            self.remove_archive(id);
        }
        self.tell(id, "ended").await;
    }

    /// Tells people how far a restore is.
    async fn tell(&self, id: &str, what: &str) {
        let Ok(job) = self.show(id) else { return };
        self.0.notices.job(&job);
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
        let job = self.change(id, |job, now| {
            if let Some(state) = job.state.after(RestoreStep::Start) {
                job.state = state;
            }
            job.say(now, "started".to_owned());
        })?;
        let job = job.ok_or_else(|| RestoreError::Unknown(id.to_owned()))?;
        self.tell(id, "started").await;
        let source = match &job.source {
            RestoreSource::Backup(request) => return self.bring_back(&job, request).await,
            RestoreSource::Path(path) => path.clone(),
            RestoreSource::Upload => self.archive_path(id),
            RestoreSource::Url(url) => {
                self.fetch(id, url).await?;
                self.archive_path(id)
            }
        };
        self.phase(id, RestorePhase::Restoring);
        let passphrase = self.running().get_mut(id).and_then(|running| running.passphrase.take());
        let request = ImportRequest {
            source,
            name: job.name.clone(),
            passphrase,
            limits: ArchiveLimits::default(),
            max_cost: job.max_cost,
            announced: job.announced.map(|counts| (counts.events, counts.files)),
            dry_run: false,
        };
        let told = Told { restores: self, id, owner: job.created_by };
        let progress = |event: ProgressEvent| self.advance(id, &event);
        let renter = self.0.renter.acting(job.created_by);
        let report = renter.import_archive(&request, &told, &progress).await?;
        Ok(Restored::of(report))
    }

    /// Looks at an archive of this machine, or one that was sent, and says what restoring it takes.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub async fn look(&self, id: &str, new: &NewRestore) -> Result<Restored, RestoreError> {
        let source = match &new.source {
            RestoreSource::Path(path) => path.clone(),
            RestoreSource::Upload => self.archive_path(id),
            RestoreSource::Url(url) => {
                self.fetch(id, url).await?;
                self.archive_path(id)
            }
            RestoreSource::Backup(request) => {
                let request = RestoreRequest { dry_run: true, ..request.as_ref().clone() };
                let silent = samara_renter::progress::Silent;
                let report = self.0.renter.restore_backup(request, &silent).await?;
                return Ok(Restored::from_backup(&report));
            }
        };
        let request = ImportRequest {
            source,
            name: new.name.clone(),
            passphrase: new.passphrase.clone(),
            limits: ArchiveLimits::default(),
            max_cost: None,
            announced: new.announced.map(|counts| (counts.events, counts.files)),
            dry_run: true,
        };
        let told = Told { restores: self, id, owner: None };
        let silent = samara_renter::progress::Silent;
        let looked = self.0.renter.import_archive(&request, &told, &silent).await;
        self.remove_archive(id);
        Ok(Restored::of(looked?))
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
        self.keep(id, |job, now| job.say(now, format!("{} bytes fetched", fetched.bytes)));
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
            self.change(id, |job, _| job.opening = Some(opening))
        };
        // What is not written down could be called a failure after a crash.
        changed.is_ok()
    }

    /// What a restore has brought back whose vault is opened, whatever its own end says.
    pub(super) fn opened(&self, id: &str) -> Option<Restored> {
        let Opening { vault, restored } = self.show(id).ok()?.opening?;
        let vaults = self.0.renter.vaults();
        vaults.iter().any(|row| row.id == vault).then_some(restored)
    }

    fn phase(&self, id: &str, phase: RestorePhase) {
        self.keep(id, |job, _| (job.phase, job.progress) = (Some(phase), None));
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
