//! Q: archives that can be carried away.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::network::{Stored, text};
use crate::story::Story;

/// What a Python program that knows nothing of Samara counts in an archive.
fn counted(file: &Path) -> Value {
    let program = r#"
import json, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
names = archive.namelist()
root = names[0].split("/")[0]
count = lambda folder: sum(1 for name in names if name.startswith(f"{root}/{folder}/"))
format = json.loads(archive.read(f"{root}/format.json"))
manifest = json.loads(archive.read(f"{root}/manifest.json"))
events = [json.loads(archive.read(name)) for name in names if name.startswith(f"{root}/events/")]
print(json.dumps({"first": names[0], "events": count("events"), "versions": count("versions"), "files": count("files"),
    "numbers": [event["seq"] for event in events], "records": f"{root}/meta/records.csv" in names,
    "users": json.loads(archive.read(f"{root}/meta/users.json")), "name": format["vault"]["name"],
    "manifest": {key: manifest[key] for key in ("events", "versions", "files")}}))
"#;
    let run = Command::new("python3").args(["-c", program]).arg(file).output();
    let run = run.expect("python3 is there");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn q01_q02_q03_l18_l20_one_file_has_every_event_version_and_file() {
    Story::tell(|story| async move {
        story.ok(&["mv", "home/medium", "home/moved"]).await;
        story.ok(&["rm", "home/large"]).await;
        let (made, file) = story.archive("whole").await;
        let counted = counted(&file);
        assert_eq!(counted["events"], made["events"]);
        assert_eq!(counted["versions"], made["versions"]);
        assert_eq!(counted["files"], made["versions"], "each version has its bytes");
        let numbers: Vec<u64> = serde_json::from_value(counted["numbers"].clone()).unwrap();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
        assert!(counted["first"].as_str().unwrap().ends_with("/format.json"));
        assert_eq!(counted["manifest"]["files"], 5);
    });
}

#[test]
fn q04_l19_metadata_users_and_a_table_of_records_are_in_it() {
    Story::tell(|story| async move {
        let client = story.renter.client();
        let user = json!({"email": "ada@example.org", "role": "reader"});
        client.post::<_, Value>("/v1/users", &user).await.unwrap();
        let (_, file) = story.archive("whole").await;
        let counted = counted(&file);
        assert_eq!((&counted["records"], &counted["name"]), (&json!(true), &json!("home")));
        let users = counted["users"]["users"].as_array().unwrap();
        assert_eq!(users.len(), 1);
        let fields: Vec<&String> = users[0].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["email", "id"], "never a role or a secret");
    });
}

#[test]
fn q06_its_row_is_there_at_once_and_it_runs_by_itself() {
    Story::tell(|story| async move {
        let body = json!({"kind": "archive", "name": "alone", "vault": "home"});
        let client = story.renter.client();
        let row: Value = client.post("/v1/backups", &body).await.unwrap();
        assert_eq!(row["status"], "in_progress");
        let path = format!("/v1/backups/{}", row["sid"].as_str().unwrap());
        let mut row: Value = client.get(&path).await.unwrap();
        while row["status"] == "in_progress" {
            tokio::task::yield_now().await;
            row = client.get(&path).await.unwrap();
        }
        assert_eq!(row["status"], "completed", "{row}");
    });
}

