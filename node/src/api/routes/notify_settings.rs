//! What is sent where, as it is shown and as it is set.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::notify::Kind;
use crate::notify::settings::{Login, Mail, NotifySettings, Secret, Security, Webhook, WebhookId};

/// What is sent where, as it is shown: of secrets only that there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotifyAnswer {
    /// How mail is sent, if it is.
    pub mail: Option<MailAnswer>,
    /// Webhooks.
    pub webhooks: Vec<WebhookAnswer>,
    /// Kinds that are sent nowhere.
    pub off: BTreeSet<Kind>,
    /// Days for which the link in a mail about an archive works; 0 for no link.
    pub link_days: u32,
}

/// How mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailAnswer {
    /// The server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from others.
    pub security: Security,
    /// Who logs in.
    pub user: Option<String>,
    /// Whether there is a password.
    pub password_set: bool,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Certificate that is trusted beside the system's, as PEM.
    pub root_certificate: Option<String>,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookAnswer {
    /// Its name.
    #[schemars(with = "String")]
    pub id: WebhookId,
    /// Where it is told.
    pub url: String,
    /// Whether there is a secret; always.
    pub secret_set: bool,
    /// Kinds that it is told; all if empty.
    pub kinds: BTreeSet<Kind>,
    /// Whether it is told nothing.
    pub disabled: bool,
}

impl From<NotifySettings> for NotifyAnswer {
    fn from(settings: NotifySettings) -> Self {
        let mail = settings.mail.map(|mail| MailAnswer {
            server: mail.server,
            port: mail.port,
            security: mail.security,
            password_set: mail.login.is_some(),
            user: mail.login.map(|login| login.user),
            from: mail.from,
            to: mail.to,
            root_certificate: mail.root_certificate,
        });
        let webhooks = settings.webhooks.into_iter().map(|hook| WebhookAnswer {
            id: hook.id,
            url: hook.url,
            secret_set: true,
            kinds: hook.kinds,
            disabled: hook.disabled,
        });
        let (off, link_days) = (settings.off, settings.link_days);
        Self { mail, webhooks: webhooks.collect(), off, link_days }
    }
}

/// What is to be sent where: all of it. A secret that is left out stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyRequest {
    /// How mail is to be sent; none for no mail.
    pub mail: Option<MailRequest>,
    /// Webhooks.
    pub webhooks: Vec<WebhookRequest>,
    /// Kinds that are sent nowhere.
    pub off: BTreeSet<Kind>,
    /// Days for which the link in a mail about an archive works, 0 for no link; as before if left out.
    pub link_days: Option<u32>,
}

/// How mail is to be sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailRequest {
    /// The server.
    pub server: String,
    /// Its port; what is usual if left out.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is kept from others.
    pub security: Security,
    /// Who logs in; nobody if left out.
    #[serde(default)]
    pub user: Option<String>,
    /// The password; the one that is kept if left out, for the same server and user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Certificate that is trusted beside the system's, as PEM.
    #[serde(default)]
    pub root_certificate: Option<String>,
}

/// A webhook.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Which; none for a new one.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub id: Option<WebhookId>,
    /// Where it is told.
    pub url: String,
    /// What bodies are signed with; the one that is kept if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub secret: Option<Secret>,
    /// Kinds that it is told; all if empty.
    #[serde(default)]
    pub kinds: BTreeSet<Kind>,
    /// Whether it is told nothing.
    #[serde(default)]
    pub disabled: bool,
}

impl std::fmt::Debug for WebhookRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookRequest").field("id", &self.id).finish_non_exhaustive()
    }
}

impl From<NotifyAnswer> for NotifyRequest {
    /// What changes nothing.
    fn from(shown: NotifyAnswer) -> Self {
        let mail = shown.mail.map(|mail| MailRequest {
            server: mail.server,
            port: Some(mail.port),
            security: mail.security,
            user: mail.user,
            password: None,
            from: mail.from,
            to: mail.to,
            root_certificate: mail.root_certificate,
        });
        let webhooks = shown.webhooks.into_iter().map(|hook| WebhookRequest {
            id: Some(hook.id),
            url: hook.url,
            secret: None,
            kinds: hook.kinds,
            disabled: hook.disabled,
        });
        let (off, link_days) = (shown.off, Some(shown.link_days));
        Self { mail, webhooks: webhooks.collect(), off, link_days }
    }
}

impl NotifyRequest {
    /// The settings that are meant, where these hold now.
    pub(super) fn over(self, before: &NotifySettings) -> Result<NotifySettings, ApiError> {
        let mail = self.mail.map(|mail| mail.over(before.mail.as_ref())).transpose()?;
        let webhooks = self.webhooks.into_iter().map(|hook| hook.over(&before.webhooks));
        let webhooks: Vec<Webhook> = webhooks.collect::<Result<_, _>>()?;
        let ids: BTreeSet<WebhookId> = webhooks.iter().map(|hook| hook.id).collect();
        if ids.len() < webhooks.len() {
            return Err(ApiError::new("invalid", "webhooks: one is named twice"));
        }
        let link_days = self.link_days.unwrap_or(before.link_days);
        Ok(NotifySettings { mail, webhooks, off: self.off, link_days })
    }
}

