//! The life of contracts, to the grain.

use samara_protocol::chain::{Action, Transaction};
use samara_protocol::contract::{ContractTerms, Revision, SignedRevision, TermsError};
use samara_protocol::ledger::state::{Contract, ContractPhase};
use samara_protocol::ledger::{TransactionError, challenge_seed, next_due, records, wants_block};
use samara_protocol::units::{Amount, ChainTime, Height, Millis};

use crate::world::{
    FEE, HOST, PERIOD, RENTER, START, STRANGER, WEALTH, WINDOW, World, genesis, key, public,
    storage_proof, terms,
};

/// Pay for a period of `sectors` KiB at 3,600 grains for a byte and hour: ten grains a byte.
fn pay(sectors: u64) -> u128 {
    u128::from(sectors) * 1_024 * 10
}

/// Blocks until the period's challenge is known.
fn open_period(world: &mut World, contract: u16) {
    let end = world.contract(contract).unwrap().period_end();
    world.good(end.since(world.now()).0.max(1), vec![]);
    for _ in 0..Contract::SEEDS {
        assert!(wants_block(&world.state, world.now().plus(Millis(1))).unwrap());
        assert_eq!(world.contract(contract).unwrap().challenge(), None);
        world.good(1, vec![]);
    }
}

#[test]
fn formation_locks_both_sides_and_leaves_a_record() {
    let mut world = World::new();
    let form = world.form(terms(100), 100);
    world.good(10, vec![form]);
    let contract = world.contract(100).unwrap();
    assert_eq!((contract.funds, contract.collateral), (terms(100).funds, terms(100).collateral));
    assert_eq!(contract.revision, Revision::initial(public(100)));
    assert_eq!((contract.started, contract.formed), (START.plus(Millis(10)), Height(1)));
    assert_eq!(world.balance(RENTER), WEALTH.0 - FEE.0 - terms(100).funds.0);
    assert_eq!(world.balance(HOST), WEALTH.0 - terms(100).collateral.0);
    assert_eq!(records(&world.blocks[0]), vec![terms(100).record()]);
    assert_eq!(next_due(&world.state).unwrap(), Some(contract.period_end()));
    let again = world.form(terms(100), 100);
    assert!(matches!(world.refused(again), TransactionError::ContractExists(_)));
}

/// Breaks one rule.
type Change<T> = fn(&mut T);

#[test]
fn terms_have_bounds() {
    let mut world = World::new();
    let cases: [(TermsError, Change<ContractTerms>); 9] = [
        (TermsError::NoNonce, |t| t.nonce.0 = [0; 16]),
        (TermsError::NoTag, |t| t.tag.0 = [0; 16]),
        (TermsError::Periods(0), |t| t.periods = 0),
        (TermsError::Periods(100_001), |t| t.periods = 100_001),
        (TermsError::Period { given: Millis(999), least: Millis(1_000) }, |t| {
            t.period = Millis(999)
        }),
        (
            TermsError::Window { given: Millis(999), least: Millis(1_000), period: Millis(PERIOD) },
            |t| t.window = Millis(999),
        ),
        (
            TermsError::Window {
                given: Millis(PERIOD + 1),
                least: Millis(1_000),
                period: Millis(PERIOD),
            },
            |t| t.window = Millis(PERIOD + 1),
        ),
        (TermsError::WindowBlocks { given: 2, least: 3 }, |t| t.window_blocks = 2),
        (TermsError::Endless, |t| t.period = Millis(u64::MAX / 2)),
    ];
    for (expected, change) in cases {
        let mut bad = terms(100);
        change(&mut bad);
        let form = world.form(bad, 100);
        match world.refused(form) {
            TransactionError::Terms { source, .. } => assert_eq!(source, expected),
            other => panic!("{other:?}"),
        }
    }
    let rich = ContractTerms { funds: Amount(u128::MAX), ..terms(100) };
    let form = world.form(rich, 100);
    assert!(matches!(world.refused(form), TransactionError::Balance { .. }));
    let rich = ContractTerms { collateral: Amount(u128::MAX), ..terms(100) };
    let form = world.form(rich, 100);
    assert!(matches!(world.refused(form), TransactionError::Balance { .. }));
}