#[test]
fn q10_q11_q14_q15_an_archive_becomes_a_new_vault_with_its_history() {
    Story::tell(|story| async move {
        story.ok(&["mv", "home/medium", "home/moved"]).await;
        let (made, file) = story.archive("whole").await;
        let looked = story.ok(&["restore", text(&file), "--name", "copy", "--dry-run"]).await;
        assert_eq!((&looked["events"], &looked["stored_bytes"]), (&made["events"], &json!(0)));
        let job = story.ok(&["restore", text(&file), "--name", "copy"]).await;
        assert_eq!(
            (&job["state"], &job["restored"]["vault"]),
            (&json!("completed"), &json!("copy"))
        );
        let log = story.ok(&["restore", "log", job["id"].as_str().unwrap()]).await;
        let total = made["events"].as_u64().unwrap();
        let line = format!("{total} of {total} events restored");
        let lines = log.as_array().unwrap();
        assert!(
            lines.iter().any(|known| known["text"] == line.as_str() && known["time"].is_u64()),
            "{log}"
        );

        // As many clones as wanted, each on its own.
        story.ok(&["restore", text(&file), "--name", "copy-2"]).await;
        story.ok(&["vault", "remove", "copy", "--recursive"]).await;
        story.ok(&["vault", "remove", "home", "--recursive"]).await;
        let target = story.path("back");
        story.ok(&["get", "copy-2", text(&target)]).await;
        assert!(target.join("moved").is_file() && target.join("ein Ordner").is_dir());
        let vaults = story.ok(&["vault", "list"]).await;
        assert_eq!((&vaults[0]["name"], &vaults[0]["events"]), (&json!("copy-2"), &json!(total)));
    });
}

#[test]
fn q15_elsewhere_it_is_stored_anew_after_a_price() {
    Story::tell(|story| async move {
        let (made, file) = story.archive("whole").await;
        let other = story.shared.renter().await;
        let restored = other.run(&["restore", text(&file)]).await.ok();
        let restored = &restored["restored"];
        assert_eq!((&restored["vault"], &restored["shared_bytes"]), (&json!("home"), &json!(0)));
        assert_eq!(restored["events"], made["events"]);
        assert_eq!(restored["signed_here"], false);
        story.home.assert_back(&other, story.scratch.path()).await;
    });
}

#[test]
fn q12_a_name_that_exists_is_refused_before_anything_is_written() {
    Story::tell(|story| async move {
        let (_, file) = story.archive("whole").await;
        story.refused(&["restore", text(&file)], "exists", 4).await;
        story.refused(&["restore", text(&file), "--name", "Not A Name"], "bad_name", 2).await;
        let vaults = story.ok(&["vault", "list"]).await;
        assert_eq!(vaults.as_array().unwrap().len(), 1);
    });
}

#[test]
fn q13_what_fails_leaves_no_trace() {
    Story::tell(|story| async move {
        let (_, file) = story.archive("whole").await;
        let mut bytes = std::fs::read(&file).unwrap();
        let cut = story.path("cut.zip");
        std::fs::write(&cut, &bytes[..bytes.len() / 3]).unwrap();
        story.refused(&["restore", text(&cut), "--name", "copy"], "archive_truncated", 1).await;
        let name = b"__large";
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
        bytes[at + 1_000] ^= 1;
        let damaged = story.path("damaged.zip");
        std::fs::write(&damaged, &bytes).unwrap();
        // Elsewhere, where the bytes are not known already.
        let other = story.shared.renter().await;
        let done = other.run(&["restore", text(&damaged), "--name", "copy"]).await;
        assert_eq!(
            (done.code, &done.last()["code"]),
            (1, &json!("archive_damaged")),
            "{}",
            done.last()
        );
        assert!(other.run(&["vault", "list"]).await.ok().as_array().unwrap().is_empty());
        // The name is free again.
        other.run(&["restore", text(&file), "--name", "copy"]).await.ok();
        let jobs = other.run(&["restore", "list"]).await.ok();
        assert_eq!(jobs.as_array().unwrap().len(), 2);
    });
}

