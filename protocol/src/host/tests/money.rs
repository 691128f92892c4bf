//! Vouchers and funds.

use super::{World, data, is_bad, prices};
use crate::contract::{SignedVoucher, Voucher};
use crate::host::message::{ContractCall, HostResponse, Refusal};
use crate::units::{Amount, Millis};

fn read(world: &World, voucher: SignedVoucher, root: crate::hash::SectorRoot) -> ContractCall {
    let _ = world;
    ContractCall::Read { voucher, root, offset: 0, length: 1_024 }
}

#[test]
fn requests_are_paid_by_running_totals() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let cost = prices().read_cost(1_024);
    let stored = prices().store_cost(1_024);
    let both = stored.checked_add(cost).unwrap();
    let short = world.voucher(Amount(both.0 - 1));
    let refused = Refusal::Payment { total: Amount(both.0 - 1), needed: both };
    assert_eq!(world.call(read(&world, short, entry.root)), Err(refused));
    let enough = world.voucher(Amount(both.0 + cost.0));
    assert!(world.call(read(&world, enough, entry.root)).is_ok());
    assert!(world.call(read(&world, short, entry.root)).is_ok(), "the highest total counts");
    let status = world.latest();
    assert_eq!(
        (status.voucher_total, status.consumed),
        (enough.voucher.total, enough.voucher.total)
    );
    let again = world.call(read(&world, enough, entry.root));
    assert!(matches!(again, Err(Refusal::Payment { .. })), "{again:?}");
}

#[test]
fn vouchers_must_be_signed_ours_and_covered() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let voucher = Voucher { contract: world.id(), total: Amount(1_000_000), epoch: world.epoch };
    let forged = SignedVoucher::sign(&super::GENESIS, voucher, &super::secret(9));
    assert!(is_bad(world.call(read(&world, forged, entry.root))));
    let foreign = Voucher { contract: super::secret(9).public(), ..voucher };
    let foreign = SignedVoucher::sign(&super::GENESIS, foreign, &super::secret(9));
    assert!(is_bad(world.call(read(&world, foreign, entry.root))));
    let contract = world.facts.contract.as_mut().unwrap();
    (contract.funds, contract.redeemed) = (Amount(10_000), Amount(1_000));
    let uncovered = world.voucher(Amount(11_001));
    let refused = Refusal::Payment { total: Amount(11_000), needed: Amount(11_001) };
    assert_eq!(world.call(read(&world, uncovered, entry.root)), Err(refused));
    let covered = world.voucher(Amount(11_000));
    assert!(world.call(read(&world, covered, entry.root)).is_ok());
}

#[test]
fn saved_payments_survive_a_crash() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    world.read(entry.root, 1_024).unwrap();
    world.host.save_payments().unwrap();
    let before = world.latest();
    world.crash();
    assert_eq!(world.latest().consumed, before.consumed);
    assert_eq!(world.latest().voucher_total, world.paid);
}

#[test]
fn parallel_reads_never_spend_the_same_money() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let cost = prices().read_cost(1_024);
    let voucher = world.voucher(Amount(world.paid.0 + 10 * cost.0));
    let requests: Vec<_> =
        (0..40).map(|_| world.request(read(&world, voucher, entry.root))).collect();
    let world = &world;
    let served: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .chunks(10)
            .map(|chunk| {
                scope.spawn(move || {
                    chunk.iter().filter(|request| world.send((*request).clone()).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(served, 10);
}

#[test]
fn growth_must_be_funded_until_the_end() {
    let mut world = World::new();
    let entry = world.store(1, 10).unwrap();
    let other = world.store(2, 10).unwrap();
    world.do_commit(&[other], &[], Vec::new()).unwrap();
    // Two sectors for 100 hours, ten proofs, and the vouchers.
    let needed = 2 * 1_024 * 100 + 10 * 10 + world.paid.0;
    world.facts.contract.as_mut().unwrap().funds = Amount(needed - 1);
    let refused = world.do_commit(&[entry], &[], Vec::new());
    assert!(matches!(refused, Err(Refusal::Terms(_))), "{refused:?}");
    world.facts.contract.as_mut().unwrap().funds = Amount(needed);
    world.do_commit(&[entry], &[], Vec::new()).unwrap();
    world.facts.contract.as_mut().unwrap().funds = Amount::ZERO;
    world.do_commit(&[], &[0], Vec::new()).unwrap();
}

#[test]
fn old_prices_bind_until_their_tables_expire() {
    let mut world = World::new();
    let (entry, bytes) = data(1, 10);
    let mut dearer = prices();
    dearer.upload = Amount(1_000);
    world.host.offer(dearer, true, world.facts.now).unwrap();
    let voucher = world.pay(prices().store_cost(1_024));
    let call = ContractCall::Store { voucher, root: entry.root, data: bytes.into() };
    assert_eq!(world.call(call.clone()), Ok(HostResponse::Stored));
    world.pass(Millis::seconds(600));
    world.paid = Amount(world.paid.0 * 2);
    let refused = world.call(call);
    assert!(matches!(refused, Err(Refusal::Payment { .. })), "{refused:?}");
}
