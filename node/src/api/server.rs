//! The server: its router, its connections, its end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aide::axum::ApiRouter;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{self, Access};
use super::error::ApiError;
use super::idempotency::{self, Keys};
use super::routes;
use super::state::Api;
use super::stream::Operations;
use crate::access::AccessControl;

/// Largest JSON body. Object uploads stream and have no such bound.
pub(super) const MAX_BODY: usize = 1 << 20;
/// Connections at a time; further ones wait in the listening socket's queue.
const CONNECTIONS: usize = 256;
/// How long a connection may stay without a whole request head: before the first one, and between two.
const HEAD: Duration = Duration::from_secs(20);
/// How long open answers may take to end once the node stops.
pub(super) const GRACE: Duration = Duration::from_secs(2);

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
        Access::new(address, api.node().access.local().of_this_start()).write(data)?;
        if let Some(links) = &api.node().links {
            links.served_at(address);
        }
        let operations = api.operations().clone();
        let (stop, cut) = (api.node().stop.clone(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let connections = Connections {
            router: router(api),
            tasks: tasks.clone(),
            stop,
            cut: cut.clone(),
            free: Arc::new(Semaphore::new(CONNECTIONS)),
            head: HEAD,
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
    /// Anybody on this machine may connect: without a bound they take the process's files.
    free: Arc<Semaphore>,
    head: Duration,
}

impl Connections {
    async fn accept(self, mut listener: TcpListener) {
        let stop = self.stop.clone();
        while let Some(Some((stream, place))) =
            stop.run_until_cancelled(self.next(&mut listener)).await
        {
            let connection = serve(stream, self.router.clone(), self.head, self.stop.clone());
            let cut = self.cut.clone();
            self.tasks.spawn(async move {
                let _place = place;
                cut.run_until_cancelled(connection).await
            });
        }
    }

    /// The next connection, once there is room for it.
    async fn next(&self, listener: &mut TcpListener) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        // It is never closed.
        let place = Arc::clone(&self.free).acquire_owned().await.ok()?;
        // axum's `accept` waits and tries again when the system refuses.
        let (stream, _) = Listener::accept(listener).await;
        Some((stream, place))
    }
}

/// Serves one connection; once the node stops, up to the end of the request under way.
async fn serve(stream: TcpStream, router: Router, head: Duration, stop: CancellationToken) {
    // An answer's head and body are two writes: without this the second waits for the client's
    // delayed acknowledgement of the first, some 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow");
    }
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), service);
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

fn router(api: Api) -> Router {
    let access = Arc::clone(&api.node().access);
    let keys = (api.node().keys.clone(), api.operations().clone());
    let Documented { node, people, downloads } = documented();
    // Whoever has a link has all that it takes, under whatever name a proxy has.
    let downloads: Router = Router::from(downloads).with_state(api.clone());
    let protected: Router = Router::from(node)
        .with_state(api)
        .merge(Router::from(people).with_state(Arc::clone(&access)));
    guarded(protected, access, keys).merge(downloads)
}

/// All routes, with what the document says of them.
pub(super) struct Documented {
    /// Those of the node.
    pub(super) node: ApiRouter<Api>,
    /// Those of users and tokens.
    pub(super) people: ApiRouter<Arc<AccessControl>>,
    /// Those that need no token and come under any name.
    pub(super) downloads: ApiRouter<Api>,
}

pub(super) fn documented() -> Documented {
    let node = ApiRouter::new()
        .merge(routes::monitor())
        .merge(routes::node())
        .merge(routes::validators())
        .merge(routes::wallet())
        .merge(routes::renter())
        .merge(routes::vaults())
        .merge(routes::objects())
        .merge(routes::backups())
        .merge(routes::contents())
        .merge(routes::links())
        .merge(routes::restores())
        .merge(routes::policies())
        .merge(routes::drills())
        .merge(routes::recovery())
        .merge(routes::recovery_scan())
        .merge(routes::notifications());
    let people = routes::users().merge(routes::tokens());
    Documented { node, people, downloads: routes::downloads() }
}

/// Users, tokens, logins.
#[cfg(test)]
pub(super) fn of_access(access: &Arc<AccessControl>) -> Router {
    Router::from(documented().people).with_state(Arc::clone(access))
}

/// Routes behind what every request must pass.
pub(super) fn guarded(
    routes: Router,
    access: Arc<AccessControl>,
    keys: (Option<Keys>, Operations),
) -> Router {
    let protected = routes
        .method_not_allowed_fallback(|| async {
            ApiError::new("method_not_allowed", "this route does not have the method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(keys, idempotency::once))
        .layer(middleware::from_fn_with_state(access, access::require))
        .fallback(|| async { ApiError::new("not_found", "no such route; see docs/api.md") });
    protected.layer(middleware::from_fn(access::by_own_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server of so many connections at a time, and what stops it.
    async fn server(connections: usize, head: Duration) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let connections = Connections {
            router: Router::new().route("/health", axum::routing::get(|| async { "ok" })),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            cut: CancellationToken::new(),
            free: Arc::new(Semaphore::new(connections)),
            head,
        };
        tokio::spawn(connections.accept(listener));
        (address, stop)
    }

    async fn answer(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut bytes = vec![0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn idle_connections_are_ended_and_make_room() {
        let (address, stop) = server(2, Duration::from_millis(50)).await;
        // Neither says anything, nor do those who wait behind them.
        let mut idle = Vec::new();
        for _ in 0..6 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut last = TcpStream::connect(address).await.unwrap();
        assert!(answer(&mut last).await.starts_with("HTTP/1.1 200"));
        // One that was answered and asks nothing more is ended as well.
        for stream in idle.iter_mut().chain([&mut last]) {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        stop.cancel();
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_served_at_a_time() {
        let (address, stop) = server(1, Duration::from_secs(3_600)).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(answer(&mut first).await.starts_with("HTTP/1.1 200"));
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        // The first is still served, and its end is the second's turn.
        assert!(answer(&mut first).await.starts_with("HTTP/1.1 200"));
        let mut byte = [0];
        assert!(second.try_read(&mut byte).is_err());
        drop(first);
        assert_eq!(second.read(&mut byte).await.unwrap(), 1);
        stop.cancel();
    }
}
