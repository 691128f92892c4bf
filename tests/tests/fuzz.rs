//! Every fuzz target over its corpus, over systematic mutations of each input and over random ones:
//! no panic, no broken promise, and no more memory than what came allows.

#![allow(unsafe_code, reason = "a global allocator that counts is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use samara_protocol::encoding::decode;
use samara_protocol::journal::{Entry, JournalState};
use samara_renter::archive::{Archive, ArchiveLimits};
use samara_tests::fuzz::mutate::{Chance, random, systematic};
use samara_tests::fuzz::{TARGETS, Target, corpus};

/// Random inputs for each target.
const RANDOM: u64 = 3_000;
/// Most bytes of all corpora.
const CORPORA: u64 = 300_000;

/// The system's allocator; counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Notes a change of what this thread holds.
fn count(bytes: isize) {
    // A thread that ends frees after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as this function's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as this function's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as this function's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there for a moment.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as this function's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a target; gives the most bytes that were allocated at one moment.
fn measured(target: &Target, input: &[u8]) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    (target.run)(input);
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}

/// Runs a target over an input and keeps the input if that fails.
fn check(target: &Target, input: &[u8], worst: &mut Worst) {
    let problem = match catch_unwind(AssertUnwindSafe(|| measured(target, input))) {
        Ok(peak) => {
            worst.note(target, input.len(), peak);
            let allowance = target.allowance(input.len());
            if peak <= allowance {
                return;
            }
            format!("{peak} bytes were allocated at once, at most {allowance} are allowed")
        }
        Err(_) => "it panicked, see above".to_owned(),
    };
    let name = format!("{}-{}", target.name, &blake3::hash(input).to_hex()[..16]);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, input).unwrap();
    panic!("{} with {} bytes ({}): {problem}", target.name, input.len(), path.display());
}

/// The run that came nearest to its allowance.
#[derive(Default)]
struct Worst {
    share: usize,
    length: usize,
    peak: usize,
}

impl Worst {
    fn note(&mut self, target: &Target, length: usize, peak: usize) {
        let share = peak * 100 / target.allowance(length);
        if share > self.share {
            *self = Self { share, length, peak };
        }
    }
}

/// The inputs of a target, by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = corpus::folder().join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{target}: {error}"));
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    files.map(|entry| file(entry.unwrap().path())).collect()
}

fn hunt(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds: Vec<Vec<u8>> = inputs(name).into_values().collect();
    // What a target makes once for all runs is no part of what an input costs.
    seeds.iter().for_each(|seed| (target.run)(seed));
    (target.run)(&[]);
    let (mut worst, mut runs) = (Worst::default(), 0u64);
    for seed in &seeds {
        systematic(seed, |input| {
            check(target, input, &mut worst);
            runs += 1;
        });
    }
    let mut chance = Chance::new(4_711);
    for _ in 0..RANDOM {
        check(target, &random(&seeds, &mut chance), &mut worst);
    }
    let Worst { share, length, peak } = worst;
    println!(
        "{name}: {} runs; at most {share} % of the allowance: {peak} for {length} bytes",
        runs + RANDOM
    );
}

macro_rules! hunts {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            hunt(stringify!($name));
        })*

        const HUNTS: &[&str] = &[$(stringify!($name)),*];
    };
}

hunts! { announcement, api_bodies, archive, archive_documents, block, certificate, chain_request, chain_response, chain_values, checkpoint_root, chunk_proof, contract_call, descriptor, descriptor_sealed, engine_messages, entries, entry, event_items, file_items, frames, genesis, head_base, head_pieces, head_slot, head_tail, header, held_items, host_papers, host_request, host_response, light_state, network_toml, outboard, position_proof, range_proof, recovery_record, revision, samara_toml, scan_state, sealed_words, slab_items, slab_record, state_proof, storage_proof, terms, texts, transaction, tree_node, validator_change, validators, voucher, wire_request, wire_response }

#[test]
fn every_target_is_everywhere() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, HUNTS.iter().copied().collect(), "tests in this file");
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap());
    assert_eq!(names, bins.collect(), "programs in tests/fuzz/Cargo.toml");
    for name in names {
        let program = package.join("fuzz_targets").join(name).with_extension("rs");
        let program = fs::read_to_string(program).unwrap();
        assert!(program.contains(&format!("samara_tests::fuzz::{name}(data)")), "{name}");
    }
}

#[test]
fn the_corpora_are_what_the_command_makes_and_small() {
    let mut made: BTreeMap<&str, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for sample in corpus::samples() {
        let before =
            made.entry(sample.target).or_default().insert(sample.name.clone(), sample.bytes);
        assert_eq!(before, None, "{}/{} is there twice", sample.target, sample.name);
    }
    let mut total = 0;
    for target in TARGETS {
        let mut kept = inputs(target.name);
        total += kept.values().map(|input| input.len() as u64).sum::<u64>();
        kept.retain(|name, _| !name.starts_with("found-"));
        assert!(!kept.is_empty() && made.get(target.name) == Some(&kept), "{}", target.name);
    }
    assert!(total <= CORPORA, "{total} bytes");
}

#[test]
fn the_sample_of_a_journal_is_one() {
    let sample = &inputs("entries")["journal"];
    let entries: Vec<Entry> = decode(sample).unwrap();
    let mut state = JournalState::default();
    entries.iter().for_each(|entry| state.apply(entry).unwrap());
}

#[test]
fn the_sample_of_an_archive_is_one() {
    let sample = &inputs("archive")["vault"];
    let archive = Archive::open(Cursor::new(sample), None, ArchiveLimits::default()).unwrap();
    assert!(archive.verify(None).unwrap().check_files(|_| true).unwrap());
}

#[test]
fn memory_is_counted() {
    fn greedy(input: &[u8]) {
        drop(vec![1u8; input.len() << 20]);
    }
    let target = Target { name: "greedy", run: greedy, ..TARGETS[0] };
    assert!(measured(&target, &[0; 8]) >= 8 << 20);
    assert!(8 << 20 > target.allowance(8));
}
