//! The recovery scan: a synthetic chain, served by a peer over loopback, read by a light client.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use samara_node::light::{LightClient, LightConfig, MemoryPointStore, NetworkPeer};
use samara_node::transport::{Body, Channel, RequestHandler, Transport, TransportConfig};
use samara_protocol::chain::light::{Need, Rules};
use samara_protocol::keys::{KeyTree, Phrase};
use samara_protocol::recovery::scan::Scan;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::wire::{NodeRequest, NodeResponse};
use samara_renter::world::ChainView as _;
use zeroize::Zeroizing;

use super::report::Report;
use crate::synthetic::{SyntheticChain, SyntheticPlan, is_own};

/// Contracts of the scanning seed in the chain.
const OWN: u64 = 30;

/// A peer that holds a synthetic chain and nothing else.
struct ChainServer(SyntheticChain);

#[async_trait]
impl RequestHandler for ChainServer {
    async fn handle(&self, _from: PublicKey, _channel: Channel, body: Bytes) -> Body {
        let response = match NodeRequest::from_bytes(&body) {
            Ok(NodeRequest::Chain(request)) => NodeResponse::Chain(self.0.answer(&request)),
            _ => NodeResponse::Refused("only the chain".to_owned()),
        };
        response.to_bytes().into()
    }
}

/// Runs the benchmark.
///
/// # Errors
/// When a part cannot start, or the scan does not find every contract.
pub async fn run(blocks: u64, foreign: u64, rounds: usize) -> anyhow::Result<Report> {
    let phrase = Phrase::from_entropy(&Zeroizing::new([3u8; 16]))?;
    let seed = phrase.seed("");
    let plan = SyntheticPlan::new(blocks, foreign);
    let keys = KeyTree::new(&seed, &plan.genesis().hash());
    let plan = plan.with_own(&keys, OWN);
    let genesis = plan.genesis();
    let chain = tokio::task::spawn_blocking(move || SyntheticChain::generate(&plan)).await?;
    let clock = chain.tip().map(|tip| tip.header.time).unwrap_or_default();
    let key = |byte: u8| SecretKey::from_bytes(&Zeroizing::new([byte; 32]));
    let mut config = TransportConfig::new(key(1));
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    let (server, server_task) = Transport::start(config, Arc::new(ChainServer(chain))).await?;

    let mut rates = Vec::new();
    let mut processor = Vec::new();
    for round in 0..rounds {
        let config = TransportConfig::new(key(u8::try_from(round % 200)? + 2));
        let (transport, task) = Transport::start(config, Arc::new(Nothing)).await?;
        for address in server.listen_addresses() {
            transport.add_address(server.local_peer(), address);
        }
        let light = LightClient::start(LightConfig {
            genesis: genesis.clone(),
            peers: vec![Arc::new(NetworkPeer::new(transport.clone(), server.local_peer()))],
            store: Arc::new(MemoryPointStore::default()),
            clock: Arc::new(move || clock),
        })
        .await;
        let before = processor_seconds();
        let start = Instant::now();
        let found = scan(&light, &genesis, &keys, clock).await?;
        let seconds = start.elapsed().as_secs_f64();
        anyhow::ensure!(found as u64 == OWN, "the scan found {found} of {OWN} contracts");
        rates.push(blocks as f64 / seconds);
        processor.push((processor_seconds() - before) / blocks as f64 * 1e6);
        light.shutdown().await;
        transport.shutdown().await;
        task.join().await?;
    }
    server.shutdown().await;
    server_task.join().await?;
    let mut report = Report::new("scan", rounds);
    report.add(format!("{blocks} blocks, {foreign} foreign contracts"), "blocks/s", rates);
    report.add("processor time, both ends", "us/block", processor);
    Ok(report)
}

async fn scan(
    light: &LightClient,
    genesis: &samara_protocol::chain::Genesis,
    keys: &KeyTree,
    now: samara_protocol::units::ChainTime,
) -> anyhow::Result<usize> {
    let tags = keys.recovery_tag();
    let mut scan = Scan::new(genesis, Rules::walk(genesis));
    loop {
        match scan.next() {
            Need::Tip => {
                // The light client may not have asked its peer yet.
                light.watch().wait_for(|status| status.contacted).await?;
                scan.supply_tip(light.tip().await?, now)?;
            }
            Need::Batch { from, limit } => {
                let blocks = light.batch(from, limit).await?;
                scan.supply_batch(&blocks, |record| is_own(keys, &tags, record))?;
            }
            Need::Decision(height) => {
                let (validators, certificate) = light.decision(height).await?;
                scan.supply_decision(&validators, &certificate)?;
            }
            Need::Done => return Ok(scan.found().len()),
        }
    }
}

/// A node that serves nothing.
struct Nothing;

#[async_trait]
impl RequestHandler for Nothing {
    async fn handle(&self, _from: PublicKey, _channel: Channel, _body: Bytes) -> Body {
        NodeResponse::Refused("a scanner".to_owned()).to_bytes().into()
    }
}

/// Processor seconds of this process so far.
fn processor_seconds() -> f64 {
    super::network::processor_seconds(std::process::id()).unwrap_or(0.0)
}
