//! Which role a route asks for. One table for all of them; what is not in it is the administrator's.

use axum::http::Method;

use crate::access::Role;

/// Whoever connects, with no token at all.
const ANYBODY: Option<Role> = None;
const READER: Option<Role> = Some(Role::Reader);
const OPERATOR: Option<Role> = Some(Role::Operator);
const ADMINISTRATOR: Option<Role> = Some(Role::Administrator);

/// Every route with the least role that may use it. A test compares them with the routes that there are, and
/// with `docs/api.md`.
///
/// `POST /v1/put` and `POST /v1/get` name files of the node's machine, among which are its words and its
/// administrator's token: they are the administrator's, and others read and write objects.
const LEAST: &[(&str, &str, Option<Role>)] = &[
    ("GET", "/health", ANYBODY),
    ("GET", "/metrics", READER),
    ("GET", "/v1/openapi.json", ANYBODY),
    ("GET", "/v1/status", READER),
    ("POST", "/v1/shutdown", ADMINISTRATOR),
    ("GET", "/v1/chain", READER),
    ("GET", "/v1/chain/hosts", READER),
    ("GET", "/v1/host", READER),
    ("GET", "/v1/chain/validators", READER),
    ("POST", "/v1/chain/validators/propose", ADMINISTRATOR),
    ("POST", "/v1/chain/validators/submit", ADMINISTRATOR),
    ("POST", "/v1/chain/accept-clock", ADMINISTRATOR),
    ("GET", "/v1/wallet", READER),
    ("POST", "/v1/wallet/send", ADMINISTRATOR),
    ("POST", "/v1/wallet/faucet", ADMINISTRATOR),
    ("GET", "/v1/renter", READER),
    ("POST", "/v1/renter/start", ADMINISTRATOR),
    ("GET", "/v1/health", READER),
    ("GET", "/v1/hosts", READER),
    ("GET", "/v1/contracts", READER),
    ("GET", "/v1/garbage", READER),
    ("POST", "/v1/garbage", ADMINISTRATOR),
    ("GET", "/v1/allowance", READER),
    ("POST", "/v1/allowance", ADMINISTRATOR),
    ("GET", "/v1/limits", READER),
    ("POST", "/v1/limits", ADMINISTRATOR),
    ("GET", "/v1/vaults", READER),
    ("POST", "/v1/vaults", OPERATOR),
    ("DELETE", "/v1/vaults/{vault}", ADMINISTRATOR),
    ("POST", "/v1/vaults/{vault}/rename", OPERATOR),
    ("GET", "/v1/vaults/{vault}/files", READER),
    ("POST", "/v1/vaults/{vault}/move", OPERATOR),
    ("POST", "/v1/vaults/{vault}/remove", ADMINISTRATOR),
    ("GET", "/v1/vaults/{vault}/objects/{*path}", READER),
    ("PUT", "/v1/vaults/{vault}/objects/{*path}", OPERATOR),
    ("POST", "/v1/put", ADMINISTRATOR),
    ("POST", "/v1/get", ADMINISTRATOR),
    ("GET", "/v1/backups", READER),
    ("POST", "/v1/backups", ADMINISTRATOR),
    ("POST", "/v1/backups/quote", ADMINISTRATOR),
    ("GET", "/v1/backups/{sid}", READER),
    // A label has the time of expiry, and a pin keeps what would be deleted.
    ("PATCH", "/v1/backups/{sid}", ADMINISTRATOR),
    ("DELETE", "/v1/backups/{sid}", ADMINISTRATOR),
    ("POST", "/v1/backups/{sid}/cancel", ADMINISTRATOR),
    ("POST", "/v1/backups/{sid}/pin", ADMINISTRATOR),
    ("GET", "/v1/backups/{sid}/ls", READER),
    ("GET", "/v1/backups/{sid}/diff/{other}", READER),
    // It spends money, as reading does, and changes nothing.
    ("POST", "/v1/backups/{sid}/verify", OPERATOR),
    ("GET", "/v1/policies", READER),
    ("POST", "/v1/policies", ADMINISTRATOR),
    ("GET", "/v1/policies/{name}", READER),
    ("PUT", "/v1/policies/{name}", ADMINISTRATOR),
    ("DELETE", "/v1/policies/{name}", ADMINISTRATOR),
    ("POST", "/v1/policies/{name}/preview", READER),
    ("POST", "/v1/policies/{name}/run", ADMINISTRATOR),
    ("GET", "/v1/drills", READER),
    ("POST", "/v1/drills", OPERATOR),
    ("GET", "/v1/drills/{id}", READER),
    ("GET", "/v1/drill-schedule", READER),
    ("PUT", "/v1/drill-schedule", ADMINISTRATOR),
    ("GET", "/v1/backup-limit", READER),
    ("PUT", "/v1/backup-limit", ADMINISTRATOR),
    ("GET", "/v1/backups/{sid}/content", READER),
    ("GET", "/v1/links", OPERATOR),
    ("GET", "/v1/backups/{sid}/links", OPERATOR),
    ("POST", "/v1/backups/{sid}/links", ADMINISTRATOR),
    ("DELETE", "/v1/links/{id}", ADMINISTRATOR),
    // What it takes is in the address.
    ("GET", "/v1/download/{secret}", ANYBODY),
    ("POST", "/v1/restore", ADMINISTRATOR),
    // They name addresses and files of the node's machine.
    ("GET", "/v1/restores", OPERATOR),
    ("POST", "/v1/restores", ADMINISTRATOR),
    ("POST", "/v1/restores/upload", ADMINISTRATOR),
    // Whoever may read may ask; an operator decides.
    ("POST", "/v1/restores/requests", READER),
    ("GET", "/v1/restores/{id}", OPERATOR),
    ("DELETE", "/v1/restores/{id}", ADMINISTRATOR),
    ("GET", "/v1/restores/{id}/log", OPERATOR),
    ("POST", "/v1/restores/{id}/cancel", ADMINISTRATOR),
    ("POST", "/v1/restores/{id}/resume", ADMINISTRATOR),
    ("POST", "/v1/restores/{id}/approve", OPERATOR),
    ("POST", "/v1/restores/{id}/reject", OPERATOR),
    ("GET", "/v1/recovery", READER),
    ("POST", "/v1/recovery", ADMINISTRATOR),
    ("POST", "/v1/recovery/stop", ADMINISTRATOR),
    ("GET", "/v1/recovery-scan", READER),
    // It spends money, as reading does, and claims nothing.
    ("POST", "/v1/recovery-scan", OPERATOR),
    ("DELETE", "/v1/recovery-scan", ADMINISTRATOR),
    ("GET", "/v1/events", READER),
    ("GET", "/v1/notifications", READER),
    ("DELETE", "/v1/notifications/{number}", ADMINISTRATOR),
    // Addresses of webhooks may be secrets themselves.
    ("GET", "/v1/notifications/settings", ADMINISTRATOR),
    ("PUT", "/v1/notifications/settings", ADMINISTRATOR),
    ("POST", "/v1/notifications/test", ADMINISTRATOR),
    ("GET", "/v1/users", ADMINISTRATOR),
    ("POST", "/v1/users", ADMINISTRATOR),
    ("GET", "/v1/users/{id}", ADMINISTRATOR),
    ("PATCH", "/v1/users/{id}", ADMINISTRATOR),
    ("DELETE", "/v1/users/{id}", ADMINISTRATOR),
    // The own ones; an administrator's are all.
    ("GET", "/v1/tokens", READER),
    ("POST", "/v1/tokens", ADMINISTRATOR),
    ("DELETE", "/v1/tokens/{id}", READER),
    ("GET", "/v1/whoami", READER),
    ("POST", "/v1/login", ANYBODY),
    ("POST", "/v1/logout", READER),
];

