//! Acknowledged small puts of many writers at once, through the HTTP API, on a local network.

use std::path::Path;
use std::time::Instant;

use futures::future::try_join_all;
use samara_node::api::client::Client;
use samara_node::testnet::{Network, Redundancy};
use serde_json::{Value, json};

use super::network::{on_network, peak_memory};
use super::report::Report;
use crate::noise;

/// Bytes of each object.
const SIZE: usize = 1_024;
/// Room of each host.
const CAPACITY: u64 = 1 << 30;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Hosts of the network.
    pub hosts: usize,
    /// Shards that rebuild a slab.
    pub data: u8,
    /// Shards of a slab.
    pub total: u8,
    /// Writers at once; each waits for its acknowledgement before its next put.
    pub writers: usize,
    /// Puts of each writer in a round.
    pub puts: usize,
    /// Rounds.
    pub rounds: usize,
}

/// Runs the benchmark with nodes of `program`, the samara binary.
///
/// # Errors
/// When the network cannot start or a put fails.
pub async fn run(program: &Path, setting: Setting) -> anyhow::Result<Report> {
    on_network(program, setting.hosts, CAPACITY, async |network, _| measure(network, setting).await)
        .await
}

async fn measure(network: &Network, setting: Setting) -> anyhow::Result<Report> {
    let client = network.client("renter-0")?;
    let redundancy = Redundancy { data: setting.data, total: setting.total };
    network.equip("renter-0", Some(redundancy)).await?;
    let _: Value = client.post("/v1/vaults", &json!({ "name": "bench" })).await?;
    let [mut rate, mut middle, mut late, mut memory]: [Vec<f64>; 4] = Default::default();
    for round in 0..setting.rounds {
        let start = Instant::now();
        let writers = (0..setting.writers).map(|writer| {
            let client = &client;
            async move {
                let mut waits = Vec::with_capacity(setting.puts);
                for number in 0..setting.puts {
                    let before = Instant::now();
                    put(client, &format!("{round}/{writer}/{number}")).await?;
                    waits.push(before.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(waits)
            }
        });
        let mut waits = try_join_all(writers).await?.concat();
        rate.push(waits.len() as f64 / start.elapsed().as_secs_f64());
        waits.sort_by(f64::total_cmp);
        let share =
            |of_hundred: usize| waits[(waits.len() * of_hundred / 100).min(waits.len() - 1)];
        middle.push(share(50));
        late.push(share(99));
        if let Some(bytes) = network.pid("renter-0").and_then(peak_memory) {
            memory.push(bytes as f64 / 1e6);
        }
    }
    let mut report = Report::new("puts", setting.rounds);
    report.add("acknowledged puts", "1/s", rate);
    report.note(format!("{SIZE} B each, {} writers, {} hosts", setting.writers, setting.hosts));
    report.add("wait for one, p50", "ms", middle);
    report.add("wait for one, p99", "ms", late);
    report.add("renter's peak memory", "MB", memory);
    Ok(report)
}

/// Stores an object whose bytes nothing else has.
async fn put(client: &Client, name: &str) -> anyhow::Result<()> {
    let bytes = noise(name.as_bytes(), SIZE);
    let path = format!("/v1/vaults/bench/objects/{name}");
    client.send(client.request(reqwest::Method::PUT, &path).body(bytes)).await?;
    Ok(())
}
