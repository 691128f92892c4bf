//! Errors as the API shows them: a stable code, a message, a hint.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::codes;
use crate::causes;

/// An error of the API. The codes are stable and listed in `docs/api.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure: `not_found`, `exists`, `fenced`, ...
    pub code: String,
    /// What was attempted, on what, and what went wrong.
    pub message: String,
    /// What to do, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// An error with a code and a message.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let hint = codes::find(code).and_then(|code| code.hint).map(str::to_owned);
        Self { code: code.to_owned(), message: message.into(), hint }
    }

    /// An error from one of the renter's, with the messages of its sources.
    pub fn from_error(code: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, causes::with_causes(error))
    }

    /// A role that this node does not have.
    #[must_use]
    pub fn no_role(role: &str) -> Self {
        Self {
            code: "no_role".to_owned(),
            message: format!("this node has no {role} role"),
            hint: Some(format!("add a [{role}] table to its samara.toml and start it again")),
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
        (self.status(), Json(self)).into_response()
    }
}