#[test]
fn proofs_are_paid_and_missed_ones_burn() {
    let mut world = World::with_contract(5);
    let (host, burned) = (world.balance(HOST), world.totals().burned.0);
    open_period(&mut world, 100);
    let contract = world.contract(100).unwrap();
    let ContractPhase::Proving { opened, seeds, .. } = contract.phase.clone() else { panic!() };
    let hash = |height: u64| world.blocks[height as usize - 1].header.hash();
    assert_eq!(seeds, vec![hash(opened.0), hash(opened.0 + 1), hash(opened.0 + 2)]);
    assert_eq!(contract.challenge(), Some(challenge_seed(&public(100), 0, &seeds)));

    let proof = world.proof(100, 5);
    world.good(1, vec![proof]);
    let contract = world.contract(100).unwrap();
    assert_eq!((contract.period, contract.proofs_kept), (1, 1));
    assert_eq!(contract.phase, ContractPhase::Running);
    assert_eq!(world.balance(HOST), host + pay(5) + 500 - FEE.0);
    assert_eq!(contract.funds.0, terms(100).funds.0 - pay(5) - 500);

    let closes = contract.period_end().plus(Millis(WINDOW));
    world.run_to(closes.plus(Millis(60_000)));
    assert!(world.contract(100).is_none(), "the other two periods passed without a proof");
    let penalty = 2 * 5 * 1_024;
    assert_eq!(world.totals().burned.0, burned + FEE.0 + 2 * penalty);
    assert_eq!(world.balance(HOST), WEALTH.0 + pay(5) + 500 - FEE.0 - 2 * penalty);
    assert_eq!(world.balance(RENTER), WEALTH.0 - FEE.0 - pay(5) - 500);
    assert_eq!(world.totals().locked, Amount::ZERO);
    assert_eq!(next_due(&world.state).unwrap(), None);
}

#[test]
fn a_penalty_burns_no_more_than_the_collateral() {
    let mut world = World::new();
    let rate = Amount(u128::MAX);
    let form = world.form(ContractTerms { collateral_rate: rate, ..terms(100) }, 100);
    world.good(10, vec![form]);
    let update = world.update(100, Some(world.revision(100, 1, 1)), None);
    world.good(10, vec![update]);
    let end = world.contract(100).unwrap().period_end();
    world.run_to(end.plus(Millis(2 * WINDOW)));
    let contract = world.contract(100).unwrap();
    assert_eq!((contract.collateral, contract.proofs_missed), (Amount::ZERO, 1));
    assert_eq!(world.totals().burned.0, 2 * FEE.0 + terms(100).collateral.0);
}

#[test]
fn pay_is_capped_by_the_funds() {
    let mut world = World::new();
    let form = world.form(ContractTerms { funds: Amount(pay(5) + 100), ..terms(100) }, 100);
    world.good(10, vec![form]);
    world.good(PERIOD, vec![]);
    assert_eq!(world.contract(100).unwrap().proofs_kept, 1, "empty: settled without a proof");
    let update = world.update(100, Some(world.revision(100, 1, 5)), None);
    world.good(10, vec![update]);
    open_period(&mut world, 100);
    let host = world.balance(HOST);
    let challenge = world.contract(100).unwrap().challenge().unwrap();
    let action = Action::ProveStorage {
        contract: public(100),
        period: 1,
        voucher: Some(world.voucher(100, 1_000)),
        proof: storage_proof(&challenge, 5),
    };
    let proof = world.sent(HOST, &[], action);
    world.good(1, vec![proof]);
    let contract = world.contract(100).unwrap();
    assert_eq!((contract.funds, contract.redeemed), (Amount::ZERO, Amount::ZERO));
    assert_eq!(world.balance(HOST), host + pay(5) + 100 - FEE.0);
}

