//! Notices: what happened, told by mail, by webhooks, and on the API's event stream.
//!
//! `news` says what is told and how, `notice` is what comes of it, `outbox` keeps notices until they
//! are delivered (`kept`: as rows), `owner` delivers them by `mail` and `webhook` as [`settings`]
//! say and at the times of `delivery`, with the links of `linked`, [`events`] is the stream. [`Notices`] is
//! what the rest of the node holds: it publishes, lists and dismisses.
//!
//! One task owns the outbox's changes and the times of the next tries. A notice is durable before
//! [`Notices::publish`] returns, and every delivery is made at least once: tried again with growing
//! pauses, across restarts, given up after three days, which the log and the stream tell. The task ends
//! with [`Notices::shutdown`]; what is on its way then is sent again after the next start.

mod delivery;
pub mod events;
mod kept;
mod linked;
mod mail;
mod news;
mod notice;
mod outbox;
mod owner;
pub mod settings;
#[cfg(test)]
mod tests;
mod webhook;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use samara_protocol::units::ChainTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::kept::{Delivery, Kept, State, Target};
pub use self::linked::{Linked, Linker};
pub use self::mail::MailError;
pub use self::news::{About, Counts, Link, News, Problem, Work};
pub use self::notice::{Kind, Notice, NoticeId, ParseKindError, Severity};
pub use self::outbox::OutboxError;
pub use self::webhook::{Hooks, WebhookError, signature};

use self::events::{Events, Reader};
use self::outbox::Outbox;
use self::owner::{Message, Owner};
use self::settings::{Mail, NotifySettings, Settings, SettingsError, Webhook, WebhookId};
use crate::causes;
use crate::clock::Clock;
use crate::fetch::{Network, SystemResolver};

/// Name of the database in the data folder.
pub const FILE: &str = "notices.redb";
/// Messages that may wait for the owner; who publishes more waits.
const WAITING: usize = 64;

/// Why something about notices was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The database.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no such notice.
    #[error("there is no notice {0}")]
    Unknown(u64),
    /// The node stops.
    #[error("the node stops")]
    Stopped,
}

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What went wrong, without secrets.
    pub reason: String,
    /// Whether the webhook wants to be told nothing any more.
    pub gone: bool,
}

/// Carries notices to where they are delivered.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Sends one by mail.
    async fn mail(&self, mail: &Mail, notice: &Notice) -> Result<(), Refusal>;

    /// Tells a webhook.
    async fn webhook(&self, hook: &Webhook, notice: &Notice, now: ChainTime)
    -> Result<(), Refusal>;
}

#[async_trait]
impl Carrier for Hooks {
    async fn mail(&self, mail: &Mail, notice: &Notice) -> Result<(), Refusal> {
        let failed =
            |error: MailError| Refusal { reason: causes::with_causes(&error), gone: false };
        mail::send(mail, notice).await.map_err(failed)
    }

    async fn webhook(
        &self,
        hook: &Webhook,
        notice: &Notice,
        now: ChainTime,
    ) -> Result<(), Refusal> {
        self.send(hook, notice, now).await.map_err(|error| Refusal {
            gone: matches!(error, WebhookError::Gone(_)),
            reason: causes::with_causes(&error),
        })
    }
}

/// What a test message came to in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// `mail` or `webhook`.
    pub channel: String,
    /// Which webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub webhook: Option<WebhookId>,
    /// The mail server, or the webhook's scheme, host and port.
    pub server: String,
    /// Whether it was taken.
    pub delivered: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The notices of a node. A cheap clone.
#[derive(Clone)]
pub struct Notices(Arc<Inner>);

struct Inner {
    outbox: Arc<Outbox>,
    settings: Arc<dyn Settings>,
    carrier: Arc<dyn Carrier>,
    linker: Arc<dyn Linker>,
    clock: Clock,
    events: Events,
    messages: mpsc::Sender<Message>,
    stop: CancellationToken,
    /// One change of the settings at a time, whoever makes it.
    changing: Arc<Mutex<()>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Notices {
    /// Opens the outbox of a data folder and begins to deliver. Webhooks are reached at public addresses,
    /// and in networks of the operator's own; mails about archives get links.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub async fn start(
        folder: &Path,
        settings: Arc<dyn Settings>,
        (allowed, linker): (&[Network], Arc<dyn Linker>),
        clock: Clock,
    ) -> Result<Self, OutboxError> {
        let hooks = Hooks { resolver: Arc::new(SystemResolver), allowed: allowed.into() };
        Self::with_carrier(&folder.join(FILE), settings, (Arc::new(hooks), linker), clock).await
    }