impl MailRequest {
    fn over(self, before: Option<&Mail>) -> Result<Mail, ApiError> {
        let port = self.port.unwrap_or_else(|| self.security.port());
        // A password is shown to no other server than the one that it was given for.
        let kept = before.filter(|mail| mail.server == self.server && mail.port == port);
        let kept = kept.and_then(|mail| mail.login.as_ref());
        let login = match (self.user, self.password) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(ApiError::new("invalid", "user: a password needs a user"));
            }
            (Some(user), Some(password)) => Some(Login { user, password }),
            (Some(user), None) => match kept.filter(|login| login.user == user) {
                Some(login) => Some(login.clone()),
                None => {
                    let message = "password: give it, also again when server, port or user change";
                    return Err(ApiError::new("invalid", message));
                }
            },
        };
        let Self { server, security, from, to, root_certificate, .. } = self;
        Ok(Mail { server, port, security, login, from, to, root_certificate })
    }
}

impl WebhookRequest {
    fn over(self, before: &[Webhook]) -> Result<Webhook, ApiError> {
        let Self { id, url, secret, kinds, disabled } = self;
        let (id, kept) = match id {
            None => {
                let drawn = WebhookId::draw();
                (drawn.map_err(|error| ApiError::new("internal", error.to_string()))?, None)
            }
            Some(id) => match before.iter().find(|hook| hook.id == id) {
                Some(hook) => (id, Some(hook.secret.clone())),
                None => {
                    return Err(ApiError::new("not_found", format!("there is no webhook {id}")));
                }
            },
        };
        let secret = secret.or(kept);
        let secret =
            secret.ok_or_else(|| ApiError::new("invalid", "secret: a webhook needs one"))?;
        Ok(Webhook { id, url, secret, kinds, disabled })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::notify::settings::tests::{mail, secret, webhook};

    fn some() -> NotifySettings {
        let webhooks = vec![webhook(1, "https://a.example/b")];
        let off = BTreeSet::from([Kind::Test]);
        NotifySettings { mail: Some(mail()), webhooks, off, link_days: 30 }
    }

    #[test]
    fn what_is_shown_has_no_secret_and_changes_nothing() {
        let shown = NotifyAnswer::from(some());
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("0123456789"), "{text}");
        assert!(text.contains(r#""password_set":true"#), "{text}");
        let request = NotifyRequest::from(shown);
        assert_eq!(request.over(&some()).unwrap(), some());
    }

    #[test]
    fn a_password_is_kept_for_its_server_and_user_only() {
        let change = |change: fn(&mut MailRequest)| {
            let mut request = NotifyRequest::from(NotifyAnswer::from(some()));
            change(request.mail.as_mut().unwrap());
            request.over(&some())
        };
        change(|mail| mail.to.truncate(1)).unwrap();
        let moved: [fn(&mut MailRequest); 4] = [
            |mail| mail.server = "evil.example".to_owned(),
            |mail| mail.port = Some(26),
            |mail| mail.user = Some("you".to_owned()),
            |mail| (mail.user, mail.password) = (None, Some(secret("x"))),
        ];
        for moved in moved {
            assert_eq!(change(moved).unwrap_err().code, "invalid");
        }
        let without = change(|mail| mail.user = None).unwrap();
        assert_eq!(without.mail.unwrap().login, None);
    }

    #[test]
    fn webhooks_are_named_by_their_ids() {
        let request = |hooks| serde_json::from_value(json!({ "webhooks": hooks }));
        let over = |hooks| {
            let request: NotifyRequest = request(hooks).unwrap();
            request.over(&some()).map_err(|error| error.code)
        };
        let known = json!({ "id": "0101010101010101", "url": "https://c.example" });
        let kept = over(json!([known])).unwrap();
        assert_eq!(kept.webhooks[0].secret, secret("0123456789abcdef"));
        assert_eq!(kept.webhooks[0].url, "https://c.example");
        let new = over(json!([{ "url": "https://d.example", "secret": "fedcba9876543210" }]));
        assert_ne!(new.unwrap().webhooks[0].id, WebhookId([1; 8]));
        assert_eq!(over(json!([{ "url": "https://d.example" }])).unwrap_err(), "invalid");
        assert_eq!(over(json!([known, known])).unwrap_err(), "invalid");
        let unknown = json!([{ "id": "0202020202020202", "url": "https://c.example" }]);
        assert_eq!(over(unknown).unwrap_err(), "not_found");
        for odd in [json!([{ "url": "a", "kinds": ["none"] }]), json!([{ "url": "a", "b": 1 }])] {
            assert!(request(odd).is_err());
        }
    }
}
