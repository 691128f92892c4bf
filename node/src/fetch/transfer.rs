//! One transfer: redirects, limits, and going on where it was cut.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LAST_MODIFIED, LOCATION, RANGE,
};
use reqwest::{Response, StatusCode};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::address::Network;
use super::error::FetchError;
use super::sink::Sink;
use super::target::{Resolver, SystemResolver, Target};
use crate::causes;
use crate::tls::{self, ExtraRoots};

/// What a transfer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: u64,
    /// Until a name is resolved, and until a connection is there.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// For all of it.
    pub total: Duration,
    /// Redirects that are followed.
    pub redirects: usize,
    /// How often a transfer that was cut goes on.
    pub resumes: usize,
    /// Before it goes on for the first time; twice as long each time after.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 1 << 40,
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(24 * 3_600),
            redirects: 5,
            resumes: 5,
            pause: Duration::from_secs(1),
        }
    }
}

/// What was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub hash: blake3::Hash,
}

/// Told as bytes come: how many are there, and how many there will be, if the server says so.
pub type Progress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// Fetches files. A cheap clone.
#[derive(Clone)]
pub struct Fetcher {
    resolver: Arc<dyn Resolver>,
    allowed: Arc<[Network]>,
    limits: Limits,
    roots: ExtraRoots,
}

/// Fetches the file at a URL into `destination`, which must not exist; only from public addresses and
/// the networks in `allowed`. On failure, and when the future is dropped, nothing is left there.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    url: &str,
    destination: &Path,
    limits: Limits,
    allowed: &[Network],
    progress: Progress<'_>,
) -> Result<Fetched, FetchError> {
    Fetcher::new(allowed).with_limits(limits).fetch(url, destination, progress).await
}

impl Fetcher {
    /// One that dials public addresses, and those of the operator's own networks.
    #[must_use]
    pub fn new(allowed: &[Network]) -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            allowed: allowed.into(),
            limits: Limits::default(),
            roots: ExtraRoots::default(),
        }
    }

    /// With other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With certificates that are trusted beside the system's.
    #[must_use]
    pub fn with_roots(mut self, roots: ExtraRoots) -> Self {
        self.roots = roots;
        self
    }

    /// With another resolver.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// As [`fetch`].
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(
        &self,
        url: &str,
        destination: &Path,
        progress: Progress<'_>,
    ) -> Result<Fetched, FetchError> {
        let target = Target::parse(url)?;
        let tls = tls::client(&self.roots)?;
        let transfer = Transfer {
            fetcher: self,
            tls,
            progress,
            sink: Sink::create(destination)?,
            begun: false,
            expected: None,
            validator: None,
        };
        let slow = || FetchError::TooSlow(target.server());
        timeout(self.limits.total, transfer.run(&target)).await.map_err(|_| slow())?
    }
}

/// A file on its way.
struct Transfer<'a> {
    fetcher: &'a Fetcher,
    tls: ClientConfig,
    progress: Progress<'a>,
    sink: Sink,
    /// Whether a server has offered the file: from then on what goes wrong may be a cut.
    begun: bool,
    /// Length of the file, if a server has said it.
    expected: Option<u64>,
    /// What a server calls this state of the file.
    validator: Option<HeaderValue>,
}

