//! Contracts with real hosts.

use std::sync::Arc;

use samara_protocol::contract::SignedRevision;
use samara_protocol::hash::{SlabId, SlabTag};
use samara_protocol::host::Prices;
use samara_protocol::host::message::{Refusal, SealedDescriptor, SlotState};
use samara_protocol::journal::HostIndex;
use samara_protocol::sector::{self, SectorEntry, SectorSize};
use samara_protocol::units::Amount;

use super::{ContractBook, ContractError, ContractHandle, PriceLimits};
use crate::testing::world::{Fault, TestNetwork, TestStore, epoch, secret};
use crate::world::World;

const RICH: Amount = Amount(1_000_000_000_000);

fn sector(number: u8) -> (SectorEntry, Vec<u8>) {
    let bytes = vec![number; 16 << 10];
    (SectorEntry { root: sector::root(&bytes), size: SectorSize::HOST_MIN }, bytes)
}

async fn store(contract: &ContractHandle, number: u8) -> SectorEntry {
    let (entry, bytes) = sector(number);
    contract.store(entry.root, bytes.clone().into()).await.unwrap();
    entry
}

async fn add(contract: &ContractHandle, number: u8) -> Result<SignedRevision, ContractError> {
    let entry = store(contract, number).await;
    contract.commit(vec![entry], Vec::new(), Vec::new()).await
}

#[tokio::test(start_paused = true)]
async fn sectors_are_stored_committed_read_and_removed() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    add(&contract, 1).await.unwrap();
    let revision = add(&contract, 2).await.unwrap().revision;
    assert_eq!((revision.number, revision.size), (2, 32 << 10));
    let (entry, bytes) = sector(1);
    let read = contract.read(entry.root, entry.size, 100..9_000).await.unwrap();
    assert_eq!(read, bytes[100..9_000]);
    let revision = contract.commit(Vec::new(), vec![entry.root], Vec::new()).await.unwrap();
    assert_eq!((revision.revision.number, revision.revision.size), (3, 16 << 10));
    let refused = contract.read(entry.root, entry.size, 0..1).await.unwrap_err();
    assert!(matches!(refused, ContractError::Refused { refusal: Refusal::UnknownSector(_), .. }));
    assert_eq!(network.reopen().await.contract(HostIndex(0)).unwrap().revision(), revision);
}

