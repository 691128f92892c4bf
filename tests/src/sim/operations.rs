//! What a renter is asked to do, and what its answers mean for the model.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use samara_renter::Renter;
use samara_renter::backup::BackupRequest;
use samara_renter::progress::Silent;
use samara_renter::vault::{ListOptions, ListRow, PutRequest, PutStreamRequest};

use super::files::SimReader;
use super::machine::{Ended, Machine};
use super::model::{Content, Effect};
use super::run::{LIMIT, Run, marker_effect};
use super::trace::Fault;

/// What an operation's end means for its effects.
enum Verdict {
    Acknowledged,
    /// It was refused for what the names are; nothing happened.
    Refused,
    Doubtful,
}

/// Backups that are made before some must go; a renter may have ten.
const MOST_BACKUPS: usize = 6;
/// Codes of errors that say that nothing was changed.
const REFUSALS: [&str; 5] = ["no_vault", "not_found", "exists", "no_backup", "not_started"];

impl Run {
    /// One operation, drawn.
    pub(super) async fn operation(&mut self) {
        let Some(renter) = self.renter.clone() else { return };
        self.note_tolerance(&renter);
        let names = self.model.likely();
        let vaults: Vec<String> =
            names.vaults.keys().filter(|name| *name != "markers").cloned().collect();
        if vaults.is_empty() {
            return self.create_vault(&renter).await;
        }
        let vault = vaults[self.chance.index(vaults.len())].clone();
        let paths: Vec<String> = names.vaults[&vault].keys().cloned().collect();
        let path = (!paths.is_empty()).then(|| paths[self.chance.index(paths.len())].clone());
        let kind = self.chance.weighted(&[26, 18, 12, 8, 10, 4, 3, 2, 7, 8, 5, 10]);
        match (kind, path) {
            (0, _) => self.put_folder(&renter, vault).await,
            (2, Some(path)) => self.move_file(&renter, vault, path).await,
            (3, Some(path)) => self.remove(&renter, vault, path).await,
            (4, Some(path)) => self.read(&renter, vault, path).await,
            (5, _) => self.create_vault(&renter).await,
            (6, _) => self.rename_vault(&renter, vault).await,
            (7, _) => self.remove_vault(&renter, vault).await,
            (8, _) => self.backup(&renter).await,
            (9, _) => self.put_two(&renter, vault).await,
            // What lies in a folder must be certain to know what its removal means.
            (10, Some(path)) if self.model.doubts() == 0 && !self.restarted => {
                self.remove_folder(&renter, vault, path, &paths).await;
            }
            (11, Some(path)) => self.forget(&renter, vault, path).await,
            _ => self.put_stream(&renter, vault).await,
        }
    }

    /// Gives up a file's older versions: nothing of what is listed changes.
    async fn forget(&mut self, renter: &Renter, vault: String, path: String) {
        let options = ListOptions { versions: true, recursive: true, ..ListOptions::default() };
        let Ok(rows) = renter.list(&vault, &options).await else { return };
        let file = rows.into_iter().find_map(|row| match row {
            ListRow::File(row) if row.path == path && !row.deleted => Some(row),
            _ => None,
        });
        let Some(file) = file else { return };
        let older = file.versions.iter().filter(|row| row.version != file.version.version);
        for version in older.map(|row| row.version).collect::<Vec<_>>() {
            let what = format!("give up version {version} of {vault}/{path}");
            let work = Box::pin(renter.remove_version(&vault, &path, version));
            let (verdict, _) = self.act(&what, work, |error| error.code()).await;
            if !matches!(verdict, Verdict::Acknowledged) {
                return;
            }
        }
    }

