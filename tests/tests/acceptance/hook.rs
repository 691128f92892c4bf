//! A webhook's receiver on a free port of this machine. It checks signatures by itself, as api.md says.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::mail::file;
use crate::network::background;
use crate::story::{Story, private};

const SECRET: &str = "a secret of this test";

/// The receiver.
pub struct Hook {
    url: String,
    posts: mpsc::Receiver<(HeaderMap, Bytes)>,
    seen: BTreeSet<String>,
}

impl Hook {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, posts) = mpsc::channel(64);
        let take = move |headers: HeaderMap, body: Bytes| {
            // A test that has ended reads nothing.
            let _ = sender.try_send((headers, body));
            std::future::ready(StatusCode::NO_CONTENT)
        };
        let router = Router::new().route("/hook", post(take));
        background(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Self { url, posts, seen: BTreeSet::new() }
    }

    /// Starts one that a renter tells everything.
    pub async fn of(story: &Story) -> Self {
        let hook = Self::start().await;
        let secret = story.path("hook-secret");
        private(&secret, SECRET);
        let from = file(&secret);
        story.ok(&["notify", "add-webhook", &hook.url, "--secret-from", &from]).await;
        hook
    }

    /// The next notice of a kind, once its signature has been checked and it is none that was seen before.
    pub async fn next(&mut self, kind: &str) -> Value {
        loop {
            let (headers, body) = self.posts.recv().await.expect("the receiver runs");
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            let signature = header("samara-signature");
            let signature = hex::decode(signature.strip_prefix("v1=").unwrap()).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
            mac.update(header("samara-timestamp").as_bytes());
            mac.update(b".");
            mac.update(&body);
            mac.verify_slice(&signature).expect("the node has signed it");
            let notice: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(notice["id"], header("samara-id").as_str());
            assert!(self.seen.insert(header("samara-id")), "{notice}");
            if notice["kind"] == kind {
                return notice;
            }
        }
    }
}
