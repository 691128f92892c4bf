//! The work of a scan: the chain to its tip, and the hosts of what is found in it.

use std::sync::Arc;

use samara_protocol::chain::light::Need;
use samara_protocol::contract::ContractId;
use samara_protocol::recovery::{FoundContract, Scan};
use tokio::sync::{broadcast, watch};

use super::look::{Look, Seen};
use super::record::Record;
use super::state::RecoveryScanStep;
use super::types::{FoundBackup, RecoveryScanStatus};
use super::{Mode, News, Recovery, RecoveryError, Shared, StoreError};
use crate::backup::JobProblem;
use crate::progress::{Meter, Phase, Silent, Unit};
use crate::recovery::claim::Live;
use crate::recovery::nothing_lives;

/// Least time between two news of progress, milliseconds.
const PAUSE: u64 = 1_000;
/// Backups of which one look tells one by one; whoever wants more reads the list.
const TOLD: usize = 100;

/// What works. A cheap clone.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) recovery: Recovery,
    pub(super) news: broadcast::Sender<News>,
    pub(super) shared: Arc<Shared>,
}

/// How a scan that came to its end has ended.
struct End {
    step: RecoveryScanStep,
    text: String,
    next: String,
}

/// Marks the task as ended, also when its future is dropped, or never polled.
pub(super) struct Running(pub(super) Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running = false;
        self.0.ended.send_replace(());
    }
}

impl Work {
    /// Works until the end, or until somebody stops it.
    pub(super) async fn run(self, _running: Running) {
        let mut stop = self.shared.stop.subscribe();
        let outcome = tokio::select! {
            biased;
            // Whoever stops it says why.
            _ = stop.wait_for(|stop| *stop) => return,
            outcome = self.steps() => outcome,
        };
        let ended = match outcome {
            Ok(End { step, text, next }) => {
                self.end(step, text, |status| {
                    status.next = Some(next);
                    status.error = None;
                })
                .await
            }
            Err(error) => {
                tracing::warn!(%error, "the recovery scan has failed");
                let (code, message) = (error.code().to_owned(), error.to_string());
                let retryable = !matches!(error, RecoveryError::Broken(_));
                let text = format!("failed: {message}");
                self.end(RecoveryScanStep::Fail, text, |status| {
                    status.next = Some("`samara recover scan` tries again".to_owned());
                    status.error = Some(JobProblem { code, message, retryable });
                })
                .await
            }
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the end of the recovery scan is not written down");
        }
    }

    async fn steps(&self) -> Result<End, RecoveryError> {
        let writes = self.writes();
        let (scan, live) = self.chain(writes).await?;
        let found = scan.found().to_vec();
        self.count(&found, &live).await?;
        if live.is_empty() {
            let blocks = scan.progress().blocks_certified;
            let peers = self.recovery.world.chain.peers().await as u64;
            let (text, next) = ("nothing lives".to_owned(), nothing_lives(&found, blocks, peers));
            return Ok(End { step: RecoveryScanStep::Miss, text, next });
        }
        if writes {
            return Ok(self.known_end());
        }
        self.advance(RecoveryScanStep::Ask, Phase::Asking, "the chain is read").await?;
        let look = Look::new(&self.recovery, found).await?;
        let heads = look.ask(&|answered, asked| self.note_hosts(answered, asked)).await?;
        let Some(heads) = heads else {
            // They have ended since.
            return Err(RecoveryError::NoHead(vec!["all contracts have ended just now".into()]));
        };
        self.note_hosts(heads.answered, heads.asked);
        if !heads.blank {
            let said = format!("{} of {} hosts answered", heads.answered, heads.asked);
            self.advance(RecoveryScanStep::Read, Phase::Reading, &said).await?;
        }
        let seen = look.read(&heads, false).await?;
        let count = seen.backups.len();
        self.list(seen);
        let next = match count {
            0 => {
                "no backup was made with these words; `samara recover start` brings back everything \
                  that was acknowledged"
            }
            _ => {
                "`samara recover restore NAME` brings a backup back, with --to FOLDER into a folder \
                  and for reading only; `samara recover start` brings everything back"
            }
        };
        let (step, text) = (RecoveryScanStep::Find, format!("found; backups: {count}"));
        Ok(End { step, text, next: next.to_owned() })
    }

    /// What a scan says on a node that writes.
    fn known_end(&self) -> End {
        let inner = self.shared.lock();
        let RecoveryScanStatus { contracts_live: live, contracts_unknown: unknown, .. } =
            inner.record.status;
        let text = format!("found; contracts that live: {live}, not known here: {unknown}");
        let next = match unknown {
            0 => "this node writes for these words, and knows all their contracts".to_owned(),
            _ => format!(
                "{unknown} contracts of these words are not known here: another node has formed them \
                 with the same words. This one goes on as it is"
            ),
        };
        End { step: RecoveryScanStep::Find, text, next }
    }