    /// Runs an operation that may be cut, and judges its end.
    async fn act<T, E: std::fmt::Display>(
        &mut self,
        what: &str,
        operation: Pin<Box<impl Future<Output = Result<T, E>>>>,
        code: impl Fn(&E) -> &'static str,
    ) -> (Verdict, Option<T>) {
        let number = self.number;
        self.trace.event(format_args!("#{number} {what}"));
        let (mut cut_after, mut dies) = (None, false);
        match self.trouble.below(100) {
            0..8 => {
                let (point, after) = self.crash_point(30);
                self.machine.plan_crash(point, after);
            }
            8..13 => cut_after = Some(self.trouble.below(300)),
            // Wherever its tasks are at that moment.
            13..16 => (cut_after, dies) = (Some(self.trouble.below(300)), true),
            _ => {}
        }
        let machine = self.machine.clone();
        let ended = machine.attempt(cut_after, LIMIT, operation).await;
        self.machine.forget_plan();
        match ended {
            Ended::Done(Ok(value)) => {
                self.trace.event(format_args!("#{number} acknowledged"));
                (Verdict::Acknowledged, Some(value))
            }
            Ended::Done(Err(error)) => {
                let code = code(&error);
                self.trace.event(format_args!("#{number} failed: {code}: {error}"));
                let refused = REFUSALS.contains(&code);
                (if refused { Verdict::Refused } else { Verdict::Doubtful }, None)
            }
            Ended::Cancelled if !dies => {
                self.trace.fault(Fault::Cancelled, format_args!("#{number}"));
                (Verdict::Doubtful, None)
            }
            Ended::Crashed | Ended::Cancelled => {
                self.trace.fault(Fault::RenterCrashInside, format_args!("in #{number}"));
                self.die().await;
                self.reopen().await;
                (Verdict::Doubtful, None)
            }
            Ended::Hung => {
                self.trace.violation(format!("#{number} {what} does not end"));
                (Verdict::Doubtful, None)
            }
        }
    }

    /// Slabs are acknowledged by fewer hosts while there are fewer contracts.
    fn note_tolerance(&mut self, renter: &Renter) {
        let (data, margin) =
            (usize::from(self.redundancy.data), usize::from(self.redundancy.margin));
        let acknowledged_by = renter.contracts().len().min(data + margin);
        self.tolerance = self.tolerance.min(acknowledged_by.saturating_sub(data));
    }

    fn judge(&mut self, verdict: &Verdict, effect: Effect) {
        match verdict {
            Verdict::Acknowledged => self.model.acknowledge(effect),
            Verdict::Refused => {}
            Verdict::Doubtful => self.model.doubt(effect),
        }
    }

    /// As [`Run::judge`], and nothing goes on before it is certain which vaults there are.
    async fn judge_vault(&mut self, verdict: Verdict, effect: Effect) {
        let doubtful = matches!(verdict, Verdict::Doubtful);
        self.judge(&verdict, effect);
        if doubtful && self.renter.is_some() {
            self.resolve().await;
        }
    }

    /// Bytes of a file: none, few that ride in their event, more that share a slab, or many slabs.
    fn bytes(&mut self) -> Bytes {
        let most = [0, 700, 6_000, 30_000, 150_000][self.chance.weighted(&[1, 6, 8, 5, 2])];
        let length = usize::try_from(self.chance.within(most / 2, most)).unwrap_or(0);
        self.content.bytes(length).into()
    }

    fn path(&mut self) -> String {
        let folder = ["", "a/", "b/", "a/c/"][self.chance.index(4)];
        format!("{folder}f{}", self.chance.below(8))
    }

    async fn put_folder(&mut self, renter: &Renter, vault: String) {
        let source = PathBuf::from(format!("/source/{}", self.number));
        let mut effects = Vec::new();
        for _ in 0..self.chance.within(1, 3) {
            let (path, bytes) = (self.path(), self.bytes());
            self.files.put(&source.join(&path), bytes, self.number * 1_000);
        }
        for (path, bytes) in self.files.contents(&source) {
            let content = Content::of(&bytes);
            effects.push(Effect::Put { vault: vault.clone(), path, content });
        }
        let target = String::new();
        let request = PutRequest {
            source: source.clone(),
            vault,
            // A rename that was cut may not have happened; a vault made here would be one too many.
            create_vault: false,
            target,
            exclude: vec![],
            checksum: false,
        };
        let what = format!("put {} files", effects.len());
        let put = renter.put(request, &Silent);
        let (verdict, report) = self.act(&what, Box::pin(put), |error| error.code()).await;
        if let Some(report) = report {
            let kept = report.stored_files + report.unchanged_files;
            if kept != effects.len() as u64 || !report.failed.is_empty() {
                let what = format!("a put of {} files reports {report:?}", effects.len());
                self.trace.violation(what);
            }
        }
        // A refusal may come after a first batch was acknowledged.
        let verdict = if matches!(verdict, Verdict::Refused) { Verdict::Doubtful } else { verdict };
        for effect in effects {
            self.judge(&verdict, effect);
        }
        self.files.remove(&source);
    }

