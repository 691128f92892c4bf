//! What is sent where: mail, webhooks, and kinds that are switched off. Kept in the renter's journal, so
//! that it comes back from the words.
//!
//! | setting | value |
//! | --- | --- |
//! | `notify/mail` | [`Mail`] |
//! | `notify/off` | kinds that are sent nowhere |
//! | `notify/webhook/` + id in hex | [`Webhook`] |
//!
//! Each value is a byte with its version (1) and a postcard value. Invariant: passwords and secrets are in
//! these values and nowhere else; no `Debug`, log or answer shows one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use lettre::message::Mailbox;
use samara_protocol::encoding;
use samara_renter::Renter;
use samara_renter::error::Coded;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::notice::Kind;
use crate::causes;
use crate::fetch::{FetchError, Target};
use crate::tls::{ExtraRoots, TlsError};

/// What all of these settings begin with.
pub const PREFIX: &str = "notify/";
const MAIL: &str = "notify/mail";
const OFF: &str = "notify/off";
const WEBHOOK: &str = "notify/webhook/";
const VERSION: u8 = 1;

/// Most webhooks.
pub const MAX_WEBHOOKS: usize = 10;
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

/// Where settings are kept: values by name. An empty value removes.
#[async_trait]
pub trait Settings: Send + Sync {
    /// Those whose names begin so.
    ///
    /// # Errors
    /// [`SettingsError::Kept`].
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError>;

    /// Sets all of them, or none.
    ///
    /// # Errors
    /// [`SettingsError::Kept`].
    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError>;
}

/// Settings that last as long as the process.
#[derive(Default)]
pub struct MemorySettings(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl Settings for MemorySettings {
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        let settings = self.0.lock().await;
        let found = settings.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        let mut settings = self.0.lock().await;
        for (name, value) in values {
            if value.is_empty() {
                settings.remove(&name);
            } else {
                settings.insert(name, value);
            }
        }
        Ok(())
    }
}

/// The renter's journal.
#[async_trait]
impl Settings for Renter {
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        // Before that there may be others than those here.
        self.check_known().map_err(|error| kept(&error))?;
        Ok(self.settings(prefix))
    }

    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        self.check_known().map_err(|error| kept(&error))?;
        self.set(values).await.map_err(|error| kept(&error))
    }
}

fn kept(error: &(impl Coded + 'static)) -> SettingsError {
    SettingsError::Kept { code: error.code().to_owned(), message: causes::with_causes(error) }
}

/// Why settings cannot be read, or are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Where they are kept.
    #[error("{message}")]
    Kept {
        /// A stable word.
        code: String,
        /// What went wrong.
        message: String,
    },
    /// Written by a newer program.
    #[error(
        "the setting {name} has version {found}, this program reads {VERSION}: use a newer samara"
    )]
    Newer {
        /// Its name.
        name: String,
        /// Its version.
        found: u8,
    },
    /// Not what was written.
    #[error("the setting {name} cannot be read: set it again")]
    Damaged {
        /// Its name.
        name: String,
    },
    /// A value makes no sense.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which value.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

fn invalid(field: &'static str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Invalid { field, reason: reason.into() }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
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
            return Err(invalid("server", "write a name or an address, as in mail.example.org"));
        }
        if self.port == 0 {
            return Err(invalid("port", "there is no port 0"));
        }
        let address = self.server.parse::<IpAddr>();
        if self.security == Security::None && address.is_ok_and(|address| !address.is_loopback()) {
            return Err(invalid("security", ONLY_LOOPBACK));
        }
        if let Some(login) = &self.login {
            check_line("user", &login.user)?;
            check_secret("password", &login.password, 1)?;
        }
        mailbox("from", &self.from)?;
        if self.to.is_empty() || self.to.len() > MAX_RECIPIENTS {
            return Err(invalid("to", format!("name one recipient, and at most {MAX_RECIPIENTS}")));
        }
        for recipient in &self.to {
            mailbox("to", recipient)?;
        }
        self.roots().map_err(|error| invalid("root_certificate", error.to_string()))?;
        if self.root_certificate.as_ref().is_some_and(|pem| pem.len() > MAX_ROOT) {
            return Err(invalid("root_certificate", format!("it has more than {MAX_ROOT} bytes")));
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
        invalid(field, format!("'{shown}' is no address of mail: write it as in me@example.org"))
    })
}

