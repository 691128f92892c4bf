//! Who may use the API: whoever can read the token in the data folder.

use std::net::SocketAddr;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::data::write_private;

/// Name of the file in the data folder that tells clients where the API is.
pub const FILE: &str = "api.json";

/// Where the API is and what to show it. Readable by the owner only.
#[derive(Clone, Serialize, Deserialize)]
pub struct Access {
    /// Address on this machine.
    pub address: SocketAddr,
    /// Bearer token, drawn at each start.
    pub token: String,
    /// Process that serves it.
    pub pid: u32,
}

impl Access {
    /// Access to an API of this process, with a fresh token.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn draw(address: SocketAddr) -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self { address, token: hex::encode(bytes), pid: std::process::id() })
    }

    /// Writes the file into a data folder.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, data: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        write_private(&data.join(FILE), &text)
    }

    /// Reads the file of a data folder.
    ///
    /// # Errors
    /// The system's; not found when no node has run there.
    pub fn read(data: &Path) -> std::io::Result<Self> {
        let text = std::fs::read(data.join(FILE))?;
        serde_json::from_slice(&text).map_err(std::io::Error::other)
    }
}

/// Refuses requests without the token. The comparison takes the same time wherever they differ.
pub async fn require(State(token): State<Token>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    // Hashes of equal length compare in constant time (blake3::Hash's `==`).
    let matches = shown.is_some_and(|shown| blake3::hash(shown.as_bytes()) == token.0);
    if matches {
        next.run(request).await
    } else {
        ApiError::new("unauthorized", "show the token of api.json as `Authorization: Bearer ...`")
            .into_response()
    }
}

/// Refuses requests that a browser sends to a name of somebody else's, pointed at this machine.
pub async fn by_own_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if host.or(request.uri().authority().map(|authority| authority.as_str())).is_none_or(is_own) {
        return next.run(request).await;
    }
    ApiError::new("unauthorized", "ask this API by its address or as `localhost`").into_response()
}

/// Whether a `Host` is an address or `localhost`: what no name server can point elsewhere.
fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !host.ends_with(']') => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// Digest of the token that is asked for.
#[derive(Clone, Copy)]
pub struct Token(blake3::Hash);

impl Token {
    /// Of an access.
    #[must_use]
    pub fn of(access: &Access) -> Self {
        Self(blake3::hash(access.token.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_own_names() {
        for own in ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LocalHost", "[::1]:80", "[::1]"]
        {
            assert!(is_own(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", ":80"] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_token_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        Access::draw(([127, 0, 0, 1], 1).into()).unwrap().write(folder.path()).unwrap();
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
