//! The recovery scan: what the words own, and which backups there are, found in the background.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use samara_renter::recovery::{RecoveryScanOptions, RecoveryScanStatus};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::state::Api;

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new().route("/v1/recovery-scan", get(status).post(start).delete(stop))
}

async fn status(State(api): State<Api>) -> Result<Json<RecoveryScanStatus>, ApiError> {
    Ok(Json(api.renter()?.recovery_scan()))
}

/// Starts it; it goes on when the client goes away.
async fn start(
    State(api): State<Api>,
    Json(options): Json<RecoveryScanOptions>,
) -> Result<Response, ApiError> {
    let status = api.renter()?.start_recovery_scan(options).await.map_err(failed)?;
    let place = [(header::LOCATION, "/v1/recovery-scan")];
    Ok((StatusCode::ACCEPTED, place, Json(status)).into_response())
}

async fn stop(State(api): State<Api>) -> Result<Json<RecoveryScanStatus>, ApiError> {
    Ok(Json(api.renter()?.stop_recovery_scan().await.map_err(failed)?))
}