fn check_line(field: &'static str, text: &str) -> Result<(), SettingsError> {
    if text.len() > MAX_LINE {
        return Err(invalid(field, format!("it has more than {MAX_LINE} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(field, "it has a control character"));
    }
    Ok(())
}

fn check_secret(field: &'static str, secret: &Secret, least: usize) -> Result<(), SettingsError> {
    let length = secret.reveal().len();
    if length < least || length > MAX_SECRET {
        return Err(invalid(field, format!("it must have {least} to {MAX_SECRET} bytes")));
    }
    if secret.reveal().contains(['\r', '\n', '\0']) {
        return Err(invalid(field, "it has the end of a line in it"));
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

/// A webhook as it is stored; its id is the setting's name.
#[derive(Serialize, Deserialize)]
struct StoredWebhook {
    url: Secret,
    secret: Secret,
    kinds: BTreeSet<Kind>,
    disabled: bool,
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
        Target::parse(&self.url).map_err(|error: FetchError| invalid("url", error.to_string()))?;
        check_secret("secret", &self.secret, MIN_WEBHOOK_SECRET)
    }

    /// Scheme, host and port: what may be told of it.
    #[must_use]
    pub fn server(&self) -> String {
        Target::parse(&self.url).map_or_else(|_| String::new(), |target| target.server())
    }
}

/// What is sent where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifySettings {
    /// How mail is sent, if it is.
    pub mail: Option<Mail>,
    /// Servers that are told.
    pub webhooks: Vec<Webhook>,
    /// Kinds that are sent nowhere.
    pub off: BTreeSet<Kind>,
}

impl NotifySettings {
    /// Reads them from where they are kept.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub async fn load(settings: &dyn Settings) -> Result<Self, SettingsError> {
        let mut loaded = Self::default();
        for (name, value) in settings.load(PREFIX).await? {
            let value = Zeroizing::new(value);
            if name == MAIL {
                loaded.mail = Some(decode(&name, &value)?);
            } else if name == OFF {
                loaded.off = decode(&name, &value)?;
            } else if let Some(id) = name.strip_prefix(WEBHOOK) {
                let damaged = || SettingsError::Damaged { name: name.clone() };
                let id = WebhookId::try_from(id.to_owned()).map_err(|_| damaged())?;
                let stored: StoredWebhook = decode(&name, &value)?;
                let StoredWebhook { url, secret, kinds, disabled } = stored;
                let url = url.reveal().to_owned();
                loaded.webhooks.push(Webhook { id, url, secret, kinds, disabled });
            }
        }
        loaded.webhooks.sort_by_key(|hook| hook.id);
        Ok(loaded)
    }

    /// Writes what differs from what there was.
    ///
    /// # Errors
    /// [`SettingsError`]; nothing is written unless all of it makes sense.
    pub async fn store(&self, before: &Self, settings: &dyn Settings) -> Result<(), SettingsError> {
        self.check()?;
        let (old, mut new) = (before.values(), self.values());
        new.retain(|name, value| old.get(name) != Some(value));
        let kept = self.values();
        let gone = old.into_keys().filter(|name| !kept.contains_key(name));
        let gone: Vec<_> = gone.map(|name| (name, Zeroizing::default())).collect();
        new.extend(gone);
        if new.is_empty() {
            return Ok(());
        }
        let values = new.into_iter().map(|(name, mut value)| (name, std::mem::take(&mut *value)));
        settings.store(values.collect()).await
    }

    fn values(&self) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        let mut values = BTreeMap::new();
        if let Some(mail) = &self.mail {
            values.insert(MAIL.to_owned(), encode(mail));
        }
        if !self.off.is_empty() {
            values.insert(OFF.to_owned(), encode(&self.off));
        }
        for hook in &self.webhooks {
            let stored = StoredWebhook {
                url: Secret::new(Zeroizing::new(hook.url.clone())),
                secret: hook.secret.clone(),
                kinds: hook.kinds.clone(),
                disabled: hook.disabled,
            };
            values.insert(format!("{WEBHOOK}{}", hook.id), encode(&stored));
        }
        values
    }

    /// Whether they can be used.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`].
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.webhooks.len() > MAX_WEBHOOKS {
            return Err(invalid("webhooks", format!("there may be {MAX_WEBHOOKS}")));
        }
        self.mail.as_ref().map_or(Ok(()), Mail::check)?;
        self.webhooks.iter().try_for_each(Webhook::check)
    }
}

fn encode<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    let body = Zeroizing::new(encoding::encode(value));
    // Room made beforehand: a vector that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 + body.len()));
    bytes.push(VERSION);
    bytes.extend_from_slice(&body);
    bytes
}

fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, SettingsError> {
    let name = || name.to_owned();
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            encoding::decode(body).map_err(|_| SettingsError::Damaged { name: name() })
        }
        Some((&found, _)) if found > VERSION => Err(SettingsError::Newer { name: name(), found }),
        _ => Err(SettingsError::Damaged { name: name() }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn secret(text: &str) -> Secret {
        Secret::new(Zeroizing::new(text.to_owned()))
    }

    pub fn mail() -> Mail {
        Mail {
            server: "localhost".to_owned(),
            port: 25,
            security: Security::None,
            login: Some(Login { user: "me".to_owned(), password: secret("hunter2 hunter2") }),
            from: "Samara <samara@example.org>".to_owned(),
            to: vec!["me@example.org".to_owned(), "Zoë <zoe@example.org>".to_owned()],
            root_certificate: None,
        }
    }

    pub fn webhook(number: u8, url: &str) -> Webhook {
        Webhook {
            id: WebhookId([number; 8]),
            url: url.to_owned(),
            secret: secret("0123456789abcdef"),
            kinds: BTreeSet::new(),
            disabled: false,
        }
    }

    fn some() -> NotifySettings {
        let hooks = vec![webhook(1, "https://a.example/token"), webhook(2, "http://b.example")];
        let off = BTreeSet::from([Kind::BackupStarted]);
        NotifySettings { mail: Some(mail()), webhooks: hooks, off }
    }

    #[tokio::test]
    async fn what_is_stored_is_loaded_and_only_changes_are_written() {
        let kept = MemorySettings::default();
        let none = NotifySettings::load(&kept).await.unwrap();
        assert_eq!(none, NotifySettings::default());
        some().store(&none, &kept).await.unwrap();
        assert_eq!(NotifySettings::load(&kept).await.unwrap(), some());
        assert_eq!(kept.load("").await.unwrap().len(), 4);
        let fewer =
            NotifySettings { mail: None, webhooks: vec![webhook(2, "http://c.example")], ..some() };
        fewer.store(&some(), &kept).await.unwrap();
        assert_eq!(NotifySettings::load(&kept).await.unwrap(), fewer);
        assert_eq!(kept.load("").await.unwrap().len(), 2);
        NotifySettings::default().store(&fewer, &kept).await.unwrap();
        assert!(kept.load("").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn newer_and_damaged_settings_are_told_by_name() {
        for (value, newer) in [(vec![2, 0], true), (vec![1, 255], false), (vec![0], false)] {
            let kept = MemorySettings::default();
            kept.store(vec![(MAIL.to_owned(), value)]).await.unwrap();
            let error = NotifySettings::load(&kept).await.unwrap_err();
            assert_eq!(matches!(error, SettingsError::Newer { .. }), newer);
            assert!(error.to_string().contains(MAIL), "{error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?} {:#?}", some(), some());
        for secret in ["hunter2", "0123456789", "token"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with = |change: fn(&mut Mail)| {
            let mut mail = mail();
            change(&mut mail);
            mail.check()
        };
        with(|_| {}).unwrap();
        let wrong: [(&str, fn(&mut Mail)); 14] = [
            ("server", |mail| mail.server.clear()),
            ("server", |mail| mail.server = "a\r\nb".to_owned()),
            ("server", |mail| mail.server = "me@a".to_owned()),
            ("port", |mail| mail.port = 0),
            ("security", |mail| mail.server = "192.0.2.1".to_owned()),
            ("user", |mail| mail.login.as_mut().unwrap().user = "a\0b".to_owned()),
            ("password", |mail| mail.login.as_mut().unwrap().password = secret("")),
            ("password", |mail| mail.login.as_mut().unwrap().password = secret("a\nb")),
            ("from", |mail| mail.from = "nobody".to_owned()),
            ("from", |mail| mail.from = "a@b.c\r\nBcc: d@e.f".to_owned()),
            ("to", |mail| mail.to.clear()),
            ("to", |mail| mail.to = vec!["a@b.c".to_owned(); MAX_RECIPIENTS + 1]),
            ("to", |mail| mail.to.push("a@b.c, d@e.f\n".to_owned())),
            ("root_certificate", |mail| mail.root_certificate = Some("x".to_owned())),
        ];
        for (field, change) in wrong {
            let error = with(change).unwrap_err();
            assert!(
                matches!(error, SettingsError::Invalid { field: f, .. } if f == field),
                "{error}"
            );
        }
        for (field, hook) in [
            ("url", webhook(1, "ftp://a")),
            ("url", webhook(1, "http://a:b@c")),
            ("secret", Webhook { secret: secret("short"), ..webhook(1, "http://a") }),
        ] {
            let error = hook.check().unwrap_err();
            assert!(
                matches!(error, SettingsError::Invalid { field: f, .. } if f == field),
                "{error}"
            );
        }
        let many = (0..=MAX_WEBHOOKS).map(|_| webhook(1, "http://a")).collect();
        assert!(NotifySettings { webhooks: many, ..some() }.check().is_err());
    }
}
