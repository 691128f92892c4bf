//! Metadata, files and single shards, read back from the hosts.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::{Backup, SlabRecord};
use samara_protocol::signature::PublicKey;

use super::Subject;
use super::types::{VerifyHost, VerifyProblem, VerifyProblemKind, VerifyReport};
use crate::backup::{BackupError, Backups};
use crate::checkpoint::CheckpointError;
use crate::contract::ContractError;
use crate::journal::JournalError;
use crate::progress::{Meter, Phase, Progress, Unit};
use crate::transfer::{DownloadError, SlabClass};
use crate::vault::{BadFile, Contents, GetError};

/// What to do where metadata is gone.
const NAMES: &str = "if hosts do not answer, verify again when they do (`samara hosts`); otherwise make another backup \
     with `samara backup create`: metadata that is lost is written anew";
/// What to do where a file is gone.
const FILE: &str = "if hosts do not answer, verify again when they do (`samara hosts`); if you still have the file, put it \
     again; `samara health` shows what repair does";
/// What to do where a shard is gone.
const SHARD: &str = "nothing, as long as its host comes back or repair replaces the shard: `samara health` shows it";

impl Backups {
    /// Reads the root and all nodes that the backup's scope needs.
    pub(super) async fn verify_metadata(
        &self,
        backup: &Backup,
        report: &mut VerifyReport,
        progress: &dyn Progress,
    ) -> Result<(), BackupError> {
        let Some(name) = &backup.checkpoint else { return Ok(()) };
        let (journal, now) = (&self.vaults.journal, self.now());
        let mut meter = Meter::new(progress, Phase::VerifyingNames, Unit::Bytes, None, now);
        meter.report(None, now);
        let known = journal.places(name);
        let hosts = self.vaults.slabs.downloader(SlabClass::Metadata);
        let check = journal.checkpoints().check(name, &known, backup.scope, &hosts, &mut meter);
        let checked = check.await.map_err(JournalError::from)?;
        report.nodes = checked.nodes;
        report.node_bytes = checked.bytes;
        report.note_untold(checked.failed.saturating_sub(checked.failures.len() as u64));
        for (slab, error) in checked.failures {
            report.note(VerifyProblem {
                kind: VerifyProblemKind::Metadata,
                file: None,
                slab: slab.map(|slab| slab.to_string()),
                hosts: match &error {
                    CheckpointError::Download { source, .. } => missing(source),
                    _ => Vec::new(),
                },
                message: error.to_string(),
                advice: NAMES.to_owned(),
            });
        }
        Ok(())
    }

    /// Reads what files have in the chosen slabs.
    pub(super) async fn verify_files(
        &self,
        contents: &Contents,
        chosen: &BTreeSet<SlabId>,
        report: &mut VerifyReport,
        progress: &dyn Progress,
    ) {
        let total = chosen.iter().filter_map(|slab| contents.used.get(slab)).sum();
        let meter =
            Meter::new(progress, Phase::VerifyingData, Unit::Bytes, Some(total), self.now());
        let checked = self.vaults.check(contents, chosen, meter).await;
        report.slabs = chosen.len() as u64;
        report.slab_bytes = checked.bytes;
        report.files = checked.whole;
        report.note_untold(checked.failed.saturating_sub(checked.bad.len() as u64));
        for BadFile { vault, path, error } in checked.bad {
            let (slab, hosts) = match &error {
                GetError::Download { source, .. } => (Some(slab_of(source)), missing(source)),
                GetError::UnknownSlab { slab, .. } => (Some(slab.clone()), Vec::new()),
                _ => (None, Vec::new()),
            };
            report.note(VerifyProblem {
                kind: VerifyProblemKind::File,
                file: Some(format!("{vault}/{path}")),
                slab,
                hosts,
                message: error.to_string(),
                advice: FILE.to_owned(),
            });
        }
    }

