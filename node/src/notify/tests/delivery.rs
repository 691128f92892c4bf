//! When deliveries are made, and what becomes of those that fail.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::super::settings::{SettingsError, tests::secret};
use super::super::{Hooks, Kind, NotifyError, State, signature};
use super::*;
use crate::fetch::SystemResolver;

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_until_it_is_delivered() {
    let place = Place::with(by_mail()).await;
    let carrier = Recorder::answering(vec![refused("busy"), refused("busy")]);
    let notices = place.start(carrier.clone()).await;
    let mut events = notices.events(None);
    let begun = Instant::now();
    let number = notices.publish(notice("daily")).await.unwrap();
    assert_eq!(delivery(&mut events).await, ("waiting".to_owned(), 1));
    assert_eq!(delivery(&mut events).await, ("waiting".to_owned(), 2));
    assert_eq!(delivery(&mut events).await, ("delivered".to_owned(), 3));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(90) && took < Duration::from_secs(115), "{took:?}");
    assert_eq!(carrier.sent().len(), 3);
    let kept = &notices.list(0, 9).await.unwrap()[0];
    assert_eq!((kept.number, &kept.notice), (number, &notice("daily")));
    // Told again, it is the same notice.
    assert_eq!(notices.publish(notice("daily")).await.unwrap(), number);
    assert_eq!(carrier.sent().len(), 3);
    notices.shutdown().await;
    assert!(matches!(notices.publish(notice("late")).await, Err(NotifyError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_delivered_for_three_days_is_given_up() {
    let place = Place::with(by_mail()).await;
    let carrier = Recorder::answering((0..100).map(|_| refused("no such user")).collect());
    let notices = place.start(carrier.clone()).await;
    let mut events = notices.events(None);
    let begun = Instant::now();
    notices.publish(notice("daily")).await.unwrap();
    loop {
        let (state, _) = delivery(&mut events).await;
        if state != "waiting" {
            assert_eq!(state, "given_up");
            break;
        }
    }
    let hours = begun.elapsed().as_secs() / 3_600;
    assert!((72..79).contains(&hours), "{hours}");
    let kept = notices.list(0, 9).await.unwrap();
    let delivery = &kept[0].deliveries.as_ref().unwrap()[0];
    assert!(matches!(delivery.state, State::GivenUp(_)));
    assert_eq!(delivery.error.as_deref(), Some("no such user"));
    notices.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_delivered_after_a_restart() {
    let place = Place::with(by_mail()).await;
    let down = Recorder::answering(vec![refused("down"), refused("down")]);
    let notices = place.start(down).await;
    let mut events = notices.events(None);
    for name in ["one", "two"] {
        notices.publish(notice(name)).await.unwrap();
        assert_eq!(delivery(&mut events).await.0, "waiting");
    }
    notices.shutdown().await;
    drop(notices);

    let up = Recorder::answering(Vec::new());
    let notices = place.start(up.clone()).await;
    let mut events = notices.events(None);
    for _ in 0..2 {
        assert_eq!(delivery(&mut events).await, ("delivered".to_owned(), 2));
    }
    let mut subjects: Vec<String> = up.sent().into_iter().map(|(_, subject)| subject).collect();
    subjects.sort();
    assert_eq!(subjects, ["Backup 'one' has started", "Backup 'two' has started"]);
    notices.shutdown().await;
    drop(notices);

    // Nothing is left to do.
    let idle = Recorder::answering(Vec::new());
    let notices = place.start(idle.clone()).await;
    tokio::time::advance(Duration::from_secs(7 * 3_600)).await;
    notices.publish(notice("three")).await.unwrap();
    assert_eq!(delivery(&mut notices.events(None)).await.0, "delivered");
    assert_eq!(idle.sent().len(), 1);
    notices.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn each_goes_where_the_settings_say() {
    let mut failures = webhook(2, "http://b.example");
    failures.kinds = BTreeSet::from([Kind::BackupFailed]);
    let settings = NotifySettings {
        mail: Some(mail()),
        webhooks: vec![webhook(1, "http://a.example"), failures],
        off: BTreeSet::from([Kind::BackupStarted]),
        ..NotifySettings::default()
    };
    let place = Place::with(settings).await;
    let carrier = Recorder::answering(Vec::new());
    let notices = place.start(carrier.clone()).await;
    let mut events = notices.events(None);
    notices.publish(notice("daily")).await.unwrap();
    let problem = crate::notify::news::tests::problem("too few hosts");
    notices.tell("1", &News::Failed { work: Work::Backup, about: about("daily"), problem }).await;
    notices.tell("2", &News::Test {}).await;
    for _ in 0..5 {
        assert_eq!(delivery(&mut events).await.0, "delivered");
    }
    let mut sent = carrier.sent();
    sent.sort();
    let expected = [
        ("0101010101010101", "Backup 'daily' failed"),
        ("0101010101010101", "Test: notices arrive"),
        ("0202020202020202", "Backup 'daily' failed"),
        ("mail", "Backup 'daily' failed"),
        ("mail", "Test: notices arrive"),
    ];
    let expected = expected.map(|(to, subject)| (to.to_owned(), subject.to_owned()));
    assert_eq!(sent, expected);
    notices.shutdown().await;
}

/// Settings that cannot be read until somebody says so.
struct Locked(Arc<MemorySettings>, std::sync::atomic::AtomicBool);

#[async_trait]
impl Settings for Locked {
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        if self.1.load(std::sync::atomic::Ordering::SeqCst) {
            return self.0.load(prefix).await;
        }
        let (code, message) = ("not_started".to_owned(), "nothing is known yet".to_owned());
        Err(SettingsError::Kept { code, message })
    }

    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        self.0.store(values).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_settings_waits_for_them() {
    let place = Place::with(by_mail()).await;
    let locked = Arc::new(Locked(place.settings.clone(), false.into()));
    let carrier = Recorder::answering(Vec::new());
    let notices = place.start_with(carrier.clone(), locked.clone()).await;
    notices.publish(notice("early")).await.unwrap();
    assert!(notices.test().await.is_err());
    notices.shutdown().await;
    drop(notices);
    // It still waits after a restart.
    let notices = place.start_with(carrier.clone(), locked.clone()).await;
    assert_eq!(notices.list(0, 9).await.unwrap()[0].deliveries, None);
    let mut events = notices.events(None);
    locked.1.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(delivery(&mut events).await.0, "delivered");
    assert_eq!(carrier.sent().len(), 1);
    notices.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_tried_at_once() {
    let place = Place::with(by_mail()).await;
    let carrier = Recorder::answering((0..5).map(|_| refused("wrong password")).collect());
    let notices = place.start(carrier.clone()).await;
    let mut events = notices.events(None);
    notices.publish(notice("daily")).await.unwrap();
    for tries in 1..=5 {
        assert_eq!(delivery(&mut events).await, ("waiting".to_owned(), tries));
    }
    let begun = Instant::now();
    let changed = notices.set(|settings| {
        settings.mail.as_mut().unwrap().login.as_mut().unwrap().password = secret("right");
        Ok::<_, SettingsError>(())
    });
    changed.await.unwrap();
    assert_eq!(delivery(&mut events).await.0, "delivered");
    assert!(begun.elapsed() < Duration::from_secs(1));
    // What is sent to a channel that is gone is dropped.
    carrier.answers.lock().unwrap().push_back(refused("busy"));
    notices.publish(notice("weekly")).await.unwrap();
    assert_eq!(delivery(&mut events).await.0, "waiting");
    let without = notices.set(|settings| {
        settings.mail = None;
        Ok::<_, SettingsError>(())
    });
    without.await.unwrap();
    assert_eq!(delivery(&mut events).await.0, "dropped");
    notices.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_dismissed_is_listed_no_more() {
    let place = Place::new();
    let notices = place.start(Recorder::answering(Vec::new())).await;
    let first = notices.publish(notice("one")).await.unwrap();
    let second = notices.publish(notice("two")).await.unwrap();
    notices.dismiss(first).await.unwrap();
    assert!(matches!(notices.dismiss(first).await, Err(NotifyError::Unknown(n)) if n == first));
    let listed = notices.list(0, 9).await.unwrap();
    assert_eq!(listed.iter().map(|kept| kept.number).collect::<Vec<_>>(), [second]);
    notices.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_test_tells_of_each_channel_what_came_of_it() {
    let webhooks = vec![webhook(1, "http://a.example:8080/token")];
    let place = Place::with(NotifySettings { webhooks, ..by_mail() }).await;
    let answers = vec![refused("535 wrong password"), Ok(())];
    let notices = place.start(Recorder::answering(answers)).await;
    let mut events = notices.events(None);
    let tested = notices.test().await.unwrap();
    let told = tested.iter().map(|t| (t.server.as_str(), t.delivered, t.error.as_deref()));
    let expected =
        [("localhost", false, Some("535 wrong password")), ("http://a.example:8080", true, None)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(events.next().await.unwrap().name, "notice");
    // It waits for nothing.
    assert!(notices.list(0, 9).await.unwrap().is_empty());
    notices.shutdown().await;
}

/// Head and body of a request.
type Request = (String, Vec<u8>);

/// A webhook's server: answers one status after the other, and hands on what it was sent.
async fn receiver(statuses: Vec<u16>) -> (String, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=secret", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel(16);
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let length: usize = header(&head, "content-length").parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            sender.send((head, body)).await.unwrap();
            let answer = format!("HTTP/1.1 {status} Status\r\nlocation: /\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, received)
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

fn hooks(allowed: &str) -> Arc<Hooks> {
    let allowed = Arc::new([allowed.parse().unwrap()]);
    Arc::new(Hooks { resolver: Arc::new(SystemResolver), allowed })
}

#[tokio::test]
async fn a_webhook_is_told_signed_and_again_until_it_takes_it() {
    let (url, mut received) = receiver(vec![500, 302, 204]).await;
    let webhooks = vec![webhook(1, &url)];
    let place = Place::with(NotifySettings { webhooks, ..NotifySettings::default() }).await;
    let notices = place.start(hooks("127.0.0.1/32")).await;
    let mut events = notices.events(None);
    let sent = notice("daily");
    notices.publish(sent.clone()).await.unwrap();
    let mut stamps = Vec::new();
    for tries in 1..=3u64 {
        let (head, body) = received.recv().await.unwrap();
        assert_eq!(serde_json::from_slice::<Notice>(&body).unwrap(), sent);
        assert_eq!(header(&head, "samara-id"), sent.id.to_string());
        assert_eq!(header(&head, "content-type"), "application/json");
        let stamp = header(&head, "samara-timestamp");
        let expected = signature("0123456789abcdef", &stamp, &body);
        assert_eq!(header(&head, "samara-signature"), expected);
        stamps.push(stamp.parse::<u64>().unwrap());
        let state = if tries < 3 { "waiting" } else { "delivered" };
        assert_eq!(delivery(&mut events).await, (state.to_owned(), tries));
        // The connection is over: only the next try is waited for.
        if tries < 3 {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(30 * tries * 5 / 4)).await;
            tokio::time::resume();
        }
    }
    assert!(stamps[0] >= START / 1_000 && stamps[1] >= stamps[0] + 30, "{stamps:?}");
    assert!(stamps[2] >= stamps[1] + 60, "{stamps:?}");
    notices.shutdown().await;
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_switched_off() {
    let (url, mut received) = receiver(vec![410]).await;
    let webhooks = vec![webhook(1, &url)];
    let place = Place::with(NotifySettings { webhooks, ..NotifySettings::default() }).await;
    let notices = place.start(hooks("127.0.0.1/32")).await;
    let mut events = notices.events(None);
    notices.publish(notice("daily")).await.unwrap();
    received.recv().await.unwrap();
    assert_eq!(delivery(&mut events).await.0, "switched_off");
    assert_eq!(delivery(&mut events).await.0, "given_up");
    assert!(notices.settings().await.unwrap().webhooks[0].disabled);
    notices.publish(notice("weekly")).await.unwrap();
    let kept = notices.list(1, 9).await.unwrap();
    assert_eq!(kept[0].deliveries.as_deref(), Some(&[][..]));
    notices.shutdown().await;
}

/// Settings of which the first change takes until somebody says so, and then perhaps fails.
struct Slow {
    settings: Arc<MemorySettings>,
    fails: bool,
    changed: std::sync::atomic::AtomicBool,
    began: Notify,
    go_on: Notify,
}

#[async_trait]
impl Settings for Slow {
    async fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, SettingsError> {
        self.settings.load(prefix).await
    }

    async fn store(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), SettingsError> {
        if !self.changed.swap(true, std::sync::atomic::Ordering::SeqCst) {
            self.began.notify_one();
            self.go_on.notified().await;
            if self.fails {
                let (code, message) = ("no_quorum".to_owned(), "too few hosts".to_owned());
                return Err(SettingsError::Kept { code, message });
            }
        }
        self.settings.store(values).await
    }
}

/// A node whose webhook is gone, at the moment at which it is being switched off.
async fn switching_off(place: &Place, fails: bool) -> (Arc<Slow>, Notices, Reader) {
    let (changed, began, go_on) = (false.into(), Notify::new(), Notify::new());
    let slow = Arc::new(Slow { settings: place.settings.clone(), fails, changed, began, go_on });
    let gone = Refusal { reason: "gone".to_owned(), gone: true };
    let carrier = Recorder::answering(vec![Err(gone)]);
    let notices = place.start_with(carrier, slow.clone()).await;
    let events = notices.events(None);
    notices.publish(notice("daily")).await.unwrap();
    slow.began.notified().await;
    (slow, notices, events)
}

#[tokio::test]
async fn a_webhook_that_is_removed_while_it_is_switched_off_stays_removed() {
    let webhooks = vec![webhook(1, "https://a.example/b")];
    let place = Place::with(NotifySettings { webhooks, ..NotifySettings::default() }).await;
    let (slow, notices, mut events) = switching_off(&place, false).await;
    let mut removed = Box::pin(notices.set(|settings| {
        settings.webhooks.clear();
        Ok::<_, SettingsError>(())
    }));
    assert!(futures::poll!(removed.as_mut()).is_pending(), "one change at a time");
    slow.go_on.notify_one();
    removed.await.unwrap();
    assert_eq!(delivery(&mut events).await.0, "switched_off");
    assert!(notices.settings().await.unwrap().webhooks.is_empty());
    notices.shutdown().await;
}

#[tokio::test]
async fn a_webhook_that_is_not_switched_off_is_not_said_to_be() {
    let webhooks = vec![webhook(1, "https://a.example/b")];
    let place = Place::with(NotifySettings { webhooks, ..NotifySettings::default() }).await;
    let (slow, notices, mut events) = switching_off(&place, true).await;
    slow.go_on.notify_one();
    assert_eq!(delivery(&mut events).await.0, "given_up");
    assert!(!notices.settings().await.unwrap().webhooks[0].disabled);
    notices.shutdown().await;
}

#[tokio::test]
async fn a_webhook_leads_to_public_addresses_only() {
    let (url, mut received) = receiver(vec![204]).await;
    let webhooks = vec![webhook(1, &url)];
    let place = Place::with(NotifySettings { webhooks, ..NotifySettings::default() }).await;
    let notices = place.start(hooks("10.0.0.0/8")).await;
    let tested = notices.test().await.unwrap();
    let error = tested[0].error.as_deref().unwrap();
    assert!(error.contains("loopback") && error.contains("allowed_networks"), "{error}");
    assert!(!error.contains("token"), "{error}");
    assert!(received.try_recv().is_err());
    notices.shutdown().await;
}
