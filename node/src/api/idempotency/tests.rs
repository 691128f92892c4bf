//! Keys as a client meets them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::routing::post;
use reqwest::header::HeaderMap;
use samara_protocol::units::ChainTime;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::access::UserId;
use crate::api::extract::Json;
use crate::api::stream::WithoutClient;
use crate::tls;

/// What the stub of a route does, and how often it did.
#[derive(Clone, Default)]
struct Stub {
    made: Arc<AtomicUsize>,
    began: Arc<Notify>,
    go_on: Arc<Notify>,
    /// Whether the next client goes away as soon as its request has begun.
    leaves: Arc<AtomicBool>,
}

impl Stub {
    fn count(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Makes something, or fails with the code that the body has.
    async fn make(&self, body: Value) -> Result<Response, ApiError> {
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        self.began.notify_one();
        if body["wait"] == true {
            self.go_on.notified().await;
        }
        assert!(body["panic"] != true, "a defect");
        if let Some(code) = body["fail"].as_str() {
            return Err(ApiError::new(code, "it fails"));
        }
        let place = [(header::LOCATION, format!("/v1/vaults/{number}"))];
        Ok((StatusCode::CREATED, place, Json(json!({ "number": number }))).into_response())
    }
}

/// A served API with keys, of which one may be started after another on one folder.
struct Served {
    address: SocketAddr,
    stub: Stub,
    server: tokio::task::JoinHandle<()>,
    operations: Operations,
    stop: CancellationToken,
}

impl Served {
    async fn start(folder: &Path) -> Self {
        let stub = Stub::default();
        let stop = CancellationToken::new();
        let operations = Operations::new(stop.clone());
        let requests = Requests::open(&folder.join("requests.redb")).unwrap();
        let clock: Clock = Arc::new(|| ChainTime(1_000));
        let keys = Keys::new(requests, Zeroizing::new([7; 32]), clock);
        let (made, streamed, all) = (stub.clone(), stub.clone(), operations.clone());
        let leaves = Arc::clone(&stub.leaves);
        let router = Router::new()
            .route("/v1/vaults", post(async move |Json(body): Json<Value>| made.make(body).await))
            .route(
                "/v1/drills",
                post(async move |Json(body): Json<Value>| {
                    all.respond(WithoutClient::GoesOn, move |_| async move {
                        streamed.make(body).await.map(|_| json!({ "drilled": streamed.count() }))
                    })
                }),
            )
            .route("/v1/tokens", post(async || "a secret"))
            .layer(axum::middleware::from_fn_with_state((Some(keys), operations.clone()), once))
            .layer(axum::middleware::from_fn(async |mut request: Request, next: Next| {
                let user = request.headers().get("user").is_some().then_some(UserId([1; 8]));
                request.extensions_mut().insert(Actor { user, ..Actor::local() });
                next.run(request).await
            }))
            .layer(axum::middleware::from_fn_with_state(leaves, answered));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, stub, server, operations, stop }
    }

    async fn post(&self, path: &str, key: &str, body: Value) -> (u16, HeaderMap, Value) {
        self.post_as(None, path, key, body).await
    }

    async fn post_as(
        &self,
        user: Option<&str>,
        path: &str,
        key: &str,
        body: Value,
    ) -> (u16, HeaderMap, Value) {
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls::nobody());
        let request = http.build().unwrap().post(format!("http://{}{path}", self.address));
        let request = request.header(KEY.as_str(), key).json(&body);
        let request = user.into_iter().fold(request, |request, user| request.header("user", user));
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Ends it as a crash does: nothing that is under way comes to an end.
    async fn crash(self) {
        self.server.abort();
        self.stop.cancel();
        self.operations.ended().await;
        let _ = self.server.await;
    }
}

/// Answers, if the client does not go away first.
async fn answered(State(leaves): State<Arc<AtomicBool>>, request: Request, next: Next) -> Response {
    if !leaves.swap(false, Ordering::SeqCst) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap();
    let mut answer = Box::pin(next.run(Request::from_parts(parts, body.into())));
    assert!(futures::poll!(answer.as_mut()).is_pending());
    StatusCode::NO_CONTENT.into_response()
}

