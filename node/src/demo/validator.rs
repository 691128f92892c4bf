//! A validator is lost with all it knew, comes back with its words alone, and votes again.

use std::path::Path;
use std::time::Duration;

use samara_protocol::units::Amount;
use serde_json::json;

use super::teller::{Teller, Told};
use crate::api::client::Client;
use crate::api::{ChainStatus, FaucetRequest, Included};
use crate::cli::display;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::testnet::{Network, NodePlace, Role};

/// How long the others may take to agree without one that they have to wait for first.
const TIMEOUT: Duration = Duration::from_secs(90);
/// How often a height is asked for; nothing announces it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Plays that part of the story.
pub async fn lose_and_return(teller: &Teller, network: &mut Network) -> Result<(), Failure> {
    let validators: Vec<NodePlace> = network.layout().of(Role::Validator).cloned().collect();
    let [first, .., last] = validators.as_slice() else {
        return Err(Failure::new(Exit::Usage, "one validator cannot be spared"));
    };
    let client = network.client(&first.name())?;

    let step = teller.begin("validator", "killing one");
    network.kill(&last.name()).await?;
    wipe(&last.folder)?;
    let height = next_block(&client).await?;
    let text = format!("{} is killed and wiped; block {height} is made without it", last.name());
    teller.end(step, Told::new(text, json!({ "killed": last.name(), "height": height })));

    let step = teller.begin("", "starting it again");
    let returned = network.start_node(&last.name()).await?;
    within(last, until_height(&returned, height)).await?;
    // It lost its guard against signing twice, so it only follows until two more blocks are made.
    next_block(&client).await?;
    let height = next_block(&client).await?;
    let known = within(last, until_height(&returned, height)).await?;
    let text = format!("it starts from nothing and has read {}", display::count(known, "block"));
    teller.end(step, Told::new(text, json!({ "returned": last.name(), "height": known })));

    // Of four, three must agree: without another one, no block is made unless this one votes.
    let step = teller.begin("", "seeing it vote");
    let absent = &validators[1];
    network.stop_node(&absent.name()).await?;
    let height = next_block(&client).await?;
    network.start_node(&absent.name()).await?;
    let text = format!("it votes: block {height} is made with {} stopped", absent.name());
    teller.end(step, Told::new(text, json!({ "stopped": absent.name(), "height": height })));
    Ok(())
}

/// Deletes what a validator wrote; its words and configuration come from its operator.
fn wipe(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failure, format!("cannot wipe {}: {error}", folder.display()))
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if ["words", "samara.toml"].iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .map_err(failed)?;
    }
    Ok(())
}

/// Makes a transaction, and gives the height of the block that holds it.
async fn next_block(client: &Client) -> Result<u64, Failure> {
    let body = FaucetRequest { amount: Amount::coins(1) };
    let asked = client.post::<_, Included>("/v1/wallet/faucet", &body);
    let slow = || {
        let message = format!("no block was made in {}", display::duration(TIMEOUT));
        Failure::new(Exit::Unreachable, message)
    };
    let included = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| slow())??;
    Ok(included.height)
}

async fn until_height(client: &Client, wanted: u64) -> u64 {
    loop {
        match client.get::<ChainStatus>("/v1/chain").await {
            Ok(chain) if chain.height >= wanted => return chain.height,
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

async fn within<T>(place: &NodePlace, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(TIMEOUT, work).await.map_err(|_| {
        let message = format!("{} did not catch up", place.name());
        Failure::new(Exit::Unreachable, message)
    })
}
