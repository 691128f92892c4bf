//! A URL that was checked, and the addresses that stand for it.
//!
//! The addresses that are checked are the ones that are dialled: a client is given them, and asks no name
//! server itself ([`Checked::client`]). So a name that is resolved to something else a moment later
//! changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;

use super::address::{Network, judge};
use super::error::FetchError;

/// Longest URL.
const MAX_URL: usize = 8 << 10;
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses that are known for the name, with this port.
    ///
    /// # Errors
    /// The system's.
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>>;
}

/// This machine's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// A URL with http or https, a host, and nobody's password.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Url);

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.server()).finish()
    }
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`FetchError::Malformed`], [`FetchError::Scheme`], [`FetchError::Credentials`].
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        if text.len() > MAX_URL {
            return Err(FetchError::Malformed(format!("longer than {MAX_URL} bytes")));
        }
        let url = Url::parse(text).map_err(|error| FetchError::Malformed(error.to_string()))?;
        Self::check(url)
    }

    fn check(mut url: Url) -> Result<Self, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Scheme(url.scheme().chars().take(32).collect()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Credentials);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(FetchError::Malformed("it names no server".to_owned()));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Where an answer's `Location` leads from here.
    ///
    /// # Errors
    /// As [`Target::parse`], [`FetchError::BadRedirect`], [`FetchError::Downgrade`].
    pub fn join(&self, location: &str) -> Result<Self, FetchError> {
        let next = self.0.join(location).map_err(|_| FetchError::BadRedirect(self.server()))?;
        if next.as_str().len() > MAX_URL {
            return Err(FetchError::BadRedirect(self.server()));
        }
        let next = Self::check(next)?;
        if self.0.scheme() == "https" && next.0.scheme() != "https" {
            return Err(FetchError::Downgrade(self.server()));
        }
        Ok(next)
    }

    /// Scheme, host and port: what may be told of a URL.
    #[must_use]
    pub fn server(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The URL.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    fn host(&self) -> &str {
        // Never none: checked when it was made.
        self.0.host_str().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Finds the target's addresses and checks each. One that must not be dialled is enough to refuse all.
    ///
    /// # Errors
    /// [`FetchError::Resolve`], [`FetchError::Forbidden`].
    pub async fn resolve(
        &self,
        resolver: &dyn Resolver,
        allowed: &[Network],
    ) -> Result<Checked, FetchError> {
        let host = self.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let addresses = match bare.parse::<IpAddr>() {
            // The URL's parser has read decimal, octal and short forms already.
            Ok(address) => vec![SocketAddr::new(address, self.port())],
            Err(_) => {
                let failed = |source| FetchError::Resolve { host: host.to_owned(), source };
                let found = resolver.resolve(host, self.port()).await.map_err(failed)?;
                if found.is_empty() {
                    return Err(failed(std::io::Error::other("it has no address")));
                }
                found
            }
        };
        for address in &addresses {
            judge(address.ip(), allowed).map_err(|kind| FetchError::Forbidden {
                host: host.to_owned(),
                address: address.ip(),
                kind,
            })?;
        }
        let addresses = addresses.into_iter().take(MAX_ADDRESSES);
        // The port is the URL's, whatever a resolver says.
        let addresses = addresses.map(|address| SocketAddr::new(address.ip(), self.port()));
        Ok(Checked { target: self.clone(), addresses: addresses.collect() })
    }
}

/// A target and its addresses, all of which may be dialled.
#[derive(Clone, Debug)]
pub struct Checked {
    target: Target,
    addresses: Arc<[SocketAddr]>,
}

impl Checked {
    /// The target.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// A client that reaches these addresses and no others. It follows no redirect and uses no proxy.
    ///
    /// # Errors
    /// [`FetchError::Protocol`] when the parts of the client do not fit; they do.
    pub fn client(&self, tls: ClientConfig, connect: Duration) -> Result<Client, FetchError> {
        let pinned =
            Pinned { host: self.target.host().to_owned(), addresses: Arc::clone(&self.addresses) };
        Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .dns_resolver(pinned)
            .tls_backend_preconfigured(tls)
            .connect_timeout(connect)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("samara/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| FetchError::Protocol {
                server: self.target.server(),
                reason: crate::causes::with_causes(&error.without_url()),
            })
    }
}

/// Knows the addresses of one name.
struct Pinned {
    host: String,
    addresses: Arc<[SocketAddr]>,
}

