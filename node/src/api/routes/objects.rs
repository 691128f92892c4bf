//! Single files as bodies of requests and answers, with ranges.

use std::ops::Range;
use std::path::PathBuf;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use samara_renter::progress::Silent;
use samara_renter::vault::{FileRow, PutStreamRequest};
use samara_renter::world::{FileError, ReadFile};

use super::{changed, failed, known};
use crate::access::Actor;
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};
use crate::api::openapi::{Octets, answers, says};
use crate::api::state::Api;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/vaults/{vault}/objects/{*path}",
            get_with(read, |operation| {
                answers::<200, Octets>("Reads a file, or a range of it")(operation)
                    .response::<206, Octets>()
            })
            .put_with(write, |operation| says("Stores a file")(operation).input::<Octets>()),
        )
        // The body is streamed, never held.
        .layer(DefaultBodyLimit::disable())
}

async fn read(
    State(api): State<Api>,
    Path((vault, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let renter = known(&api)?.clone();
    let file = renter.file(&vault, &path, None).map_err(failed)?;
    let size = file.version.size;
    let wanted = match headers.get(header::RANGE) {
        Some(value) => Some(value.to_str().ok().and_then(|text| parse_range(text, size)).ok_or(
            ApiError::new(
                "bad_range",
                format!("the range does not lie in the file's {size} bytes"),
            ),
        )?),
        None => None,
    };
    let range = wanted.clone().unwrap_or(0..size);
    let length = range.end - range.start;
    // The version is fixed by now, so a put in between does not mix two.
    let version = file.version.version;
    let pieces = renter.stream_range(&vault, &path, Some(version), range).map_err(failed)?;
    let pieces = stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(pieces))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut answer = Body::from_stream(pieces).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    headers
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    if let Some(range) = wanted {
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        if let Ok(value) = text.parse() {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}

/// Reads one range of RFC 9110, section 14.1.2: `bytes=a-b`, `bytes=a-` or `bytes=-n`.
pub(super) fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", last) => size.saturating_sub(last.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (range.start < range.end).then_some(range)
}

/// The vault that is made by itself.
const DEFAULT_VAULT: &str = "home";

async fn write(
    State(api): State<Api>,
    actor: Actor,
    Path((vault, path)): Path<(String, String)>,
    body: Body,
) -> Result<Json<FileRow>, ApiError> {
    let renter = &known(&api)?.acting(actor.user);
    let mut source = BodyFile {
        path: PathBuf::from(&path),
        left: Bytes::new(),
        body: body.into_data_stream().boxed(),
    };
    // As the command line's put: a mistyped name must not become a vault.
    let (modified, executable, create_vault) = (None, false, vault == DEFAULT_VAULT);
    let request = PutStreamRequest { vault, create_vault, path, modified, executable };
    let stored = renter.put_stream(request, &mut source, &Silent).await;
    changed(renter, stored).await.map(Json)
}

/// A request's body as a file that is read once.
struct BodyFile {
    path: PathBuf,
    left: Bytes,
    body: BoxStream<'static, Result<Bytes, axum::Error>>,
}

#[async_trait]
impl ReadFile for BodyFile {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        while self.left.is_empty() {
            match self.body.next().await {
                Some(Ok(bytes)) => self.left = bytes,
                Some(Err(error)) => {
                    return Err(FileError {
                        action: "receive",
                        path: self.path.clone(),
                        reason: error.to_string(),
                    });
                }
                None => return Ok(0),
            }
        }
        let count = self.left.len().min(buffer.len());
        self.left.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(parse_range("bytes=0-0", 10), Some(0..1));
        assert_eq!(parse_range("bytes=2-", 10), Some(2..10));
        assert_eq!(parse_range("bytes=-3", 10), Some(7..10));
        assert_eq!(parse_range("bytes=-30", 10), Some(0..10));
        assert_eq!(parse_range("bytes=4-99", 10), Some(4..10));
        for bad in ["bytes=10-", "bytes=5-4", "bytes=a-b", "lines=0-1", "bytes=-0", "bytes=1"] {
            assert_eq!(parse_range(bad, 10), None, "{bad}");
        }
    }
}
