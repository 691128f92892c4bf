//! Parts of requests, read so that what is wrong with them is told as every other error is.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use samara_renter::error::{Details, details};
use serde::Serialize;

use super::error::ApiError;
use crate::access::Actor;

/// A JSON body, of a request or an answer.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub struct Json<T>(pub T);

/// What stands behind the question mark.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// What the route names.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// Who asks, where `access::require` has found out.
impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let actor = parts.extensions.get::<Self>().cloned();
        actor.ok_or_else(|| ApiError::new("unauthorized", "the request shows no token"))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let field = field_of::<serde_json::Error>(&rejection);
        Self::new("invalid", rejection.body_text()).with_details(field)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        let field = field_of::<serde::de::value::Error>(&rejection);
        Self::new("invalid", rejection.body_text()).with_details(field)
    }
}

/// The field that does not read, as in `source.url` or `tags[3]`, if it is the fault of one.
fn field_of<E: std::error::Error + 'static>(error: &dyn std::error::Error) -> Details {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(at) = cause.downcast_ref::<serde_path_to_error::Error<E>>() {
            let field = at.path().to_string();
            return if field == "." { Details::new() } else { details([("field", field.into())]) };
        }
        next = cause.source();
    }
    Details::new()
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new("invalid", rejection.body_text())
    }
}
