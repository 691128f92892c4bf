//! The chain without an engine: what is stored, proven, answered, and what survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use samara_protocol::chain::query::{ChainRequest, ChainResponse, TransactionStatus};
use samara_protocol::chain::record::records_root;
use samara_protocol::chain::{Action, Block, Header};
use samara_protocol::encoding::{decode, encode};
use samara_protocol::host::announcement::{HostAnnouncement, Prices};
use samara_protocol::ledger::state::{Account, StateKey};
use samara_protocol::ledger::verify_proof;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, Height, Millis};

use super::super::{Limits, Store, StoreError};
use super::{START, Solo, TestClock, body, fee, genesis, key, rich, transfer};
use crate::clock::Elapsed;
use crate::consensus::{Application as _, Origin, Verdict};

fn ask(solo: &Solo, request: ChainRequest) -> ChainResponse {
    decode(&solo.chain.answer_now(request)).unwrap()
}

#[test]
fn transfers_are_committed_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    let to = key(9).public();
    // Out of order: the second waits for the first.
    let (first, second) =
        (transfer(&solo.genesis, &rich(0), 0, to), transfer(&solo.genesis, &rich(0), 1, to));
    solo.chain.submit(second.clone()).unwrap();
    assert!(!solo.chain.has_ready());
    solo.chain.submit(first.clone()).unwrap();
    assert_eq!(solo.chain.next_nonce(&rich(0).public()).unwrap(), 2);
    let pending = solo.chain.transaction_status(&first.id()).unwrap();
    assert_eq!(pending, TransactionStatus::Pending);
    solo.make_block();
    assert_eq!(solo.chain.pending(), 0);
    for transaction in [&first, &second] {
        let status = ask(&solo, ChainRequest::Transaction(transaction.id()));
        let included = TransactionStatus::Included(Height(1));
        assert_eq!(status, ChainResponse::Transaction(included));
    }

    let keys = vec![StateKey::Account(to), StateKey::Account(key(10).public()), StateKey::Totals];
    let ChainResponse::State { at, values } = ask(&solo, ChainRequest::State(keys.clone())) else {
        panic!("no state")
    };
    at.certificate.verify(&solo.genesis.hash(), &solo.genesis.validators).unwrap();
    assert_eq!(at.certificate.block, at.header.hash());
    for (key, (value, proof)) in keys.iter().zip(&values) {
        let value = value.as_ref().map(|value| value.as_slice());
        verify_proof(&at.header.state_root, key, value, proof).unwrap();
    }
    let account: Account = decode(values[0].0.as_ref().unwrap()).unwrap();
    assert_eq!(account, Account { balance: Amount::coins(2), nonce: 0 });
    assert_eq!(values[1].0, None);
}

#[test]
fn batches_hold_consecutive_headers_up_to_the_tip() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    for _ in 0..20 {
        solo.make_block();
    }
    let batch = |from, limit| {
        let request = ChainRequest::Batch { from: Height(from), limit };
        let ChainResponse::Batch(blocks) = ask(&solo, request) else { panic!("no batch") };
        blocks
    };
    let blocks = batch(1, 1_000);
    assert_eq!(blocks.len(), 20);
    let mut parent = solo.genesis.hash();
    for block in &blocks {
        assert_eq!(block.header.parent, parent);
        assert_eq!(block.header.records_root, records_root(&block.records));
        parent = block.header.hash();
    }
    assert_eq!(batch(5, 3), blocks[4..7]);
    assert_eq!(batch(20, 200), blocks[19..]);
    assert_eq!(batch(21, 200), []);
    let ChainResponse::Decision { validators, certificate } =
        ask(&solo, ChainRequest::Decision(Height(7)))
    else {
        panic!("no decision")
    };
    assert_eq!(certificate.block, blocks[6].header.hash());
    certificate.verify(&solo.genesis.hash(), &validators).unwrap();
}

