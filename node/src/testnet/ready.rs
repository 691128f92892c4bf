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
/// How long the chain may take to make its first block.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(120);
/// The API's code for a chain that does not answer.
const UNREACHABLE: &str = "chain_unreachable";
/// How often the chain is asked for its hosts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Gives a node's account money, unless it has some. Several validators may need a while until they make
/// the first block, so a chain that does not answer is asked again.
pub(super) async fn funded(node: &str, client: &Client) -> Result<(), TestnetError> {
    let asked = patiently(|| async {
        let wallet: Wallet = client.get("/v1/wallet").await?;
        if wallet.balance > Amount::ZERO {
            return Ok(());
        }
        let wish = FaucetRequest { amount: COINS };
        client.post::<_, Included>("/v1/wallet/faucet", &wish).await.map(drop)
    });
    asked.await.map_err(|source| TestnetError::Api { node: node.to_owned(), source })
}

/// Asks again while no chain peer answers. Gives the last answer when that takes too long.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let end = tokio::time::Instant::now() + CHAIN_TIMEOUT;
    loop {
        match ask().await {
            Err(error) if error.code == UNREACHABLE && tokio::time::Instant::now() < end => {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            answer => return answer,
        }
    }
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
    let set = patiently(|| client.run("/v1/allowance", &wanted, drop));
    let answer: AllowanceAnswer = set.await.map_err(api)?;
    match answer.report.failed.into_iter().next() {
        Some(problem) => Err(TestnetError::Contracts { node: node.to_owned(), problem }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_chain_without_a_block_is_asked_again() {
        let asked = Cell::new(0);
        let answer = patiently(|| async {
            asked.set(asked.get() + 1);
            match asked.get() {
                1..=3 => Err(ApiError::new(UNREACHABLE, "there is no block yet")),
                count => Ok(count),
            }
        });
        assert_eq!(answer.await, Ok(4));
        // Another error is one, and so is a chain that never starts.
        let refused = patiently(|| async { Err::<(), _>(ApiError::new("refused", "no")) });
        assert_eq!(refused.await.unwrap_err().code, "refused");
        let never = patiently(|| async { Err::<(), _>(ApiError::new(UNREACHABLE, "none")) });
        assert_eq!(never.await.unwrap_err().code, UNREACHABLE);
    }
}
