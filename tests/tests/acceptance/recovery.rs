//! S: recovery of files from the words alone.

use serde_json::{Value, json};

use crate::network::text;
use crate::story::{Story, names};

#[test]
fn s01_a_name_that_makes_no_sense_is_refused() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "taken"]).await;
        let long = "n".repeat(97);
        for (name, code, exit) in [
            ("", "bad_name", 2),
            (" ", "bad_name", 2),
            (long.as_str(), "bad_name", 2),
            ("taken", "exists", 4),
        ] {
            story.refused(&["backup", "create", name], code, exit).await;
        }
        assert_eq!(names(&story.listed(&[]).await), ["taken"]);
    });
}

#[test]
fn s04_s06_restore_lists_backups_with_their_dates() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "dated"]).await;
        let rows = story.listed(&[]).await;
        assert!(rows[0]["date_created"].as_u64() > Some(0));
        assert!(rows[0]["date_completed"].as_u64() >= rows[0]["date_created"].as_u64());
        assert!(rows[0]["recoverable_until"].as_u64() > rows[0]["chain_time"].as_u64());
    });
}

#[test]
fn s07_s09_s14_s16_an_empty_node_and_the_words_bring_everything_back() {
    Story::tell(|story| async move {
        let create =
            ["backup", "create", "before", "--description", "all", "--tag", "words", "--pin"];
        let made = story.ok(&create).await;
        let words = story.renter.words.clone();
        story.renter.lose().await;
        let found = story.shared.machine(&words).await;
        found.run(&["recover", "start"]).await.ok();
        let rows = found.run(&["backup", "list"]).await.ok();
        let row = &rows[0];
        for field in
            ["sid", "name", "description", "tags", "pinned", "files", "date_created", "cost_quoted"]
        {
            assert_eq!(row[field], made[field], "{field}");
        }
        story.home.assert_back(&found, story.scratch.path()).await;
        story.home.assert_in_backup(&found, "before", story.scratch.path()).await;
    });
}

#[test]
fn s08_files_that_clash_are_kept_replaced_or_renamed() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "before"]).await;
        let target = story.path("there");
        std::fs::create_dir(&target).unwrap();
        let medium = target.join("home/medium");
        std::fs::create_dir(target.join("home")).unwrap();
        std::fs::write(&medium, b"mine").unwrap();
        let restore = |conflict: &'static str| {
            let target = target.clone();
            let story = &story;
            async move {
                let arguments =
                    ["restore", "before", "--to", text(&target), "--on-conflict", conflict];
                story.renter.run(&arguments).await
            }
        };
        let kept = restore("keep").await;
        assert_eq!(
            (kept.code, std::fs::read(&medium).unwrap()),
            (3, b"mine".to_vec()),
            "{:?}",
            kept.last()
        );
        restore("rename").await.ok();
        assert_eq!(std::fs::read(&medium).unwrap(), b"mine");
        restore("replace").await.ok();
        assert_eq!(std::fs::metadata(&medium).unwrap().len(), 700_000);
    });
}

#[test]
fn l02_only_an_administrator_makes_restores_and_deletes() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "kept"]).await;
        let client = story.renter.client();
        for role in ["operator", "reader"] {
            let token: Value =
                client.post("/v1/tokens", &json!({"name": role, "role": role})).await.unwrap();
            let token = token["token"].as_str().unwrap().to_owned();
            let secret = samara_node::access::Secret::new(token.into());
            let other = story.renter.client().with_token(&secret, std::path::Path::new("memory"));
            let body = json!({"name": "no"});
            let restore = json!({"source": {"path": "/nowhere"}});
            let refused = [
                other.post::<_, Value>("/v1/backups", &body).await.unwrap_err(),
                other.post::<_, Value>("/v1/restores", &restore).await.unwrap_err(),
                other.delete::<Value>("/v1/backups/kept").await.unwrap_err(),
            ];
            for error in refused {
                assert_eq!((error.code.as_str(), error.status().as_u16()), ("forbidden", 403));
            }
            let page: Value = other.get("/v1/backups").await.unwrap();
            assert_eq!(page["total"], 1);
        }
    });
}

/// Whether any file below a folder has a text in it.
fn holds(folder: &std::path::Path, text: &str) -> bool {
    assert!(folder.is_dir(), "{} is not there to be searched", folder.display());
    let found = std::process::Command::new("grep").args(["-rqsaF", text]).arg(folder).status();
    match found.unwrap().code() {
        Some(0) => true,
        // Two: not found, and files of a host that runs have gone while others were read.
        Some(1 | 2) => false,
        code => panic!("grep ended with {code:?}"),
    }
}

#[test]
fn s02_a_backup_is_on_the_hosts_and_tells_them_nothing() {
    Story::tell(|story| async move {
        let secret = "a-name-that-nobody-else-has";
        let file = story.path(secret);
        std::fs::write(&file, "a content that nobody else has").unwrap();
        story.ok(&["put", text(&file), "home/below"]).await;
        story.ok(&["backup", "create", "the backup that nobody else has"]).await;
        let report = story.ok(&["backup", "verify", "the backup that nobody else has"]).await;
        assert_eq!(report["sound"], true);
        assert!(report["heads_ok"].as_u64() >= report["heads_needed"].as_u64());
        let hosts = story.shared.hosts().await;
        assert!(hosts.len() >= 4);
        for host in hosts {
            for known in [secret, "a content that nobody else has", "the backup that nobody"] {
                assert!(!holds(&host, known), "{} has '{known}'", host.display());
            }
        }
        // The search finds what is there: the machine itself knows the name.
        assert!(holds(story.scratch.path(), "a content that nobody else has"));
    });
}

#[test]
fn a_drill_proves_that_the_words_bring_everything_back() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "daily"]).await;
        let report = story.ok(&["drill", "run", "--share", "100%"]).await;
        assert_eq!(report["passed"], true, "{report}");
        let reports = story.ok(&["drill", "list"]).await;
        assert_eq!(reports.as_array().unwrap().len(), 1);
        // It has taken nothing over: the machine goes on writing.
        story.ok(&["backup", "create", "after"]).await;
        assert!(!story.renter.folder().join("drill-work").exists());
        story.ok(&["drill", "schedule", "30d"]).await;
    });
}
