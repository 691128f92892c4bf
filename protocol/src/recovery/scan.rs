//! The scan of the chain for one seed's contracts.
//!
//! A [`Scan`] walks all blocks from the first to the tip on top of a [`LightChain`]. Each block's
//! records must hash to its header's records root, so none can be dropped or changed; each record is
//! tested by the caller's closure, which holds the secrets. Matches wait as candidates until a verified
//! certificate covers their block, and only then count as found.
//!
//! Invariants (I10):
//! - Every record of a certified block that passes the test is found, once.
//! - Nothing else is ever found: not in a block that no certificate covers, not by a copied tag.
//! - [`Scan::state`] after any call is enough to go on from there.
//!
//! The test must be both halves of the rule: the tag is the keyed hash of nonce and host under the
//! seed's tag key, *and* the key derived from the nonce is the record's contract key.

use serde::{Deserialize, Serialize};

use crate::chain::certificate::Certificate;
use crate::chain::genesis::Genesis;
use crate::chain::light::{Blame, LightChain, LightError, LightState, Need, ResumeError, Rules};
use crate::chain::query::{Finalized, ScannedBlock};
use crate::chain::record::{RecoveryRecord, records_root};
use crate::chain::validators::ValidatorSet;
use crate::units::{ChainTime, Height};

/// A record that passed the test, and the block it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundContract {
    /// The block that formed or renewed the contract.
    pub height: Height,
    /// The record; its contract key is the contract's id.
    pub record: RecoveryRecord,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanProgress {
    /// Blocks seen.
    pub blocks_done: u64,
    /// Blocks seen and covered by a certificate.
    pub blocks_certified: u64,
    /// Blocks of the chain, as far as a tip is known.
    pub blocks_known: Option<u64>,
    /// Records found.
    pub contracts_found: usize,
    /// Matches in blocks that no certificate covers yet.
    pub candidates: usize,
}

/// Why an answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The headers or certificates are false.
    #[error(transparent)]
    Light(#[from] LightError),
    /// A block came with other records than its header commits to: some are missing, added or changed.
    #[error("block {height}: the records given are not those that its header commits to")]
    Records {
        /// The block.
        height: Height,
    },
}

impl ScanError {
    /// Whose answer is false.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Light(error) => error.blame(),
            Self::Records { .. } => Blame::Answer,
        }
    }
}

/// Why a stored scan cannot be gone on with; it must start anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanResumeError {
    /// Written by another version.
    #[error("scan state of version {0} is unknown")]
    Version(u8),
    /// The chain part is unusable.
    #[error(transparent)]
    Light(#[from] ResumeError),
}

/// Everything that must survive a restart. Encode it with [`crate::encoding`].
///
/// It names the seed's contracts, so it is stored as privately as other metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanState {
    version: u8,
    light: LightState,
    found: Vec<FoundContract>,
    candidates: Vec<FoundContract>,
}

impl ScanState {
    const VERSION: u8 = 1;
}

/// A scan under way. See the [module](self).
#[derive(Clone, Debug)]
pub struct Scan {
    chain: LightChain,
    found: Vec<FoundContract>,
    /// Ordered by height; all above the trusted point, none above the linked head.
    candidates: Vec<FoundContract>,
}

impl Scan {
    /// A scan from the first block. `rules` should be [`Rules::walk`].
    #[must_use]
    pub fn new(genesis: &Genesis, rules: Rules) -> Self {
        let chain = LightChain::new(genesis, rules);
        Self { chain, found: Vec::new(), candidates: Vec::new() }
    }

    /// Goes on from a stored state.
    ///
    /// # Errors
    /// [`ScanResumeError`] when the state is of another version or chain.
    pub fn resume(
        genesis: &Genesis,
        rules: Rules,
        state: ScanState,
    ) -> Result<Self, ScanResumeError> {
        if state.version != ScanState::VERSION {
            return Err(ScanResumeError::Version(state.version));
        }
        let chain = LightChain::resume(genesis, rules, state.light)?;
        Ok(Self { chain, found: state.found, candidates: state.candidates })
    }

