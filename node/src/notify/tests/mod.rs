//! Notices as they arrive: by mail at a server of this process, at a webhook, across restarts.

mod delivery;
mod linked;
mod mail_server;
mod mailed;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use samara_protocol::units::ChainTime;
use tokio::time::Instant;

use super::events::Reader;
use super::news::tests::about;
use super::settings::tests::{mail, webhook};
use super::settings::{Mail, MemorySettings, NotifySettings, Webhook};
use super::{
    Carrier, Link, Linked, Linker, News, Notice, NoticeId, Notices, Refusal, Settings, Work,
};
use crate::clock::Clock;

/// When the tests begin.
const START: u64 = 1_700_000_000_000;

/// A clock that tokio's moves.
fn clock() -> Clock {
    let begun = Instant::now();
    Arc::new(move || ChainTime(START + u64::try_from(begun.elapsed().as_millis()).unwrap()))
}

/// Notes what it is given, and answers as it is told; if it is told nothing, it delivers.
#[derive(Default)]
struct Recorder {
    answers: Mutex<VecDeque<Result<(), Refusal>>>,
    sent: Mutex<Vec<(String, String)>>,
}

impl Recorder {
    fn answering(answers: Vec<Result<(), Refusal>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into()), ..Self::default() })
    }

    fn note(&self, to: &str, notice: &Notice) -> Result<(), Refusal> {
        self.sent.lock().unwrap().push((to.to_owned(), notice.subject.clone()));
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }

    fn sent(&self) -> Vec<(String, String)> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl Carrier for Recorder {
    async fn mail(&self, _: &Mail, notice: &Notice) -> Result<(), Refusal> {
        self.note("mail", notice)
    }

    async fn webhook(&self, hook: &Webhook, notice: &Notice, _: ChainTime) -> Result<(), Refusal> {
        self.note(&hook.id.to_string(), notice)
    }
}

/// Gives the links that it is told to; then there are none.
#[derive(Default)]
struct Given(Mutex<VecDeque<Linked>>);

impl Linker for Given {
    fn link(&self, _: NoticeId, _: &str, _: u32) -> Linked {
        self.0.lock().unwrap().pop_front().unwrap_or(Linked::Nowhere)
    }

    fn sent(&self, _: NoticeId) {}
}

fn refused(reason: &str) -> Result<(), Refusal> {
    Err(Refusal { reason: reason.to_owned(), gone: false })
}

/// A node's folder and settings, over restarts.
struct Place {
    folder: tempfile::TempDir,
    settings: Arc<MemorySettings>,
    clock: Clock,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, settings: Arc::default(), clock: clock() }
    }

    async fn with(settings: NotifySettings) -> Self {
        let place = Self::new();
        let none = NotifySettings::default();
        settings.store(&none, place.settings.as_ref()).await.unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(super::FILE)
    }

    async fn start(&self, carrier: Arc<dyn Carrier>) -> Notices {
        self.start_with(carrier, self.settings.clone()).await
    }

    async fn start_with(&self, carrier: Arc<dyn Carrier>, settings: Arc<dyn Settings>) -> Notices {
        self.start_linking(carrier, settings, Vec::new()).await
    }

    async fn start_linking(
        &self,
        carrier: Arc<dyn Carrier>,
        settings: Arc<dyn Settings>,
        links: Vec<Linked>,
    ) -> Notices {
        let clock = Arc::clone(&self.clock);
        let outside = (carrier, Arc::new(Given(Mutex::new(links.into()))) as Arc<_>);
        Notices::with_carrier(&self.file(), settings, outside, clock).await.unwrap()
    }
}

fn by_mail() -> NotifySettings {
    NotifySettings { mail: Some(mail()), ..NotifySettings::default() }
}

fn notice(name: &str) -> Notice {
    let news = News::Started { work: Work::Backup, about: about(name) };
    news.notice(NoticeId::of(name), ChainTime(START))
}

/// The next event of a stream that is about a delivery: its state, and the number of tries.
async fn delivery(reader: &mut Reader) -> (String, u64) {
    loop {
        let event = reader.next().await.unwrap();
        if event.name == "delivery" {
            let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
            let state = data["state"].as_str().unwrap().to_owned();
            return (state, data["attempts"].as_u64().unwrap_or_default());
        }
    }
}