#[test]
fn only_the_host_proves_what_is_asked_for() {
    let mut world = World::with_contract(5);
    let prove = |world: &World, sender: u16, period: u32, sectors: u64| {
        let seed = world.contract(100).unwrap().challenge().unwrap_or_default();
        let action = Action::ProveStorage {
            contract: public(100),
            period,
            voucher: None,
            proof: storage_proof(&seed, sectors),
        };
        world.sent(sender, &[], action)
    };
    let early = prove(&world, HOST, 0, 5);
    assert!(matches!(world.refused(early), TransactionError::WrongPeriod { .. }));
    let end = world.contract(100).unwrap().period_end();
    world.good(end.since(world.now()).0, vec![]);
    let early = prove(&world, HOST, 0, 5);
    let error = world.refused(early);
    assert!(matches!(error, TransactionError::ChallengePending { .. }));
    assert!(error.may_pass_later());
    world.good(1, vec![]);
    world.good(1, vec![]);
    let stranger = prove(&world, STRANGER, 0, 5);
    assert!(matches!(world.refused(stranger), TransactionError::NotTheHost { .. }));
    let other = prove(&world, HOST, 1, 5);
    assert!(matches!(world.refused(other), TransactionError::WrongPeriod { .. }));
    let less = prove(&world, HOST, 0, 4);
    assert!(matches!(world.refused(less), TransactionError::FalseProof { .. }));
    let right = prove(&world, HOST, 0, 5);
    world.good(1, vec![right.clone()]);
    assert!(matches!(world.refused(right), TransactionError::Nonce { .. }));
}

#[test]
fn a_period_is_proven_with_the_revision_of_its_opening_block() {
    let mut world = World::with_contract(5);
    let end = world.contract(100).unwrap().period_end();
    // In the opening block itself nobody knows a part of the challenge yet.
    let update = world.update(100, Some(world.revision(100, 2, 7)), None);
    world.good(end.since(world.now()).0, vec![update]);
    for _ in 0..Contract::SEEDS {
        let late = world.update(100, Some(world.revision(100, 3, 3)), None);
        assert!(matches!(world.refused(late), TransactionError::RevisionFrozen { .. }));
    }
    let challenge = world.contract(100).unwrap().challenge().unwrap();
    let late = world.update(100, Some(world.revision(100, 3, 3)), None);
    assert!(matches!(world.refused(late), TransactionError::RevisionFrozen { .. }));
    let voucher = world.update(100, None, Some(world.voucher(100, 77)));
    world.good(1, vec![voucher]);
    let prove = |world: &World, sectors: u64| {
        let action = Action::ProveStorage {
            contract: public(100),
            period: 0,
            voucher: None,
            proof: storage_proof(&challenge, sectors),
        };
        world.sent(HOST, &[], action)
    };
    let other = prove(&world, 3);
    assert!(matches!(world.refused(other), TransactionError::FalseProof { .. }));
    let host = world.balance(HOST);
    let right = prove(&world, 7);
    world.good(1, vec![right]);
    assert_eq!(world.balance(HOST), host + pay(7) + 500 - FEE.0);
    let next = world.update(100, Some(world.revision(100, 3, 3)), None);
    world.good(1, vec![next]);
    assert_eq!(world.contract(100).unwrap().revision.number, 3);
}

#[test]
fn a_chain_that_stood_still_over_a_periods_end_waits_for_revisions() {
    let mut world = World::with_contract(5);
    world.good(10 * PERIOD, vec![]);
    let contract = world.contract(100).unwrap();
    assert_eq!(
        (contract.phase, contract.due),
        (ContractPhase::Running, world.now().plus(Millis(WINDOW)))
    );
    let update = world.update(100, Some(world.revision(100, 2, 7)), None);
    world.good(WINDOW - 1, vec![update]);
    world.good(1, vec![]);
    for _ in 0..Contract::SEEDS {
        world.good(1, vec![]);
    }
    let proof = world.proof(100, 7);
    world.good(1, vec![proof]);
    assert_eq!(world.contract(100).unwrap().proofs_kept, 1);
}

#[test]
fn an_id_is_used_once_for_ever() {
    let mut world = World::new();
    // Money that somebody sends to the key keeps nobody from forming.
    let gift = world.transfer(STRANGER, 100, Amount(1));
    world.good(1, vec![gift]);
    let form = world.form(terms(100), 100);
    world.good(1, vec![form]);
    let close =
        || Action::CloseContract { contract: public(100), voucher: None, settlement: Amount::ZERO };
    let close = world.sent(RENTER, &[100, HOST], close());
    world.good(1, vec![close]);
    let again = world.form(terms(100), 100);
    assert!(matches!(world.refused(again), TransactionError::ContractIdUsed(_)));
    let form = world.form(terms(101), 101);
    world.good(1, vec![form]);
    let back = Action::RenewContract {
        old: public(101),
        last: SignedRevision::initial(public(101)),
        voucher: None,
        settlement: Amount::ZERO,
        terms: Box::new(terms(100)),
    };
    let back = world.sent(RENTER, &[101, 100, HOST], back);
    assert!(matches!(world.refused(back), TransactionError::ContractIdUsed(_)));
    // A key that has sent anything is no fresh one either.
    let gift = world.transfer(STRANGER, 102, Amount(FEE.0 * 3));
    world.good(1, vec![gift]);
    let spend = world.transfer(102, STRANGER, Amount(1));
    world.good(1, vec![spend]);
    let form = world.form(terms(102), 102);
    assert!(matches!(world.refused(form), TransactionError::ContractIdUsed(_)));
}