impl Resolve for Pinned {
    fn resolve(&self, name: Name) -> Resolving {
        let known = name.as_str().eq_ignore_ascii_case(&self.host);
        let addresses: Vec<SocketAddr> = if known { self.addresses.to_vec() } else { Vec::new() };
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if it is asked: addresses need no name server.
    struct Nobody;

    #[async_trait]
    impl Resolver for Nobody {
        async fn resolve(&self, host: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
            Err(std::io::Error::other(format!("asked for {host}")))
        }
    }

    /// Always the same addresses.
    struct Fixed(Vec<&'static str>);

    #[async_trait]
    impl Resolver for Fixed {
        async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
            Ok(self.0.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect())
        }
    }

    #[test]
    fn only_plain_web_addresses_are_targets() {
        for text in ["https://example.org/a?b#c", "http://1.2.3.4:8080", "HTTPS://EXAMPLE.org"] {
            Target::parse(text).unwrap();
        }
        for text in ["file:///etc/passwd", "ftp://a/b", "gopher://a", "data:,x", "javascript:1"] {
            assert!(matches!(Target::parse(text), Err(FetchError::Scheme(_))), "{text}");
        }
        for text in ["http://me@example.org", "https://me:secret@example.org", "http://:x@a"] {
            assert!(matches!(Target::parse(text), Err(FetchError::Credentials)), "{text}");
        }
        for text in ["", "example.org", "http://", "https://?", "//example.org", "http://[::1"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
        assert!(Target::parse(&format!("http://a/{}", "x".repeat(MAX_URL))).is_err());
    }

    #[test]
    fn neither_path_nor_query_is_told() {
        let target = Target::parse("https://example.org:8443/secret?token=secret").unwrap();
        assert_eq!(target.server(), "https://example.org:8443");
        assert!(!format!("{target:?}").contains("secret"));
    }

    #[tokio::test]
    async fn addresses_are_known_in_every_spelling() {
        for text in [
            "http://127.0.0.1",
            "http://2130706433",
            "http://0x7f000001",
            "http://0177.0.0.1",
            "http://0x7f.1",
            "http://127.1",
            "http://127.0.0.1.",
            "http://①②⑦.⓪.⓪.①",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
            "http://[::ffff:7f00:1]",
            "http://[64:ff9b::7f00:1]",
            "http://[2002:7f00:1::]",
            "http://%31%32%37.0.0.1",
        ] {
            let refused = Target::parse(text).unwrap().resolve(&Nobody, &[]).await;
            let loopback = |kind: &str| kind == "loopback";
            assert!(
                matches!(&refused, Err(FetchError::Forbidden { kind, .. }) if loopback(kind)),
                "{text}: {refused:?}"
            );
        }
        let public = Target::parse("http://134744072/").unwrap().resolve(&Nobody, &[]).await;
        assert_eq!(public.unwrap().addresses[..], ["8.8.8.8:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn one_address_that_must_not_be_dialled_is_enough() {
        let target = Target::parse("https://example.org").unwrap();
        let good = target.resolve(&Fixed(vec!["1.1.1.1", "2606:4700::1111"]), &[]).await.unwrap();
        assert_eq!(good.addresses.len(), 2);
        let mixed = target.resolve(&Fixed(vec!["1.1.1.1", "10.0.0.1"]), &[]).await;
        assert!(matches!(mixed, Err(FetchError::Forbidden { kind: "private", .. })));
        assert!(matches!(
            target.resolve(&Fixed(Vec::new()), &[]).await,
            Err(FetchError::Resolve { .. })
        ));
    }

    #[test]
    fn redirects_are_targets_themselves() {
        let from = Target::parse("https://example.org/a/b").unwrap();
        assert_eq!(from.join("../c").unwrap().url().as_str(), "https://example.org/c");
        assert_eq!(from.join("//b.example/").unwrap().server(), "https://b.example");
        assert!(matches!(from.join("http://example.org/"), Err(FetchError::Downgrade(_))));
        assert!(matches!(from.join("file:///etc/passwd"), Err(FetchError::Scheme(_))));
        assert!(matches!(from.join("https://a:b@c/"), Err(FetchError::Credentials)));
        assert!(matches!(from.join("https://["), Err(FetchError::BadRedirect(_))));
        let plain = Target::parse("http://example.org").unwrap();
        assert_eq!(plain.join("https://a/").unwrap().server(), "https://a");
    }
}
