//! Synthetic chains for tests and benchmarks of light nodes and scans.
//!
//! Headers, records and votes are real; there is no ledger behind them, so state roots mean nothing.
//! Certificates are made when somebody asks for one, so a million blocks take a second or two.

use std::collections::BTreeMap;

use samara_protocol::chain::query::{ChainRequest, ChainResponse, Finalized, ScannedBlock};
use samara_protocol::chain::record::records_root;
use samara_protocol::chain::{
    Certificate, ChainParameters, Genesis, Header, RecoveryRecord, Validator, ValidatorSet,
};
use samara_protocol::hash::{ContractNonce, Digest, RecordTag, digest};
use samara_protocol::keys::KeyTree;
use samara_protocol::keys::tree::TagKey;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{ChainTime, Height};
use zeroize::Zeroizing;

/// What a synthetic chain shall be like.
#[derive(Clone, Debug)]
pub struct SyntheticPlan {
    /// Number of blocks.
    pub blocks: u64,
    /// Records of other people's contracts, spread evenly.
    pub foreign: u64,
    /// Own records and the blocks they are in.
    pub own: Vec<(Height, RecoveryRecord)>,
    /// Validators in office.
    pub validators: usize,
    /// Heights whose block puts an entirely new validator set in office.
    pub changes: Vec<Height>,
    /// Milliseconds between two blocks.
    pub interval: u64,
    /// Time of the last block.
    pub tip_time: ChainTime,
}

impl SyntheticPlan {
    /// A plan with four validators that never change and one block a second.
    #[must_use]
    pub fn new(blocks: u64, foreign: u64) -> Self {
        Self {
            blocks,
            foreign,
            own: Vec::new(),
            validators: 4,
            changes: Vec::new(),
            interval: 1_000,
            tip_time: ChainTime(2_000_000_000_000),
        }
    }

    /// The genesis document of the chain that this plan makes; own records are derived under its hash.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        let start = self.tip_time.0.saturating_sub(self.blocks.saturating_mul(self.interval));
        Genesis {
            version: Genesis::VERSION,
            name: "synthetic".to_owned(),
            time: ChainTime(start),
            validators: validator_set(&validator_keys(0, self.validators)),
            allocations: Vec::new(),
            parameters: ChainParameters::default(),
        }
    }

    /// Adds `count` contracts of a seed, spread evenly over the chain.
    #[must_use]
    pub fn with_own(mut self, keys: &KeyTree, count: u64) -> Self {
        let tags = keys.recovery_tag();
        for index in 0..count {
            let height = Height(1 + index * self.blocks / count.max(1));
            let host = PublicKey(digest("samara synthetic host", &(index % 50)).0);
            self.own.push((height, own_record(keys, &tags, index, host)));
        }
        self
    }
}

/// The record of the contract that a seed forms under a nonce made of a number.
#[must_use]
pub fn own_record(keys: &KeyTree, tags: &TagKey, number: u64, host: PublicKey) -> RecoveryRecord {
    let mut nonce = ContractNonce([0; 16]);
    nonce.0.copy_from_slice(&digest("samara synthetic nonce", &number).0[..16]);
    let tag = tags.tag(&nonce, &host);
    RecoveryRecord { nonce, tag, host, contract: keys.contract(&nonce).public() }
}

/// Whether a record is a seed's: both halves of the rule.
#[must_use]
pub fn is_own(keys: &KeyTree, tags: &TagKey, record: &RecoveryRecord) -> bool {
    tags.tag(&record.nonce, &record.host) == record.tag
        && keys.contract(&record.nonce).public() == record.contract
}

/// A chain with all its blocks in memory, about 350 bytes each.
pub struct SyntheticChain {
    /// Its genesis document.
    pub genesis: Genesis,
    /// Its blocks from height 1.
    pub blocks: Vec<ScannedBlock>,
    /// First height of each validator generation, and its keys.
    generations: BTreeMap<Height, Vec<SecretKey>>,
}

impl SyntheticChain {
    /// Makes the chain of a plan.
    #[must_use]
    pub fn generate(plan: &SyntheticPlan) -> Self {
        let genesis = plan.genesis();
        let mut generations = BTreeMap::from([(Height(1), validator_keys(0, plan.validators))]);
        for (index, height) in plan.changes.iter().enumerate() {
            generations.insert(height.next(), validator_keys(index + 1, plan.validators));
        }
        let mut chain = Self { genesis, blocks: Vec::new(), generations };
        chain.fill(plan);
        chain
    }

    fn fill(&mut self, plan: &SyntheticPlan) {
        let genesis = self.genesis.hash();
        let sets: BTreeMap<Height, Digest> = self
            .generations
            .iter()
            .map(|(height, keys)| (*height, validator_set(keys).hash()))
            .collect();
        let mut own: BTreeMap<Height, Vec<RecoveryRecord>> = BTreeMap::new();
        for (height, record) in &plan.own {
            own.entry(*height).or_default().push(*record);
        }
        let (mut parent, mut validators) = (genesis, self.genesis.validators.hash());
        let empty = records_root(&[]);
        self.blocks.reserve(usize::try_from(plan.blocks).unwrap_or(0));
        for number in 1..=plan.blocks {
            let height = Height(number);
            let upto = |number: u64| number.saturating_mul(plan.foreign) / plan.blocks;
            let mut records: Vec<RecoveryRecord> =
                (upto(number - 1)..upto(number)).map(foreign_record).collect();
            records.extend(own.remove(&height).unwrap_or_default());
            let next_validators = sets.get(&height.next()).copied().unwrap_or(validators);
            let header = Header {
                version: Header::VERSION,
                genesis,
                height,
                time: ChainTime(self.genesis.time.0 + number * plan.interval),
                parent,
                transactions_root: Digest::ZERO,
                state_root: Digest(parent.0),
                records_root: if records.is_empty() { empty } else { records_root(&records) },
                validators,
                next_validators,
            };
            (parent, validators) = (header.hash(), next_validators);
            self.blocks.push(ScannedBlock { header, records });
        }
    }

