//! The pool of waiting transactions: order, limits, evictions.

use samara_protocol::chain::query::TransactionStatus;
use samara_protocol::chain::{Action, Transaction};
use samara_protocol::encoding::encode;
use samara_protocol::ledger::TransactionError;
use samara_protocol::units::Amount;

use super::super::Relay;
use super::super::mempool::{Limits, SubmitError};
use super::{Solo, TestClock, body, fee, genesis, key, rich, transfer};

fn paying(solo: &Solo, from: u8, nonce: u64, fees: u128) -> Transaction {
    let action = Action::Transfer { to: key(9).public(), amount: Amount(1) };
    let mut body = body(&solo.genesis, &rich(from), nonce, action);
    body.fee = fee().checked_mul(fees).unwrap();
    Transaction::signed(body, &[&rich(from)])
}

fn pool_of(folder: &std::path::Path, limits: Limits) -> Solo {
    let (genesis, clock) = (genesis(1), TestClock::new());
    let opened = crate::chain::open(folder, genesis.clone(), limits, clock.clock());
    let (chain, application) = opened.unwrap();
    Solo { genesis, chain, application, clock }
}

#[test]
fn a_nonce_is_replaced_by_a_higher_fee_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    let (cheap, dear) = (paying(&solo, 0, 0, 2), paying(&solo, 0, 0, 3));
    solo.chain.submit(cheap.clone()).unwrap();
    assert_eq!(solo.chain.submit(cheap.clone()).unwrap(), cheap.id());
    let refused = solo.chain.submit(transfer(&solo.genesis, &rich(0), 0, key(8).public()));
    assert!(matches!(refused, Err(SubmitError::Underpriced { .. })), "{refused:?}");
    solo.chain.submit(dear.clone()).unwrap();
    assert_eq!(solo.chain.pending(), 1);
    assert_eq!(solo.chain.transaction_status(&cheap.id()).unwrap(), TransactionStatus::Unknown);
    solo.make_block();
    assert!(solo.chain.snapshot().unwrap().transaction_height(&dear.id()).unwrap().is_some());
}

#[test]
fn a_full_pool_makes_room_for_higher_fees() {
    let folder = tempfile::tempdir().unwrap();
    let solo = pool_of(folder.path(), Limits { count: 2, ..Limits::default() });
    solo.chain.submit(paying(&solo, 0, 0, 5)).unwrap();
    let lowest = solo.chain.submit(paying(&solo, 1, 0, 2)).unwrap();
    let refused = solo.chain.submit(paying(&solo, 2, 0, 2));
    assert!(matches!(refused, Err(SubmitError::Full { .. })), "{refused:?}");
    solo.chain.submit(paying(&solo, 2, 0, 3)).unwrap();
    assert_eq!(solo.chain.pending(), 2);
    assert_eq!(solo.chain.transaction_status(&lowest).unwrap(), TransactionStatus::Unknown);
}

#[test]
fn an_account_cannot_be_far_ahead_or_filled_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let solo = pool_of(folder.path(), Limits { per_account: 4, ..Limits::default() });
    let far = solo.chain.submit(paying(&solo, 0, 4, 1));
    assert!(matches!(far, Err(SubmitError::TooFarAhead { .. })), "{far:?}");
    let mut forged = paying(&solo, 0, 3, 1);
    forged.signatures = vec![forged.body.sign(&rich(1))];
    assert_eq!(solo.chain.receive(&encode(&forged)), Relay::Reject);
    assert_eq!(solo.chain.receive(b"noise"), Relay::Reject);
    let poor = transfer(&solo.genesis, &key(50), 0, key(9).public());
    assert_eq!(solo.chain.receive(&encode(&poor)), Relay::Ignore);
    let good = paying(&solo, 0, 0, 1);
    assert_eq!(solo.chain.receive(&encode(&good)), Relay::Accept);
    assert_eq!(solo.chain.receive(&encode(&good)), Relay::Ignore);
    assert_eq!(solo.chain.pending(), 1);
}

#[test]
fn what_a_block_made_invalid_is_evicted_and_refused_from_then_on() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut solo, mut other) = (Solo::open(ours.path()), Solo::open(theirs.path()));
    // The block of another node uses the nonce of what waits here.
    let stale = paying(&solo, 0, 0, 1);
    solo.chain.submit(stale.clone()).unwrap();
    let follower = solo.chain.submit(paying(&solo, 0, 1, 1)).unwrap();
    other.chain.submit(transfer(&other.genesis, &rich(0), 0, key(8).public())).unwrap();
    let block = other.make_block();
    let origin = crate::consensus::Origin::Proposal { round: 0 };
    crate::consensus::Application::check(&mut solo.application, &block.bytes, origin).unwrap();
    solo.commit(&block);
    assert_eq!(solo.chain.transaction_status(&stale.id()).unwrap(), TransactionStatus::Unknown);
    assert_eq!(solo.chain.pending(), 1);
    assert!(solo.chain.has_ready());
    solo.make_block();
    assert!(solo.chain.snapshot().unwrap().transaction_height(&follower).unwrap().is_some());
    let again = solo.chain.submit(stale);
    let Err(SubmitError::Invalid { source, .. }) = again else { panic!("{again:?}") };
    assert!(matches!(*source, TransactionError::Nonce { expected: 2, given: 0, .. }));
}

#[test]
fn a_block_takes_transactions_of_many_accounts_in_nonce_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    for nonce in [2, 0, 1] {
        for from in 0..4 {
            solo.chain.submit(paying(&solo, from, nonce, 1)).unwrap();
        }
    }
    solo.make_block();
    assert_eq!(solo.chain.pending(), 0);
    let block = solo.chain.snapshot().unwrap().block(solo.chain.height()).unwrap().unwrap();
    assert_eq!(block.transactions.len(), 12);
}
