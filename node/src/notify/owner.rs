//! The task that owns the deliveries: what waits for when, what is on its way, what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::units::ChainTime;
use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::delivery::{FIRST, LONGEST, Outcome, SETTINGS_AGAIN, deliveries, step};
use super::events::Events;
use super::kept::{Delivery, State, Target};
use super::linked::{self, Linked, Linker};
use super::notice::Notice;
use super::outbox::{Outbox, OutboxError};
use super::settings::{NotifySettings, Settings, SettingsError, WebhookId};
use super::{Carrier, Inner, Refusal};
use crate::causes;
use crate::clock::Clock;

/// How long settings may take to be read.
const SETTINGS: Duration = Duration::from_secs(10);
/// The task looks at the clock at least so often: somebody may have set it.
const LOOK: Duration = Duration::from_secs(300);

/// What the owner is asked.
pub(super) enum Message {
    /// Keep and deliver a notice.
    Publish(Box<Notice>, oneshot::Sender<Result<u64, OutboxError>>),
    /// Show a notice no more.
    Dismiss(u64, oneshot::Sender<Result<bool, OutboxError>>),
    /// The settings have changed.
    Changed,
}

/// State of the task.
pub(super) struct Owner {
    outbox: Arc<Outbox>,
    settings: Arc<dyn Settings>,
    carrier: Arc<dyn Carrier>,
    linker: Arc<dyn Linker>,
    clock: Clock,
    events: Events,
    /// Held while the settings change.
    changing: Arc<Mutex<()>>,
    stop: CancellationToken,
    /// Deliveries that wait, by when they are due.
    waiting: BTreeMap<Target, BTreeSet<(ChainTime, u64)>>,
    /// Targets that a delivery is on its way to: one at a time for each.
    busy: BTreeSet<Target>,
    tries: JoinSet<Outcome>,
    /// Which delivery each task is.
    tasks: BTreeMap<Id, (u64, Target)>,
    /// Notices of which it is not known yet where they go.
    undecided: BTreeSet<u64>,
    /// When the settings are read again for them.
    decide: ChainTime,
}

impl Owner {
    /// Takes up what an earlier run has left.
    pub(super) async fn start(inner: &Inner) -> Result<Self, OutboxError> {
        let mut owner = Self {
            outbox: Arc::clone(&inner.outbox),
            settings: Arc::clone(&inner.settings),
            carrier: Arc::clone(&inner.carrier),
            linker: Arc::clone(&inner.linker),
            clock: Arc::clone(&inner.clock),
            events: inner.events.clone(),
            changing: Arc::clone(&inner.changing),
            stop: inner.stop.clone(),
            waiting: BTreeMap::new(),
            busy: BTreeSet::new(),
            tries: JoinSet::new(),
            tasks: BTreeMap::new(),
            undecided: BTreeSet::new(),
            decide: ChainTime(0),
        };
        let now = owner.now();
        for (number, deliveries) in owner.blocking(Outbox::waiting).await? {
            match deliveries {
                Some(deliveries) => deliveries.iter().for_each(|d| owner.plan(now, number, d)),
                None => {
                    owner.undecided.insert(number);
                }
            }
        }
        Ok(owner)
    }

