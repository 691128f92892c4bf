//! Vaults and the files in them.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{delete, get, post};
use samara_renter::vault::{GetRequest, ListOptions, ListRow, PutRequest, VaultRow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path, Query};
use crate::api::server::Api;
use crate::api::stream;

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/vaults", get(list).post(create))
        .route("/v1/vaults/{vault}", delete(remove_vault))
        .route("/v1/vaults/{vault}/rename", post(rename))
        .route("/v1/vaults/{vault}/files", get(files))
        .route("/v1/vaults/{vault}/move", post(move_file))
        .route("/v1/vaults/{vault}/remove", post(remove))
        .route("/v1/put", post(put))
        .route("/v1/get", post(fetch))
}

/// A name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// Of a vault.
    pub name: String,
}

/// A file to move within its vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// Where it is.
    pub from: String,
    /// Where it is to be.
    pub to: String,
}

/// Files to remove.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoveRequest {
    /// A file or folder.
    pub path: String,
    /// Whether a folder goes with all below it.
    pub recursive: bool,
    /// The one version of a file to give up for good.
    pub version: Option<u64>,
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<VaultRow>>, ApiError> {
    Ok(Json(api.renter()?.vaults()))
}

async fn create(
    State(api): State<Api>,
    Json(request): Json<NameRequest>,
) -> Result<Json<VaultRow>, ApiError> {
    api.renter()?.create_vault(&request.name).await.map(Json).map_err(failed)
}

async fn rename(
    State(api): State<Api>,
    Path(vault): Path<String>,
    Json(request): Json<NameRequest>,
) -> Result<Json<Value>, ApiError> {
    api.renter()?.rename_vault(&vault, &request.name).await.map_err(failed)?;
    Ok(Json(json!({})))
}

async fn remove_vault(
    State(api): State<Api>,
    Path(vault): Path<String>,
) -> Result<Json<Value>, ApiError> {
    api.renter()?.remove_vault(&vault).await.map_err(failed)?;
    Ok(Json(json!({})))
}

async fn files(
    State(api): State<Api>,
    Path(vault): Path<String>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Vec<ListRow>>, ApiError> {
    api.renter()?.list(&vault, &options).await.map(Json).map_err(failed)
}

async fn move_file(
    State(api): State<Api>,
    Path(vault): Path<String>,
    Json(request): Json<MoveRequest>,
) -> Result<Json<Value>, ApiError> {
    let files =
        api.renter()?.move_file(&vault, &request.from, &request.to).await.map_err(failed)?;
    Ok(Json(json!({ "files": files })))
}

async fn remove(
    State(api): State<Api>,
    Path(vault): Path<String>,
    Json(request): Json<RemoveRequest>,
) -> Result<Json<Value>, ApiError> {
    let renter = api.renter()?;
    let files = match request.version {
        Some(version) => {
            renter.remove_version(&vault, &request.path, version).await.map_err(failed)?;
            0
        }
        None => renter.remove(&vault, &request.path, request.recursive).await.map_err(failed)?,
    };
    Ok(Json(json!({ "files": files })))
}

async fn put(
    State(api): State<Api>,
    Json(request): Json<PutRequest>,
) -> Result<Response, ApiError> {
    let renter = api.renter()?.clone();
    Ok(stream::respond(move |progress| async move {
        renter.put(request, progress.as_ref()).await.map_err(failed)
    }))
}

async fn fetch(
    State(api): State<Api>,
    Json(request): Json<GetRequest>,
) -> Result<Response, ApiError> {
    let renter = api.renter()?.clone();
    Ok(stream::respond(move |progress| async move {
        renter.get(request, progress.as_ref()).await.map_err(failed)
    }))
}