    /// Reads the chain to its tip, and asks hosts meanwhile. Where contracts have ended, the chain is read
    /// on: what looks like an end may be a renewal.
    async fn chain(&self, writes: bool) -> Result<(Scan, Vec<Live>), RecoveryError> {
        let (found, seen) = watch::channel(Vec::new());
        let walk = async {
            let mut known = None;
            loop {
                let scan = self.walk(&found).await?;
                let live = self.recovery.live(scan.found()).await?;
                let count = scan.found().len();
                if live.len() == count || known == Some(count) {
                    return Ok((scan, live));
                }
                known = Some(count);
            }
        };
        tokio::select! {
            biased;
            walked = walk => walked,
            () = self.look_out(seen), if !writes => {
                // It never ends: whoever walks has the other end.
                std::future::pending().await
            }
        }
    }

    /// Walks the chain from where it was to its tip.
    async fn walk(&self, found: &watch::Sender<Vec<FoundContract>>) -> Result<Scan, RecoveryError> {
        let world = &self.recovery.world;
        let maximum_age = self.shared.lock().record.maximum_age;
        let mut scan = self.recovery.begin(maximum_age).await?;
        let now = world.clock.now();
        let mut meter = Meter::new(&Silent, Phase::Scanning, Unit::Blocks, None, now);
        meter.resume_at(scan.progress().blocks_done);
        let mut failures = Vec::new();
        loop {
            self.note_blocks(&scan, &mut meter);
            found.send_if_modified(|known| {
                let more = scan.seen().count() > known.len();
                if more {
                    *known = scan.seen().copied().collect();
                }
                more
            });
            let need;
            (scan, need) = self.recovery.drive(scan, &mut failures).await?;
            match need {
                Need::Done => break,
                Need::Batch { .. } | Need::Decision(_) => {
                    let record = self.shared.lock().record.clone();
                    record.save_with(world.store.as_ref(), &scan.state()).await?;
                }
                Need::Tip => {}
            }
        }
        let peers = world.chain.peers().await as u64;
        self.shared.lock().record.status.peers = peers;
        Ok(scan)
    }

    fn note_blocks(&self, scan: &Scan, meter: &mut Meter<'_>) {
        let now = self.recovery.world.clock.now();
        let so_far = scan.progress();
        meter.done = so_far.blocks_done;
        meter.total = so_far.blocks_known;
        {
            let mut inner = self.shared.lock();
            let status = &mut inner.record.status;
            status.phase = Some(Phase::Scanning);
            status.blocks_done = so_far.blocks_done;
            status.blocks_known = so_far.blocks_known;
            status.rate = meter.rate(now);
            status.seconds_left = meter.seconds_left(now);
            status.contracts_found = scan.seen().count() as u64;
        }
        self.tell_sometimes();
    }

    fn note_hosts(&self, answered: u64, asked: u64) {
        {
            let mut inner = self.shared.lock();
            let status = &mut inner.record.status;
            (status.hosts_answered, status.hosts_asked) = (answered, asked);
            status.contracts_live = asked;
        }
        self.tell_sometimes();
    }

    /// Asks hosts whenever more contracts were found and the last look has ended.
    async fn look_out(&self, mut seen: watch::Receiver<Vec<FoundContract>>) {
        while seen.changed().await.is_ok() {
            let found = seen.borrow_and_update().clone();
            if let Err(error) = self.look(found).await {
                // The last look, at the end, says what is wrong.
                tracing::debug!(%error, "backups are not known yet");
            }
        }
    }

    async fn look(&self, found: Vec<FoundContract>) -> Result<(), RecoveryError> {
        let look = Look::new(&self.recovery, found).await?;
        let heads = look.ask(&|answered, asked| self.note_hosts(answered, asked)).await?;
        if let Some(heads) = heads {
            self.list(look.read(&heads, true).await?);
        }
        Ok(())
    }

    /// Counts what lives, and what of it this node knows.
    async fn count(&self, found: &[FoundContract], live: &[Live]) -> Result<(), RecoveryError> {
        let awaited =
            crate::recovery::progress::load_silent(self.recovery.world.store.as_ref()).await?;
        let awaited = awaited.iter().map(|found| found.record.contract);
        let used = self.recovery.book.live();
        let known: Vec<ContractId> = used.iter().map(|used| used.id()).chain(awaited).collect();
        let is_known = |live: &&Live| known.contains(&live.found.record.contract);
        let known = live.iter().filter(is_known).count() as u64;
        let mut inner = self.shared.lock();
        let status = &mut inner.record.status;
        status.contracts_found = found.len() as u64;
        status.contracts_live = live.len() as u64;
        status.contracts_known = known;
        status.contracts_unknown = status.contracts_live.saturating_sub(known);
        Ok(())
    }

