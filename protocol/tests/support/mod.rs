//! A small chain with real votes, for the tests of what light nodes believe.

// Each test file uses its own part.
#![allow(dead_code)]

use samara_protocol::chain::query::{Finalized, ScannedBlock};
use samara_protocol::chain::record::records_root;
use samara_protocol::chain::{
    Certificate, ChainParameters, Genesis, Header, RecoveryRecord, Validator, ValidatorSet,
};
use samara_protocol::hash::{Digest, digest};
use samara_protocol::signature::SecretKey;
use samara_protocol::units::{ChainTime, Height};
use zeroize::Zeroizing;

pub const START: u64 = 1_000_000;
pub const BLOCK: u64 = 1_000;

pub fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}

/// A set with keys of these bytes, power 1 each.
pub fn set(bytes: &[u8]) -> ValidatorSet {
    let validator = |byte: &u8| Validator { key: secret(*byte).public(), power: 1 };
    ValidatorSet::new(bytes.iter().map(validator).collect()).unwrap()
}

/// A chain and everything that a peer knows of it. Validators are named by the bytes of their keys.
#[derive(Clone, Debug)]
pub struct TestChain {
    pub genesis: Genesis,
    pub blocks: Vec<ScannedBlock>,
    /// Who decides each block, and who decides the one after the last.
    pub deciders: Vec<Vec<u8>>,
}

impl TestChain {
    pub fn new(validators: &[u8]) -> Self {
        let genesis = Genesis {
            version: Genesis::VERSION,
            name: "light test".to_owned(),
            time: ChainTime(START),
            validators: set(validators),
            allocations: Vec::new(),
            parameters: ChainParameters::default(),
        };
        Self { genesis, blocks: Vec::new(), deciders: vec![validators.to_vec()] }
    }

    pub fn push(&mut self, records: Vec<RecoveryRecord>) -> &mut Self {
        let next = self.deciders.last().unwrap().clone();
        self.push_change(records, &next)
    }

    /// A block after which other validators decide.
    pub fn push_change(&mut self, records: Vec<RecoveryRecord>, next: &[u8]) -> &mut Self {
        let height = Height(self.blocks.len() as u64 + 1);
        let genesis = self.genesis.hash();
        let parent = self.blocks.last().map_or(genesis, |block| block.header.hash());
        let header = Header {
            version: Header::VERSION,
            genesis,
            height,
            time: ChainTime(START + height.0 * BLOCK),
            parent,
            transactions_root: Digest::ZERO,
            state_root: digest("test state", &height),
            records_root: records_root(&records),
            validators: set(self.deciders.last().unwrap()).hash(),
            next_validators: set(next).hash(),
        };
        self.blocks.push(ScannedBlock { header, records });
        self.deciders.push(next.to_vec());
        self
    }

    pub fn grow(&mut self, blocks: usize) -> &mut Self {
        for _ in 0..blocks {
            self.push(Vec::new());
        }
        self
    }

    pub fn height(&self) -> Height {
        Height(self.blocks.len() as u64)
    }

    pub fn header(&self, height: u64) -> Header {
        self.blocks[height as usize - 1].header
    }

    pub fn now(&self) -> ChainTime {
        ChainTime(START + self.height().0 * BLOCK + 500)
    }

    pub fn decision(&self, height: Height) -> (ValidatorSet, Certificate) {
        let deciders = &self.deciders[height.0 as usize - 1];
        (set(deciders), certificate(&self.header(height.0), deciders))
    }

    pub fn tip(&self) -> Option<Finalized> {
        (self.height() > Height(0)).then(|| self.finalized(self.height()))
    }

    pub fn finalized(&self, height: Height) -> Finalized {
        let (_, certificate) = self.decision(height);
        Finalized { header: self.header(height.0), certificate }
    }

    pub fn batch(&self, from: Height, limit: u32) -> Vec<ScannedBlock> {
        self.blocks.iter().skip(from.0 as usize - 1).take(limit as usize).cloned().collect()
    }

    /// The same chain up to a height, then other blocks, signed by nobody who may.
    pub fn forked_at(&self, height: usize, blocks: usize) -> Self {
        let mut fork = self.clone();
        fork.blocks.truncate(height);
        fork.deciders.truncate(height + 1);
        for _ in 0..blocks {
            fork.push(Vec::new());
            let last = fork.blocks.last_mut().unwrap();
            last.header.state_root = digest("forked state", &last.header.height);
        }
        fork
    }
}

/// Precommits of these validators for a header.
pub fn certificate(header: &Header, signers: &[u8]) -> Certificate {
    let keys: Vec<SecretKey> = signers.iter().map(|byte| secret(*byte)).collect();
    Certificate::sign(header, &keys)
}