#[test]
fn agreements_that_come_late_are_refused() {
    let mut world = World::with_contract(5);
    let until = world.now().plus(Millis(100));
    let last = world.revision(100, 1, 5);
    let renew = renewal(&world, last, terms(101));
    let agreed: Vec<(u16, Vec<u16>, Action)> = vec![
        (RENTER, vec![102, HOST], Action::FormContract(Box::new(terms(102)))),
        (RENTER, vec![100, 101, HOST], renew),
        (
            STRANGER,
            vec![],
            Action::UpdateContract {
                contract: public(100),
                revision: Some(world.revision(100, 2, 6)),
                voucher: None,
            },
        ),
    ];
    let signed = |world: &World, account: u16, others: &[u16], action: &Action| {
        let mut body = world.body(account, action.clone());
        body.valid_until = until;
        let keys: Vec<_> = std::iter::once(&account).chain(others).map(|n| key(*n)).collect();
        Transaction::signed(body, &keys.iter().collect::<Vec<_>>())
    };
    let mut late = world.clone();
    late.good(101, vec![]);
    for (account, others, action) in &agreed {
        let error = late.refused(signed(&late, *account, others, action));
        assert!(matches!(error, TransactionError::Expired { .. }), "{error:?}");
        assert!(!error.may_pass_later());
    }
    assert_eq!(late.contract(100).unwrap().revision.number, 1);
    world.good(99, vec![]);
    let (account, others, action) = &agreed[1];
    let in_time = signed(&world, *account, others, action);
    world.good(1, vec![in_time]);
    assert_eq!(world.contract(101).unwrap().revision.size, 5 * 1_024);
}

#[test]
fn a_halted_chain_slashes_nobody() {
    let mut world = World::with_contract(5);
    open_period(&mut world, 100);
    // The chain stands still for a day, long after the window's time, and comes back with traffic.
    world.good(86_400_000, vec![]);
    world.good(1, vec![]);
    world.good(1, vec![]);
    assert_eq!(world.contract(100).unwrap().proofs_missed, 0);
    let proof = world.proof(100, 5);
    world.good(1, vec![proof]);
    assert_eq!(world.contract(100).unwrap().proofs_kept, 1);
    // The next two periods ended during the halt. They open one after another, each with its window.
    for kept in 1..3 {
        assert!(wants_block(&world.state, world.now().plus(Millis(1))).unwrap());
        assert_eq!(world.contract(100).unwrap().proofs_kept, kept);
        open_period(&mut world, 100);
        let (time, height) = world.contract(100).unwrap().window_end().unwrap();
        assert!(time.since(world.now()).0 >= WINDOW - 3 && height > world.height());
        let proof = world.proof(100, 5);
        world.good(1, vec![proof]);
    }
    assert!(world.contract(100).is_none());
    assert_eq!(world.balance(HOST), WEALTH.0 + 3 * (pay(5) + 500 - FEE.0));
}

#[test]
fn a_window_closes_only_after_its_blocks() {
    let mut world = World::with_contract(5);
    open_period(&mut world, 100);
    let (time, height) = world.contract(100).unwrap().window_end().unwrap();
    world.good(time.since(world.now()).0, vec![]);
    assert!(world.height() < height);
    let due = next_due(&world.state).unwrap().unwrap();
    assert_eq!(due, world.now().plus(Millis(WINDOW / 3)), "no hurry");
    while world.height() < height {
        assert_eq!(world.contract(100).unwrap().proofs_missed, 0);
        world.good(1, vec![]);
    }
    world.run_to(due);
    assert_eq!(world.contract(100).unwrap().proofs_missed, 1);
}

