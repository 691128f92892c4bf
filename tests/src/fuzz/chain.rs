//! What the chain is made of, what light nodes are told of it, and what they store.

use std::sync::OnceLock;

use samara_protocol::chain::block::transactions_root;
use samara_protocol::chain::light::{LightChain, LightState, Need, Rules};
use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::chain::{
    Block, Certificate, Genesis, Header, RecoveryRecord, Transaction, ValidatorSet, Vote,
};
use samara_protocol::encoding::{decode, encode};
use samara_protocol::ledger::state::{Account, Contract, StateKey, StateProof, Totals};
use samara_protocol::ledger::{StateReader as _, genesis_state, verify_proof};
use samara_protocol::recovery::{Scan, ScanState};
use samara_protocol::units::Height;

use super::fixtures::{NOW, blocks, scan, secret, state};
use super::{Fields, value};

/// Transactions, as peers, renters and hosts hand them in.
pub fn transaction(data: &[u8]) {
    if let Some(transaction) = value::<Transaction>(data) {
        for (signer, _) in transaction.signatures.iter().take(2) {
            let _ = transaction.is_signed_by(signer);
        }
    }
}

/// Blocks, as validators propose them.
pub fn block(data: &[u8]) {
    if let Some(block) = value::<Block>(data) {
        let _ = (block.header.hash(), transactions_root(&block.transactions));
    }
}

/// Headers.
pub fn header(data: &[u8]) {
    if let Some(header) = value::<Header>(data) {
        let _ = header.hash();
    }
}

/// Certificates.
pub fn certificate(data: &[u8]) {
    if let Some(certificate) = value::<Certificate>(data) {
        let chain = blocks();
        let held = certificate.verify(&chain.genesis.hash(), &chain.genesis.validators);
        let header = chain.header(certificate.height);
        assert!(held.is_err() || header.map(Header::hash) == Some(certificate.block));
    }
}

/// Validator sets.
pub fn validators(data: &[u8]) {
    if let Some(set) = value::<ValidatorSet>(data) {
        assert!(set.total_power() <= u64::from(u32::MAX));
        assert!(set.as_slice().iter().all(|validator| set.find(&validator.key).is_some()));
    }
}

/// Genesis documents.
pub fn genesis(data: &[u8]) {
    if let Some(genesis) = value::<Genesis>(data) {
        let (checked, issued) = (genesis.check(), genesis.issued());
        assert!(checked.is_err() || issued.is_ok());
        assert_eq!(genesis_state(&genesis).is_ok(), checked.is_ok());
    }
}

/// Recovery records.
pub fn recovery_record(data: &[u8]) {
    value::<RecoveryRecord>(data);
}

/// Keys and values of the state, and votes.
pub fn chain_values(data: &[u8]) {
    value::<StateKey>(data);
    value::<Account>(data);
    value::<Totals>(data);
    if let Some(contract) = value::<Contract>(data) {
        let _ = contract.ends();
    }
    if let Some(vote) = value::<Vote>(data) {
        let _ = vote.sign_bytes();
    }
}

/// Questions of light nodes.
pub fn chain_request(data: &[u8]) {
    value::<ChainRequest>(data);
}

/// A scan that waits for an answer of the kind.
fn waiting(kind: fn(&Need) -> bool) -> Scan {
    /// More than the answers of a whole scan.
    const ALL: usize = 32;
    static SCANS: OnceLock<Vec<Scan>> = OnceLock::new();
    let scans = SCANS.get_or_init(|| (0..ALL).map(scan).collect());
    let found = scans.iter().find(|scan| kind(&scan.next()));
    found.expect("invariant: a whole scan asks every kind of question").clone()
}

/// Answers of chain peers, also taken in by a light node that has asked for them.
pub fn chain_response(data: &[u8]) {
    let Some(response) = value::<ChainResponse>(data) else { return };
    let chain = blocks();
    let (scan, taken) = match response {
        ChainResponse::Tip(tip) => {
            let mut scan = waiting(|need| matches!(need, Need::Tip));
            let taken = scan.supply_tip(tip.map(|tip| *tip), NOW);
            (scan, taken)
        }
        ChainResponse::Batch(blocks) => {
            let mut scan = waiting(|need| matches!(need, Need::Batch { .. }));
            let taken = scan.supply_batch(&blocks, |_| true);
            (scan, taken)
        }
        ChainResponse::Decision { validators, certificate } => {
            let mut scan = waiting(|need| matches!(need, Need::Decision(_)));
            let taken = scan.supply_decision(&validators, &certificate);
            (scan, taken)
        }
        ChainResponse::State { values, .. } => {
            for (value, proof) in values.into_iter().take(4) {
                check_proof(&StateKey::Totals, value.as_ref().map(|value| &value[..]), &proof);
            }
            return;
        }
        ChainResponse::Hosts(_)
        | ChainResponse::Accepted(_)
        | ChainResponse::Transaction(_)
        | ChainResponse::Refused(_) => return,
    };
    if let Err(error) = taken {
        let _ = (error.blame(), error.to_string());
    }
    // Nothing but what is in certified blocks of the chain is ever found.
    for found in scan.found() {
        let block = &chain.batch(found.height, 1)[0];
        assert!(block.records.contains(&found.record));
    }
    resumes(&scan);
}

/// Whatever a scan was told, it can go on from what it stores.
fn resumes(scan: &Scan) {
    let chain = blocks();
    let stored = decode::<ScanState>(&encode(&scan.state())).expect("it was just encoded");
    let again = Scan::resume(&chain.genesis, Rules::walk(&chain.genesis), stored);
    assert_eq!(again.expect("it was just stored").state(), scan.state());
}

/// Stored states of light nodes.
pub fn light_state(data: &[u8]) {
    let chain = blocks();
    let Some(state) = value::<LightState>(data) else { return };
    if let Ok(light) = LightChain::resume(&chain.genesis, Rules::walk(&chain.genesis), state) {
        let _ = (light.next(), light.progress());
    }
}

/// Stored states of scans.
pub fn scan_state(data: &[u8]) {
    let chain = blocks();
    let Some(state) = value::<ScanState>(data) else { return };
    let Ok(mut scan) = Scan::resume(&chain.genesis, Rules::walk(&chain.genesis), state) else {
        return;
    };
    let _ = (scan.next(), scan.progress());
    let _ = scan.supply_tip(chain.tip(), NOW);
    let _ = scan.supply_batch(chain.batch(Height(1), u32::MAX), |_| true);
    let _ = (scan.next(), scan.progress());
}

/// The state keys that proofs are about: values that are there, and some that are not.
pub(super) fn proven_key(number: u8) -> StateKey {
    match number % 8 {
        0 => StateKey::Totals,
        1 => StateKey::Validators,
        2 => StateKey::Host(secret(1).public()),
        3 => StateKey::Account(secret(200).public()),
        number => StateKey::Account(secret(number).public()),
    }
}

/// Proofs of the state: key, whether there is a value, the value behind its length, the proof.
pub fn state_proof(data: &[u8]) {
    let mut fields = Fields(data);
    let key = proven_key(fields.byte());
    let is_there = fields.byte() > 0;
    let value = fields.bytes();
    check_proof(&key, is_there.then_some(value), &StateProof(fields.0.to_vec()));
}

/// A proof that holds proves what is true.
fn check_proof(key: &StateKey, value: Option<&[u8]>, proof: &StateProof) {
    let state = state();
    match verify_proof(&state.root(), key, value, proof) {
        Ok(()) => {
            let held = state.value(key).expect("invariant: a state in memory can be read");
            assert_eq!(held.as_deref(), value, "a false proof of {key:?} holds");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
