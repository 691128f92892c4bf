//! Download links: made, listed and revoked by those who may, and used by whoever has one.

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use samara_protocol::units::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, contents, failed, known, uncached};
use crate::access::Actor;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};
use crate::api::openapi::{Octets, answers, says};
use crate::api::state::Api;
use crate::links::{DOWNLOADS, LinkError, LinkId, LinkMade, LinkView, Links, USUAL};

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route("/v1/links", get_with(list, says("Lists links to archives")))
        .api_route("/v1/links/{id}", delete_with(revoke, says("Revokes a link")))
        .api_route(
            "/v1/backups/{sid}/links",
            get_with(list_of, says("Lists links to an archive")).post_with(
                create,
                answers::<201, Json<LinkMade>>("Makes a link to an archive and shows it once"),
            ),
        )
}

/// What needs no token.
pub(in crate::api) fn downloads() -> ApiRouter<Api> {
    ApiRouter::new().api_route(
        "/v1/download/{secret}",
        get_with(download, |operation| {
            answers::<200, Octets>("Downloads the archive that a link leads to, or a range of it")(
                operation,
            )
            .response::<206, Octets>()
        }),
    )
}

/// Does what writes or removes files of links, off the runtime's threads.
async fn on_disk<T: Send + 'static>(
    links: &Links,
    work: impl FnOnce(&Links) -> Result<T, LinkError> + Send + 'static,
) -> Result<T, ApiError> {
    let links = links.clone();
    match tokio::task::spawn_blocking(move || work(&links)).await {
        Ok(done) => done.map_err(failed),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ApiError::new("stopped", "the node stops")),
        },
    }
}

/// A link to make.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkRequest {
    /// Seconds for which it works; a week if left out.
    pub expires_in: Option<u64>,
}

async fn create(
    State(api): State<Api>,
    actor: Actor,
    Path(sid): Path<String>,
    Json(request): Json<LinkRequest>,
) -> Result<Response, ApiError> {
    known(&api)?;
    let life = request.expires_in.map_or(USUAL, Millis::seconds);
    let make = move |links: &Links| links.make(&sid, life, actor.user);
    let made: LinkMade = on_disk(api.links()?, make).await?;
    Ok(uncached((StatusCode::CREATED, Json(made))))
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<LinkView>>, ApiError> {
    known(&api)?;
    Ok(Json(api.links()?.list(None)))
}

async fn list_of(
    State(api): State<Api>,
    Path(sid): Path<String>,
) -> Result<Json<Vec<LinkView>>, ApiError> {
    known(&api)?;
    api.links()?.list_of(&sid).map(Json).map_err(failed)
}

async fn revoke(State(api): State<Api>, Path(id): Path<LinkId>) -> Result<Json<Done>, ApiError> {
    known(&api)?;
    on_disk(api.links()?, move |links| links.revoke(id)).await?;
    Ok(Json(Done {}))
}

/// The archive that a link leads to. What the link is comes up in no answer, log or cache, and nothing tells
/// one that has ended from one that never was.
async fn download(
    State(api): State<Api>,
    secret: Result<Path<String>, ApiError>,
    headers: HeaderMap,
) -> Response {
    let secret = secret.map(|Path(secret)| secret).unwrap_or_default();
    let mut answer = fetched(&api, &secret, &headers).await.unwrap_or_else(ApiError::into_response);
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn fetched(api: &Api, secret: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let none = || {
        let message = "this link leads nowhere: it has ended, or there never was one";
        ApiError { hint: None, ..ApiError::new("no_link", message) }
    };
    let renter = known(api)?;
    let links = api.links()?;
    let sid = links.find(secret).ok_or_else(none)?;
    let place = links.place().ok_or_else(|| {
        ApiError::new("busy", format!("{DOWNLOADS} downloads by link are under way already"))
    })?;
    match contents::serve(renter, &sid, headers).await {
        // The place is free again when the body has been sent or given up.
        Ok(answer) => Ok(answer.map(|body| {
            let pieces = body.into_data_stream().map(move |piece| {
                let _held = &place;
                piece
            });
            Body::from_stream(pieces)
        })),
        Err(error) if error.code == "bad_range" => Err(error),
        // It was deleted this moment.
        Err(error) if matches!(error.code.as_str(), "no_backup" | "unfit") => Err(none()),
        Err(error) => {
            tracing::warn!(backup = sid, error = error.message, "a download by link failed");
            Err(ApiError::new(&error.code, "the archive cannot be read now"))
        }
    }
}
