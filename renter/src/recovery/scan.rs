//! The scan's driver: asks the chain for what the state machine wants, ahead of its needs.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use samara_protocol::chain::light::{Blame, Need, Rules};
use samara_protocol::chain::query::{MAX_BATCH, ScannedBlock};
use samara_protocol::recovery::{Scan, ScanError, ScanState};
use samara_protocol::units::{ChainTime, Height, Millis};

use super::error::RecoveryError;
use super::progress::{Progress, Step, load_scan};
use super::types::RecoveryPhase;
use super::{Context, Recovery};
use crate::progress::{Meter, Phase, ProgressEvent, Unit};
use crate::world::{ChainError, ChainView, compute};

/// Batches asked for before they are needed. Each has at most 5 MiB.
const AHEAD: usize = 3;
/// Failures in a row after which the scan stops; it can be started again.
pub(super) const PATIENCE: u32 = 8;
/// First wait after a failure, milliseconds; it doubles.
pub(super) const WAIT: u64 = 200;

type Answer = Result<Vec<ScannedBlock>, ChainError>;

/// Batches on their way.
pub(super) struct Ahead {
    chain: Arc<dyn ChainView>,
    waiting: VecDeque<(Height, BoxFuture<'static, Answer>)>,
    /// Blocks asked for at once: peers cut batches that grow too long.
    step: u32,
}

impl Ahead {
    pub(super) fn new(chain: Arc<dyn ChainView>) -> Self {
        Self { chain, waiting: VecDeque::new(), step: MAX_BATCH }
    }

    /// Forgets what is on its way, after a false answer.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The batch that starts at `from`; the next ones, up to `goal`, are asked for meanwhile.
    async fn batch(&mut self, from: Height, limit: u32, goal: Option<u64>) -> Answer {
        if self.waiting.front().is_some_and(|(at, _)| *at != from) {
            self.waiting.clear();
        }
        let mut next =
            self.waiting.back().map_or(from, |(at, _)| Height(at.0 + u64::from(self.step)));
        let goal = goal.unwrap_or(from.0);
        while self.waiting.len() <= AHEAD && (self.waiting.is_empty() || next.0 <= goal) {
            let (chain, at) = (self.chain.clone(), next);
            let limit = self.step.min(limit.max(1));
            self.waiting.push_back((at, Box::pin(async move { chain.batch(at, limit).await })));
            next = Height(next.0 + u64::from(self.step));
        }
        let Some((_, first)) = self.waiting.pop_front() else { return Ok(Vec::new()) };
        let mut answer = self.drive(first).await;
        match &mut answer {
            Ok(blocks) => {
                blocks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                let count = u32::try_from(blocks.len()).unwrap_or(MAX_BATCH);
                let end = from.0.saturating_add(u64::from(count));
                if count < self.step.min(limit) && end <= goal {
                    self.step = count.clamp(64, MAX_BATCH);
                    self.waiting.clear();
                }
            }
            Err(_) => self.waiting.clear(),
        }
        answer
    }

    /// Waits for the first batch while the others come along.
    async fn drive(&mut self, mut first: BoxFuture<'static, Answer>) -> Answer {
        let mut done: Vec<Option<Answer>> = self.waiting.iter().map(|_| None).collect();
        let answer = std::future::poll_fn(|context| {
            for ((_, batch), done) in self.waiting.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let std::task::Poll::Ready(answer) = batch.as_mut().poll(context)
                {
                    *done = Some(answer);
                }
            }
            first.as_mut().poll(context)
        })
        .await;
        for ((_, batch), done) in self.waiting.iter_mut().zip(done) {
            if let Some(answer) = done {
                *batch = Box::pin(std::future::ready(answer));
            }
        }
        answer
    }
}

