//! Verifying a backup: what the hosts have of it, and not what this machine remembers.
//!
//! ```text
//! state, root (as known) -> price -> heads, asked anew -> metadata past the copies here -> a share of the data
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `types` | what is asked and answered |
//! | `heads` | which hosts hold a head that has the backup |
//! | `data` | metadata, files and single shards read back |
//! | `archive` | the same of an archive, whose bytes are on this machine |
//!
//! Nothing is repaired here: a host that has lost something is reported to whoever looks after slabs. All
//! that is read is paid out of one budget, which is known before. The report names what is wrong; the
//! backup's record keeps that it was verified, and how it ended.

mod archive;
mod data;
mod heads;
mod types;

use std::collections::BTreeSet;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{
    Backup, BackupId, JournalState, SlabRecord, StoredFile, StoredPath,
};
use samara_protocol::tree::checkpoint::CheckpointRoot;
use samara_protocol::tree::{Limits, NodeRef};
use samara_protocol::units::Amount;
use types::ALL;
pub use types::{
    Verified, VerifyHost, VerifyOptions, VerifyProblem, VerifyProblemKind, VerifyReport,
};

use super::quote::{REQUESTS, ROUNDING};
use super::types::BackupKind;
use super::{BackupError, Backups, scoped};
use crate::checkpoint::{places, tree_bytes};
use crate::contract::Budget;
use crate::progress::Progress;
use crate::vault::Contents;
use crate::world::random_bytes;

/// What is known of a backup before anything is read of it.
struct Subject {
    backup: Backup,
    /// Its files, or why they are not known.
    contents: Result<Contents, BackupError>,
    root: Option<CheckpointRoot>,
    /// Where its metadata lies now, as far as that is known.
    metadata: Vec<SlabRecord>,
}

impl Backups {
    /// Reads a backup back from the hosts, as far as is asked, and says what is wrong. May be dropped at any
    /// moment: then nothing is noted.
    pub(crate) async fn verify(
        &self,
        name: &str,
        options: &VerifyOptions,
        progress: &dyn Progress,
    ) -> Result<VerifyReport, BackupError> {
        let id = self.find_any(name)?;
        if self.row(id)?.kind == BackupKind::Archive {
            return self.verify_archive(id, options, progress).await;
        }
        let started = self.now();
        let subject = self.subject(id).await?;
        let share = options.read_data.min(ALL);
        let price = self.price_of_verifying(&subject, share, options.every_shard).await;
        let mut report = VerifyReport {
            sid: id.to_string(),
            name: subject.backup.label.name.clone(),
            dry_run: options.dry_run,
            share,
            slabs_total: subject.contents.as_ref().map_or(0, |files| files.used.len() as u64),
            price,
            ..VerifyReport::default()
        };
        if options.dry_run {
            return Ok(report);
        }
        if let Some(most) = options.max_price.filter(|most| price > *most) {
            return Err(BackupError::TooMuch { price, most });
        }
        let _turn = self.shared.verifying.acquire().await.ok();
        let budget = Budget::new(price);
        let reading = Self { vaults: self.vaults.within(budget.clone()), ..self.clone() };
        reading.read_back(&subject, options, &budget, &mut report, progress).await?;
        report.cost = budget.spent();
        report.sound = report.problems_total == 0;
        report.elapsed = self.now().saturating_sub(started);
        self.keep_verified((id, &subject.backup), &report).await?;
        Ok(report)
    }

    /// The three parts, each as far as the budget goes.
    async fn read_back(
        &self,
        subject: &Subject,
        options: &VerifyOptions,
        budget: &Budget,
        report: &mut VerifyReport,
        progress: &dyn Progress,
    ) -> Result<(), BackupError> {
        let quoted = report.price;
        let within_budget = || match budget.is_exceeded() {
            true => Err(BackupError::QuoteExceeded { quoted }),
            false => Ok(()),
        };
        self.verify_heads(&subject.backup, report).await?;
        self.verify_metadata(&subject.backup, report, progress).await?;
        within_budget()?;
        let chosen = match &subject.contents {
            Ok(contents) => self.choose(contents, report.share),
            Err(error) => {
                report.note(data::unknown_files(error));
                BTreeSet::new()
            }
        };
        if let Ok(contents) = &subject.contents {
            self.verify_files(contents, &chosen, report, progress).await;
            within_budget()?;
        }
        if options.every_shard {
            let records = data::records(subject, &chosen);
            self.verify_shards(&records, report, progress).await;
            within_budget()?;
        }
        Ok(())
    }

    /// What is known of a backup: from here if it is, from the hosts otherwise.
    async fn subject(&self, id: BackupId) -> Result<Subject, BackupError> {
        let backup = self.with_checkpoint(&id.to_string()).await?;
        let contents = match self.state_at(&backup).await {
            Ok(state) => Ok(self.contents(&backup, &state)),
            Err(BackupError::Store(error)) => return Err(error.into()),
            Err(error) => Err(error),
        };
        let (mut root, mut metadata) = (None, Vec::new());
        if let Some(name) = &backup.checkpoint {
            let journal = &self.vaults.journal;
            let known = journal.places(name);
            metadata.extend(name.root.iter().map(|of| known.get(&of.id).unwrap_or(of).clone()));
            // What is wrong with it comes out when it is read from the hosts.
            root = journal.checkpoints().root(name, &known).await.ok();
            metadata.extend(root.iter().flat_map(|root| places(root, &known).into_values()));
        }
        Ok(Subject { backup, contents, root, metadata })
    }

