//! What a light chain believes, and what it refuses.

mod support;

use proptest::prelude::*;
use samara_protocol::chain::light::{
    Blame, LightChain, LightError, Need, Pace, ResumeError, Rules,
};
use samara_protocol::chain::query::Finalized;
use samara_protocol::chain::{CertificateError, Header};
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::BlockHash;
use samara_protocol::units::{ChainTime, Height, Millis};
use support::{TestChain, certificate, set};

const FOUR: &[u8] = &[1, 2, 3, 4];

fn rules(pace: Pace) -> Rules {
    Rules { pace, max_age: Millis(60_000) }
}

fn walk(stride: u32) -> Rules {
    rules(Pace::Walk { stride })
}

/// Answers what the chain asks until it is done; returns the batches and decisions asked for.
fn drive(light: &mut LightChain, chain: &TestChain) -> (usize, usize) {
    let (mut batches, mut decisions) = (0, 0);
    loop {
        match light.next() {
            Need::Tip => {
                light.supply_tip(chain.tip(), chain.now()).unwrap();
            }
            Need::Batch { from, limit } => {
                batches += 1;
                let blocks = chain.batch(from, limit.min(7));
                light.supply_batch(blocks.iter().map(|block| &block.header)).unwrap();
            }
            Need::Decision(height) => {
                decisions += 1;
                let (set, certificate) = chain.decision(height);
                light.supply_decision(&set, &certificate).unwrap();
            }
            Need::Done => return (batches, decisions),
        }
    }
}

#[test]
fn an_unchanged_set_is_jumped_over() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(500);
    let mut light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    assert_eq!(drive(&mut light, &chain), (0, 0));
    assert_eq!(light.trusted().tip, chain.tip());
}

#[test]
fn a_chain_without_blocks_is_done_at_once() {
    let chain = TestChain::new(FOUR);
    let mut light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    assert_eq!(drive(&mut light, &chain), (0, 0));
    assert_eq!(light.trusted().height(), Height(0));
}

#[test]
fn set_changes_are_walked_through_and_the_rest_jumped_over() {
    let mut chain = TestChain::new(FOUR);
    chain
        .grow(10)
        .push_change(Vec::new(), &[5, 6, 7])
        .push_change(Vec::new(), &[6, 7, 8])
        .grow(100);
    let mut light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    let (batches, decisions) = drive(&mut light, &chain);
    assert_eq!(light.trusted().tip, chain.tip());
    assert_eq!(light.trusted().validators, set(&[6, 7, 8]));
    assert_eq!(decisions, 4);
    assert!(batches < 5, "the hundred blocks after the last change were not walked: {batches}");
}

#[test]
fn a_change_at_the_tip_is_learned_when_the_chain_goes_on() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(3).push_change(Vec::new(), &[5, 6, 7]);
    for pace in [Pace::Skip, Pace::Walk { stride: 2 }] {
        let mut chain = chain.clone();
        let mut light = LightChain::new(&chain.genesis, rules(pace));
        drive(&mut light, &chain);
        assert_eq!(light.trusted().height(), Height(4));
        chain.grow(9);
        light.seek();
        drive(&mut light, &chain);
        assert_eq!(light.trusted().tip, chain.tip());
    }
}

#[test]
fn the_old_set_cannot_go_on_after_it_was_replaced() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(3).push_change(Vec::new(), &[5, 6, 7]);
    let mut light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    drive(&mut light, &chain);
    // The old validators sign a successor in which they are still in office.
    let mut header = chain.header(4);
    header.parent = header.hash();
    header.height = Height(5);
    header.time = header.time.plus(Millis(1));
    header.next_validators = header.validators;
    let tip = Finalized { header, certificate: certificate(&header, FOUR) };
    let progress = light.supply_tip(Some(tip), chain.now()).unwrap();
    assert_eq!(progress.trusted, Height(4), "a claim only");
    assert_eq!(light.next(), Need::Decision(Height(5)));
    let (old, signed) = (set(FOUR), certificate(&header, FOUR));
    assert_eq!(light.supply_decision(&old, &signed), Err(LightError::Set { height: Height(5) }));
    let error = light.supply_decision(&set(&[5, 6, 7]), &signed);
    assert_eq!(light.trusted().height(), Height(4), "{error:?}");
}

