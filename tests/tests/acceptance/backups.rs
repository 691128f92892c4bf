//! L: backups that people manage.

use samara_tests::noise;
use serde_json::{Value, json};

use crate::network::text;
use crate::story::{Story, names};

#[test]
fn l03_the_cost_is_shown_before_anything_is_made() {
    Story::tell(|story| async move {
        let quote = story.ok(&["backup", "quote", "--vault", "home"]).await;
        assert!(quote["price"].as_str().is_some(), "{quote}");
        assert_eq!((&quote["files"], &quote["versions"]), (&json!(6), &json!(6)));
        assert!(story.listed(&[]).await.is_empty());
        let too_dear = ["backup", "create", "x", "--max-cost", "0.000000000001"];
        let refused = story.refused(&too_dear, "quote_exceeded", 4).await;
        assert!(refused["details"]["price"].as_str().is_some(), "{refused}");
        assert!(story.listed(&[]).await.is_empty());
    });
}

#[test]
fn l05_the_price_grows_with_the_size_and_is_not_exceeded() {
    Story::tell(|story| async move {
        let price = |quote: &Value| quote["price"].as_str().unwrap().to_owned();
        let parse = |text: &str| text.parse::<samara_protocol::units::Amount>().unwrap();
        let quote = ["backup", "quote", "--vault", "home", "--archive"];
        let small = parse(&price(&story.ok(&quote).await));
        let file = story.path("more");
        std::fs::write(&file, noise(&[9], 3_000_000)).unwrap();
        story.ok(&["put", text(&file), "home/more"]).await;
        let large = parse(&price(&story.ok(&quote).await));
        assert!(large > small, "{large} {small}");
        let (made, _) = story.archive("whole").await;
        let paid = parse(made["cost_actual"].as_str().unwrap());
        let quoted = parse(made["cost_quoted"].as_str().unwrap());
        assert!(paid <= quoted, "{paid} of {quoted}");
        // A quote that is not known is a conflict, and nothing is charged or made.
        let client = story.renter.client();
        let body = json!({"name": "stale", "quote": "0123456789abcdef"});
        let error = client.post::<_, Value>("/v1/backups", &body).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.status().as_u16()), ("stale_quote", 409));
        assert_eq!(names(&story.listed(&[]).await), ["whole"]);
    });
}

#[test]
fn l04_a_backup_has_a_name_and_an_optional_description() {
    Story::tell(|story| async move {
        let made =
            story.ok(&["backup", "create", "before the move", "--description", "all of it"]).await;
        assert_eq!(
            (&made["name"], &made["description"]),
            (&json!("before the move"), &json!("all of it"))
        );
        let plain = story.ok(&["backup", "create", "plain"]).await;
        assert_eq!(plain["description"], "");
        let long = "d".repeat(4_097);
        story
            .refused(&["backup", "create", "x", "--description", &long], "bad_description", 2)
            .await;
    });
}

#[test]
fn l06_l07_a_list_shows_status_and_basics() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "network", "--tag", "monthly"]).await;
        story.ok(&["backup", "create", "archive", "--vault", "home", "--archive"]).await;
        let rows = story.listed(&[]).await;
        for row in &rows {
            assert_eq!((&row["status"], &row["files"]), (&json!("completed"), &json!(6)), "{row}");
            for field in ["sid", "kind", "file_size", "date_created", "cost_quoted", "trigger"] {
                assert!(!row[field].is_null(), "{field} of {row}");
            }
        }
        assert_eq!((&rows[0]["kind"], &rows[1]["kind"]), (&json!("network"), &json!("archive")));
    });
}