    /// Reads every shard of some slabs whole, each from its own host and no other.
    pub(super) async fn verify_shards(
        &self,
        records: &[SlabRecord],
        report: &mut VerifyReport,
        progress: &dyn Progress,
    ) {
        let bytes =
            |record: &SlabRecord| record.column_bytes().saturating_mul(record.hosts.len() as u64);
        let total = records.iter().map(bytes).fold(0, u64::saturating_add);
        let mut meter =
            Meter::new(progress, Phase::VerifyingData, Unit::Bytes, Some(total), self.now());
        for record in records {
            self.verify_slab(record, report).await;
            meter.done = meter.done.saturating_add(bytes(record));
            meter.report(None, self.now());
        }
    }

    async fn verify_slab(&self, record: &SlabRecord, report: &mut VerifyReport) {
        let downloader = self.vaults.slabs.downloader(SlabClass::Data);
        let problem = |hosts, message: String| VerifyProblem {
            kind: VerifyProblemKind::Shard,
            file: None,
            slab: Some(record.id.to_string()),
            hosts,
            message,
            advice: SHARD.to_owned(),
        };
        let descriptor = match downloader.slab_descriptor(record).await {
            Ok(descriptor) => descriptor,
            Err(error) => return report.note(problem(missing(&error), error.to_string())),
        };
        let size = descriptor.geometry.column();
        // Whole sectors are here at one time, so there must be room for them.
        let room = record.column_bytes().saturating_mul(record.hosts.len() as u64);
        let Some(_room) = downloader.room(room).await else { return };
        let mut reads = Vec::new();
        for (index, shard) in record.hosts.iter().zip(&descriptor.shards) {
            let book = self.vaults.slabs.paying_book();
            let (host, root) = (book.host(*index).unwrap_or(shard.host), shard.root);
            let contract = book.contract(*index);
            reads.push(async move {
                let Some(contract) = contract else {
                    return (host, Err("it has no live contract".to_owned()));
                };
                let read = contract.read(root, size, 0..size.bytes()).await;
                if read.as_ref().is_err_and(ContractError::is_loss) {
                    // Whoever looks after slabs looks closer.
                    contract.link().reports().suspect(record.id, &host);
                }
                (host, read.map(drop).map_err(|error| error.to_string()))
            });
        }
        for (host, read) in join_all(reads).await {
            match read {
                Ok(()) => report.shards += 1,
                Err(reason) => {
                    let message =
                        format!("host {} does not give its shard: {reason}", host.short());
                    report.note(problem(vec![row(Some(host), reason)], message));
                }
            }
        }
    }
}

/// Where the slabs lie of which every shard is read: those with the backup's metadata, and chosen ones.
pub(super) fn records(subject: &Subject, chosen: &BTreeSet<SlabId>) -> Vec<SlabRecord> {
    let files = subject.contents.iter().flat_map(|contents| {
        contents.records.iter().filter(|(id, _)| chosen.contains(*id)).map(|(_, record)| record)
    });
    let all = subject.metadata.iter().chain(files).map(|record| (record.id, record.clone()));
    all.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Where not even the list of files can be had.
pub(super) fn unknown_files(error: &BackupError) -> VerifyProblem {
    VerifyProblem {
        kind: VerifyProblemKind::Metadata,
        file: None,
        slab: None,
        hosts: Vec::new(),
        message: format!("its files are not known, so none was read: {error}"),
        advice: NAMES.to_owned(),
    }
}

fn row(host: Option<PublicKey>, reason: String) -> VerifyHost {
    VerifyHost { host: host.map(|host| host.to_string()), reason }
}

fn missing(error: &DownloadError) -> Vec<VerifyHost> {
    match error {
        DownloadError::TooFewHosts { missing, .. }
        | DownloadError::NoDescriptor { missing, .. } => {
            missing.iter().map(|(host, reason)| row(*host, reason.clone())).collect()
        }
        _ => Vec::new(),
    }
}

fn slab_of(error: &DownloadError) -> String {
    match error {
        DownloadError::TooFewHosts { slab, .. }
        | DownloadError::NoDescriptor { slab, .. }
        | DownloadError::Malformed { slab, .. }
        | DownloadError::Stopped { slab }
        | DownloadError::Range { slab, .. } => slab.to_string(),
    }
}