    /// All versions in a backup.
    fn contents(&self, backup: &Backup, state: &JournalState) -> Contents {
        let mut files: Vec<(&str, &StoredPath, &StoredFile)> = Vec::new();
        for (_, vault) in scoped(state, backup.scope) {
            for (path, file) in &vault.files {
                let versions = file.versions.iter().map(|version| &version.file);
                files.extend(versions.map(|stored| (vault.name.as_str(), path, stored)));
            }
        }
        Contents::of(&self.vaults, state, &files)
    }

    /// A share of the slabs, drawn at random; at least one of them, unless none is asked for.
    fn choose(&self, contents: &Contents, share: u16) -> BTreeSet<SlabId> {
        let mut slabs: Vec<SlabId> = contents.used.keys().copied().collect();
        let count = wanted(slabs.len(), share);
        for place in 0..count {
            let lot = u64::from_le_bytes(random_bytes(self.vaults.world.random.as_ref()));
            let left = (slabs.len() - place) as u64;
            // Of no more than are left, so it fits.
            let other = place + usize::try_from(lot % left).unwrap_or_default();
            slabs.swap(place, other);
        }
        slabs.truncate(count);
        slabs.into_iter().collect()
    }

    /// The most that reading a backup back costs, whichever slabs are drawn.
    async fn price_of_verifying(&self, subject: &Subject, share: u16, shards: bool) -> Amount {
        let prices = self.vaults.highest_prices().await;
        let name = subject.backup.checkpoint.as_ref();
        let root = name.map_or(0, |name| u64::from(name.length).saturating_add(ROUNDING));
        let trees = subject.root.as_ref().map_or(0, tree_bytes);
        // The last node of each level need not be full.
        let edge = |node: &NodeRef| u64::from(node.level) + 1;
        let edges: u64 = subject.root.iter().flat_map(|root| root.trees.iter()).map(edge).sum();
        let nodes = trees / Limits::STORED.min() as u64 + edges + 1;
        let mut bytes = root.saturating_add(trees).saturating_add(nodes.saturating_mul(ROUNDING));
        let mut requests = nodes.saturating_mul(REQUESTS);
        let whole = |id: &SlabId, contents: &Contents| {
            let record = contents.records.get(id);
            let shape = record.map(|record| (record.column_bytes(), record.hosts.len() as u64));
            shape.map_or((0, 0), |(column, total)| (column.saturating_mul(total), total))
        };
        if let Ok(contents) = &subject.contents {
            let mut each: Vec<(u64, u64)> = Vec::new();
            for (id, used) in &contents.used {
                let count = contents.pieces.get(id).copied().unwrap_or_default();
                let (sectors, hosts) = if shards { whole(id, contents) } else { (0, 0) };
                let read = used.saturating_add(count.saturating_mul(ROUNDING));
                let asked = count.saturating_add(hosts).saturating_mul(REQUESTS);
                each.push((read.saturating_add(sectors), asked));
            }
            each.sort_unstable_by(|a, b| b.cmp(a));
            each.truncate(wanted(each.len(), share));
            for (read, asked) in each {
                bytes = bytes.saturating_add(read);
                requests = requests.saturating_add(asked);
            }
        }
        if shards {
            for record in data::records(subject, &BTreeSet::new()) {
                let total = record.hosts.len() as u64;
                bytes = bytes.saturating_add(record.column_bytes().saturating_mul(total));
                requests = requests.saturating_add(total.saturating_mul(REQUESTS));
            }
        }
        prices.of_reading(bytes, requests)
    }

    /// Notes how it ended, where lists show it.
    async fn keep_verified(
        &self,
        (id, backup): (BackupId, &Backup),
        report: &VerifyReport,
    ) -> Result<(), BackupError> {
        if self.find(&id.to_string()).is_err() {
            // It was deleted meanwhile.
            return Ok(());
        }
        if self.record(id).is_none() {
            self.enter(id, &self.record_of(backup)).await?;
        }
        self.note_verified(id, report).await
    }

    /// Writes down how it ended.
    async fn note_verified(&self, id: BackupId, report: &VerifyReport) -> Result<(), BackupError> {
        let time = self.now();
        let verified = Verified {
            time,
            chain_time: self.vaults.world.chain.time().0,
            share: report.share,
            sound: report.sound,
            problems: report.problems_total,
        };
        let text = match report.sound {
            true => "verified: nothing is wrong".to_owned(),
            false => format!("verified: {} problems", report.problems_total),
        };
        self.change(id, |record| {
            record.verified = Some(verified);
            record.note(time, text);
        })
        .await?;
        Ok(())
    }
}

/// How many of so many a share is.
fn wanted(count: usize, share: u16) -> usize {
    let share = usize::from(share.min(ALL));
    count.saturating_mul(share).div_ceil(usize::from(ALL)).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_least_one_and_at_most_all() {
        assert_eq!([wanted(10, 0), wanted(10, 1), wanted(10, 50)], [0, 1, 1]);
        assert_eq!([wanted(10, 101), wanted(10, 999), wanted(10, 5_000)], [2, 10, 10]);
        assert_eq!(wanted(0, 1_000), 0);
    }
}
