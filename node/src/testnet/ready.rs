//! When a node of a local network can be used.

use std::time::Duration;

use serde_json::{Value, json};

use super::network::TestnetError;
use crate::api::client::Client;
use crate::api::error::ApiError;

/// Coins that each host and renter of a local network starts with.
const COINS: &str = "100000";

/// Gives a node's account money, unless it has some.
pub(super) async fn funded(node: &str, client: &Client) -> Result<(), TestnetError> {
    let api = |source: ApiError| TestnetError::Api { node: node.to_owned(), source };
    let wallet: Value = client.get("/v1/wallet").await.map_err(api)?;
    if wallet["balance"].as_str() != Some("0 SAM") {
        return Ok(());
    }
    let _: Value =
        client.post("/v1/wallet/faucet", &json!({ "amount": COINS })).await.map_err(api)?;
    Ok(())
}

/// Waits until the chain lists this many hosts.
pub(super) async fn announced(client: &Client, hosts: usize) -> Result<(), TestnetError> {
    let all = async {
        loop {
            let listed = client.get::<Value>("/v1/chain/hosts").await;
            if listed.is_ok_and(|list| list.as_array().is_some_and(|list| list.len() >= hosts)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.map_err(|_| TestnetError::Slow {
        what: format!("{hosts} hosts to announce themselves"),
        log: String::new(),
    })
}