/// The least role for a request, by its method and the pattern that its path matches; nothing if no token is
/// needed.
pub fn least(method: &Method, pattern: Option<&str>) -> Option<Role> {
    // A head is asked for where its body may be read.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let found =
        LEAST.iter().find(|(asked, path, _)| *asked == method.as_str() && pattern == Some(*path));
    found.map_or(ADMINISTRATOR, |(_, _, role)| *role)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The table, for tests of those who enforce it.
    pub(in crate::api) fn all() -> &'static [(&'static str, &'static str, Option<Role>)] {
        LEAST
    }

    fn crate_file(path: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// The routes of a source file: each path with the methods that are chained after it.
    fn routes_in(source: &str) -> Vec<(String, String)> {
        let text: String =
            source.split("#[cfg(test)]").next().unwrap().split_whitespace().collect();
        let mut found = Vec::new();
        for rest in text.split("route(\"").skip(1) {
            let (path, rest) = rest.split_once('"').unwrap();
            let mut depth = 1;
            let chain: String = rest
                .chars()
                .take_while(|sign| {
                    depth += i32::from(*sign == '(') - i32::from(*sign == ')');
                    depth > 0
                })
                .collect();
            for method in ["get", "post", "put", "patch", "delete", "any", "head", "options"] {
                let calls = [",", "."].map(|sign| format!("{sign}{method}"));
                let called = |call: &String, end| chain.contains(&format!("{call}{end}("));
                if calls.iter().any(|call| called(call, "") || called(call, "_with")) {
                    found.push((method.to_uppercase(), path.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn every_route_has_its_least_role_and_no_other_has_one() {
        let mut registered = BTreeSet::new();
        for entry in std::fs::read_dir(crate_file("src/api/routes")).unwrap() {
            let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let calls = source.split("#[cfg(test)]").next().unwrap().matches("route(").count();
            let found = routes_in(&source);
            let paths: BTreeSet<_> = found.iter().map(|(_, path)| path).collect();
            assert_eq!(paths.len(), calls, "a route is written so that this test does not see it");
            registered.extend(found);
        }
        let listed: BTreeSet<(String, String)> =
            LEAST.iter().map(|(method, path, _)| (method.to_string(), path.to_string())).collect();
        assert_eq!(listed.len(), LEAST.len(), "a route is listed twice");
        assert_eq!(registered, listed);
        assert!(registered.len() > 50);
    }

    #[test]
    fn what_is_not_listed_is_the_administrators() {
        assert_eq!(least(&Method::GET, Some("/v1/status")), READER);
        assert_eq!(least(&Method::HEAD, Some("/v1/status")), READER);
        assert_eq!(least(&Method::POST, Some("/v1/login")), ANYBODY);
        for (method, path) in [
            (Method::DELETE, Some("/v1/status")),
            (Method::GET, Some("/v1/new")),
            (Method::GET, Some("/v1/login")),
            (Method::GET, None),
        ] {
            assert_eq!(least(&method, path), ADMINISTRATOR, "{method} {path:?}");
        }
    }

    #[test]
    fn a_login_a_link_and_what_says_nothing_need_no_token_and_readers_change_nothing_but_what_is_theirs()
     {
        let of = |role| LEAST.iter().filter(move |(_, _, least)| *least == role);
        let paths: Vec<_> = of(ANYBODY).map(|(_, path, _)| *path).collect();
        assert_eq!(paths, ["/health", "/v1/openapi.json", "/v1/download/{secret}", "/v1/login"]);
        let changes = of(READER).filter(|(method, _, _)| *method != "GET");
        let changes: Vec<_> = changes.map(|(method, path, _)| (*method, *path)).collect();
        // A preview deletes nothing, and what is asked for waits for somebody else.
        let expected = [
            ("POST", "/v1/policies/{name}/preview"),
            ("POST", "/v1/restores/requests"),
            ("DELETE", "/v1/tokens/{id}"),
            ("POST", "/v1/logout"),
        ];
        assert_eq!(changes, expected);
        assert!(of(OPERATOR).all(|(method, _, _)| *method != "DELETE"));
    }

    /// Texts between backticks.
    fn quoted(text: &str) -> BTreeSet<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_documented_roles_are_these() {
        let docs = std::fs::read_to_string(crate_file("../docs/api.md")).unwrap();
        let section = docs.split("\n## Roles\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let row = |name: &str| {
            let start = format!("| {name} |");
            section.lines().find_map(|line| line.strip_prefix(&start)).unwrap()
        };
        for (name, role) in [("anybody", ANYBODY), ("reader", READER), ("operator", OPERATOR)] {
            let listed = LEAST.iter().filter(|(_, _, least)| *least == role);
            let listed: BTreeSet<String> = listed
                .map(|(method, path, _)| format!("{method} {}", path.replace('*', "")))
                .collect();
            let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
            assert_eq!(quoted(row(name)), listed, "{name}");
        }
    }
}