#[test]
fn l08_l09_l10_a_list_is_searched_cleared_and_filtered() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "spring", "--tag", "garden", "--description", "beds"]).await;
        story.ok(&["backup", "create", "summer"]).await;
        assert_eq!(names(&story.listed(&["GARDEN"]).await), ["spring"]);
        assert_eq!(names(&story.listed(&["bed"]).await), ["spring"]);
        let sid = story.listed(&["summer"]).await[0]["sid"].as_str().unwrap().to_owned();
        assert_eq!(names(&story.listed(&[&sid]).await), ["summer"]);
        assert!(story.listed(&["winter"]).await.is_empty());
        assert_eq!(story.listed(&[]).await.len(), 2, "without words all are there again");
        assert_eq!(story.listed(&["--status", "completed"]).await.len(), 2);
        assert!(story.listed(&["--status", "in-progress"]).await.is_empty());
        assert!(story.listed(&["--status", "error"]).await.is_empty());
        let names_down = story.listed(&["--sort", "name", "--descending"]).await;
        assert_eq!(names(&names_down), ["summer", "spring"]);
        // Pages, over the API.
        let page: Value =
            story.renter.client().get("/v1/backups?limit=1&offset=1&order=name").await.unwrap();
        assert_eq!((&page["total"], &page["backups"][0]["name"]), (&json!(2), &json!("summer")));
    });
}

#[test]
fn l11_l12_a_detail_page_has_every_field() {
    Story::tell(|story| async move {
        story
            .ok(&["backup", "create", "full", "--vault", "home", "--archive", "--expires", "30d"])
            .await;
        let detail = story.ok(&["backup", "show", "full"]).await;
        for field in [
            "sid",
            "name",
            "description",
            "status",
            "versions",
            "files",
            "file_size",
            "file_path",
            "date_expired",
            "date_created",
            "date_completed",
            "stored_size",
            "cost_quoted",
            "cost_actual",
            "events",
            "head_seq",
            "head_hash",
            "archive_hash",
            "trigger",
            "pinned",
            "log",
        ] {
            assert!(!detail[field].is_null(), "{field} of {detail}");
        }
        let log = detail["log"].as_array().unwrap();
        assert!(log.len() >= 3, "{log:?}");
    });
}

#[test]
fn l13_a_completed_archive_can_be_downloaded_in_ranges() {
    Story::tell(|story| async move {
        let (made, file) = story.archive("whole").await;
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(made["archive_hash"], blake3::hash(&bytes).to_string());
        assert_eq!(made["stored_size"], bytes.len());
        let client = story.renter.client();
        let path = made["file_path"].as_str().unwrap();
        let request = client.request(reqwest::Method::GET, path).header("range", "bytes=10-29");
        let part = client.send(request).await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(
            part.headers()["content-disposition"].to_str().unwrap().split(';').next(),
            Some("attachment")
        );
        assert_eq!(part.bytes().await.unwrap(), bytes[10..30]);
        // A network backup has no file.
        story.ok(&["backup", "create", "network"]).await;
        let target = story.path("none");
        story.refused(&["backup", "download", "network", text(&target)], "unfit", 4).await;
        assert!(!target.exists());
    });
}

#[test]
fn l16_l17_a_backup_is_deleted_by_name_or_id_and_takes_nothing_up_then() {
    Story::tell(|story| async move {
        let (made, _) = story.archive("one").await;
        let archives = story.renter.folder().join("archives");
        let count = || std::fs::read_dir(&archives).unwrap().count();
        assert_eq!(count(), 1);
        story.ok(&["backup", "delete", made["sid"].as_str().unwrap()]).await;
        assert_eq!(count(), 0);
        story.ok(&["backup", "create", "two"]).await;
        story.ok(&["backup", "delete", "two"]).await;
        assert!(story.listed(&[]).await.is_empty());
        story.refused(&["backup", "show", "two"], "no_backup", 10).await;
    });
}

