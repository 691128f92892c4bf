//! The chain as consensus drives it: proposes, judges and commits blocks.
//!
//! The only writer of blocks, and owned by consensus alone. What a block changes is worked out once,
//! when it is proposed or judged, and kept for its commit; after a restart it is worked out again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::chain::query::Finalized;
use samara_protocol::chain::{Block, Certificate, Header, ValidatorSet};
use samara_protocol::encoding;
use samara_protocol::hash::BlockHash;
use samara_protocol::ledger::{BlockError, StateChanges, build_block, next_due, validate_block};
use samara_protocol::units::{ChainTime, Height, Millis};

use super::error::{ApplicationError, StoreError};
use super::service::Chain;
use crate::causes::with_causes;
use crate::consensus::{Application, BLOCK_OVERHEAD, Origin, Undecided, Verdict};

/// Blocks whose changes are kept until one is decided; more are worked out again.
const PREPARED: usize = 4;

struct Prepared {
    block: Block,
    changes: StateChanges,
}

/// The chain in the hands of consensus.
pub struct ChainApplication {
    chain: Arc<Chain>,
    tip: Option<Header>,
    validators: ValidatorSet,
    prepared: BTreeMap<BlockHash, Prepared>,
}

impl ChainApplication {
    /// The chain for a consensus; for one that starts again, once the one before has ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn new(chain: Arc<Chain>) -> Result<Self, StoreError> {
        let snapshot = chain.snapshot()?;
        let tip = snapshot.tip()?;
        let validators = snapshot.validators(next_height(tip.as_ref()))?;
        Ok(Self { chain, tip, validators, prepared: BTreeMap::new() })
    }

    fn prepare(&mut self, hash: BlockHash, block: Block, changes: StateChanges) {
        if self.prepared.len() >= PREPARED {
            self.prepared.pop_first();
        }
        self.prepared.insert(hash, Prepared { block, changes });
    }

    fn tip_time(&self) -> ChainTime {
        self.tip.map_or(self.chain.genesis().time, |tip| tip.time)
    }

    /// The likely time of the next block.
    fn next_time(&self) -> ChainTime {
        self.chain.now().max(self.tip_time().plus(Millis(1)))
    }

    /// Bytes that a whole block may have.
    fn block_bytes(&self) -> usize {
        self.chain.genesis().parameters.block_bytes as usize + BLOCK_OVERHEAD
    }

    /// The body and changes of a decided block.
    fn decided_block(&mut self, certificate: &Certificate) -> Result<Prepared, ApplicationError> {
        let (height, block) = (certificate.height, certificate.block);
        if let Some(prepared) = self.prepared.remove(&block) {
            return Ok(prepared);
        }
        let snapshot = self.chain.snapshot()?;
        let missing = ApplicationError::NoBody { height, block };
        let undecided = snapshot.undecided(&block)?.ok_or(missing)?;
        let body: Block = encoding::decode(&undecided.bytes)
            .map_err(|source| StoreError::Damaged { what: "undecided blocks", source })?;
        match validate_block(&snapshot, self.chain.genesis(), self.tip.as_ref(), &body) {
            Ok(changes) => Ok(Prepared { block: body, changes }),
            Err(BlockError::State { source, .. }) => Err(source.into()),
            Err(error) => Err(ApplicationError::BadDecision { block, source: Box::new(error) }),
        }
    }
}

impl Application for ChainApplication {
    type Error = ApplicationError;

    fn tip(&self) -> Height {
        self.tip.map_or(Height(0), |tip| tip.height)
    }

    fn validators(&self) -> ValidatorSet {
        self.validators.clone()
    }

    fn next_block_in(&self) -> Duration {
        // Light nodes can verify nothing before the first block, so it is made at once.
        if self.tip.is_none() || self.chain.has_ready() {
            return Duration::ZERO;
        }
        let heartbeat = self.tip_time().plus(self.chain.genesis().parameters.heartbeat);
        // A store that cannot be read is found by the next block: make it now.
        let deadline = match self.chain.snapshot() {
            Ok(snapshot) => next_due(&snapshot).unwrap_or(Some(ChainTime(0))),
            Err(_) => Some(ChainTime(0)),
        };
        let due = deadline.map_or(heartbeat, |deadline| deadline.min(heartbeat));
        Duration::from_millis(due.since(self.chain.now()).0)
    }