impl Transfer<'_> {
    async fn run(mut self, target: &Target) -> Result<Fetched, FetchError> {
        let mut cuts = 0;
        loop {
            match self.attempt(target).await {
                Ok(()) => break,
                Err(error) if self.begun && error.is_retryable() => {
                    cuts += 1;
                    if cuts > self.fetcher.limits.resumes {
                        return Err(match error {
                            FetchError::Cut { server, reason, .. } => {
                                FetchError::Cut { server, cuts, reason }
                            }
                            error => error,
                        });
                    }
                    tracing::debug!(%error, cuts, bytes = self.sink.bytes(), "a transfer was cut");
                    tokio::time::sleep(pause(self.fetcher.limits.pause, cuts)).await;
                }
                Err(error) => return Err(error),
            }
        }
        let (bytes, hash) = self.sink.finish().await?;
        Ok(Fetched { bytes, hash })
    }

    /// Asks for what is missing, and takes what comes.
    async fn attempt(&mut self, start: &Target) -> Result<(), FetchError> {
        let (target, response) = self.ask(start).await?;
        self.accept(&target, &response).await?;
        self.begun = true;
        self.take(&target, response).await
    }

    /// Follows redirects to the first answer that is none.
    async fn ask(&self, start: &Target) -> Result<(Target, Response), FetchError> {
        let limits = &self.fetcher.limits;
        let mut target = start.clone();
        for _ in 0..=limits.redirects {
            let response = self.ask_once(&target).await?;
            if !is_redirect(response.status()) {
                return Ok((target, response));
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| FetchError::BadRedirect(target.server()))?;
            target = target.join(location)?;
        }
        Err(FetchError::Redirects(limits.redirects))
    }

    async fn ask_once(&self, target: &Target) -> Result<Response, FetchError> {
        let Fetcher { resolver, allowed, limits, .. } = self.fetcher;
        let slow = |_| FetchError::SlowConnect(target.server());
        let resolving = target.resolve(resolver.as_ref(), allowed);
        let checked = timeout(limits.connect, resolving).await.map_err(slow)??;
        let client = checked.client(self.tls.clone(), limits.connect)?;
        let mut request = client.get(target.url().clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(validator) = self.validator.as_ref().filter(|_| self.sink.bytes() > 0) {
            request = request.header(RANGE, format!("bytes={}-", self.sink.bytes()));
            request = request.header(IF_RANGE, validator);
        }
        let answer = timeout(limits.connect + limits.idle, request.send()).await;
        let answer = answer.map_err(|_| FetchError::Idle(target.server()))?;
        answer.map_err(|error| not_answered(target, error))
    }

    /// Whether an answer is the file, or the part of it that is missing.
    async fn accept(&mut self, target: &Target, response: &Response) -> Result<(), FetchError> {
        let server = target.server();
        let status = response.status();
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(FetchError::Encoded(server));
        }
        match status {
            StatusCode::OK => {
                self.sink.restart().await?;
                self.expected = response.content_length();
                self.validator = validator(response.headers());
            }
            StatusCode::PARTIAL_CONTENT if self.sink.bytes() > 0 => {
                if let Err(reason) = self.fits(response.headers()) {
                    return Err(self.start_over(server, reason).await?);
                }
            }
            StatusCode::PARTIAL_CONTENT => {
                let reason = "a part was sent that was not asked for".to_owned();
                return Err(FetchError::Protocol { server, reason });
            }
            StatusCode::RANGE_NOT_SATISFIABLE if self.sink.bytes() > 0 => {
                return Err(self.start_over(server, "the file has become shorter").await?);
            }
            _ => return Err(FetchError::Status { server, status: status.as_u16() }),
        }
        let limit = self.fetcher.limits.bytes;
        match self.expected {
            Some(offered) if offered > limit => {
                Err(FetchError::TooLarge { server, offered: Some(offered), limit })
            }
            _ => Ok(()),
        }
    }

    /// Whether a part goes on where this file ends.
    fn fits(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let (from, total) = text.and_then(range).ok_or("the part does not say where it lies")?;
        if from != self.sink.bytes() {
            return Err("the part lies elsewhere");
        }
        match (total, self.expected) {
            (Some(total), Some(expected)) if total != expected => Err("the file has changed"),
            _ => Ok(()),
        }
    }

    /// Forgets what was fetched: the file there is another one now.
    async fn start_over(&mut self, server: String, reason: &str) -> Result<FetchError, FetchError> {
        self.sink.restart().await?;
        self.validator = None;
        self.expected = None;
        Ok(FetchError::Cut { server, cuts: 0, reason: reason.to_owned() })
    }

    async fn take(&mut self, target: &Target, mut response: Response) -> Result<(), FetchError> {
        let limits = &self.fetcher.limits;
        let cut = |reason| FetchError::Cut { server: target.server(), cuts: 0, reason };
        (self.progress)(self.sink.bytes(), self.expected);
        loop {
            let next = timeout(limits.idle, response.chunk()).await;
            let next = next.map_err(|_| FetchError::Idle(target.server()))?;
            let Some(chunk) = next.map_err(|error| cut(told(error)))? else { break };
            if self.sink.bytes().saturating_add(chunk.len() as u64) > limits.bytes {
                let (server, limit) = (target.server(), limits.bytes);
                return Err(FetchError::TooLarge { server, offered: None, limit });
            }
            self.sink.write(&chunk).await?;
            (self.progress)(self.sink.bytes(), self.expected);
        }
        match self.expected {
            Some(expected) if expected != self.sink.bytes() => {
                Err(cut(format!("{} of {expected} bytes came", self.sink.bytes())))
            }
            _ => Ok(()),
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// What went wrong, without the URL.
fn told(error: reqwest::Error) -> String {
    causes::with_causes(&error.without_url())
}

fn not_answered(target: &Target, error: reqwest::Error) -> FetchError {
    let server = target.server();
    match error {
        error if error.is_connect() && error.is_timeout() => FetchError::SlowConnect(server),
        error if error.is_connect() || error.is_request() => {
            FetchError::Connect { server, reason: told(error) }
        }
        error => FetchError::Protocol { server, reason: told(error) },
    }
}

/// What `If-Range` may name: a strong tag, else the time of the last change.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    match headers.get(ETAG) {
        Some(_) => tag.cloned(),
        None => headers.get(LAST_MODIFIED).cloned(),
    }
}

/// Where a part begins, and how long the whole is: `bytes 7-99/100` or `bytes 7-99/*`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = span.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((from.parse().ok()?, total))
}

fn pause(first: Duration, cuts: usize) -> Duration {
    let times = 1u32 << cuts.saturating_sub(1).min(10);
    first.saturating_mul(times)
}