#[test]
fn q07_the_eleventh_is_refused_and_nothing_goes_for_it() {
    Story::tell(|story| async move {
        story.ok(&["backup", "limit", "2"]).await;
        story.ok(&["backup", "create", "one", "--vault", "home"]).await;
        story.ok(&["backup", "create", "two", "--vault", "home"]).await;
        story.refused(&["backup", "create", "three", "--vault", "home"], "limit_reached", 4).await;
        assert_eq!(names(&story.listed(&[]).await), ["one", "two"]);
        story.ok(&["backup", "delete", "one"]).await;
        story.ok(&["backup", "create", "three", "--vault", "home"]).await;
        let page: Value = story.renter.client().get("/v1/backups").await.unwrap();
        assert_eq!((&page["limit"], &page["used"][0]["count"]), (&json!(2), &json!(2)));
    });
}

#[test]
fn a_restart_in_the_middle_leaves_a_reason_and_no_file() {
    Story::tell(|story| async move {
        let create = ["backup", "create", "cut", "--vault", "home", "--archive", "--detach"];
        story.ok(&create).await;
        story.renter.crash().await;
        story.renter.restart().await;
        let row = story.ok(&["backup", "show", "cut"]).await;
        let archives = story.renter.folder().join("archives");
        let files = std::fs::read_dir(&archives).unwrap().count();
        match row["status"].as_str().unwrap() {
            "completed" => assert_eq!(files, 1),
            _ => assert_eq!((&row["error"]["code"], files), (&json!("interrupted"), 0), "{row}"),
        }
    });
}

#[test]
fn l01_backups_have_settings_of_their_own() {
    Story::tell(|story| async move {
        let client = story.renter.client();
        let limit: Value = client.get("/v1/backup-limit").await.unwrap();
        assert_eq!(limit["limit"], 10);
        story.ok(&["backup", "limit", "3"]).await;
        story.ok(&["policy", "create", "nightly", "--every", "1d", "--keep-last", "2"]).await;
        // They are the words', and so they outlive the process.
        story.renter.crash().await;
        story.renter.restart().await;
        let client = story.renter.client();
        let limit: Value = client.get("/v1/backup-limit").await.unwrap();
        assert_eq!(limit["limit"], 3);
        let policies: Value = client.get("/v1/policies").await.unwrap();
        assert_eq!(policies[0]["name"], "nightly", "{policies}");
    });
}

#[test]
fn q05_who_starts_it_is_known_and_is_its_owner() {
    Story::tell(|story| async move {
        let client = story.renter.client();
        let user = json!({"email": "ada@example.org", "role": "administrator"});
        let user: Value = client.post("/v1/users", &user).await.unwrap();
        let token = json!({"name": "hers", "user": user["id"]});
        let token: Value = client.post("/v1/tokens", &token).await.unwrap();
        let secret =
            samara_node::access::Secret::new(token["token"].as_str().unwrap().to_owned().into());
        let hers = story.renter.client().with_token(&secret, std::path::Path::new("memory"));
        let archive = json!({"kind": "archive", "name": "hers", "vault": "home"});
        let row: Value = hers.post("/v1/backups", &archive).await.unwrap();
        assert_eq!(row["created_by"], user["id"], "{row}");
        let row = story.ok(&["backup", "create", "ours"]).await;
        assert_eq!(row["created_by"], Value::Null, "whoever runs the node is no user");
        let vaults = story.ok(&["vault", "list"]).await;
        assert_eq!(vaults[0]["name"], "home");
        assert_eq!(vaults[0].get("owner"), Some(&Value::Null), "{vaults}");
    });
}

#[test]
fn q20_help_and_docs_say_when_not_to_use_which_kind() {
    let help = std::process::Command::new(crate::network::SAMARA)
        .args(["backup", "create", "--help"])
        .output()
        .unwrap();
    let help =
        String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in ["it is no second copy of the bytes", "not as the only copy on this machine"] {
        assert!(help.contains(sentence), "{help}");
    }
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/backups.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for sentence in ["*Do not use a network backup*", "*Do not use an archive*"] {
        assert!(docs.contains(sentence), "{sentence}");
    }
}