    fn propose(&mut self, round: u32) -> Result<Undecided, ApplicationError> {
        let snapshot = self.chain.snapshot()?;
        if let Some(before) = snapshot.proposed(round)? {
            return Ok(before);
        }
        let (genesis, tip) = (self.chain.genesis(), self.tip.as_ref());
        let candidates = self.chain.candidates();
        let built = build_block(&snapshot, genesis, tip, self.next_time(), candidates);
        let built = built.map_err(|source| ApplicationError::Build {
            tip: self.tip(),
            source: Box::new(source),
        })?;
        self.chain.evict(&built.rejected);
        let bytes = encoding::encode(&built.block);
        let block = built.block.header.hash();
        self.chain.store().keep_undecided(&block, round, &bytes, true)?;
        self.prepare(block, built.block, built.changes);
        Ok(Undecided { round, block, bytes })
    }

    fn check(&mut self, bytes: &[u8], origin: Origin) -> Result<Verdict, ApplicationError> {
        if bytes.len() > self.block_bytes() {
            return Ok(Verdict::Malformed(format!("{} bytes are too long", bytes.len())));
        }
        let block: Block = match encoding::decode_canonical(bytes) {
            Ok(block) => block,
            Err(error) => return Ok(Verdict::Malformed(error.to_string())),
        };
        let hash = block.header.hash();
        let invalid = |reason: String| Ok(Verdict::Invalid { block: hash, reason });
        let snapshot = self.chain.snapshot()?;
        let genesis = self.chain.genesis();
        let changes = match validate_block(&snapshot, genesis, self.tip.as_ref(), &block) {
            Ok(changes) => changes,
            Err(BlockError::State { source, .. }) => return Err(source.into()),
            Err(error) => return invalid(with_causes(&error)),
        };
        let time = block.header.time;
        let (Origin::Proposal { round } | Origin::Decided { round }) = origin;
        if snapshot.undecided(&hash)?.is_none() {
            self.chain.store().keep_undecided(&hash, round, bytes, false)?;
        }
        self.prepare(hash, block, changes);
        let limit = self.chain.now().plus(Header::MAX_DRIFT);
        if matches!(origin, Origin::Proposal { .. }) && time > limit {
            let ahead = time.since(self.chain.now()).0;
            return invalid(format!("its time is {ahead} ms ahead of the clock here"));
        }
        Ok(Verdict::Valid(hash))
    }

    fn undecided(&self, block: &BlockHash) -> Result<Option<Undecided>, ApplicationError> {
        Ok(self.chain.snapshot()?.undecided(block)?)
    }

    fn all_undecided(&self) -> Result<Vec<Undecided>, ApplicationError> {
        Ok(self.chain.snapshot()?.all_undecided()?)
    }

    fn commit(&mut self, mut certificate: Certificate) -> Result<(), ApplicationError> {
        certificate.signatures.sort_by_key(|(signer, _)| *signer);
        certificate.verify(self.chain.genesis_hash(), &self.validators)?;
        let Prepared { block, changes } = self.decided_block(&certificate)?;
        self.chain.store().commit(&block, &certificate, &changes)?;
        self.prepared.clear();
        let header = block.header;
        self.tip = Some(header);
        if header.validators != header.next_validators {
            self.validators = self.chain.snapshot()?.validators(header.height.next())?;
        }
        self.chain.guard_decided(header.time, &self.validators);
        let finalized = Finalized { header, certificate };
        self.chain.advance(finalized, &block, &changes, self.next_time())?;
        Ok(())
    }

    fn decided(
        &self,
        from: Height,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<(Vec<u8>, Certificate)>, ApplicationError> {
        Ok(self.chain.snapshot()?.decided(from, limit, bytes)?)
    }
}

fn next_height(tip: Option<&Header>) -> Height {
    tip.map_or(Height(1), |tip| tip.height.next())
}