    /// Shows what a look has seen, and tells what is new in it.
    fn list(&self, seen: Seen) {
        let mut news = Vec::new();
        {
            let mut inner = self.shared.lock();
            let now = self.recovery.world.clock.now();
            let Record { status, listed, .. } = &mut inner.record;
            let before = std::mem::replace(&mut status.backups, seen.backups);
            status.may_be_missing = seen.may_be_missing;
            *listed = true;
            let is_new = |backup: &&FoundBackup| !before.contains(backup);
            let found = status.backups.iter().filter(is_new);
            news.extend(found.map(|backup| News::ScanFoundBackup(Box::new(backup.clone()))));
            let is_gone = |old: &&FoundBackup| status.backups.iter().all(|row| row.sid != old.sid);
            let gone = before.iter().filter(is_gone);
            let lost = |old: &FoundBackup| News::ScanLostBackup {
                sid: old.sid.clone(),
                name: old.name.clone(),
            };
            news.extend(gone.map(lost));
            if before.len() != status.backups.len() {
                let text = format!("backups seen so far: {}", status.backups.len());
                inner.record.say(now, text);
            }
        }
        for news in news.into_iter().take(TOLD) {
            // Nobody has to listen.
            let _ = self.news.send(news);
        }
        self.tell();
    }

    /// Changes the record and writes it down.
    async fn change(&self, change: impl FnOnce(&mut Record, u64)) -> Result<(), StoreError> {
        let now = self.recovery.world.clock.now();
        let record = {
            let mut inner = self.shared.lock();
            change(&mut inner.record, now);
            inner.record.clone()
        };
        record.save(self.recovery.world.store.as_ref()).await?;
        self.tell();
        Ok(())
    }

    async fn advance(
        &self,
        step: RecoveryScanStep,
        phase: Phase,
        text: &str,
    ) -> Result<(), StoreError> {
        self.change(|record, now| {
            record.step(step);
            record.status.phase = Some(phase);
            record.say(now, text.to_owned());
        })
        .await
    }

    async fn end(
        &self,
        step: RecoveryScanStep,
        text: String,
        change: impl FnOnce(&mut RecoveryScanStatus),
    ) -> Result<(), StoreError> {
        self.change(|record, now| {
            record.step(step);
            let status = &mut record.status;
            (status.phase, status.seconds_left) = (None, None);
            status.date_ended = Some(now);
            change(status);
            record.say(now, text);
        })
        .await
    }

    /// Ends what somebody stopped.
    pub(super) async fn stopped(&self, reason: &str) -> Result<(), StoreError> {
        self.end(RecoveryScanStep::Stop, format!("stopped: {reason}"), |status| {
            status.next = Some("`samara recover scan` goes on from there".to_owned());
        })
        .await
    }

    /// Goes on with what a restart has cut.
    pub(super) async fn resume(&self) -> Result<(), StoreError> {
        self.change(|record, now| {
            record.step(RecoveryScanStep::Resume);
            record.status.phase = Some(Phase::Scanning);
            record.say(now, "the node was started again: it goes on".to_owned());
        })
        .await
    }

    /// Whether the backups that are to be shown are those that the node has: it writes, or a recovery has
    /// read everything and no scan has asked hosts since.
    pub(super) fn shows_own(&self) -> bool {
        let listed = self.shared.lock().record.listed;
        let reads = self.recovery.journal.status().mode != Mode::Fresh && !listed;
        reads || self.writes()
    }

    /// Whether this node writes: it has the list itself, and its contracts are its own to talk to. One that
    /// was started and not used may have been started by mistake.
    fn writes(&self) -> bool {
        self.recovery.journal.check_writable().is_ok() && !self.recovery.is_unused()
    }

    /// How far it is, and the backups that it has found itself.
    pub(super) fn status(&self) -> RecoveryScanStatus {
        let mut status = self.shared.lock().record.status.clone();
        if self.shows_own() {
            status.backups.clear();
        }
        status
    }

    /// Tells how far it is, unless that was just told and no contract was found since.
    fn tell_sometimes(&self) {
        let now = self.recovery.world.clock.now();
        let due = {
            let inner = self.shared.lock();
            let (time, contracts) = inner.told;
            let more = inner.record.status.contracts_found > contracts;
            more || now.saturating_sub(time) >= PAUSE
        };
        if due {
            self.tell();
        }
    }

    /// Tells how far it is.
    pub(super) fn tell(&self) {
        let mut advance = self.status().advance();
        if self.shows_own() {
            advance.backups = self.recovery.journal.read(|state| state.backups.len() as u64);
        }
        self.shared.lock().told = (self.recovery.world.clock.now(), advance.contracts_found);
        // Nobody has to listen.
        let _ = self.news.send(News::ScanAdvanced(Box::new(advance)));
    }
}
