//! Users, roles and tokens, as people with terminals meet them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use reqwest::Method;
use samara_node::access::{Secret, TOKEN_FILE};
use samara_node::api::ApiError;
use samara_node::api::client::Client;
use serde_json::{Value, json};

use crate::network::{Done, Renter, Shared, play, text};

const PASSWORD: &str = "correct horse battery";

/// Writes a file that is for its owner alone.
fn private(path: &Path, contents: &str) {
    std::fs::write(path, contents).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn refused(done: &Done, code: &str, exit: i32) {
    assert_eq!((done.code, &done.last()["code"]), (exit, &json!(code)), "{}", done.last());
}

/// A client that shows the token of a file.
fn client_of(renter: &Renter, file: &Path) -> Client {
    let token = std::fs::read_to_string(file).unwrap().trim().to_owned();
    renter.client().with_token(&Secret::new(token.into()), file)
}

async fn put_object(client: &Client, path: &str) -> Result<(), ApiError> {
    client.send(client.request(Method::PUT, path).body("by hand")).await.map(drop)
}

#[test]
fn users_have_their_roles_and_come_back_from_the_words() {
    play(|shared: Arc<Shared>| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let (password, token) = (scratch.path().join("password"), scratch.path().join("token"));
        private(&password, &format!("{PASSWORD}\n"));
        let from = format!("file:{}", password.display());
        let add =
            ["user", "add", "ada@example.org", "--role", "operator", "--password-from", &from];
        let ada = renter.run(&add).await.ok();
        assert_eq!((&ada["role"], &ada["has_password"]), (&json!("operator"), &json!(true)));
        refused(&renter.run(&add).await, "exists", 4);
        let create =
            ["token", "create", "nightly", "--user", "ada@example.org", "--out", text(&token)];
        let made = renter.run(&create).await.ok();
        assert_eq!(made.get("token"), None, "it is in the file");
        assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o7777, 0o600);
        let file = text(&token);
        operator_may(&renter, file, scratch.path()).await;

        renter.run(&["user", "disable", "ADA@example.org"]).await.ok();
        refused(&renter.run(&["whoami", "--token-file", file]).await, "unauthorized", 1);
        renter.run(&["user", "enable", "ada@example.org"]).await.ok();
        let own = renter.run(&["whoami", "--token-file", file]).await.ok();
        assert_eq!((&own["user"], &own["role"]), (&ada["id"], &json!("operator")));

        // Another machine with the same words knows them, and has an administrator's token of its own.
        let old = scratch.path().join("old");
        std::fs::copy(renter.folder().join(TOKEN_FILE), &old).unwrap();
        renter.lose().await;
        let renter = shared.machine(&renter.words).await;
        refused(&renter.run(&["whoami", "--token-file", file]).await, "unauthorized", 1);
        renter.run(&["recover", "start"]).await.ok();
        let own = renter.run(&["whoami", "--token-file", file]).await.ok();
        assert_eq!((&own["user"], &own["role"]), (&ada["id"], &json!("operator")));
        refused(&renter.run(&["whoami", "--token-file", text(&old)]).await, "unauthorized", 1);
        let kept = renter.folder().join(TOKEN_FILE);
        let kept = renter.run(&["whoami", "--token-file", text(&kept)]).await.ok();
        assert_eq!(kept["role"], "administrator");
        let login = json!({ "email": "ada@example.org", "password": PASSWORD });
        let login: Value = renter.client().post("/v1/login", &login).await.unwrap();
        assert_eq!(login["role"], "operator");
    });
}

/// What an operator may, and may not.
async fn operator_may(renter: &Renter, file: &str, scratch: &Path) {
    let run =
        async |arguments: &[&str]| renter.run(&[arguments, &["--token-file", file]].concat()).await;
    run(&["vault", "create", "work"]).await.ok();
    let client = client_of(renter, Path::new(file));
    put_object(&client, "/v1/vaults/work/objects/note.txt").await.unwrap();
    run(&["mv", "work/note.txt", "work/notes/1.txt"]).await.ok();
    assert_eq!(run(&["ls", "work", "-r"]).await.ok()[0]["path"], "notes/1.txt");
    let target = scratch.join("target");
    for arguments in [
        &["rm", "work/notes/1.txt"][..],
        &["vault", "remove", "work", "-r"],
        &["backup", "create", "mine"],
        &["get", "work", text(&target)],
        &["put", text(scratch), "work"],
        &["limits", "--upload", "1MB"],
        &["user", "list"],
        &["token", "create", "another"],
    ] {
        let done = run(arguments).await;
        refused(&done, "forbidden", 4);
        assert!(done.last()["message"].as_str().unwrap().contains("administrator"));
    }
    assert!(!target.exists());
    let tokens = run(&["token", "list"]).await.ok();
    assert_eq!(tokens.as_array().unwrap().len(), 1);
    // A file that others read is no place for a token.
    let open = scratch.join("open");
    std::fs::copy(file, &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = renter.run(&["whoami", "--token-file", text(&open)]).await;
    assert_eq!(done.code, 1);
    assert!(done.last()["message"].as_str().unwrap().contains("chmod 600"), "{}", done.last());
}
