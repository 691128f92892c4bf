//! One drill, from its first to its last step.

use std::path::Path;
use std::sync::{Arc, Mutex};

use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use samara_renter::contract::Budget;
use samara_renter::progress::{Phase, Progress, ProgressEvent, Silent, Unit};
use samara_renter::recovery::{RecoveryOptions, RecoveryPhase};
use samara_renter::vault::{Conflict, GetRequest};
use samara_renter::world::{Clock as _, Compute as _, Randomness as _, World};
use samara_renter::{Renter, RenterConfig};

use super::error::DrillError;
use super::names::{Content, Name, Names, compare};
use super::types::{DrillOptions, DrillPhase, DrillReport, Unreadable};
use super::{DrillParts, clear};
use crate::data::make_private_folder;
use crate::world::{DiskFiles, DiskStore, NetworkHosts, OsRandomness, SystemClock};

/// All files, in per mille.
const ALL: u64 = 1_000;
/// Bytes that a database takes at least, and that are left to others on the disk.
const SPARE: u64 = 64 << 20;
/// Bytes that are asked for at once, at most: a file is read in so many pieces.
const PIECE: u64 = 8 << 20;
/// The second renter does nothing by itself.
const NEVER: Millis = Millis::hours(1_000_000);

/// A drill under way.
pub(super) struct Run<'a> {
    pub(super) parts: &'a DrillParts,
    /// A folder that is gone afterwards.
    pub(super) work: &'a Path,
    pub(super) options: DrillOptions,
}

/// Notes when each phase began, and passes progress on.
struct Stopwatch<'a> {
    inner: &'a dyn Progress,
    phases: Mutex<Vec<(Phase, u64)>>,
}

impl Stopwatch<'_> {
    fn enter(&self, phase: Phase) {
        let mut phases = lock(&self.phases);
        if phases.last().is_none_or(|(last, _)| *last != phase) {
            phases.push((phase, SystemClock.now()));
        }
    }

    /// The phases and how long each took; the last one ends now.
    fn read(&self) -> Vec<DrillPhase> {
        let phases = lock(&self.phases);
        let ends = phases.iter().skip(1).map(|(_, began)| *began).chain([SystemClock.now()]);
        let took = |((phase, began), end): (&(Phase, u64), u64)| DrillPhase {
            phase: *phase,
            took: end.saturating_sub(*began),
        };
        phases.iter().zip(ends).map(took).collect()
    }
}

impl Progress for Stopwatch<'_> {
    fn report(&self, event: ProgressEvent) {
        if let ProgressEvent::Advanced { phase, .. } = &event {
            self.enter(*phase);
        }
        self.inner.report(event);
    }
}

