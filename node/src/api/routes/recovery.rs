//! Recovery from the words.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use axum::response::Response;
use samara_renter::recovery::{RecoveryOptions, RecoveryPhase, RecoveryReport, RecoveryStatus};
use samara_renter::rows::RenterState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, failed};
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::openapi::{Lines, answers, says};
use crate::api::state::Api;
use crate::api::stream::WithoutClient;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/recovery",
            get_with(status, says("How far the recovery is")).post_with(
                start,
                answers::<200, Lines<RecoveryReport>>(
                    "Starts or resumes the recovery from the words",
                ),
            ),
        )
        .api_route(
            "/v1/recovery/stop",
            post_with(stop, says("Stops the recovery; a later start resumes it")),
        )
}

/// How far a recovery is, and what has come after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryAnswer {
    /// The last recovery on this node.
    #[serde(flatten)]
    pub status: RecoveryStatus,
    /// Epoch of another node that has taken over since.
    pub fenced_by: Option<String>,
}

async fn status(State(api): State<Api>) -> Result<Json<RecoveryAnswer>, ApiError> {
    let renter = api.renter()?;
    let fenced_by = match renter.state() {
        RenterState::Fenced { by } => Some(by),
        _ => None,
    };
    let mut status = renter.recovery_status();
    if renter.allowance().is_some() {
        status.report.iter_mut().for_each(forget_what_is_done);
    }
    Ok(Json(RecoveryAnswer { status, fenced_by }))
}

/// After a takeover the allowance is all that is left to be set, unless there is more to tell.
fn forget_what_is_done(report: &mut RecoveryReport) {
    if report.outcome == RecoveryPhase::Done && report.others.is_empty() {
        report.next = None;
    }
}

async fn start(
    State(api): State<Api>,
    Json(options): Json<RecoveryOptions>,
) -> Result<Response, ApiError> {
    let renter = api.renter()?.clone();
    Ok(api.operations().respond(WithoutClient::Stops, move |progress| async move {
        renter.recover(options, progress.as_ref()).await.map_err(failed)
    }))
}

async fn stop(State(api): State<Api>) -> Result<Json<Done>, ApiError> {
    api.renter()?.stop_recovery();
    Ok(Json(Done {}))
}
