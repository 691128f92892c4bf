//! The scan finds every contract of the seed and nothing of anyone else's (I10).

mod support;

use proptest::prelude::*;
use samara_protocol::chain::RecoveryRecord;
use samara_protocol::chain::light::{Blame, LightError, Need, Pace, Rules};
use samara_protocol::chain::query::ScannedBlock;
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::{BlockHash, ContractNonce};
use samara_protocol::keys::{KeyTree, Phrase};
use samara_protocol::recovery::{FoundContract, Scan, ScanError};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Height, Millis};
use support::{TestChain, secret};
use zeroize::Zeroizing;

fn tree(byte: u8, genesis: BlockHash) -> KeyTree {
    let phrase = Phrase::from_entropy(&Zeroizing::new([byte; 16])).unwrap();
    KeyTree::new(&phrase.seed(""), &genesis)
}

fn host(byte: u8) -> PublicKey {
    secret(100 + byte % 50).public()
}

fn record(tree: &KeyTree, nonce: u8, host: PublicKey) -> RecoveryRecord {
    let nonce = ContractNonce([nonce; 16]);
    let tag = tree.recovery_tag().tag(&nonce, &host);
    RecoveryRecord { nonce, tag, host, contract: tree.contract(&nonce).public() }
}

fn owns(tree: &KeyTree) -> impl Fn(&RecoveryRecord) -> bool + '_ {
    let tags = tree.recovery_tag();
    move |record| {
        tags.tag(&record.nonce, &record.host) == record.tag
            && tree.contract(&record.nonce).public() == record.contract
    }
}

fn rules(stride: u32) -> Rules {
    Rules { pace: Pace::Walk { stride }, max_age: Millis(60_000) }
}

/// One step with honest answers; false when the scan is done.
fn step(scan: &mut Scan, chain: &TestChain, limit: u32, tree: &KeyTree) -> bool {
    match scan.next() {
        Need::Tip => drop(scan.supply_tip(chain.tip(), chain.now()).unwrap()),
        Need::Batch { from, limit: most } => {
            let blocks = chain.batch(from, most.min(limit));
            scan.supply_batch(&blocks, owns(tree)).unwrap();
        }
        Need::Decision(height) => {
            let (set, certificate) = chain.decision(height);
            scan.supply_decision(&set, &certificate).unwrap();
        }
        Need::Done => return false,
    }
    true
}

/// A chain of 60 blocks in which every third has a foreign record and blocks 10, 30 and 60 an own one.
fn example() -> (TestChain, KeyTree, Vec<FoundContract>) {
    let mut chain = TestChain::new(&[1, 2, 3, 4]);
    let (own, foreign) = (tree(1, chain.genesis.hash()), tree(2, chain.genesis.hash()));
    let mut expected = Vec::new();
    for height in 1..=60u8 {
        let mut records = Vec::new();
        if height % 3 == 0 {
            records.push(record(&foreign, height, host(height)));
        }
        if [10, 30, 60].contains(&height) {
            let record = record(&own, height, host(height));
            records.push(record);
            expected.push(FoundContract { height: Height(u64::from(height)), record });
        }
        chain.push(records);
    }
    (chain, own, expected)
}

#[test]
fn findings_count_only_when_certified() {
    let (chain, own, expected) = example();
    let mut scan = Scan::new(&chain.genesis, rules(25));
    scan.supply_tip(chain.tip(), chain.now()).unwrap();
    let progress = scan.supply_batch(&chain.batch(Height(1), 25), owns(&own)).unwrap();
    assert_eq!((progress.blocks_done, progress.blocks_certified), (25, 0));
    assert_eq!((progress.candidates, progress.contracts_found), (1, 0));
    assert_eq!(progress.blocks_known, Some(60));
    assert_eq!(scan.next(), Need::Decision(Height(25)));
    let (set, certificate) = chain.decision(Height(25));
    let progress = scan.supply_decision(&set, &certificate).unwrap();
    assert_eq!((progress.candidates, progress.contracts_found), (0, 1));
    while step(&mut scan, &chain, 9, &own) {}
    assert_eq!(scan.found(), expected);
}

#[test]
fn a_scan_goes_on_with_blocks_made_since() {
    let (mut chain, own, mut expected) = example();
    let mut scan = Scan::new(&chain.genesis, rules(1_000));
    while step(&mut scan, &chain, 100, &own) {}
    let record = record(&own, 61, host(1));
    chain.push_change(vec![record], &[7, 8, 9]).grow(4);
    expected.push(FoundContract { height: Height(61), record });
    scan.seek();
    while step(&mut scan, &chain, 100, &own) {}
    assert_eq!(scan.found(), expected);
    assert_eq!(scan.progress().blocks_certified, 65);
}