    /// What must be stored to go on after a restart.
    #[must_use]
    pub fn state(&self) -> ScanState {
        ScanState {
            version: ScanState::VERSION,
            light: self.chain.state().clone(),
            found: self.found.clone(),
            candidates: self.candidates.clone(),
        }
    }

    /// What must be asked next; [`Need::Done`] when all blocks up to the tip are certified.
    #[must_use]
    pub fn next(&self) -> Need {
        self.chain.next()
    }

    /// Records found so far, all in certified blocks, ordered by height.
    #[must_use]
    pub fn found(&self) -> &[FoundContract] {
        &self.found
    }

    /// The same, then matches in blocks that no certificate covers yet: to be believed only where the
    /// chain's certified state says that the contract is there.
    pub fn seen(&self) -> impl Iterator<Item = &FoundContract> {
        self.found.iter().chain(&self.candidates)
    }

    /// The chain as far as the scan has verified it.
    #[must_use]
    pub const fn chain(&self) -> &LightChain {
        &self.chain
    }

    /// Forgets the tip, so that blocks made since are looked for.
    pub fn seek(&mut self) {
        self.chain.seek();
    }

    /// Accepts older tips from now on, for a chain that is known to have halted.
    pub const fn set_max_age(&mut self, age: crate::units::Millis) {
        self.chain.set_max_age(age);
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> ScanProgress {
        let chain = self.chain.progress();
        ScanProgress {
            blocks_done: chain.linked.0,
            blocks_certified: chain.trusted.0,
            blocks_known: chain.target.map(|target| target.0.max(chain.linked.0)),
            contracts_found: self.found.len(),
            candidates: self.candidates.len(),
        }
    }

    /// Hands in a peer's tip.
    ///
    /// # Errors
    /// As [`LightChain::supply_tip`].
    pub fn supply_tip(
        &mut self,
        tip: Option<Finalized>,
        now: ChainTime,
    ) -> Result<ScanProgress, ScanError> {
        let result = self.chain.supply_tip(tip, now);
        self.settle();
        Ok(result.map(|_| self.progress())?)
    }

    /// Hands in blocks that answer [`Need::Batch`]. `owns` says whether a record is the seed's.
    ///
    /// # Errors
    /// [`ScanError`]. When it blames [`Blame::Answer`], nothing has changed.
    pub fn supply_batch(
        &mut self,
        blocks: &[ScannedBlock],
        owns: impl Fn(&RecoveryRecord) -> bool,
    ) -> Result<ScanProgress, ScanError> {
        let none = records_root(&[]);
        for ScannedBlock { header, records } in blocks {
            let root = if records.is_empty() { none } else { records_root(records) };
            if root != header.records_root {
                return Err(ScanError::Records { height: header.height });
            }
        }
        let result = self.chain.supply_batch(blocks.iter().map(|block| &block.header));
        let kept = match &result {
            Ok(_) => true,
            // The links were taken before another peer's answer proved false.
            Err(error) => matches!(error.blame(), Blame::Batches | Blame::Tip),
        };
        if kept {
            for ScannedBlock { header, records } in blocks {
                let own = records.iter().filter(|record| owns(record));
                let height = header.height;
                self.candidates.extend(own.map(|record| FoundContract { height, record: *record }));
            }
        }
        self.settle();
        Ok(result.map(|_| self.progress())?)
    }

    /// Hands in an answer to [`Need::Decision`].
    ///
    /// # Errors
    /// As [`LightChain::supply_decision`].
    pub fn supply_decision(
        &mut self,
        validators: &ValidatorSet,
        certificate: &Certificate,
    ) -> Result<ScanProgress, ScanError> {
        let result = self.chain.supply_decision(validators, certificate);
        self.settle();
        Ok(result.map(|_| self.progress())?)
    }

    /// Moves candidates that are certified now to the found ones; drops those whose links were dropped.
    fn settle(&mut self) {
        let chain = self.chain.progress();
        self.candidates.retain(|candidate| candidate.height <= chain.linked);
        let certified = self.candidates.partition_point(|found| found.height <= chain.trusted);
        for candidate in self.candidates.drain(..certified) {
            let known = |found: &FoundContract| found.record == candidate.record;
            if !self.found.iter().any(known) {
                self.found.push(candidate);
            }
        }
    }
}
