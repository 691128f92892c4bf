//! The document against the routes, the file in `docs`, and what handlers really answer.

use std::collections::BTreeSet;
use std::path::Path;

use samara_protocol::chain::ChainParameters;
use samara_protocol::units::Amount;
use samara_renter::backup::{BackupDetail, BackupKind, BackupStatus, LogLine, PolicyRow};
use samara_renter::contract::Allowance;
use samara_renter::progress::{Phase, ProgressEvent, Unit};
use samara_renter::recovery::{RecoveryOptions, RecoveryPhase};
use samara_renter::repair::HealthReport;
use samara_renter::rows::{RenterState, RenterStatus};
use samara_renter::vault::{FileRow, ListRow, PutReport};
use serde::Serialize;

use super::*;
use crate::access::UserView;
use crate::api::error::{ApiError, Problem};
use crate::api::stream::Message;
use crate::api::{NotifyAnswer, metrics};
use crate::drill::DrillReport;
use crate::restores::Restore;

/// The operations, each with its method and path.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    all.collect()
}

#[test]
fn every_route_is_documented_and_no_other() {
    let document = document();
    let documented: BTreeSet<(String, String)> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let routes: BTreeSet<(String, String)> = roles::tests::all()
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), path.replace('*', "")))
        .collect();
    let missing: Vec<_> = routes.difference(&documented).collect();
    assert!(missing.is_empty(), "make them with `.api_route`: {missing:?}");
    assert_eq!(documented, routes);
}

#[test]
fn every_operation_says_what_it_does_takes_and_answers() {
    let document = document();
    let (mut ids, mut without_body) = (BTreeSet::new(), Vec::new());
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty() && !summary.ends_with('.'), "{name}: {summary}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
        let responses = operation["responses"].as_object().unwrap();
        let problem = &responses["default"]["content"][PROBLEM]["schema"]["$ref"];
        assert_eq!(problem, &json!(format!("{ANSWERS}Problem")), "{name}");
        let (mut good, others): (Vec<_>, Vec<_>) =
            responses.iter().partition(|(status, _)| status.starts_with('2'));
        assert!(!good.is_empty(), "{name} answers nothing");
        good.extend(others);
        for (status, answer) in good {
            for (kind, media) in answer["content"].as_object().unwrap() {
                let schema = &media["schema"];
                let vacuous = schema.as_object().is_none_or(Map::is_empty);
                let bytes = kind == "application/octet-stream";
                let own = path == "/v1/openapi.json";
                assert!(!vacuous || bytes || own, "{name} {status} {kind}: {schema}");
            }
        }
        let public = roles::least(&method.parse().unwrap(), Some(&path)).is_none();
        assert_eq!(operation["security"] == json!([]), public, "{name}");
        if method != "GET" && method != "DELETE" && operation["requestBody"].is_null() {
            without_body.push(name);
        }
    }
    let expected = [
        "POST /v1/backups/{sid}/cancel",
        "POST /v1/garbage",
        "POST /v1/logout",
        "POST /v1/notifications/test",
        "POST /v1/policies/{name}/run",
        "POST /v1/recovery/stop",
        "POST /v1/renter/start",
        "POST /v1/restores/{id}/cancel",
        "POST /v1/restores/{id}/reject",
        "POST /v1/shutdown",
    ];
    assert_eq!(without_body, expected);
}

/// All places that a value refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str().filter(|_| name == "$ref") {
                    Some(to) => {
                        found.insert(to.to_owned());
                    }
                    None => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_one() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let found: BTreeSet<&str> =
        found.iter().map(|to| to.strip_prefix(ANSWERS).unwrap_or(to)).collect();
    let names: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(found, names);
    for (name, schema) in schemas {
        jsonschema::meta::validate(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(schema["description"].is_string(), "{name} is not described");
    }
    assert!(names.len() > 80, "{}", names.len());
}

/// Checks values against schemas of the document.
struct Checker(Value);

impl Checker {
    fn errors(&self, mut schema: Value, value: &Value) -> Vec<String> {
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.iter_errors(value).map(|error| error.to_string()).collect()
    }

    fn errors_of(&self, name: &str, value: &Value) -> Vec<String> {
        assert!(self.0["components"]["schemas"][name].is_object(), "there is no {name}");
        self.errors(json!({ "$ref": format!("{ANSWERS}{name}") }), value)
    }

    /// A value fits; without any of its members that are required it does not, nor do others' values.
    fn fits(&self, name: &str, value: &impl Serialize) {
        let value = serde_json::to_value(value).unwrap();
        assert_eq!(self.errors_of(name, &value), [""; 0], "{name}: {value:#}");
        assert!(!self.errors_of(name, &json!(7)).is_empty(), "{name} takes a number");
        let schema = &self.0["components"]["schemas"][name];
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for member in &required {
            let mut less = value.clone();
            less.as_object_mut().unwrap().remove(member.as_str().unwrap());
            assert!(!self.errors_of(name, &less).is_empty(), "{name} without {member}");
            let mut odd = value.clone();
            odd[member.as_str().unwrap()] = json!([[["odd"]]]);
            assert!(!self.errors_of(name, &odd).is_empty(), "{name} with an odd {member}");
        }
    }
}

