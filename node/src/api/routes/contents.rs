//! The files of archives, with ranges.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use samara_renter::Renter;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::objects::parse_range;
use super::{failed, known};
use crate::api::error::ApiError;
use crate::api::extract::Path;
use crate::api::openapi::{Octets, answers};
use crate::api::state::Api;

/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new().api_route(
        "/v1/backups/{sid}/content",
        get_with(content, |operation| {
            answers::<200, Octets>("Downloads an archive, or a range of it")(operation)
                .response::<206, Octets>()
        }),
    )
}

async fn content(
    State(api): State<Api>,
    Path(sid): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    serve(known(&api)?, &sid, &headers).await
}

/// Streams the file of a whole archive, or the range of it that is asked for.
pub(super) async fn serve(
    renter: &Renter,
    sid: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let (path, size, hash) = renter.archive_file(sid).map_err(failed)?;
    let unreadable = |error: std::io::Error| {
        ApiError::new(
            "file_failed",
            format!("the archive {} cannot be read: {error}", path.display()),
        )
    };
    let mut file = tokio::fs::File::open(&path).await.map_err(unreadable)?;
    let wanted = match headers.get(header::RANGE) {
        Some(value) => {
            let range = value.to_str().ok().and_then(|text| parse_range(text, size));
            let outside = || format!("the range does not lie in the archive's {size} bytes");
            Some(range.ok_or_else(|| ApiError::new("bad_range", outside()))?)
        }
        None => None,
    };
    let range = wanted.clone().unwrap_or(0..size);
    file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(unreadable)?;
    let length = range.end - range.start;
    let mut answer =
        Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE)).into_response();
    let (ending, kind) = match path.extension().is_some_and(|ending| ending == "age") {
        true => ("zip.age", "application/octet-stream"),
        false => ("zip", "application/zip"),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, text) in [
        // The name is the node's own: nothing of the vault's is in a header.
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"samara-{sid}.{ending}\"")),
        (header::ETAG, format!("\"{hash}\"")),
    ] {
        if let Ok(value) = text.parse() {
            headers.insert(name, value);
        }
    }
    if let Some(range) = wanted {
        if let Ok(value) = format!("bytes {}-{}/{size}", range.start, range.end - 1).parse() {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}
