//! Q: links under which whoever has them gets an archive.

use std::path::Path;

use reqwest::{Client, Method, Response, StatusCode};
use samara_node::access::Secret;
use samara_node::tls;
use serde_json::{Value, json};

use crate::story::{Story, Watch};

/// Somebody without a token.
pub struct Stranger(Client);

impl Stranger {
    pub fn new() -> Self {
        let client = Client::builder().no_proxy().tls_backend_preconfigured(tls::nobody());
        Self(client.build().unwrap())
    }

    pub async fn get(&self, url: &str) -> Response {
        self.0.get(url).send().await.unwrap()
    }

    async fn part(&self, url: &str, range: &str) -> Response {
        self.0.get(url).header("range", range).send().await.unwrap()
    }

    /// What is said of a link that leads nowhere.
    async fn refused(&self, url: &str) -> Value {
        let answer = self.get(url).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_unseen(&answer);
        answer.json().await.unwrap()
    }
}

/// Asserts that a link's secret is in no file of a machine: neither in its log nor in what it keeps.
pub fn assert_not_kept(folder: &Path, link: &str) {
    let secret = link.rsplit('/').next().unwrap().as_bytes();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            assert_not_kept(&path, link);
        } else {
            // One that was there for a moment is gone.
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{}", path.display());
        }
    }
}

/// Nothing is to remember an answer to a link, or to tell others of it.
fn assert_unseen(answer: &Response) {
    let header = |name: &str| answer.headers()[name].to_str().unwrap();
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-robots-tag"), "noindex");
    assert_eq!(header("x-content-type-options"), "nosniff");
}

async fn link(story: &Story, name: &str, more: &[&str]) -> Value {
    story.ok(&[&["backup", "link", name], more].concat()).await
}

fn url(link: &Value) -> &str {
    link["url"].as_str().unwrap()
}

#[test]
fn q08_a_row_shows_its_events_its_files_and_where_to_download() {
    Story::tell(|story| async move {
        let (made, file) = story.archive("whole").await;
        let row = &story.listed(&[]).await[0];
        assert!(row["events"].as_u64() >= Some(6), "{row}");
        assert_eq!((&row["events"], &row["files"]), (&made["events"], &json!(6)));
        let client = story.renter.client();
        let request = client.request(Method::GET, row["file_path"].as_str().unwrap());
        let bytes = client.send(request).await.unwrap().bytes().await.unwrap();
        let saved = std::fs::read(&file).unwrap();
        assert!(bytes == saved);
        // A link for others, as often as wanted; what is listed are all but their secrets.
        let (one, two) = (link(&story, "whole", &[]).await, link(&story, "whole", &[]).await);
        assert_ne!(url(&one), url(&two));
        let listed = link(&story, "whole", &["--list"]).await;
        let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|link| &link["id"]).collect();
        assert!(ids.len() == 2 && ids.contains(&&one["id"]) && ids.contains(&&two["id"]));
        assert_eq!(story.ok(&["backup", "link", "--list"]).await, listed);
        let secret = url(&one).rsplit('/').next().unwrap();
        assert!(!listed.to_string().contains(secret) && listed[0].get("url").is_none());
        assert!(Stranger::new().get(url(&one)).await.bytes().await.unwrap() == saved);
    });
}

#[test]
fn q09_a_link_works_without_a_login_until_it_is_revoked() {
    Story::tell(|story| async move {
        let (made, file) = story.archive("whole").await;
        let saved = std::fs::read(&file).unwrap();
        let whole = link(&story, "whole", &["--expires", "3d"]).await;
        let (stranger, address) = (Stranger::new(), url(&whole).to_owned());
        let answer = stranger.get(&address).await;
        assert_eq!(
            (answer.status(), answer.content_length()),
            (StatusCode::OK, Some(saved.len() as u64))
        );
        assert_unseen(&answer);
        let name = answer.headers()["content-disposition"].to_str().unwrap();
        assert_eq!(
            name,
            format!("attachment; filename=\"samara-{}.zip\"", made["sid"].as_str().unwrap())
        );
        assert!(answer.bytes().await.unwrap() == saved);
        let head = stranger.0.head(&address).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], saved.len().to_string().as_str());
        // A proxy has another name.
        let proxied = stranger.0.get(&address).header("host", "backups.example.org").send().await;
        assert_eq!(proxied.unwrap().status(), StatusCode::OK);

        // Ranges, so that a download that was cut goes on.
        for (range, expected) in [
            ("bytes=0-0", &saved[..1]),
            ("bytes=100-", &saved[100..]),
            ("bytes=-7", &saved[saved.len() - 7..]),
        ] {
            let part = stranger.part(&address, range).await;
            assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            assert_unseen(&part);
            assert!(part.bytes().await.unwrap() == expected, "{range}");
        }
        let outside = stranger.part(&address, &format!("bytes={}-", saved.len())).await;
        assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);

        // Another digit is as good as none.
        let (start, last) = address.split_at(address.len() - 1);
        let wrong = format!("{start}{}", if last == "0" { "1" } else { "0" });
        let nowhere = stranger.refused(&wrong).await;
        assert_eq!(nowhere["code"], "no_link");
        let (path, _) = address.rsplit_once('/').unwrap();
        for odd in ["0", "%FF", "..%2f..%2fetc%2fpasswd"] {
            assert_eq!(stranger.refused(&format!("{path}/{odd}")).await, nowhere, "{odd}");
        }

        // It survives a crash. The node listens elsewhere then, since its port is any that is free.
        story.renter.crash().await;
        story.renter.restart().await;
        let now = link(&story, "whole", &[]).await;
        let (base, _) = url(&now).split_once("/v1/").unwrap();
        let address = format!("{base}/v1/{}", address.split_once("/v1/").unwrap().1);
        assert!(stranger.get(&address).await.bytes().await.unwrap() == saved);

        let id = whole["id"].as_str().unwrap();
        story.ok(&["backup", "link", "--revoke", id]).await;
        assert_eq!(
            stranger.refused(&address).await,
            nowhere,
            "the answer does not tell one from another"
        );
        story.refused(&["backup", "link", "--revoke", id], "no_link", 10).await;
        assert_eq!(stranger.get(url(&now)).await.status(), StatusCode::OK);
        for used in [url(&now), &address] {
            assert_not_kept(story.renter.folder(), used);
        }
    });
}

