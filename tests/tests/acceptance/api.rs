//! The outer form of the HTTP API, as programs meet it.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use samara_node::api::access::Access;
use serde_json::{Value, json};

use crate::story::{Story, names};

/// An answer to somebody without a token.
async fn bare(story: &Story, path: &str) -> reqwest::Response {
    let address = Access::read(story.renter.folder()).unwrap().address;
    let http =
        samara_node::api::client::Client::new(Access { token: String::new(), address, pid: 0 });
    http.request(Method::GET, path).send().await.unwrap()
}

#[test]
fn api_errors_are_problems_with_codes_and_details() {
    Story::tell(|story| async move {
        let client = story.renter.client();
        story.ok(&["backup", "create", "one"]).await;
        client.put::<_, Value>("/v1/backup-limit", &json!({ "limit": 1 })).await.unwrap();
        let request = |body: Value| client.request(Method::POST, "/v1/backups").json(&body);
        let nothing = client.request(Method::GET, "/v1/backups/none");
        for (request, status, code, details) in [
            (nothing, 404, "no_backup", Value::Null),
            (client.request(Method::PATCH, "/v1/vaults"), 405, "method_not_allowed", Value::Null),
            (request(json!({ "pinned": "yes" })), 400, "invalid", json!({ "field": "pinned" })),
            (
                request(json!({ "name": "two" })),
                409,
                "limit_reached",
                json!({ "limit": 1, "kind": "network" }),
            ),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{code}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)));
            assert_eq!(problem["type"], json!(format!("urn:samara:error:{code}")));
            assert_eq!(problem["detail"], problem["message"]);
            assert_eq!(problem["details"], details, "{problem}");
        }
    });
}

#[test]
fn api_describes_itself_to_anybody() {
    Story::tell(|story| async move {
        let answer = bare(&story, "/v1/openapi.json").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let document: Value = answer.json().await.unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let create = &document["paths"]["/v1/backups"]["post"];
        assert_eq!(create["x-role"], "administrator");
        let row = &create["responses"]["202"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(row, "#/components/schemas/BackupRow");
        // What the node answers has exactly the fields of the document.
        story.ok(&["backup", "create", "one"]).await;
        let page: Value = story.renter.client().get("/v1/backups").await.unwrap();
        let row = page["backups"][0].as_object().unwrap();
        let described = document["components"]["schemas"]["BackupRow"]["properties"].as_object();
        assert!(row.keys().eq(described.unwrap().keys()), "{row:?}");
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
        assert_eq!(document, kept);
    });
}

#[test]
fn api_creation_with_a_key_happens_once_also_over_a_restart() {
    Story::tell(|story| async move {
        let post = async |path: &str, key: &str, body: Value| {
            let client = story.renter.client();
            let request = client.request(Method::POST, path).header("Idempotency-Key", key);
            let answer = request.json(&body).send().await.unwrap();
            let replayed = answer.headers().contains_key("idempotency-replayed");
            let place = answer.headers().get("location").cloned();
            let status = answer.status().as_u16();
            (status, replayed, place, answer.json::<Value>().await.unwrap())
        };
        let body = json!({ "name": "once", "description": "sent thrice" });
        let (status, replayed, place, made) = post("/v1/backups", "a1", body.clone()).await;
        assert_eq!((status, replayed, &made["name"]), (202, false, &json!("once")));
        assert!(place.is_some());
        let again = post("/v1/backups", "a1", body.clone()).await;
        assert_eq!(again, (202, true, place.clone(), made.clone()));
        let other = post("/v1/backups", "a1", json!({ "name": "other" })).await;
        assert_eq!((other.0, &other.3["code"]), (422, &json!("key_reused")));

        story.renter.crash().await;
        story.renter.restart().await;
        assert_eq!(post("/v1/backups", "a1", body).await, (202, true, place, made));
        assert_eq!(names(&story.listed(&[]).await), ["once"]);
        let vault = post("/v1/vaults", "a2", json!({ "name": "other" })).await;
        assert_eq!((vault.0, vault.1), (200, false));
        assert!(post("/v1/vaults", "a2", json!({ "name": "other" })).await.1);
        let refused = post("/v1/tokens", "a3", json!({ "name": "t" })).await;
        assert_eq!((refused.0, &refused.3["code"]), (400, &json!("key_not_taken")));
    });
}

#[test]
fn api_metrics_and_health_follow_what_happens() {
    Story::tell(|story| async move {
        let health = bare(&story, "/health").await;
        assert_eq!(health.status(), StatusCode::OK);
        let health: Value = health.json().await.unwrap();
        assert!(["ok", "degraded"].contains(&health["status"].as_str().unwrap()), "{health}");
        assert_eq!(health.as_object().unwrap().len(), 1);
        assert_eq!(bare(&story, "/metrics").await.status(), StatusCode::UNAUTHORIZED);

        let scrape = async || {
            let client = story.renter.client();
            let answer = client.send(client.request(Method::GET, "/metrics")).await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
            let text = answer.text().await.unwrap();
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
            samples
                .map(|(name, value)| (name.to_owned(), value.parse::<f64>().unwrap()))
                .collect::<BTreeMap<_, _>>()
        };
        let before = scrape().await;
        assert_eq!(before[r#"samara_renter_state{state="active"}"#], 1.0);
        assert!(before["samara_hosts"] >= 3.0 && before["samara_chain_height"] > 0.0);
        assert!(before["samara_contracts_money_left_coins"] > 0.0);
        let age = r#"samara_backup_last_success_age_seconds{kind="network"}"#;
        assert!(
            !before.contains_key(age)
                && !before.contains_key("samara_backup_unverified_age_seconds")
        );

        let row = story.ok(&["backup", "create", "one"]).await;
        let after = scrape().await;
        assert_eq!(after[r#"samara_backups{status="completed"}"#], 1.0);
        assert!(after.contains_key(age));
        let bytes = after[r#"samara_backup_last_files_bytes{kind="network"}"#];
        assert_eq!(Some(bytes), row["file_size"].as_f64());
        let until = row["recoverable_until"].as_f64().map(|until| until / 1_000.0);
        assert!(after["samara_backup_recoverable_until_timestamp_seconds"] >= until.unwrap());
        assert!(after.contains_key("samara_backup_unverified_age_seconds"));
        assert!(!after.contains_key("samara_drill_last_passed"), "none was made");
    });
}