#[test]
fn hosts_are_listed_in_key_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    for index in 0..3 {
        let prices = Prices {
            storage: Amount(1),
            upload: Amount(1),
            download: Amount(1),
            request: Amount(1),
            collateral_rate: Amount(1),
            maximum_collateral: Amount::COIN,
            proof_fee: Amount(1),
            maximum_duration: Millis::hours(1),
        };
        let announcement = HostAnnouncement {
            addresses: vec!["/ip4/127.0.0.1/tcp/4".to_owned()],
            operator: "operator".to_owned(),
            capacity: 1 << 30,
            accepting: true,
            prices,
        };
        let action = Action::AnnounceHost(announcement);
        let body = body(&solo.genesis, &rich(index), 0, action);
        let signed = samara_protocol::chain::Transaction::signed(body, &[&rich(index)]);
        solo.chain.submit(signed).unwrap();
    }
    solo.make_block();
    let mut expected: Vec<_> = (0..3).map(|index| rich(index).public()).collect();
    expected.sort();
    let hosts = |after, limit| ask(&solo, ChainRequest::Hosts { after, limit });
    assert_eq!(hosts(None, 10), ChainResponse::Hosts(expected.clone()));
    assert_eq!(hosts(Some(expected[0]), 1), ChainResponse::Hosts(vec![expected[1]]));
    assert_eq!(hosts(Some(expected[2]), 1), ChainResponse::Hosts(Vec::new()));
}

#[test]
fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    solo.chain.submit(transfer(&solo.genesis, &rich(0), 0, key(9).public())).unwrap();
    solo.make_block();
    let proposed = solo.application.propose(3).unwrap();
    let before = solo.chain.tip();
    drop(solo);

    let mut solo = Solo::open(folder.path());
    assert_eq!(solo.chain.tip(), before);
    assert_eq!(solo.application.tip(), Height(1));
    // The clock has moved on, the proposal of the round has not.
    solo.clock.set(START.0 + 5_000);
    assert_eq!(solo.application.propose(3).unwrap(), proposed);
    assert_ne!(solo.application.propose(4).unwrap().block, proposed.block);
    solo.commit(&proposed);
    assert!(solo.application.all_undecided().unwrap().is_empty());
    let account = solo.chain.snapshot().unwrap().account(&key(9).public()).unwrap();
    assert_eq!(account.balance, Amount::coins(1));
}

#[test]
fn a_folder_of_another_chain_or_of_a_newer_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path(), &genesis(1)).unwrap());
    let other = Store::open(folder.path(), &genesis(2)).map(|_| ());
    assert!(matches!(other, Err(StoreError::OtherChain { .. })));

    let database = redb::Database::open(folder.path().join("chain.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    write.open_table(meta).unwrap().insert("version", 9u32.to_le_bytes().as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    let newer = Store::open(folder.path(), &genesis(1)).map(|_| ());
    assert!(matches!(newer, Err(StoreError::Newer { found: 9 })));
}

#[test]
fn a_block_too_far_ahead_is_refused_until_it_is_decided() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut solo, mut other) = (Solo::open(ours.path()), Solo::open(theirs.path()));
    other.clock.set(START.0 + Header::MAX_DRIFT.0 + 2_000);
    let block = other.application.propose(0).unwrap();
    let origin = Origin::Proposal { round: 0 };
    let verdict = solo.application.check(&block.bytes, origin).unwrap();
    assert!(matches!(verdict, Verdict::Invalid { .. }), "{verdict:?}");
    let verdict = solo.application.check(&block.bytes, Origin::Decided { round: 0 }).unwrap();
    assert_eq!(verdict, Verdict::Valid(block.block));
    solo.clock.set(START.0 + 2_000);
    let verdict = solo.application.check(&block.bytes, origin).unwrap();
    assert_eq!(verdict, Verdict::Valid(block.block));
    solo.commit(&block);
    assert_eq!(solo.chain.height(), Height(1));
}

#[test]
fn bad_blocks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    let proposed = solo.application.propose(0).unwrap();
    let mut block: Block = decode(&proposed.bytes).unwrap();
    block.header.state_root.0[0] ^= 1;
    let origin = Origin::Proposal { round: 0 };
    let verdict = solo.application.check(&encode(&block), origin).unwrap();
    assert!(matches!(verdict, Verdict::Invalid { .. }), "{verdict:?}");
    assert_eq!(solo.application.undecided(&block.header.hash()).unwrap(), None);
    let verdict = solo.application.check(&proposed.bytes[1..], origin).unwrap();
    assert!(matches!(verdict, Verdict::Malformed(_)), "{verdict:?}");
    let huge = vec![0; 64 << 20];
    let verdict = solo.application.check(&huge, origin).unwrap();
    assert!(matches!(verdict, Verdict::Malformed(_)), "{verdict:?}");
}