impl Run<'_> {
    /// Everything: what is found goes into the report, also where a step fails.
    pub(super) async fn steps(
        &self,
        report: &mut DrillReport,
        progress: &dyn Progress,
    ) -> Result<(), DrillError> {
        let before = Names::of(&self.parts.renter).await?;
        let chosen = choose(&before, self.options.share);
        let budget = self.afford(&chosen, report).await?;
        clear(self.work)?;
        make_private_folder(self.work).map_err(DrillError::file("make the folder", self.work))?;
        let stopwatch = Stopwatch { inner: progress, phases: Mutex::default() };
        let second = self.second(budget.clone()).await?;
        let outcome = self.bring_back(&second, &before, &chosen, report, &stopwatch).await;
        second.shutdown().await;
        report.row.cost = budget.spent();
        report.phases = stopwatch.read();
        outcome
    }

    /// Checks price and room before anything is done.
    async fn afford(
        &self,
        chosen: &[(&Name, &Content)],
        report: &mut DrillReport,
    ) -> Result<Budget, DrillError> {
        let sizes = || chosen.iter().map(|(_, content)| content.size);
        let bytes = sizes().fold(0, u64::saturating_add);
        let pieces = sizes().map(|size| size / PIECE + 1).fold(0, u64::saturating_add);
        let estimate = self.parts.renter.estimate_recovery(bytes, pieces).await;
        report.row.price = estimate.price;
        if let Some(most) = self.options.max_price.filter(|most| estimate.price > *most) {
            return Err(DrillError::Price { price: estimate.price, most });
        }
        // Names are in the database as nodes and as entries; of files, one is here at a time.
        let largest = sizes().max().unwrap_or_default();
        let needed = estimate.names.saturating_mul(4).saturating_add(largest).saturating_add(SPARE);
        let folder = &self.parts.folder;
        let disk = rustix::fs::statvfs(folder)
            .map_err(|error| DrillError::file("look at the disk of", folder)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < needed {
            return Err(DrillError::Disk { folder: folder.clone(), needed, free });
        }
        Ok(Budget::new(estimate.price))
    }

    /// A renter that knows nothing but the words.
    async fn second(&self, budget: Budget) -> Result<Renter, DrillError> {
        let parts = self.parts;
        let world = World {
            chain: Arc::new(parts.light.clone()),
            hosts: Arc::new(NetworkHosts::new(parts.transport.clone(), parts.light.clone())),
            store: Arc::new(DiskStore::open(&self.work.join("renter.redb"))?),
            files: Arc::new(DiskFiles),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandomness),
            spawner: Arc::new(parts.spawner.clone()),
            compute: Arc::new(parts.spawner.compute()),
        };
        let config = idle(parts.config);
        Ok(Renter::open_within(world, parts.keys.clone(), config, Some(budget)).await?)
    }

    /// Recovers into the second renter, and compares.
    async fn bring_back(
        &self,
        second: &Renter,
        before: &Names,
        chosen: &[(&Name, &Content)],
        report: &mut DrillReport,
        progress: &Stopwatch<'_>,
    ) -> Result<(), DrillError> {
        let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
        let found = second.recover(options, progress).await?;
        report.position = found.position;
        report.blocks = found.blocks;
        report.contracts = found.contracts_live;
        report.hosts = found.hosts_answered.len() as u64;
        report.may_be_missing = found.may_be_missing;
        if found.outcome != RecoveryPhase::ReadOnly {
            return Err(DrillError::NothingFound(found.next.unwrap_or_default()));
        }
        progress.enter(Phase::VerifyingNames);
        let back = Names::of(second).await?;
        let after = Names::of(&self.parts.renter).await?;
        compare(before, &after, &back, report);
        progress.enter(Phase::Restoring);
        let total = chosen.len() as u64;
        for (done, (name, content)) in (0_u64..).zip(chosen) {
            progress.report(advanced(name, done, total));
            // One that is not there any more, or not yet, was told of above.
            if back.0.get(*name) == Some(*content) {
                self.restore(second, name, content, report).await;
            }
        }
        Ok(())
    }

    /// Brings one file back, compares it with what this node says of it, and removes it.
    async fn restore(
        &self,
        second: &Renter,
        name: &Name,
        content: &Content,
        report: &mut DrillReport,
    ) {
        let problem = match self.fetch(second, name).await {
            Ok(hash) if hash == content.hash => {
                report.row.files += 1;
                report.row.bytes = report.row.bytes.saturating_add(content.size);
                return;
            }
            Ok(_) => "the bytes that came back are others".to_owned(),
            Err(reason) => reason,
        };
        if report.unreadable.len() < DrillReport::LISTED {
            report.unreadable.push(Unreadable { file: name.to_string(), reason: problem });
        }
    }

    /// The hash of a file as it came back.
    async fn fetch(&self, second: &Renter, name: &Name) -> Result<String, String> {
        let Name::File { vault, path } = name else { return Err("it is no file".to_owned()) };
        let target = self.work.join("file");
        let request = GetRequest {
            vault: vault.clone(),
            path: path.clone(),
            version: None,
            backup: None,
            destination: target.clone(),
            conflict: Conflict::Replace,
            dry_run: false,
        };
        let got = second.get(request, &Silent).await.map_err(|error| error.to_string())?;
        if let Some(failed) = got.failed.into_iter().next() {
            return Err(failed.reason);
        }
        let read = Arc::new(Mutex::new(None));
        let hash = Arc::clone(&read);
        let job = move || {
            let found = hash_file(&target);
            // One that stays is removed with its folder.
            let _ = std::fs::remove_file(&target);
            *lock(&hash) = Some(found);
        };
        self.parts.spawner.compute().run(Box::new(job)).await;
        let found = lock(&read).take();
        found.map_or_else(
            || Err("the node is stopping".to_owned()),
            |found| found.map_err(|error| error.to_string()),
        )
    }
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Settings of a renter that only does what it is told.
fn idle(mut config: RenterConfig) -> RenterConfig {
    config.upkeep = NEVER;
    config.repair.interval = NEVER;
    config.repair.bandwidth = 0;
    config.repair.audit_bytes = 0;
    config.repair.audit_requests = 0;
    config.garbage.interval = NEVER;
    config.garbage.rewrite_rate = 0;
    config
}

/// A share of all files, drawn at random; at least one.
fn choose(names: &Names, share: u16) -> Vec<(&Name, &Content)> {
    let is_file = |(name, _): &(&Name, &Content)| matches!(name, Name::File { .. });
    let mut files: Vec<_> = names.0.iter().filter(is_file).collect();
    let wanted = (files.len() as u64).saturating_mul(u64::from(share).min(ALL)).div_ceil(ALL);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).max(1).min(files.len());
    for place in 0..wanted {
        let mut lot = [0; 8];
        OsRandomness.fill(&mut lot);
        let left = (files.len() - place) as u64;
        // Of no more than are left, so it fits.
        let other = place + usize::try_from(u64::from_le_bytes(lot) % left).unwrap_or_default();
        files.swap(place, other);
    }
    files.truncate(wanted);
    files
}

fn advanced(name: &Name, done: u64, total: u64) -> ProgressEvent {
    ProgressEvent::Advanced {
        phase: Phase::Restoring,
        item: Some(name.to_string()),
        done,
        total: Some(total),
        unit: Unit::Files,
        rate: None,
        seconds_left: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_files_is_drawn_and_at_least_one() {
        let file = |number: u32| {
            let name = Name::File { vault: "home".into(), path: number.to_string() };
            (name, Content::default())
        };
        let mut names = Names((0..100).map(file).collect());
        names.0.insert(Name::Vault("home".into()), Content::default());
        let count = |share| choose(&names, share).len();
        assert_eq!(
            [count(0), count(1), count(50), count(1_000), count(9_999)],
            [1, 1, 5, 100, 100]
        );
        let mut drawn: Vec<_> = choose(&names, 500).into_iter().map(|(name, _)| name).collect();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), 50);
        assert_eq!(choose(&Names::default(), 50).len(), 0);
    }
}