#[test]
fn q16_q17_missing_users_come_disabled_and_who_restores_owns_it() {
    Story::tell(|story| async move {
        let client = story.renter.client();
        let user = json!({"email": "ada@example.org", "role": "administrator"});
        client.post::<_, Value>("/v1/users", &user).await.unwrap();
        let (_, file) = story.archive("whole").await;
        let other = story.shared.renter().await;
        other.run(&["user", "add", "bob@example.org", "--role", "administrator"]).await.ok();
        let token = story.path("bob.token");
        let create = ["token", "create", "his", "--user", "bob@example.org", "--out", text(&token)];
        other.run(&create).await.ok();
        other.run(&["restore", text(&file), "--token-file", text(&token)]).await.ok();
        let users: Value = other.client().get("/v1/users").await.unwrap();
        let of = |email: &str| {
            let users = users.as_array().unwrap();
            users.iter().find(|user| user["email"] == email).unwrap()
        };
        let vaults = other.run(&["vault", "list"]).await.ok();
        assert_eq!(
            (&vaults[0]["name"], &vaults[0]["owner"]),
            (&json!("home"), &of("bob@example.org")["id"])
        );
        let ada = of("ada@example.org");
        assert_eq!(
            (&ada["email"], &ada["disabled"], &ada["role"]),
            (&json!("ada@example.org"), &json!(true), &json!("reader"))
        );
    });
}

#[test]
fn q19_a_request_waits_for_an_operator() {
    Story::tell(|story| async move {
        let client = story.renter.client();
        let ask = json!({
            "url": "https://archives.example.org/a.zip", "name": "copy",
            "announced": {"events": 7, "files": 6},
        });
        let job: Value = client.post("/v1/restores/requests", &ask).await.unwrap();
        assert_eq!((&job["state"], &job["announced"]["events"]), (&json!("waiting"), &json!(7)));
        let id = job["id"].as_str().unwrap();
        let rejected = story.ok(&["restore", "reject", id]).await;
        assert_eq!(rejected["state"], "rejected");
        story.refused(&["restore", "approve", id], "unfit", 4).await;
    });
}

#[test]
fn addresses_that_an_archive_must_not_come_from_are_refused() {
    Story::tell(|story| async move {
        for url in [
            "http://127.0.0.1:1/a.zip",
            "http://localhost/a.zip",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/a.zip",
            "http://[::ffff:10.0.0.1]/a.zip",
            "http://2130706433/a.zip",
            "http://0177.0.0.1/a.zip",
            "http://user:secret@example.org/a.zip",
        ] {
            let done = story.renter.run(&["restore", url, "--name", "copy"]).await;
            assert_ne!(done.code, 0, "{url}");
            let code = done.last()["code"].as_str().unwrap();
            assert!(["forbidden_address", "bad_url"].contains(&code), "{url}: {}", done.last());
        }
        let vaults = story.ok(&["vault", "list"]).await;
        assert_eq!(vaults.as_array().unwrap().len(), 1);
    });
}

#[test]
fn an_archive_can_be_encrypted() {
    Story::tell(|story| async move {
        let secret = story.path("secret");
        std::fs::write(&secret, "correct horse battery\n").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, private).unwrap();
        let from = format!("file:{}", secret.display());
        let create = [
            "backup",
            "create",
            "sealed",
            "--vault",
            "home",
            "--archive",
            "--passphrase-from",
            &from,
        ];
        let made = story.ok(&create).await;
        assert_eq!(made["encrypted"], true);
        let file = story.path("sealed.zip.age");
        story.ok(&["backup", "download", "sealed", text(&file)]).await;
        assert!(std::fs::read(&file).unwrap().starts_with(b"age-encryption.org/v1"));
        story.refused(&["restore", text(&file), "--name", "copy"], "archive_encrypted", 12).await;
        std::fs::write(&secret, "another horse battery\n").unwrap();
        let wrong = ["restore", text(&file), "--name", "copy", "--passphrase-from", &from];
        story.refused(&wrong, "wrong_passphrase", 12).await;
        std::fs::write(&secret, "correct horse battery\n").unwrap();
        story.ok(&wrong).await;
        let copy = Stored::prepare(story.scratch.path(), "copy", 300_000);
        copy.assert_back(&story.renter, story.scratch.path()).await;
    });
}