    async fn put_stream(&mut self, renter: &Renter, vault: String) {
        if !is_listed(renter, &vault) {
            return;
        }
        let (path, bytes) = (self.path(), self.bytes());
        let content = Content::of(&bytes);
        let request = stream_request(&vault, &path, self.number);
        let mut source = SimReader(bytes);
        let what = format!("put {} B to {vault}/{path}", content.size);
        let put = renter.put_stream(request, &mut source, &Silent);
        let (verdict, row) = self.act(&what, Box::pin(put), |error| error.code()).await;
        if let Some(row) = row.filter(|row| row.version.hash != content.hash.to_string()) {
            self.trace.violation(format!("a put of {content:?} answers {row:?}"));
        }
        let verdict = if matches!(verdict, Verdict::Refused) { Verdict::Doubtful } else { verdict };
        self.judge(&verdict, Effect::Put { vault, path, content });
    }

    /// The put during which a machine is taken over: its effect, and whether it was acknowledged.
    pub(super) fn last_words(
        &mut self,
        renter: Renter,
        machine: Arc<Machine>,
    ) -> (Effect, impl Future<Output = bool> + use<>) {
        let (path, bytes) = (self.path(), self.bytes());
        let content = Content::of(&bytes);
        let request = stream_request("markers", &path, self.number);
        let vault = "markers".to_owned();
        let put = async move {
            let mut source = SimReader(bytes);
            let put = renter.put_stream(request, &mut source, &Silent);
            matches!(machine.attempt(None, LIMIT, put).await, Ended::Done(Ok(_)))
        };
        (Effect::Put { vault, path, content }, put)
    }

    /// Two puts at once.
    async fn put_two(&mut self, renter: &Renter, vault: String) {
        if !is_listed(renter, &vault) {
            return;
        }
        let (first, second) = (self.path(), self.path());
        if first == second {
            return;
        }
        let bytes = [self.bytes(), self.bytes()];
        let effects = [(first, &bytes[0]), (second, &bytes[1])].map(|(path, bytes)| {
            let content = Content::of(bytes);
            Effect::Put { vault: vault.clone(), path, content }
        });
        let [mut one, mut two] = bytes.map(SimReader);
        let request = |effect: &Effect| match effect {
            Effect::Put { path, .. } => stream_request(&vault, path, self.number),
            _ => unreachable!("both are puts"),
        };
        let puts = futures::future::join(
            renter.put_stream(request(&effects[0]), &mut one, &Silent),
            renter.put_stream(request(&effects[1]), &mut two, &Silent),
        );
        let both = async { Ok::<_, std::convert::Infallible>(puts.await) };
        let (_, results) =
            self.act("put two at once", Box::pin(both), |never| match *never {}).await;
        let acknowledged = results.map_or([false; 2], |(one, two)| [one.is_ok(), two.is_ok()]);
        // Their order in the journal is not known, and their paths differ.
        for (effect, acknowledged) in effects.into_iter().zip(acknowledged) {
            let verdict = if acknowledged { Verdict::Acknowledged } else { Verdict::Doubtful };
            self.judge(&verdict, effect);
        }
    }

    async fn remove_folder(
        &mut self,
        renter: &Renter,
        vault: String,
        path: String,
        all: &[String],
    ) {
        let Some((folder, _)) = path.rsplit_once('/') else { return };
        let inside = format!("{folder}/");
        let paths: Vec<String> = all.iter().filter(|p| p.starts_with(&inside)).cloned().collect();
        let what = format!("remove {} files in {vault}/{folder}", paths.len());
        let work = renter.remove(&vault, folder, true);
        let (verdict, removed) = self.act(&what, Box::pin(work), |error| error.code()).await;
        if let Some(removed) = removed.filter(|removed| *removed != paths.len() as u64) {
            self.trace.violation(format!("{what} removes {removed}"));
        }
        self.judge(&verdict, Effect::Remove { vault, paths });
    }

    async fn move_file(&mut self, renter: &Renter, vault: String, from: String) {
        let to = self.path();
        if to == from {
            return;
        }
        let what = format!("move {vault}/{from} to {to}");
        let work = renter.move_file(&vault, &from, &to);
        let (verdict, _) = self.act(&what, Box::pin(work), |error| error.code()).await;
        self.judge(&verdict, Effect::Move { vault, from, to });
    }

    async fn remove(&mut self, renter: &Renter, vault: String, path: String) {
        let what = format!("remove {vault}/{path}");
        let (verdict, _) = self
            .act(&what, Box::pin(renter.remove(&vault, &path, false)), |error| error.code())
            .await;
        self.judge(&verdict, Effect::Remove { vault, paths: vec![path] });
    }

