//! Transfers from servers of this process that do what they are told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::{FetchError, Fetched, Fetcher, Limits, Resolver};
use crate::tls::ExtraRoots;

/// What a server does with one connection.
enum Answer {
    /// Sends this and hangs up.
    Bytes(String),
    /// Sends this and says nothing more.
    Stall(String),
}

/// A server, and the heads of the requests that it was sent.
struct TestServer {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    async fn new(answers: Vec<Answer>) -> Self {
        Self::on("127.0.0.1:0", answers, None).await
    }

    async fn on(address: &str, answers: Vec<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            let mut stalled: Vec<Box<dyn Send>> = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                let kept: Box<dyn Send> = match &tls {
                    None => answer_one(stream, &answer, &seen).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer_one(stream, &answer, &seen).await,
                        Err(_) => continue,
                    },
                };
                if matches!(answer, Answer::Stall(_)) {
                    stalled.push(kept);
                }
            }
            std::future::pending::<()>().await;
        });
        Self { address, heads }
    }

    fn url(&self) -> String {
        format!("http://{}/secret-path", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer_one(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: &Answer,
    seen: &Mutex<Vec<String>>,
) -> Box<dyn Send> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
    let (Answer::Bytes(text) | Answer::Stall(text)) = answer;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    Box::new(stream)
}

/// An answer with these header lines.
fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}\r\n{body}")
}

fn whole(body: &str) -> Answer {
    let length = format!("content-length: {}", body.len());
    Answer::Bytes(answer("200 OK", &[&length], body))
}

fn redirect(to: &str) -> Answer {
    let location = format!("location: {to}");
    Answer::Bytes(answer("302 Found", &[&location, "content-length: 0"], ""))
}

/// Answers one list of addresses after the other; the last for ever.
struct Script(Mutex<VecDeque<Vec<&'static str>>>, Mutex<usize>);

impl Script {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        let answers = answers.iter().map(|list| list.to_vec()).collect();
        Arc::new(Self(Mutex::new(answers), Mutex::new(0)))
    }

    fn asked(&self) -> usize {
        *self.1.lock().unwrap()
    }
}

#[async_trait]
impl Resolver for Script {
    async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        *self.1.lock().unwrap() += 1;
        let mut answers = self.0.lock().unwrap();
        let list = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let list = list.unwrap_or_default();
        Ok(list.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect())
    }
}

struct Place {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("fetched"), _folder: folder }
    }
}

const LIMITS: Limits = Limits {
    bytes: 1_000,
    connect: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    total: Duration::from_secs(300),
    redirects: 5,
    resumes: 5,
    pause: Duration::ZERO,
};

/// One that may dial 127.0.0.1, and nothing else that is not public.
fn fetcher() -> Fetcher {
    Fetcher::new(&["127.0.0.1/32".parse().unwrap()]).with_limits(LIMITS)
}

