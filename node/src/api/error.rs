//! Errors as the API shows them: a stable code, a message, a hint, and what a program can use.
//!
//! Over HTTP an error is a problem of RFC 9457, in which code and message stand under their own names too.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use samara_renter::error::{Coded, Details};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codes;
use crate::causes;

/// An error of the API. The codes are stable and listed in `docs/api.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure: `not_found`, `exists`, `fenced`, ...
    pub code: String,
    /// What was attempted, on what, and what went wrong.
    pub message: String,
    /// What to do, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What a program can use, by name: amounts, limits, the field that does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

/// The media type of [`Problem`].
pub const PROBLEM: &str = "application/problem+json";

/// An error as the body of an answer: a problem of RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// A name of the kind of failure that stays: `urn:samara:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The same as the message.
    pub detail: String,
    /// Code, message, hint and details.
    #[serde(flatten)]
    pub error: ApiError,
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (status, code) = (error.status(), codes::find(&error.code));
        let title = code.map_or(status.canonical_reason().unwrap_or_default(), |code| code.meaning);
        Self {
            kind: format!("urn:samara:error:{}", error.code),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: error.message.clone(),
            error,
        }
    }
}

impl ApiError {
    /// An error with a code and a message.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let hint = codes::find(code).and_then(|code| code.hint).map(str::to_owned);
        Self { code: code.to_owned(), message: message.into(), hint, details: None }
    }

    /// An error from one of the renter's, with the messages of its sources.
    pub fn from_error(code: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, causes::with_causes(error))
    }

    /// An error that knows its code.
    pub fn from_coded(error: impl Coded + 'static) -> Self {
        Self::from_error(error.code(), &error).with_details(error.details())
    }

    /// The same with what a program can use of it.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = (!details.is_empty()).then(|| Box::new(details));
        self
    }

    /// A role that this node does not have.
    #[must_use]
    pub fn no_role(role: &str) -> Self {
        Self {
            code: "no_role".to_owned(),
            message: format!("this node has no {role} role"),
            hint: Some(format!("add a [{role}] table to its samara.toml and start it again")),
            details: None,
        }
    }

    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        let status = codes::find(&self.code).and_then(|c| StatusCode::from_u16(c.status).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut answer = (status, Json(Problem::from(self))).into_response();
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        answer
    }
}

#[cfg(test)]
mod tests {
    use samara_renter::error::details;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn an_error_is_a_problem_with_its_code_and_reads_back() {
        let error = ApiError::new("limit_reached", "vault 'a' may have 3")
            .with_details(details([("limit", json!(3))]));
        let answer = error.clone().into_response();
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], PROBLEM);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 12).await.unwrap();
        let mut shown: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(serde_json::from_slice::<ApiError>(&body).unwrap(), error);
        let hint = shown["hint"].take();
        assert!(hint.as_str().is_some_and(|hint| hint.contains("samara backup limit")), "{hint}");
        let expected = json!({
            "type": "urn:samara:error:limit_reached",
            "title": "the vault has as many backups of this kind as it may",
            "status": 409,
            "detail": "vault 'a' may have 3",
            "code": "limit_reached",
            "message": "vault 'a' may have 3",
            "hint": null,
            "details": { "limit": 3 },
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_has_no_details_shows_none() {
        let error = ApiError::new("no_source", "gone").with_details(Details::new());
        assert_eq!(
            serde_json::to_value(&error).unwrap(),
            json!({ "code": "no_source", "message": "gone" })
        );
    }
}
