//! Tests of the chain: alone, and under consensus.

mod alone;
mod crash;
mod network;
mod pool;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use samara_protocol::chain::{
    Action, Block, Certificate, ChainParameters, Genesis, Transaction, TransactionBody, Validator,
    ValidatorSet,
};
use samara_protocol::encoding;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, ChainTime};

use super::{Chain, ChainApplication, Limits};
use crate::clock::Clock;
use crate::consensus::testing::key;
use crate::consensus::{Application as _, Undecided};

const START: ChainTime = ChainTime(1_000_000);

/// Accounts 200 to 203 have money.
fn rich(index: u8) -> SecretKey {
    key(200 + index)
}

fn genesis(validators: u8) -> Genesis {
    Genesis {
        version: Genesis::VERSION,
        name: "test".to_owned(),
        time: START,
        validators: validator_set(0..validators),
        allocations: (0..4).map(|i| (rich(i).public(), Amount::coins(1_000))).collect(),
        parameters: ChainParameters::default(),
    }
}

fn validators(keys: impl Iterator<Item = u8>) -> Vec<Validator> {
    keys.map(|index| Validator { key: key(index).public(), power: 1 }).collect()
}

fn validator_set(keys: impl Iterator<Item = u8>) -> ValidatorSet {
    ValidatorSet::new(validators(keys)).unwrap()
}

fn fee() -> Amount {
    ChainParameters::default().minimum_fee
}

fn body(genesis: &Genesis, from: &SecretKey, nonce: u64, action: Action) -> TransactionBody {
    let (genesis, account) = (genesis.hash(), from.public());
    let valid_until = TransactionBody::ALWAYS;
    TransactionBody { genesis, account, nonce, fee: fee(), valid_until, action }
}

fn transfer(genesis: &Genesis, from: &SecretKey, nonce: u64, to: PublicKey) -> Transaction {
    let action = Action::Transfer { to, amount: Amount::coins(1) };
    Transaction::signed(body(genesis, from, nonce, action), &[from])
}

/// A clock that tests set.
#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START.0 + 1)))
    }

    fn set(&self, time: u64) {
        self.0.store(time, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let time = self.0.clone();
        Arc::new(move || ChainTime(time.load(Ordering::SeqCst)))
    }
}

/// A chain of one validator that decides by itself, without an engine.
struct Solo {
    genesis: Genesis,
    chain: Arc<Chain>,
    application: ChainApplication,
    clock: TestClock,
}

impl Solo {
    fn open(folder: &Path) -> Self {
        let (genesis, clock) = (genesis(1), TestClock::new());
        let opened = crate::chain::open(folder, genesis.clone(), Limits::default(), clock.clock());
        let (chain, application) = opened.unwrap();
        Self { genesis, chain, application, clock }
    }

    fn commit(&mut self, undecided: &Undecided) {
        let block: Block = encoding::decode(&undecided.bytes).unwrap();
        let certificate = Certificate::sign(&block.header, &[key(0)]);
        self.application.commit(certificate).unwrap();
    }

    fn make_block(&mut self) -> Undecided {
        let undecided = self.application.propose(0).unwrap();
        self.commit(&undecided);
        undecided
    }
}
