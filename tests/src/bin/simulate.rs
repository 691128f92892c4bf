//! Runs seeds of the simulator: `simulate --seeds 1000`, `simulate --seeds 1 --start 4711 --trace`.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use samara_protocol::sync::lock;
use samara_tests::sim::trace::Fault;
use samara_tests::sim::{Options, Outcome, Sabotage, run};

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs the renter's real code against real hosts in a simulated world, one run for each seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Operations of each run.
    #[arg(long, default_value_t = Options::default().operations)]
    operations: u64,
    /// Print every event.
    #[arg(long)]
    trace: bool,
    /// Twelve hosts, three of which are lost at the end: all must become whole again.
    #[arg(long)]
    losses: bool,
    /// So many hosts in each run, instead of what its seed draws.
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=200))]
    hosts: Option<u64>,
    /// Break something on purpose: some seed must fail.
    #[arg(long, value_enum, default_value_t = Sabotage::None)]
    sabotage: Sabotage,
    /// Seeds that run at once; as many as there are processors unless given.
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// What came of the seeds so far.
#[derive(Default)]
struct Tally {
    done: u64,
    events: u64,
    acknowledged: u64,
    nodes: u64,
    faults: BTreeMap<Fault, u64>,
    failed: Vec<u64>,
    /// When the last line of progress was printed.
    told: Option<Instant>,
}

impl Tally {
    fn take(&mut self, seed: u64, outcome: Outcome, trace: bool) {
        self.done += 1;
        self.events += outcome.events;
        self.acknowledged += outcome.acknowledged;
        self.nodes += outcome.nodes;
        for (fault, count) in outcome.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        if trace {
            println!("seed {seed}: trace hash {}", outcome.hash);
        }
        if !outcome.violations.is_empty() {
            self.failed.push(seed);
            println!("seed {seed} FAILED:");
            outcome.violations.iter().for_each(|violation| println!("  {violation}"));
            println!("  replay: simulate --seeds 1 --start {seed} --trace");
        }
    }

    fn tell(&mut self, of: u64, started: Instant) {
        let since = self.told.unwrap_or(started).elapsed();
        if since >= PROGRESS {
            self.told = Some(Instant::now());
            eprintln!("{} of {of} seeds, {} failed", self.done, self.failed.len());
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { operations, trace, losses, sabotage, seeds, start, .. } = arguments;
    let hosts = arguments.hosts.and_then(|hosts| usize::try_from(hosts).ok());
    let options = Options { operations, trace, sabotage, losses, hosts };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    // The events of one seed are not to be mixed with those of another.
    let threads = if trace { 1 } else { arguments.threads.unwrap_or(threads) };
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= seeds {
                return;
            }
            let seed = start.saturating_add(number);
            let outcome = run(seed, options);
            let mut tally = lock(&tally);
            tally.take(seed, outcome, trace);
            tally.tell(seeds, started);
            if !tally.failed.is_empty() && !arguments.keep_going {
                next.store(seeds, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let tally = lock(&tally);
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    let Tally { done, events, acknowledged, nodes, ref faults, ref failed, .. } = *tally;
    let rate = done as f64 / seconds;
    println!("{done} seeds in {seconds:.1} s on {threads} threads, {rate:.1} a second");
    println!("{events} events, {acknowledged} changes acknowledged, {nodes} nodes of checkpoints");
    faults.iter().for_each(|(fault, count)| println!("  {fault:?}: {count}"));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("failing seeds: {failed:?}");
        ExitCode::FAILURE
    }
}
