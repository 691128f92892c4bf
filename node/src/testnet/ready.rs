//! When a node of a local network can be used.

use std::time::Duration;

use samara_protocol::units::Amount;
use samara_renter::contract::Allowance;
use samara_renter::rows::{RenterState, RenterStatus};

use super::error::TestnetError;
use crate::api::client::Client;
use crate::api::error::ApiError;
use crate::api::{
    AllowanceAnswer, AllowanceRequest, AnnouncedHost, Done, FaucetRequest, Included, Wallet,
};
use crate::redundancy::Redundancy;

/// Coins that each host and renter of a local network starts with.
const COINS: Amount = Amount::coins(100_000);
/// Coins that a renter of a local network may lock for one term.
const FUNDS: Amount = Amount::coins(10_000);

/// How long hosts may take to announce themselves: each has to be funded and seen by the chain.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often the chain is asked for its hosts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Gives a node's account money, unless it has some.
pub(super) async fn funded(node: &str, client: &Client) -> Result<(), TestnetError> {
    let api = |source: ApiError| TestnetError::Api { node: node.to_owned(), source };
    let wallet: Wallet = client.get("/v1/wallet").await.map_err(api)?;
    if wallet.balance > Amount::ZERO {
        return Ok(());
    }
    let wish = FaucetRequest { amount: COINS };
    client.post::<_, Included>("/v1/wallet/faucet", &wish).await.map(drop).map_err(api)
}

/// Waits until the chain lists this many hosts.
pub(super) async fn announced(client: &Client, hosts: usize) -> Result<(), TestnetError> {
    let all = async {
        loop {
            let listed = client.get::<Vec<AnnouncedHost>>("/v1/chain/hosts").await;
            if listed.is_ok_and(|listed| listed.len() >= hosts) {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(ANNOUNCE_TIMEOUT, all).await.map_err(|_| TestnetError::Slow {
        what: format!("{hosts} hosts to announce themselves"),
        log: String::new(),
    })
}

/// Starts a renter whose words are new, and gives it contracts with all hosts.
pub(super) async fn equipped(
    node: &str,
    client: &Client,
    hosts: usize,
    redundancy: Option<Redundancy>,
) -> Result<(), TestnetError> {
    let api = |source: ApiError| TestnetError::Api { node: node.to_owned(), source };
    let status: RenterStatus = client.get("/v1/renter").await.map_err(api)?;
    if status.state == RenterState::Fresh {
        let started = client.post::<_, RenterStatus>("/v1/renter/start", &Done {}).await;
        started.map_err(api)?;
    }
    let allowance: Option<Allowance> = client.get("/v1/allowance").await.map_err(api)?;
    if allowance.is_some() || hosts == 0 {
        return Ok(());
    }
    let wanted = AllowanceRequest {
        hosts: u16::try_from(hosts).ok(),
        funds: Some(FUNDS),
        redundancy: redundancy.map(Redundancy::strict),
        ..AllowanceRequest::default()
    };
    let answer: AllowanceAnswer = client.run("/v1/allowance", &wanted, drop).await.map_err(api)?;
    match answer.report.failed.into_iter().next() {
        Some(problem) => Err(TestnetError::Contracts { node: node.to_owned(), problem }),
        None => Ok(()),
    }
}
