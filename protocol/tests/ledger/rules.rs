//! Rules of blocks, signatures, money, announcements and validators.

use samara_protocol::chain::{
    Action, Block, Genesis, GenesisError, Transaction, Validator, ValidatorSet,
};
use samara_protocol::encoding::encode;
use samara_protocol::hash::{BlockHash, Digest};
use samara_protocol::host::{HostAnnouncement, Prices};
use samara_protocol::ledger::state::StateKey;
use samara_protocol::ledger::{
    BlockError, Execution, TransactionError, build_block, check_transaction, genesis_state,
    validate_block,
};
use samara_protocol::signature::Signature;
use samara_protocol::units::{Amount, Height, Millis};

use crate::world::{
    FEE, HOST, RENTER, START, STRANGER, VALIDATORS, WEALTH, World, genesis, key, public, terms,
    validator_set,
};

/// Breaks one rule.
type Change<T> = fn(&mut T);

#[test]
fn genesis_documents_have_bounds() {
    let cases: [(GenesisError, Change<Genesis>); 7] = [
        (GenesisError::Version(2), |g| g.version = 2),
        (GenesisError::Name(0), |g| g.name.clear()),
        (GenesisError::Name(65), |g| g.name = "x".repeat(65)),
        (GenesisError::AllocatedTwice(public(RENTER)), |g| {
            g.allocations.push((public(RENTER), Amount(0)));
        }),
        (GenesisError::TooMuchMoney, |g| {
            g.allocations.push((public(99), Amount(u128::MAX)));
        }),
        (GenesisError::Zero("heartbeat"), |g| g.parameters.heartbeat = Millis(0)),
        (GenesisError::BlockBytes(1_000), |g| g.parameters.block_bytes = 1_000),
    ];
    for (expected, change) in cases {
        let mut bad = genesis();
        change(&mut bad);
        assert_eq!(bad.check(), Err(expected));
        assert_eq!(genesis_state(&bad).unwrap_err(), expected);
    }
    let world = World::new();
    assert_eq!(world.totals().issued, Amount(3 * WEALTH.0));
    assert_eq!(world.balance(RENTER), WEALTH.0);
}

#[test]
fn all_the_money_there_can_be_moves_without_overflow() {
    let everything = vec![(public(RENTER), Amount(u128::MAX))];
    let mut world = World::with(Genesis { allocations: everything, ..genesis() });
    let all = world.transfer(RENTER, HOST, Amount(u128::MAX - FEE.0));
    world.good(1, vec![all]);
    let back = world.transfer(HOST, RENTER, Amount(u128::MAX - 2 * FEE.0));
    world.good(1, vec![back]);
    let itself = world.transfer(RENTER, RENTER, Amount(u128::MAX - 3 * FEE.0));
    world.good(1, vec![itself]);
    assert_eq!(world.balance(RENTER), u128::MAX - 3 * FEE.0);
    let more = world.transfer(RENTER, HOST, Amount(u128::MAX));
    assert!(matches!(world.refused(more), TransactionError::Balance { .. }));
}

#[test]
fn transfers_and_fees() {
    let mut world = World::new();
    let good = world.transfer(RENTER, 50, Amount(5));
    world.good(1, vec![good.clone()]);
    assert_eq!(world.balance(50), 5);
    assert_eq!(world.balance(RENTER), WEALTH.0 - 5 - FEE.0);
    assert_eq!(world.totals().burned, FEE);
    let nothing = world.transfer(RENTER, 51, Amount::ZERO);
    world.good(1, vec![nothing]);
    assert!(world.value::<serde_bytes::ByteBuf>(StateKey::Account(public(51))).is_none());

    assert!(matches!(world.refused(good), TransactionError::Nonce { expected: 2, given: 0, .. }));
    let mut body = world.body(RENTER, Action::Transfer { to: public(50), amount: Amount(1) });
    body.nonce = 7;
    let ahead = Transaction::signed(body.clone(), &[&key(RENTER)]);
    assert!(world.refused(ahead).may_pass_later());
    body.nonce = 2;
    body.fee = Amount(FEE.0 - 1);
    let cheap = Transaction::signed(body.clone(), &[&key(RENTER)]);
    assert!(matches!(world.refused(cheap), TransactionError::FeeTooLow { .. }));
    body.fee = Amount(u128::MAX);
    let dear = Transaction::signed(body.clone(), &[&key(RENTER)]);
    assert!(matches!(world.refused(dear), TransactionError::Balance { .. }));
    body.fee = FEE;
    body.genesis = BlockHash([1; 32]);
    let foreign = Transaction::signed(body, &[&key(RENTER)]);
    assert!(matches!(world.refused(foreign), TransactionError::WrongChain(_)));
    let poor = world.transfer(50, RENTER, Amount(1));
    assert!(matches!(world.refused(poor), TransactionError::Balance { .. }));
}

