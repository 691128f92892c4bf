//! What those ask who watch a node from outside: whether it does its work, and how much of it.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use samara_renter::rows::{RenterState, RenterStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::metrics::{OPEN_METRICS, scrape};
use crate::api::openapi::{self, Text, answers};
use crate::api::state::Api;
use crate::light::LightStatus;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/openapi.json",
            get_with(document, answers::<200, Json<Value>>("This document")),
        )
        .api_route(
            "/health",
            get_with(health, |operation| {
                answers::<200, Json<HealthAnswer>>("Says in a word whether the node does its work")(
                    operation,
                )
                .response::<503, Json<HealthAnswer>>()
            }),
        )
        .api_route(
            "/metrics",
            get_with(metrics, answers::<200, Text<false>>("Metrics for Prometheus")),
        )
}

/// Whether a node does its work, in a word: whoever connects may know so much, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// All is well.
    Ok,
    /// It works, and somebody should look at it: the chain stands still, hosts do not answer, files are short
    /// of shards, or a recovery is under way.
    Degraded,
    /// It has not heard of the chain since its start.
    Starting,
    /// It does not do its work: another node has taken over, or all chain peers give false answers.
    Failing,
    /// It is about to end.
    Stopping,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthAnswer {
    /// In a word.
    pub status: Condition,
}

impl Condition {
    fn of(
        stopping: bool,
        chain: &LightStatus,
        all_false: bool,
        renter: Option<&RenterStatus>,
    ) -> Self {
        let fenced =
            renter.is_some_and(|renter| matches!(renter.state, RenterState::Fenced { .. }));
        if stopping {
            Self::Stopping
        } else if fenced || all_false {
            Self::Failing
        } else if !chain.contacted {
            Self::Starting
        } else if chain.stale.is_some() || chain.ahead.is_some() || renter.is_some_and(is_uneasy) {
            Self::Degraded
        } else {
            Self::Ok
        }
    }

    /// Those that ask for a number and not for words take anything but 200 for a failure.
    const fn http(self) -> StatusCode {
        match self {
            Self::Ok | Self::Degraded => StatusCode::OK,
            Self::Starting | Self::Failing | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Whether somebody should look at a renter.
fn is_uneasy(renter: &RenterStatus) -> bool {
    matches!(renter.state, RenterState::ReadOnly | RenterState::Recovering { .. })
        || renter.unreachable + renter.ended + renter.bare + renter.unreadable > 0
        || renter.problem.is_some()
        || !renter.lapses.is_empty()
}

async fn health(State(api): State<Api>) -> Response {
    let node = api.node();
    let renter = node.renter.as_ref().map(samara_renter::Renter::status);
    let (chain, all_false) = (node.light.status(), node.light.all_false().is_some());
    let status = Condition::of(node.stop.is_cancelled(), &chain, all_false, renter.as_ref());
    let mut answer = (status.http(), Json(HealthAnswer { status })).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The document of the API.
async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::TEXT.as_str()).into_response()
}

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let text = scrape(&api).await?;
    let mut answer = text.into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::Millis;

    use super::*;

    #[test]
    fn a_node_tells_in_a_word_how_it_is() {
        let reached = LightStatus { contacted: true, ..LightStatus::default() };
        let old = LightStatus { stale: Some(Millis(1)), ..reached.clone() };
        let renter = |state| RenterStatus { state, ..RenterStatus::default() };
        let active = renter(RenterState::Active);
        let fenced = renter(RenterState::Fenced { by: String::new() });
        let short = RenterStatus { unreachable: 1, ..active.clone() };
        let of = |chain, renter| Condition::of(false, chain, false, renter);
        for (condition, expected, status) in [
            (of(&reached, None), Condition::Ok, 200),
            (of(&reached, Some(&active)), Condition::Ok, 200),
            (of(&old, None), Condition::Degraded, 200),
            (of(&reached, Some(&short)), Condition::Degraded, 200),
            (of(&LightStatus::default(), Some(&active)), Condition::Starting, 503),
            (of(&reached, Some(&fenced)), Condition::Failing, 503),
            (Condition::of(false, &reached, true, None), Condition::Failing, 503),
            (Condition::of(true, &reached, false, None), Condition::Stopping, 503),
        ] {
            assert_eq!((condition, condition.http().as_u16()), (expected, status));
        }
        let text = serde_json::to_string(&HealthAnswer { status: Condition::Ok }).unwrap();
        assert_eq!(text, r#"{"status":"ok"}"#);
    }
}
