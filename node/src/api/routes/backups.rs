//! Backups.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use samara_renter::backup::{
    BackupDetail, BackupDifference, BackupRequest, BackupRow, RestoreRequest,
};
use serde::Deserialize;

use super::{Done, changed, failed, known};
use crate::access::Actor;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path, Query};
use crate::api::state::Api;
use crate::api::stream::WithoutClient;

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/backups", get(list).post(create))
        .route("/v1/backups/{name}", get(show).delete(remove))
        .route("/v1/backups/{name}/diff/{other}", get(compare))
        .route("/v1/restore", post(restore))
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<BackupRow>>, ApiError> {
    Ok(Json(known(&api)?.backups()))
}

async fn create(
    State(api): State<Api>,
    actor: Actor,
    Json(request): Json<BackupRequest>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.acting(actor.user);
    Ok(api.operations().respond(WithoutClient::GoesOn, move |progress| async move {
        changed(&renter, renter.create_backup(request, progress.as_ref()).await).await
    }))
}

async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<BackupDetail>, ApiError> {
    known(&api)?.backup(&name).await.map(Json).map_err(failed)
}

/// What is compared.
#[derive(Deserialize)]
struct CompareQuery {
    /// The one vault; all if none.
    vault: Option<String>,
}

async fn compare(
    State(api): State<Api>,
    Path((before, after)): Path<(String, String)>,
    Query(query): Query<CompareQuery>,
) -> Result<Json<BackupDifference>, ApiError> {
    let found = known(&api)?.compare_backups(&before, &after, query.vault.as_deref()).await;
    found.map(Json).map_err(failed)
}

async fn remove(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.delete_backup(&name).await).await?;
    Ok(Json(Done {}))
}

async fn restore(
    State(api): State<Api>,
    actor: Actor,
    Json(request): Json<RestoreRequest>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.acting(actor.user);
    Ok(api.operations().respond(WithoutClient::Stops, move |progress| async move {
        renter.restore_backup(request, progress.as_ref()).await.map_err(failed)
    }))
}
