//! Tokens, and who shows one.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};

use super::{Done, failed};
use crate::access::{
    AccessControl, Actor, LoginMade, NewToken, Secret, TokenId, TokenMade, TokenView,
};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};

pub(in crate::api) fn routes() -> Router<Arc<AccessControl>> {
    Router::new()
        .route("/v1/tokens", get(list).post(create))
        .route("/v1/tokens/{id}", delete(revoke))
        .route("/v1/whoami", get(whoami))
        .route("/v1/login", post(login))
        .route("/v1/logout", post(logout))
}

/// Who wants to log in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The user's e-mail address, in letters of any case.
    pub email: String,
    /// The user's password.
    pub password: Secret,
}

type Access = State<Arc<AccessControl>>;

async fn list(State(access): Access, actor: Actor) -> Result<Json<Vec<TokenView>>, ApiError> {
    access.tokens(&actor).map(Json).map_err(failed)
}

async fn create(
    State(access): Access,
    Json(new): Json<NewToken>,
) -> Result<Json<TokenMade>, ApiError> {
    access.create_token(new).await.map(Json).map_err(failed)
}

async fn revoke(
    State(access): Access,
    actor: Actor,
    Path(id): Path<TokenId>,
) -> Result<Json<Done>, ApiError> {
    access.revoke(&actor, id).await.map_err(failed)?;
    Ok(Json(Done {}))
}

async fn whoami(actor: Actor) -> Json<Actor> {
    Json(actor)
}

async fn login(
    State(access): Access,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginMade>, ApiError> {
    access.login(&request.email, &request.password).await.map(Json).map_err(failed)
}

async fn logout(State(access): Access, actor: Actor) -> Result<Json<Done>, ApiError> {
    access.logout(&actor).map_err(failed)?;
    Ok(Json(Done {}))
}