#[test]
fn the_next_block_waits_for_the_heartbeat_or_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    solo.make_block();
    let heartbeat = Duration::from_millis(solo.genesis.parameters.heartbeat.0);
    assert_eq!(solo.application.next_block_in(), heartbeat);
    solo.clock.set(START.0 + 1 + 4_000);
    assert_eq!(solo.application.next_block_in(), heartbeat - Duration::from_secs(4));
    solo.chain.submit(transfer(&solo.genesis, &rich(0), 0, key(9).public())).unwrap();
    assert_eq!(solo.application.next_block_in(), Duration::ZERO);
}

#[tokio::test]
async fn a_long_poll_answers_with_the_next_tip() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    solo.make_block();
    let chain = solo.chain.clone();
    let request = ChainRequest::Tip { above: Some(Height(1)) };
    let poll = tokio::spawn(async move { chain.answer(request).await });
    tokio::task::yield_now().await;
    solo.make_block();
    let ChainResponse::Tip(Some(tip)) = decode(&poll.await.unwrap()).unwrap() else {
        panic!("no tip")
    };
    assert_eq!(tip.header.height, Height(2));
}

#[tokio::test]
async fn a_long_poll_without_room_or_given_up_answers_with_the_present_tip() {
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    solo.make_block();
    let poll = |number: usize| {
        let mut peer = [0; 32];
        peer[..8].copy_from_slice(&number.to_le_bytes());
        let chain = solo.chain.clone();
        let request = ChainRequest::Tip { above: Some(Height(1)) };
        async move { chain.answer_peer(PublicKey(peer), request).await }
    };
    let waiting: Vec<_> =
        (0..crate::chain::LONG_POLLS).map(|number| tokio::spawn(poll(number))).collect();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let present = encode(&ChainResponse::Tip(solo.chain.tip().map(|tip| Box::new((*tip).clone()))));
    assert_eq!(poll(crate::chain::LONG_POLLS).await, present);
    // A peer's next poll takes the place of the one before.
    let again = tokio::spawn(poll(0));
    let mut waiting = waiting.into_iter();
    assert_eq!(waiting.next().unwrap().await.unwrap(), present);
    assert!(waiting.all(|poll| !poll.is_finished()) && !again.is_finished());
}

#[test]
fn a_chain_of_a_bad_genesis_document_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut genesis = genesis(1);
    genesis.name.clear();
    let clock = TestClock::new().clock();
    let opened = crate::chain::open(folder.path(), genesis, Limits::default(), clock).map(|_| ());
    assert!(matches!(opened, Err(StoreError::Genesis(_))));
    assert!(fee() > Amount::ZERO);
}

/// A counter of elapsed time that the test moves.
fn counter() -> (Arc<AtomicU64>, Elapsed) {
    let counter = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&counter);
    (counter, Arc::new(move || Duration::from_millis(read.load(Ordering::SeqCst))))
}

#[test]
fn a_wrong_clock_of_the_only_validator_ends_no_contract() {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    let folder = tempfile::tempdir().unwrap();
    let mut solo = Solo::open(folder.path());
    let (passed, elapsed) = counter();
    solo.chain.guard_clock(key(0).public(), elapsed.clone()).unwrap();
    solo.make_block();
    let time = |solo: &Solo| solo.chain.tip().unwrap().header.time.0;
    // 25 s with a clock that is a year ahead; blocks are made all the time.
    for second in 1..=25 {
        passed.store(second * 1_000, Ordering::SeqCst);
        solo.clock.set(START.0 + YEAR + second * 1_000);
        solo.make_block();
        assert_eq!(time(&solo), START.0 + 1 + second * 1_000);
        // Nothing is due by such a clock either.
        assert!(solo.application.next_block_in() > Duration::from_secs(1));
    }
    let lead = solo.chain.clock_lead().unwrap();
    assert_eq!((lead.ahead, lead.believed_in), (YEAR - 1, None));
    solo.clock.set(START.0 + 26_000);
    passed.store(26_000, Ordering::SeqCst);
    assert_eq!(solo.chain.clock_lead(), None);
    solo.make_block();
    assert_eq!(time(&solo), START.0 + 26_000);
    drop(solo);

    // The node starts again a year later, and its operator says so.
    let mut solo = Solo::open(folder.path());
    solo.clock.set(START.0 + YEAR);
    solo.chain.guard_clock(key(0).public(), elapsed).unwrap();
    solo.make_block();
    assert!(time(&solo) < START.0 + 27_000);
    assert!(!solo.chain.accept_clock(7));
    assert!(solo.chain.accept_clock(solo.chain.clock_lead().unwrap().ahead));
    solo.make_block();
    assert_eq!(time(&solo), START.0 + YEAR);
}
