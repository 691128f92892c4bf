//! What is sent where: mail, webhooks, and kinds that are switched off. Kept in the renter's journal, so
//! that it comes back from the words.
//!
//! | setting | value |
//! | --- | --- |
//! | `notify/mail` | [`Mail`] |
//! | `notify/off` | kinds that are sent nowhere |
//! | `notify/links` | days for which the link in a mail about an archive works; 0 for no link |
//! | `notify/webhook/` + id in hex | [`Webhook`] |
//!
//! Each value is a byte with its version (1) and a postcard value. `kept` is where they are kept,
//! `channel` what they say of mail and webhooks. Invariant: passwords and secrets are in these values and
//! nowhere else; no `Debug`, log or answer shows one.

mod channel;
mod kept;

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::encoding;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::channel::{
    Login, MAX_RECIPIENTS, Mail, ONLY_LOOPBACK, Secret, Security, Webhook, WebhookId, mailbox,
};
pub use self::kept::{MemorySettings, Settings, SettingsError};
use super::notice::Kind;

/// What all of these settings begin with.
pub const PREFIX: &str = "notify/";
const MAIL: &str = "notify/mail";
const OFF: &str = "notify/off";
const LINKS: &str = "notify/links";
const WEBHOOK: &str = "notify/webhook/";
const VERSION: u8 = 1;

/// Most webhooks.
pub const MAX_WEBHOOKS: usize = 10;
/// Days for which the link in a mail about an archive works, if nothing is said, and at most.
pub const LINK_DAYS: u32 = 7;
/// See [`LINK_DAYS`].
pub const MAX_LINK_DAYS: u32 = 365;

/// A webhook as it is stored; its id is the setting's name.
#[derive(Serialize, Deserialize)]
struct StoredWebhook {
    url: Secret,
    secret: Secret,
    kinds: BTreeSet<Kind>,
    disabled: bool,
}

/// What is sent where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySettings {
    /// How mail is sent, if it is.
    pub mail: Option<Mail>,
    /// Servers that are told.
    pub webhooks: Vec<Webhook>,
    /// Kinds that are sent nowhere.
    pub off: BTreeSet<Kind>,
    /// Days for which the link in a mail about an archive works; 0 for no link.
    pub link_days: u32,
}

impl Default for NotifySettings {
    fn default() -> Self {
        let (mail, webhooks, off) = (None, Vec::new(), BTreeSet::new());
        Self { mail, webhooks, off, link_days: LINK_DAYS }
    }
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
            } else if name == LINKS {
                loaded.link_days = decode(&name, &value)?;
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
        if self.link_days != LINK_DAYS {
            values.insert(LINKS.to_owned(), encode(&self.link_days));
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
            return Err(SettingsError::invalid("webhooks", format!("there may be {MAX_WEBHOOKS}")));
        }
        if self.link_days > MAX_LINK_DAYS {
            let reason = format!("a link works for {MAX_LINK_DAYS} days at most; 0 is for no link");
            return Err(SettingsError::invalid("link_days", reason));
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
        NotifySettings { mail: Some(mail()), webhooks: hooks, off, link_days: 30 }
    }

    #[tokio::test]
    async fn what_is_stored_is_loaded_and_only_changes_are_written() {
        let kept = MemorySettings::default();
        let none = NotifySettings::load(&kept).await.unwrap();
        assert_eq!(none, NotifySettings::default());
        some().store(&none, &kept).await.unwrap();
        assert_eq!(NotifySettings::load(&kept).await.unwrap(), some());
        assert_eq!(kept.load("").await.unwrap().len(), 5);
        let fewer =
            NotifySettings { mail: None, webhooks: vec![webhook(2, "http://c.example")], ..some() };
        fewer.store(&some(), &kept).await.unwrap();
        assert_eq!(NotifySettings::load(&kept).await.unwrap(), fewer);
        assert_eq!(kept.load("").await.unwrap().len(), 3);
        NotifySettings::default().store(&fewer, &kept).await.unwrap();
        assert!(kept.load("").await.unwrap().is_empty());
    }

    #[test]
    fn what_earlier_programs_wrote_is_read() {
        let values = some().values();
        let stored = |name: &str| hex::encode(&*values[name]);
        assert_eq!(
            stored(MAIL),
            "01096c6f63616c686f7374190201026d650f68756e746572322068756e746572321b53616d61\
             7261203c73616d617261406578616d706c652e6f72673e020e6d65406578616d706c652e6f72\
             67165a6fc3ab203c7a6f65406578616d706c652e6f72673e00"
        );
        assert_eq!(stored(OFF), "010100");
        assert_eq!(stored(LINKS), "011e");
        assert_eq!(
            stored("notify/webhook/0101010101010101"),
            "011768747470733a2f2f612e6578616d706c652f746f6b656e10303132333435363738396162\
             636465660000"
        );
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
        type Change = fn(&mut Mail);
        let wrong: [(&str, Change); 14] = [
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
        assert!(NotifySettings { link_days: MAX_LINK_DAYS + 1, ..some() }.check().is_err());
    }
}