#[test]
fn a_walk_certifies_every_stride() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(100);
    let mut light = LightChain::new(&chain.genesis, walk(20));
    let (_, decisions) = drive(&mut light, &chain);
    assert_eq!(decisions, 4, "the tip brings its own");
    assert_eq!(light.trusted().tip, chain.tip());
}

#[test]
fn false_tips_are_refused_by_name() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(5);
    let light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    let height = Height(5);
    let refuse = |tip: Finalized, now: ChainTime| {
        let mut light = light.clone();
        let error = light.supply_tip(Some(tip), now).unwrap_err();
        assert_eq!(error.blame(), Blame::Answer);
        assert_eq!(light.trusted().height(), Height(0));
        assert_eq!(light.next(), Need::Tip);
        error
    };
    let altered = |change: fn(&mut Header), signers: &[u8]| {
        let mut header = chain.header(5);
        change(&mut header);
        Finalized { header, certificate: certificate(&header, signers) }
    };
    let now = chain.now();
    assert_eq!(
        refuse(altered(|header| header.version = 2, FOUR), now),
        LightError::Version { height, version: 2 }
    );
    let genesis = BlockHash([9; 32]);
    assert_eq!(
        refuse(altered(|header| header.genesis = BlockHash([9; 32]), FOUR), now),
        LightError::Chain { height, genesis }
    );
    assert!(matches!(
        refuse(altered(|_| (), &[1, 2]), now),
        LightError::Certificate(CertificateError::NoQuorum { power: 2, total: 4, .. })
    ));
    assert!(matches!(
        refuse(altered(|_| (), &[1, 2, 9]), now),
        LightError::Certificate(CertificateError::Stranger { .. })
    ));
    let mut forged = chain.tip().unwrap();
    forged.header.state_root.0[0] ^= 1;
    assert_eq!(refuse(forged, now), LightError::OtherBlock { height, certified: height });
    let mut forged = chain.tip().unwrap();
    forged.certificate.signatures[0].1.0[0] ^= 1;
    assert!(matches!(
        refuse(forged, now),
        LightError::Certificate(CertificateError::BadSignature { .. })
    ));
    let late = now.plus(Millis(100_000));
    assert_eq!(
        refuse(chain.tip().unwrap(), late),
        LightError::Stale { height, age: Millis(100_500) }
    );
    assert!(matches!(refuse(chain.tip().unwrap(), ChainTime(0)), LightError::Ahead { .. }));
    let huge = altered(|header| header.height = Height(u64::MAX), FOUR);
    assert!(matches!(refuse(huge, now), LightError::Order { .. }));
}

#[test]
fn a_tip_below_or_beside_the_trusted_one_is_refused() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(5);
    let mut light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    drive(&mut light, &chain);
    let trusted = Height(5);
    assert_eq!(
        light.supply_tip(Some(chain.finalized(Height(4))), chain.now()),
        Err(LightError::Behind { height: Height(4), trusted })
    );
    assert_eq!(
        light.supply_tip(None, chain.now()),
        Err(LightError::Behind { height: Height(0), trusted })
    );
    let fork = chain.forked_at(4, 1);
    assert!(matches!(
        light.supply_tip(fork.tip(), chain.now()),
        Err(LightError::Fork { height: Height(5), .. })
    ));
}

