//! Users, tokens and roles as they are met over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::access::Access;
use super::client::Client;
use super::error::ApiError;
use super::stream::Operations;
use super::{roles, server};
use crate::access::tests::access_over;
use crate::access::{
    AccessControl, Actor, LoginMade, MemorySettings, NewToken, NoSettings, Role, Secret, Settings,
    TokenMade, TokenView, UserView,
};

const PASSWORD: &str = "correct horse battery";

/// A served API, without a node behind it.
struct Served {
    address: SocketAddr,
    access: Arc<AccessControl>,
    now: Arc<AtomicU64>,
    local: String,
}

impl Served {
    async fn start(
        settings: Arc<dyn Settings>,
        routes: impl FnOnce(&Arc<AccessControl>) -> Router,
    ) -> Self {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let (access, local) = access_over(settings, &now);
        let access = Arc::new(access);
        let keys = (None, Operations::new(CancellationToken::new()));
        let router = server::guarded(routes(&access), Arc::clone(&access), keys);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, access, now, local }
    }

    /// The routes of users and tokens, over settings in memory.
    async fn of_access() -> Self {
        Self::start(Arc::new(MemorySettings::default()), server::of_access).await
    }

    fn client(&self, token: &str) -> Client {
        let token = Secret::new(Zeroizing::new(token.to_owned()));
        Client::new(Access::new(self.address, &token))
    }

    fn administrator(&self) -> Client {
        self.client(&self.local)
    }

    /// A client with a token of nobody's.
    async fn with_role(&self, role: Role) -> Client {
        let new = NewToken { name: "t".into(), user: None, role: Some(role), expires_in: None };
        let made = self.access.create_token(new).await.unwrap();
        self.client(made.token.reveal())
    }

    async fn login(&self, email: &str, password: &str) -> Result<LoginMade, ApiError> {
        let body = json!({ "email": email, "password": password });
        self.client("").post("/v1/login", &body).await
    }
}

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().map_or_else(|| "fine".to_owned(), |error| error.code)
}

#[tokio::test]
async fn every_route_is_open_to_its_least_role_and_above() {
    let stubs = |_: &Arc<AccessControl>| {
        roles::tests::all().iter().fold(Router::new(), |router, (method, path, _)| {
            let method: Method = method.parse().unwrap();
            let stub = on(MethodFilter::try_from(method).unwrap(), || async { "reached" });
            router.route(path, stub)
        })
    };
    let served = Served::start(Arc::new(MemorySettings::default()), stubs).await;
    let clients = [
        (None, served.client("wrong")),
        (Some(Role::Reader), served.with_role(Role::Reader).await),
        (Some(Role::Operator), served.with_role(Role::Operator).await),
        (Some(Role::Administrator), served.with_role(Role::Administrator).await),
        (Some(Role::Administrator), served.administrator()),
    ];
    for (method, path, least) in roles::tests::all() {
        let path = path.replace(['{', '}', '*'], "");
        for (role, client) in &clients {
            let method: Method = method.parse().unwrap();
            let answer = client.send(client.request(method.clone(), &path)).await;
            let expected = match role {
                role if role >= least => "fine",
                None => "unauthorized",
                Some(_) => "forbidden",
            };
            assert_eq!(code(answer), expected, "{method} {path} as {role:?}");
        }
    }
    // A method that a path does not have, and a path that there is not.
    let reader = &clients[1].1;
    assert_eq!(code(reader.send(reader.request(Method::DELETE, "/v1/status")).await), "forbidden");
    assert_eq!(code(reader.get::<Value>("/v1/nothing").await), "not_found");
}

