//! S: the recovery scan in the background, and what is restored from what it finds.

use std::path::Path;
use std::time::Duration;

use samara_node::api::client::Client;
use samara_node::seed::command::{WordCount, draw};
use serde_json::{Value, json};

use crate::network::{Renter, play, play_alone, text};
use crate::story::{Story, names};

/// Time between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The event stream, as a page has it open.
struct Events {
    response: reqwest::Response,
    rest: String,
}

impl Events {
    async fn open(client: &Client) -> Self {
        let request = client.request(reqwest::Method::GET, "/v1/events");
        Self { response: client.send(request).await.unwrap(), rest: String::new() }
    }

    /// The next event of the renter.
    async fn next(&mut self) -> Value {
        loop {
            while let Some((event, rest)) = self.rest.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let value = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
                self.rest = rest.to_owned();
                if let Some(value) = value.filter(|value| value["news"].is_string()) {
                    return value;
                }
            }
            let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Waits for an event that is wanted; gives all up to it.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await;
            let found = wanted(&event);
            seen.push(event);
            if found {
                return seen;
            }
        }
    }
}

async fn scan_of(renter: &Renter) -> Value {
    renter.client().get("/v1/recovery-scan").await.unwrap()
}

/// Looks until the scan is in a state.
async fn until(renter: &Renter, state: &str) -> Value {
    loop {
        let status = scan_of(renter).await;
        if status["state"] == state {
            return status;
        }
        let failed = status["state"] == "error" && state != "error";
        assert!(!failed, "{status}");
        tokio::time::sleep(LOOK).await;
    }
}

/// An empty machine with the words of one that is lost.
async fn lost(story: &Story) -> Renter {
    let words = story.renter.words.clone();
    story.renter.lose().await;
    story.shared.machine(&words).await
}

async fn state_of(renter: &Renter) -> Value {
    let status: Value = renter.client().get("/v1/renter").await.unwrap();
    status["state"].clone()
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn s05_a_backup_in_the_making_goes_on_in_the_background_with_progress_that_moves() {
    Story::tell(|story| async move {
        story.ok(&["limits", "--download", "200000"]).await;
        let client = story.renter.client();
        let mut events = Events::open(&client).await;
        let create = ["backup", "create", "slow", "--vault", "home", "--archive", "--detach"];
        let row = story.ok(&create).await;
        assert_eq!(row["status"], "in_progress");
        let path = format!("/v1/backups/{}", row["sid"].as_str().unwrap());
        let progress = || async {
            let row: Value = client.get(&path).await.unwrap();
            assert_ne!(row["status"], "error", "{row}");
            (row["status"].clone(), row["progress"]["done"].as_u64().unwrap_or_default())
        };
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let (status, done) = progress().await;
            if seen.last().is_none_or(|last| *last < done) {
                seen.push(done);
            }
            if status == "completed" {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        assert!(seen.len() > 1 && seen.is_sorted(), "{seen:?}");
        story.ok(&["limits", "--download", "0"]).await;
        let told = events.until(|event| event["news"] == "backup_ended").await;
        assert_eq!(told[0]["news"], "backup_started");
        assert_eq!(told.last().unwrap()["status"], "completed");
    });
}

#[test]
fn s09_s10_s13_a_scan_tells_blocks_and_goes_on_without_whoever_started_it() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "before"]).await;
        let found = lost(&story).await;
        let mut events = Events::open(&found.client()).await;
        // Whoever started it is gone at its first word.
        found.run_until(&["recover", "scan"], |_| true).await;
        let told = events.until(|event| event["state"] == "found").await;
        let blocks =
            |event: &Value| (event["blocks_done"].as_u64(), event["blocks_known"].as_u64());
        let moves = |event: &&Value| matches!(blocks(event), (Some(1..), Some(1..)));
        assert!(told.iter().filter(moves).all(|event| blocks(event).0 <= blocks(event).1));
        assert!(told.iter().any(|event| moves(&event)), "{told:?}");
        // A page that is opened now shows the same.
        let status = scan_of(&found).await;
        assert_eq!(status["blocks_done"], status["blocks_known"]);
        assert_eq!((&status["contracts_live"], &status["hosts_answered"]), (&json!(5), &json!(5)));
        assert!(status.get("seconds_left").is_some() && status["date_ended"].as_u64() > Some(0));
        assert_eq!(status["log"][0]["text"], "started");
        assert_eq!(state_of(&found).await, "fresh");
    });
}

#[test]
fn s09_a_node_in_use_is_scanned_as_well_and_goes_on() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "before"]).await;
        let status = story.ok(&["recover", "scan"]).await;
        assert_eq!((&status["state"], &status["contracts_unknown"]), (&json!("found"), &json!(0)));
        assert_eq!(status["contracts_known"], status["contracts_live"]);
        assert_eq!(names(status["backups"].as_array().unwrap()), ["before"]);
        assert_eq!(status["backups"][0]["preliminary"], false);
        story.ok(&["backup", "create", "after"]).await;
        let listed = story.ok(&["recover", "list"]).await;
        assert_eq!(names(listed.as_array().unwrap()), ["before", "after"]);
        story.ok(&["recover", "restore", "before", "--dry-run"]).await;
        assert_eq!(state_of(&story.renter).await, "active");
    });
}

