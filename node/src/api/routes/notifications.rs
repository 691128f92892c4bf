//! Notices: the event stream, what is kept, and what is sent where.

use std::convert::Infallible;
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use samara_protocol::units::ChainTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Done;
use super::notify_settings::{NotifyAnswer, NotifyRequest};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path, Query};
use crate::api::openapi::{Text, answers, says};
use crate::api::state::Api;
use crate::causes;
use crate::notify::settings::{SettingsError, WebhookId};
use crate::notify::{Delivery, Kept, Notice, NotifyError, State as Progress, Target, Tested};

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route("/v1/events", get_with(events, answers::<200, Text<true>>("Tells what happens")))
        .api_route("/v1/notifications", get_with(list, says("Lists notices and their deliveries")))
        .api_route(
            "/v1/notifications/{number}",
            delete_with(dismiss, says("Takes a notice off the list")),
        )
        .api_route(
            "/v1/notifications/settings",
            get_with(settings, says("What is sent where"))
                .put_with(set, says("Sets what is sent where")),
        )
        .api_route(
            "/v1/notifications/test",
            post_with(test, says("Sends a message through each channel now")),
        )
}

/// Event streams at a time; each takes one of the server's connections.
const MAX_STREAMS: usize = 64;
/// How often a stream without events says that it is there.
const ALIVE: Duration = Duration::from_secs(15);
/// Notices of one answer, if nothing else is asked, and at most.
const LISTED: usize = 100;
const MAX_LISTED: usize = 1_000;

/// A notice and how far its deliveries are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeRow {
    /// Its number; later ones have higher numbers.
    pub number: u64,
    /// The notice.
    #[serde(flatten)]
    pub notice: Notice,
    /// Its deliveries; `None` while it is not known where it goes.
    pub deliveries: Option<Vec<DeliveryRow>>,
}

/// How far a delivery is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryRow {
    /// `mail` or `webhook`.
    pub channel: String,
    /// Which webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub webhook: Option<WebhookId>,
    /// `waiting`, `delivered`, `given_up` or `dropped`.
    pub state: String,
    /// When it was delivered or given up, or is tried again, milliseconds since the Unix epoch.
    #[schemars(with = "Option<u64>")]
    pub time: Option<ChainTime>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<Kept> for NoticeRow {
    fn from(kept: Kept) -> Self {
        let deliveries = kept.deliveries.map(|all| all.into_iter().map(Into::into).collect());
        Self { number: kept.number, notice: kept.notice, deliveries }
    }
}

impl From<Delivery> for DeliveryRow {
    fn from(delivery: Delivery) -> Self {
        let (channel, webhook) = match delivery.target {
            Target::Mail => ("mail", None),
            Target::Webhook(id) => ("webhook", Some(id)),
        };
        let (state, time) = match delivery.state {
            Progress::Waiting(time) => ("waiting", Some(time)),
            Progress::Delivered(time) => ("delivered", Some(time)),
            Progress::GivenUp(time) => ("given_up", Some(time)),
            Progress::Dropped => ("dropped", None),
        };
        let Delivery { attempts, error, .. } = delivery;
        Self {
            channel: channel.to_owned(),
            webhook,
            state: state.to_owned(),
            time,
            attempts,
            error,
        }
    }
}

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        let code = match &error {
            SettingsError::Kept { code, .. } => code.as_str(),
            SettingsError::Invalid { .. } => "invalid",
            SettingsError::Newer { .. } => "refused",
            SettingsError::Damaged { .. } => "internal",
        };
        Self::new(code, error.to_string())
    }
}

impl From<NotifyError> for ApiError {
    fn from(error: NotifyError) -> Self {
        match error {
            NotifyError::Settings(error) => error.into(),
            NotifyError::Outbox(error) => Self::new("store_failed", causes::with_causes(&error)),
            NotifyError::Unknown(_) => Self::new("not_found", error.to_string()),
            NotifyError::Stopped => Self::new("stopped", error.to_string()),
        }
    }
}

/// Where the stream goes on, for those that cannot send the header.
#[derive(Deserialize, JsonSchema)]
struct EventsQuery {
    after: Option<u64>,
}

async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response, ApiError> {
    let notices = api.notices()?;
    if notices.readers() >= MAX_STREAMS {
        return Err(ApiError::new("busy", format!("{MAX_STREAMS} event streams are open already")));
    }
    let last = match headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default()) {
        None | Some("") => query.after,
        // What is no number of ours is from another time: it is told that events were missed.
        Some(id) => Some(id.parse().unwrap_or(u64::MAX)),
    };
    let state = (notices.events(last), api.node().stop.clone());
    let stream = futures::stream::unfold(state, |(mut reader, stop)| async move {
        let event = stop.run_until_cancelled(reader.next()).await??;
        let told = Event::default().event(event.name).data(&event.data);
        let told = match event.id {
            Some(id) => told.id(id.to_string()),
            None => told,
        };
        Some((Ok::<_, Infallible>(told), (reader, stop)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

/// Which notices.
#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<NoticeRow>>, ApiError> {
    let limit = query.limit.unwrap_or(LISTED).min(MAX_LISTED);
    let listed = api.notices()?.list(query.after, limit).await?;
    Ok(Json(listed.into_iter().map(NoticeRow::from).collect()))
}

async fn dismiss(State(api): State<Api>, Path(number): Path<u64>) -> Result<Json<Done>, ApiError> {
    api.notices()?.dismiss(number).await?;
    Ok(Json(Done {}))
}

async fn settings(State(api): State<Api>) -> Result<Json<NotifyAnswer>, ApiError> {
    Ok(Json(api.notices()?.settings().await?.into()))
}

async fn set(
    State(api): State<Api>,
    Json(request): Json<NotifyRequest>,
) -> Result<Json<NotifyAnswer>, ApiError> {
    let set = api.notices()?.set(|settings| {
        *settings = request.over(settings)?;
        Ok::<_, ApiError>(())
    });
    Ok(Json(set.await?.into()))
}

async fn test(State(api): State<Api>) -> Result<Json<Vec<Tested>>, ApiError> {
    Ok(Json(api.notices()?.test().await?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_how_far_each_delivery_is() {
        let delivery = |target, state| Delivery { target, state, attempts: 1, error: None };
        let rows = [
            delivery(Target::Mail, Progress::Delivered(ChainTime(7))),
            delivery(Target::Webhook(WebhookId([1; 8])), Progress::Dropped),
        ];
        let rows = rows.map(|row| serde_json::to_value(DeliveryRow::from(row)).unwrap());
        let expected = [
            json!({ "channel": "mail", "state": "delivered", "time": 7, "attempts": 1 }),
            json!({
                "channel": "webhook",
                "webhook": "0101010101010101",
                "state": "dropped",
                "time": null,
                "attempts": 1
            }),
        ];
        assert_eq!(rows, expected);
    }
}