#[test]
fn empty_periods_settle_at_once_and_free() {
    let mut world = World::new();
    let form = world.form(ContractTerms { periods: 50_000, ..terms(100) }, 100);
    world.good(10, vec![form]);
    world.good(PERIOD * 20_000 + 5, vec![]);
    let contract = world.contract(100).unwrap();
    assert_eq!((contract.period, contract.proofs_kept), (20_000, 20_000));
    assert_eq!(contract.funds, terms(100).funds);
    world.good(u64::from(u32::MAX), vec![]);
    assert!(world.contract(100).is_none());
    assert_eq!(world.balance(RENTER), WEALTH.0 - FEE.0);
    assert_eq!(world.balance(HOST), WEALTH.0);
}

#[test]
fn updates_only_go_up() {
    let mut world = World::with_contract(5);
    let (old, same) = (world.revision(100, 0, 2), world.revision(100, 1, 9));
    for revision in [old, same] {
        let update = world.update(100, Some(revision), None);
        assert!(matches!(world.refused(update), TransactionError::RevisionNotNewer { .. }));
    }
    let mut forged = world.revision(100, 9, 2);
    forged.host = forged.renter;
    let mut foreign = world.revision(100, 9, 2);
    foreign.revision.contract = public(101);
    for revision in [forged, foreign] {
        let update = world.update(100, Some(revision), None);
        assert!(matches!(world.refused(update), TransactionError::FalseRevision(_)));
    }
    let empty = world.update(100, None, None);
    assert!(matches!(world.refused(empty), TransactionError::EmptyUpdate(_)));

    let host = world.balance(HOST);
    let update =
        world.update(100, Some(world.revision(100, 7, 6)), Some(world.voucher(100, 1_000)));
    world.good(1, vec![update]);
    assert_eq!(world.balance(HOST), host + 1_000);
    for total in [0, 999, 1_000] {
        let update = world.update(100, None, Some(world.voucher(100, total)));
        assert!(matches!(world.refused(update), TransactionError::VoucherNotHigher { .. }));
    }
    let mut forged = world.voucher(100, 5_000);
    forged.voucher.total = Amount(5_001);
    let update = world.update(100, None, Some(forged));
    assert!(matches!(world.refused(update), TransactionError::FalseVoucher(_)));
    let update = world.update(100, None, Some(world.voucher(100, u128::MAX)));
    world.good(1, vec![update]);
    let contract = world.contract(100).unwrap();
    assert_eq!((contract.funds, contract.redeemed), (Amount::ZERO, terms(100).funds));
    assert_eq!(world.balance(HOST), host + terms(100).funds.0);
}

#[test]
fn close_pays_what_was_agreed() {
    let mut world = World::with_contract(5);
    let close = |world: &World, signers: &[u16], settlement: u128| {
        let action = Action::CloseContract {
            contract: public(100),
            voucher: Some(world.voucher(100, 300)),
            settlement: Amount(settlement),
        };
        world.sent(RENTER, signers, action)
    };
    let alone = close(&world, &[100], 1_000);
    assert!(matches!(world.refused(alone), TransactionError::MissingSignature(_)));
    let greedy = close(&world, &[100, HOST], terms(100).funds.0 - 299);
    assert!(matches!(world.refused(greedy), TransactionError::Settlement { .. }));
    let agreed = close(&world, &[100, HOST], 1_000);
    world.good(1, vec![agreed]);
    assert!(world.contract(100).is_none());
    assert_eq!(world.balance(HOST), WEALTH.0 + 1_300);
    assert_eq!(world.balance(RENTER), WEALTH.0 - 2 * FEE.0 - 1_300);
    let late = world.update(100, Some(world.revision(100, 8, 1)), None);
    assert!(matches!(world.refused(late), TransactionError::UnknownContract(_)));
}

/// A renewal of contract 100 by contract 101.
fn renewal(world: &World, last: SignedRevision, terms: ContractTerms) -> Action {
    Action::RenewContract {
        old: public(100),
        last,
        voucher: Some(world.voucher(100, 300)),
        settlement: Amount(1_000),
        terms: Box::new(terms),
    }
}