#[tokio::test(start_paused = true)]
async fn commits_that_wait_share_a_revision() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let mut entries = Vec::new();
    for number in 0..20 {
        entries.push(store(&contract, number).await);
    }
    let commits = entries.iter().map(|entry| contract.commit(vec![*entry], vec![], vec![]));
    for outcome in futures::future::join_all(commits).await {
        outcome.unwrap();
    }
    let revision = contract.revision().revision;
    assert_eq!(revision.size, 20 * (16 << 10));
    assert!(revision.number <= 3, "{} revisions for 20 waiting commits", revision.number);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_an_unknown_sector_fails_alone() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let (first, second) = (store(&contract, 1).await, store(&contract, 2).await);
    let never_stored = sector(3).0;
    let commits = [first, never_stored, second].map(|e| contract.commit(vec![e], vec![], vec![]));
    let outcomes = futures::future::join_all(commits).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(
        outcomes[1],
        Err(ContractError::Refused { refusal: Refusal::UnknownSector(_), .. })
    ));
    assert_eq!(contract.revision().revision.size, 32 << 10);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_out_and_nothing_is_appended_twice() {
    for fault in [Fault::LosesCommits(1), Fault::DropsCommits(1)] {
        let network = TestNetwork::new(1).await;
        let contract = network.book.contract(HostIndex(0)).unwrap();
        network.set([0], fault);
        let revision = add(&contract, 1).await.unwrap().revision;
        assert_eq!((revision.number, revision.size), (1, 16 << 10), "{fault:?}");
        let revision = add(&contract, 2).await.unwrap().revision;
        assert_eq!((revision.number, revision.size), (2, 32 << 10), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_doubt_is_settled_by_the_next_even_after_a_restart() {
    for restart in [false, true] {
        let network = TestNetwork::new(1).await;
        let mut contract = network.book.contract(HostIndex(0)).unwrap();
        let entry = store(&contract, 1).await;
        network.set([0], Fault::LosesCommits(1));
        let commit = contract.commit(vec![entry], Vec::new(), Vec::new());
        let death = async {
            while network.hosts[0].calls("commit") == 0 {
                tokio::task::yield_now().await;
            }
            // The commit is at the host; its answer and every later one are lost.
            tokio::task::yield_now().await;
            network.hosts[0].set(Fault::Dead);
        };
        let (outcome, ()) = futures::future::join(commit, death).await;
        // Either it was found out in time, or it is in doubt.
        if let Err(error) = outcome {
            assert!(error.is_in_doubt(), "{error}");
        }
        network.set([0], Fault::None);
        if restart {
            contract = network.reopen().await.contract(HostIndex(0)).unwrap();
        }
        let again = contract.commit(vec![entry], Vec::new(), Vec::new()).await.unwrap();
        assert_eq!(again.revision.size, 16 << 10);
        let more = add(&contract, 2).await.unwrap();
        assert_eq!(more.revision.size, 32 << 10);
    }
}

#[tokio::test(start_paused = true)]
async fn descriptors_are_filed_with_the_sectors() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let entry = store(&contract, 1).await;
    let tag = SlabTag([5; 16]);
    let filed = SealedDescriptor { tag, sealed: vec![1, 2, 3] };
    network.set([0], Fault::LosesCommits(1));
    contract.commit(vec![entry], Vec::new(), vec![filed]).await.unwrap();
    let found = contract.descriptors(&[SlabTag([6; 16]), tag]).await.unwrap();
    assert_eq!(found, vec![None, Some(vec![1, 2, 3])]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_changes_nothing_and_still_reads() {
    let network = TestNetwork::new(2).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let other = network.book.contract(HostIndex(1)).unwrap();
    add(&contract, 1).await.unwrap();
    let entry = store(&contract, 2).await;
    contract.promise(epoch(7)).await.unwrap();
    let fenced = contract.commit(vec![entry], Vec::new(), Vec::new()).await.unwrap_err();
    assert!(matches!(fenced, ContractError::Fenced { promised, .. } if promised == epoch(7)));
    assert_eq!(network.writer.fenced(), Some(epoch(7)));
    // The other host was never asked, and is not.
    let calls = network.hosts[1].all_calls();
    let (root, bytes) = (sector(3).0.root, sector(3).1);
    assert!(matches!(
        other.store(root, bytes.clone().into()).await,
        Err(ContractError::Fenced { .. })
    ));
    assert!(matches!(
        other.head_put(SlotState::default(), vec![1], SlotState::default()).await,
        Err(ContractError::Fenced { .. })
    ));
    assert_eq!(network.hosts[1].all_calls(), calls);
    let (entry, bytes) = sector(1);
    assert_eq!(contract.read(entry.root, entry.size, 0..16_384).await.unwrap(), bytes);
    // Claiming a higher epoch lifts the fence.
    network.writer.claim(epoch(8));
    add(&contract, 4).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn vouchers_stop_at_the_funds() {
    let network = TestNetwork::empty(1).await;
    // Enough for two sectors at 2 grains a byte and 100 a request.
    let contract = network.form(0, Amount(2 * (2 * 16_384 + 100))).await;
    let (one, two, three) = (sector(1), sector(2), sector(3));
    let outcomes = futures::future::join_all(
        [&one, &two, &three].map(|(entry, bytes)| contract.store(entry.root, bytes.clone().into())),
    )
    .await;
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(matches!(failed.as_slice(), [ContractError::OutOfMoney { .. }]), "{failed:?}");
    assert_eq!(contract.money_left(), Amount::ZERO);
    assert_eq!(network.hosts[0].calls("store"), 2);
}

#[tokio::test(start_paused = true)]
async fn parallel_calls_pay_what_they_cost_and_not_more() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let sectors: Vec<_> = (0..16).map(sector).collect();
    let stores =
        sectors.iter().map(|(entry, bytes)| contract.store(entry.root, bytes.clone().into()));
    for outcome in futures::future::join_all(stores).await {
        outcome.unwrap();
    }
    let status = contract.latest().await.unwrap();
    assert_eq!(status.voucher_total, contract.voucher_total());
    assert_eq!(status.consumed, Amount(16 * (2 * 16_384 + 100)));
    assert_eq!(status.consumed, status.voucher_total);
}

#[tokio::test(start_paused = true)]
async fn refused_calls_cost_nothing_and_a_restart_pays_on() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    add(&contract, 1).await.unwrap();
    let before = contract.money_left();
    let (entry, _) = sector(9);
    contract.read(entry.root, entry.size, 0..1).await.unwrap_err();
    assert_eq!(contract.money_left(), before);
    let contract = network.reopen().await.contract(HostIndex(0)).unwrap();
    add(&contract, 2).await.unwrap();
    let status = contract.latest().await.unwrap();
    assert_eq!(status.voucher_total, contract.voucher_total());
}

#[tokio::test(start_paused = true)]
async fn prices_above_the_limits_are_not_paid() {
    let network = TestNetwork::new(1).await;
    network.book.limit_prices(PriceLimits { upload: Amount(1), ..PriceLimits::NONE });
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let (entry, bytes) = sector(1);
    let error = contract.store(entry.root, bytes.clone().into()).await.unwrap_err();
    assert!(matches!(error, ContractError::TooExpensive { what: "upload", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn raised_prices_are_paid_once_the_old_table_has_expired() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    add(&contract, 1).await.unwrap();
    let asked = network.hosts[0].calls("prices");
    add(&contract, 2).await.unwrap();
    assert_eq!(network.hosts[0].calls("prices"), asked, "a table in force is not asked again");
    network.hosts[0].offer(Prices { upload: Amount(20), ..crate::testing::world::prices() });
    network.world.clock.sleep(samara_protocol::units::Millis::hours(1)).await;
    let before = contract.money_left();
    store(&contract, 3).await;
    let paid = before.checked_sub(contract.money_left()).unwrap();
    assert_eq!(paid, Amount(20 * 16_384 + 100));
}

#[tokio::test(start_paused = true)]
async fn heads_are_written_and_shown_with_receipts() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let state = |sequence, bytes: &[u8]| SlotState {
        sequence,
        length: u32::try_from(bytes.len()).unwrap(),
        hash: samara_protocol::hash::Digest(sector::root(bytes).0),
        epoch: epoch(1),
    };
    assert_eq!(contract.head().await.unwrap().head, Vec::<u8>::new());
    let first = state(1, b"head");
    let put = contract.head_put(SlotState::default(), b"head".to_vec(), first).await.unwrap();
    assert_eq!(put.state, first);
    let second = state(2, b"head and tail");
    contract.head_append(first, b" and tail".to_vec(), second).await.unwrap();
    let shown = contract.promise(epoch(2)).await.unwrap();
    assert_eq!((shown.head.as_slice(), shown.status.slot.state), (&b"head and tail"[..], second));
    let conflict = contract.head_append(first, b"x".to_vec(), state(3, b"headx")).await;
    assert!(conflict.is_err());
}

#[tokio::test(start_paused = true)]
async fn found_contracts_are_adopted_and_rollbacks_named() {
    let network = TestNetwork::new(2).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let before = contract.latest().await.unwrap();
    add(&contract, 1).await.unwrap();
    let snapshot = network.book.snapshot();

    // An empty machine: only the head's snapshot and the chain.
    let found = TestNetwork { world: fresh_store(&network), ..network };
    let book = found.reopen().await;
    book.restore(&snapshot).await.unwrap();
    assert_eq!(book.live().len(), 0);
    assert_eq!(book.snapshot(), snapshot);
    let on_chain = found.world.chain.contract(&contract.id()).await.unwrap().unwrap();
    let status = book.link(&on_chain).unwrap().latest().await.unwrap();
    let adoption = book.adopt(&on_chain, &status, &[]).await.unwrap();
    assert!(adoption.rolled_back.is_none());
    assert_eq!(adoption.handle.revision(), contract.revision());
    add(&adoption.handle, 2).await.unwrap();
    let (entry, bytes) = sector(1);
    assert_eq!(adoption.handle.read(entry.root, entry.size, 0..100).await.unwrap(), bytes[..100]);

    // A host that shows the state before is named.
    let back = book.adopt(&on_chain, &before, &[]).await.unwrap().rolled_back.unwrap();
    assert_eq!((back.known.number, back.shown.number), (2, 0));
}

fn fresh_store(network: &TestNetwork) -> crate::world::World {
    let store = std::sync::Arc::new(crate::testing::world::TestStore::default());
    crate::world::World { store, ..network.world.clone() }
}

#[tokio::test(start_paused = true)]
async fn an_empty_contract_costs_no_call_to_commit_nothing() {
    let network = TestNetwork::empty(1).await;
    let contract = network.form(0, RICH).await;
    contract.commit(Vec::new(), Vec::new(), Vec::new()).await.unwrap();
    assert_eq!(network.hosts[0].all_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_label_of_a_long_line_of_contracts_is_never_left_out() {
    let network = TestNetwork::new(1).await;
    let contract = network.book.contract(HostIndex(0)).unwrap();
    let on_chain = network.world.chain.contract(&contract.id()).await.unwrap().unwrap();
    let status = contract.latest().await.unwrap();
    let earlier: Vec<_> = (100..120).map(|byte| secret(byte).public()).collect();
    let world = World { store: Arc::new(TestStore::default()), ..network.world.clone() };
    let book =
        ContractBook::open(world, network.keys.clone(), network.writer.clone()).await.unwrap();
    book.add_host(HostIndex(0), contract.host(), String::new()).await.unwrap();
    let adopted = book.adopt(&on_chain, &status, &earlier).await.unwrap().handle;
    let slab = SlabId([7; 16]);
    let tags = adopted.slab_tags(&network.keys, &slab);
    let first = network.keys.slab_tag_key().tag(earlier.last().unwrap(), &slab);
    assert!(tags.contains(&first));
    assert_eq!(tags[0], adopted.slab_tag(&network.keys, &slab));
    assert_eq!(tags.len(), earlier.len() + 1);
}