#[test]
fn broken_links_change_nothing() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(20);
    let mut light = LightChain::new(&chain.genesis, walk(100));
    light.supply_tip(chain.tip(), chain.now()).unwrap();
    let honest: Vec<Header> = chain.blocks.iter().map(|block| block.header).collect();
    let refuse = |headers: &[Header]| {
        let mut light = light.clone();
        let before = light.progress();
        let error = light.supply_batch(headers).unwrap_err();
        assert_eq!((light.progress(), error.blame()), (before, Blame::Answer));
        error
    };
    let mut gap = honest.clone();
    gap.remove(7);
    assert_eq!(refuse(&gap), LightError::Order { expected: Height(8), found: Height(9) });
    let mut broken = honest.clone();
    broken[7].state_root.0[0] ^= 1;
    assert!(matches!(refuse(&broken), LightError::Parent { height: Height(9), .. }));
    let mut late = honest.clone();
    late[7].time = late[6].time;
    assert_eq!(refuse(&late), LightError::Time { height: Height(8) });
    let mut other = honest.clone();
    other[7].validators = set(&[9]).hash();
    assert_eq!(refuse(&other), LightError::Validators { height: Height(8) });
    assert_eq!(
        refuse(&[]),
        LightError::Empty { from: Height(1), tip: Height(20), certified: true }
    );
    let mut more = honest.clone();
    more.push(honest[0]);
    assert_eq!(refuse(&more), LightError::TooMany { from: Height(1), limit: 20 });
}

#[test]
fn linked_headers_that_a_certificate_contradicts_are_dropped() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(50);
    let fork = chain.forked_at(15, 35);
    for stride in [20, 100] {
        let mut light = LightChain::new(&chain.genesis, walk(stride));
        light.supply_tip(chain.tip(), chain.now()).unwrap();
        let error = loop {
            let result = match light.next() {
                Need::Batch { from, limit } => {
                    let blocks = fork.batch(from, limit);
                    light.supply_batch(blocks.iter().map(|block| &block.header))
                }
                Need::Decision(height) => {
                    let (set, certificate) = chain.decision(height);
                    light.supply_decision(&set, &certificate)
                }
                other => panic!("{other:?}"),
            };
            if let Err(error) = result {
                break error;
            }
        };
        assert!(matches!(error, LightError::Contradicted { .. }), "{error}");
        assert_eq!(error.blame(), Blame::Batches);
        assert_eq!(light.progress().linked, light.progress().trusted);
        drive(&mut light, &chain);
        assert_eq!(light.trusted().tip, chain.tip(), "an honest peer heals it");
    }
}

#[test]
fn a_claimed_tip_that_the_new_set_never_certified_is_found_out() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(5).push_change(Vec::new(), &[5, 6, 7]).grow(5);
    let mut lie = chain.tip().unwrap();
    lie.certificate = certificate(&lie.header, &[11, 12, 13]);
    for pace in [Pace::Skip, Pace::Walk { stride: 100 }] {
        let mut light = LightChain::new(&chain.genesis, rules(pace));
        light.supply_tip(Some(lie.clone()), chain.now()).unwrap();
        let mut found_out = None;
        while found_out.is_none() {
            let result = match light.next() {
                Need::Batch { from, limit } => {
                    let blocks = chain.batch(from, limit);
                    light.supply_batch(blocks.iter().map(|block| &block.header))
                }
                Need::Decision(height) => {
                    let (set, certificate) = chain.decision(height);
                    light.supply_decision(&set, &certificate)
                }
                other => panic!("{other:?}"),
            };
            found_out = result.err();
        }
        assert_eq!(found_out, Some(LightError::FalseTip { height: Height(11) }));
        drive(&mut light, &chain);
        assert_eq!(light.trusted().tip, chain.tip());
    }
}

#[test]
fn an_unproven_tip_without_blocks_below_it_is_forgotten() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(3);
    let mut header = chain.header(3);
    header.height = Height(1 << 60);
    header.validators = set(&[9]).hash();
    let tip = Finalized { header, certificate: certificate(&header, &[9]) };
    let mut light = LightChain::new(&chain.genesis, rules(Pace::Skip));
    light.supply_tip(Some(tip), chain.now()).unwrap();
    let error = light.supply_batch(&[]).unwrap_err();
    assert_eq!(error.blame(), Blame::TipOrAnswer);
    drive(&mut light, &chain);
    assert_eq!(light.trusted().tip, chain.tip());
}