#[tokio::test]
async fn what_shows_a_secret_is_not_to_be_kept() {
    let served = Served::of_access().await;
    let client = served.administrator();
    let ada = json!({ "email": "ada@example.org", "role": "reader", "password": PASSWORD });
    client.post::<_, UserView>("/v1/users", &ada).await.unwrap();
    let login = json!({ "email": "ada@example.org", "password": PASSWORD });
    for (path, body) in [("/v1/tokens", json!({ "name": "t" })), ("/v1/login", login)] {
        let request = client.request(Method::POST, path).json(&body);
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_needed() {
    let served = Served::of_access().await;
    let reader = served.with_role(Role::Reader).await;
    let error = reader.get::<Value>("/v1/users").await.unwrap_err();
    assert_eq!((error.code.as_str(), error.status()), ("forbidden", StatusCode::FORBIDDEN));
    assert_eq!(error.message, "this needs the role administrator; t has the role reader");
    let nobody = served.client("");
    let bare = nobody.send(nobody.request(Method::GET, "/v1/whoami")).await.unwrap_err();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn users_are_made_changed_and_removed() {
    let served = Served::of_access().await;
    let client = served.administrator();
    let body = json!({ "email": "ada@example.org", "role": "operator", "password": PASSWORD });
    let ada: UserView = client.post("/v1/users", &body).await.unwrap();
    assert_eq!((ada.name.as_str(), ada.role, ada.has_password), ("ada", Role::Operator, true));
    assert_eq!(code(client.post::<_, Value>("/v1/users", &body).await), "exists");
    let one = format!("/v1/users/{}", ada.id);
    let raw: Value = client.get(&one).await.unwrap();
    let expected = json!({
        "id": ada.id.to_string(), "email": "ada@example.org", "name": "ada", "role": "operator",
        "disabled": false, "created": 1_000_000, "has_password": true, "tokens": 0,
    });
    assert_eq!(raw, expected, "no hash, no password");

    let body = json!({ "name": "Ada L.", "role": "reader", "disabled": true });
    let shown: UserView = client.patch(&one, &body).await.unwrap();
    assert_eq!((shown.name.as_str(), shown.role, shown.disabled), ("Ada L.", Role::Reader, true));
    assert_eq!(code(client.patch::<_, Value>(&one, &json!({ "id": "00" })).await), "invalid");
    let short = json!({ "password": "short" });
    assert_eq!(code(client.patch::<_, Value>(&one, &short).await), "bad_password");
    assert_eq!(client.get::<Vec<UserView>>("/v1/users").await.unwrap(), [shown]);
    client.delete::<Value>(&one).await.unwrap();
    assert_eq!(code(client.get::<Value>(&one).await), "no_user");
    assert_eq!(code(client.get::<Value>("/v1/users/xyz").await), "invalid");
}

#[tokio::test]
async fn tokens_are_made_used_listed_and_revoked() {
    let served = Served::of_access().await;
    let client = served.administrator();
    let body = json!({ "email": "ada@example.org", "role": "operator" });
    let ada: UserView = client.post("/v1/users", &body).await.unwrap();
    let body = json!({ "name": "nightly", "user": ada.id, "expires_in": 60 });
    let made: TokenMade = client.post("/v1/tokens", &body).await.unwrap();
    assert_eq!(made.view.expires.map(|time| time.0), Some(1_060_000));
    let own = served.client(made.token.reveal());
    let actor: Actor = own.get("/v1/whoami").await.unwrap();
    assert_eq!((actor.user, actor.role), (Some(ada.id), Role::Operator));
    let listed: Vec<TokenView> = own.get("/v1/tokens").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].email.as_deref()), (made.view.id, Some("ada@example.org")));
    let raw: Value = own.get("/v1/tokens").await.unwrap();
    assert!(!raw.to_string().contains(&made.token.reveal()[24..]), "shown once only");

    let above = json!({ "name": "n", "user": ada.id, "role": "administrator" });
    assert_eq!(code(client.post::<_, Value>("/v1/tokens", &above).await), "bad_role");
    assert_eq!(code(own.post::<_, Value>("/v1/tokens", &body).await), "forbidden");
    let foreign: TokenMade = client.post("/v1/tokens", &json!({ "name": "n" })).await.unwrap();
    let path = |made: &TokenMade| format!("/v1/tokens/{}", made.view.id);
    assert_eq!(code(own.delete::<Value>(&path(&foreign)).await), "no_token");
    own.delete::<Value>(&path(&made)).await.unwrap();
    assert_eq!(code(own.get::<Value>("/v1/whoami").await), "unauthorized");
    client.delete::<Value>(&path(&foreign)).await.unwrap();
}

