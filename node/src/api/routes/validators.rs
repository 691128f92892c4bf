//! The validator set, and how it is changed.

use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use samara_protocol::chain::{Validator, ValidatorSet};
use samara_protocol::hash::TransactionId;
use samara_protocol::ledger::state::StateKey;
use samara_renter::world::ChainView as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::openapi::says;
use crate::api::state::Api;
use crate::api::{Done, Included};
pub use crate::validators::SignedChange;
use crate::validators::{ChangeError, SetChange, ValidatorText};

/// How long a change is waited for until it is in a block.
const INCLUSION: Duration = Duration::from_secs(60);

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route("/v1/chain/validators", get_with(show, says("Who decides the next block")))
        .api_route(
            "/v1/chain/validators/propose",
            post_with(propose, says("Makes an unsigned change of the validators")),
        )
        .api_route(
            "/v1/chain/validators/submit",
            post_with(submit, says("Hands a signed change of the validators in")),
        )
        .api_route(
            "/v1/chain/accept-clock",
            post_with(accept_clock, says("Says that the clock of a validator alone is right")),
        )
}

/// A validator of the present set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ValidatorRow {
    /// Its key and power.
    #[serde(flatten)]
    #[schemars(with = "ValidatorText")]
    pub validator: Validator,
    /// Whether it is this node.
    pub own: bool,
}

/// The set that decides the next block.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ValidatorsAnswer {
    /// Hash of the set, hex.
    pub hash: String,
    /// Sum of all powers.
    pub power: u64,
    /// The validators, ordered by key.
    pub validators: Vec<ValidatorRow>,
}

/// The set that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Proposal {
    #[schemars(with = "Vec<ValidatorText>")]
    validators: Vec<Validator>,
}

async fn present(api: &Api) -> Result<ValidatorSet, ApiError> {
    let set = api.node().light.value(StateKey::Validators).await.map_err(failed)?;
    set.ok_or_else(|| ApiError::new("internal", "the state holds no validator set"))
}

async fn show(State(api): State<Api>) -> Result<Json<ValidatorsAnswer>, ApiError> {
    let set = present(&api).await?;
    let own = api.node().validator;
    let row = |validator: &Validator| ValidatorRow {
        validator: *validator,
        own: own == Some(validator.key),
    };
    Ok(Json(ValidatorsAnswer {
        hash: set.hash().to_string(),
        power: set.total_power(),
        validators: set.as_slice().iter().map(row).collect(),
    }))
}

async fn propose(
    State(api): State<Api>,
    Json(proposal): Json<Proposal>,
) -> Result<Json<SignedChange>, ApiError> {
    let node = with_chain(&api)?;
    let next =
        ValidatorSet::new(proposal.validators).map_err(ChangeError::from).map_err(refused)?;
    let present = present(&api).await?;
    if next == present {
        return Err(refused(ChangeError::Same));
    }
    let account = node.account.public();
    let nonce = node.light.account(&account).await.map_err(failed)?.nonce;
    let genesis = node.light.genesis();
    let fee = genesis.parameters.minimum_fee;
    let change = SetChange::propose(genesis.hash(), (account, nonce), fee, present, next);
    Ok(Json(change.document()))
}

/// Pays for a change and hands it in.
async fn submit(
    State(api): State<Api>,
    Json(document): Json<SignedChange>,
) -> Result<Json<Included>, ApiError> {
    let node = with_chain(&api)?;
    let mut change = SetChange::read(&document).map_err(refused)?;
    if change.genesis() != node.light.genesis().hash() {
        return Err(refused(ChangeError::OtherChain(change.genesis())));
    }
    if !change.is_approved() {
        let tip = node.light.status().tip;
        let present = tip.map(|tip| tip.header.next_validators);
        if present.is_some_and(|present| present != change.present().hash()) {
            let message =
                "the change is void: the set of validators has changed since it was proposed";
            return Err(ApiError {
                hint: Some("propose it again with `samara validator propose`".to_owned()),
                ..ApiError::new("refused", message)
            });
        }
        let (signed, total) = (change.signed_power(), change.present().total_power());
        let message = format!("power {signed} of {total} has signed; more than two thirds must");
        return Err(ApiError::new("refused", message));
    }
    let account = node.account.public();
    if change.account() != account {
        let message = format!("account {} pays for the change: submit it there", change.account());
        return Err(ApiError::new("refused", message));
    }
    let turn = node.wallet.lock().await;
    let known = node.light.account(&account).await.map_err(failed)?;
    let fee = change.transaction().body.fee;
    if known.balance < fee {
        let message =
            format!("account {account} has {}, the fee is {fee}: send coins to it", known.balance);
        return Err(ApiError::new("no_money", message));
    }
    change.pay(&node.account).map_err(refused)?;
    let id = node.light.submit(change.transaction().clone()).await.map_err(failed)?;
    // The pool knows the nonce from here on; others need not wait for the block.
    drop(turn);
    let height = included(id, node.light.included(&id)).await?.map_err(failed)?;
    Ok(Json(Included { transaction: id.to_string(), height: height.0 }))
}

/// The lead that the operator was shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptClock {
    /// Milliseconds.
    pub ahead: u64,
}

async fn accept_clock(
    State(api): State<Api>,
    Json(shown): Json<AcceptClock>,
) -> Result<Json<Done>, ApiError> {
    let chain = api.node().chain.as_ref().ok_or_else(|| ApiError::no_role("chain"))?;
    if chain.accept_clock(shown.ahead) {
        return Ok(Json(Done {}));
    }
    let message = match chain.clock_lead() {
        Some(lead) => format!("the clock is {} ms ahead now: look again", lead.ahead),
        None => "the clock is believed already".to_owned(),
    };
    Err(ApiError::new("refused", message))
}

/// Waits for a transaction's block, but not for ever: the chain may halt, or another change may come
/// first.
async fn included<T>(id: TransactionId, wait: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(INCLUSION, wait).await.map_err(|_| {
        let message = format!(
            "transaction {id} was handed in and is in no block after {} s: see `samara validator set`",
            INCLUSION.as_secs()
        );
        ApiError::new("chain_unreachable", message)
    })
}

fn with_chain(api: &Api) -> Result<&crate::api::Node, ApiError> {
    let node = api.node();
    if node.chain.is_some() { Ok(node) } else { Err(ApiError::no_role("chain")) }
}

fn refused(error: ChangeError) -> ApiError {
    let code = match &error {
        ChangeError::Unreadable(_) | ChangeError::Set(_) => "invalid",
        _ => "refused",
    };
    ApiError::from_error(code, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_that_no_block_takes_is_not_waited_for_for_ever() {
        let id = TransactionId([7; 32]);
        assert_eq!(included(id, std::future::ready(5)).await.unwrap(), 5);
        included(id, std::future::pending::<()>()).await.unwrap_err();
    }
}
