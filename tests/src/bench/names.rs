//! Many names: what one change costs the next backup, and a recovery that lists them all.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use samara_node::api::client::Client;
use samara_node::testnet::{Network, Redundancy};
use samara_protocol::keys::phrase::Phrase;
use serde_json::{Value, json};

use super::network::{on_network, peak_memory, written};
use super::report::Report;

/// Files in a folder.
const FOLDER: u64 = 1_000;
/// Room of each host.
const CAPACITY: u64 = 16 << 30;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Hosts of the network.
    pub hosts: usize,
    /// Shards that rebuild a slab.
    pub data: u8,
    /// Shards of a slab.
    pub total: u8,
    /// Files, of sixteen bytes each.
    pub files: u64,
    /// Backups of one change each, and recoveries.
    pub rounds: usize,
}

/// Runs the benchmark with nodes of `program`, the samara binary.
///
/// # Errors
/// When the network cannot start or a step fails.
pub async fn run(program: &Path, setting: Setting) -> anyhow::Result<Report> {
    on_network(program, setting.hosts, CAPACITY, async |network, scratch| {
        measure(network, scratch, setting).await
    })
    .await
}

async fn measure(
    network: &mut Network,
    scratch: &Path,
    setting: Setting,
) -> anyhow::Result<Report> {
    let client = network.client("renter-0")?;
    network
        .equip("renter-0", Some(Redundancy { data: setting.data, total: setting.total }))
        .await?;
    let source = scratch.join("source");
    generate(&source, setting.files)?;
    let mut report = Report::new("names", setting.rounds);

    let start = Instant::now();
    put(&client, &source, "").await?;
    report.add("store all", "s", vec![start.elapsed().as_secs_f64()]);
    report.note(format!("{} files of 16 B, {} hosts", setting.files, setting.hosts));
    let start = Instant::now();
    backup(&client, "first").await?;
    report.add("first backup", "s", vec![start.elapsed().as_secs_f64()]);

    let [mut wait, mut stored, mut sent] = [const { Vec::<f64>::new() }; 3];
    let pid = network.pid("renter-0").context("the renter runs")?;
    let mut last = "first".to_owned();
    for round in 0..setting.rounds {
        let changed = round as u64 * 7_919 % setting.files;
        let file = file(&source, changed);
        std::fs::write(&file, format!("changed {round:07}\n"))?;
        put(&client, &file, &target(changed)).await?;
        let (before, written_before) = (at_hosts(&client).await?, written(pid).unwrap_or(0));
        let (name, start) = (format!("round {round}"), Instant::now());
        backup(&client, &name).await?;
        wait.push(start.elapsed().as_secs_f64() * 1e3);
        stored.push((at_hosts(&client).await? - before) / 1e3);
        sent.push((written(pid).unwrap_or(0) - written_before) as f64 / 1e3);
        let path = format!("/v1/backups/{}/diff/{}", escape(&last), escape(&name));
        let difference: Value = client.get(&path).await?;
        anyhow::ensure!(difference["changed"] == 1, "{difference}");
        last = name;
    }
    report.add("backup after one change", "ms", wait);
    report.add("its bytes at all hosts", "kB", stored);
    report.note("parity included");
    report.add("written by the renter meanwhile", "kB", sent);
    report.note("to sockets and to disk");
    report.add("storing renter's peak memory", "MB", memory(network, "renter-0"));

    let words = std::fs::read_to_string(network.place("renter-0")?.words())?;
    let words = Phrase::parse(words.trim())?;
    network.stop_node("renter-0").await?;
    let [mut recovered, mut listed, mut held] = [const { Vec::<f64>::new() }; 3];
    for _ in 0..setting.rounds {
        let name = network.layout_mut().add_renter(&words)?.name();
        let client = network.start_node(&name).await?;
        let start = Instant::now();
        let mut names = None;
        let _: Value = client
            .run("/v1/recovery", &json!({}), |event| {
                if event["event"] == "names_available" {
                    names = Some(start.elapsed().as_secs_f64());
                }
            })
            .await?;
        recovered.push(names.context("no names came")?);
        let vaults: Value = client.get("/v1/vaults").await?;
        anyhow::ensure!(vaults[0]["files"] == setting.files, "{vaults}");
        let folder: Value = client.get("/v1/vaults/bench/files?folder=00000").await?;
        anyhow::ensure!(folder.as_array().is_some_and(|rows| !rows.is_empty()));
        listed.push(start.elapsed().as_secs_f64());
        held.extend(memory(network, &name));
        network.stop_node(&name).await?;
    }
    report.add("recovery until names are there", "s", recovered);
    report.add("recovery until it writes and a folder is listed", "s", listed);
    report.add("recovering renter's peak memory", "MB", held);
    Ok(report)
}

fn memory(network: &Network, name: &str) -> Vec<f64> {
    let bytes = network.pid(name).and_then(peak_memory);
    bytes.into_iter().map(|bytes| bytes as f64 / 1e6).collect()
}

/// Path of a file in its vault.
fn target(number: u64) -> String {
    format!("{:05}/file {number:07}.txt", number / FOLDER)
}

fn file(source: &Path, number: u64) -> std::path::PathBuf {
    source.join(target(number))
}

fn generate(source: &Path, files: u64) -> anyhow::Result<()> {
    for number in 0..files {
        let file = file(source, number);
        if let (0, Some(folder)) = (number % FOLDER, file.parent()) {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, format!("{number:015}\n"))?;
    }
    Ok(())
}

async fn put(client: &Client, source: &Path, target: &str) -> anyhow::Result<()> {
    let request = json!({ "source": source, "vault": "bench", "target": target });
    let report: Value = client.run("/v1/put", &request, drop).await?;
    let failed = report["failed"].as_array().is_none_or(|failed| !failed.is_empty());
    anyhow::ensure!(!failed, "{report}");
    Ok(())
}

/// Makes a backup, and waits until its checkpoint is stored.
async fn backup(client: &Client, name: &str) -> anyhow::Result<()> {
    let _: Value = client.run("/v1/backups", &json!({ "name": name }), drop).await?;
    let name = escape(name);
    let _: Value = client.get(&format!("/v1/backups/{name}/diff/{name}")).await?;
    Ok(())
}

fn escape(name: &str) -> String {
    name.replace(' ', "%20")
}

/// Bytes under all contracts.
async fn at_hosts(client: &Client) -> anyhow::Result<f64> {
    let contracts: Value = client.get("/v1/contracts").await?;
    let rows = contracts.as_array().context("a list of contracts")?;
    Ok(rows.iter().filter_map(|row| row["bytes"].as_f64()).sum())
}