    /// As [`Notices::start`], with somebody else to carry.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub async fn with_carrier(
        file: &Path,
        settings: Arc<dyn Settings>,
        (carrier, linker): (Arc<dyn Carrier>, Arc<dyn Linker>),
        clock: Clock,
    ) -> Result<Self, OutboxError> {
        let outbox = Arc::new(Outbox::open(file)?);
        let events = Events::new(clock());
        let (messages, inbox) = mpsc::channel(WAITING);
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            outbox,
            settings,
            carrier,
            linker,
            clock,
            events,
            messages,
            stop,
            changing: Arc::default(),
            task: Mutex::new(None),
        });
        let owner = Owner::start(&inner).await?;
        *inner.task.lock().await = Some(tokio::spawn(owner.run(inbox)));
        Ok(Self(inner))
    }

    /// Keeps a notice and has it delivered; its number. One whose id is known already is not kept twice.
    ///
    /// # Errors
    /// [`NotifyError::Outbox`], [`NotifyError::Stopped`].
    pub async fn publish(&self, notice: Notice) -> Result<u64, NotifyError> {
        self.ask(|answer| Message::Publish(Box::new(notice.bounded()), answer)).await
    }

    /// Publishes news; what keeps it from being told is logged. `event` names the event for ever: told
    /// again, it is not told twice. Whether it is kept.
    pub async fn tell(&self, event: &str, news: &News) -> bool {
        let notice = news.notice(NoticeId::of(event), (self.0.clock)());
        let told = self.publish(notice).await;
        if let Err(error) = &told {
            let error = causes::with_causes(error);
            tracing::warn!(event, error, "a notice is not told");
        }
        told.is_ok()
    }

    /// Up to which time all were told of archives that were finished; nothing if nobody has noted any.
    ///
    /// # Errors
    /// [`NotifyError::Outbox`].
    pub async fn ended(&self) -> Result<Option<u64>, NotifyError> {
        self.blocking(Outbox::ended).await
    }

    /// Notes up to which time all were told of archives that were finished.
    ///
    /// # Errors
    /// [`NotifyError::Outbox`].
    pub async fn note_ended(&self, time: u64) -> Result<(), NotifyError> {
        self.blocking(move |outbox| outbox.note_ended(time)).await
    }

    /// Tells those who read the event stream how far a job is. Nothing is kept of it.
    pub fn job(&self, event: &impl Serialize) {
        self.0.events.tell("job", event);
    }

    /// The event stream, from the event after `last`.
    #[must_use]
    pub fn events(&self, last: Option<u64>) -> Reader {
        self.0.events.read(last)
    }

    /// How many read the event stream.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.events.readers()
    }

    /// Notices with numbers above this one, oldest first.
    ///
    /// # Errors
    /// [`NotifyError::Outbox`].
    pub async fn list(&self, after: u64, limit: usize) -> Result<Vec<Kept>, NotifyError> {
        self.blocking(move |outbox| outbox.list(after, limit)).await
    }

    /// How many notices are not delivered everywhere yet.
    ///
    /// # Errors
    /// [`NotifyError::Outbox`].
    pub async fn waiting(&self) -> Result<u64, NotifyError> {
        let outbox = Arc::clone(&self.0.outbox);
        let waiting = tokio::task::spawn_blocking(move || outbox.waiting()).await;
        Ok(waiting.map_err(|_| NotifyError::Stopped)??.len() as u64)
    }

    /// Shows a notice no more. What is to be delivered still is.
    ///
    /// # Errors
    /// [`NotifyError::Unknown`], [`NotifyError::Outbox`], [`NotifyError::Stopped`].
    pub async fn dismiss(&self, number: u64) -> Result<(), NotifyError> {
        match self.ask(|answer| Message::Dismiss(number, answer)).await? {
            true => Ok(()),
            false => Err(NotifyError::Unknown(number)),
        }
    }

    /// What is sent where.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub async fn settings(&self) -> Result<NotifySettings, SettingsError> {
        NotifySettings::load(self.0.settings.as_ref()).await
    }

    /// Changes the settings. What waits is tried with the new ones at once.
    ///
    /// # Errors
    /// Those of `change`, and [`SettingsError`].
    pub async fn set<E: From<SettingsError>>(
        &self,
        change: impl FnOnce(&mut NotifySettings) -> Result<(), E>,
    ) -> Result<NotifySettings, E> {
        let changing = self.0.changing.lock().await;
        let before = self.settings().await?;
        let mut after = before.clone();
        change(&mut after)?;
        after.store(&before, self.0.settings.as_ref()).await?;
        // The owner may wait for it, with its queue full.
        drop(changing);
        // A node that stops looks at them at its next start.
        let _ = self.0.messages.send(Message::Changed).await;
        Ok(after)
    }

    /// Sends a message through every channel now, switched off or not, and says what came of it.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub async fn test(&self) -> Result<Vec<Tested>, NotifyError> {
        let settings = self.settings().await?;
        let now = (self.0.clock)();
        let notice = &News::Test {}.notice(NoticeId::of(&format!("test {}", now.0)), now);
        let carrier = self.0.carrier.as_ref();
        let mail = async {
            let mail = settings.mail.as_ref()?;
            let outcome = carrier.mail(mail, notice).await;
            Some(tested("mail", None, mail.server.clone(), outcome))
        };
        let hooks = settings.webhooks.iter().map(|hook| async move {
            let outcome = carrier.webhook(hook, notice, now).await;
            tested("webhook", Some(hook.id), hook.server(), outcome)
        });
        let (mail, hooks) = tokio::join!(mail, futures::future::join_all(hooks));
        self.0.events.tell("notice", notice);
        Ok(mail.into_iter().chain(hooks).collect())
    }

    /// Cancelled when the disk failed: the process must end.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.0.outbox.broken()
    }

    /// Ends the deliveries, and waits for their task.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        if let Some(task) = self.0.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task of notices did not end in good order");
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, NotifyError> {
        let outbox = Arc::clone(&self.0.outbox);
        let done = tokio::task::spawn_blocking(move || work(&outbox)).await;
        Ok(done.map_err(|_| NotifyError::Stopped)??)
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, OutboxError>>) -> Message,
    ) -> Result<T, NotifyError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.messages.send(message(answer)).await;
        sent.map_err(|_| NotifyError::Stopped)?;
        Ok(answered.await.map_err(|_| NotifyError::Stopped)??)
    }
}

fn tested(
    channel: &str,
    webhook: Option<WebhookId>,
    server: String,
    outcome: Result<(), Refusal>,
) -> Tested {
    let error = outcome.err().map(|refusal| refusal.reason);
    Tested { channel: channel.to_owned(), webhook, server, delivered: error.is_none(), error }
}
