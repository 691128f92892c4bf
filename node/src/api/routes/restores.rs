//! Restores as jobs.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use samara_protocol::units::Amount;
use samara_renter::archive::{ArchiveLimits, Passphrase};
use samara_renter::backup::LogLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::{Done, known};
use crate::access::Actor;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path, Query};
use crate::api::openapi::{Octets, answers, says};
use crate::api::state::Api;
use crate::restores::{
    Announced, NewRestore, Restore, RestoreError, RestoreSource, Restored, Restores,
};

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/restores",
            get_with(list, says("Lists restores, without their logs")).post_with(
                create,
                |operation| {
                    answers::<202, Json<Restore>>("Starts a restore, or says what it would do")(
                        operation,
                    )
                    .response::<200, Json<Restored>>()
                },
            ),
        )
        .api_route(
            "/v1/restores/requests",
            post_with(
                ask,
                answers::<202, Json<Restore>>("Asks for a restore that an operator decides"),
            ),
        )
        .api_route(
            "/v1/restores/{id}",
            get_with(show, says("One restore"))
                .delete_with(remove, says("Forgets a restore that has ended")),
        )
        .api_route("/v1/restores/{id}/log", get_with(log, says("The log of a restore")))
        .api_route("/v1/restores/{id}/cancel", post_with(cancel, says("Cancels a restore")))
        .api_route(
            "/v1/restores/{id}/resume",
            post_with(resume, says("Tries a failed restore again")),
        )
        .api_route(
            "/v1/restores/{id}/approve",
            post_with(approve, says("Lets a restore go on that was asked for")),
        )
        .api_route(
            "/v1/restores/{id}/reject",
            post_with(reject, says("Refuses a restore that was asked for")),
        )
        .merge(uploads())
}

/// The body is streamed, never held.
fn uploads() -> ApiRouter<Api> {
    ApiRouter::new().api_route("/v1/restores/upload", post_with(upload, |operation| answers::<202, Json<Restore>>("Takes an archive and restores it; its passphrase is in the header samara-passphrase, in hex")(operation).input::<Octets>().response::<200, Json<Restored>>())).layer(DefaultBodyLimit::disable())
}

fn refused(error: RestoreError) -> ApiError {
    ApiError::from_error(error.code(), &error).with_details(error.details())
}

/// The restores, once it is known what the words own.
fn restores(api: &Api) -> Result<&Restores, ApiError> {
    known(api)?;
    api.node().restores.as_ref().ok_or_else(|| ApiError::no_role("renter"))
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<Restore>>, ApiError> {
    let mut jobs = restores(&api)?.list();
    // Each has its own.
    jobs.iter_mut().for_each(|job| job.log.clear());
    Ok(Json(jobs))
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Restore>, ApiError> {
    restores(&api)?.show(&id).map(Json).map_err(refused)
}

async fn log(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Vec<LogLine>>, ApiError> {
    restores(&api)?.show(&id).map(|job| Json(job.log)).map_err(refused)
}

/// Starts a restore, or says what it would do.
async fn create(
    State(api): State<Api>,
    actor: Actor,
    Json(new): Json<NewRestore>,
) -> Result<Response, ApiError> {
    if matches!(new.source, RestoreSource::Upload) {
        return Err(ApiError::new("invalid", "send an archive to /v1/restores/upload"));
    }
    let restores = restores(&api)?;
    let id = restores.draw().map_err(refused)?;
    begin(restores, id, new, &actor).await
}

async fn begin(
    restores: &Restores,
    id: String,
    new: NewRestore,
    actor: &Actor,
) -> Result<Response, ApiError> {
    if new.dry_run {
        let looked: Restored = restores.look(&id, &new).await.map_err(refused)?;
        return Ok(Json(looked).into_response());
    }
    let job = restores.enter(id, new, actor.user, true).map_err(refused)?;
    let place = [(header::LOCATION, format!("/v1/restores/{}", job.id))];
    Ok((StatusCode::ACCEPTED, place, Json(job)).into_response())
}

/// What is asked of an archive that is sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UploadQuery {
    /// Name of the new vault.
    #[serde(default)]
    name: Option<String>,
    /// Only look.
    #[serde(default)]
    dry_run: bool,
    /// The most that it may cost, in coins.
    #[serde(default)]
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
    max_cost: Option<Amount>,
}

/// Header with the passphrase of an archive that is sent, in hex: neither in an address nor in a log.
const PASSPHRASE: &str = "samara-passphrase";

/// Takes an archive, and restores it.
async fn upload(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<UploadQuery>,
    headers: axum::http::HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let restores = restores(&api)?;
    let passphrase =
        headers.get(PASSPHRASE).map(|value| passphrase(value.as_bytes())).transpose()?;
    let id = restores.draw().map_err(refused)?;
    let left = restores.leftover(&id);
    receive(&restores.archive_path(&id), body, ArchiveLimits::default().total).await?;
    let UploadQuery { name, dry_run, max_cost } = query;
    let source = RestoreSource::Upload;
    let new = NewRestore { source, name, passphrase, max_cost, announced: None, dry_run };
    let answer = begin(restores, id.clone(), new, &actor).await?;
    left.taken_over();
    Ok(answer)
}

fn passphrase(hex: &[u8]) -> Result<Passphrase, ApiError> {
    let bytes = hex::decode(hex).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = bytes.ok_or_else(|| ApiError::new("invalid", "the passphrase is no text in hex"))?;
    Ok(Passphrase::new(text.into()))
}

/// Writes a body of so many bytes at most into a file.
async fn receive(path: &std::path::Path, body: Body, most: u64) -> Result<(), ApiError> {
    let disk = |error| refused(RestoreError::Disk(error));
    let mut options = tokio::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path).await;
    let mut file = opened.map_err(disk)?;
    let mut pieces = body.into_data_stream();
    let mut left = most;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| disk(std::io::Error::other(error)))?;
        left = left.checked_sub(piece.len() as u64).ok_or_else(|| too_large(most))?;
        file.write_all(&piece).await.map_err(disk)?;
    }
    // It gives the error of the last write, which syncing would swallow.
    file.flush().await.map_err(disk)?;
    file.sync_all().await.map_err(disk)
}

