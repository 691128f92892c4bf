//! A local network of separate processes for a benchmark, and what the system says of them.

use std::path::Path;

use samara_node::testnet::{Layout, Network, Plan, Runner};
use samara_protocol::chain::ChainParameters;

use super::report::Report;

/// Measures on a network of one validator, one renter and `hosts` hosts that hold `capacity` bytes
/// each. Its folder goes with it.
///
/// # Errors
/// When the network cannot start or `measure` fails.
pub async fn on_network(
    program: &Path,
    hosts: usize,
    capacity: u64,
    measure: impl AsyncFnOnce(&mut Network, &Path) -> anyhow::Result<Report>,
) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let plan = Plan {
        folder: folder.path().join("network"),
        validators: 1,
        hosts,
        renters: 1,
        host_capacity: capacity,
        parameters: ChainParameters::default(),
    };
    let mut network = Network::new(Layout::create(&plan)?, Runner::Processes(program.to_owned()));
    network.start(|step| eprintln!("{step}")).await?;
    let outcome = measure(&mut network, folder.path()).await;
    network.stop().await?;
    outcome
}

/// Processor seconds of a process so far, from `/proc/PID/stat` (proc(5): fields 14 and 15, in ticks
/// of 1/100 s).
#[must_use]
pub fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// Bytes that a process has written so far, to files and sockets, from `/proc/PID/io`.
#[must_use]
pub fn written(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find(|line| line.starts_with("wchar:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Largest resident size of a process in bytes, from `/proc/PID/status`.
#[must_use]
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