#[test]
fn exactly_the_signatures_that_are_asked_for() {
    let mut world = World::new();
    let good = world.transfer(RENTER, 50, Amount(5));
    let mut none = good.clone();
    none.signatures.clear();
    assert!(matches!(world.refused(none), TransactionError::MissingSignature(_)));
    let mut twice = good.clone();
    twice.signatures.push(good.signatures[0]);
    assert!(matches!(world.refused(twice), TransactionError::UnwantedSignature(_)));
    let mut more = good.clone();
    more.signatures.push(good.body.sign(&key(HOST)));
    assert!(matches!(world.refused(more), TransactionError::UnwantedSignature(_)));
    let mut false_one = good.clone();
    false_one.signatures[0].1 = Signature([5; 64]);
    assert!(matches!(world.refused(false_one), TransactionError::FalseSignature(_)));
    let mut changed = good.clone();
    changed.body.action = Action::Transfer { to: public(50), amount: Amount(6) };
    assert!(matches!(world.refused(changed), TransactionError::FalseSignature(_)));
    for missing in [100, HOST] {
        let mut form = world.form(terms(100), 100);
        form.signatures.retain(|(signer, _)| *signer != public(missing));
        assert!(matches!(world.refused(form), TransactionError::MissingSignature(_)));
    }
    world.good(1, vec![good]);
}

#[test]
fn announcements_have_bounds() {
    let mut world = World::new();
    let announcement = HostAnnouncement {
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        operator: "me".into(),
        capacity: 1 << 40,
        accepting: true,
        prices: Prices {
            storage: Amount(1),
            upload: Amount(1),
            download: Amount(1),
            request: Amount(1),
            collateral_rate: Amount(1),
            maximum_collateral: Amount(1),
            proof_fee: Amount(1),
            maximum_duration: Millis(1),
        },
    };
    let cases: [fn(&mut HostAnnouncement); 4] = [
        |a| a.addresses = vec!["x".into(); 9],
        |a| a.addresses = vec![String::new()],
        |a| a.addresses = vec!["x".repeat(129)],
        |a| a.operator = "x".repeat(65),
    ];
    for change in cases {
        let mut bad = announcement.clone();
        change(&mut bad);
        let bad = world.sent(HOST, &[], Action::AnnounceHost(bad));
        assert!(matches!(world.refused(bad), TransactionError::Announcement { .. }));
    }
    let good = world.sent(HOST, &[], Action::AnnounceHost(announcement.clone()));
    world.good(1, vec![good]);
    assert_eq!(world.value(StateKey::Host(public(HOST))), Some(announcement));
}

#[test]
fn validators_change_by_more_than_two_thirds() {
    let mut world = World::new();
    let present = ValidatorSet::new(validator_set(VALIDATORS)).unwrap();
    let next = validator_set([10, 11, 20]);
    let change = |world: &World, signers: &[u16], current: Digest, validators: Vec<Validator>| {
        world.sent(RENTER, signers, Action::ChangeValidators { current, validators })
    };
    let few = change(&world, &[10, 11], present.hash(), next.clone());
    assert!(matches!(world.refused(few), TransactionError::NoQuorum { power: 2, total: 4 }));
    let stranger = change(&world, &[10, 11, 12, 20], present.hash(), next.clone());
    assert!(matches!(world.refused(stranger), TransactionError::UnwantedSignature(_)));
    let empty = change(&world, &[10, 11, 12], present.hash(), vec![]);
    assert!(matches!(world.refused(empty), TransactionError::Validators(_)));
    let good = change(&world, &[12, 11, 10], present.hash(), next.clone());
    world.good(1, vec![good]);
    let header = world.tip.unwrap();
    let next = ValidatorSet::new(next).unwrap();
    assert_eq!((header.validators, header.next_validators), (present.hash(), next.hash()));
    world.good(1, vec![]);
    assert_eq!(world.tip.unwrap().validators, next.hash());
    // The old approval is for a set that is no more.
    let again = change(&world, &[10, 11, 20], present.hash(), validator_set([10]));
    assert!(matches!(world.refused(again), TransactionError::StaleValidators { .. }));
}

#[test]
fn blocks_have_room_for_so_much() {
    let mut parameters = genesis().parameters;
    parameters.block_transactions = 3;
    let mut world = World::with(Genesis { parameters, ..genesis() });
    let candidates: Vec<Transaction> = (0..5)
        .map(|nonce| {
            let mut body =
                world.body(RENTER, Action::Transfer { to: public(9), amount: Amount(1) });
            body.nonce = nonce;
            Transaction::signed(body, &[&key(RENTER)])
        })
        .collect();
    let rejected = world.block(1, candidates.clone());
    assert!(rejected.is_empty());
    assert_eq!(world.blocks[0].transactions, candidates[..3]);
    world.good(1, candidates[3..].to_vec());

    let wide = World::with(Genesis { parameters: genesis().parameters, ..genesis() });
    let built = build_block(&wide.state, &wide.genesis, None, START.plus(Millis(1)), []).unwrap();
    let narrow = Genesis {
        parameters: samara_protocol::chain::ChainParameters {
            block_transactions: 3,
            ..genesis().parameters
        },
        ..genesis()
    };
    let block = Block { transactions: candidates, ..built.block };
    let refused = validate_block(&wide.state, &narrow, None, &block);
    assert!(matches!(refused, Err(BlockError::TooMany { count: 5, limit: 3, .. })));
}