#[test]
fn q09_a_link_works_until_it_expires() {
    Story::tell(|story| async move {
        let mut watch = Watch::of(&story).await;
        story.archive("whole").await;
        story.refused(&["backup", "link", "whole", "--expires", "59s"], "invalid", 2).await;
        story.refused(&["backup", "link", "whole", "--expires", "366d"], "invalid", 2).await;
        let brief = link(&story, "whole", &["--expires", "1m"]).await;
        let longer = link(&story, "whole", &["--expires", "1h"]).await;
        let stranger = Stranger::new();
        assert_eq!(stranger.get(url(&brief)).await.status(), StatusCode::OK);
        watch.until(async || (stranger.get(url(&brief)).await.status() == 404).then_some(())).await;
        assert_eq!(stranger.get(url(&longer)).await.status(), StatusCode::OK);
        let listed = link(&story, "whole", &["--list"]).await;
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &longer["id"]));
    });
}

#[test]
fn q18_links_end_with_the_vault_and_with_the_backup() {
    Story::tell(|story| async move {
        story.archive("whole").await;
        story.archive("other").await;
        let stranger = Stranger::new();
        let (whole, other) = (link(&story, "whole", &[]).await, link(&story, "other", &[]).await);
        story.ok(&["backup", "delete", "whole"]).await;
        assert_eq!(stranger.refused(url(&whole)).await["code"], "no_link");
        assert_eq!(stranger.get(url(&other)).await.status(), StatusCode::OK);

        // A name is no vault: what is called so later brings nothing back.
        story.ok(&["vault", "rename", "home", "house"]).await;
        assert_eq!(stranger.get(url(&other)).await.status(), StatusCode::OK);
        story.ok(&["vault", "remove", "house", "--recursive"]).await;
        assert_eq!(stranger.refused(url(&other)).await["code"], "no_link");
        story.ok(&["vault", "create", "house"]).await;
        assert_eq!(stranger.refused(url(&other)).await["code"], "no_link");
        assert_eq!(story.ok(&["backup", "link", "--list"]).await, json!([]));
        let folder = story.renter.folder().join("links");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        story.refused(&["backup", "link", "other"], "unfit", 4).await;
        // Who may log in has the archive all the same.
        assert_eq!(story.listed(&["other"]).await[0]["status"], "completed");
    });
}

#[test]
fn q18_a_link_ends_when_its_backup_expires() {
    Story::tell(|story| async move {
        let mut watch = Watch::of(&story).await;
        story.archive("whole").await;
        let whole = link(&story, "whole", &[]).await;
        let stranger = Stranger::new();
        assert_eq!(stranger.get(url(&whole)).await.status(), StatusCode::OK);
        story.ok(&["backup", "edit", "whole", "--expires", "1s"]).await;
        watch.until(async || (stranger.get(url(&whole)).await.status() == 404).then_some(())).await;
    });
}

#[test]
fn only_whole_archives_get_links_and_only_from_administrators() {
    Story::tell(|story| async move {
        story.ok(&["backup", "create", "network"]).await;
        story.refused(&["backup", "link", "network"], "unfit", 4).await;
        story.refused(&["backup", "link", "nothing"], "no_backup", 10).await;
        story.archive("whole").await;
        let made = link(&story, "whole", &[]).await;
        let client = story.renter.client();
        for (role, sees) in [("operator", true), ("reader", false)] {
            let token = json!({"name": role, "role": role});
            let token: Value = client.post("/v1/tokens", &token).await.unwrap();
            let secret = Secret::new(token["token"].as_str().unwrap().to_owned().into());
            let other = story.renter.client().with_token(&secret, Path::new("memory"));
            let path = "/v1/backups/whole/links";
            let refused = other.post::<_, Value>(path, &json!({})).await.unwrap_err();
            assert_eq!(refused.code, "forbidden");
            let one = format!("/v1/links/{}", made["id"].as_str().unwrap());
            assert_eq!(other.delete::<Value>(&one).await.unwrap_err().code, "forbidden");
            for list in ["/v1/links", path] {
                assert_eq!(other.get::<Value>(list).await.is_ok(), sees, "{list} as {role}");
            }
        }
    });
}
