//! Requests that are carried out once, however often they are sent: those with an `Idempotency-Key`.
//!
//! A key is noted before the work begins, and the answer when it has ended ([`store`]). Who sends the same
//! again gets that answer. The work goes on without its client, as far as the node's stop: a client that was
//! cut off asks again for what came of it. What was under way when a node ended is in doubt: nobody can say
//! what came of it but the lists.
//!
//! Owner of the keys under way is [`Keys`]; one task carries each request.

pub mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use samara_protocol::sync::lock;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use zeroize::Zeroizing;

use super::error::ApiError;
use super::stream::{Message, NDJSON, Operations};
use crate::access::Actor;
use crate::causes;
use crate::clock::Clock;
use store::{Answer, Begun, Requests, RequestsError};

/// The header with the key.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is that of an earlier request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The routes that take a key: those that make something, but for those whose answers hold a secret, those
/// whose bodies are streamed and so are not there to be compared, and those that end with their client.
const TAKE: &[&str] = &[
    "/v1/backups",
    "/v1/drills",
    "/v1/policies",
    "/v1/policies/{name}/run",
    "/v1/restores",
    "/v1/restores/requests",
    "/v1/users",
    "/v1/vaults",
];

/// Largest body of a request with a key: that of any but a streamed one.
const MAX_BODY: usize = super::server::MAX_BODY;
/// Largest body of an answer that is kept.
const MAX_KEPT: usize = 64 << 10;
/// Requests with keys that are under way at a time.
const MAX_RUNNING: usize = 256;

/// Whether a route takes keys.
pub fn takes(method: &Method, pattern: Option<&str>) -> bool {
    method == Method::POST && pattern.is_some_and(|pattern| TAKE.contains(&pattern))
}

/// The keys of a node. A cheap clone.
#[derive(Clone)]
pub struct Keys {
    requests: Arc<Requests>,
    running: Arc<Mutex<BTreeSet<[u8; 32]>>>,
    /// Digests of bodies are under it: there are passwords among them.
    secret: Arc<Zeroizing<[u8; 32]>>,
    clock: Clock,
}

/// A key whose request is under way.
struct Running {
    keys: Keys,
    key: [u8; 32],
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.keys.running).remove(&self.key);
    }
}

impl Keys {
    /// Keys over these requests; `secret` is the node's, and the same after a restart.
    #[must_use]
    pub fn new(requests: Requests, secret: Zeroizing<[u8; 32]>, clock: Clock) -> Self {
        let running = Arc::default();
        Self { requests: Arc::new(requests), running, secret: Arc::new(secret), clock }
    }

    /// Marks a key as under way.
    fn enter(&self, key: [u8; 32]) -> Result<Running, ApiError> {
        let mut running = lock(&self.running);
        if running.len() >= MAX_RUNNING {
            let message = format!("{MAX_RUNNING} requests with keys are under way");
            return Err(ApiError::new("busy", message));
        }
        if !running.insert(key) {
            let message = "the first request with this key is still under way";
            return Err(ApiError::new("key_in_use", message));
        }
        drop(running);
        Ok(Running { keys: self.clone(), key })
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// Does something with the requests on disk, off the runtime's threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Requests) -> Result<T, RequestsError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let requests = Arc::clone(&self.requests);
        match tokio::task::spawn_blocking(move || work(&requests)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(ApiError::new("store_failed", causes::with_causes(&error))),
            Err(_) => Err(ApiError::new("stopped", "the node stops")),
        }
    }

    /// Keeps what came of a request, or forgets it.
    async fn settle(&self, number: u64, outcome: Outcome) {
        let settled = self.on_disk(move |requests| match outcome {
            Outcome::Kept(answer) => requests.keep(number, answer),
            Outcome::Forgotten => requests.forget(number),
            Outcome::InDoubt => Ok(()),
        });
        if let Err(error) = settled.await {
            // The request stays in doubt, which is safe; its client has its answer.
            tracing::warn!(%error, "what came of a request with a key is not kept");
        }
    }
}

/// What becomes of a key when its request has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The same request is answered so from now on.
    Kept(Answer),
    /// The same request is tried again.
    Forgotten,
    /// What failed may have been done all the same, or will be.
    InDoubt,
}

impl Outcome {
    /// That of an error by its code and status.
    fn of_error(code: &str, status: StatusCode, answer: Answer) -> Self {
        match code {
            // The change goes through by itself later, or after the next start.
            "no_quorum" | "stopped" => Self::InDoubt,
            _ if status.is_server_error() => Self::Forgotten,
            _ => Self::Kept(answer),
        }
    }
}

/// Carries a request with a key out once. Stands behind `access::require`.
pub async fn once(
    State((keys, operations)): State<(Option<Keys>, Operations)>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(&KEY) {
        return next.run(request).await;
    }
    let answer = match checked(&request) {
        // Without a renter nothing is made: the route says so.
        Ok(key) => match keys {
            Some(keys) => keyed(keys, &operations, key, request, next).await,
            None => return next.run(request).await,
        },
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(ApiError::into_response)
}

/// The key of a request that may have one.
fn checked(request: &Request) -> Result<Vec<u8>, ApiError> {
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if !takes(request.method(), pattern) {
        let message = "this route takes no Idempotency-Key; docs/api.md lists those that do";
        return Err(ApiError::new("key_not_taken", message));
    }
    let mut all = request.headers().get_all(&KEY).iter();
    let key = all.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let fits = (1..=128).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if !fits || all.next().is_some() {
        let message = "an Idempotency-Key is one text of 1 to 128 visible ASCII characters";
        return Err(ApiError::new("bad_key", message));
    }
    Ok(key.to_vec())
}

async fn keyed(
    keys: Keys,
    operations: &Operations,
    key: Vec<u8>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY)
        .await
        .map_err(|error| ApiError::new("invalid", causes::with_causes(&error)))?;
    let (key, digest) = (keys.digest(&[&asker(&parts), &key]), digest(&keys, &parts, &body));
    let running = keys.enter(key)?;
    let request = Request::from_parts(parts, Body::from(body));
    let (send, receive) = oneshot::channel();
    // Before the key is noted: else a client that goes away meanwhile leaves one of work that never begins.
    operations.finish(first_or_before(running, (key, digest), request, next, send));
    receive.await.map_err(|_| match operations.are_stopping() {
        true => ApiError::new("stopped", "the node stops"),
        false => ApiError::new("internal", "a defect of the program has ended this request"),
    })
}

