//! Vaults and the files in them.

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use axum::extract::State;
use axum::response::Response;
use samara_renter::vault::{
    GetReport, GetRequest, ListOptions, ListRow, PutReport, PutRequest, VaultRow, VersionRow,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{changed, failed, known};
use crate::access::Actor;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path, Query};
use crate::api::openapi::{Lines, answers, says};
use crate::api::state::Api;
use crate::api::stream::WithoutClient;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/vaults",
            get_with(list, says("Lists vaults")).post_with(create, says("Makes a vault")),
        )
        .api_route("/v1/vaults/{vault}", delete_with(remove_vault, says("Removes a vault")))
        .api_route(
            "/v1/vaults/{vault}/rename",
            post_with(rename, says("Gives a vault another name")),
        )
        .api_route("/v1/vaults/{vault}/files", get_with(files, says("Lists files of a vault")))
        .api_route("/v1/vaults/{vault}/move", post_with(move_file, says("Moves a file or folder")))
        .api_route(
            "/v1/vaults/{vault}/remove",
            post_with(remove, says("Removes a file, a folder or a version")),
        )
        .api_route(
            "/v1/put",
            post_with(put, answers::<200, Lines<PutReport>>("Stores files of the node's machine")),
        )
        .api_route(
            "/v1/get",
            post_with(
                fetch,
                answers::<200, Lines<GetReport>>("Fetches files to the node's machine"),
            ),
        )
}

/// A name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// Of a vault.
    pub name: String,
}

/// A file to move within its vault.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// Where it is.
    pub from: String,
    /// Where it is to be.
    pub to: String,
}

/// Files to remove.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RemoveRequest {
    /// A file or folder.
    pub path: String,
    /// Whether a folder goes with all below it.
    pub recursive: bool,
    /// The one version of a file to give up for good.
    pub version: Option<u64>,
}

/// A change that says no more than that it was made.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Done {}

/// How many files a change was about.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Files moved or removed.
    pub files: u64,
    /// The version that was given up, if it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<VersionGivenUp>,
}

/// A version of a file that is gone, and what is left.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionGivenUp {
    /// As it was.
    pub version: VersionRow,
    /// Number of the version that is listed now; nothing if the file is not listed.
    pub listed: Option<u64>,
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<VaultRow>>, ApiError> {
    Ok(Json(known(&api)?.vaults()))
}

async fn create(
    State(api): State<Api>,
    actor: Actor,
    Json(request): Json<NameRequest>,
) -> Result<Json<VaultRow>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.create_vault(&request.name).await).await.map(Json)
}

async fn rename(
    State(api): State<Api>,
    actor: Actor,
    Path(vault): Path<String>,
    Json(request): Json<NameRequest>,
) -> Result<Json<Done>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.rename_vault(&vault, &request.name).await).await?;
    Ok(Json(Done {}))
}

async fn remove_vault(
    State(api): State<Api>,
    actor: Actor,
    Path(vault): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    changed(renter, renter.remove_vault(&vault).await).await?;
    // Links to its archives have ended.
    api.links()?.sweep();
    Ok(Json(Done {}))
}

async fn files(
    State(api): State<Api>,
    Path(vault): Path<String>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Vec<ListRow>>, ApiError> {
    known(&api)?.list(&vault, &options).await.map(Json).map_err(failed)
}

async fn move_file(
    State(api): State<Api>,
    actor: Actor,
    Path(vault): Path<String>,
    Json(request): Json<MoveRequest>,
) -> Result<Json<Changed>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    let files = changed(renter, renter.move_file(&vault, &request.from, &request.to).await).await?;
    Ok(Json(Changed { files, given_up: None }))
}

async fn remove(
    State(api): State<Api>,
    actor: Actor,
    Path(vault): Path<String>,
    Json(request): Json<RemoveRequest>,
) -> Result<Json<Changed>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    let RemoveRequest { path, recursive, version } = request;
    let Some(version) = version else {
        let files = changed(renter, renter.remove(&vault, &path, recursive).await).await?;
        return Ok(Json(Changed { files, given_up: None }));
    };
    let row = renter.file(&vault, &path, Some(version)).map_err(failed)?;
    changed(renter, renter.remove_version(&vault, &path, version).await).await?;
    let listed = renter.file(&vault, &path, None).ok().map(|file| file.version.version);
    let given_up = Some(VersionGivenUp { version: row.version, listed });
    Ok(Json(Changed { files: 0, given_up }))
}

async fn put(
    State(api): State<Api>,
    actor: Actor,
    Json(request): Json<PutRequest>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.acting(actor.user);
    Ok(api.operations().respond(WithoutClient::Stops, move |progress| async move {
        changed(&renter, renter.put(request, progress.as_ref()).await).await
    }))
}

async fn fetch(
    State(api): State<Api>,
    Json(request): Json<GetRequest>,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.clone();
    Ok(api.operations().respond(WithoutClient::Stops, move |progress| async move {
        renter.get(request, progress.as_ref()).await.map_err(failed)
    }))
}
