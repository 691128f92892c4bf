//! Backups.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use samara_renter::backup::{
    BackupDetail, BackupDifference, BackupEdit, BackupPage, BackupQuery, BackupRequest, BackupRow,
    QuoteRequest, QuoteRow, RestoreReport, RestoreRequest, VerifyOptions, VerifyReport,
};
use samara_renter::vault::{ListOptions, ListRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, changed, failed, known};
use crate::access::Actor;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path, Query};
use crate::api::openapi::{Lines, answers, says};
use crate::api::state::Api;
use crate::api::stream::{self, WithoutClient};

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/backups",
            get_with(list, says("Lists backups, a page at a time")).post_with(
                create,
                |operation| {
                    answers::<202, Json<BackupRow>>("Starts a backup; as a stream, waits for it")(
                        operation,
                    )
                    .response::<200, Lines<BackupRow>>()
                },
            ),
        )
        .api_route("/v1/backups/quote", post_with(quote, says("Prices a backup")))
        .api_route(
            "/v1/backups/{sid}",
            get_with(show, says("One backup, with its vaults and its log"))
                .patch_with(edit, says("Changes what people may change of a backup"))
                .delete_with(remove, says("Deletes a backup")),
        )
        .api_route(
            "/v1/backups/{sid}/cancel",
            post_with(cancel, says("Cancels a backup that is being made")),
        )
        .api_route(
            "/v1/backups/{sid}/pin",
            post_with(pin, says("Keeps a backup whatever rules say, or no longer")),
        )
        .api_route(
            "/v1/backups/{sid}/verify",
            post_with(verify, answers::<200, Lines<VerifyReport>>("Reads a backup back")),
        )
        .api_route("/v1/backups/{sid}/ls", get_with(files, says("Lists files of a backup")))
        .api_route(
            "/v1/backups/{sid}/diff/{other}",
            get_with(compare, says("Compares two backups")),
        )
        .api_route(
            "/v1/backup-limit",
            get_with(limit, says("How many backups of each kind a vault may have"))
                .put_with(set_limit, says("Sets how many backups of each kind a vault may have")),
        )
        .api_route(
            "/v1/restore",
            post_with(
                restore,
                answers::<200, Lines<RestoreReport>>(
                    "Restores from a backup while the client waits",
                ),
            ),
        )
}

async fn list(
    State(api): State<Api>,
    Query(query): Query<BackupQuery>,
) -> Result<Json<BackupPage>, ApiError> {
    Ok(Json(known(&api)?.backups_page(&query)))
}

async fn quote(
    State(api): State<Api>,
    Json(request): Json<QuoteRequest>,
) -> Result<Json<QuoteRow>, ApiError> {
    known(&api)?.quote_backup(&request).await.map(Json).map_err(failed)
}

/// Starts a backup and answers at once; a client that asks for a stream is told of its progress and end.
async fn create(
    State(api): State<Api>,
    actor: Actor,
    headers: HeaderMap,
    Json(request): Json<BackupRequest>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.acting(actor.user);
    if stream::is_wanted(&headers) {
        return Ok(api.operations().respond(WithoutClient::GoesOn, move |progress| async move {
            changed(&renter, renter.create_backup(request, progress.as_ref()).await).await
        }));
    }
    let row = changed(&renter, renter.begin_backup(request).await).await?;
    let place = [(header::LOCATION, format!("/v1/backups/{}", row.sid))];
    Ok((StatusCode::ACCEPTED, place, Json(row)).into_response())
}

async fn show(
    State(api): State<Api>,
    Path(sid): Path<String>,
) -> Result<Json<BackupDetail>, ApiError> {
    known(&api)?.backup(&sid).await.map(Json).map_err(failed)
}

async fn edit(
    State(api): State<Api>,
    actor: Actor,
    Path(sid): Path<String>,
    Json(edit): Json<BackupEdit>,
) -> Result<Json<BackupRow>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.edit_backup(&sid, &edit).await).await.map(Json)
}

/// Whether a backup is to be kept whatever rules say.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// Pinned from now on, or no longer.
    pub pinned: bool,
}

async fn pin(
    State(api): State<Api>,
    actor: Actor,
    Path(sid): Path<String>,
    Json(request): Json<PinRequest>,
) -> Result<Json<BackupRow>, ApiError> {
    let edit_request = BackupEdit { pinned: Some(request.pinned), ..BackupEdit::default() };
    edit(State(api), actor, Path(sid), Json(edit_request)).await
}

async fn cancel(
    State(api): State<Api>,
    actor: Actor,
    Path(sid): Path<String>,
) -> Result<Json<BackupRow>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.cancel_backup(&sid).await).await.map(Json)
}

/// Reads a backup back and streams how far it is. Without its client it stops: nothing is changed by it.
async fn verify(
    State(api): State<Api>,
    Path(sid): Path<String>,
    Json(options): Json<VerifyOptions>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.clone();
    Ok(api.operations().respond(WithoutClient::Stops, move |progress| async move {
        renter.verify_backup(&sid, &options, progress.as_ref()).await.map_err(failed)
    }))
}

/// What of a backup is listed.
#[derive(Deserialize, JsonSchema)]
struct FilesQuery {
    /// The vault by its name then.
    vault: String,
    /// A folder in it; all if empty.
    #[serde(default)]
    folder: String,
    /// Whether all below is listed.
    #[serde(default)]
    recursive: bool,
    /// Whether older versions and deleted files are.
    #[serde(default)]
    versions: bool,
}

async fn files(
    State(api): State<Api>,
    Path(sid): Path<String>,
    Query(query): Query<FilesQuery>,
) -> Result<Json<Vec<ListRow>>, ApiError> {
    let FilesQuery { vault, folder, recursive, versions } = query;
    let options = ListOptions { folder, recursive, versions, backup: Some(sid) };
    known(&api)?.list(&vault, &options).await.map(Json).map_err(failed)
}

/// What is compared.
#[derive(Deserialize, JsonSchema)]
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
    Path(sid): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.delete_backup(&sid).await).await?;
    Ok(Json(Done {}))
}

/// How many backups of one kind a vault may have.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupLimit {
    /// So many.
    pub limit: u32,
}

async fn limit(State(api): State<Api>) -> Result<Json<BackupLimit>, ApiError> {
    Ok(Json(BackupLimit { limit: known(&api)?.backup_limit() }))
}

async fn set_limit(
    State(api): State<Api>,
    Json(wanted): Json<BackupLimit>,
) -> Result<Json<BackupLimit>, ApiError> {
    let renter = known(&api)?;
    changed(renter, renter.limit_backups(wanted.limit).await).await?;
    Ok(Json(wanted))
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
