//! The scan's driver: asks the chain for what the state machine wants. The chain's view fetches ahead.

use samara_protocol::chain::light::{Blame, Need, Rules};
use samara_protocol::recovery::{FoundContract, Scan, ScanError, ScanState};
use samara_protocol::units::{ChainTime, Height, Millis};

use super::error::RecoveryError;
use super::progress::{Progress, Step, load_scan};
use super::types::RecoveryPhase;
use super::{Context, Recovery};
use crate::progress::{Meter, Phase, ProgressEvent, Unit};
use crate::world::{ChainError, compute};

/// Failures in a row after which the scan stops; it can be started again.
const ATTEMPTS: usize = 8;
/// First wait after a failure, milliseconds; it doubles.
const WAIT: u64 = 200;

impl Recovery {
    /// Walks the chain from where an earlier run stopped to its tip.
    pub(super) async fn scan(
        &self,
        context: &Context<'_>,
        progress: &mut Progress,
    ) -> Result<(), RecoveryError> {
        let world = &self.world;
        progress.enter(Step::Scanning);
        let mut scan = self.begin(context.options.maximum_age).await?;
        let now = world.clock.now();
        let mut meter = Meter::new(context.progress, Phase::Scanning, Unit::Blocks, None, now);
        meter.resume_at(scan.progress().blocks_done);
        let mut found = 0;
        progress.save_scan(world.store.as_ref(), &scan.state()).await?;
        let mut failures = Vec::new();
        loop {
            let need;
            (scan, need) = self.drive(scan, &mut failures).await?;
            match need {
                Need::Done => break,
                Need::Batch { .. } | Need::Decision(_) => {
                    progress.save_scan(world.store.as_ref(), &scan.state()).await?;
                }
                Need::Tip => {}
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

    /// The scan from where an earlier one stopped, whether a recovery's or one of its own; from the first
    /// block if there was none.
    pub(super) async fn begin(&self, maximum_age: Option<u64>) -> Result<Scan, RecoveryError> {
        let genesis = self.world.chain.genesis();
        let mut rules = Rules::walk(genesis);
        if let Some(age) = maximum_age {
            rules.max_age = Millis(age);
        }
        let stored: Option<ScanState> = load_scan(self.world.store.as_ref()).await?;
        let resumed = stored.and_then(|state| Scan::resume(genesis, rules, state).ok());
        Ok(resumed.unwrap_or_else(|| Scan::new(genesis, rules)))
    }

    /// All records of these words in the chain, in its order, at least up to a block that is known to
    /// exist. Nothing is stored: it is asked once in a node's life.
    pub(crate) async fn records(&self, least: Height) -> Result<Vec<FoundContract>, RecoveryError> {
        let genesis = self.world.chain.genesis().clone();
        let mut scan = Scan::new(&genesis, Rules::walk(&genesis));
        let mut failures = Vec::new();
        loop {
            let need;
            (scan, need) = self.drive(scan, &mut failures).await?;
            if need == Need::Done {
                break;
            }
        }
        let seen = scan.progress().blocks_certified;
        if seen < least.0 {
            let reason = format!("the chain ends at block {seen}, block {least} is known");
            return Err(RecoveryError::FalseChain(reason));
        }
        Ok(scan.found().to_vec())
    }

    /// Brings a scan one step further, or waits for another attempt. Returns what it needed, `Done` at
    /// the end. `failures` are those in a row.
    pub(super) async fn drive(
        &self,
        mut scan: Scan,
        failures: &mut Vec<String>,
    ) -> Result<(Scan, Need), RecoveryError> {
        let need = scan.next();
        let outcome;
        (scan, outcome) = self.supply(scan, need).await;
        let Err(error) = outcome else {
            failures.clear();
            return Ok((scan, need));
        };
        if let Supply::False(error) = &error
            && matches!(error.blame(), Blame::Tip | Blame::TipOrAnswer)
        {
            scan.seek();
        }
        failures.push(error.to_string());
        if failures.len() >= ATTEMPTS {
            return Err(match error {
                Supply::Chain(error) => error.into(),
                Supply::False(_) => RecoveryError::FalseChain(failures.join("; ")),
            });
        }
        self.world.clock.sleep(Millis(WAIT << failures.len().min(8))).await;
        Ok((scan, need))
    }

    /// Asks for what is needed and hands it in.
    async fn supply(&self, mut scan: Scan, need: Need) -> (Scan, Result<(), Supply>) {
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
            Need::Batch { from, limit } => match world.chain.batch(from, limit).await {
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
            },
        };
        (scan, result)
    }
}

/// Why an answer brought the scan no further.
#[derive(Debug, thiserror::Error)]
enum Supply {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    False(#[from] ScanError),
}