    async fn read(&mut self, renter: &Renter, vault: String, path: String) {
        let Ok(row) = renter.file(&vault, &path, None) else { return };
        let version = Some(row.version.version);
        let what = format!("read {vault}/{path}");
        let range = 0..row.version.size;
        let read = renter.read_range(&vault, &path, version, range);
        let (_, bytes) = self.act(&what, Box::pin(read), |error| error.code()).await;
        if let Some(bytes) = bytes
            && blake3::hash(&bytes).to_string() != row.version.hash
        {
            self.trace.violation(format!("{what} gives other bytes than were put"));
        }
    }

    async fn create_vault(&mut self, renter: &Renter) {
        let name = format!("vault {}", self.number);
        let (verdict, _) =
            self.act(&name, Box::pin(renter.create_vault(&name)), |error| error.code()).await;
        self.judge_vault(verdict, Effect::CreateVault(name)).await;
    }

    async fn rename_vault(&mut self, renter: &Renter, from: String) {
        let to = format!("renamed {}", self.number);
        let what = format!("rename {from} to {to}");
        let work = renter.rename_vault(&from, &to);
        let (verdict, _) = self.act(&what, Box::pin(work), |error| error.code()).await;
        self.judge_vault(verdict, Effect::RenameVault(from, to)).await;
    }

    async fn remove_vault(&mut self, renter: &Renter, name: String) {
        let what = format!("remove {name}");
        let (verdict, _) =
            self.act(&what, Box::pin(renter.remove_vault(&name)), |error| error.code()).await;
        self.judge_vault(verdict, Effect::RemoveVault(name)).await;
    }

    async fn backup(&mut self, renter: &Renter) {
        let names: Vec<String> = self.model.likely().backups.into_iter().collect();
        if names.len() >= MOST_BACKUPS || !names.is_empty() && self.chance.per_mille(300) {
            let name = names[self.chance.index(names.len())].clone();
            let what = format!("delete {name}");
            let (verdict, _) =
                self.act(&what, Box::pin(renter.delete_backup(&name)), |error| error.code()).await;
            return self.judge(&verdict, Effect::DeleteBackup(name));
        }
        let name = format!("backup {}", self.number);
        let request = BackupRequest { name: name.clone(), ..BackupRequest::default() };
        let work = renter.create_backup(request, &Silent);
        let certain = (self.model.doubts() == 0).then(|| self.model.likely().vaults);
        let (verdict, _) = self.act(&name, Box::pin(work), |error| error.code()).await;
        if let (Verdict::Acknowledged, Some(vaults)) = (&verdict, certain) {
            self.shown.insert(name.clone(), vaults);
        }
        self.judge(&verdict, Effect::CreateBackup(name));
    }

    /// Puts a small file, whose acknowledgement says that all before is acknowledged too.
    pub(super) async fn marker(&mut self) -> Result<(), String> {
        let Some(renter) = self.renter.clone() else { return Err("there is no renter".into()) };
        let (content, bytes) = self.marker_bytes();
        let mut source = SimReader(bytes);
        let put = renter.put_stream(
            stream_request("markers", "marker", self.number),
            &mut source,
            &Silent,
        );
        match self.machine.clone().attempt(None, LIMIT, put).await {
            Ended::Done(Ok(_)) => {
                self.doubt_vault("markers");
                self.model.acknowledge(marker_effect(content));
                Ok(())
            }
            Ended::Done(Err(error)) => Err(error.to_string()),
            _ => Err("it does not end".into()),
        }
    }

    fn marker_bytes(&self) -> (Content, Bytes) {
        let bytes = Bytes::from(format!("marker {}", self.number));
        (Content::of(&bytes), bytes)
    }

    /// A marker may have been put.
    pub(super) fn doubt_marker(&mut self) {
        self.doubt_vault("markers");
        let (content, _) = self.marker_bytes();
        self.model.doubt(marker_effect(content));
    }

    /// A put may make its vault.
    fn doubt_vault(&mut self, name: &str) {
        if !self.model.likely().vaults.contains_key(name) {
            self.model.doubt(Effect::CreateVault(name.to_owned()));
        }
    }
}

/// Whether the renter has the vault. A stream makes the one that it names: after a rename that was cut,
/// one too many for the model.
fn is_listed(renter: &Renter, vault: &str) -> bool {
    renter.vaults().iter().any(|row| row.name == vault)
}

fn stream_request(vault: &str, path: &str, number: u64) -> PutStreamRequest {
    PutStreamRequest {
        vault: vault.to_owned(),
        create_vault: true,
        path: path.to_owned(),
        modified: Some(number * 1_000),
        executable: false,
    }
}
