//! The renter: its state, contracts, hosts.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use samara_renter::rows::{ContractRow, HostRow, RenterStatus};

use super::failed;
use crate::api::error::ApiError;
use crate::api::server::Api;

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/renter", get(status))
        .route("/v1/renter/start", post(start))
        .route("/v1/hosts", get(hosts))
        .route("/v1/contracts", get(contracts))
}

async fn status(State(api): State<Api>) -> Result<Json<RenterStatus>, ApiError> {
    Ok(Json(api.renter()?.status()))
}

async fn start(State(api): State<Api>) -> Result<Json<RenterStatus>, ApiError> {
    let renter = api.renter()?;
    renter.start_fresh().await.map_err(failed)?;
    Ok(Json(renter.status()))
}

async fn hosts(State(api): State<Api>) -> Result<Json<Vec<HostRow>>, ApiError> {
    Ok(Json(api.renter()?.hosts()))
}

async fn contracts(State(api): State<Api>) -> Result<Json<Vec<ContractRow>>, ApiError> {
    Ok(Json(api.renter()?.contracts()))
}