    /// Height of the last block.
    #[must_use]
    pub fn height(&self) -> Height {
        Height(self.blocks.len() as u64)
    }

    /// The header of a block that exists.
    #[must_use]
    pub fn header(&self, height: Height) -> Option<&Header> {
        let index = usize::try_from(height.0.checked_sub(1)?).ok()?;
        self.blocks.get(index).map(|block| &block.header)
    }

    /// The set that decides a height, and the certificate of its block.
    #[must_use]
    pub fn decision(&self, height: Height) -> Option<(ValidatorSet, Certificate)> {
        let header = self.header(height)?;
        let (_, keys) = self.generations.range(..=height).next_back()?;
        Some((validator_set(keys), Certificate::sign(header, keys)))
    }

    /// The last block, finalised.
    #[must_use]
    pub fn tip(&self) -> Option<Finalized> {
        let (_, certificate) = self.decision(self.height())?;
        Some(Finalized { header: *self.header(self.height())?, certificate })
    }

    /// Consecutive blocks; empty above the tip.
    #[must_use]
    pub fn batch(&self, from: Height, limit: u32) -> &[ScannedBlock] {
        let index = |height: u64| usize::try_from(height).unwrap_or(usize::MAX);
        let start = index(from.0.saturating_sub(1)).min(self.blocks.len());
        let end = start.saturating_add(limit as usize).min(self.blocks.len());
        &self.blocks[start..end]
    }

    /// Answers as a chain peer would; what needs a ledger is refused.
    #[must_use]
    pub fn answer(&self, request: &ChainRequest) -> ChainResponse {
        let refused = || ChainResponse::Refused("not in a synthetic chain".to_owned());
        match request {
            ChainRequest::Tip { .. } => ChainResponse::Tip(self.tip().map(Box::new)),
            ChainRequest::Batch { from, limit } => {
                ChainResponse::Batch(self.batch(*from, *limit).to_vec())
            }
            ChainRequest::Decision(height) => match self.decision(*height) {
                Some((validators, certificate)) => {
                    ChainResponse::Decision { validators, certificate: Box::new(certificate) }
                }
                None => refused(),
            },
            _ => refused(),
        }
    }
}

/// A record that belongs to nobody.
fn foreign_record(number: u64) -> RecoveryRecord {
    let draw = |part: u8| digest("samara synthetic foreign record", &(number, part)).0;
    let (mut nonce, mut tag) = (ContractNonce::default(), RecordTag::default());
    let short = draw(0);
    nonce.0.copy_from_slice(&short[..16]);
    tag.0.copy_from_slice(&short[16..]);
    let host = PublicKey(digest("samara synthetic host", &(number % 50)).0);
    RecoveryRecord { nonce, tag, host, contract: PublicKey(draw(1)) }
}

fn validator_keys(generation: usize, count: usize) -> Vec<SecretKey> {
    let key = |index: usize| {
        let secret = digest("samara synthetic validator", &(generation as u64, index as u64));
        SecretKey::from_bytes(&Zeroizing::new(secret.0))
    };
    (0..count.clamp(1, ValidatorSet::MAX)).map(key).collect()
}

fn validator_set(keys: &[SecretKey]) -> ValidatorSet {
    let validators = keys.iter().map(|key| Validator { key: key.public(), power: 1 }).collect();
    ValidatorSet::new(validators).expect("invariant: between 1 and MAX distinct keys of power 1")
}

#[cfg(test)]
mod tests {
    use samara_protocol::chain::light::{Need, Rules};
    use samara_protocol::keys::Phrase;
    use samara_protocol::recovery::Scan;

    use super::*;

    #[test]
    fn a_scan_finds_the_own_contracts_of_a_synthetic_chain() {
        let mut plan = SyntheticPlan::new(2_000, 500);
        plan.changes = vec![Height(700), Height(701), Height(2_000)];
        let phrase = Phrase::from_entropy(&Zeroizing::new([1u8; 16])).unwrap();
        let keys = KeyTree::new(&phrase.seed(""), &plan.genesis().hash());
        let plan = plan.with_own(&keys, 20);
        let chain = SyntheticChain::generate(&plan);
        let tags = keys.recovery_tag();
        let mut scan = Scan::new(&chain.genesis, Rules::walk(&chain.genesis));
        loop {
            match scan.next() {
                Need::Tip => drop(scan.supply_tip(chain.tip(), plan.tip_time).unwrap()),
                Need::Batch { from, limit } => {
                    let blocks = chain.batch(from, limit.min(300));
                    scan.supply_batch(blocks, |record| is_own(&keys, &tags, record)).unwrap();
                }
                Need::Decision(height) => {
                    let (set, certificate) = chain.decision(height).unwrap();
                    scan.supply_decision(&set, &certificate).unwrap();
                }
                Need::Done => break,
            }
        }
        let found: Vec<_> = scan.found().iter().map(|found| (found.height, found.record)).collect();
        assert_eq!(found, plan.own);
        assert_eq!(scan.progress().blocks_certified, 2_000);
    }
}
