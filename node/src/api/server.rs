//! The server: its router, its connections, its end.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{self, Access, Token};
use super::error::ApiError;
use super::routes;
use super::state::Api;
use super::stream::Operations;

/// Largest JSON body. Object uploads stream and have no such bound.
const MAX_BODY: usize = 1 << 20;
/// How long open answers may take to end once the node stops.
const GRACE: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    address: SocketAddr,
    operations: Operations,
    /// The task that accepts, and one for each connection.
    tasks: TaskTracker,
    /// Drops the connections, with whatever their requests do.
    cut: CancellationToken,
}

impl Server {
    /// Binds, writes `api.json` into the data folder, and serves until the node's token stops it.
    ///
    /// # Errors
    /// The system's, when the address is taken or the file cannot be written.
    pub async fn start(api: Api, address: SocketAddr, data: &Path) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let access = Access::draw(address).map_err(std::io::Error::other)?;
        access.write(data)?;
        let operations = api.operations().clone();
        let (stop, cut) = (api.node().stop.clone(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let connections = Connections {
            router: router(api, Token::of(&access)),
            tasks: tasks.clone(),
            stop,
            cut: cut.clone(),
        };
        tasks.spawn(connections.accept(listener));
        Ok(Self { address, operations, tasks, cut })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits a moment for open answers to end, then drops them. Once this returns, no task of the
    /// server or of an operation is left. The node's token has been cancelled before.
    pub async fn stop(self) {
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
        self.operations.ended().await;
    }
}

/// Serves connections.
struct Connections {
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Connections {
    async fn accept(self, mut listener: TcpListener) {
        // axum's `accept` waits and tries again when the system refuses.
        let stop = self.stop.clone();
        while let Some((stream, _)) =
            stop.run_until_cancelled(Listener::accept(&mut listener)).await
        {
            let connection = serve(stream, self.router.clone(), self.stop.clone());
            let cut = self.cut.clone();
            self.tasks.spawn(async move { cut.run_until_cancelled(connection).await });
        }
    }
}

/// Serves one connection; once the node stops, up to the end of the request under way.
async fn serve(stream: TcpStream, router: Router, stop: CancellationToken) {
    // An answer's head and body are two writes: without this the second waits for the client's
    // delayed acknowledgement of the first, some 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow");
    }
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the HTTP API broke");
    }
}

fn router(api: Api, token: Token) -> Router {
    let protected = Router::new()
        .merge(routes::node())
        .merge(routes::validators())
        .merge(routes::wallet())
        .merge(routes::renter())
        .merge(routes::vaults())
        .merge(routes::objects())
        .merge(routes::backups())
        .merge(routes::recovery())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(token, access::require))
        .fallback(|| async { ApiError::new("not_found", "no such route; see docs/api.md") })
        .with_state(api);
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .merge(protected)
        .layer(middleware::from_fn(access::by_own_name))
}
