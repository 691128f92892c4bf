//! The recovery scan: what the words own, and which backups there are, found in the background.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use samara_renter::recovery::{RecoveryScanOptions, RecoveryScanStatus};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::openapi::{answers, says};
use crate::api::state::Api;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new().api_route(
        "/v1/recovery-scan",
        get_with(status, says("How far the scan for what the words own is, and what it has found"))
            .post_with(start, answers::<202, Json<RecoveryScanStatus>>("Starts the scan"))
            .delete_with(stop, says("Stops the scan")),
    )
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