/// Fetches, and checks that what failed leaves nothing.
async fn fetched(fetcher: &Fetcher, url: &str) -> Result<String, FetchError> {
    let place = Place::new();
    let outcome = fetcher.fetch(url, &place.path, &|_, _| {}).await;
    match outcome {
        Ok(Fetched { bytes, hash }) => {
            let text = std::fs::read_to_string(&place.path).unwrap();
            assert_eq!((bytes, hash), (text.len() as u64, blake3::hash(text.as_bytes())));
            let mode = std::fs::metadata(&place.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            Ok(text)
        }
        Err(error) => {
            assert!(!place.path.exists(), "{error}");
            assert!(!error.to_string().contains("secret-path"), "the path is told: {error}");
            Err(error)
        }
    }
}

#[tokio::test]
async fn a_file_comes_whole_and_private() {
    let server = TestServer::new(vec![whole("hello")]).await;
    assert_eq!(fetched(&fetcher(), &server.url()).await.unwrap(), "hello");
    let head = server.heads().remove(0);
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    for header in ["referer", "cookie", "authorization", "range"] {
        assert!(!head.contains(header), "{head}");
    }
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let server = TestServer::new(vec![whole("hello")]).await;
    let place = Place::new();
    std::fs::write(&place.path, "mine").unwrap();
    let outcome = fetcher().fetch(&server.url(), &place.path, &|_, _| {}).await;
    assert!(matches!(outcome, Err(FetchError::File { .. })));
    assert_eq!(std::fs::read_to_string(&place.path).unwrap(), "mine");
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn no_connection_is_made_to_an_address_that_is_not_allowed() {
    let server = TestServer::new(vec![whole("secret")]).await;
    let refused = fetched(&Fetcher::new(&[]), &server.url()).await;
    assert!(matches!(refused, Err(FetchError::Forbidden { kind: "loopback", .. })));
    let named = format!("http://localhost:{}/file", server.address.port());
    assert!(fetched(&Fetcher::new(&[]), &named).await.is_err());
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn each_redirect_is_checked_anew() {
    for to in [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.2/",
        "http://[::ffff:a9fe:a9fe]/",
        "//0x7f000002/",
        "http://2130706434/",
    ] {
        let server = TestServer::new(vec![redirect(to)]).await;
        let refused = fetched(&fetcher(), &server.url()).await;
        assert!(matches!(refused, Err(FetchError::Forbidden { .. })), "{to}: {refused:?}");
    }
    for to in ["ftp://127.0.0.1/", "file:///etc/passwd"] {
        let server = TestServer::new(vec![redirect(to)]).await;
        let refused = fetched(&fetcher(), &server.url()).await;
        assert!(matches!(refused, Err(FetchError::Scheme(_))), "{to}: {refused:?}");
    }
    let last = TestServer::new(vec![whole("moved")]).await;
    let first = TestServer::new(vec![redirect(&last.url())]).await;
    assert_eq!(fetched(&fetcher(), &first.url()).await.unwrap(), "moved");
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let around = || redirect("/file");
    let server = TestServer::new((0..6).map(|_| around()).collect()).await;
    assert!(matches!(fetched(&fetcher(), &server.url()).await, Err(FetchError::Redirects(5))));
    assert_eq!(server.heads().len(), 6);
    let mut answers: Vec<Answer> = (0..5).map(|_| around()).collect();
    answers.push(whole("there"));
    let server = TestServer::new(answers).await;
    assert_eq!(fetched(&fetcher(), &server.url()).await.unwrap(), "there");
    let nowhere = Answer::Bytes(answer("301 Moved", &["content-length: 0"], ""));
    let server = TestServer::new(vec![nowhere]).await;
    assert!(matches!(fetched(&fetcher(), &server.url()).await, Err(FetchError::BadRedirect(_))));
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let good = TestServer::new(vec![whole("good")]).await;
    // Nobody may reach it, though it listens at the same port.
    let bad = format!("127.0.0.2:{}", good.address.port());
    let bad = TestServer::on(&bad, vec![whole("bad")], None).await;
    let script = Script::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let rebound = fetcher().with_resolver(script.clone());
    let url = format!("http://rebind.example:{}/file", good.address.port());
    assert_eq!(fetched(&rebound, &url).await.unwrap(), "good");
    assert_eq!(script.asked(), 1);
    // Asked again, it is checked again.
    assert!(matches!(fetched(&rebound, &url).await, Err(FetchError::Forbidden { .. })));
    assert!(bad.heads().is_empty());
}

#[tokio::test]
async fn too_many_bytes_are_refused_announced_or_not() {
    let announced = answer("200 OK", &["content-length: 1001"], "");
    let server = TestServer::new(vec![Answer::Stall(announced)]).await;
    let refused = fetched(&fetcher(), &server.url()).await;
    assert!(
        matches!(&refused, Err(FetchError::TooLarge { offered: Some(1_001), limit: 1_000, .. })),
        "{refused:?}"
    );
    let chunk = format!("3e9\r\n{}\r\n", "x".repeat(1_001));
    let endless = answer("200 OK", &["transfer-encoding: chunked"], &chunk);
    let server = TestServer::new(vec![Answer::Stall(endless)]).await;
    let refused = fetched(&fetcher(), &server.url()).await;
    assert!(matches!(refused, Err(FetchError::TooLarge { offered: None, .. })), "{refused:?}");
    let body = "x".repeat(1_000);
    let server = TestServer::new(vec![whole(&body)]).await;
    assert_eq!(fetched(&fetcher(), &server.url()).await.unwrap(), body);
}

/// The first `sent` of ten bytes, with a tag.
fn first(sent: usize) -> Answer {
    let headers = ["content-length: 10", "etag: \"a\""];
    Answer::Bytes(answer("200 OK", &headers, &"0123456789"[..sent]))
}

fn part(from: usize, to: usize) -> Answer {
    let range = format!("content-range: bytes {from}-9/10");
    let length = format!("content-length: {}", 10 - from);
    Answer::Bytes(answer("206 Partial", &[&range, &length], &"0123456789"[from..to]))
}

#[tokio::test]
async fn a_transfer_that_was_cut_goes_on() {
    let server = TestServer::new(vec![first(4), part(4, 7), part(7, 10)]).await;
    assert_eq!(fetched(&fetcher(), &server.url()).await.unwrap(), "0123456789");
    let heads = server.heads();
    assert!(!heads[0].contains("range"));
    assert!(heads[1].contains("range: bytes=4-\r\nif-range: \"a\"\r\n"), "{}", heads[1]);
    assert!(heads[2].contains("range: bytes=7-\r\n"), "{}", heads[2]);
}

#[tokio::test]
async fn a_file_that_has_changed_is_fetched_anew() {
    // Another file; a part that lies elsewhere; a file that is shorter now.
    let elsewhere = Answer::Bytes(answer("206 Partial", &["content-range: bytes 2-9/10"], ""));
    let longer = Answer::Bytes(answer("206 Partial", &["content-range: bytes 4-11/12"], ""));
    let shorter = Answer::Bytes(answer("416 Range", &["content-length: 0"], ""));
    for odd in [elsewhere, longer, shorter] {
        let server = TestServer::new(vec![first(4), odd, whole("new")]).await;
        assert_eq!(fetched(&fetcher(), &server.url()).await.unwrap(), "new");
        assert!(!server.heads()[2].contains("range"));
    }
    let server = TestServer::new(vec![first(4), whole("new")]).await;
    assert_eq!(fetched(&fetcher(), &server.url()).await.unwrap(), "new");
}

#[tokio::test]
async fn it_does_not_go_on_for_ever() {
    let server = TestServer::new((0..6).map(|_| first(1)).collect()).await;
    let outcome = fetched(&fetcher(), &server.url()).await;
    assert!(matches!(outcome, Err(FetchError::Cut { cuts: 6, .. })), "{outcome:?}");
}

#[tokio::test]
async fn what_is_not_the_file_is_refused() {
    let zipped = answer("200 OK", &["content-encoding: gzip", "content-length: 0"], "");
    let server = TestServer::new(vec![Answer::Bytes(zipped)]).await;
    assert!(matches!(fetched(&fetcher(), &server.url()).await, Err(FetchError::Encoded(_))));
    let missing = answer("404 Not Found", &["content-length: 0"], "");
    let server = TestServer::new(vec![Answer::Bytes(missing)]).await;
    let outcome = fetched(&fetcher(), &server.url()).await;
    assert!(matches!(outcome, Err(FetchError::Status { status: 404, .. })));
    let server = TestServer::new(vec![part(4, 10)]).await;
    assert!(matches!(fetched(&fetcher(), &server.url()).await, Err(FetchError::Protocol { .. })));
    let server = TestServer::new(vec![Answer::Bytes("220 mail ESMTP\r\n\r\n".to_owned())]).await;
    assert!(fetched(&fetcher(), &server.url()).await.is_err());
    // Nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(fetched(&fetcher(), &url).await, Err(FetchError::Connect { .. })));
}

/// Fetches from a server that stalls after some bytes; once they are there, time runs by itself.
async fn from_a_slow_server(limits: Limits) -> FetchError {
    let text = answer("200 OK", &["content-length: 10"], "0123");
    let server = TestServer::new(vec![Answer::Stall(text)]).await;
    let place = Place::new();
    let came = Arc::new(Notify::new());
    let (url, path, told) = (server.url(), place.path.clone(), Arc::clone(&came));
    let fetcher = fetcher().with_limits(limits);
    let fetching = tokio::spawn(async move {
        let progress = |bytes, total| {
            assert_eq!(total, Some(10));
            if bytes == 4 {
                told.notify_one();
            }
        };
        fetcher.fetch(&url, &path, &progress).await
    });
    came.notified().await;
    tokio::time::pause();
    let error = fetching.await.unwrap().unwrap_err();
    tokio::time::resume();
    assert!(!place.path.exists());
    error
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let idle = from_a_slow_server(Limits { resumes: 0, ..LIMITS }).await;
    assert!(matches!(idle, FetchError::Idle(_)), "{idle}");
    let total = Duration::from_secs(10);
    let slow = from_a_slow_server(Limits { total, ..LIMITS }).await;
    assert!(matches!(slow, FetchError::TooSlow(_)), "{slow}");
}

#[tokio::test]
async fn a_transfer_that_is_given_up_leaves_nothing() {
    let text = answer("200 OK", &["content-length: 10"], "0123");
    let server = TestServer::new(vec![Answer::Stall(text)]).await;
    let place = Place::new();
    let came = Notify::new();
    let progress = |bytes, _| {
        assert!(place.path.exists());
        if bytes == 4 {
            came.notify_one();
        }
    };
    let (fetcher, url) = (fetcher(), server.url());
    tokio::select! {
        outcome = fetcher.fetch(&url, &place.path, &progress) => panic!("{outcome:?}"),
        () = came.notified() => {}
    }
    assert!(!place.path.exists());
}

#[tokio::test]
async fn a_server_must_show_a_certificate_that_is_trusted() {
    let (config, root) = crate::tls::tests::server();
    let tls = TlsAcceptor::from(Arc::new(config));
    let answers = vec![whole("first"), whole("second")];
    let server = TestServer::on("127.0.0.1:0", answers, Some(tls)).await;
    let url = format!("https://localhost:{}/file", server.address.port());
    let local = fetcher().with_resolver(Script::new(&[&["127.0.0.1"]]));
    let distrusted = fetched(&local.clone().with_roots(other_root()), &url).await;
    assert!(matches!(distrusted, Err(FetchError::Connect { .. })), "{distrusted:?}");
    let trusting = local.with_roots(ExtraRoots::parse(&root).unwrap());
    assert_eq!(fetched(&trusting, &url).await.unwrap(), "second");
}

/// A root that vouches for nobody here.
fn other_root() -> ExtraRoots {
    ExtraRoots::parse(&crate::tls::tests::server().1).unwrap()
}