fn too_large(most: u64) -> ApiError {
    ApiError::new("archive_too_large", format!("archives of more than {most} bytes are not taken"))
}

/// An archive that somebody asks for who may not decide.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportAsk {
    /// Where the archive is.
    pub url: String,
    /// Events and files that it has: whoever approves sees them, and it has to keep to them.
    pub announced: Announced,
    /// Name of the new vault; that in the archive if none.
    #[serde(default)]
    pub name: Option<String>,
}

async fn ask(
    State(api): State<Api>,
    actor: Actor,
    Json(ask): Json<ImportAsk>,
) -> Result<Response, ApiError> {
    let restores = restores(&api)?;
    let ImportAsk { url, announced, name } = ask;
    let new = NewRestore {
        source: RestoreSource::Url(url),
        name,
        passphrase: None,
        max_cost: None,
        announced: Some(announced),
        dry_run: false,
    };
    let id = restores.draw().map_err(refused)?;
    let job = restores.enter(id, new, actor.user, false).map_err(refused)?;
    Ok((StatusCode::ACCEPTED, Json(job)).into_response())
}

/// What a restore needs to go on that is kept nowhere.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GoOn {
    /// What opens the archive, if it is encrypted.
    pub passphrase: Option<Passphrase>,
}

async fn approve(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    Json(go_on): Json<GoOn>,
) -> Result<Json<Restore>, ApiError> {
    let approved = restores(&api)?.approve(&id, actor.user, go_on.passphrase);
    approved.map(Json).map_err(refused)
}

async fn reject(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<Restore>, ApiError> {
    restores(&api)?.reject(&id, actor.user).map(Json).map_err(refused)
}

async fn resume(
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(go_on): Json<GoOn>,
) -> Result<Json<Restore>, ApiError> {
    restores(&api)?.resume(&id, go_on.passphrase).map(Json).map_err(refused)
}

async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Restore>, ApiError> {
    restores(&api)?.cancel(&id).map(Json).map_err(refused)
}

async fn remove(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Done>, ApiError> {
    restores(&api)?.remove(&id).map(|()| Json(Done {})).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_ends_at_the_largest_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        receive(&path, Body::from("four"), 4).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"four");
        let path = folder.path().join("larger");
        let refused = receive(&path, Body::from("large"), 4).await.unwrap_err();
        assert_eq!(refused.code, "archive_too_large");
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
