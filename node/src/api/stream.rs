//! Long operations as streams of JSON lines.
//!
//! Each line is one object with a `message_type`: any number of `progress`, then exactly one `result`
//! or `error`. A stream that ends without the last was cut off, and the client says so.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use samara_renter::progress::{Progress, ProgressEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::ApiError;
use super::server::GRACE;

/// The type of such a stream.
pub const NDJSON: &str = "application/x-ndjson";

/// Whether a client asks for a stream where it could also have a short answer.
#[must_use]
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with(NDJSON))
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum Message {
    /// How far the operation is.
    Progress(Value),
    /// It ended well.
    Result(Value),
    /// It failed.
    Error(ApiError),
}

/// Passes a renter's progress on; a client that reads slowly misses events, never the result.
struct LineProgress(mpsc::Sender<Message>);

impl Progress for LineProgress {
    fn report(&self, event: ProgressEvent) {
        if let Ok(value) = serde_json::to_value(&event) {
            // Full means that the client is behind: the next event tells it more than this one.
            let _ = self.0.try_send(Message::Progress(value));
        }
    }
}

/// What an operation does when its client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutClient {
    /// It stops where it is; what was acknowledged stays.
    Stops,
    /// It goes on to its end: what it does is the node's business, and only its news were the client's.
    GoesOn,
}

/// The long operations of a node. They end with it: each is dropped where it is once the node stops.
#[derive(Clone)]
pub struct Operations {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Operations {
    /// Those of a node with this token.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stop }
    }

    /// Runs an operation and streams its progress and outcome.
    pub fn respond<T, F, Fut>(&self, without_client: WithoutClient, operation: F) -> Response
    where
        T: Serialize,
        F: FnOnce(Arc<dyn Progress>) -> Fut,
        Fut: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        // 64 events are a second's worth; more would only be older news.
        let (sender, receiver) = mpsc::channel(64);
        let outcome = operation(Arc::new(LineProgress(sender.clone())));
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // A client that is too far behind sees its answer cut off.
                    let _ = sender.try_send(Message::Error(stopped()));
                }
                () = run(without_client, outcome, &sender) => {}
            }
        });
        let lines =
            ReceiverStream::new(receiver).map(|message| Ok::<_, Infallible>(line(&message)));
        ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
    }

    /// Carries work on that began with a request, whether its client stays or not. When the node stops it
    /// has a moment to end.
    pub fn finish(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let stopped = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                () = work => {}
                () = stopped => {}
            }
        });
    }

    /// Whether the node stops.
    #[must_use]
    pub fn are_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until none is left, after the node's token was cancelled.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs an operation to its end, or to that of a client without whom it stops.
async fn run<T: Serialize>(
    without_client: WithoutClient,
    outcome: impl Future<Output = Result<T, ApiError>>,
    sender: &mpsc::Sender<Message>,
) {
    let gone = async {
        match without_client {
            WithoutClient::Stops => sender.closed().await,
            WithoutClient::GoesOn => std::future::pending().await,
        }
    };
    let last = tokio::select! {
        biased;
        outcome = outcome => last(outcome),
        () = gone => return,
    };
    // A client that went away does not want it.
    let _ = sender.send(last).await;
}

fn stopped() -> ApiError {
    ApiError::new("stopped", "the node stops; what was acknowledged stays")
}

fn last<T: Serialize>(outcome: Result<T, ApiError>) -> Message {
    match outcome {
        Ok(value) => match serde_json::to_value(&value) {
            Ok(value) => Message::Result(value),
            Err(error) => Message::Error(ApiError::new("internal", error.to_string())),
        },
        Err(error) => Message::Error(error),
    }
}

fn line(message: &Message) -> Bytes {
    let mut text = serde_json::to_vec(message).unwrap_or_else(|error| {
        format!(r#"{{"message_type":"error","code":"internal","message":"{error}"}}"#).into_bytes()
    });
    text.push(b'\n');
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    /// Begins an operation that waits for `release`, loses its client, and says whether it came to an
    /// end.
    async fn ends_without_client(without_client: WithoutClient) -> bool {
        let (release, released) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let operations = Operations::new(CancellationToken::new());
        let response = operations.respond(without_client, move |_| async move {
            let _ = released.await;
            let _ = end.send(());
            Ok::<_, ApiError>(())
        });
        drop(response);
        if without_client == WithoutClient::GoesOn {
            release.send(()).unwrap();
        } else {
            // Nobody releases it: only its end closes the channel.
            std::mem::forget(release);
        }
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().is_ok()
    }

    #[tokio::test]
    async fn an_operation_whose_client_has_gone_stops_or_goes_on() {
        assert!(!ends_without_client(WithoutClient::Stops).await);
        assert!(ends_without_client(WithoutClient::GoesOn).await);
    }

    #[tokio::test]
    async fn no_operation_outlives_the_node() {
        for without_client in [WithoutClient::Stops, WithoutClient::GoesOn] {
            let stop = CancellationToken::new();
            let operations = Operations::new(stop.clone());
            let (begin, begun) = oneshot::channel();
            let (held, dropped) = oneshot::channel::<()>();
            let response = operations.respond(without_client, move |_| async move {
                let _held = held;
                begin.send(()).unwrap();
                std::future::pending::<Result<(), ApiError>>().await
            });
            begun.await.unwrap();
            stop.cancel();
            operations.ended().await;
            assert!(dropped.await.is_err());
            let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
            let said: Message = serde_json::from_slice(&body).unwrap();
            assert!(matches!(said, Message::Error(error) if error.code == "stopped"));
        }
    }
}
