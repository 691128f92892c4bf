//! S and L: what people are told of their backups, by mail and by webhook.

use serde_json::{Value, json};

use crate::hook::Hook;
use crate::links::{Stranger, assert_not_kept};
use crate::mail::{MailServer, RECIPIENT};
use crate::story::{Story, Watch};

#[test]
fn s03_a_backup_is_told_of_when_it_starts_and_when_it_has_ended() {
    Story::tell_with(Story::reaching_this_machine, |story| async move {
        let (mut mails, mut hook) = (MailServer::of(&story).await, Hook::of(&story).await);
        let tested = story.ok(&["notify", "test"]).await;
        let tested = tested.as_array().unwrap();
        assert!(tested.len() == 2 && tested.iter().all(|one| one["delivered"] == true));
        mails.next("Test").await;
        hook.next("test").await;

        let made = story.ok(&["backup", "create", "monday"]).await;
        let started = mails.next("Backup 'monday'").await;
        assert!(started.subject.ends_with("has started"), "{}", started.subject);
        assert_eq!(
            (started.from.as_str(), &*started.to),
            ("samara@example.org", &[RECIPIENT.to_owned()][..])
        );
        let ended = mails.next("Backup 'monday'").await;
        assert!(ended.subject.ends_with("is complete"), "{}", ended.subject);
        for (kind, severity) in [("backup_started", "info"), ("backup_completed", "info")] {
            let notice = hook.next(kind).await;
            assert_eq!(notice["severity"], severity);
            assert_eq!(notice["data"]["about"]["sid"], made["sid"], "{notice}");
        }

        // One that fails is never told as if it had not.
        broken(&story).await;
        mails.next("Archive 'broken' has started").await;
        let failed = mails.next("Archive 'broken'").await;
        assert!(failed.subject.ends_with("failed"), "{}", failed.subject);
        assert_eq!(hook.next("archive_failed").await["severity"], "error");
    });
}

/// Makes an archive for which there is no place.
async fn broken(story: &Story) -> Value {
    let archives = story.renter.folder().join("archives");
    std::fs::remove_dir_all(&archives).unwrap();
    std::fs::write(&archives, "in the way").unwrap();
    let create = ["backup", "create", "broken", "--vault", "home", "--archive"];
    let done = story.renter.run(&create).await;
    assert_ne!(done.code, 0, "{}", done.last());
    let row = story.ok(&["backup", "show", "broken"]).await;
    assert_eq!(row["status"], "error", "{row}");
    row
}

#[test]
fn l14_a_mail_tells_that_an_archive_is_ready_and_has_its_link() {
    Story::tell_with(Story::reaching_this_machine, |story| async move {
        let (mut mails, mut hook) = (MailServer::of(&story).await, Hook::of(&story).await);
        let (_, file) = story.archive("carry").await;
        let mail = mails.next("Archive 'carry' is complete").await;
        let link = mail.link().expect("a link on a line of its own").to_owned();
        assert!(mail.html.contains(&format!("<a href=\"{link}\">")), "{}", mail.html);
        let answer = Stranger::new().get(&link).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap() == std::fs::read(&file).unwrap());

        // It is for those who get the mail and nobody else.
        let secret = link.rsplit('/').next().unwrap();
        let hooked = hook.next("archive_completed").await;
        let notices: Value = story.renter.client().get("/v1/notifications").await.unwrap();
        for seen in [&hooked, &notices] {
            assert!(!seen.to_string().contains(secret), "{seen}");
        }
        assert_not_kept(story.renter.folder(), &link);
        let listed = story.ok(&["backup", "link", "carry", "--list"]).await;
        let week = 7 * 86_400_000;
        let lives =
            |link: &Value| link["expires"].as_u64().unwrap() - link["created"].as_u64().unwrap();
        assert_eq!((&listed[0]["mailed"], lives(&listed[0])), (&json!(true), week));

        // It lives as long as is set, and no longer than its archive.
        story.ok(&["notify", "set-email", "--link-days", "30"]).await;
        let create =
            ["backup", "create", "soon", "--vault", "home", "--archive", "--expires", "2d"];
        let soon = story.ok(&create).await;
        assert!(mails.next("Archive 'soon' is complete").await.link().is_some());
        let listed = story.ok(&["backup", "link", "soon", "--list"]).await;
        assert_eq!(listed[0]["expires"], soon["date_expired"]);

        // There is none where that is switched off.
        story.ok(&["notify", "set-email", "--link-days", "0"]).await;
        story.ok(&["backup", "create", "plain", "--vault", "home", "--archive"]).await;
        let mail = mails.next("Archive 'plain' is complete").await;
        assert_eq!(mail.link(), None);
        assert!(mail.text.contains("samara backup download"), "{}", mail.text);
        let listed = story.ok(&["backup", "link", "plain", "--list"]).await;
        assert_eq!(listed, json!([]));
    });
}

#[test]
fn l14_a_mail_tells_that_an_archive_failed_and_what_to_do() {
    Story::tell(|story| async move {
        let mut mails = MailServer::of(&story).await;
        let row = broken(&story).await;
        let mail = mails.next("Archive 'broken' failed").await;
        let first = mail.text.lines().next().unwrap();
        assert_eq!(first, "The archive 'broken' failed.");
        let code = row["error"]["code"].as_str().unwrap();
        assert!(mail.text.contains(&format!("({code})")), "{}", mail.text);
        let show = format!("samara backup show {}", row["sid"].as_str().unwrap());
        assert!(mail.text.contains(&show), "{}", mail.text);
        assert_eq!(mail.link(), None);
    });
}

#[test]
fn l14_a_crash_in_the_middle_is_told_as_what_it_is() {
    Story::tell(|story| async move {
        let mut mails = MailServer::of(&story).await;
        let create = ["backup", "create", "cut", "--vault", "home", "--archive", "--detach"];
        story.ok(&create).await;
        story.renter.crash().await;
        story.renter.restart().await;
        let row = story.ok(&["backup", "show", "cut"]).await;
        let ended = match row["status"].as_str().unwrap() {
            "completed" => "is complete",
            "error" => "failed",
            other => panic!("{other}"),
        };
        mails.next(&format!("Archive 'cut' {ended}")).await;
    });
}

#[test]
fn l15_a_backup_is_deleted_by_itself_on_its_date() {
    Story::tell(|story| async move {
        let mut watch = Watch::of(&story).await;
        let soon = ["--expires", "1s"];
        let network = ["backup", "create", "network", "--detach"];
        story.ok(&[&network[..], &soon].concat()).await;
        let archive = ["backup", "create", "archive", "--vault", "home", "--archive", "--detach"];
        story.ok(&[&archive[..], &soon].concat()).await;
        story.ok(&["backup", "create", "pinned", "--pin", "--expires", "1s"]).await;
        let left = watch
            .until(async || {
                let rows = story.listed(&[]).await;
                (rows.len() == 1).then_some(rows)
            })
            .await;
        assert_eq!(left[0]["name"], "pinned");
        let archives = story.renter.folder().join("archives");
        assert_eq!(std::fs::read_dir(&archives).unwrap().count(), 0);
    });
}
