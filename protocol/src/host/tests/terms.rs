//! Formations and renewals.

use super::{GENESIS, PEER, World, chain_contract, is_bad, secret, terms};
use crate::chain::{Action, Transaction, TransactionBody};
use crate::contract::{ContractTerms, Revision, SignedRevision, SignedVoucher};
use crate::hash::{BlockHash, SlabTag};
use crate::host::message::{ContractCall, HostRequest, HostResponse, Refusal, SealedDescriptor};
use crate::host::store::HostStore as _;
use crate::ledger::state::{Account, Contract};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::{Amount, Millis};

fn body(world: &World, action: Action) -> TransactionBody {
    // Each contract's payer is another account.
    let payer = match &action {
        Action::FormContract(terms) => key_of(&terms.contract, 200),
        _ => secret(50),
    };
    let account = payer.public();
    let valid_until = world.facts.now.plus(Millis::seconds(100));
    TransactionBody { genesis: GENESIS, account, nonce: 0, fee: Amount(1), valid_until, action }
}

/// The key of a contract of these tests, or the one that many numbers further on.
fn key_of(contract: &PublicKey, further: u8) -> SecretKey {
    let number = (0..50).find(|number| secret(*number).public() == *contract).unwrap();
    secret(number + further)
}

/// All keys that sign a body, without the host's.
fn keys(body: &TransactionBody) -> Vec<SecretKey> {
    let (payer, mut contracts) = match &body.action {
        Action::FormContract(terms) => (key_of(&terms.contract, 200), vec![terms.contract]),
        Action::RenewContract { old, terms, .. } => (secret(50), vec![*old, terms.contract]),
        Action::CloseContract { contract, .. } => (secret(50), vec![*contract]),
        _ => (secret(50), Vec::new()),
    };
    contracts.retain(|contract| *contract != body.account);
    std::iter::once(payer).chain(contracts.iter().map(|id| key_of(id, 0))).collect()
}

fn signed(body: TransactionBody) -> Transaction {
    let keys = keys(&body);
    Transaction::signed(body, &keys.iter().collect::<Vec<_>>())
}

fn agree(world: &World, body: TransactionBody) -> Result<Signature, Refusal> {
    ask(world, &PEER, signed(body))
}