    /// Works until it is told to stop.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let stop = self.stop.clone();
        loop {
            self.decide_if_due().await;
            let wait = self.send_what_is_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = self.tries.join_next_with_id() => self.take(done).await,
                message = messages.recv() => match message {
                    Some(message) => self.answer(message).await,
                    None => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn now(&self) -> ChainTime {
        (self.clock)()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let outbox = Arc::clone(&self.outbox);
        match tokio::task::spawn_blocking(move || work(&outbox)).await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down; this task ends with it at its next await.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Notes when a delivery is due. A clock that was set back makes nothing wait for longer than it would.
    fn plan(&mut self, now: ChainTime, number: u64, delivery: &Delivery) {
        if let State::Waiting(due) = delivery.state {
            let due = ChainTime(due.0.min(now.0.saturating_add(LONGEST.0)));
            self.waiting.entry(delivery.target).or_default().insert((due, number));
        }
    }

    async fn answer(&mut self, message: Message) {
        match message {
            Message::Publish(notice, answer) => {
                let _ = answer.send(self.publish(*notice).await);
            }
            Message::Dismiss(number, answer) => {
                let dismiss = move |outbox: &Outbox| outbox.change(number, |k| k.dismissed = true);
                let _ = answer.send(self.blocking(dismiss).await);
            }
            Message::Changed => self.hurry(),
        }
    }

    /// The settings have changed: all that waits is due.
    fn hurry(&mut self) {
        let now = self.now();
        self.decide = now;
        for waiting in self.waiting.values_mut() {
            *waiting = waiting.iter().map(|(due, number)| ((*due).min(now), *number)).collect();
        }
    }

    async fn publish(&mut self, notice: Notice) -> Result<u64, OutboxError> {
        let now = self.now();
        let deliveries = self.targets(&notice, now).await;
        let (kept, planned) = (notice.clone(), deliveries.clone());
        let inserted = self.blocking(move |outbox| outbox.insert(kept, now, planned)).await?;
        let number = inserted.number;
        if !inserted.new {
            return Ok(number);
        }
        if let Some(lost) = inserted.lost {
            tracing::warn!(number = lost, "too many notices wait: the oldest is not delivered");
            self.events.tell("delivery", &json!({ "number": lost, "state": "dropped" }));
        }
        self.events.tell("notice", &numbered(number, &notice));
        match deliveries {
            Some(deliveries) => deliveries.iter().for_each(|d| self.plan(now, number, d)),
            None => {
                self.undecided.insert(number);
                self.decide = ChainTime(now.0.saturating_add(SETTINGS_AGAIN.0));
            }
        }
        Ok(number)
    }

    async fn load(&self) -> Result<NotifySettings, SettingsError> {
        let slow = |_| SettingsError::Kept {
            code: "changing".to_owned(),
            message: "the settings cannot be read now".to_owned(),
        };
        let loading = NotifySettings::load(self.settings.as_ref());
        timeout(SETTINGS, loading).await.map_err(slow)?
    }

    /// Where a notice goes; `None` while that cannot be known.
    async fn targets(&self, notice: &Notice, now: ChainTime) -> Option<Vec<Delivery>> {
        match self.load().await {
            Ok(settings) => Some(deliveries(&settings, notice, now)),
            Err(error) => {
                let error = causes::with_causes(&error);
                tracing::warn!(error, "notices wait: it cannot be read where they go");
                None
            }
        }
    }

    /// Finds out where notices go of which that is not known, if it is time.
    async fn decide_if_due(&mut self) {
        let now = self.now();
        if self.undecided.is_empty() || self.decide > now {
            return;
        }
        self.decide = ChainTime(now.0.saturating_add(SETTINGS_AGAIN.0));
        let Ok(settings) = self.load().await else { return };
        for number in std::mem::take(&mut self.undecided) {
            if let Err(error) = self.decide_one(number, &settings, now).await {
                tracing::warn!(number, %error, "a notice waits: it cannot be read");
                self.undecided.insert(number);
            }
        }
    }

    async fn decide_one(
        &mut self,
        number: u64,
        settings: &NotifySettings,
        now: ChainTime,
    ) -> Result<(), OutboxError> {
        let Some(kept) = self.blocking(move |outbox| outbox.get(number)).await? else {
            return Ok(());
        };
        let found = deliveries(settings, &kept.notice, now);
        let noted = found.clone();
        let note = move |outbox: &Outbox| outbox.change(number, |k| k.deliveries = Some(noted));
        self.blocking(note).await?;
        found.iter().for_each(|delivery| self.plan(now, number, delivery));
        Ok(())
    }

    /// Begins what is due, and says how long nothing else is.
    fn send_what_is_due(&mut self) -> Duration {
        let now = self.now();
        let mut next = if self.undecided.is_empty() { None } else { Some(self.decide) };
        let mut begin = Vec::new();
        for (target, waiting) in &mut self.waiting {
            if self.busy.contains(target) {
                continue;
            }
            match waiting.first().copied() {
                Some((due, number)) if due <= now => {
                    waiting.pop_first();
                    begin.push((number, *target));
                }
                Some((due, _)) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        for (number, target) in begin {
            self.busy.insert(target);
            let task = self.tries.spawn(self.attempt(number, target)).id();
            self.tasks.insert(task, (number, target));
        }
        next.map_or(LOOK, |next| LOOK.min(Duration::from_millis(next.0.saturating_sub(now.0))))
    }

    fn attempt(&self, number: u64, target: Target) -> impl Future<Output = Outcome> + Send + use<> {
        let (settings, carrier) = (Arc::clone(&self.settings), Arc::clone(&self.carrier));
        let linker = Arc::clone(&self.linker);
        let (outbox, clock) = (Arc::clone(&self.outbox), Arc::clone(&self.clock));
        async move {
            let notice = match tokio::task::spawn_blocking(move || outbox.get(number)).await {
                Ok(Ok(Some(kept))) => kept.notice,
                Ok(Ok(None)) => return Outcome::NoTarget,
                Ok(Err(_)) | Err(_) => return Outcome::NotNow,
            };
            let loading = NotifySettings::load(settings.as_ref());
            let Ok(Ok(settings)) = timeout(SETTINGS, loading).await else {
                return Outcome::NotNow;
            };
            let sent = match target {
                Target::Mail => match &settings.mail {
                    Some(mail) => {
                        let days = settings.link_days;
                        let Some(linked) = for_mail(&linker, &notice, days).await else {
                            return Outcome::NotNow;
                        };
                        let sent = carrier.mail(mail, linked.as_ref().unwrap_or(&notice)).await;
                        if sent.is_ok() {
                            linker.sent(notice.id);
                        }
                        sent
                    }
                    None => return Outcome::NoTarget,
                },
                Target::Webhook(id) => {
                    let hook = settings.webhooks.iter().find(|h| h.id == id && !h.disabled);
                    match hook {
                        Some(hook) => carrier.webhook(hook, &notice, clock()).await,
                        None => return Outcome::NoTarget,
                    }
                }
            };
            sent.map_or_else(Outcome::Failed, |()| Outcome::Delivered)
        }
    }

    async fn take(&mut self, done: Result<(Id, Outcome), JoinError>) {
        let (task, outcome) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "a delivery did not end in good order");
                let reason = "a defect of the program".to_owned();
                (error.id(), Outcome::Failed(Refusal { reason, gone: false }))
            }
        };
        let Some((number, target)) = self.tasks.remove(&task) else { return };
        self.busy.remove(&target);
        if let Outcome::Failed(Refusal { gone: true, .. }) = &outcome
            && let Target::Webhook(id) = target
        {
            self.switch_off(id).await;
        }
        let mut random = [0; 4];
        // Without random bytes tries come at the same time as others do, and no harm is done.
        let _ = getrandom::fill(&mut random);
        let (now, random) = (self.now(), u32::from_le_bytes(random));
        let note = move |outbox: &Outbox| {
            let mut noted = None;
            outbox.change(number, |kept| {
                let taken = kept.taken;
                let deliveries = kept.deliveries.iter_mut().flatten();
                for delivery in deliveries.filter(|delivery| delivery.target == target) {
                    step(delivery, &outcome, taken, now, random);
                    noted = Some((delivery.clone(), kept.notice.id));
                }
            })?;
            Ok(noted)
        };
        match self.blocking(note).await {
            Ok(Some((delivery, id))) => {
                self.plan(now, number, &delivery);
                self.report(number, &id.to_string(), &delivery);
            }
            Ok(None) => {}
            Err(error) => {
                // It was sent perhaps and is not noted: it is sent again.
                let error = causes::with_causes(&error);
                tracing::error!(number, error, "what came of a delivery cannot be noted");
                let again = ChainTime(now.0.saturating_add(FIRST.0));
                self.plan(now, number, &Delivery::due(target, again));
            }
        }
    }

    /// Tells how a delivery ended, or that it is tried again.
    fn report(&self, number: u64, id: &str, delivery: &Delivery) {
        let target = delivery.target.to_string();
        let error = delivery.error.as_deref().unwrap_or_default();
        let state = match delivery.state {
            State::Delivered(_) => "delivered",
            State::Waiting(_) => {
                tracing::info!(number, target, error, "a notice is not delivered yet");
                "waiting"
            }
            State::GivenUp(_) => {
                tracing::error!(number, target, error, "a notice is not delivered: given up");
                "given_up"
            }
            State::Dropped => "dropped",
        };
        let told = json!({
            "number": number,
            "id": id,
            "target": target,
            "state": state,
            "attempts": delivery.attempts,
            "error": delivery.error,
        });
        self.events.tell("delivery", &told);
    }

    /// Switches a webhook off that does not want to be told any more.
    async fn switch_off(&self, id: WebhookId) {
        tracing::warn!(webhook = %id, "a webhook is gone (status 410) and wants to be told nothing any more");
        let switched = async {
            let _changing = self.changing.lock().await;
            let before = self.load().await?;
            let mut after = before.clone();
            after.webhooks.iter_mut().filter(|hook| hook.id == id).for_each(|h| h.disabled = true);
            after.store(&before, self.settings.as_ref()).await
        };
        // Hosts that do not answer must not hold up what goes elsewhere; it may be switched off all the same.
        match timeout(SETTINGS, switched).await {
            Ok(Ok(())) => {
                let told = json!({ "webhook": id, "state": "switched_off" });
                self.events.tell("delivery", &told);
            }
            Ok(Err(error)) => {
                let error = causes::with_causes(&error);
                tracing::warn!(webhook = %id, error, "the webhook cannot be switched off");
            }
            Err(_) => tracing::warn!(webhook = %id, "the webhook is not switched off yet"),
        }
    }
}

/// What is mailed in the place of a notice, if that has a link; nothing while it is too early to know.
async fn for_mail(linker: &Arc<dyn Linker>, notice: &Notice, days: u32) -> Option<Option<Notice>> {
    let Some(sid) = linked::archive(notice).filter(|_| days > 0) else { return Some(None) };
    let (linker, id) = (Arc::clone(linker), notice.id);
    match tokio::task::spawn_blocking(move || linker.link(id, &sid, days)).await {
        Ok(Linked::To(link)) => Some(Some(linked::with_link(notice, link))),
        Ok(Linked::Nowhere) => Some(None),
        Ok(Linked::NotYet) | Err(_) => None,
    }
}

/// What a notice is for those who read the stream or the list.
fn numbered(number: u64, notice: &Notice) -> serde_json::Value {
    let mut value = serde_json::to_value(notice).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("number".to_owned(), number.into());
    }
    value
}