impl Recovery {
    /// Walks the chain from where an earlier run stopped to its tip.
    pub(super) async fn scan(
        &self,
        context: &Context<'_>,
        progress: &mut Progress,
    ) -> Result<(), RecoveryError> {
        let world = &self.world;
        let genesis = world.chain.genesis().clone();
        let mut rules = Rules::walk(&genesis);
        if let Some(age) = context.options.maximum_age {
            rules.max_age = Millis(age);
        }
        progress.enter(Step::Scanning);
        let stored: Option<ScanState> = load_scan(world.store.as_ref()).await?;
        let resumed = stored.and_then(|state| Scan::resume(&genesis, rules, state).ok());
        let mut scan = resumed.unwrap_or_else(|| Scan::new(&genesis, rules));
        let now = world.clock.now();
        let mut meter = Meter::new(context.progress, Phase::Scanning, Unit::Blocks, None, now);
        meter.resume_at(scan.progress().blocks_done);
        let mut ahead = Ahead::new(world.chain.clone());
        let mut failures = Vec::new();
        let mut found = 0;
        progress.save_scan(world.store.as_ref(), &scan.state()).await?;
        loop {
            let need = scan.next();
            if need == Need::Done {
                break;
            }
            let saved = matches!(need, Need::Batch { .. } | Need::Decision(_));
            let outcome;
            (scan, outcome) = self.supply(scan, need, &mut ahead).await;
            match outcome {
                Ok(()) => failures.clear(),
                Err(error) => {
                    ahead.waiting.clear();
                    if let Supply::False(error) = &error
                        && matches!(error.blame(), Blame::Tip | Blame::TipOrAnswer)
                    {
                        scan.seek();
                    }
                    failures.push(error.to_string());
                    if failures.len() as u32 >= PATIENCE {
                        return Err(match error {
                            Supply::Chain(error) => error.into(),
                            Supply::False(_) => RecoveryError::FalseChain(failures.join("; ")),
                        });
                    }
                    let wait = WAIT << failures.len().min(8);
                    world.clock.sleep(Millis(wait)).await;
                }
            }
            if saved {
                progress.save_scan(world.store.as_ref(), &scan.state()).await?;
            }
            let so_far = scan.progress();
            if so_far.contracts_found > found {
                found = so_far.contracts_found;
                let count = found as u64;
                context.progress.report(ProgressEvent::ContractsFound { count });
            }
            let now = world.clock.now();
            meter.done = so_far.blocks_done;
            meter.total = so_far.blocks_known;
            meter.report(None, now);
            self.set_phase(RecoveryPhase::Scanning {
                blocks_done: so_far.blocks_done,
                blocks_known: so_far.blocks_known,
                contracts_found: so_far.contracts_found as u64,
                rate: meter.rate(now),
                seconds_left: meter.seconds_left(now),
            });
        }
        progress.found = scan.found().to_vec();
        progress.blocks = scan.progress().blocks_certified;
        progress.peers = world.chain.peers().await as u64;
        Ok(())
    }

    /// Asks for what is needed and hands it in.
    pub(super) async fn supply(
        &self,
        mut scan: Scan,
        need: Need,
        ahead: &mut Ahead,
    ) -> (Scan, Result<(), Supply>) {
        let world = &self.world;
        let result = match need {
            Need::Done => Ok(()),
            Need::Tip => match world.chain.tip().await {
                Ok(tip) => {
                    let now = ChainTime(world.clock.now());
                    scan.supply_tip(tip, now).map(drop).map_err(Supply::False)
                }
                Err(error) => Err(Supply::Chain(error)),
            },
            Need::Decision(height) => match world.chain.decision(height).await {
                Ok((validators, certificate)) => {
                    scan.supply_decision(&validators, &certificate).map(drop).map_err(Supply::False)
                }
                Err(error) => Err(Supply::Chain(error)),
            },
            Need::Batch { from, limit } => {
                let goal = scan.progress().blocks_known;
                match ahead.batch(from, limit, goal).await {
                    Ok(blocks) => {
                        let keys = self.keys.clone();
                        let supplied;
                        (scan, supplied) = compute(world.compute.as_ref(), move || {
                            let tag = keys.recovery_tag();
                            let taken = scan.supply_batch(&blocks, |record| {
                                tag.tag(&record.nonce, &record.host) == record.tag
                                    && keys.contract(&record.nonce).public() == record.contract
                            });
                            (scan, taken)
                        })
                        .await;
                        supplied.map(drop).map_err(Supply::False)
                    }
                    Err(error) => Err(Supply::Chain(error)),
                }
            }
        };
        (scan, result)
    }
}

/// Why an answer brought the scan no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Supply {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    False(#[from] ScanError),
}
