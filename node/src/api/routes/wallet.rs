//! Money: the renter's account, or the node's own where there is no renter.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use samara_protocol::hash::TransactionId;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, Height};
use samara_renter::rows::RenterState;
use samara_renter::transfer_money;
use samara_renter::world::ChainView as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::openapi::says;
use crate::api::state::Api;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route("/v1/wallet", get_with(show, says("The account that pays")))
        .api_route("/v1/wallet/send", post_with(send, says("Sends money")))
        .api_route("/v1/wallet/faucet", post_with(faucet, says("Gets money on a test network")))
}

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Wallet {
    /// Its key, hex: the address that others send to.
    pub account: String,
    /// What can be spent.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub balance: Amount,
    /// Transactions sent.
    pub nonce: u64,
    /// Epoch of another node of these words that has taken over: its account has the money.
    #[serde(default)]
    pub moved_by: Option<String>,
}

/// Money to send.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// The receiving account, hex.
    pub to: String,
    /// Coins, as in `2.5`.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub amount: Amount,
}

/// Money to get from the faucet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaucetRequest {
    /// Coins, as in `2.5`.
    #[schemars(with = "samara_renter::schema::Coins")]
    pub amount: Amount,
}

/// A transaction in a block.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Included {
    /// Its id, hex.
    pub transaction: String,
    /// The block's height.
    pub height: u64,
}

impl From<(TransactionId, Height)> for Json<Included> {
    fn from((id, height): (TransactionId, Height)) -> Self {
        Self(Included { transaction: id.to_string(), height: height.0 })
    }
}

/// The account that this node's wallet is about.
async fn account(api: &Api) -> Result<PublicKey, ApiError> {
    match &api.node().renter {
        Some(renter) => {
            let wallet = renter.wallet().await.map_err(failed)?;
            wallet.account.parse().map_err(|_| ApiError::new("internal", "the account has no key"))
        }
        None => Ok(api.node().account.public()),
    }
}

async fn show(State(api): State<Api>) -> Result<Json<Wallet>, ApiError> {
    let key = account(&api).await?;
    let known = api.node().light.account(&key).await.map_err(failed)?;
    let account = key.to_string();
    let moved_by = taken_over(&api);
    Ok(Json(Wallet { account, balance: known.balance, nonce: known.nonce, moved_by }))
}

/// Epoch of another node of these words that has taken over.
fn taken_over(api: &Api) -> Option<String> {
    match api.node().renter.as_ref()?.state() {
        RenterState::Fenced { by } => Some(by),
        _ => None,
    }
}

async fn send(
    State(api): State<Api>,
    Json(request): Json<SendRequest>,
) -> Result<Json<Included>, ApiError> {
    let to: PublicKey = request
        .to
        .parse()
        .map_err(|_| ApiError::new("invalid", format!("'{}' is no account", request.to)))?;
    let amount = request.amount;
    let sent = match &api.node().renter {
        // It sees to the numbers itself, and waits for the block without keeping others waiting.
        Some(renter) => renter.transfer(to, amount).await,
        None => {
            let _turn = api.node().wallet.lock().await;
            transfer_money(&api.node().light, &api.node().account, to, amount).await
        }
    };
    sent.map(Json::from).map_err(|error| match failed(error) {
        // What is left here is not for this node to spend, and less than it had.
        error if error.code == "no_money" && taken_over(&api).is_some() => ApiError::new(
            "fenced",
            format!("{}. The node that has taken over has the money", error.message),
        ),
        error => error,
    })
}

async fn faucet(
    State(api): State<Api>,
    Json(request): Json<FaucetRequest>,
) -> Result<Json<Included>, ApiError> {
    let Some(faucet) = &api.node().faucet else {
        return Err(ApiError::new("refused", "this network has no faucet: it is no test network"));
    };
    let to = account(&api).await?;
    let left = api.node().light.account(&faucet.public()).await.map_err(failed)?.balance;
    if left < request.amount {
        let message = format!("the faucet has {left} left, and not {}", request.amount);
        return Err(ApiError::new("refused", message));
    }
    let _turn = api.node().wallet.lock().await;
    let sent = transfer_money(&api.node().light, faucet, to, request.amount).await;
    sent.map(Json::from).map_err(failed)
}
