//! The node itself, and the chain as it sees it.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use samara_protocol::host::HostAnnouncement;
use samara_renter::rows::RenterStatus;
use samara_renter::schema::Coins;
use samara_renter::world::ChainView as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::api::Done;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::openapi::says;
use crate::api::state::Api;
use crate::chain::ClockLead;
use crate::host::{HostRole, HostStatus};

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route("/v1/status", get_with(status, says("The node at a glance")))
        .api_route("/v1/shutdown", post_with(shutdown, says("Ends the node in good order")))
        .api_route("/v1/chain", get_with(chain, says("The chain as the node sees it")))
        .api_route("/v1/chain/hosts", get_with(hosts, says("Hosts that the chain announces")))
        .api_route("/v1/host", get_with(host, says("The host role at a glance")))
}

/// A node at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The program's version.
    pub version: String,
    /// How long it runs, milliseconds.
    pub uptime: u64,
    /// What the node is for.
    pub roles: Vec<String>,
    /// Its identity key, hex.
    pub key: String,
    /// Where other nodes reach it.
    pub addresses: Vec<String>,
    /// Connected peers.
    pub peers: usize,
    /// The chain.
    pub chain: ChainStatus,
    /// The host role, if it has it.
    pub host: Option<HostStatus>,
    /// The renter role, if it has it.
    pub renter: Option<RenterStatus>,
}

/// The chain as the node sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChainStatus {
    /// The network's name.
    pub network: String,
    /// Hash of the genesis document, hex.
    pub genesis: String,
    /// Height of the newest verified block.
    pub height: u64,
    /// Its chain time, milliseconds since the Unix epoch.
    pub time: u64,
    /// Validators that decide the next block have this set's hash, hex.
    pub validators: String,
    /// Whether a peer was reached since the start.
    pub contacted: bool,
    /// Age of the newest block in milliseconds, if that is worrying.
    pub stale: Option<u64>,
    /// How many milliseconds a newer block, which is refused, lies ahead of this node's clock.
    #[serde(default)]
    pub ahead: Option<u64>,
    /// For a validator that decides alone: its clock, if it is further ahead than can be explained.
    #[serde(default)]
    pub clock_lead: Option<ClockLead>,
    /// What was false in the peers' answers, if in those of all of them: they may be of another network.
    #[serde(default)]
    pub all_false: Option<String>,
}

/// [`HostAnnouncement`], as the API's document describes it.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "read by the document only")]
struct Announcement {
    /// Multiaddresses at which it answers.
    addresses: Vec<String>,
    /// Who runs it, as it says itself.
    operator: String,
    /// Bytes it offers in all.
    capacity: u64,
    /// Whether it forms new contracts.
    accepting: bool,
    /// Its prices when it announced.
    prices: AnnouncedPrices,
}

/// The prices in it.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "read by the document only")]
struct AnnouncedPrices {
    /// For a byte and hour of storage.
    storage: Coins,
    /// For a byte received.
    upload: Coins,
    /// For a byte sent.
    download: Coins,
    /// For each paid request.
    request: Coins,
    /// Collateral for a byte.
    collateral_rate: Coins,
    /// Most collateral in one contract.
    maximum_collateral: Coins,
    /// For each proof.
    proof_fee: Coins,
    /// Longest contract in milliseconds.
    maximum_duration: u64,
}

/// A host as the chain announces it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AnnouncedHost {
    /// Its identity key, hex.
    pub host: String,
    /// What it says of itself.
    #[serde(flatten)]
    #[schemars(with = "Announcement")]
    pub announcement: HostAnnouncement,
}

async fn status(State(api): State<Api>) -> Result<Json<NodeStatus>, ApiError> {
    let node = api.node();
    let mut roles = Vec::new();
    for (name, has) in [
        ("chain", node.chain.is_some()),
        ("validator", node.validator.is_some()),
        ("host", node.host.is_some()),
        ("renter", node.renter.is_some()),
    ] {
        if has {
            roles.push(name.to_owned());
        }
    }
    let host = node.host.as_ref().map(HostRole::status);
    let chain = chain_status(&api);
    Ok(Json(NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: u64::try_from(api.uptime().as_millis()).unwrap_or(u64::MAX),
        roles,
        key: node.transport.local_peer().to_string(),
        addresses: node.transport.listen_addresses().iter().map(ToString::to_string).collect(),
        peers: node.transport.peers().len(),
        chain,
        host,
        renter: node.renter.as_ref().map(samara_renter::Renter::status),
    }))
}

async fn shutdown(State(api): State<Api>) -> Json<Done> {
    api.node().stop.cancel();
    Json(Done {})
}

async fn chain(State(api): State<Api>) -> Json<ChainStatus> {
    Json(chain_status(&api))
}

fn chain_status(api: &Api) -> ChainStatus {
    let light = &api.node().light;
    let status = light.status();
    let header = status.tip.as_ref().map(|tip| &tip.header);
    ChainStatus {
        network: api.node().network.clone(),
        genesis: light.genesis().hash().to_string(),
        height: header.map_or(0, |header| header.height.0),
        time: header.map_or(light.genesis().time.0, |header| header.time.0),
        validators: header
            .map_or_else(|| light.genesis().validators.hash(), |header| header.next_validators)
            .to_string(),
        contacted: status.contacted,
        stale: status.stale.map(|span| span.0),
        ahead: status.ahead.map(|(_, span)| span.0),
        clock_lead: api.node().chain.as_ref().and_then(|chain| chain.clock_lead()),
        all_false: light.all_false(),
    }
}

async fn hosts(State(api): State<Api>) -> Result<Json<Vec<AnnouncedHost>>, ApiError> {
    let hosts = api.node().light.announced_hosts().await.map_err(failed)?;
    Ok(Json(
        hosts
            .into_iter()
            .map(|(key, announcement)| AnnouncedHost { host: key.to_string(), announcement })
            .collect(),
    ))
}

async fn host(State(api): State<Api>) -> Result<Json<HostStatus>, ApiError> {
    Ok(Json(api.host()?.status()))
}
