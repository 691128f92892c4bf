//! Tokens, and who shows one.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, failed, uncached};
use crate::access::{
    AccessControl, Actor, LoginMade, NewToken, Secret, TokenId, TokenMade, TokenView,
};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};
use crate::api::openapi::{answers, says};

pub(in crate::api) fn routes() -> ApiRouter<Arc<AccessControl>> {
    ApiRouter::new()
        .api_route(
            "/v1/tokens",
            get_with(list, says("Lists the own tokens; an administrator's are all")).post_with(
                create,
                answers::<200, Json<TokenMade>>("Makes a token and shows it once"),
            ),
        )
        .api_route("/v1/tokens/{id}", delete_with(revoke, says("Revokes a token, or ends a login")))
        .api_route("/v1/whoami", get_with(whoami, says("Whose the token is")))
        .api_route(
            "/v1/login",
            post_with(login, answers::<200, Json<LoginMade>>("Logs in: a token for twelve hours")),
        )
        .api_route("/v1/logout", post_with(logout, says("Ends the login whose token is shown")))
}

/// Who wants to log in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The user's e-mail address, in letters of any case.
    pub email: String,
    /// The user's password.
    #[schemars(with = "String")]
    pub password: Secret,
}

type Access = State<Arc<AccessControl>>;

async fn list(State(access): Access, actor: Actor) -> Result<Json<Vec<TokenView>>, ApiError> {
    access.tokens(&actor).map(Json).map_err(failed)
}

async fn create(State(access): Access, Json(new): Json<NewToken>) -> Result<Response, ApiError> {
    let made: TokenMade = access.create_token(new).await.map_err(failed)?;
    Ok(uncached(Json(made)))
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
) -> Result<Response, ApiError> {
    let made: LoginMade = access.login(&request.email, &request.password).await.map_err(failed)?;
    Ok(uncached(Json(made)))
}

async fn logout(State(access): Access, actor: Actor) -> Result<Json<Done>, ApiError> {
    access.logout(&actor).map_err(failed)?;
    Ok(Json(Done {}))
}
