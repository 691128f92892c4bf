//! `bench`: the project's benchmarks by name.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use samara_node::redundancy::Redundancy;
use samara_tests::bench::{Benchmark, coding, names, puts, scan, transfer};

/// Measures and prints a table, or with --json one object for each benchmark.
#[derive(Parser)]
struct Arguments {
    /// Which benchmark
    #[arg(value_enum, required_unless_present = "list")]
    name: Option<Benchmark>,
    /// Name all benchmarks
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Rounds behind each figure
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Any K of N hosts bring a file back
    #[arg(long, value_name = "K/N", default_value = "10/30")]
    redundancy: Redundancy,
    /// Hosts of the network, for `transfer`, `puts` and `names`
    #[arg(long, default_value_t = 30)]
    hosts: usize,
    /// Size of the object in MiB, for `transfer`
    #[arg(long, default_value_t = 320)]
    size: u64,
    /// Writers at once, for `puts`
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// Puts of each writer in a round, for `puts`
    #[arg(long, default_value_t = 100)]
    puts: usize,
    /// Files, for `names`
    #[arg(long, default_value_t = 1_000_000)]
    files: u64,
    /// Blocks of the chain, for `scan`
    #[arg(long, default_value_t = 1_000_000)]
    blocks: u64,
    /// Contracts of others in the chain, for `scan`
    #[arg(long, default_value_t = 100_000)]
    foreign: u64,
    /// The samara binary, for `transfer`, `puts` and `names` [default: beside this program]
    #[arg(long)]
    program: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for benchmark in Benchmark::value_variants() {
            if let Some(value) = benchmark.to_possible_value() {
                let help = value.get_help().map(ToString::to_string).unwrap_or_default();
                println!("{:<10} {help}", value.get_name());
            }
        }
        return Ok(());
    }
    let Redundancy { data, total } = arguments.redundancy;
    let report = match arguments.name.context("name a benchmark")? {
        Benchmark::Coding => coding::run(data, total, arguments.rounds),
        Benchmark::Scan => scan::run(arguments.blocks, arguments.foreign, arguments.rounds).await?,
        Benchmark::Transfer => {
            let (hosts, rounds) = (arguments.hosts, arguments.rounds);
            let bytes = arguments.size << 20;
            let setting = transfer::Setting { hosts, data, total, bytes, rounds };
            transfer::run(&program(arguments.program)?, setting).await?
        }
        Benchmark::Names => {
            let Arguments { hosts, files, rounds, .. } = arguments;
            let setting = names::Setting { hosts, data, total, files, rounds };
            names::run(&program(arguments.program)?, setting).await?
        }
        Benchmark::Puts => {
            let Arguments { hosts, writers, puts, rounds, .. } = arguments;
            let setting = puts::Setting { hosts, data, total, writers, puts, rounds };
            puts::run(&program(arguments.program)?, setting).await?
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// The named binary, or the one beside this program.
fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let program = match named {
        Some(program) => program,
        None => std::env::current_exe()?.with_file_name("samara"),
    };
    anyhow::ensure!(
        program.is_file(),
        "there is no {}: build it with `cargo build --release`, or name it with --program",
        program.display()
    );
    Ok(program)
}
