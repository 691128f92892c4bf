//! Mail and webhooks, and what makes sense of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::SettingsError;
use crate::fetch::{FetchError, Target};
use crate::notify::notice::Kind;
use crate::tls::{ExtraRoots, TlsError};

/// Most recipients of mail.
pub const MAX_RECIPIENTS: usize = 10;
/// Longest password or secret in bytes.
const MAX_SECRET: usize = 1_024;
/// Shortest secret that a webhook's bodies are signed with, in bytes.
const MIN_WEBHOOK_SECRET: usize = 16;
/// Longest address, server or user, in bytes.
const MAX_LINE: usize = 320;
/// Longest root certificate that is kept, in bytes of PEM.
const MAX_ROOT: usize = 16 << 10;

/// A password or secret. Never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Its text, for the one who must show it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How a connection to a mail server is kept from others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// TLS from the first byte (port 465)
    Tls,
    /// TLS after STARTTLS, which is required (port 587)
    Starttls,
    /// Not at all; only for a server on this machine (port 25)
    None,
}

impl Security {
    /// The port that is usual.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::Starttls => 587,
            Self::None => 25,
        }
    }
}

/// How mail is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Name or address of the server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from others.
    pub security: Security,
    /// Who logs in, if anybody.
    pub login: Option<Login>,
    /// Sender, as in `Samara <samara@example.org>`.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// A certificate that is trusted beside the system's, as PEM.
    pub root_certificate: Option<String>,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("server", &self.server)
            .field("port", &self.port)
            .field("security", &self.security)
            .finish_non_exhaustive()
    }
}

impl Mail {
    /// Whether it can be used.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`].
    pub fn check(&self) -> Result<(), SettingsError> {
        check_line("server", &self.server)?;
        if self.server.is_empty() || self.server.contains([' ', '/', '@']) {
            return Err(SettingsError::invalid(
                "server",
                "write a name or an address, as in mail.example.org",
            ));
        }
        if self.port == 0 {
            return Err(SettingsError::invalid("port", "there is no port 0"));
        }
        let address = self.server.parse::<IpAddr>();
        if self.security == Security::None && address.is_ok_and(|address| !address.is_loopback()) {
            return Err(SettingsError::invalid("security", ONLY_LOOPBACK));
        }
        if let Some(login) = &self.login {
            check_line("user", &login.user)?;
            check_secret("password", &login.password, 1)?;
        }
        mailbox("from", &self.from)?;
        if self.to.is_empty() || self.to.len() > MAX_RECIPIENTS {
            return Err(SettingsError::invalid(
                "to",
                format!("name one recipient, and at most {MAX_RECIPIENTS}"),
            ));
        }
        for recipient in &self.to {
            mailbox("to", recipient)?;
        }
        self.roots()
            .map_err(|error| SettingsError::invalid("root_certificate", error.to_string()))?;
        if self.root_certificate.as_ref().is_some_and(|pem| pem.len() > MAX_ROOT) {
            return Err(SettingsError::invalid(
                "root_certificate",
                format!("it has more than {MAX_ROOT} bytes"),
            ));
        }
        Ok(())
    }

    /// The certificates that are trusted beside the system's.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn roots(&self) -> Result<ExtraRoots, TlsError> {
        self.root_certificate.as_deref().map_or(Ok(ExtraRoots::default()), ExtraRoots::parse)
    }
}

/// Why a connection without TLS goes nowhere else.
pub const ONLY_LOOPBACK: &str =
    "a connection without TLS goes to this machine only: use tls or starttls";

/// An address of mail, with or without a name.
///
/// # Errors
/// [`SettingsError::Invalid`].
pub fn mailbox(field: &'static str, text: &str) -> Result<Mailbox, SettingsError> {
    check_line(field, text)?;
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        SettingsError::invalid(
            field,
            format!("'{shown}' is no address of mail: write it as in me@example.org"),
        )
    })
}

fn check_line(field: &'static str, text: &str) -> Result<(), SettingsError> {
    if text.len() > MAX_LINE {
        return Err(SettingsError::invalid(field, format!("it has more than {MAX_LINE} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(SettingsError::invalid(field, "it has a control character"));
    }
    Ok(())
}

fn check_secret(field: &'static str, secret: &Secret, least: usize) -> Result<(), SettingsError> {
    let length = secret.reveal().len();
    if length < least || length > MAX_SECRET {
        return Err(SettingsError::invalid(
            field,
            format!("it must have {least} to {MAX_SECRET} bytes"),
        ));
    }
    if secret.reveal().contains(['\r', '\n', '\0']) {
        return Err(SettingsError::invalid(field, "it has the end of a line in it"));
    }
    Ok(())
}

/// Names a webhook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookId(pub [u8; 8]);

impl WebhookId {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookId({self})")
    }
}

impl From<WebhookId> for String {
    fn from(id: WebhookId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for WebhookId {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A server that is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub id: WebhookId,
    /// Where it is told. May hold a secret itself.
    pub url: String,
    /// What bodies are signed with.
    pub secret: Secret,
    /// Kinds that it is told; all if empty.
    pub kinds: BTreeSet<Kind>,
    /// Whether it is told nothing: switched off, or gone (status 410).
    pub disabled: bool,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            .field("server", &self.server())
            .field("kinds", &self.kinds)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// Whether it can be used.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`].
    pub fn check(&self) -> Result<(), SettingsError> {
        Target::parse(&self.url)
            .map_err(|error: FetchError| SettingsError::invalid("url", error.to_string()))?;
        check_secret("secret", &self.secret, MIN_WEBHOOK_SECRET)
    }

    /// Scheme, host and port: what may be told of it.
    #[must_use]
    pub fn server(&self) -> String {
        Target::parse(&self.url).map_or_else(|_| String::new(), |target| target.server())
    }
}