fn code(answer: &(u16, HeaderMap, Value)) -> (u16, &str) {
    (answer.0, answer.2["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn the_same_twice_is_done_once_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path()).await;
    let body = json!({ "name": "a" });
    let (status, headers, made) = served.post("/v1/vaults", "k", body.clone()).await;
    assert_eq!((status, &made), (201, &json!({ "number": 1 })));
    assert!(!headers.contains_key("idempotency-replayed"));
    for restarted in [false, true] {
        if restarted {
            served.crash().await;
            served = Served::start(folder.path()).await;
        }
        let (status, headers, again) = served.post("/v1/vaults", "k", body.clone()).await;
        assert_eq!((status, &again, served.stub.count()), (201, &made, usize::from(!restarted)));
        assert_eq!(headers["idempotency-replayed"], "true");
        assert_eq!(headers["location"], "/v1/vaults/1");
        assert_eq!(headers["content-type"], "application/json");
    }
    let other = served.post("/v1/vaults", "k", json!({ "name": "b" })).await;
    assert_eq!(code(&other), (422, "key_reused"));
    assert_eq!(code(&served.post("/v1/drills", "k", body.clone()).await), (422, "key_reused"));
    assert_eq!(served.post("/v1/vaults", "l", body.clone()).await.0, 201);
    // Another user's key is another key.
    assert_eq!(served.post_as(Some("1"), "/v1/vaults", "k", body).await.2["number"], 2);
}

#[tokio::test]
async fn refusals_are_kept_and_failures_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    for (key, fails, status, count) in
        [("a", "exists", 409, 1), ("b", "store_failed", 500, 3), ("c", "no_quorum", 503, 4)]
    {
        let body = json!({ "fail": fails });
        assert_eq!(code(&served.post("/v1/vaults", key, body.clone()).await), (status, fails));
        let again = served.post("/v1/vaults", key, body).await;
        let expected = if fails == "no_quorum" { (409, "key_in_doubt") } else { (status, fails) };
        assert_eq!((code(&again), served.stub.count()), (expected, count));
    }
}

#[tokio::test]
async fn what_is_under_way_is_in_use_and_what_a_crash_has_cut_is_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let served = Arc::new(Served::start(folder.path()).await);
    let body = json!({ "wait": true });
    let first = {
        let (served, body) = (Arc::clone(&served), body.clone());
        tokio::spawn(async move { served.post("/v1/vaults", "k", body).await })
    };
    served.stub.began.notified().await;
    assert_eq!(code(&served.post("/v1/vaults", "k", body.clone()).await), (409, "key_in_use"));
    // Without its client it goes on.
    first.abort();
    let _ = first.await;
    assert_eq!(code(&served.post("/v1/vaults", "k", body.clone()).await), (409, "key_in_use"));
    let Ok(served) = Arc::try_unwrap(served) else { panic!("somebody else has it") };
    served.crash().await;
    let served = Served::start(folder.path()).await;
    let answer = served.post("/v1/vaults", "k", body).await;
    assert_eq!(code(&answer), (409, "key_in_doubt"));
    assert!(answer.2["hint"].as_str().is_some_and(|hint| hint.contains("list")));
    assert_eq!(served.stub.count(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_while_its_key_is_noted_leaves_no_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    served.stub.leaves.store(true, Ordering::SeqCst);
    assert_eq!(served.post("/v1/vaults", "k", json!({})).await.0, 204);
    served.operations.ended().await;
    let (status, headers, made) = served.post("/v1/vaults", "k", json!({})).await;
    assert_eq!((status, made, served.stub.count()), (201, json!({ "number": 1 }), 1));
    assert_eq!(headers["idempotency-replayed"], "true");
}

#[tokio::test]
async fn a_defect_is_not_taken_for_the_stop_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let body = json!({ "panic": true });
    assert_eq!(code(&served.post("/v1/vaults", "k", body.clone()).await), (500, "internal"));
    assert_eq!(code(&served.post("/v1/vaults", "k", body).await), (409, "key_in_doubt"));
}

#[tokio::test]
async fn of_a_stream_the_end_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let expected = json!({ "message_type": "result", "drilled": 1 });
    for replayed in [false, true] {
        let (status, headers, line) = served.post("/v1/drills", "k", json!({})).await;
        assert_eq!((status, &line), (200, &expected));
        assert_eq!(headers["content-type"], NDJSON);
        assert_eq!(headers.contains_key("idempotency-replayed"), replayed);
    }
    let failing = json!({ "fail": "store_failed" });
    for _ in 0..2 {
        let (_, headers, line) = served.post("/v1/drills", "l", failing.clone()).await;
        assert_eq!(line["code"], "store_failed");
        assert!(!headers.contains_key("idempotency-replayed"));
    }
    assert_eq!(served.stub.count(), 3);
}

#[tokio::test]
async fn odd_keys_and_other_routes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    for odd in ["", "a b", &"k".repeat(129)] {
        assert_eq!(code(&served.post("/v1/vaults", odd, json!({})).await), (400, "bad_key"));
    }
    assert_eq!(served.post("/v1/vaults", &"k".repeat(128), json!({})).await.0, 201);
    assert_eq!(code(&served.post("/v1/tokens", "k", json!({})).await), (400, "key_not_taken"));
}

#[test]
fn every_route_that_takes_a_key_is_one_and_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let section = docs.split("\n## Idempotency keys\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let routes = crate::api::roles::tests::all();
    for path in TAKE {
        assert!(routes.iter().any(|(method, route, _)| (*method, route) == ("POST", path)));
        assert!(section.contains(&format!("`POST {path}`")), "{path}");
    }
    assert_eq!(section.matches("`POST ").count(), TAKE.len());
    assert!(!takes(&Method::POST, Some("/v1/tokens")) && !takes(&Method::POST, Some("/v1/login")));
}
