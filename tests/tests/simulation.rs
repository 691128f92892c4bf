//! The seeded simulator: many seeds, the same trace twice, and proof that it can fail.

use std::collections::BTreeSet;
use std::sync::Mutex;

use samara_tests::sim::trace::Fault;
use samara_tests::sim::{Options, Outcome, Sabotage, run};

/// Seeds of the main test.
const SEEDS: u64 = 200;
/// Seeds of the runs that lose hosts.
const LOSSES: u64 = 30;
/// Seeds that found a defect once, of the renter or of the simulator itself.
const REGRESSIONS: [u64; 5] = [59, 98, 108, 204, 380];

fn check(outcome: &Outcome) {
    assert!(
        outcome.violations.is_empty(),
        "seed {seed}: {violations:#?}\nreplay: cargo run --release -p samara-tests --bin simulate -- \
         --seeds 1 --start {seed} --trace",
        seed = outcome.seed,
        violations = outcome.violations,
    );
}

/// Runs seeds on as many threads as there are processors: each run has its own world.
fn all(seeds: impl Iterator<Item = u64> + Send, options: Options) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    let seeds = Mutex::new(seeds);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = seeds.lock().unwrap().next();
                    let Some(seed) = next else { return };
                    let outcome = run(seed, options);
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|outcome: &Outcome| outcome.seed);
    outcomes
}

#[test]
fn what_is_acknowledged_grows_back_from_the_words() {
    let outcomes = all(
        (0..SEEDS).chain(REGRESSIONS.into_iter().filter(|seed| *seed >= SEEDS)),
        Options::default(),
    );
    outcomes.iter().for_each(check);
    // A schedule that acknowledges nothing, or harms nobody, would prove nothing.
    let acknowledged: u64 = outcomes.iter().map(|outcome| outcome.acknowledged).sum();
    assert!(acknowledged > 10 * SEEDS, "{acknowledged}");
    let faults: u64 = outcomes.iter().flat_map(|outcome| outcome.faults.values()).sum();
    assert!(faults > 10 * SEEDS, "{faults}");
    let kinds: BTreeSet<_> = outcomes.iter().flat_map(|outcome| outcome.faults.keys()).collect();
    let missing: Vec<_> = Fault::USUAL.iter().filter(|fault| !kinds.contains(fault)).collect();
    assert!(missing.is_empty(), "no seed has {missing:?}");
}

#[test]
fn what_hosts_lose_is_whole_again_by_itself() {
    let options = Options { losses: true, ..Options::default() };
    let outcomes = all(0..LOSSES, options);
    outcomes.iter().for_each(check);
    let acknowledged: u64 = outcomes.iter().map(|outcome| outcome.acknowledged).sum();
    assert!(acknowledged > 10 * LOSSES, "{acknowledged}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let seeds = || [3, 17, 42, 98].into_iter();
    let (first, second) = (all(seeds(), Options::default()), all(seeds(), Options::default()));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((first.events, first.hash), (second.events, second.hash), "{}", first.seed);
    }
}

/// Runs seeds until one of them finds what must be found.
fn finds(sabotage: Sabotage, what: &str) {
    let options = Options { sabotage, ..Options::default() };
    let found = (0..100).any(|seed| {
        let violations = run(seed, options).violations;
        violations.iter().any(|violation| violation.contains(what))
    });
    assert!(found, "{sabotage:?} goes unseen");
}

#[test]
fn hosts_that_acknowledge_before_they_sync_are_found_out() {
    finds(Sabotage::Unsynced, "is missing");
}

#[test]
fn hosts_that_forget_their_promises_are_found_out() {
    finds(Sabotage::ForgetPromises, "writes after it was taken over");
}

#[test]
fn more_hosts_with_old_heads_than_may_lie_are_found_out() {
    finds(Sabotage::OldHeads, "at the end: '");
}

#[test]
fn hosts_that_take_lower_epochs_are_found_out() {
    finds(Sabotage::LowerEpochs, ", it promised ");
}

#[test]
fn slab_ids_and_nonces_that_are_drawn_again_are_found_out() {
    finds(Sabotage::StaleRandomness, "seals two");
}

#[test]
fn operators_that_count_twice_in_a_quorum_are_found_out() {
    finds(Sabotage::HiddenOperators, "operators make the head set");
}