#[test]
fn blocks_have_room_for_so_many_bytes() {
    let mut parameters = genesis().parameters;
    parameters.block_bytes = u32::try_from(Transaction::MAX_BYTES).unwrap();
    let genesis = Genesis { parameters, ..genesis() };
    let mut world = World::with(genesis.clone());
    let current = Digest::ZERO;
    let large = |nonce: u64, validators: usize| {
        let validators = vec![Validator { key: public(1), power: u64::MAX }; validators];
        let action = Action::ChangeValidators { current, validators };
        let mut body = world.body(RENTER, action);
        body.nonce = nonce;
        Transaction::signed(body, &[&key(RENTER)])
    };
    let (too_large, whole) = (large(0, 7_000), large(0, 6_236));
    let small = world.transfer(STRANGER, 9, Amount(1));
    assert!(encode(&whole).len() <= Transaction::MAX_BYTES);
    let block = Block {
        header: build_block(&world.state, &genesis, None, START.plus(Millis(1)), [])
            .unwrap()
            .block
            .header,
        transactions: vec![whole.clone(), small.clone()],
    };
    let refused = validate_block(&world.state, &genesis, None, &block);
    assert!(matches!(refused, Err(BlockError::TooLarge { .. })), "{refused:?}");
    assert!(matches!(world.refused(too_large), TransactionError::TooLarge(_)));
    world.good(1, vec![small]);
}

#[test]
fn a_changed_block_is_no_block() {
    let mut world = World::with_contract(3);
    let transfer = world.transfer(RENTER, 50, Amount(5));
    let (tip, time) = (world.tip, world.now().plus(Millis(5)));
    let built = build_block(&world.state, &world.genesis, tip.as_ref(), time, [transfer]).unwrap();
    let refused = |change: fn(&mut Block)| {
        let mut block = built.block.clone();
        change(&mut block);
        validate_block(&world.state, &world.genesis, tip.as_ref(), &block).unwrap_err()
    };
    let error = refused(|b| b.header.version = 2);
    assert!(matches!(error, BlockError::Version { .. }));
    let error = refused(|b| b.header.genesis.0[0] ^= 1);
    assert!(matches!(error, BlockError::WrongChain { .. }));
    for error in [refused(|b| b.header.height.0 += 1), refused(|b| b.header.height.0 -= 1)] {
        assert!(matches!(error, BlockError::Height { .. }));
    }
    let error = refused(|b| b.header.parent.0[0] ^= 1);
    assert!(matches!(error, BlockError::Parent { .. }));
    let error = refused(|b| b.header.time.0 -= 5);
    assert!(matches!(error, BlockError::Time { .. }));
    let error = refused(|b| b.transactions.push(b.transactions[0].clone()));
    assert!(matches!(error, BlockError::Transaction { index: 1, .. }), "{error:?}");
    for (field, error) in [
        ("transactions root", refused(|b| b.transactions.clear())),
        ("transactions root", refused(|b| b.header.transactions_root.0[0] ^= 1)),
        ("records root", refused(|b| b.header.records_root.0[0] ^= 1)),
        ("validator set", refused(|b| b.header.validators.0[0] ^= 1)),
        ("next validator set", refused(|b| b.header.next_validators.0[0] ^= 1)),
        ("state root", refused(|b| b.header.state_root.0[0] ^= 1)),
    ] {
        match error {
            BlockError::Commitment { field: given, .. } => assert_eq!(given, field),
            other => panic!("{other:?}"),
        }
    }
    let early = build_block(&world.state, &world.genesis, tip.as_ref(), world.now(), []);
    assert!(matches!(early, Err(BlockError::Time { .. })));
    let state = &mut world.state;
    state
        .apply(validate_block(&state.clone(), &world.genesis, tip.as_ref(), &built.block).unwrap());
}

#[test]
fn mempools_try_without_touching_anything() {
    let world = World::new();
    let (height, time) = (Height(1), START.plus(Millis(1)));
    let first = world.transfer(RENTER, 50, Amount(WEALTH.0 - 3 * FEE.0));
    let mut body = world.body(50, Action::Transfer { to: public(51), amount: Amount(1) });
    let second = Transaction::signed(body.clone(), &[&key(50)]);
    body.nonce = 1;
    let third = Transaction::signed(body, &[&key(50)]);
    let try_alone = |t| check_transaction(&world.state, &world.genesis, height, time, t);
    assert!(try_alone(&first).is_ok() && try_alone(&first).is_ok());
    assert!(matches!(try_alone(&second), Err(TransactionError::Balance { .. })));
    let mut pool = Execution::speculate(&world.state, &world.genesis, height, time).unwrap();
    assert!(pool.apply(&first).is_ok());
    assert!(matches!(pool.apply(&third), Err(TransactionError::Nonce { .. })));
    assert!(pool.apply(&second).is_ok() && pool.apply(&third).is_ok());
}