#[test]
fn answers_to_no_question_are_the_callers_fault() {
    let chain = TestChain::new(FOUR);
    let mut light = LightChain::new(&chain.genesis, walk(1));
    let (set, certificate) = (set(FOUR), certificate(&header_of(&chain), FOUR));
    assert_eq!(light.supply_batch(&[]).unwrap_err().blame(), Blame::Caller);
    assert_eq!(light.supply_decision(&set, &certificate).unwrap_err().blame(), Blame::Caller);
}

fn header_of(chain: &TestChain) -> Header {
    let mut chain = chain.clone();
    chain.grow(1).header(1)
}

#[test]
fn states_of_other_chains_are_refused() {
    let mut chain = TestChain::new(FOUR);
    chain.grow(5);
    let other = TestChain::new(&[1, 2, 3]);
    let mut light = LightChain::new(&chain.genesis, walk(2));
    drive(&mut light, &chain);
    let state = light.state().clone();
    assert_eq!(
        LightChain::resume(&other.genesis, walk(2), state.clone()).unwrap_err(),
        ResumeError::Chain(chain.genesis.hash())
    );
    assert!(LightChain::resume(&chain.genesis, walk(2), state).is_ok());
}

/// Sets that overlap or not, so that changes are of all kinds.
fn chains() -> impl Strategy<Value = TestChain> {
    let step = prop_oneof![
        4 => Just(None),
        1 => proptest::collection::btree_set(1u8..9, 1..5)
            .prop_map(|set| Some(set.into_iter().collect::<Vec<_>>())),
    ];
    proptest::collection::vec(step, 1..40).prop_map(|steps| {
        let mut chain = TestChain::new(FOUR);
        for step in steps {
            match step {
                None => chain.push(Vec::new()),
                Some(next) => chain.push_change(Vec::new(), &next),
            };
        }
        chain
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any chain is followed to its tip, whatever the pace, through restarts at every step.
    #[test]
    fn every_chain_is_followed_through_restarts(
        chain in chains(),
        stride in prop_oneof![Just(None), (1u32..12).prop_map(Some)],
        limit in 1u32..9,
    ) {
        let rules = rules(stride.map_or(Pace::Skip, |stride| Pace::Walk { stride }));
        let mut light = LightChain::new(&chain.genesis, rules);
        let mut steps = 0;
        loop {
            steps += 1;
            prop_assert!(steps < 2_000, "no end: {:?}", light.progress());
            match light.next() {
                Need::Tip => { light.supply_tip(chain.tip(), chain.now()).unwrap(); }
                Need::Batch { from, limit: most } => {
                    let blocks = chain.batch(from, most.min(limit));
                    light.supply_batch(blocks.iter().map(|block| &block.header)).unwrap();
                }
                Need::Decision(height) => {
                    let (set, certificate) = chain.decision(height);
                    light.supply_decision(&set, &certificate).unwrap();
                }
                Need::Done => break,
            }
            if steps % 3 == 0 {
                let stored = decode(&encode(light.state())).unwrap();
                light = LightChain::resume(&chain.genesis, rules, stored).unwrap();
            }
        }
        prop_assert_eq!(&light.trusted().tip, &chain.tip());
    }

    /// One changed byte anywhere in a header is never believed.
    #[test]
    fn no_altered_header_is_trusted(height in 1u64..30, byte in 0usize..230, flip in 1u8..) {
        let mut chain = TestChain::new(FOUR);
        chain.grow(30);
        let mut bytes = encode(&chain.header(height));
        prop_assume!(byte < bytes.len());
        bytes[byte] ^= flip;
        let Ok(altered) = decode::<Header>(&bytes) else { return Ok(()) };
        prop_assume!(altered != chain.header(height));
        let mut headers: Vec<Header> = chain.blocks.iter().map(|block| block.header).collect();
        headers[height as usize - 1] = altered;
        let mut light = LightChain::new(&chain.genesis, walk(100));
        light.supply_tip(chain.tip(), chain.now()).unwrap();
        prop_assert!(light.supply_batch(&headers).is_err());
        prop_assert_eq!(light.progress().trusted, Height(0));
    }
}
