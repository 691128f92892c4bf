//! Policies: backups that are made by themselves.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use samara_renter::backup::retention::Retention;
use samara_renter::backup::{BackupRow, PolicyRequest, PolicyRow, PolicyVerdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, changed, failed, known};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};
use crate::api::openapi::{answers, says};
use crate::api::state::Api;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/policies",
            get_with(list, says("Lists policies"))
                .post_with(create, answers::<201, Json<PolicyRow>>("Makes a policy")),
        )
        .api_route(
            "/v1/policies/{name}",
            get_with(show, says("One policy"))
                .put_with(set, says("Sets a policy, whole"))
                .delete_with(remove, says("Deletes a policy; its backups stay")),
        )
        .api_route(
            "/v1/policies/{name}/preview",
            post_with(preview, says("Says what a retention makes of the backups of a policy")),
        )
        .api_route(
            "/v1/policies/{name}/run",
            post_with(run, answers::<202, Json<BackupRow>>("Starts the backup of a policy now")),
        )
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<PolicyRow>>, ApiError> {
    known(&api)?.policies().await.map(Json).map_err(failed)
}

async fn create(
    State(api): State<Api>,
    Json(request): Json<PolicyRequest>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?;
    let row = changed(renter, renter.create_policy(&request).await).await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<PolicyRow>, ApiError> {
    known(&api)?.policy(&name).await.map(Json).map_err(failed)
}

async fn set(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(request): Json<PolicyRequest>,
) -> Result<Json<PolicyRow>, ApiError> {
    let renter = known(&api)?;
    changed(renter, renter.set_policy(&name, &request).await).await.map(Json)
}

async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Done>, ApiError> {
    let renter = known(&api)?;
    changed(renter, renter.remove_policy(&name).await).await?;
    Ok(Json(Done {}))
}

/// Which retention is tried out.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewRequest {
    /// These numbers; the policy's own if none.
    pub retention: Option<Retention>,
}

async fn preview(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(request): Json<PreviewRequest>,
) -> Result<Json<Vec<PolicyVerdict>>, ApiError> {
    let verdicts = known(&api)?.preview_policy(&name, request.retention.as_ref());
    verdicts.map(Json).map_err(failed)
}

/// Starts a policy's backup and answers at once.
async fn run(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let renter = known(&api)?;
    let row = changed(renter, renter.run_policy(&name).await).await?;
    let place = [(header::LOCATION, format!("/v1/backups/{}", row.sid))];
    Ok((StatusCode::ACCEPTED, place, Json(row)).into_response())
}