#[tokio::test]
async fn a_login_is_a_token_for_twelve_hours() {
    let served = Served::of_access().await;
    let client = served.administrator();
    let body = json!({ "email": "ada@example.org", "role": "reader", "password": PASSWORD });
    client.post::<_, Value>("/v1/users", &body).await.unwrap();
    let wrong = served.login("ada@example.org", "not the password").await.unwrap_err();
    let unknown = served.login("bob@example.org", "not the password").await.unwrap_err();
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.code, "unauthorized");

    let login = served.login("Ada@example.org", PASSWORD).await.unwrap();
    assert_eq!(login.expires.0, 1_000_000 + 12 * 3_600_000);
    let own = served.client(login.token.reveal());
    assert_eq!(own.get::<Actor>("/v1/whoami").await.unwrap().name, "ada");
    own.post::<_, Value>("/v1/logout", &json!({})).await.unwrap();
    assert_eq!(code(own.get::<Value>("/v1/whoami").await), "unauthorized");
    assert_eq!(code(client.post::<_, Value>("/v1/logout", &json!({})).await), "refused");

    let login = served.login("ada@example.org", PASSWORD).await.unwrap();
    served.now.fetch_add(12 * 3_600_000, Ordering::Relaxed);
    let own = served.client(login.token.reveal());
    assert_eq!(code(own.get::<Value>("/v1/whoami").await), "unauthorized");

    for _ in 0..5 {
        let _ = served.login("ada@example.org", "not the password").await;
    }
    let error = served.login("ada@example.org", PASSWORD).await.unwrap_err();
    let expected = ("too_many_tries", StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((error.code.as_str(), error.status()), expected);
}

#[tokio::test]
async fn without_a_renter_there_is_the_local_administrator() {
    let served = Served::start(Arc::new(NoSettings), server::of_access).await;
    let client = served.administrator();
    assert_eq!(client.get::<Actor>("/v1/whoami").await.unwrap(), Actor::local());
    assert_eq!(code(client.get::<Value>("/v1/users").await), "no_role");
    assert_eq!(
        code(client.post::<_, Value>("/v1/tokens", &json!({ "name": "n" })).await),
        "no_role"
    );
}

#[tokio::test]
async fn whatever_is_refused_is_told_as_a_problem() {
    let served = Served::of_access().await;
    let client = served.administrator();
    let (get, post) = (Method::GET, Method::POST);
    let refused = [
        (client.request(get.clone(), "/v1/nothing"), 404, "not_found"),
        (client.request(get.clone(), "/v1/login"), 405, "method_not_allowed"),
        (client.request(post.clone(), "/v1/users").json(&json!({ "email": 3 })), 400, "invalid"),
        (client.request(post, "/v1/users").body("{"), 400, "invalid"),
        (served.client("").request(get.clone(), "/v1/users"), 401, "unauthorized"),
        (client.request(get, "/v1/users").header("Host", "evil.example"), 401, "unauthorized"),
    ];
    for (request, status, code) in refused {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers().contains_key("allow"), status == 405);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)));
        assert_eq!(problem["type"], json!(format!("urn:samara:error:{code}")));
        assert_eq!(problem["detail"], problem["message"]);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
    }
}

#[tokio::test]
async fn the_field_that_does_not_read_is_named() {
    let served = Served::of_access().await;
    let client = served.administrator();
    let body = json!({ "name": "n", "expires_in": "soon" });
    let error = client.post::<_, Value>("/v1/tokens", &body).await.unwrap_err();
    assert_eq!(error.code, "invalid");
    assert_eq!(error.details.unwrap()["field"], "expires_in");
    let error = client.post::<_, Value>("/v1/tokens", &json!([])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.details), ("invalid", None));
}