/// Notes a key and carries its request out, or gives the answer of the one before.
async fn first_or_before(
    running: Running,
    (key, digest): ([u8; 32], [u8; 32]),
    request: Request,
    next: Next,
    client: oneshot::Sender<Response>,
) {
    let now = (running.keys.clock)();
    let begin = running.keys.on_disk(move |requests| requests.begin(key, digest, now));
    let answer = match begin.await {
        Ok(Begun::First(number)) => {
            return carry(&running, number, next.run(request).await, client).await;
        }
        Ok(Begun::Before { request, .. }) if request != digest => {
            let message = "this key was used for another request; take a new one";
            Err(ApiError::new("key_reused", message))
        }
        Ok(Begun::Before { answer: Some(answer), .. }) => replayed(answer),
        Ok(Begun::Before { answer: None, .. }) => {
            let message = "it is not known what came of the first request with this key";
            Err(ApiError::new("key_in_doubt", message))
        }
        Err(error) => Err(error),
    };
    // Who has the answer may ask again at once.
    drop(running);
    let _ = client.send(answer.unwrap_or_else(ApiError::into_response));
}

/// Who asks: the user, else the token, else the local administrator.
fn asker(parts: &request::Parts) -> Vec<u8> {
    let actor = parts.extensions.get::<Actor>();
    match actor.map(|actor| (actor.user, actor.token)) {
        Some((Some(user), _)) => format!("user {user}").into_bytes(),
        Some((None, Some(token))) => format!("token {token}").into_bytes(),
        _ => b"local".to_vec(),
    }
}

fn digest(keys: &Keys, parts: &request::Parts, body: &[u8]) -> [u8; 32] {
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    keys.digest(&[parts.method.as_str().as_bytes(), path.as_bytes(), body])
}

/// Hands an answer to the client, if it is still there, once it is kept.
async fn carry(
    running: &Running,
    number: u64,
    answer: Response,
    client: oneshot::Sender<Response>,
) {
    let (parts, body) = answer.into_parts();
    let kept = Answer {
        status: parts.status.as_u16(),
        location: text(&parts.headers, header::LOCATION),
        content_type: text(&parts.headers, header::CONTENT_TYPE).unwrap_or_default(),
        body: None,
    };
    if kept.content_type == NDJSON {
        return stream(running, number, (parts, body), kept, client).await;
    }
    // It is a handler's, and as large as that has made it.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else { return };
    let code = serde_json::from_slice::<ApiError>(&bytes).map(|error| error.code);
    let answer = Answer { body: kept_body(&bytes), ..kept };
    let outcome = if parts.status.is_success() {
        Outcome::Kept(answer)
    } else {
        Outcome::of_error(&code.unwrap_or_default(), parts.status, answer)
    };
    running.keys.settle(number, outcome).await;
    let _ = client.send(Response::from_parts(parts, Body::from(bytes)));
}

/// The same for a stream of lines, of which the last is kept.
async fn stream(
    running: &Running,
    number: u64,
    (parts, body): (axum::http::response::Parts, Body),
    kept: Answer,
    client: oneshot::Sender<Response>,
) {
    // The lines that a client may be behind are bounded where they are made.
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(1);
    let lines = Body::from_stream(ReceiverStream::new(receiver));
    let _ = client.send(Response::from_parts(parts, lines));
    let mut pieces = body.into_data_stream();
    while let Some(Ok(line)) = pieces.next().await {
        let outcome = match serde_json::from_slice(&line) {
            Ok(Message::Result(_)) => {
                Outcome::Kept(Answer { body: kept_body(&line), ..kept.clone() })
            }
            Ok(Message::Error(error)) => {
                let answer = Answer { body: kept_body(&line), ..kept.clone() };
                Outcome::of_error(&error.code, error.status(), answer)
            }
            Ok(Message::Progress(_)) | Err(_) => {
                let _ = sender.send(Ok(line)).await;
                continue;
            }
        };
        running.keys.settle(number, outcome).await;
        let _ = sender.send(Ok(line)).await;
    }
}

fn kept_body(bytes: &[u8]) -> Option<Vec<u8>> {
    (bytes.len() <= MAX_KEPT).then(|| bytes.to_vec())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// An earlier answer, given again.
fn replayed(answer: Answer) -> Result<Response, ApiError> {
    let Some(body) = answer.body else {
        let message =
            "the first request with this key was carried out; its answer was too large to be kept";
        return Err(ApiError::new("key_in_doubt", message));
    };
    let mut response = Body::from(body).into_response();
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let location = answer.location.map(|text| (header::LOCATION, text));
    let said = [(header::CONTENT_TYPE, answer.content_type), (REPLAYED, "true".to_owned())];
    for (name, text) in said.into_iter().chain(location) {
        if let Ok(value) = text.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
