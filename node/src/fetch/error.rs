//! Why nothing was fetched.

use std::net::IpAddr;
use std::path::PathBuf;

use samara_renter::error::Coded;

use crate::tls::TlsError;

/// Why a URL was not fetched. Texts name the server, never the path and query of the URL: those may be
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The text is no URL.
    #[error("this is no URL ({0}): write one as in https://example.org/archive.zip")]
    Malformed(String),
    /// Neither http nor https.
    #[error("a URL with '{0}:' is not fetched: use https or http")]
    Scheme(String),
    /// A user or password in the URL.
    #[error("the URL names a user or password: leave them out, and use a link that works without")]
    Credentials,
    /// No address is known for the name.
    #[error("{host} cannot be resolved: check how it is written, and this machine's name server")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address that a URL must not lead to.
    #[error(
        "{host} is at {address}, a {kind} address: only public ones are fetched from, and networks \
         that the operator has listed in `allowed_networks` of samara.toml"
    )]
    Forbidden {
        /// The name or address in the URL.
        host: String,
        /// What it stands for.
        address: IpAddr,
        /// What kind of address that is.
        kind: &'static str,
    },
    /// Nobody answers there.
    #[error("{server} cannot be reached ({reason}): check the address, and try again later")]
    Connect {
        /// Scheme, host and port.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// It takes too long until it answers at all.
    #[error("{0} did not accept a connection in time: try again later")]
    SlowConnect(String),
    /// Nothing comes any more.
    #[error("{0} sent nothing for too long: try again later")]
    Idle(String),
    /// It takes too long altogether.
    #[error(
        "{0} is too slow: the time for one transfer is used up. Download it another way and upload it"
    )]
    TooSlow(String),
    /// More bytes than are taken.
    #[error("{server} offers {}more than the {limit} bytes that are taken: raise the limit, or choose a smaller file",
        .offered.map(|bytes| format!("{bytes} bytes, ")).unwrap_or_default())]
    TooLarge {
        /// Scheme, host and port.
        server: String,
        /// Bytes that it announced, if it did.
        offered: Option<u64>,
        /// Bytes that are taken.
        limit: u64,
    },
    /// Redirected too often.
    #[error("the URL leads from server to server more than {0} times: use the one that it ends at")]
    Redirects(usize),
    /// Redirected, and not told where to.
    #[error("{0} redirects to nowhere: use the URL of the file itself")]
    BadRedirect(String),
    /// From https to http.
    #[error(
        "{0} redirects from https to http, where anybody could change the bytes: use another URL"
    )]
    Downgrade(String),
    /// An answer other than the file.
    #[error("{server} answers with status {status}{}", hint(*.status))]
    Status {
        /// Scheme, host and port.
        server: String,
        /// HTTP status.
        status: u16,
    },
    /// Compressed for the transfer, though that was declined.
    #[error(
        "{0} sends the file compressed for transfer, which was not asked for: use another server"
    )]
    Encoded(String),
    /// The transfer was cut again and again.
    #[error("{server} cut the transfer {cuts} times ({reason}): try again later")]
    Cut {
        /// Scheme, host and port.
        server: String,
        /// How often.
        cuts: usize,
        /// What went wrong the last time.
        reason: String,
    },
    /// The answer follows no protocol.
    #[error("{server} does not answer as HTTP says ({reason})")]
    Protocol {
        /// Scheme, host and port.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// The file here cannot be made or written.
    #[error("cannot write {}: make room, or look at the folder's rights", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl FetchError {
    /// A stable word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Scheme(_) | Self::Credentials => "bad_url",
            Self::Forbidden { .. } | Self::Downgrade(_) => "forbidden_address",
            Self::TooLarge { .. } => "fetch_too_large",
            Self::File { .. } => "file_failed",
            _ => "fetch_failed",
        }
    }

    /// Whether the same again may go well.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::SlowConnect(_)
            | Self::Idle(_)
            | Self::TooSlow(_)
            | Self::Cut { .. } => true,
            Self::Status { status, .. } => matches!(*status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}

impl Coded for FetchError {
    fn code(&self) -> &'static str {
        Self::code(self)
    }
}

const fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": the link needs a login or has expired; use one that works without",
        404 | 410 => ": there is no such file; check the link, or make a new one",
        429 | 500..=599 => ": try again later",
        _ => "",
    }
}
