//! Errors as the API shows them: a stable code, a message, a hint.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

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
        Self { code: code.to_owned(), message: message.into(), hint: hint(code) }
    }

    /// An error from one of the renter's, with the messages of its sources.
    pub fn from_error(code: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Self::new(code, message)
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
        match self.code.as_str() {
            "unauthorized" => StatusCode::UNAUTHORIZED,
            "invalid" | "bad_allowance" | "bad_description" | "bad_name" | "bad_path"
            | "bad_pattern" | "no_destination" => StatusCode::BAD_REQUEST,
            "bad_range" => StatusCode::RANGE_NOT_SATISFIABLE,
            "not_found" | "nothing_found" | "no_vault" | "no_version" | "no_backup"
            | "no_source" => StatusCode::NOT_FOUND,
            "exists"
            | "conflict"
            | "refused"
            | "read_only"
            | "fenced"
            | "no_allowance"
            | "no_role"
            | "no_money"
            | "contract_out_of_money"
            | "not_started"
            | "started"
            | "active"
            | "recovering"
            | "running"
            | "transaction_refused" => StatusCode::CONFLICT,
            "unreachable" | "no_quorum" | "too_few_hosts" | "too_few_contracts" | "no_hosts"
            | "no_host_answers" | "chain_unreachable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What to do about a kind of failure, where one thing fits all of its cases.
fn hint(code: &str) -> Option<String> {
    let text = match code {
        "fenced" => {
            "another node writes for these words now; use that one, or recover here again to take over"
        }
        "no_allowance" => "set one with `samara allowance set`",
        "too_few_hosts" => "see `samara hosts`; wait for hosts, or lower the redundancy",
        "no_money" => {
            "see `samara wallet show`; on a test network `samara wallet faucet` gives coins"
        }
        "not_started" => {
            "for words that were just made run `samara init` anew; for any others `samara recover start`"
        }
        "too_few_contracts" | "no_hosts" => "see `samara contracts`, and `samara allowance show`",
        "no_quorum" => "see `samara hosts` for who does not answer; nothing was lost",
        "unreachable" => "check that the network is up and its addresses are right",
        "read_only" => {
            "too few hosts answered the recovery; run `samara recover start` again later"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), Json(self)).into_response()
    }
}
