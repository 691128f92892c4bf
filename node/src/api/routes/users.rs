//! Users.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;

use super::{Done, failed};
use crate::access::{AccessControl, EditUser, NewUser, UserId, UserView};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};
use crate::api::openapi::says;

pub(in crate::api) fn routes() -> ApiRouter<Arc<AccessControl>> {
    ApiRouter::new()
        .api_route(
            "/v1/users",
            get_with(list, says("Lists users")).post_with(add, says("Makes a user")),
        )
        .api_route(
            "/v1/users/{id}",
            get_with(show, says("One user"))
                .patch_with(edit, says("Changes a user"))
                .delete_with(remove, says("Removes a user with all tokens")),
        )
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