fn ask(world: &World, peer: &PublicKey, asked: Transaction) -> Result<Signature, Refusal> {
    match world.host.handle(&world.facts, peer, HostRequest::Agree(Box::new(asked))) {
        HostResponse::Agreed(signature) => Ok(signature),
        HostResponse::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn form(world: &World, terms: ContractTerms) -> Result<Signature, Refusal> {
    agree(world, body(world, Action::FormContract(Box::new(terms))))
}

fn other_terms(world: &World, key: u8) -> ContractTerms {
    terms(world.host.id(), &secret(key))
}

fn renewal(world: &World, last: SignedRevision, voucher: Option<SignedVoucher>) -> Action {
    let terms = Box::new(other_terms(world, 20));
    Action::RenewContract { old: world.id(), last, voucher, settlement: Amount(1_000_000), terms }
}

fn successor(world: &World, key: &SecretKey) -> Contract {
    let mut contract = chain_contract(terms(world.host.id(), key));
    contract.revision = Revision { contract: key.public(), number: 0, ..world.revision };
    contract
}

#[test]
fn good_terms_are_signed_and_again() {
    let mut world = World::new();
    world.facts.contract = None;
    let body = body(&world, Action::FormContract(Box::new(other_terms(&world, 20))));
    let signature = agree(&world, body.clone()).unwrap();
    assert!(world.host.id().verify(body.id().as_bytes(), &signature));
    world.crash();
    assert_eq!(agree(&world, body), Ok(signature));
}

#[test]
fn terms_off_the_offer_are_refused() {
    let mut world = World::new();
    world.facts.contract = None;
    let changes: [fn(&mut ContractTerms); 11] = [
        |terms| terms.host = secret(9).public(),
        |terms| terms.storage_price = Amount::ZERO,
        |terms| terms.proof_fee = Amount(9),
        |terms| terms.collateral_rate = Amount(6),
        |terms| terms.collateral = Amount(1_000_001),
        |terms| terms.periods = 101,
        |terms| terms.periods = 0,
        |terms| terms.period = Millis(0),
        |terms| terms.window = Millis(0),
        |terms| terms.window = Millis::hours(11),
        |terms| terms.contract = secret(2).public(),
    ];
    world.facts.contract = World::new().facts.contract;
    world.latest();
    for (index, change) in changes.iter().enumerate() {
        let mut terms = other_terms(&world, 20);
        change(&mut terms);
        let refused = form(&world, terms);
        assert!(matches!(refused, Err(Refusal::Terms(_))), "change {index}: {refused:?}");
    }
    world.host.offer(super::prices(), false, world.facts.now).unwrap();
    assert!(matches!(form(&world, other_terms(&world, 20)), Err(Refusal::Terms(_))));
    world.host.offer(super::prices(), true, world.facts.now).unwrap();
    world.store.set_capacity(10);
    assert!(matches!(form(&world, other_terms(&world, 20)), Err(Refusal::Full { .. })));
}

#[test]
fn only_formations_and_renewals_of_this_chain_paid_by_others_are_signed() {
    let world = World::new();
    let transfer = Action::Transfer { to: secret(3).public(), amount: Amount(1) };
    assert!(is_bad(agree(&world, body(&world, transfer))));
    let formation = Action::FormContract(Box::new(other_terms(&world, 20)));
    let mut foreign = body(&world, formation.clone());
    foreign.genesis = BlockHash([1; 32]);
    assert!(is_bad(agree(&world, foreign)));
    let mut ours = body(&world, formation);
    ours.account = world.host.id();
    assert!(is_bad(agree(&world, ours)));
}

#[test]
fn collateral_is_never_promised_twice() {
    let mut world = World::new();
    for key in 20..23 {
        form(&world, other_terms(&world, key)).unwrap();
    }
    assert!(matches!(form(&world, other_terms(&world, 23)), Err(Refusal::Terms(_))));
    world.crash();
    assert!(matches!(form(&world, other_terms(&world, 23)), Err(Refusal::Terms(_))));
    world.pass(Millis::seconds(300));
    form(&world, other_terms(&world, 23)).unwrap();
    assert_eq!(world.host.sweep(world.facts.now).unwrap().agreements, 3);
}

#[test]
fn agreements_last_a_short_while_and_count_until_their_end() {
    let mut world = World::new();
    let action = || Action::FormContract(Box::new(other_terms(&World::new(), 20)));
    let mut long = body(&world, action());
    for until in [world.facts.now, world.facts.now.plus(Millis(300_001)), TransactionBody::ALWAYS] {
        long.valid_until = until;
        let refused = agree(&world, long.clone());
        assert!(matches!(refused, Err(Refusal::Terms(_))), "{until:?}: {refused:?}");
    }
    // A second, shorter agreement on the same contract does not end the first one's time.
    world.facts.balance = Amount(1_000_000);
    long.valid_until = world.facts.now.plus(Millis::seconds(300));
    agree(&world, long.clone()).unwrap();
    long.valid_until = world.facts.now.plus(Millis(1));
    agree(&world, long).unwrap();
    world.pass(Millis::seconds(299));
    assert!(matches!(form(&world, other_terms(&world, 21)), Err(Refusal::Terms(_))));
    world.pass(Millis::seconds(1));
    form(&world, other_terms(&world, 21)).unwrap();
}

#[test]
fn only_a_contract_without_data_ends_early_and_paid() {
    let mut world = World::new();
    let close = |world: &World, voucher| {
        let action =
            Action::CloseContract { contract: world.id(), voucher, settlement: Amount::ZERO };
        agree(world, body(world, action))
    };
    let entry = world.store(1, 10).unwrap();
    assert!(matches!(close(&world, None), Err(Refusal::Payment { .. })));
    let voucher = Some(world.voucher(world.paid));
    close(&world, voucher).unwrap();
    // Until the agreement is over nothing is committed, also after a crash and a look at the chain.
    world.crash();
    let id = world.id();
    world.host.follow(&world.facts, &id).unwrap();
    assert!(matches!(world.do_commit(&[entry], &[], Vec::new()), Err(Refusal::Busy(_))));
    let paid = world.paid;
    assert!(matches!(world.store(2, 10), Err(Refusal::Busy(_))), "it would not be paid");
    world.paid = paid;
    world.pass(Millis::seconds(100));
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    assert!(matches!(close(&world, voucher), Err(Refusal::Terms(_))));
    assert_eq!(world.host.sweep(world.facts.now).unwrap().agreements, 1);
}

#[test]
fn agreements_of_one_peer_are_bounded() {
    let mut world = World::new();
    world.facts.balance = Amount(1_000_000_000);
    for key in 20..36 {
        form(&world, other_terms(&world, key)).unwrap();
    }
    assert!(matches!(form(&world, other_terms(&world, 36)), Err(Refusal::Busy(_))));
    form(&world, other_terms(&world, 35)).unwrap();
}

#[test]
fn an_agreed_contract_is_followed_once_it_is_on_the_chain() {
    let mut world = World::new();
    let key = secret(20);
    form(&world, other_terms(&world, 20)).unwrap();
    assert_eq!(world.host.followed(), [key.public()]);
    world.facts.contract = Some(chain_contract(other_terms(&world, 20)));
    world.host.follow(&world.facts, &key.public()).unwrap();
    world.pass(Millis::seconds(300));
    assert_eq!(world.host.sweep(world.facts.now).unwrap().agreements, 0);
    world.crash();
    assert_eq!(world.host.followed(), [key.public()]);
}

#[test]
fn a_renewal_must_end_with_the_latest_state_and_pay() {
    let mut world = World::new();
    world.facts.balance = Amount::ZERO;
    let entry = world.store(1, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    let last = world.latest().revision;
    let voucher = Some(world.voucher(world.paid));
    let stale = SignedRevision::initial(world.id());
    let conflict = Refusal::RevisionConflict { given: 0, latest: 1 };
    assert_eq!(agree(&world, body(&world, renewal(&world, stale, voucher))), Err(conflict));
    let unpaid = agree(&world, body(&world, renewal(&world, last, None)));
    assert!(matches!(unpaid, Err(Refusal::Payment { .. })), "{unpaid:?}");
    world.pass(Millis::hours(1_000));
    let cheap = agree(&world, body(&world, renewal(&world, last, voucher)));
    assert!(matches!(cheap, Err(Refusal::Terms(_))), "{cheap:?}");
    world.facts.now = super::START;
    assert!(agree(&world, body(&world, renewal(&world, last, voucher))).is_ok());
    assert!(
        matches!(world.do_commit(&[], &[0], Vec::new()), Err(Refusal::Busy(_))),
        "the old contract is frozen"
    );
    world.pass(Millis::seconds(300));
    assert!(world.do_commit(&[], &[0], Vec::new()).is_ok());
}

#[test]
fn the_successor_takes_over_sectors_and_descriptors_and_the_old_head_stays() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let pending = world.store(2, 10).unwrap();
    let tag = SlabTag([4; 16]);
    let descriptor = SealedDescriptor { tag, sealed: vec![1, 2, 3] };
    world.do_commit(&[entry], &[], vec![descriptor]).unwrap();
    let head = b"old head".to_vec();
    let state = crate::host::message::SlotState {
        sequence: 1,
        length: 8,
        hash: crate::hash::Digest(*blake3::hash(&head).as_bytes()),
        epoch: world.epoch,
    };
    let new = crate::host::message::SignedSlot::sign(&GENESIS, state, &world.key);
    world
        .call(ContractCall::HeadPut { expected: Default::default(), head: head.clone(), new })
        .unwrap();
    let (last, voucher) = (world.latest().revision, Some(world.voucher(world.paid)));
    agree(&world, body(&world, renewal(&world, last, voucher))).unwrap();
    world.crash();

    let old_key = std::mem::replace(&mut world.key, secret(20));
    world.facts.contract = Some(successor(&world, &world.key.clone()));
    world.revision = world.facts.contract.as_ref().unwrap().revision;
    let id = world.id();
    world.host.follow(&world.facts, &id).unwrap();
    world.crash();
    world.paid = Amount::ZERO;
    let status = world.latest();
    assert_eq!(status.revision.revision, world.revision);
    assert_eq!(status.slot, crate::host::message::SignedSlot::EMPTY);
    // What was promised before still fences, and its proof names the contract that claimed it.
    assert_eq!(status.promised.epoch, world.epoch);
    assert!(status.promised.verify(&super::GENESIS, &old_key.public()));
    assert_eq!(status.renews, Some(old_key.public()));
    assert!(world.read(entry.root, 1_024).is_ok());
    let found = world.call(ContractCall::Descriptors { tags: vec![tag] });
    assert!(matches!(found, Ok(HostResponse::Descriptors(d)) if d[0].as_slice() == [1, 2, 3]));
    world.do_commit(&[pending], &[], Vec::new()).unwrap();

    let new_key = std::mem::replace(&mut world.key, old_key);
    let chain = world.facts.contract.take();
    let answer = world.call(ContractCall::Head);
    assert!(matches!(answer, Ok(HostResponse::Head { head: bytes, .. }) if bytes == head));
    assert!(matches!(world.read(entry.root, 1_024), Err(Refusal::Expired { .. })));
    world.pass(Millis::seconds(600));
    assert_eq!(world.host.sweep(world.facts.now).unwrap().contracts, 1);
    assert!(matches!(world.call(ContractCall::Head), Err(Refusal::UnknownContract(_))));
    world.key = new_key;
    world.facts.contract = chain;
    world.paid = Amount(1_000_000);
    assert!(world.read(entry.root, 1_024).is_ok(), "sweeping the old contract frees no sector");
}

#[test]
fn without_the_renters_signatures_nothing_is_reserved_or_frozen() {
    let mut world = World::new();
    let stranger = PublicKey([66; 32]);
    let close =
        Action::CloseContract { contract: world.id(), voucher: None, settlement: Amount::ZERO };
    let form = Action::FormContract(Box::new(other_terms(&world, 30)));
    for action in [renewal(&world, SignedRevision::initial(world.id()), None), close, form] {
        let body = body(&world, action);
        let all = signed(body.clone());
        // Each one is needed, none may be false, and nobody else's counts.
        for left_out in 0..all.signatures.len() {
            let mut asked = all.clone();
            asked.signatures.remove(left_out);
            assert!(is_bad(ask(&world, &stranger, asked)), "without {left_out}");
            let mut asked = all.clone();
            asked.signatures[left_out].1 = secret(99).sign(body.id().as_bytes());
            assert!(is_bad(ask(&world, &stranger, asked)), "false {left_out}");
        }
        let mut asked = all.clone();
        asked.signatures.push(body.sign(&secret(99)));
        assert!(is_bad(ask(&world, &stranger, asked)));
        let unsigned = Transaction { body, signatures: Vec::new() };
        assert!(is_bad(ask(&world, &stranger, unsigned)));
    }
    assert_eq!(world.store.agreements().unwrap(), []);
    let entry = world.store(1, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
}

#[test]
fn the_payer_must_have_the_money_and_the_nonce() {
    let mut world = World::new();
    let mut asked = body(&world, Action::FormContract(Box::new(other_terms(&world, 20))));
    let needed = Amount(1_000_000_000_001);
    world.facts.payer = Account { balance: Amount(needed.0 - 1), nonce: 3 };
    asked.nonce = 3;
    assert!(matches!(agree(&world, asked.clone()), Err(Refusal::Terms(_))));
    world.facts.payer.balance = needed;
    for nonce in [2, 3 + 128] {
        let asked = TransactionBody { nonce, ..asked.clone() };
        assert!(matches!(agree(&world, asked), Err(Refusal::Terms(_))), "{nonce}");
    }
    agree(&world, asked).unwrap();
    // A renewal takes from the account only what the old contract does not leave.
    let renew = body(&world, renewal(&world, SignedRevision::initial(world.id()), None));
    world.facts.payer = Account { balance: Amount(1_000_000), nonce: 0 };
    assert!(matches!(agree(&world, renew.clone()), Err(Refusal::Terms(_))));
    world.facts.payer.balance = Amount(1_000_001);
    let mut other = renew;
    if let Action::RenewContract { terms, .. } = &mut other.action {
        terms.contract = secret(21).public();
    }
    agree(&world, other).unwrap();
}

#[test]
fn one_formation_of_an_account_waits_until_its_nonce_is_used() {
    let mut world = World::new();
    world.facts.balance = Amount(1_000_000);
    let asked = |world: &World, key: u8, nonce| {
        let mut body = body(world, Action::FormContract(Box::new(other_terms(world, key))));
        (body.account, body.nonce) = (secret(50).public(), nonce);
        Transaction::signed(body, &[&secret(50), &secret(key)])
    };
    let first = asked(&world, 20, 0);
    let signature = ask(&world, &PEER, first.clone()).unwrap();
    assert!(matches!(ask(&world, &PEER, asked(&world, 21, 1)), Err(Refusal::Busy(_))));
    // The same again, from anywhere, is the same agreement.
    assert_eq!(ask(&world, &PublicKey([66; 32]), first), Ok(signature));
    assert_eq!(world.store.agreements().unwrap().len(), 1);
    // The nonce went to something else: the first can no longer reach the chain.
    world.facts.payer.nonce = 1;
    ask(&world, &PEER, asked(&world, 21, 1)).unwrap();
}

#[test]
fn formations_never_use_up_what_renewals_and_ends_need() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    for key in 30..33 {
        form(&world, other_terms(&world, key)).unwrap();
    }
    // All is promised; then even less is left than was promised.
    assert!(matches!(form(&world, other_terms(&world, 33)), Err(Refusal::Terms(_))));
    world.facts.balance = Amount::ZERO;
    let (last, voucher) = (world.latest().revision, Some(world.voucher(world.paid)));
    let first = body(&world, renewal(&world, last, voucher));
    let signature = agree(&world, first.clone()).unwrap();
    assert_eq!(agree(&world, first.clone()), Ok(signature));
    // One ending of a contract waits at a time.
    let mut second = first;
    if let Action::RenewContract { terms, .. } = &mut second.action {
        terms.contract = secret(21).public();
    }
    assert!(matches!(agree(&world, second.clone()), Err(Refusal::Busy(_))));
    world.pass(Millis::seconds(100));
    second.valid_until = world.facts.now.plus(Millis::seconds(100));
    agree(&world, second).unwrap();
}
