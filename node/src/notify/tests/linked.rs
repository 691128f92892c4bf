//! Links in mails, and nowhere else.

use super::super::Counts;
use super::super::settings::tests::secret;
use super::*;

const URL: &str = "https://a.example/v1/download/0123";

/// Notes what it is given, texts and data too.
#[derive(Default)]
struct Bodies(Mutex<Vec<(&'static str, String)>>);

impl Bodies {
    fn note(&self, to: &'static str, notice: &Notice) {
        self.0.lock().unwrap().push((to, serde_json::to_string(notice).unwrap()));
    }

    /// Whether each of what was sent has the link.
    fn linked(&self) -> Vec<(&'static str, bool)> {
        let mut sent: Vec<_> =
            self.0.lock().unwrap().iter().map(|(to, body)| (*to, body.contains(URL))).collect();
        sent.sort_unstable();
        sent
    }
}

#[async_trait]
impl Carrier for Bodies {
    async fn mail(&self, _: &Mail, notice: &Notice) -> Result<(), Refusal> {
        self.note("mail", notice);
        Ok(())
    }

    async fn webhook(&self, _: &Webhook, notice: &Notice, _: ChainTime) -> Result<(), Refusal> {
        self.note("webhook", notice);
        Ok(())
    }
}

fn to() -> Linked {
    Linked::To(Link { url: secret(URL), expires: None })
}

fn finished(work: Work) -> Notice {
    let (about, counts) = (about("photos"), Counts::default());
    let news = News::Completed { work, about, counts, link: None };
    news.notice(NoticeId::of("finished"), ChainTime(START))
}

/// Publishes a notice, waits for its deliveries, and gives what was sent and what is listed and streamed.
async fn told(
    settings: NotifySettings,
    links: Vec<Linked>,
    notice: Notice,
) -> (Arc<Bodies>, String) {
    let count = settings.webhooks.len() + settings.mail.iter().len();
    let place = Place::with(settings).await;
    let bodies = Arc::new(Bodies::default());
    let notices = place.start_linking(bodies.clone(), place.settings.clone(), links).await;
    let mut events = notices.events(None);
    notices.publish(notice).await.unwrap();
    let mut seen = String::new();
    let mut delivered = 0;
    while delivered < count {
        let event = events.next().await.unwrap();
        seen.push_str(&event.data);
        delivered += usize::from(event.data.contains("\"delivered\""));
    }
    let kept = notices.list(0, 9).await.unwrap();
    seen.push_str(&serde_json::to_string(&kept[0].notice).unwrap());
    notices.shutdown().await;
    (bodies, seen)
}

fn everywhere() -> NotifySettings {
    NotifySettings { webhooks: vec![webhook(1, "http://a.example")], ..by_mail() }
}

#[tokio::test(start_paused = true)]
async fn only_a_mail_has_the_link_of_a_finished_archive() {
    let (bodies, seen) = told(everywhere(), vec![to()], finished(Work::Archive)).await;
    assert_eq!(bodies.linked(), [("mail", true), ("webhook", false)]);
    assert!(!seen.contains(URL), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_mail_waits_until_it_is_known_whether_there_is_a_link() {
    let links = vec![Linked::NotYet, Linked::NotYet, to()];
    let (bodies, _) = told(by_mail(), links, finished(Work::Archive)).await;
    assert_eq!(bodies.linked(), [("mail", true)]);
}

#[tokio::test(start_paused = true)]
async fn no_other_mail_has_one() {
    let (bodies, _) = told(by_mail(), vec![to()], finished(Work::Backup)).await;
    assert_eq!(bodies.linked(), [("mail", false)]);
    // It is switched off.
    let off = NotifySettings { link_days: 0, ..by_mail() };
    let (bodies, _) = told(off, vec![to()], finished(Work::Archive)).await;
    assert_eq!(bodies.linked(), [("mail", false)]);
    // There is none: it says how else to get the archive.
    let (bodies, _) = told(by_mail(), Vec::new(), finished(Work::Archive)).await;
    assert_eq!(bodies.linked(), [("mail", false)]);
    assert!(bodies.0.lock().unwrap()[0].1.contains("samara backup download"));
}
