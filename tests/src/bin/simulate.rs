//! Runs seeds of the simulator: `simulate --seeds 1000`, `simulate --seeds 1 --start 4711 --trace`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use samara_tests::sim::trace::Fault;
use samara_tests::sim::{Options, Sabotage, run};

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
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { operations, trace, losses, sabotage, .. } = arguments;
    let hosts = arguments.hosts.and_then(|hosts| usize::try_from(hosts).ok());
    let options = Options { operations, trace, sabotage, losses, hosts };
    let started = Instant::now();
    let mut faults: BTreeMap<Fault, u64> = BTreeMap::new();
    let (mut done, mut events, mut acknowledged, mut failed) = (0u64, 0u64, 0u64, Vec::new());
    for seed in arguments.start..arguments.start.saturating_add(arguments.seeds) {
        let outcome = run(seed, options);
        done += 1;
        events += outcome.events;
        acknowledged += outcome.acknowledged;
        for (fault, count) in outcome.faults {
            *faults.entry(fault).or_default() += count;
        }
        if options.trace {
            println!("seed {seed}: trace hash {}", outcome.hash);
        }
        if !outcome.violations.is_empty() {
            failed.push(seed);
            println!("seed {seed} FAILED:");
            outcome.violations.iter().for_each(|violation| println!("  {violation}"));
            println!("  replay: simulate --seeds 1 --start {seed} --trace");
            if !arguments.keep_going {
                break;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    println!("{done} seeds in {seconds:.1} s, {:.1} a second", done as f64 / seconds);
    println!("{events} events, {acknowledged} changes acknowledged");
    faults.iter().for_each(|(fault, count)| println!("  {fault:?}: {count}"));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("failing seeds: {failed:?}");
        ExitCode::FAILURE
    }
}
