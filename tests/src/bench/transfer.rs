//! Upload, download and first byte of one object on a local network of separate processes.

use std::path::Path;
use std::time::Instant;

use samara_node::api::client::Client;
use samara_node::testnet::{Network, Redundancy, Role};
use serde_json::{Value, json};

use super::network::{on_network, peak_memory, processor_seconds};
use super::report::Report;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Hosts of the network.
    pub hosts: usize,
    /// Shards that rebuild a slab.
    pub data: u8,
    /// Shards of a slab.
    pub total: u8,
    /// Bytes of the object.
    pub bytes: u64,
    /// Rounds.
    pub rounds: usize,
}

/// Runs the benchmark with nodes of `program`, the samara binary.
///
/// # Errors
/// When the network cannot start or a transfer fails.
pub async fn run(program: &Path, setting: Setting) -> anyhow::Result<Report> {
    let capacity = setting.bytes.saturating_mul(setting.rounds as u64 + 1).max(1 << 30);
    on_network(program, setting.hosts, capacity, async |network, folder| {
        measure(network, folder, setting).await
    })
    .await
}

async fn measure(network: &Network, folder: &Path, setting: Setting) -> anyhow::Result<Report> {
    let client = network.client("renter-0")?;
    let redundancy = Redundancy { data: setting.data, total: setting.total };
    network.equip("renter-0", Some(redundancy)).await?;
    let pids: Vec<u32> =
        network.layout().nodes.iter().filter_map(|place| network.pid(&place.name())).collect();
    let renter = network.pid("renter-0").into_iter().collect::<Vec<_>>();
    let mut figures: [Vec<f64>; 7] = Default::default();
    for round in 0..setting.rounds {
        let source = folder.join(format!("object-{round}"));
        write_object(&source, setting.bytes, round as u64)?;
        let name = format!("object-{round}");
        let (seconds, cpu) = timed(&pids, upload(&client, &source)).await?;
        let gigabytes = setting.bytes as f64 / 1e9;
        figures[0].push(setting.bytes as f64 / 1e6 / seconds);
        figures[1].push(cpu / gigabytes);
        for _ in 0..10 {
            let (seconds, _) = timed(&renter, first_byte(&client, &name)).await?;
            figures[4].push(seconds * 1e3);
        }
        let (seconds, cpu) = timed(&pids, download(&client, &name, setting.bytes)).await?;
        figures[2].push(setting.bytes as f64 / 1e6 / seconds);
        figures[3].push(cpu / gigabytes);
        let stored: u64 = network
            .layout()
            .of(Role::Host)
            .map(|place| folder_bytes(&place.folder.join("sectors")))
            .sum();
        figures[5].push(stored as f64 / (setting.bytes as f64 * (round as f64 + 1.0)));
        figures[6].push(renter.first().and_then(|pid| peak_memory(*pid)).unwrap_or(0) as f64 / 1e6);
        std::fs::remove_file(&source)?;
    }
    let mut report = Report::new("transfer", setting.rounds);
    let object = format!(
        "{} MB object, {} of {}, {} hosts",
        setting.bytes / 1_000_000,
        setting.data,
        setting.total,
        setting.hosts
    );
    let rows: [(&str, &'static str); 7] = [
        ("upload", "MB/s"),
        ("upload, processor, all nodes", "CPU-s/GB"),
        ("download", "MB/s"),
        ("download, processor, all nodes", "CPU-s/GB"),
        ("first byte", "ms"),
        ("bytes on hosts for a user byte", "x"),
        ("renter's peak memory", "MB"),
    ];
    for ((name, unit), figures) in rows.into_iter().zip(figures) {
        report.add(name, unit, figures);
        if name == "upload" {
            report.note(object.clone());
        }
    }
    Ok(report)
}

async fn timed<T>(
    pids: &[u32],
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(f64, f64)> {
    let processor = || pids.iter().filter_map(|pid| processor_seconds(*pid)).sum::<f64>();
    let before = processor();
    let start = Instant::now();
    work.await?;
    Ok((start.elapsed().as_secs_f64(), processor() - before))
}

async fn upload(client: &Client, source: &Path) -> anyhow::Result<()> {
    let body = json!({ "source": source, "vault": "bench", "target": "" });
    let report: Value = client.run("/v1/put", &body, |_| ()).await?;
    anyhow::ensure!(report["stored_files"] == 1, "the object was not stored: {report}");
    Ok(())
}

async fn download(client: &Client, name: &str, bytes: u64) -> anyhow::Result<()> {
    let mut answer = open(client, name).await?;
    let mut received = 0;
    while let Some(piece) = answer.chunk().await? {
        received += piece.len() as u64;
    }
    anyhow::ensure!(received == bytes, "{received} of {bytes} bytes came back");
    Ok(())
}

async fn first_byte(client: &Client, name: &str) -> anyhow::Result<()> {
    let request = client
        .request(reqwest::Method::GET, &format!("/v1/vaults/bench/objects/{name}"))
        .header("range", "bytes=0-0");
    let answer = client.send(request).await?.bytes().await?;
    anyhow::ensure!(answer.len() == 1, "{} bytes for one", answer.len());
    Ok(())
}

async fn open(client: &Client, name: &str) -> anyhow::Result<reqwest::Response> {
    let path = format!("/v1/vaults/bench/objects/{name}");
    Ok(client.send(client.request(reqwest::Method::GET, &path)).await?)
}

/// Writes bytes that do not repeat.
fn write_object(path: &Path, bytes: u64, seed: u64) -> std::io::Result<()> {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut file = std::fs::File::create(path)?;
    let mut piece = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.fill(&mut piece[..count]);
        std::io::Write::write_all(&mut file, &piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