#[test]
fn s09_words_that_own_nothing_end_with_a_code_of_their_own() {
    play(|shared| async move {
        let empty = shared.machine(&draw(WordCount::Twelve).unwrap()).await;
        let done = empty.run(&["recover", "scan"]).await;
        assert_eq!((done.code, &done.last()["state"]), (8, &json!("nothing_found")));
        assert!(done.last()["next"].as_str().unwrap().contains("own nothing"));
        assert_eq!(empty.run(&["recover", "list"]).await.code, 8);
        let refused = empty.run(&["recover", "restore", "any"]).await;
        assert_eq!((refused.code, &refused.last()["code"]), (8, &json!("nothing_found")));
    });
}

#[test]
fn s11_backups_appear_by_themselves_while_somebody_only_watches() {
    Story::tell(|story| async move {
        let made = story.ok(&["backup", "create", "before", "--description", "all"]).await;
        story.ok(&["backup", "create", "of home", "--vault", "home"]).await;
        let found = lost(&story).await;
        let mut events = Events::open(&found.client()).await;
        let begun = found.run(&["recover", "scan", "--detach"]).await.ok();
        assert_eq!(begun["backups"], json!([]));
        let told = events.until(|event| event["state"] == "found").await;
        let shown = told.iter().filter(|event| event["news"] == "scan_found_backup");
        let last = |name: &str| shown.clone().rfind(|row| row["name"] == name).cloned();
        let before = last("before").expect("it was told before the end");
        for field in ["sid", "name", "description", "files", "file_size", "date_created"] {
            assert_eq!(before[field], made[field], "{field}");
        }
        assert_eq!(
            (&before["preliminary"], &before["status"]),
            (&json!(false), &json!("completed"))
        );
        assert_eq!(last("of home").unwrap()["vault"], "home");
        let rows = scan_of(&found).await["backups"].clone();
        assert_eq!(names(rows.as_array().unwrap()), ["before", "of home"]);
    });
}

#[test]
fn s12_a_scan_is_stopped_started_again_and_resumes_after_a_crash() {
    play_alone(
        |_| {},
        |shared| async move {
            let story = Story::begin(shared, |_| {}).await;
            story.ok(&["backup", "create", "before"]).await;
            let found = lost(&story).await;
            // No host answers, so that the scan cannot end.
            story.shared.halt_hosts_but("").await;
            found.run(&["recover", "scan", "--detach"]).await.ok();
            let asking = until(&found, "asking").await;
            let stopped = found.run(&["recover", "cancel"]).await.ok();
            assert_eq!(stopped["state"], "stopped");
            assert_eq!(stopped["blocks_done"], asking["blocks_done"]);
            // A restart leaves stopped what was stopped.
            found.crash().await;
            found.restart().await;
            assert_eq!(scan_of(&found).await["state"], "stopped");
            found.run(&["recover", "scan", "--detach"]).await.ok();
            until(&found, "asking").await;
            found.crash().await;
            found.restart().await;
            until(&found, "asking").await;
            story.shared.resume_hosts().await;
            let status = until(&found, "found").await;
            assert_eq!(names(status["backups"].as_array().unwrap()), ["before"]);
            let log = status["log"].as_array().unwrap();
            let said = |text: &str| log.iter().any(|line| line["text"].as_str() == Some(text));
            assert!(said("stopped: somebody stopped it"), "{log:?}");
            assert!(said("the node was started again: it goes on"), "{log:?}");
        },
    );
}

#[test]
fn s14_a_backup_that_was_found_is_read_into_a_folder_and_nothing_is_claimed() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "before"]).await;
        let words = story.renter.words.clone();
        let second = story.shared.machine(&words).await;
        let (target, missing) = (story.path("back"), story.path("missing"));
        let wrong = second.run(&["recover", "restore", "typo", "--to", text(&missing)]).await;
        assert_eq!((wrong.code, &wrong.last()["code"]), (10, &json!("no_backup")));
        assert_eq!(state_of(&second).await, "fresh", "nothing was done for it");
        let part = ["recover", "restore", "before", "--path", "home/medium", "--to", text(&target)];
        let dry = second.run(&[&part[..], &["--dry-run"]].concat()).await.ok();
        assert_eq!(dry["would_restore"]["files"], 1);
        assert!(!target.exists());
        let mut running = second.begin(&["recover", "restore", "before", "--to", text(&target)]);
        assert!(running.reach(|line| line["event"] == "names_available").await, "names first");
        let done = running.end().await.ok();
        assert_eq!(done["restore"]["state"], "completed");
        assert!(done["next"].as_str().unwrap().contains("recover start"));
        assert_eq!(size_of(&target.join("home/medium")), 700_000);
        // The first one writes on.
        story.ok(&["backup", "create", "after"]).await;
    });
}

#[test]
fn s15_after_a_restore_the_user_is_led_to_the_allowance() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "before"]).await;
        story.ok(&["rm", "home/medium"]).await;
        let found = lost(&story).await;
        let restore = ["recover", "restore", "before"];
        let done = found.run(&restore).await.ok();
        assert_eq!(done["recovery"]["outcome"], "done");
        assert_eq!(
            (&done["backup"]["name"], &done["restore"]["state"]),
            (&json!("before"), &json!("completed"))
        );
        assert!(done["next"].as_str().unwrap().contains("allowance set"), "{done}");
        story.home.assert_back(&found, story.scratch.path()).await;
        let found = story.shared.equipped(found).await;
        let done = found.run(&restore).await.ok();
        assert_eq!((&done["next"], &done["recovery"]), (&Value::Null, &Value::Null));
        story.home.assert_back(&found, story.scratch.path()).await;
    });
}