#[test]
fn dropped_added_and_altered_records_are_named() {
    let (chain, own, expected) = example();
    let mut scan = Scan::new(&chain.genesis, rules(100));
    scan.supply_tip(chain.tip(), chain.now()).unwrap();
    let honest = chain.batch(Height(1), 60);
    let refuse = |change: &dyn Fn(&mut Vec<ScannedBlock>)| {
        let (mut scan, mut blocks) = (scan.clone(), honest.clone());
        change(&mut blocks);
        let error = scan.supply_batch(&blocks, owns(&own)).unwrap_err();
        assert_eq!(error.blame(), Blame::Answer);
        assert_eq!(scan.progress().blocks_done, 0);
        error
    };
    let height = Height(10);
    let expect = ScanError::Records { height };
    assert_eq!(refuse(&|blocks| blocks[9].records.clear()), expect);
    assert_eq!(refuse(&|blocks| blocks[9].records[0].tag.0[0] ^= 1), expect);
    let extra = expected[1].record;
    assert_eq!(refuse(&|blocks| blocks[9].records.push(extra)), expect);
    // With a records root to match, the block is another one and the next does not follow it.
    let relabelled = refuse(&|blocks| {
        blocks[9].records.clear();
        blocks[9].header.records_root = samara_protocol::chain::record::records_root(&[]);
    });
    assert!(
        matches!(relabelled, ScanError::Light(LightError::Parent { height: Height(11), .. })),
        "{relabelled}"
    );
}

#[test]
fn candidates_of_a_false_branch_are_dropped() {
    let (chain, own, expected) = example();
    let mut fork = chain.forked_at(12, 0);
    fork.push(vec![record(&own, 77, host(3))]).grow(47);
    let mut scan = Scan::new(&chain.genesis, rules(40));
    scan.supply_tip(chain.tip(), chain.now()).unwrap();
    let progress = scan.supply_batch(&fork.batch(Height(1), 40), owns(&own)).unwrap();
    assert_eq!(progress.candidates, 2);
    let (set, certificate) = chain.decision(Height(40));
    let error = scan.supply_decision(&set, &certificate).unwrap_err();
    assert_eq!(error.blame(), Blame::Batches);
    assert_eq!((scan.progress().candidates, scan.progress().blocks_done), (0, 0));
    while step(&mut scan, &chain, 9, &own) {}
    assert_eq!(scan.found(), expected);
}

#[test]
fn an_old_tip_is_refused_and_may_be_accepted_on_purpose() {
    let (chain, own, expected) = example();
    let mut scan = Scan::new(&chain.genesis, rules(100));
    let late = chain.now().plus(Millis(1_000_000));
    let error = scan.supply_tip(chain.tip(), late).unwrap_err();
    assert!(matches!(error, ScanError::Light(LightError::Stale { height: Height(60), .. })));
    scan.set_max_age(Millis(2_000_000));
    scan.supply_tip(chain.tip(), late).unwrap();
    while step(&mut scan, &chain, 9, &own) {}
    assert_eq!(scan.found(), expected);
}

/// One record of a random chain.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Own,
    Foreign,
    /// An own tag, nonce and host under a foreign contract key.
    CopiedTag,
    /// A foreign tag with an own nonce and contract key.
    WrongTag,
    /// An own record with another nonce.
    WrongNonce,
    /// An own record with another host.
    WrongHost,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Own),
        Just(Kind::Foreign),
        Just(Kind::CopiedTag),
        Just(Kind::WrongTag),
        Just(Kind::WrongNonce),
        Just(Kind::WrongHost),
    ]
}

fn make(kind: Kind, number: u8, own: &KeyTree, foreign: &KeyTree) -> RecoveryRecord {
    let (mut mine, theirs) =
        (record(own, number, host(number)), record(foreign, number, host(number)));
    match kind {
        Kind::Own => {}
        Kind::Foreign => return theirs,
        Kind::CopiedTag => mine.contract = theirs.contract,
        Kind::WrongTag => mine.tag = theirs.tag,
        Kind::WrongNonce => mine.nonce.0[0] ^= 1,
        Kind::WrongHost => mine.host = host(number + 1),
    }
    mine
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn finds_all_own_records_and_no_other(
        layout in proptest::collection::vec(proptest::collection::vec(kinds(), 0..3), 1..40),
        changes in proptest::collection::btree_map(0usize..40, 1u8..9, 0..4),
        stride in 1u32..30,
        limit in 1u32..20,
        crash in 2usize..5,
    ) {
        let mut chain = TestChain::new(&[1, 2, 3]);
        let (own, foreign) = (tree(1, chain.genesis.hash()), tree(2, chain.genesis.hash()));
        let mut expected = Vec::new();
        let mut number = 0u8;
        for (index, kinds) in layout.iter().enumerate() {
            let mut records = Vec::new();
            for kind in kinds {
                number += 1;
                let record = make(*kind, number, &own, &foreign);
                if matches!(kind, Kind::Own) {
                    expected.push(FoundContract { height: Height(index as u64 + 1), record });
                }
                records.push(record);
            }
            match changes.get(&index) {
                Some(first) => chain.push_change(records, &[*first, first + 1, first + 2]),
                None => chain.push(records),
            };
        }
        let mut scan = Scan::new(&chain.genesis, rules(stride));
        let mut steps = 0;
        while step(&mut scan, &chain, limit, &own) {
            steps += 1;
            prop_assert!(steps < 5_000);
            if steps % crash == 0 {
                let stored = decode(&encode(&scan.state())).unwrap();
                scan = Scan::resume(&chain.genesis, rules(stride), stored).unwrap();
            }
        }
        prop_assert_eq!(scan.found(), expected.as_slice());
        prop_assert_eq!(scan.progress().blocks_certified, chain.height().0);
    }
}
