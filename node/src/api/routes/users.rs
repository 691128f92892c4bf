//! Users.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use super::{Done, failed};
use crate::access::{AccessControl, EditUser, NewUser, UserId, UserView};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};

pub(in crate::api) fn routes() -> Router<Arc<AccessControl>> {
    Router::new()
        .route("/v1/users", get(list).post(add))
        .route("/v1/users/{id}", get(show).patch(edit).delete(remove))
}

type Access = State<Arc<AccessControl>>;

async fn list(State(access): Access) -> Result<Json<Vec<UserView>>, ApiError> {
    access.users().map(Json).map_err(failed)
}

async fn add(State(access): Access, Json(new): Json<NewUser>) -> Result<Json<UserView>, ApiError> {
    access.add_user(new).await.map(Json).map_err(failed)
}

async fn show(State(access): Access, Path(id): Path<UserId>) -> Result<Json<UserView>, ApiError> {
    access.user(id).map(Json).map_err(failed)
}

async fn edit(
    State(access): Access,
    Path(id): Path<UserId>,
    Json(edit): Json<EditUser>,
) -> Result<Json<UserView>, ApiError> {
    access.edit_user(id, edit).await.map(Json).map_err(failed)
}

async fn remove(State(access): Access, Path(id): Path<UserId>) -> Result<Json<Done>, ApiError> {
    access.remove_user(id).await.map_err(failed)?;
    Ok(Json(Done {}))
}