#[test]
fn what_handlers_answer_is_what_the_document_says() {
    let checker = Checker(document());
    let row = metrics::tests::backup(BackupKind::Network, BackupStatus::Completed, 7);
    checker.fits("BackupRow", &row);
    let log = vec![LogLine { time: 1, text: "begun".to_owned() }];
    checker.fits("BackupDetail", &BackupDetail { row, vaults: Vec::new(), log });
    checker.fits("Problem", &Problem::from(ApiError::new("limit_reached", "three")));
    checker.fits("HealthReport", &HealthReport::default());
    checker.fits("PutReport", &PutReport::default());
    let by = "3 0102".to_owned();
    let scanning = RecoveryPhase::Scanning {
        blocks_done: 5,
        blocks_known: Some(9),
        contracts_found: 0,
        rate: None,
        seconds_left: None,
    };
    for state in [
        RenterState::Active,
        RenterState::Fenced { by },
        RenterState::Recovering { progress: scanning },
    ] {
        checker.fits("RenterStatus", &RenterStatus { state, ..RenterStatus::default() });
    }
    let allowance = Allowance::for_network(8, Amount::coins(1), &ChainParameters::default());
    checker.fits("Allowance", &allowance);
    let (mail, webhooks, off) = (None, Vec::new(), BTreeSet::from([crate::notify::Kind::Test]));
    checker.fits("NotifyAnswer", &NotifyAnswer { mail, webhooks, off, link_days: 7 });
}

#[test]
fn rows_that_are_read_back_are_what_the_document_says() {
    let checker = Checker(document());
    let user = json!({
        "id": "0102030405060708", "email": "a@b.example", "name": "a", "role": "operator",
        "disabled": false, "created": 1, "has_password": true, "tokens": 0,
    });
    checker.fits("UserView", &serde_json::from_value::<UserView>(user).unwrap());
    let policy = json!({
        "name": "nightly", "max_price": "0.5", "made": 1, "created_by": null, "next": 2,
        "last": null, "last_backup": null, "last_status": null, "last_error": null, "missed": 0,
        "missed_since": null, "kept": 0,
    });
    checker.fits("PolicyRow", &serde_json::from_value::<PolicyRow>(policy).unwrap());
    let file = json!({
        "path": "a", "version": 1, "stored": 4, "size": 2, "modified": 3, "executable": false,
        "hash": "00", "deleted": false,
    });
    let file: FileRow = serde_json::from_value(file).unwrap();
    checker.fits("FileRow", &file);
    checker.fits("ListRow", &ListRow::File(file));
    let drill = json!({
        "version": 1, "id": "1", "started": 1, "chain_time": 1, "took": 1, "trigger": "manual",
        "share": 50, "passed": true, "problem": null, "names_expected": 1, "names_found": 1,
        "names_changed": 0, "files": 1, "bytes": 1, "price": "1", "cost": "0.5",
        "phases": [{ "phase": "scanning", "took": 1 }], "position": 1, "blocks": 1,
        "contracts": 1, "hosts": 1, "may_be_missing": null, "missing": [], "different": [],
        "unreadable": [{ "file": "v/a", "reason": "gone" }],
    });
    checker.fits("DrillReport", &serde_json::from_value::<DrillReport>(drill).unwrap());
    let restore = json!({
        "version": 1, "id": "0102", "state": "queued", "phase": "fetching",
        "source": { "url": "https://a.example/b.zip" }, "name": null, "announced": null,
        "max_cost": "2.5", "created_by": "0102030405060708", "decided_by": null,
        "date_created": 1, "date_ended": null, "restored": null, "error": null, "log": [],
    });
    checker.fits("Restore", &serde_json::from_value::<Restore>(restore).unwrap());
}

#[test]
fn requests_are_described_as_they_are_read() {
    let checker = Checker(document());
    let takes = |name: &str, value: Value| checker.errors_of(name, &value).is_empty();
    assert!(takes("BackupRequest", json!({ "name": "a", "expires_in": 3, "passphrase": "x" })));
    assert!(!takes("BackupRequest", json!({ "nam": "a" })));
    assert!(!takes("BackupRequest", json!({ "kind": "tape" })));
    assert!(takes("PolicyRequest", json!({ "name": "a", "max_price": "2.5 SAM" })));
    assert!(!takes("PolicyRequest", json!({ "name": "a", "max_price": "much" })));
    assert!(takes("NewRestore", json!({ "source": { "backup": { "backup": "a" } } })));
    assert!(!takes("NewRestore", json!({ "source": { "tape": 1 } })));
    assert!(!takes("LoginRequest", json!({ "email": "a@b.example" })));
    let options = serde_json::to_value(RecoveryOptions::default()).unwrap();
    assert!(takes("RecoveryOptions", options) && takes("RecoveryOptions", json!({})));
}

#[test]
fn lines_of_a_stream_are_described() {
    let checker = Checker(document());
    let answer = &checker.0["paths"]["/v1/put"]["post"]["responses"]["200"]["content"];
    let schema = answer["application/x-ndjson"]["schema"].clone();
    let progress = ProgressEvent::Advanced {
        phase: Phase::Storing,
        item: None,
        done: 1,
        total: None,
        unit: Unit::Bytes,
        rate: None,
        seconds_left: None,
    };
    for line in [
        Message::Progress(serde_json::to_value(&progress).unwrap()),
        Message::Result(serde_json::to_value(PutReport::default()).unwrap()),
        Message::Error(ApiError::new("stopped", "the node stops")),
    ] {
        let line = serde_json::to_value(&line).unwrap();
        assert_eq!(checker.errors(schema.clone(), &line), [""; 0], "{line:#}");
        let mut odd = line;
        odd["message_type"] = json!("other");
        assert!(!checker.errors(schema.clone(), &odd).is_empty());
    }
}

/// The document that people and generators of clients read without a node. When this fails, run the test
/// with `SAMARA_WRITE_OPENAPI=1`, and look at what has changed.
#[test]
fn the_file_in_docs_is_this_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("SAMARA_WRITE_OPENAPI").is_some() {
        std::fs::write(&path, &*TEXT).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == *TEXT, "docs/openapi.json lags: run this test with SAMARA_WRITE_OPENAPI=1");
}