#[test]
fn renewal_carries_data_and_money() {
    let mut world = World::with_contract(5);
    let successor =
        ContractTerms { funds: Amount(2_000_000_000), collateral: Amount(400_000), ..terms(101) };
    let stale = renewal(&world, world.revision(100, 1, 6), successor.clone());
    let stale = world.sent(RENTER, &[100, 101, HOST], stale);
    assert!(matches!(world.refused(stale), TransactionError::RevisionNotNewer { .. }));
    let last = world.revision(100, 6, 8);
    let elsewhere = ContractTerms { host: public(STRANGER), ..successor.clone() };
    let elsewhere = renewal(&world, last, elsewhere);
    let elsewhere = world.sent(RENTER, &[100, 101, STRANGER], elsewhere);
    assert!(matches!(world.refused(elsewhere), TransactionError::OtherHost { .. }));
    let action = renewal(&world, last, successor.clone());
    let unsigned = world.sent(RENTER, &[101, HOST], action.clone());
    assert!(matches!(world.refused(unsigned), TransactionError::MissingSignature(_)));

    let renew = world.sent(RENTER, &[100, 101, HOST], action);
    world.good(1, vec![renew]);
    assert!(world.contract(100).is_none());
    let after = world.contract(101).unwrap();
    assert_eq!((after.funds, after.collateral), (successor.funds, successor.collateral));
    assert_eq!(after.revision, Revision::carried(public(101), &last.revision));
    assert_eq!((after.revision.number, after.revision.size), (0, 8 * 1_024));
    assert_eq!(world.balance(RENTER), WEALTH.0 - 2 * FEE.0 - 1_300 - 2_000_000_000);
    assert_eq!(world.balance(HOST), WEALTH.0 + 1_300 - 400_000);
    assert_eq!(records(world.blocks.last().unwrap()), vec![successor.record()]);

    // The carried state needs no signature, is proven like any other, and is followed by number 1.
    let formed = SignedRevision::formed(after.revision);
    assert!(formed.verify_after(&world.hash, &public(HOST), &after.revision));
    assert!(!formed.verify(&world.hash, &public(HOST)));
    let next = world.revision(101, 1, 9);
    assert!(next.verify_after(&world.hash, &public(HOST), &after.revision));
    open_period(&mut world, 101);
    let proof = world.proof(101, 8);
    world.good(1, vec![proof]);
    let update = world.update(101, Some(next), None);
    world.good(1, vec![update]);
    assert_eq!(world.contract(101).unwrap().revision.number, 1);
}

#[test]
fn renewal_of_an_untouched_contract_and_into_less_money() {
    let mut world = World::new();
    let form = world.form(terms(100), 100);
    world.good(10, vec![form]);
    let last = SignedRevision::initial(public(100));
    let successor = ContractTerms { funds: Amount(10), collateral: Amount(20), ..terms(101) };
    let action = renewal(&world, last, successor);
    let renew = world.sent(RENTER, &[100, 101, HOST], action);
    world.good(1, vec![renew]);
    assert_eq!(world.contract(101).unwrap().revision, Revision::initial(public(101)));
    assert_eq!(world.balance(RENTER), WEALTH.0 - 2 * FEE.0 - 1_300 - 10);
    assert_eq!(world.balance(HOST), WEALTH.0 + 1_300 - 20);
}

#[test]
fn many_deadlines_wait_their_turn() {
    let mut parameters = genesis().parameters;
    parameters.block_deadlines = 3;
    let mut world = World::with(samara_protocol::chain::Genesis { parameters, ..genesis() });
    let numbers: Vec<u16> = (100..110).collect();
    for number in &numbers {
        let form = world.form(terms(*number), *number);
        world.good(1, vec![form]);
        let update = world.update(*number, Some(world.revision(*number, 1, 2)), None);
        world.good(1, vec![update]);
    }
    let end = world.contract(100).unwrap().period_end();
    world.good(end.since(world.now()).0 + 100, vec![]);
    let ready = |world: &World, n: &u16| world.contract(*n).unwrap().challenge().is_some();
    let mut blocks = 1;
    while !numbers.iter().all(|n| ready(&world, n)) {
        world.good(1, vec![]);
        blocks += 1;
    }
    assert_eq!(blocks, (numbers.len() * 4).div_ceil(3), "four steps each, three in a block");
    for number in &numbers {
        let proof = world.proof(*number, 2);
        world.good(1, vec![proof]);
    }
    assert!(numbers.iter().all(|n| world.contract(*n).unwrap().proofs_kept == 1));
}

#[test]
fn the_end_of_time_is_no_trap() {
    let mut world = World::with_contract(5);
    for _ in 0..30 {
        let left = ChainTime(u64::MAX).since(world.now()).0;
        world.good(left / 2, vec![]);
    }
    world.good(ChainTime(u64::MAX).since(world.now()).0, vec![]);
}
